//! How the high watermark moves: by durability alone, as the topic's mode asks.
//!
//! | `flush.messages` | the high watermark is |
//! |---|---|
//! | none | the log end: the page cache is enough |
//! | n | the log end until n records are unsynced; then it holds until the sync that covers them is done |
//!
//! With n = 1 it always is what is synced. While it holds, every append waits for its ticket. `flush.ms` asks for a
//! sync that nobody waits for.

use std::io;
use std::sync::Arc;

use terrace_tiering::platform::crash_point::{self, CrashPoint};

use super::{Online, Partition, State};
use crate::config::topic::TopicConfig;
use crate::protocol::record_batch::{LeaderEpoch, Offset};
use crate::wal::partition_sync::SyncTarget;
use crate::wal::ticket::{Rejected, Ticket};

impl Online {
    /// After an append or a sync: holds or releases the high watermark, moves it, accepts the tickets below it. True
    /// when it moved. Whoever calls wakes the waiters once the lock is free, and asks for a sync when it holds.
    pub(super) fn settle(&mut self, config: &TopicConfig) -> bool {
        let unsynced = (self.log.end() - self.synced.offset) as u64;
        self.holding = match config.flush_messages {
            None => false,
            // A hold ends only by a sync.
            Some(n) => unsynced >= n.max(1) || (self.holding && unsynced > 0),
        };
        let reached = if self.holding { self.synced } else { self.log.end_mark() };
        if reached.offset <= self.high_watermark.offset {
            return false;
        }
        self.high_watermark = reached;
        while let Some((_, promise)) = self.pending.pop_front_if(|(next, _)| *next <= reached.offset) {
            promise.accept();
        }
        self.settle_stable();
        true
    }

    /// The ticket of an append (or of the original of a duplicate) that ends before `next`.
    pub(super) fn ticket(&mut self, next: Offset, leader_epoch: LeaderEpoch) -> Ticket {
        if next <= self.high_watermark.offset {
            return Ticket::done(next, leader_epoch);
        }
        let (ticket, promise) = Ticket::pending(next, leader_epoch);
        let behind = self.pending.partition_point(|(waiting, _)| *waiting <= next);
        self.pending.insert(behind, (next, promise));
        ticket
    }
}

impl Partition {
    /// Queues the partition for its directory's sync thread, once.
    pub(super) fn request_sync(&self, online: &mut Online) -> Option<Arc<Self>> {
        if std::mem::replace(&mut online.sync_queued, true) { None } else { self.this.upgrade() }
    }

    /// Hands what [`Partition::request_sync`] gave to the thread. Apart from it, because the thread may answer at once
    /// with a failure, which takes the lock.
    pub(super) fn send_to_sync(&self, queued: Option<Arc<Self>>) {
        if let Some(partition) = queued {
            self.dir.sync().request(partition);
        }
    }
}

impl SyncTarget for Partition {
    fn sync(&self) -> io::Result<()> {
        let (flush, mark) = {
            let mut state = self.lock();
            let Ok(online) = state.online() else { return Ok(()) };
            online.sync_queued = false;
            (online.log.begin_flush(), online.log.end_mark())
        };
        if let Some(flush) = &flush {
            crash_point::reach(CrashPoint::FlushBeforeSync);
            flush.run()?;
            crash_point::reach(CrashPoint::FlushAfterSync);
        }
        let config = self.topic_config();
        let (moved, queued) = {
            let mut state = self.lock();
            let Ok(online) = state.online() else { return Ok(()) };
            // A reopening in between may have made another log of it.
            if mark.offset > online.log.end() {
                return Ok(());
            }
            if let Some(flush) = &flush {
                online.log.note_flushed(flush);
            }
            if mark.offset > online.synced.offset {
                online.synced = mark;
            }
            self.mark_changed(online);
            let moved = online.settle(&config);
            if moved {
                self.publish_visible(online);
            }
            (moved, if online.holding { self.request_sync(online) } else { None })
        };
        if moved {
            self.waiters.moved();
        }
        self.send_to_sync(queued);
        Ok(())
    }

    fn fail(&self) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if matches!(*state, State::Online(_)) {
            state.leave(State::Offline("log directory is offline".into()), Rejected::Storage);
        }
        drop(state);
        self.waiters.wake_all();
    }
}
