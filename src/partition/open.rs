//! From the files of a partition to a partition at work: at a start, and after a panic under its lock.

use std::path::Path;
use std::sync::Arc;

use super::node_dirs::NodeDir;
use super::producers::ProducerTable;
use super::waiters::Visible;
use super::{Offsets, Online, Partition, Shared, State};
use crate::log::checkpoint::PartitionMarks;
use crate::log::names::{self, SNAPSHOT};
use crate::log::recovery::{self, Listing, Marks};
use crate::log::segment::LogDirectory;
use crate::log::view::Mark;
use crate::log::{Haste, Log, LogError};
use crate::metadata::image::PartitionId;
use crate::protocol::record_batch::{BatchView, LeaderEpoch, Offset};
use crate::wal::ticket::Rejected;

/// The offset of a snapshot that was never taken.
pub(super) const NO_SNAPSHOT: Offset = -1;

/// What the checkpoint says of a partition.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) marks: PartitionMarks,
    /// Where checking begins: the checked end while the page cache lives, else the flushed end.
    pub(super) scan_from: Offset,
}

/// Where the files of a partition are.
pub(super) fn log_directory(shared: &Shared, dir: &NodeDir, topic: &str, id: PartitionId) -> LogDirectory {
    let path = dir.path().join(names::partition_dir(topic, id.partition));
    LogDirectory::new(shared.fs.clone(), Arc::clone(&shared.files), path, id.topic)
}

impl Known {
    /// The partition's files are gone: its log begins anew at its log start, with no mark of what was there.
    pub(super) fn begin_anew(&mut self) {
        let marks = &mut self.marks;
        let start = marks.log_start;
        (marks.checked_end, marks.flushed_end, marks.local_start, marks.cleaned_end) = (start, start, start, start);
        (marks.size_bytes, marks.snapshot_offset, marks.producers) = (0, NO_SNAPSHOT, bytes::Bytes::new());
        self.scan_from = start;
    }

    /// Where a log without segments begins: where it ended, or behind what power took from a directory that outlived its
    /// first segment.
    fn empty_start(&self) -> Offset {
        let end = if self.marks.size_bytes == 0 { self.marks.checked_end } else { self.scan_from };
        end.max(self.marks.log_start)
    }

    /// Where the partition stands if its files agree.
    pub(super) fn offsets(&self, leader_epoch: LeaderEpoch) -> Offsets {
        let PartitionMarks { log_start, local_start, checked_end: end, .. } = self.marks;
        let local_start = local_start.max(log_start);
        // Where open transactions begin is not known before the files were opened: nothing counts as decided.
        let last_stable = log_start;
        Offsets { log_start, local_start, high_watermark: end, last_stable, log_end: end, leader_epoch }
    }
}

impl Partition {
    pub(super) fn log_directory(&self) -> LogDirectory {
        log_directory(&self.shared, self.dir(), &self.topic, self.id)
    }

    /// Opens the files through recovery. Blocks.
    pub(super) fn open_online(&self, known: Option<&Known>) -> Result<Online, LogError> {
        let mut limit = known.map_or(Offset::MAX, |known| known.scan_from);
        loop {
            match self.open_with_snapshot_below(known, limit)? {
                Ok(online) => return Ok(online),
                // The snapshot speaks of records that are gone: an older one, and more of the log, has to do.
                Err(end) => limit = end,
            }
        }
    }

    /// Opens with the newest snapshot at or below `limit`; the log's end instead when that lies below the snapshot.
    fn open_with_snapshot_below(
        &self,
        known: Option<&Known>,
        limit: Offset,
    ) -> Result<Result<Online, Offset>, LogError> {
        let config = self.topic_config();
        let directory = self.log_directory();
        let scan_from = known.map(|known| known.scan_from);
        let listing = Listing::of(&directory)?;
        // Where the first segment begins a snapshot speaks of no record that may be missing here.
        let snapshot_limit = limit.max(listing.first_segment().unwrap_or(Offset::MIN));
        let (snapshot_at, mut producers) = self.newest_snapshot(&directory.path, &listing, snapshot_limit)?;
        let mut producers_from = snapshot_at;
        if let Some(Known { marks, scan_from }) = known
            && *scan_from == marks.checked_end
            && marks.checked_end <= limit
            && marks.snapshot_offset == snapshot_at
            && !marks.producers.is_empty()
            && producers.apply_changes(&marks.producers).is_ok()
        {
            producers_from = marks.checked_end;
        }
        let marks = Marks {
            trusted_end: scan_from,
            flushed_end: known.map_or(0, |known| known.marks.flushed_end),
            producers_from,
            start: known.map_or(0, Known::empty_start),
            log_start: known.map_or(0, |known| known.marks.log_start),
            may_have_gaps: known.is_none() && !self.dir().had_checkpoint(),
        };
        let now_ms = self.shared.clock.now_ms();
        producers.loaded_at(now_ms);
        let each_batch = &mut |batch: &BatchView<'_>| producers.update(batch, now_ms)?.to_aborted();
        let (mut log, recovered) =
            recovery::open(directory, &listing, &marks, &config, &*self.shared.random, each_batch)?;
        if recovered.checked_bytes > 0 {
            tracing::info!(
                topic = %self.topic, partition = self.id.partition, checked_bytes = recovered.checked_bytes,
                end = log.end(), "partition recovered"
            );
        }
        if log.end() < producers_from && snapshot_at != NO_SNAPSHOT {
            return Ok(Err(log.end()));
        }
        if config.flush_messages.is_some()
            && let Some(flush) = log.begin_flush()
        {
            // What readers see of a synced topic survives a power loss; the tail that recovery found may not yet.
            flush.run(Haste::Now)?;
            log.note_flushed(&flush);
        }
        let mut online = Online::over(log, producers, 0, snapshot_at);
        online.log_start = known.map_or(online.log.start(), |known| known.marks.log_start.min(online.log.end()));
        // The log start was durable, and the epochs below it may still be in their file.
        online.log.drop_epochs_below(online.log_start);
        online.cleaned_end = known.map_or(0, |known| known.marks.cleaned_end);
        online.log_start_known = known.is_some();
        online.left_out_below = known.map_or(Offset::MIN, |known| known.marks.flushed_end);
        online.settle_stable();
        Ok(Ok(online))
    }

    /// The newest producer snapshot at or below `limit` that can be read.
    fn newest_snapshot(
        &self,
        directory: &Path,
        listing: &Listing,
        limit: Offset,
    ) -> Result<(Offset, ProducerTable), LogError> {
        let offsets = listing.snapshots();
        for offset in offsets.into_iter().rev().filter(|offset| *offset <= limit) {
            let path = names::segment_file(directory, offset, SNAPSHOT);
            match ProducerTable::from_snapshot(&self.shared.fs.read(&path)?) {
                Ok(table) => return Ok((offset, table)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "producer snapshot unreadable; an older one is used");
                }
            }
        }
        Ok((NO_SNAPSHOT, ProducerTable::default()))
    }

    /// After a panic under the lock: what was in memory is not to be believed, what is in the files is.
    pub(super) fn reopen(&self, state: &mut State) {
        let State::Online(online) = state else { return };
        let (log_start, flushed, cleaned_end) = (online.log_start, online.log.flushed(), online.cleaned_end);
        let left_out_below = online.left_out_below;
        tracing::error!(
            topic = %self.topic, partition = self.id.partition,
            "panic while the partition was being changed; it is reopened from its files"
        );
        state.leave(State::Offline("being reopened".into()), Rejected::NotLeader);
        let known = Known {
            marks: PartitionMarks {
                topic_id: self.id.topic,
                partition: self.id.partition,
                topic: self.topic.clone(),
                checked_end: flushed,
                flushed_end: flushed,
                log_start,
                local_start: log_start,
                size_bytes: 0,
                cleaned_end,
                next_due_ms: i64::MAX,
                snapshot_offset: NO_SNAPSHOT,
                producers: bytes::Bytes::new(),
            },
            scan_from: flushed,
        };
        match self.open_online(Some(&known)) {
            Ok(mut online) => {
                online.left_out_below = online.left_out_below.max(left_out_below);
                self.mark_changed(&mut online);
                *state = State::Online(Box::new(online));
            }
            Err(error) => {
                tracing::error!(topic = %self.topic, partition = self.id.partition, %error, "reopening failed");
                *state = State::Offline(error.to_string());
            }
        }
        self.waiters.publish(Visible::default());
        self.waiters.wake_all();
    }
}

impl Online {
    /// A partition without files that begins at `start`.
    pub(super) fn empty(directory: LogDirectory, start: Offset) -> Self {
        let mut online = Self::over(Log::create(directory, start), ProducerTable::default(), start, NO_SNAPSHOT);
        online.settle_stable();
        online
    }

    /// A partition over a log as it was opened: all that is there may be read.
    fn over(log: Log, producers: ProducerTable, log_start: Offset, snapshot_at: Offset) -> Self {
        let end = log.end_mark();
        let synced = Mark { offset: log.flushed(), ..end };
        Self {
            log,
            producers,
            log_start,
            log_start_known: true,
            left_out_below: Offset::MIN,
            next_log_start: 0,
            high_watermark: end,
            // Not found yet: the caller settles it when producers and log start are known.
            stable: Mark { offset: -1, ..end },
            synced,
            pending: Default::default(),
            cover: None,
            holding: false,
            sync_queued: false,
            flush_due: false,
            roll_due: false,
            changed: false,
            snapshot_at,
            cleaned_end: 0,
        }
    }
}
