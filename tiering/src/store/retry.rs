//! When a request may be sent again: full jitter between attempts, and a budget, so that retries never multiply the load of
//! a store that is already failing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::platform::random::SharedRandom;

/// Attempts of one request, the first included.
pub const ATTEMPTS_MAX: u32 = 3;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Tenths of a retry. A success earns one, a retry costs ten: at most one request in ten is a retry in the long run.
const BUDGET_MAX: u32 = 200;
const RETRY_COST: u32 = 10;

#[derive(Debug)]
pub(super) struct Retry {
    random: SharedRandom,
    budget: AtomicU32,
}

impl Retry {
    pub(super) fn new(random: SharedRandom) -> Self {
        Self { random, budget: AtomicU32::new(BUDGET_MAX) }
    }

    pub(super) fn succeeded(&self) {
        let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some((left + 1).min(BUDGET_MAX)));
    }

    /// How long to wait before the attempt behind `attempt` (from 1); `None` if there shall be none.
    pub(super) fn after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= ATTEMPTS_MAX {
            return None;
        }
        let spend = |left: u32| left.checked_sub(RETRY_COST);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).ok()?;
        let ceiling = (BACKOFF_FIRST * 2u32.pow(attempt - 1)).min(BACKOFF_MAX);
        let ceiling_us = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
        Some(Duration::from_micros(self.random.next_u64() % (ceiling_us + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::random::SeededRandom;

    #[test]
    fn attempts_and_the_budget_bound_retries() {
        let retry = Retry::new(SeededRandom::new(1));
        assert!(retry.after(1).unwrap() <= Duration::from_millis(100));
        assert!(retry.after(2).unwrap() <= Duration::from_millis(200));
        assert_eq!(retry.after(3), None);
        let granted = (0..100).filter(|_| retry.after(1).is_some()).count();
        assert_eq!(granted, 18, "twenty in all, two were spent above");
        for _ in 0..10 {
            retry.succeeded();
        }
        assert!(retry.after(1).is_some(), "ten successes earn one retry");
        assert!(retry.after(1).is_none());
    }
}
