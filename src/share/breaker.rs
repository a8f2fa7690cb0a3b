//! Keeps the records of a topic out of a share group's dead letters when it is not the records that are bad
//! (`errors.deadletterqueue.breaker.ratio`).
//!
//! ```text
//!             more than the ratio of what was done with in the last 30 s, and ten records at least
//!   closed ────────────────────────────────────────────────────────────────────────────────────────> open
//!      ^                                                                                                │
//!      └───────────────────────── three records accepted, and none failed in between ──────────────────┘
//! ```
//! Open, the group is given one record of the topic in a second, another each time, and what fails is given back instead of
//! becoming a dead letter. Kept in memory only: a start begins closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::in_flight::DeadLetters;
use crate::telemetry::metrics::SHARE_BREAKER_OPEN;

/// With fewer records done with nothing is decided.
const LEAST_RECORDS: u64 = 10;
/// Records accepted one after another that close it.
const ACCEPTED_TO_CLOSE: u64 = 3;
/// From one record that is tried to the next.
const PROBE_MS: u64 = 1000;
const BUCKET_MS: u64 = 3000;
const BUCKETS: u64 = 10;

/// May a member be given records?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// As many as it asks for.
    Free,
    /// One, to see how it does.
    Probe,
    /// None.
    Blocked,
}

/// Of one topic as one group reads it.
#[derive(Debug)]
pub struct Breaker {
    group: Arc<str>,
    topic: Arc<str>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    window: Window,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    next_probe_ms: u64,
    accepted: u64,
}

/// What became of records lately.
#[derive(Debug, Default)]
struct Window {
    /// Number of the newest bucket since the clock began.
    newest: u64,
    /// Accepted, and dead letters.
    buckets: [(u64, u64); BUCKETS as usize],
}

impl Window {
    fn bucket(&mut self, now_ms: u64) -> &mut (u64, u64) {
        let now = now_ms / BUCKET_MS;
        if now > self.newest {
            for over in (self.newest + 1..=now).take(BUCKETS as usize) {
                self.buckets[(over % BUCKETS) as usize] = (0, 0);
            }
            self.newest = now;
        }
        &mut self.buckets[(self.newest % BUCKETS) as usize]
    }

    fn sum(&self) -> (u64, u64) {
        self.buckets.iter().fold((0, 0), |sum, bucket| (sum.0 + bucket.0, sum.1 + bucket.1))
    }
}

impl Breaker {
    /// Closed.
    pub fn new(group: Arc<str>, topic: Arc<str>) -> Self {
        Self { group, topic, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a member that asks for records.
    pub fn passage(&self, ratio: f64, now_ms: u64) -> Passage {
        let mut inner = self.inner();
        if ratio <= 0.0 && inner.open.is_some() {
            self.close(&mut inner);
        }
        match &mut inner.open {
            None => Passage::Free,
            Some(open) if open.next_probe_ms <= now_ms => {
                open.next_probe_ms = now_ms + PROBE_MS;
                Passage::Probe
            }
            Some(_) => Passage::Blocked,
        }
    }

    /// When a member may be given a record that may not now.
    pub fn next_probe(&self, now_ms: u64) -> Option<u64> {
        self.inner().open.as_ref().map(|open| open.next_probe_ms).filter(|at| *at > now_ms)
    }

    /// As it is at one moment.
    pub fn at(&self, ratio: f64, now_ms: u64) -> At<'_> {
        At { breaker: self, ratio, now_ms }
    }

    fn open(&self, inner: &mut Inner, now_ms: u64, (accepted, dead): (u64, u64)) {
        inner.open = Some(Open { next_probe_ms: now_ms + PROBE_MS, accepted: 0 });
        tracing::warn!(
            group = %self.group, topic = %self.topic, accepted, dead_letters = dead,
            "too many records of a share group fail: it is given no more but for one in a second"
        );
        self.tell(1.0);
    }

    fn close(&self, inner: &mut Inner) {
        *inner = Inner::default();
        tracing::info!(group = %self.group, topic = %self.topic, "a share group is given records again");
        self.tell(0.0);
    }

    fn tell(&self, open: f64) {
        let labels = [("group", self.group.to_string()), ("topic", self.topic.to_string())];
        metrics::gauge!(SHARE_BREAKER_OPEN.name, &labels).set(open);
    }
}

/// See [`Breaker::at`].
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    breaker: &'a Breaker,
    ratio: f64,
    now_ms: u64,
}

impl DeadLetters for At<'_> {
    fn admit(&self, records: u64) -> u64 {
        if self.ratio <= 0.0 {
            return records;
        }
        let mut inner = self.breaker.inner();
        for admitted in 0..records {
            if let Some(open) = &mut inner.open {
                open.accepted = 0;
                return admitted;
            }
            inner.window.bucket(self.now_ms).1 += 1;
            let (accepted, dead) = inner.window.sum();
            // Exact: nobody counts to 2^53 in half a minute.
            if accepted + dead >= LEAST_RECORDS && dead as f64 > self.ratio * (accepted + dead) as f64 {
                self.breaker.open(&mut inner, self.now_ms, (accepted, dead - 1));
                return admitted;
            }
        }
        records
    }

    fn accepted(&self, records: u64) {
        if self.ratio <= 0.0 {
            return;
        }
        let mut inner = self.breaker.inner();
        inner.window.bucket(self.now_ms).0 += records;
        if let Some(open) = &mut inner.open {
            open.accepted += records;
            if open.accepted >= ACCEPTED_TO_CLOSE {
                self.breaker.close(&mut inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new("g".into(), "t".into())
    }

    #[test]
    fn it_opens_above_the_ratio_and_lets_no_more_through() {
        let breaker = breaker();
        assert_eq!(breaker.at(0.0, 0).admit(1000), 1000);
        let at = breaker.at(0.5, 0);
        at.accepted(5);
        assert_eq!((at.admit(5), breaker.passage(0.5, 0)), (5, Passage::Free));
        assert_eq!((at.admit(100), breaker.passage(0.5, 0)), (0, Passage::Blocked));
        assert_eq!((breaker.next_probe(0), breaker.next_probe(1000)), (Some(1000), None));
    }

    #[test]
    fn of_what_is_poisonous_altogether_few_get_through() {
        let breaker = breaker();
        assert_eq!(breaker.at(0.5, 0).admit(500), 9);
        for second in 1..60 {
            let at = breaker.at(0.5, second * 1000);
            assert_eq!((breaker.passage(0.5, second * 1000), at.admit(1)), (Passage::Probe, 0));
            assert_eq!(breaker.passage(0.5, second * 1000), Passage::Blocked);
        }
    }

    #[test]
    fn three_accepted_in_a_row_close_it() {
        let breaker = breaker();
        breaker.at(0.5, 0).admit(10);
        let at = breaker.at(0.5, 1000);
        at.accepted(2);
        assert_eq!(at.admit(1), 0);
        at.accepted(2);
        assert_eq!(breaker.passage(0.5, 500), Passage::Blocked);
        at.accepted(1);
        assert_eq!(breaker.passage(0.5, 500), Passage::Free);
        assert_eq!(at.admit(5), 5, "what was before is forgotten");
    }

    #[test]
    fn what_is_old_does_not_count() {
        let breaker = breaker();
        assert_eq!(breaker.at(0.5, 0).admit(9), 9);
        assert_eq!(breaker.at(0.5, BUCKET_MS * BUCKETS).admit(9), 9);
        assert_eq!(breaker.at(0.5, BUCKET_MS * BUCKETS + 1).admit(1), 0);
    }

    #[test]
    fn switching_it_off_closes_it() {
        let breaker = breaker();
        breaker.at(0.1, 0).admit(100);
        assert_eq!(breaker.passage(0.0, 1), Passage::Free);
        assert_eq!(breaker.at(0.0, 1).admit(7), 7);
    }
}
