//! Does the store answer? After some failures in a row nothing is sent but one probe now and then (a circuit breaker), so
//! that an outage costs its users an error at once and not a deadline each.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::StoreError;
use crate::platform::clock::SharedClock;

/// Failures in a row after which the store counts as down.
pub const FAILURES_UNTIL_DOWN: u32 = 5;
/// While it is down, one request in this time is let through to see whether it is back.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreHealth {
    /// It answers.
    Up {
        /// Since when, wall time in milliseconds.
        since_ms: i64,
    },
    /// It does not.
    Down {
        /// Since when, wall time in milliseconds.
        since_ms: i64,
        /// What it said last.
        reason: String,
    },
}

#[derive(Debug)]
pub(super) struct Health {
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seen: StoreHealth,
    failures: u32,
    next_probe: Instant,
}

impl Health {
    pub(super) fn new(clock: SharedClock) -> Self {
        let seen = StoreHealth::Up { since_ms: clock.now_ms() };
        Self { clock, state: Mutex::new(State { seen, failures: 0, next_probe: Instant::now() }) }
    }

    pub(super) fn get(&self) -> StoreHealth {
        self.lock().seen.clone()
    }

    /// May a request be sent?
    pub(super) fn admit(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        let StoreHealth::Down { reason, .. } = &state.seen else { return Ok(()) };
        if Instant::now() < state.next_probe {
            return Err(StoreError::Down(reason.clone()));
        }
        state.next_probe = Instant::now() + PROBE_INTERVAL;
        Ok(())
    }

    /// Takes note of how a request ended.
    pub(super) fn record<T>(&self, outcome: &Result<T, StoreError>) {
        match outcome {
            // "No such object" and "I cannot do this" are answers.
            Ok(_) | Err(StoreError::NotFound(_) | StoreError::Unsupported(_)) => self.answered(),
            Err(StoreError::Down(_)) => {}
            Err(error @ (StoreError::Denied(_) | StoreError::Unavailable(_) | StoreError::Timeout(_))) => {
                self.failed(error);
            }
        }
    }

    fn answered(&self) {
        let mut state = self.lock();
        state.failures = 0;
        if let StoreHealth::Down { since_ms, .. } = state.seen {
            let now_ms = self.clock.now_ms();
            tracing::info!(after_ms = now_ms.saturating_sub(since_ms), "object store answers again");
            metrics::gauge!("terrace_remote_store_up").set(1.0);
            state.seen = StoreHealth::Up { since_ms: now_ms };
        }
    }

    fn failed(&self, error: &StoreError) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        let enough = state.failures >= FAILURES_UNTIL_DOWN;
        match &mut state.seen {
            StoreHealth::Down { reason, .. } => *reason = error.to_string(),
            StoreHealth::Up { .. } if enough => {
                tracing::warn!(%error, "object store is down; copies and cold reads wait, everything else goes on");
                metrics::gauge!("terrace_remote_store_up").set(0.0);
                state.seen = StoreHealth::Down { since_ms: self.clock.now_ms(), reason: error.to_string() };
                state.next_probe = Instant::now() + PROBE_INTERVAL;
            }
            StoreHealth::Up { .. } => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Every field is written in one step; a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock::ManualClock;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_again_and_again_is_left_alone_but_for_probes() {
        let clock = ManualClock::at(1000);
        let health = Health::new(clock.clone());
        let failure: Result<(), _> = Err(StoreError::Unavailable("refused".to_owned()));
        for _ in 0..FAILURES_UNTIL_DOWN {
            assert!(health.admit().is_ok());
            clock.advance(1);
            health.record(&failure);
        }
        assert!(matches!(health.get(), StoreHealth::Down { since_ms: 1005, .. }));
        assert!(matches!(health.admit(), Err(StoreError::Down(_))));
        tokio::time::advance(PROBE_INTERVAL).await;
        assert!(health.admit().is_ok(), "one probe");
        assert!(health.admit().is_err(), "and only one");
        clock.advance(10);
        health.record(&Ok(()));
        assert_eq!(health.get(), StoreHealth::Up { since_ms: 1015 });
        assert!(health.admit().is_ok());
    }
}
