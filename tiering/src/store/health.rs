//! Does the store answer? After some failures in a row nothing is sent but one probe now and then (a circuit breaker), so
//! that an outage costs its users an error at once and not a deadline each.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::path::Path;
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
    /// Objects that were refused since the last answer. One may be the only bad one, however often it is asked for.
    refused: Vec<Path>,
    next_probe: Instant,
}

impl Breaker {
    fn closed(now_ms: i64) -> Mutex<Self> {
        let seen = StoreHealth::Up { since_ms: now_ms };
        Mutex::new(Self { seen, failures: 0, refused: Vec::new(), next_probe: Instant::now() })
    }

    /// Fine when it is closed or due for a probe.
    fn admits(&self, now: Instant) -> Result<(), StoreError> {
        match &self.seen {
            StoreHealth::Down { reason, .. } if now < self.next_probe => Err(StoreError::Down(reason.clone())),
            StoreHealth::Down { .. } | StoreHealth::Up { .. } => Ok(()),
        }
    }

    /// A request is sent; while it is open, that is the probe.
    fn sent(&mut self, now: Instant) {
        if matches!(self.seen, StoreHealth::Down { .. }) {
            self.next_probe = now + PROBE_INTERVAL;
        }
    }

    /// True when it was open.
    fn answered(&mut self, clock: &SharedClock) -> bool {
        self.failures = 0;
        self.refused.clear();
        let StoreHealth::Down { since_ms, .. } = self.seen else { return false };
        let now_ms = clock.now_ms();
        tracing::info!(after_ms = now_ms.saturating_sub(since_ms), "object store answers again");
        self.seen = StoreHealth::Up { since_ms: now_ms };
        true
    }

    /// As [`Breaker::failed`] for an answer that may be about one object alone: each counts once.
    fn refused(&mut self, error: &StoreError, key: Option<&Path>, clock: &SharedClock) -> bool {
        if let Some(key) = key {
            if self.refused.contains(key) {
                return false;
            }
            // As many as it takes to open.
            if self.refused.len() < FAILURES_UNTIL_DOWN as usize {
                self.refused.push(key.clone());
            }
        }
        self.failed(error, clock)
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
        let now = Instant::now();
        let mut all = lock(&self.all);
        let mut writes = op.writes().then(|| lock(&self.writes));
        // Both are asked before either counts this as its probe: one that is not sent tells nothing.
        all.admits(now)?;
        if let Some(writes) = &mut writes {
            writes.admits(now)?;
            writes.sent(now);
        }
        all.sent(now);
        Ok(())
    }

    /// Takes note of how a request ended; `key` names the object if it was about one alone.
    pub(super) fn record<T>(&self, op: Op, key: Option<&Path>, outcome: &Result<T, StoreError>) {
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
            Err(error @ (StoreError::Denied(_) | StoreError::Refused(_))) if op.writes() => {
                if lock(&self.writes).refused(error, key, &self.clock) {
                    tracing::warn!(%error, "object store refuses writes; copies wait, everything else goes on");
                    metrics::gauge!("terrace_remote_store_up").set(0.0);
                }
            }
            Err(error @ (StoreError::Denied(_) | StoreError::Refused(_))) => {
                let opened = lock(&self.all).refused(error, key, &self.clock);
                Self::tell_down(opened, error);
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Timeout(_))) => {
                let opened = lock(&self.all).failed(error, &self.clock);
                Self::tell_down(opened, error);
            }
        }
    }

    fn tell_down(opened: bool, error: &StoreError) {
        if opened {
            tracing::warn!(%error, "object store is down; copies and cold reads wait, everything else goes on");
            metrics::gauge!("terrace_remote_store_up").set(0.0);
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
            health.record(Op::Get, None, &failure);
        }
        assert!(matches!(health.get(), StoreHealth::Down { since_ms: 1005, .. }));
        assert!(matches!(health.admit(Op::Get), Err(StoreError::Down(_))));
        tokio::time::advance(PROBE_INTERVAL).await;
        assert!(health.admit(Op::Get).is_ok(), "one probe");
        assert!(health.admit(Op::Get).is_err(), "and only one");
        clock.advance(10);
        health.record(Op::Get, None, &Ok(()));
        assert_eq!(health.get(), StoreHealth::Up { since_ms: 1015 });
        assert!(health.admit(Op::Get).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn refused_writes_do_not_keep_anybody_from_reading() {
        let health = Health::new(ManualClock::at(1000));
        let refused: Result<(), _> = Err(StoreError::Denied("read-only".to_owned()));
        for _ in 0..FAILURES_UNTIL_DOWN {
            health.record(Op::Put, None, &refused);
            health.record(Op::Get, None, &Ok(()));
        }
        assert!(health.is_read_only() && matches!(health.get(), StoreHealth::Down { .. }));
        assert!(health.admit(Op::Get).is_ok() && health.admit(Op::List).is_ok());
        assert!(health.admit(Op::Put).is_err() && health.admit(Op::Delete).is_err());
        tokio::time::advance(PROBE_INTERVAL).await;
        assert!(health.admit(Op::PutPart).is_ok(), "one probe");
        health.record(Op::PutPart, None, &Ok(()));
        assert!(!health.is_read_only() && health.admit(Op::Put).is_ok());
        for _ in 0..FAILURES_UNTIL_DOWN {
            health.record(Op::Get, None, &refused);
        }
        assert!(health.admit(Op::Get).is_err(), "who may not read is down");
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_that_is_refused_does_not_count_as_an_outage() {
        let health = Health::new(ManualClock::at(1000));
        let [bad, other] = ["bad", "other"].map(Path::from);
        let refused: [Result<(), _>; 2] =
            [Err(StoreError::Denied("no".to_owned())), Err(StoreError::Refused("archived".to_owned()))];
        for _ in 0..3 * FAILURES_UNTIL_DOWN {
            for (op, refused) in [Op::Get, Op::Head, Op::Put, Op::Delete].into_iter().zip(refused.iter().cycle()) {
                health.record(op, Some(&bad), refused);
                health.record(op, Some(&other), refused);
                assert!(health.admit(op).is_ok(), "{op:?}");
            }
        }
        assert!(matches!(health.get(), StoreHealth::Up { .. }));
        health.record(Op::Get, Some(&other), &Ok(()));
        for n in 0..FAILURES_UNTIL_DOWN {
            assert!(health.admit(Op::Get).is_ok());
            health.record(Op::Get, Some(&Path::from(format!("{n}"))), &refused[0]);
        }
        assert!(health.admit(Op::Get).is_err(), "all of them are refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_sent_is_no_probe() {
        let health = Health::new(ManualClock::at(1000));
        let failure: Result<(), _> = Err(StoreError::Unavailable("gone".to_owned()));
        let refused: Result<(), _> = Err(StoreError::Denied("read-only".to_owned()));
        for _ in 0..FAILURES_UNTIL_DOWN {
            health.record(Op::Get, None, &failure);
        }
        tokio::time::advance(PROBE_INTERVAL / 2).await;
        for _ in 0..FAILURES_UNTIL_DOWN {
            health.record(Op::Put, None, &refused);
        }
        // Reads are due for their probe, writes are not.
        tokio::time::advance(PROBE_INTERVAL / 2).await;
        assert!(health.admit(Op::Put).is_err());
        assert!(health.admit(Op::Get).is_ok(), "the probe was not used up");
    }
}
