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
//!   themselves for 5 s, nobody would ever deliver, and the one that came last goes. When nobody holds so much, those go
//!   that hold little and were silent for 5 s, as many as the first in the queue needs;
//! - small holders leave a quarter to larger frames, so that frames which all have begun don't wait for each other.

mod share;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::bell::Bell;
pub use share::Share;

/// Who holds no more than this takes nothing of the last quarter, which is kept for larger frames to be finished in.
const SMALL_HOLDER_BYTES: usize = 64 << 10;
/// Only who holds more than this can be slow.
const SLOW_HOLDER_BYTES: usize = 1 << 20;
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// 64 KiB a second over [`SLOW_AFTER`].
const SLOW_DELIVERED_BYTES: u64 = 5 * (64 << 10);
/// All who wait look for slow holders; one look in this time is enough for all of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    /// What of it is with those who hold no more than [`SMALL_HOLDER_BYTES`].
    small: usize,
    /// When somebody last looked for slow holders. `None` outside of pressure.
    looked: Option<Instant>,
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

impl State {
    /// Adds to what a share holds, or takes from it.
    fn change(&mut self, share: u64, change: impl FnOnce(usize) -> usize) {
        let Some(holder) = self.shares.get_mut(&share) else { return };
        let small = |held: usize| if held <= SMALL_HOLDER_BYTES { held } else { 0 };
        let before = holder.held;
        holder.held = change(before);
        self.used = self.used - before + holder.held;
        self.small = self.small - small(before) + small(holder.held);
    }
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
        // Where nobody else holds anything a request of any size goes through, as in Kafka.
        let only_one = state.used == held;
        let free = state.used + bytes <= self.limit && !self.is_beyond_small(state, held, bytes);
        let within_quarter = held + bytes <= self.limit / 4;
        if alone { free || only_one } else { free && within_quarter }
    }

    /// Would it take of the quarter that is kept for larger frames? Else many frames, all begun, could wait for each other.
    fn is_beyond_small(&self, state: &State, held: usize, bytes: usize) -> bool {
        held + bytes <= SMALL_HOLDER_BYTES && state.small + bytes > self.limit - self.limit / 4
    }

    /// Gives what is free to those who wait, begun frames first.
    fn grant(&self, state: &mut State) {
        while let Some(at) = self.next_granted(state) {
            let waiter = state.waiting.remove(at);
            // A waiter that went away in this moment takes nothing.
            if waiter.granted.send(()).is_ok() {
                state.change(waiter.share, |held| held + waiter.bytes);
            }
        }
        if state.waiting.is_empty() && state.looked.take().is_some() {
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
            let is_beyond = |waiter: &Waiter| {
                let held = held(waiter);
                held + waiter.bytes > self.limit / 4 || self.is_beyond_small(state, held, waiter.bytes)
            };
            if state.waiting.iter().all(is_beyond) { find(true, true).or_else(|| find(false, true)) } else { None }
        })
    }

    /// Looks for those who hold memory and deliver little; called by those who wait.
    fn evict_slow(&self, now: Instant, waited: bool) {
        let mut state = self.lock();
        if state.looked.is_some_and(|looked| now - looked < LOOK_EVERY) {
            return;
        }
        state.looked = Some(now);
        let State { waiting, shares, .. } = &mut *state;
        let waits: HashSet<u64> = waiting.iter().map(|waiter| waiter.share).collect();
        let (mut somebody_goes, mut somebody_delivers) = (false, false);
        let mut silent = Vec::new();
        for (number, holder) in shares.iter_mut().filter(|(number, holder)| holder.held > 0 && !waits.contains(number))
        {
            let delivered = holder.delivered.load(Ordering::Relaxed);
            let (since, before) = *holder.mark.get_or_insert((now, delivered));
            let is_large = holder.held > SLOW_HOLDER_BYTES;
            if now - since < SLOW_AFTER {
                somebody_delivers |= is_large;
            } else if is_large && delivered - before < SLOW_DELIVERED_BYTES {
                holder.bell.evict();
                somebody_goes = true;
            } else if !is_large && delivered == before {
                silent.push(*number);
            } else {
                holder.mark = Some((now, delivered));
                somebody_delivers |= is_large;
            }
        }
        if !waited || somebody_goes || somebody_delivers {
            return;
        }
        let is_large_and_waits =
            |(number, holder): &(&u64, &Holder)| holder.held > SLOW_HOLDER_BYTES && waits.contains(number);
        if let Some((_, last)) = shares.iter().rev().find(is_large_and_waits) {
            last.bell.evict();
            return;
        }
        // Nobody holds much, so many hold little: of those who sent nothing as many go as the first in the queue needs.
        let mut wanted = waiting.first().map_or(0, |waiter| waiter.bytes);
        for holder in silent.iter().filter_map(|number| shares.get(number)) {
            if wanted == 0 {
                break;
            }
            holder.bell.evict();
            wanted = wanted.saturating_sub(holder.held);
        }
    }
}

#[cfg(test)]
mod tests;
