//! What happens to a partition without a request: the checkpoint's look at it, roll by time, retention, local deletion.
//!
//! All of it runs on threads that may block, called by the node's queue of due work. The log start is durable before
//! anything below it is removed, and a segment that only the bucket shall hold is removed only when the bucket does
//! (the chain lists FINISHED segments).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use terrace_tiering::platform::crash_point::{self, CrashPoint};

use super::due::Work;
use super::node_dirs::NodeDir;
use super::read::ReadError;
use super::{Offsets, Online, Partition, State};
use crate::config::topic::TopicConfig;
use crate::log::LogError;
use crate::log::checkpoint::PartitionMarks;
use crate::log::names::{self, SNAPSHOT};
use crate::log::retention::{self, Extent, Facts, LocalSegment};
use crate::log::segment::remove_deleted;
use crate::log::view::LogView;
use crate::metadata::remote_log::RemoteSegment;
use crate::protocol::record_batch::Offset;
use crate::wal::ticket::Rejected;

/// Producers in the checkpoint, at most; beyond it a snapshot is written instead.
const CHECKPOINT_PRODUCERS_BYTES_MAX: usize = 64 << 10;

impl Online {
    /// Raises the log start. Its durability is the caller's.
    pub(super) fn set_log_start(&mut self, to: Offset) {
        self.log_start = to;
        self.log_start_known = true;
        self.log.drop_epochs_below(to);
        self.settle_stable();
    }
}

impl Partition {
    /// The next checkpoint looks at it.
    pub(super) fn mark_changed(&self, online: &mut Online) {
        if !std::mem::replace(&mut online.changed, true) {
            self.dir().note_changed(self.this.clone());
        }
    }

    /// Ends the active segment, with the producers as of its end. The caller asks for its sync.
    pub(super) fn roll(&self, online: &mut Online, config: &TopicConfig) -> Result<bool, LogError> {
        let rolled = online.log.roll(&online.producers.snapshot(), config, &*self.shared.random)?;
        if rolled {
            online.snapshot_at = online.log.end();
            if let Some(listener) = self.shared.on_roll.get() {
                listener(self.id);
            }
        }
        Ok(rolled)
    }

    /// Pushes what an append makes due, once each.
    pub(super) fn schedule_after_append(&self, online: &mut Online, config: &TopicConfig, now_ms: i64) {
        if let Some(ms) = config.flush_ms
            && !online.flush_due
            && !online.holding
        {
            online.flush_due = true;
            self.shared.due.push(now_ms.saturating_add_unsigned(ms), Work::Flush(self.id));
        }
        if let Some(ms) = self.shared.settings.remote_segment_roll_ms
            && config.remote_storage_enable
            && !online.roll_due
        {
            online.roll_due = true;
            self.shared.due.push(now_ms.saturating_add(ms), Work::Roll(self.id));
        }
        self.schedule_passes(config, now_ms);
    }

    /// Pushes the regular passes if they are not waiting already.
    pub(super) fn schedule_upkeep(&self) {
        // One that is not open yet is scheduled when it opens.
        if let State::Online(online) = &mut *self.raw() {
            self.schedule_upkeep_in(online);
        }
    }

    pub(super) fn schedule_upkeep_in(&self, online: &mut Online) {
        let config = self.topic_config();
        let now_ms = self.shared.clock.now_ms();
        if online.log.active_since_ms().is_some() {
            self.schedule_after_append(online, &config, now_ms);
        } else if !online.log.view().segments().is_empty() || !self.remote_chain().segments.is_empty() {
            self.schedule_passes(&config, now_ms);
        }
    }

    fn schedule_passes(&self, config: &TopicConfig, now_ms: i64) {
        let settings = &self.shared.settings;
        if !self.retention_due.swap(true, Ordering::Relaxed) {
            self.shared.due.push(now_ms.saturating_add(settings.retention_check_interval_ms), Work::Retention(self.id));
        }
        self.schedule_clean(config, now_ms);
    }

    /// `flush.ms` is over. Blocks only for the lock.
    pub(super) fn flush_due(&self) {
        let queued = {
            let mut state = self.lock();
            let Ok(online) = state.online() else { return };
            online.flush_due = false;
            if online.synced.offset >= online.log.end() { None } else { self.request_sync(online) }
        };
        self.send_to_sync(queued);
    }

    /// `remote.segment.roll.ms` is over: a quiet active segment ends, so that the bucket gets it.
    pub(super) fn roll_due(&self, now_ms: i64) -> Result<(), LogError> {
        let config = self.topic_config();
        let Some(ms) = self.shared.settings.remote_segment_roll_ms.filter(|_| config.remote_storage_enable) else {
            return Ok(());
        };
        let queued = {
            let mut state = self.lock();
            let Ok(online) = state.online() else { return Ok(()) };
            online.roll_due = false;
            match online.log.active_since_ms() {
                None => None,
                Some(since) if now_ms.saturating_sub(since) < ms => {
                    online.roll_due = true;
                    self.shared.due.push(since.saturating_add(ms), Work::Roll(self.id));
                    None
                }
                Some(_) => {
                    self.roll(online, &config)?;
                    self.mark_changed(online);
                    self.request_sync(online)
                }
            }
        };
        self.send_to_sync(queued);
        Ok(())
    }

    /// Can the log start be moved to `before` (-1: the high watermark)?
    pub(super) fn check_delete(&self, before: Offset) -> Result<(), ReadError> {
        let mut state = self.lock();
        let online = state.online()?;
        let high_watermark = online.high_watermark.offset;
        if before < -1 || before > high_watermark {
            return Err(ReadError::OutOfRange { offset: before, log_start: online.log_start, high_watermark });
        }
        Ok(())
    }

    /// Moves the log start up to `to` (-1: the high watermark), never above the high watermark and never down; returns
    /// the new one once it is durable, and nobody sees it before. What lies below goes.
    pub async fn raise_log_start(self: &Arc<Self>, to: Offset) -> Result<Offset, ReadError> {
        let partition = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || partition.raise_log_start_blocking(to)).await;
        done.map_err(|_| ReadError::Storage("moving the log start failed".into()))?
    }

    /// As [`Partition::raise_log_start`], on a thread that may block.
    pub fn raise_log_start_blocking(&self, to: Offset) -> Result<Offset, ReadError> {
        // The checkpoint that is to say it is the one of the directory where the partition still is when it does.
        let maintenance = self.maintenance();
        let to = {
            let mut state = self.lock();
            let online = state.online()?;
            let high_watermark = online.high_watermark.offset;
            let to = if to < 0 { high_watermark } else { to.min(high_watermark) };
            online.next_log_start = online.next_log_start.max(to);
            to
        };
        self.dir().checkpoint_now(self).map_err(|error| ReadError::Storage(error.to_string()))?;
        let reached = {
            let mut state = self.lock();
            let online = state.online()?;
            if to > online.log_start {
                online.set_log_start(to);
                self.mark_changed(online);
            }
            self.publish_visible(online);
            online.log_start
        };
        drop(maintenance);
        self.waiters.moved();
        crash_point::reach(CrashPoint::DeleteAfterStartOffset);
        self.remove_local_below(reached)?;
        Ok(reached)
    }

    /// Removes the sealed segments that end at or below `offset`, the oldest first: as far as they lie below the log start,
    /// or a copy covers them at this moment.
    fn remove_local_below(&self, offset: Offset) -> Result<(), ReadError> {
        let _maintenance = self.maintenance();
        let removed = {
            let mut state = self.lock();
            let online = state.online()?;
            let covered = self.remote_chain().end().unwrap_or(Offset::MIN).max(online.log_start);
            let removed = online.log.advance_start(offset.min(covered));
            if !removed.is_empty() {
                self.mark_changed(online);
            }
            removed
        };
        let storage = |error: io::Error| ReadError::Storage(error.to_string());
        let delay_ms = self.topic_config().file_delete_delay_ms;
        for segment in &removed {
            segment.rename_deleted().map_err(storage)?;
            let (directory, base) = (segment.directory().to_owned(), segment.base());
            if delay_ms <= 0 {
                remove_deleted(&self.shared.fs, &directory, base).map_err(storage)?;
            } else {
                let at_ms = self.shared.clock.now_ms().saturating_add(delay_ms);
                self.shared.due.push(at_ms, Work::RemoveSegment { directory, base });
            }
        }
        Ok(())
    }

    /// Retention, total and local; [`retention::decide`] decides.
    pub(super) fn retention_due(&self, now_ms: i64) -> Result<(), ReadError> {
        let config = self.topic_config();
        self.retention_due.store(false, Ordering::Relaxed);
        let (view, offsets) = {
            let mut state = self.lock();
            let online = state.online()?;
            online.producers.expire(now_ms, self.shared.settings.tuning.get().producer_id_expiration_ms);
            (Arc::clone(online.log.view()), online.offsets(self.leader_epoch))
        };
        let chain = self.remote_chain();
        if view.segments().is_empty() && chain.segments.is_empty() {
            return Ok(());
        }
        self.schedule_passes(&config, now_ms);
        let remote: Vec<_> = chain.segments.iter().map(|segment| extent_of(segment)).collect();
        let decision = retention::decide(&Facts {
            config: &config,
            now_ms,
            log_start: offsets.log_start,
            upto: offsets.last_stable,
            remote: &remote,
            // Before the bucket was compared with the rows nothing is removed on their word.
            local: &local_segments(&view, &offsets, chain.end().filter(|_| self.shared.opening.copies_are_trusted())),
        });
        if decision.roll_active {
            self.roll_now(&config)?;
        }
        if decision.log_start > offsets.log_start {
            self.raise_log_start_blocking(decision.log_start)?;
        }
        self.remove_local_below(decision.local_start)
    }

    fn roll_now(&self, config: &TopicConfig) -> Result<(), ReadError> {
        let queued = {
            let mut state = self.lock();
            let online = state.online()?;
            self.roll(online, config)?;
            self.mark_changed(online);
            self.request_sync(online)
        };
        self.send_to_sync(queued);
        Ok(())
    }

    /// What the checkpoint records, once everything it speaks of is in the page cache; `None` when nothing changed
    /// (unless `always`) or there is nothing to say in the checkpoint of `dir`: it is in another one. Blocks.
    pub(super) fn take_marks(&self, dir: &NodeDir, always: bool) -> io::Result<Option<PartitionMarks>> {
        let epochs = {
            let mut state = self.raw();
            let Ok(online) = state.online() else { return Ok(None) };
            if !std::ptr::eq(&**self.dir(), dir) || !online.changed && !always {
                return Ok(None);
            }
            online.log.due_epochs()
        };
        if let Some(epochs) = &epochs {
            epochs.write()?;
        }
        let mut state = self.lock();
        let Ok(online) = state.online() else { return Ok(None) };
        if !std::ptr::eq(&**self.dir(), dir) {
            return Ok(None);
        }
        if let Some(epochs) = &epochs {
            online.log.note_epochs_written(epochs);
        }
        online.changed = false;
        let marks = self.marks(online);
        if marks.is_err() || online.log.has_due_epochs() {
            self.mark_changed(online);
        }
        marks.map(Some).map_err(io::Error::other)
    }

    pub(super) fn marks(&self, online: &mut Online) -> Result<PartitionMarks, LogError> {
        online.log.spill_index()?;
        let checked_end = online.log.checked_end();
        let producers = match online.producers.changes_since(online.snapshot_at, CHECKPOINT_PRODUCERS_BYTES_MAX) {
            // They are as of the log's end: to a start that begins before it they would come twice.
            Some(_) if checked_end != online.log.end() => Vec::new(),
            Some(changes) => changes,
            None => {
                self.take_snapshot(online)?;
                Vec::new()
            }
        };
        let view = online.log.view();
        Ok(PartitionMarks {
            topic_id: self.id.topic,
            partition: self.id.partition,
            topic: Arc::clone(&self.topic),
            checked_end,
            flushed_end: online.log.flushed(),
            log_start: online.log_start.max(online.next_log_start),
            local_start: online.log.start(),
            size_bytes: view.size(),
            cleaned_end: online.cleaned_end,
            next_due_ms: i64::MAX,
            snapshot_offset: online.snapshot_at,
            producers: producers.into(),
        })
    }

    /// Writes the producers as of the log's end; the snapshot before it goes unless a segment begins there.
    pub(super) fn take_snapshot(&self, online: &mut Online) -> Result<(), LogError> {
        if online.log.view().segments().is_empty() || online.snapshot_at == online.log.end() {
            return Ok(());
        }
        online.log.write_snapshot(&online.producers.snapshot())?;
        let (before, now) = (std::mem::replace(&mut online.snapshot_at, online.log.end()), online.log.end());
        let of_segment = online.log.view().segments().iter().any(|segment| segment.base() == before);
        if before >= 0 && before != now && !of_segment {
            let directory = &online.log.directory().path;
            self.shared.fs.remove_file(&names::segment_file(directory, before, SNAPSHOT))?;
        }
        Ok(())
    }

    /// The marks of a clean stop; [`super::closing`] has made everything durable. Serves nothing any more.
    pub(super) fn close(&self) -> io::Result<Option<PartitionMarks>> {
        let mut state = self.raw();
        if let State::Unopened(known) = &*state {
            return Ok(known.as_ref().map(|known| known.marks.clone()));
        }
        let Ok(online) = state.online() else { return Ok(None) };
        let marks = self.marks(online).map_err(io::Error::other)?;
        state.leave(State::Offline("broker is stopping".into()), Rejected::NotLeader);
        drop(state);
        self.waiters.wake_all();
        Ok(Some(marks))
    }
}

fn extent_of(segment: &RemoteSegment) -> Extent {
    Extent {
        base: segment.base_offset,
        next: segment.last_offset + 1,
        size_bytes: segment.log_bytes,
        newest_ms: segment.max_timestamp,
    }
}

fn local_segments(view: &LogView, offsets: &Offsets, copied_end: Option<Offset>) -> Vec<LocalSegment> {
    let segments = view.segments();
    let local = segments.iter().enumerate().map(|(at, segment)| {
        let next = segments.get(at + 1).map_or(offsets.log_end, |next| next.base());
        LocalSegment {
            extent: Extent {
                base: segment.base(),
                next,
                size_bytes: segment.size(),
                newest_ms: segment.largest_timestamp().timestamp,
            },
            is_active: at + 1 == segments.len(),
            is_copied: copied_end.is_some_and(|end| next <= end),
        }
    });
    local.collect()
}
