//! The node's memory for requests and answers, taken before the bytes are read.
//!
//! One [`Budget`] for all connections; each connection has a [`Share`] of it and gives back what it holds when dropped.
//! Nothing is taken for bytes that were only announced: a connection grows its share in steps as bytes arrive.
//!
//! While somebody waits:
//! - frames already begun come first, then connections that have nothing yet, each in the order of their coming;
//! - one connection holds at most a quarter of the budget, unless it alone waits or all who wait want more than that:
//!   then the first of them goes on, or nobody would;
//! - one that holds over 1 MiB and delivers under 64 KiB/s for 5 s is told to go. When all that hold so much have waited
//!   themselves for 5 s, nobody would ever deliver, and the one that came last goes.

mod share;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::bell::Bell;
pub use share::Share;

/// Only who holds more than this can be slow.
const SLOW_HOLDER_BYTES: usize = 1 << 20;
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// 64 KiB a second over [`SLOW_AFTER`].
const SLOW_DELIVERED_BYTES: u64 = 5 * (64 << 10);

/// This connection held memory that others waited for, and delivered too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holds request memory that others wait for")]
pub struct Evicted;

/// Request and answer memory of the node in bytes.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    /// Length of `State::waiting`, so that the hot path sees pressure without the lock.
    waiters: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// May pass the limit by what was charged without asking (answers).
    used: usize,
    next_number: u64,
    waiting: Vec<Waiter>,
    /// All shares, by number.
    shares: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Waiter {
    share: u64,
    bytes: usize,
    begun: bool,
    granted: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Holder {
    held: usize,
    delivered: Arc<AtomicU64>,
    /// When `delivered` was last compared, and what it was then. `None` outside of pressure.
    mark: Option<(Instant, u64)>,
    bell: Arc<Bell>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, waiters: AtomicUsize::new(0), state: Mutex::default() })
    }

    /// A share that holds nothing yet. `bell` rings when its connection must go.
    pub fn share(self: &Arc<Self>, bell: Arc<Bell>) -> Share {
        let mut state = self.lock();
        let number = state.next_number;
        state.next_number += 1;
        let delivered = Arc::new(AtomicU64::new(0));
        state.shares.insert(number, Holder { held: 0, delivered: delivered.clone(), mark: None, bell });
        Share::new(self.clone(), number, delivered)
    }

    /// Bytes taken at this moment.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    /// Does anybody wait? Who holds memory without need gives it back now.
    pub fn is_short(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    // No code that can panic runs under this lock but for our own broken invariants; the numbers stay right.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &State, held: usize, bytes: usize, alone: bool) -> bool {
        let within_quarter = held + bytes <= self.limit / 4;
        state.used + bytes <= self.limit && (within_quarter || alone)
    }

    /// Gives what is free to those who wait, begun frames first.
    fn grant(&self, state: &mut State) {
        while let Some(at) = self.next_granted(state) {
            let waiter = state.waiting.remove(at);
            // A waiter that went away in this moment takes nothing.
            if waiter.granted.send(()).is_ok() {
                self.take_now(state, waiter.share, waiter.bytes);
            }
        }
        if state.waiting.is_empty() {
            state.shares.values_mut().for_each(|holder| holder.mark = None);
        }
        self.waiters.store(state.waiting.len(), Ordering::Relaxed);
    }

    fn next_granted(&self, state: &State) -> Option<usize> {
        let held = |waiter: &Waiter| state.shares.get(&waiter.share).map_or(0, |holder| holder.held);
        let find = |begun: bool, alone: bool| {
            let fits = |waiter: &Waiter| self.fits(state, held(waiter), waiter.bytes, alone);
            state.waiting.iter().position(|waiter| waiter.begun == begun && fits(waiter))
        };
        find(true, false).or_else(|| find(false, false)).or_else(|| {
            let all_beyond = state.waiting.iter().all(|waiter| held(waiter) + waiter.bytes > self.limit / 4);
            if all_beyond { find(true, true).or_else(|| find(false, true)) } else { None }
        })
    }

    fn take_now(&self, state: &mut State, share: u64, bytes: usize) {
        state.used += bytes;
        if let Some(holder) = state.shares.get_mut(&share) {
            holder.held += bytes;
        }
    }

    /// Looks for those who hold much and deliver little; called by those who wait.
    fn evict_slow(&self, now: Instant, waited: bool) {
        let mut state = self.lock();
        let State { waiting, shares, .. } = &mut *state;
        let is_waiting = |number: &u64| waiting.iter().any(|waiter| waiter.share == *number);
        let mut somebody_delivers = false;
        for (number, holder) in shares.iter_mut().filter(|(_, holder)| holder.held > SLOW_HOLDER_BYTES) {
            if is_waiting(number) {
                continue;
            }
            let delivered = holder.delivered.load(Ordering::Relaxed);
            let (since, before) = *holder.mark.get_or_insert((now, delivered));
            let slow = delivered - before < SLOW_DELIVERED_BYTES;
            if now - since < SLOW_AFTER {
                somebody_delivers = true;
            } else if slow {
                holder.bell.evict();
            } else {
                holder.mark = Some((now, delivered));
                somebody_delivers = true;
            }
        }
        if waited
            && !somebody_delivers
            && let Some((_, last)) =
                shares.iter().rev().find(|(number, holder)| holder.held > SLOW_HOLDER_BYTES && is_waiting(number))
        {
            last.bell.evict();
        }
    }
}

#[cfg(test)]
mod tests;
