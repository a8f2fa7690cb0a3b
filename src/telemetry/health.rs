//! Is the broker started, alive, ready, and if not, why. Set by whoever knows, read by HTTP and `terrace status`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Something that keeps the broker from serving, or should worry its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Metadata is being read.
    LoadingMetadata,
    /// Group coordinators are being loaded.
    LoadingCoordinators,
    /// The broker is stopping.
    Draining,
    /// A log directory failed.
    LogDirOffline,
    /// A log directory is nearly full: produce is refused.
    DiskFull,
    /// Another broker owns the bucket's prefix.
    TierFenced,
    /// A segment in the bucket is missing or damaged: its records cannot be read.
    TierDamaged,
    /// The store does not answer; produce and local reads go on.
    StoreDown,
}

impl Condition {
    /// With this the broker should get no clients.
    fn is_unready(self) -> bool {
        match self {
            Condition::LoadingMetadata
            | Condition::LoadingCoordinators
            | Condition::Draining
            | Condition::LogDirOffline
            | Condition::TierFenced => true,
            Condition::DiskFull | Condition::TierDamaged | Condition::StoreDown => false,
        }
    }

    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Condition::LoadingMetadata => "loading-metadata",
            Condition::LoadingCoordinators => "loading-coordinators",
            Condition::Draining => "draining",
            Condition::LogDirOffline => "log-dir-offline",
            Condition::DiskFull => "disk-full",
            Condition::TierFenced => "tier-fenced",
            Condition::TierDamaged => "tier-damaged",
            Condition::StoreDown => "store-down",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

type Watch = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The node's health.
#[derive(Default)]
pub struct Health {
    listening: AtomicBool,
    dead: AtomicBool,
    conditions: Mutex<BTreeMap<Condition, String>>,
    watches: Mutex<Vec<(Condition, Watch)>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("started", &self.is_started()).finish_non_exhaustive()
    }
}

impl Health {
    /// The Kafka listeners are open.
    pub fn set_listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// Only a new start helps.
    pub fn set_dead(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// A condition holds from now on, for this reason.
    pub fn raise(&self, condition: Condition, reason: impl Into<String>) {
        self.lock().insert(condition, reason.into());
    }

    /// A condition holds no more.
    pub fn clear(&self, condition: Condition) {
        self.lock().remove(&condition);
    }

    /// `why` is asked whenever somebody wants to know; it must be quick and wait for nothing.
    pub fn watch(&self, condition: Condition, why: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).push((condition, Box::new(why)));
    }

    /// The listeners are open.
    pub fn is_started(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// A new start would not help, as far as is known.
    pub fn is_live(&self) -> bool {
        !self.dead.load(Ordering::Acquire)
    }

    /// Clients may come.
    pub fn is_ready(&self) -> bool {
        self.is_started() && self.is_live() && !self.conditions().iter().any(|(condition, _)| condition.is_unready())
    }

    /// All conditions that hold, with their reasons.
    pub fn conditions(&self) -> Vec<(Condition, String)> {
        let mut holding = self.lock().clone();
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        holding.extend(watches.iter().filter_map(|(condition, why)| Some((*condition, why()?))));
        holding.into_iter().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Condition, String>> {
        // The map is whole after every call, whatever panicked.
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_listening_with_everything_loaded() {
        let health = Health::default();
        health.raise(Condition::LoadingCoordinators, "3 of 50");
        assert!(health.is_live() && !health.is_started() && !health.is_ready());
        health.set_listening();
        assert!(health.is_started() && !health.is_ready());
        health.clear(Condition::LoadingCoordinators);
        assert!(health.is_ready());
    }

    #[test]
    fn a_silent_store_worries_but_does_not_stop_clients() {
        let health = Health::default();
        health.set_listening();
        health.raise(Condition::StoreDown, "timeout");
        assert!(health.is_ready());
        health.watch(Condition::TierFenced, || Some("owner 7".to_owned()));
        health.watch(Condition::LogDirOffline, || None);
        assert!(!health.is_ready() && health.is_live());
        assert_eq!(health.conditions()[0], (Condition::TierFenced, "owner 7".to_owned()));
    }
}
