//! How the high watermark moves: by durability alone, as the topic's mode asks.
//!
//! | `flush.messages` | the high watermark is |
//! |---|---|
//! | none | the log end: the page cache is enough |
//! | n | the log end until n records are unsynced; then it holds until the sync that covers them is done |
//!
//! With n = 1 it always is what is synced: by the write-ahead log of the directory, once the partition's own files are
//! synced up to the first record there ([`Cover`]); with n > 1, and where the log does not reach, by a sync of these
//! files. While it holds, every append waits for its ticket. `flush.ms` asks for a sync that nobody waits for.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use terrace_tiering::platform::crash_point::{self, CrashPoint};

use super::{Online, Partition, State};
use crate::config::topic::TopicConfig;
use crate::log::Haste;
use crate::log::view::Mark;
use crate::protocol::record_batch::{LeaderEpoch, Offset};
use crate::wal::group_commit::{Covered, Joined};
use crate::wal::partition_sync::SyncTarget;
use crate::wal::record::Place;
use crate::wal::ticket::{Rejected, Ticket};

/// What the write-ahead log covers of a synced topic's partition: everything from its first append on after a start or
/// a change to that mode.
#[derive(Debug)]
pub(super) struct Cover {
    /// The offset of the first record that a replay would put back. What lies below is durable by the partition's files or
    /// not at all.
    from: Offset,
    /// By record, the log's end behind it; of groups that are not synced.
    unsynced: VecDeque<(u64, Mark)>,
    /// The end of the last group.
    synced: Option<Mark>,
    joined: Joined,
}

impl Cover {
    fn from(offset: Offset) -> Self {
        Self { from: offset, unsynced: VecDeque::new(), synced: None, joined: Joined::default() }
    }

    /// Takes note that every record up to `sequence` is synced.
    fn group_synced(&mut self, sequence: u64) {
        while let Some((_, mark)) = self.unsynced.pop_front_if(|(of, _)| *of <= sequence) {
            self.synced = Some(mark);
        }
    }
}

impl Online {
    /// Moves what is durable to where the write-ahead log has come, if the partition's files reach up to its first
    /// record.
    fn note_cover(&mut self) {
        if let Some(cover) = &self.cover
            && self.log.flushed() >= cover.from
            && let Some(mark) = cover.synced.filter(|mark| mark.offset > self.synced.offset)
        {
            self.synced = mark;
        }
    }

    /// Must the partition's own files be synced for what was just appended to become durable?
    pub(super) fn needs_file_sync(&self) -> bool {
        self.holding && self.cover.as_ref().is_none_or(|cover| self.log.flushed() < cover.from)
    }

    /// After an append or a sync: holds or releases the high watermark, moves it, accepts the tickets below it. True
    /// when it moved. Whoever calls wakes the waiters once the lock is free, and asks for a sync when it holds.
    fn settle(&mut self, config: &TopicConfig) -> bool {
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
    /// Hands what was just appended (`batches`, which end at the log's end) to the write-ahead log, if the topic's mode
    /// asks. Under the lock. After an error the directory is to go offline.
    pub(super) fn write_ahead(
        &self,
        online: &mut Online,
        config: &TopicConfig,
        base_offset: Offset,
        batches: &[u8],
    ) -> io::Result<()> {
        if config.flush_messages != Some(1) {
            online.cover = None;
            return Ok(());
        }
        let end = online.log.end_mark();
        let place = Place {
            topic: self.id.topic,
            partition: self.id.partition,
            leader_epoch: self.leader_epoch,
            base_offset,
            segment: end.segment,
            position: end.position - batches.len() as u64,
        };
        let from = base_offset.max(online.left_out_below);
        let cover = online.cover.get_or_insert_with(|| Box::new(Cover::from(from)));
        let this = || self.this.upgrade().map(|this| this as Arc<dyn Covered>);
        let sequence = self.dir().wal()?.append(&place, batches, &mut cover.joined, this)?;
        cover.unsynced.push_back((sequence, end));
        Ok(())
    }

    /// All of the log is durable, in the files of the directory that it has just come to.
    pub(super) fn settle_moved(&self, online: &mut Online) -> bool {
        online.synced = online.log.end_mark();
        (online.cover, online.sync_queued) = (None, false);
        // The checkpoint there names the end of what has come.
        online.left_out_below = Offset::MIN;
        self.settle(online, &self.topic_config())
    }

    /// As [`Online::settle`], and tells the watchers' list and who copies segments.
    pub(super) fn settle(&self, online: &mut Online, config: &TopicConfig) -> bool {
        let decided = online.stable.segment;
        if !online.settle(config) {
            return false;
        }
        self.publish_visible(online);
        if online.stable.segment != decided
            && let Some(listener) = self.shared.on_roll.get()
        {
            // A copy waits for the roll, and then until everything in the segment is decided.
            listener(self.id);
        }
        true
    }

    /// Queues the partition for its directory's sync thread, once.
    pub(super) fn request_sync(&self, online: &mut Online) -> Option<Arc<Self>> {
        if std::mem::replace(&mut online.sync_queued, true) { None } else { self.this.upgrade() }
    }

    /// Hands what [`Partition::request_sync`] gave to the thread. Apart from it, because the thread may answer at once
    /// with a failure, which takes the lock.
    pub(super) fn send_to_sync(&self, queued: Option<Arc<Self>>) {
        if let Some(partition) = queued {
            self.dir().sync().request(partition);
        }
    }
}

impl SyncTarget for Partition {
    fn sync(&self) -> io::Result<()> {
        self.sync_files_with(Haste::Now)?;
        self.settle_stopped(Haste::Now).map(drop)
    }

    fn fail(&self) {
        self.directory_failed();
    }
}

impl Partition {
    /// What the directory's thread does in its turn, for tests above that need it now.
    #[cfg(test)]
    pub fn sync_now(&self) -> io::Result<()> {
        SyncTarget::sync(self)
    }

    /// Makes durable what was appended before the call, and notes that.
    fn sync_files_with(&self, haste: Haste) -> io::Result<()> {
        // One at a time: the second would not wait for the directory that the first has yet to sync.
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (flush, mark) = {
            let mut state = self.lock();
            let Ok(online) = state.online() else { return Ok(()) };
            online.sync_queued = false;
            (online.log.begin_flush(), online.log.end_mark())
        };
        if let Some(flush) = &flush {
            crash_point::reach(CrashPoint::FlushBeforeSync);
            flush.run(haste)?;
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
            online.note_cover();
            self.mark_changed(online);
            let moved = self.settle(online, &config);
            (moved, if online.needs_file_sync() { self.request_sync(online) } else { None })
        };
        if moved {
            self.waiters.moved();
        }
        self.send_to_sync(queued);
        Ok(())
    }
}

impl Covered for Partition {
    fn group_synced(&self, log_dir: &Path, sequence: u64) {
        let config = self.topic_config();
        let moved = {
            let mut state = self.lock();
            let Ok(online) = state.online() else { return };
            if self.dir().path() != log_dir {
                // It has moved, and all that the log there covers was synced on the way.
                return;
            }
            // A reopening in between made another log of it, with none of these records to wait for.
            let Some(cover) = &mut online.cover else { return };
            cover.group_synced(sequence);
            online.note_cover();
            self.settle(online, &config)
        };
        if moved {
            self.waiters.moved();
        }
    }

    fn fail(&self) {
        self.directory_failed();
    }

    fn sync_files(&self) -> io::Result<bool> {
        // Appends wait for the syncs of the write-ahead log, not for these.
        self.sync_files_with(Haste::InSteps)?;
        self.dir().record(self)?;
        let is_offline = matches!(*self.lock(), State::Offline(_));
        Ok(!is_offline || self.settle_stopped(Haste::InSteps)?)
    }
}

impl Partition {
    /// Nothing of it is acknowledged any more.
    fn directory_failed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has moved to another directory serves on.
        if self.dir().sync().is_offline() && matches!(*state, State::Online(_)) {
            state.leave(State::Offline("log directory is offline".into()), Rejected::Storage);
        }
        drop(state);
        self.waiters.wake_all();
    }
}
