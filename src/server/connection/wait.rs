//! What a connection does when there is nothing to serve: it waits for bytes, tickets, the bell and its own idleness at once.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::super::admission::Evicted;
use super::{Closed, Connection, Outgoing, WAITING_ANSWERS_MAX};
use crate::api::fetch;

/// Buffers of a connection that was silent for so long go back.
const RELEASE_AFTER: Duration = Duration::from_secs(1);

enum Event {
    Readable,
    Settled(BytesMut),
    Tick,
    Bell,
}

impl Connection {
    /// Waits for more bytes, and for what else can happen meanwhile.
    pub(super) async fn receive(&mut self) -> Result<(), Closed> {
        if self.share.budget().is_short() && self.inbox.is_empty() {
            self.inbox.release(&mut self.share);
        }
        let growth = self.inbox.growth(self.limits.request_bytes_max)?;
        // An idle connection gets memory when something is there to be read.
        if growth > 0 && self.inbox.capacity() > 0 {
            self.inbox.grow(growth, &mut self.share, &self.bell).await?;
        }
        match self.event().await? {
            Event::Readable if self.inbox.capacity() == 0 => {
                self.inbox.grow(growth, &mut self.share, &self.bell).await?;
                self.tick.as_mut().reset(Instant::now() + RELEASE_AFTER);
            }
            Event::Readable => {}
            Event::Settled(answer) => {
                self.waiting.pop_front();
                self.outgoing.buffer.unsplit(answer);
            }
            Event::Tick => self.look_after_idleness()?,
            Event::Bell if self.bell.is_evicted() => return Err(Evicted.into()),
            Event::Bell => {
                // Everything here is answered but for what waits for tickets.
                self.settle_all().await?;
                self.flush().await?;
                return Err(Closed::Stopping);
            }
        }
        Ok(())
    }

    async fn event(&mut self) -> Result<Event, Closed> {
        let Self { stream, inbox, waiting, bell, tick, share, last_read, .. } = self;
        poll_fn(|context| {
            if bell.is_evicted() || bell.is_stopping() {
                return Poll::Ready(Ok(Event::Bell));
            }
            if let Some(front) = waiting.front_mut()
                && let Poll::Ready(answer) = front.as_mut().poll(context)
            {
                return Poll::Ready(Ok(Event::Settled(answer)));
            }
            if waiting.len() < WAITING_ANSWERS_MAX {
                if inbox.capacity() == 0 {
                    if stream.poll_read_ready(context)?.is_ready() {
                        return Poll::Ready(Ok(Event::Readable));
                    }
                } else if let Poll::Ready(read) = pin!(stream.read_buf(inbox.bytes_mut())).poll(context)? {
                    if read == 0 {
                        return Poll::Ready(Err(Closed::ByPeer));
                    }
                    share.delivered(read);
                    *last_read = Instant::now();
                    return Poll::Ready(Ok(Event::Readable));
                }
            }
            bell.listen(context.waker());
            if bell.is_evicted() || bell.is_stopping() {
                return Poll::Ready(Ok(Event::Bell));
            }
            tick.as_mut().poll(context).map(|()| Ok(Event::Tick))
        })
        .await
    }

    fn look_after_idleness(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        let silent = now - self.last_read;
        let next = if !self.waiting.is_empty() {
            now + RELEASE_AFTER
        } else if silent >= self.limits.idle_max {
            return Err(Closed::Idle);
        } else if silent >= RELEASE_AFTER && self.inbox.is_empty() {
            self.inbox.release(&mut self.share);
            self.outgoing = Outgoing::default();
            self.fetching = fetch::Buffers::default();
            later(self.last_read, self.limits.idle_max)
        } else {
            (now + RELEASE_AFTER).min(later(self.last_read, self.limits.idle_max))
        };
        self.tick.as_mut().reset(next);
        Ok(())
    }
}

/// A deadline that may be never.
pub(super) fn later(from: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    from + by.min(FAR)
}
