//! What a connection is told while it waits for its peer: finish, or go.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures::task::AtomicWaker;

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

    pub(super) fn evict(&self) {
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

    /// Returns when the broker stops.
    pub async fn stopping(&self) {
        self.until(|| self.is_stopping()).await;
    }

    /// Returns when this connection must go.
    pub async fn evicted(&self) {
        self.until(|| self.is_evicted()).await;
    }

    async fn until(&self, rung: impl Fn() -> bool) {
        poll_fn(|context| {
            self.listen(context.waker());
            if rung() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
