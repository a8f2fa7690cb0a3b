//! Does the store answer? After some failures in a row nothing is sent but one probe now and then (a circuit breaker), so
//! that an outage costs its users an error at once and not a deadline each.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::StoreError;
use super::meter::Op;
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

/// Reads and writes fail apart where a bucket may only be read: who reads on must not wait for who may not write.
#[derive(Debug)]
pub(super) struct Health {
    clock: SharedClock,
    all: Mutex<Breaker>,
    /// Opened by refusals of writes alone.
    writes: Mutex<Breaker>,
}

#[derive(Debug)]
struct Breaker {
    seen: StoreHealth,
    failures: u32,
    next_probe: Instant,
}

impl Breaker {
    fn closed(now_ms: i64) -> Mutex<Self> {
        let seen = StoreHealth::Up { since_ms: now_ms };
        Mutex::new(Self { seen, failures: 0, next_probe: Instant::now() })
    }

    fn admit(&mut self) -> Result<(), StoreError> {
        let StoreHealth::Down { reason, .. } = &self.seen else { return Ok(()) };
        if Instant::now() < self.next_probe {
            return Err(StoreError::Down(reason.clone()));
        }
        self.next_probe = Instant::now() + PROBE_INTERVAL;
        Ok(())
    }

    /// True when it was open.
    fn answered(&mut self, clock: &SharedClock) -> bool {
        self.failures = 0;
        let StoreHealth::Down { since_ms, .. } = self.seen else { return false };
        let now_ms = clock.now_ms();
        tracing::info!(after_ms = now_ms.saturating_sub(since_ms), "object store answers again");
        self.seen = StoreHealth::Up { since_ms: now_ms };
        true
    }

    /// True when it opens by this.
    fn failed(&mut self, error: &StoreError, clock: &SharedClock) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.seen {
            StoreHealth::Down { reason, .. } => {
                *reason = error.to_string();
                false
            }
            StoreHealth::Up { .. } if self.failures >= FAILURES_UNTIL_DOWN => {
                self.seen = StoreHealth::Down { since_ms: clock.now_ms(), reason: error.to_string() };
                self.next_probe = Instant::now() + PROBE_INTERVAL;
                true
            }
            StoreHealth::Up { .. } => false,
        }
    }
}

impl Health {
    pub(super) fn new(clock: SharedClock) -> Self {
        let now_ms = clock.now_ms();
        Self { clock, all: Breaker::closed(now_ms), writes: Breaker::closed(now_ms) }
    }

    pub(super) fn get(&self) -> StoreHealth {
        let breaker = if self.is_read_only() { &self.writes } else { &self.all };
        lock(breaker).seen.clone()
    }

    /// Are reads answered, and writes refused?
    pub(super) fn is_read_only(&self) -> bool {
        let down = |breaker: &Mutex<Breaker>| matches!(lock(breaker).seen, StoreHealth::Down { .. });
        !down(&self.all) && down(&self.writes)
    }

    /// May such a request be sent?
    pub(super) fn admit(&self, op: Op) -> Result<(), StoreError> {
        lock(&self.all).admit()?;
        if op.writes() { lock(&self.writes).admit() } else { Ok(()) }
    }

    /// Takes note of how a request ended.
    pub(super) fn record<T>(&self, op: Op, outcome: &Result<T, StoreError>) {
        match outcome {
            // "No such object" and "I cannot do this" are answers.
            Ok(_) | Err(StoreError::NotFound(_) | StoreError::Unsupported(_) | StoreError::Short(_)) => {
                let mut again = lock(&self.all).answered(&self.clock);
                if op.writes() {
                    again |= lock(&self.writes).answered(&self.clock);
                }
                if again && matches!(self.get(), StoreHealth::Up { .. }) {
                    metrics::gauge!("terrace_remote_store_up").set(1.0);
                }
            }
            Err(StoreError::Down(_)) => {}
            Err(error @ StoreError::Denied(_)) if op.writes() => {
                if lock(&self.writes).failed(error, &self.clock) {
                    tracing::warn!(%error, "object store refuses writes; copies wait, everything else goes on");
                    metrics::gauge!("terrace_remote_store_up").set(0.0);
                }
            }
            Err(error @ (StoreError::Denied(_) | StoreError::Unavailable(_) | StoreError::Timeout(_))) => {
                if lock(&self.all).failed(error, &self.clock) {
                    tracing::warn!(%error, "object store is down; copies and cold reads wait, everything else goes on");
                    metrics::gauge!("terrace_remote_store_up").set(0.0);
                }
            }
        }
    }
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    // Every field is written in one step; a panic leaves nothing half done.
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
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
            assert!(health.admit(Op::Get).is_ok());
            clock.advance(1);
            health.record(Op::Get, &failure);
        }
        assert!(matches!(health.get(), StoreHealth::Down { since_ms: 1005, .. }));
        assert!(matches!(health.admit(Op::Get), Err(StoreError::Down(_))));
        tokio::time::advance(PROBE_INTERVAL).await;
        assert!(health.admit(Op::Get).is_ok(), "one probe");
        assert!(health.admit(Op::Get).is_err(), "and only one");
        clock.advance(10);
        health.record(Op::Get, &Ok(()));
        assert_eq!(health.get(), StoreHealth::Up { since_ms: 1015 });
        assert!(health.admit(Op::Get).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn refused_writes_do_not_keep_anybody_from_reading() {
        let health = Health::new(ManualClock::at(1000));
        let refused: Result<(), _> = Err(StoreError::Denied("read-only".to_owned()));
        for _ in 0..FAILURES_UNTIL_DOWN {
            health.record(Op::Put, &refused);
            health.record(Op::Get, &Ok(()));
        }
        assert!(health.is_read_only() && matches!(health.get(), StoreHealth::Down { .. }));
        assert!(health.admit(Op::Get).is_ok() && health.admit(Op::List).is_ok());
        assert!(health.admit(Op::Put).is_err() && health.admit(Op::Delete).is_err());
        tokio::time::advance(PROBE_INTERVAL).await;
        assert!(health.admit(Op::PutPart).is_ok(), "one probe");
        health.record(Op::PutPart, &Ok(()));
        assert!(!health.is_read_only() && health.admit(Op::Put).is_ok());
        for _ in 0..FAILURES_UNTIL_DOWN {
            health.record(Op::Get, &refused);
        }
        assert!(health.admit(Op::Get).is_err(), "who may not read is down");
    }
}
