//! The connection's side of the budget: what it holds, how it asks for more, and that all of it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::bell::Bell;
use super::{Budget, Evicted, SLOW_AFTER, Waiter};

/// What one connection holds of the budget.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    number: u64,
    held: usize,
    delivered: Arc<AtomicU64>,
}

impl Share {
    pub(super) fn new(budget: Arc<Budget>, number: u64, delivered: Arc<AtomicU64>) -> Self {
        Self { budget, number, held: 0, delivered }
    }

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
                state.change(self.number, |held| held + bytes);
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
            tokio::select! {
                biased;
                answer = &mut granted => return answer.map_err(|_| Evicted),
                () = bell.evicted() => return Err(Evicted),
                _ = look.tick() => self.budget.evict_slow(Instant::now(), true),
            }
        }
    }

    /// Counts `bytes` of an answer in memory. Never waits: an answer that exists must be written.
    pub fn charge(&mut self, bytes: usize) {
        self.budget.lock().change(self.number, |held| held + bytes);
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
        state.change(self.number, |held| held - bytes);
        self.budget.grant(&mut state);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        // What a grant gave in the moment the waiter was dropped is counted here and not in `held`.
        state.change(self.number, |_| 0);
        state.shares.remove(&self.number);
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
