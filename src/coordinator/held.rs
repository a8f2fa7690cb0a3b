//! Answers that wait until what they tell is as durable as the log promises.
//!
//! Tickets are settled in the order of the appends. An answer waits for every append before it, whether it made one or
//! only read what one changed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use crate::wal::ticket::{Rejected, Ticket};

type Settling = Pin<Box<dyn Future<Output = Result<(), Rejected>> + Send>>;
type Deliver = Box<dyn FnOnce() + Send>;

/// The answers of one shard that are not out yet.
#[derive(Default)]
pub struct Held {
    tickets: VecDeque<Settling>,
    /// Appends so far, and how many of them are durable.
    appended: u64,
    settled: u64,
    /// With the number of appends that each waits for.
    answers: VecDeque<(u64, Deliver)>,
}

impl Held {
    /// From now on answers wait for this append too.
    pub fn append(&mut self, ticket: Ticket) {
        if ticket.is_done() && self.tickets.is_empty() {
            return;
        }
        self.appended += 1;
        self.tickets.push_back(Box::pin(ticket.wait()));
    }

    /// Delivers when all appends so far are durable, at once if they are.
    pub fn answer(&mut self, deliver: impl FnOnce() + Send + 'static) {
        if self.tickets.is_empty() {
            deliver();
        } else {
            self.answers.push_back((self.appended, Box::new(deliver)));
        }
    }

    /// Waits for the oldest append and delivers what waited for it; waits forever when there is none. May be cancelled.
    pub async fn settle(&mut self) -> Result<(), Rejected> {
        std::future::poll_fn(|context| match self.tickets.front_mut() {
            Some(ticket) => ticket.as_mut().poll(context),
            None => Poll::Pending,
        })
        .await?;
        self.tickets.pop_front();
        self.settled += 1;
        while let Some((_, deliver)) = self.answers.pop_front_if(|(after, _)| *after <= self.settled) {
            deliver();
        }
        Ok(())
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("tickets", &self.tickets.len()).field("answers", &self.answers.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn answers_leave_in_order_once_their_append_is_durable() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let mut held = Held::default();
        let note = |n: u32| {
            let out = Arc::clone(&out);
            move || out.lock().unwrap().push(n)
        };
        held.answer(note(0));
        assert_eq!(*out.lock().unwrap(), [0], "nothing to wait for");

        let (first, keep_first) = Ticket::pending(1, 0);
        let (second, keep_second) = Ticket::pending(2, 0);
        held.append(first);
        held.answer(note(1));
        held.append(second);
        held.answer(note(2));
        // Done already, yet behind two that are not.
        held.append(Ticket::done(3, 0));
        held.answer(note(3));
        assert_eq!(*out.lock().unwrap(), [0]);
        keep_first.accept();
        held.settle().await.unwrap();
        assert_eq!(*out.lock().unwrap(), [0, 1]);
        keep_second.accept();
        held.settle().await.unwrap();
        held.settle().await.unwrap();
        assert_eq!(*out.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_rejected_append_delivers_nothing() {
        let mut held = Held::default();
        let (ticket, promise) = Ticket::pending(1, 0);
        held.append(ticket);
        held.answer(|| panic!("told what never became durable"));
        promise.reject(Rejected::Storage);
        assert_eq!(held.settle().await, Err(Rejected::Storage));
    }
}
