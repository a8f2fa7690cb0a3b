//! What an append hands back: the promise that its offset becomes durable as the topic's mode asks, or is refused.
//!
//! A ticket is accepted or rejected, never dropped. Acks wait for it; the high watermark moves with it.

use tokio::sync::oneshot;

use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// Why an append that was written will never be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The log directory failed (a failed sync or write): KAFKA_STORAGE_ERROR.
    #[error("log directory is offline")]
    Storage,
    /// The partition was lost, deleted or reopened meanwhile: NOT_LEADER_OR_FOLLOWER.
    #[error("leadership of the partition ended")]
    NotLeader,
}

/// Resolves when the high watermark has reached `next_offset`, or never can in `leader_epoch`.
#[derive(Debug)]
#[must_use = "an acknowledgement waits for its ticket"]
pub struct Ticket {
    next_offset: Offset,
    leader_epoch: LeaderEpoch,
    state: State,
}

#[derive(Debug)]
enum State {
    Done,
    Pending(oneshot::Receiver<Result<(), Rejected>>),
}

/// The other end of a ticket.
#[derive(Debug)]
pub struct Promise(oneshot::Sender<Result<(), Rejected>>);

impl Promise {
    /// The offset is as durable as promised.
    pub fn accept(self) {
        // The waiter may have gone with its connection; nobody else needs the answer.
        let _ = self.0.send(Ok(()));
    }

    /// It never will be.
    pub fn reject(self, why: Rejected) {
        let _ = self.0.send(Err(why));
    }
}

impl Ticket {
    /// A ticket that is accepted already; costs no allocation.
    pub fn done(next_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        Self { next_offset, leader_epoch, state: State::Done }
    }

    /// A ticket and the promise that completes it.
    pub fn pending(next_offset: Offset, leader_epoch: LeaderEpoch) -> (Self, Promise) {
        let (sender, receiver) = oneshot::channel();
        (Self { next_offset, leader_epoch, state: State::Pending(receiver) }, Promise(sender))
    }

    /// The offset behind what was appended.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The leader epoch in which it was appended.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Accepted already, so that waiting would not wait.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Waits for the outcome.
    pub async fn wait(self) -> Result<(), Rejected> {
        match self.state {
            State::Done => Ok(()),
            // A promise that went away unkept means its partition did.
            State::Pending(receiver) => receiver.await.unwrap_or(Err(Rejected::NotLeader)),
        }
    }
}
