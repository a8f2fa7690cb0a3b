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

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Only who holds more than this can be slow.
const SLOW_HOLDER_BYTES: usize = 1 << 20;
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// 64 KiB a second over [`SLOW_AFTER`].
const SLOW_DELIVERED_BYTES: u64 = 5 * (64 << 10);

/// Tells a connection something while it waits for its peer.
#[derive(Debug, Default)]
pub struct Bell {
    stopping: AtomicBool,
    evicted: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    /// Finish what is in hand, then close.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// The task that is to be woken.
    pub fn listen(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Is the broker stopping?
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Must this connection go, because it holds memory that others wait for?
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }
}

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
        Share { budget: self.clone(), number, held: 0, delivered }
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

/// What one connection holds of the budget.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    number: u64,
    held: usize,
    delivered: Arc<AtomicU64>,
}

impl Share {
    /// The budget it is part of.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Bytes it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Counts bytes that the peer sent.
    pub fn delivered(&self, bytes: usize) {
        self.delivered.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes `bytes`, waiting for them if need be. `begun`: part of a frame is here already.
    pub async fn take(&mut self, bytes: usize, begun: bool, bell: &Bell) -> Result<(), Evicted> {
        let granted = {
            let mut state = self.budget.lock();
            let alone = state.waiting.is_empty();
            if alone && self.budget.fits(&state, self.held, bytes, alone) {
                self.budget.take_now(&mut state, self.number, bytes);
                self.held += bytes;
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(Waiter { share: self.number, bytes, begun, granted: sender });
            self.budget.grant(&mut state);
            receiver
        };
        self.wait(granted, bell).await?;
        self.held += bytes;
        Ok(())
    }

    async fn wait(&self, mut granted: oneshot::Receiver<()>, bell: &Bell) -> Result<(), Evicted> {
        // Leaves the queue on every way out, also when the connection's task is dropped here.
        let _leave = Leave { budget: &self.budget, share: self.number };
        let mut look = tokio::time::interval_at(Instant::now() + SLOW_AFTER, SLOW_AFTER);
        self.budget.evict_slow(Instant::now(), false);
        loop {
            let evicted = std::future::poll_fn(|context| {
                bell.listen(context.waker());
                if bell.is_evicted() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            });
            tokio::select! {
                biased;
                answer = &mut granted => return answer.map_err(|_| Evicted),
                () = evicted => return Err(Evicted),
                _ = look.tick() => self.budget.evict_slow(Instant::now(), true),
            }
        }
    }

    /// Counts `bytes` of an answer in memory. Never waits: an answer that exists must be written.
    pub fn charge(&mut self, bytes: usize) {
        let mut state = self.budget.lock();
        self.budget.take_now(&mut state, self.number, bytes);
        self.held += bytes;
    }

    /// Gives `bytes` back.
    pub fn give_back(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        assert!(bytes <= self.held, "a connection gives back only what it holds");
        self.held -= bytes;
        let mut state = self.budget.lock();
        state.used -= bytes;
        if let Some(holder) = state.shares.get_mut(&self.number) {
            holder.held -= bytes;
        }
        self.budget.grant(&mut state);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        // What a grant gave in the moment the waiter was dropped is counted here and not in `held`.
        if let Some(holder) = state.shares.remove(&self.number) {
            state.used -= holder.held;
        }
        self.budget.grant(&mut state);
    }
}

struct Leave<'a> {
    budget: &'a Budget,
    share: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.waiting.retain(|waiter| waiter.share != self.share);
        self.budget.grant(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn share(budget: &Arc<Budget>) -> (Share, Arc<Bell>) {
        let bell = Arc::new(Bell::default());
        (budget.share(bell.clone()), bell)
    }

    #[tokio::test]
    async fn what_is_held_comes_back_with_the_connection() {
        let budget = Budget::new(8 * MIB);
        let (mut one, bell) = share(&budget);
        one.take(MIB, false, &bell).await.unwrap();
        one.charge(2 * MIB);
        assert_eq!(budget.used(), 3 * MIB);
        one.give_back(MIB);
        assert_eq!(budget.used(), 2 * MIB);
        drop(one);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_frame_begun_comes_before_a_connection_that_has_nothing() {
        let budget = Budget::new(8 * MIB);
        let (mut full, bell) = share(&budget);
        full.charge(8 * MIB);
        let (mut fresh, fresh_bell) = share(&budget);
        let (mut begun, begun_bell) = share(&budget);
        let mut fresh_take = Box::pin(fresh.take(MIB, false, &fresh_bell));
        assert!(futures::poll!(&mut fresh_take).is_pending());
        let mut begun_take = Box::pin(begun.take(MIB, true, &begun_bell));
        assert!(futures::poll!(&mut begun_take).is_pending());
        assert!(budget.is_short());
        full.give_back(MIB);
        assert!(futures::poll!(&mut begun_take).is_ready());
        assert!(futures::poll!(&mut fresh_take).is_pending());
        full.give_back(MIB);
        assert!(futures::poll!(&mut fresh_take).is_ready());
        assert!(!budget.is_short());
        let _ = bell;
    }

    #[tokio::test]
    async fn a_quarter_is_the_most_while_others_want_less() {
        let budget = Budget::new(8 * MIB);
        let (mut one, bell) = share(&budget);
        one.take(5 * MIB, true, &bell).await.unwrap();
        let (mut greedy, greedy_bell) = share(&budget);
        let (mut modest, modest_bell) = share(&budget);
        let mut greedy_take = Box::pin(greedy.take(6 * MIB, true, &greedy_bell));
        assert!(futures::poll!(&mut greedy_take).is_pending());
        let mut modest_take = Box::pin(modest.take(2 * MIB, false, &modest_bell));
        assert!(futures::poll!(&mut modest_take).is_ready());
        assert!(futures::poll!(&mut greedy_take).is_pending());
        // Nobody else waits: the first beyond a quarter goes on once there is room.
        drop(one);
        assert!(futures::poll!(&mut greedy_take).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_holder_goes_while_others_wait() {
        let budget = Budget::new(8 * MIB);
        let (mut slow, slow_bell) = share(&budget);
        slow.charge(7 * MIB);
        let (quick, quick_bell) = share(&budget);
        let mut quick = quick;
        quick.charge(MIB + MIB / 2);
        let (mut waits, bell) = share(&budget);
        let mut take = Box::pin(waits.take(MIB, false, &bell));
        for _ in 0..3 {
            assert!(futures::poll!(&mut take).is_pending());
            quick.delivered(MIB);
            tokio::time::advance(SLOW_AFTER).await;
        }
        assert!(slow_bell.is_evicted());
        assert!(!quick_bell.is_evicted());
        drop(slow);
        take.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn of_holders_that_all_wait_the_last_goes() {
        let budget = Budget::new(8 * MIB);
        let (mut first, first_bell) = share(&budget);
        let (mut last, last_bell) = share(&budget);
        first.charge(4 * MIB);
        last.charge(4 * MIB);
        let mut first_take = Box::pin(first.take(MIB, true, &first_bell));
        assert!(futures::poll!(&mut first_take).is_pending());
        let mut last_take = Box::pin(last.take(MIB, true, &last_bell));
        assert!(futures::poll!(&mut last_take).is_pending());
        tokio::time::advance(SLOW_AFTER).await;
        assert!(futures::poll!(&mut first_take).is_pending());
        assert_eq!(futures::poll!(&mut last_take), std::task::Poll::Ready(Err(Evicted)));
        assert!(!first_bell.is_evicted());
    }
}
