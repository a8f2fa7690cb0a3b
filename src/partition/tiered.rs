//! What the job that copies, expires and restores needs of a partition.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use terrace_tiering::platform::fs::SharedFile;

use super::producers::ProducerTable;
use super::{Online, Partition, State};
use crate::log::leader_epochs::{EpochCache, EpochStart};
use crate::log::names::{self, SNAPSHOT};
use crate::log::segment::Segment;
use crate::log::txn_index::AbortedTransaction;
use crate::log::walk::WalkError;
use crate::metadata::remote_log::RemoteChain;
use crate::protocol::record_batch::{LeaderEpoch, Offset};
use crate::wal::ticket::Rejected;

/// A segment of the local log that gets no more records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedInfo {
    /// Its first offset.
    pub base_offset: Offset,
    /// The first offset that a copy of it covers: its own, or that of the segments in front of it of which compaction has
    /// left nothing.
    pub covers_from: Offset,
    /// The offset behind it: the base of the next segment.
    pub next_offset: Offset,
    /// Bytes of its log.
    pub bytes: u64,
    /// Timestamp of its first batch in milliseconds, -1 when unknown.
    pub first_timestamp: i64,
    /// Its largest timestamp in milliseconds, -1 when unknown.
    pub max_timestamp: i64,
}

/// The local log at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalInfo {
    /// Sealed segments by offset.
    pub sealed: Vec<SealedInfo>,
    /// Bytes of the active one.
    pub active_bytes: u64,
    /// Timestamp of the active one's first batch in milliseconds; `None` when it is empty.
    pub active_first_timestamp: Option<i64>,
    /// Everything below has been compacted.
    pub cleaned_end: Offset,
}

/// Which part of a log goes up for the first time. At most one segment of a partition does; one that is copied again lies
/// below the tier's end.
#[derive(Debug, Clone)]
pub(super) struct Copying(Arc<AtomicI64>);

impl Default for Copying {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(Offset::MIN)))
    }
}

impl Copying {
    /// The offset behind it.
    pub(super) fn upto(&self) -> Offset {
        self.0.load(Ordering::Acquire)
    }
}

/// While it lives the cleaner leaves the segment, and those in front of it, as they are.
#[derive(Debug, Default)]
pub struct CopyHold(Option<Copying>);

impl Drop for CopyHold {
    fn drop(&mut self) {
        if let Some(Copying(upto)) = &self.0 {
            upto.store(Offset::MIN, Ordering::Release);
        }
    }
}

/// What is copied of one sealed segment.
#[derive(Debug)]
pub struct SealedParts {
    /// The `.log` file.
    pub log: SharedFile,
    /// How much of it is the segment.
    pub log_bytes: u64,
    /// The producer state behind its last offset, as Kafka's `.snapshot` file; empty when there is none.
    pub producer_snapshot: Bytes,
    /// The aborted transactions that overlap it, also where their markers lie in later segments: all are known, because
    /// it is copied only when the last stable offset has passed it.
    pub aborted: Vec<AbortedTransaction>,
}

fn into_io(error: WalkError) -> io::Error {
    match error {
        WalkError::Io(error) => error,
        bad @ WalkError::Bad { .. } => io::Error::new(io::ErrorKind::InvalidData, bad.to_string()),
    }
}

impl Online {
    /// Puts the log start where checkpoint and rows of the tier agree that it is.
    pub(super) fn settle_log_start(&mut self, chain: &RemoteChain) {
        if !self.log_start_known
            && let Some(first) = chain.segments.first()
        {
            // No checkpoint said where the log starts: the local files don't know of what only the bucket has.
            self.log_start = self.log_start.min(first.base_offset);
            self.log_start_known = true;
        }
        let to = chain.log_start.min(self.high_watermark.offset);
        if to > self.log_start {
            self.set_log_start(to);
        }
    }

    /// Adds the leader epochs that only the rows of the tier know: the file with them all was not written yet when a broker
    /// died whose log had begun anew at the tier's end.
    pub(super) fn settle_epochs(&mut self, chain: &RemoteChain) {
        let mut starts: BTreeMap<LeaderEpoch, Offset> = chain.epochs().into_iter().collect();
        for known in self.log.epochs().entries() {
            // Compaction may have taken the first records of what was copied.
            let start = starts.entry(known.epoch).or_insert(known.start_offset);
            *start = (*start).min(known.start_offset);
        }
        let starts = starts.into_iter().map(|(epoch, start_offset)| EpochStart { epoch, start_offset });
        let mut epochs = EpochCache::from_entries(starts);
        epochs.truncate_from_start(self.log_start);
        if epochs != *self.log.epochs() {
            *self.log.epochs_mut() = epochs;
        }
    }
}

impl Partition {
    /// The local segments; none while its files cannot be used.
    pub fn local_info(&self) -> LocalInfo {
        let (view, cleaned_end) = match self.lock().online() {
            // An end above the log is that of another one, which was emptied.
            Ok(online) => {
                let cleaned_end = Some(online.cleaned_end).filter(|end| *end <= online.log.end());
                (Arc::clone(online.log.view()), cleaned_end.unwrap_or(0))
            }
            Err(_) => return LocalInfo::default(),
        };
        let mut emptied_from = None;
        let mut covers_from = |segment: &Segment| {
            let from = *emptied_from.get_or_insert(segment.base());
            if segment.size() > 0 {
                emptied_from = None;
            }
            from
        };
        let first = |segment: &Arc<Segment>| segment.first_timestamp().ok().flatten();
        let sealed = view.sealed().map(|(segment, next_offset)| SealedInfo {
            base_offset: segment.base(),
            covers_from: covers_from(segment),
            next_offset,
            bytes: segment.size(),
            first_timestamp: first(segment).unwrap_or(-1),
            max_timestamp: segment.largest_timestamp().timestamp,
        });
        let active = view.segments().last();
        LocalInfo {
            sealed: sealed.collect(),
            active_bytes: active.map_or(0, |segment| segment.size()),
            active_first_timestamp: active.and_then(first),
            cleaned_end,
        }
    }

    /// May the cleaner have rewritten what was copied? Earlier releases did, while a compacted topic was not tiered.
    pub fn is_rewritten_below_the_tier(&self) -> bool {
        let config = self.topic_config();
        let was_cleaned = || self.lock().online().is_ok_and(|online| online.cleaned_end > 0);
        !config.remote_storage_enable && (config.cleanup_policy.compact || was_cleaned())
    }

    /// While it lives the cleaner rewrites no segment that begins below `upto`. Blocks.
    pub fn hold_for_copy(&self, upto: Offset) -> CopyHold {
        // The cleaner looks at it under the same lock, before it replaces anything.
        let _maintenance = self.maintenance();
        self.copying.0.store(upto, Ordering::Release);
        CopyHold(Some(self.copying.clone()))
    }

    /// Opens a sealed segment, if it is still the one that [`Partition::local_info`] told of. Blocks.
    pub fn open_sealed(&self, info: &SealedInfo) -> io::Result<SealedParts> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let view = self.view().map_err(|_| gone())?;
        let is_it = |(segment, next): &(&Arc<Segment>, Offset)| {
            (segment.base(), *next, segment.size()) == (info.base_offset, info.next_offset, info.bytes)
        };
        let (segment, next) = view.sealed().find(is_it).ok_or_else(gone)?;
        let base_offset = segment.base();
        segment.check_readable().map_err(into_io)?;
        let snapshot = names::segment_file(segment.directory(), next, SNAPSHOT);
        let producer_snapshot = match self.shared.fs.read(&snapshot) {
            Ok(bytes) => bytes.into(),
            // The whole directory goes when the partition moves to another.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.shared.fs.exists(segment.directory()) => {
                Bytes::new()
            }
            Err(error) => return Err(error),
        };
        let aborted = view.aborted(base_offset, next).map_err(io::Error::other)?;
        Ok(SealedParts { log: segment.file()?, log_bytes: segment.size(), producer_snapshot, aborted })
    }

    /// The leader epochs with records in `from..upto`, each with its first offset there.
    pub fn epochs_within(&self, from: Offset, upto: Offset) -> Vec<(LeaderEpoch, Offset)> {
        let mut state = self.lock();
        let Ok(online) = state.online() else { return Vec::new() };
        let part = online.log.epochs().within(from, upto);
        part.entries().iter().map(|entry| (entry.epoch, entry.start_offset)).collect()
    }

    /// The readable remote segments.
    pub fn remote_chain(&self) -> Arc<RemoteChain> {
        Arc::clone(&self.chain.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Swaps the readable remote segments; called by the job that copies and expires, and once at start before any
    /// local deletion. A log start that the chain knows as durable counts from here on.
    pub fn set_remote_chain(&self, chain: Arc<RemoteChain>) {
        *self.chain.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&chain);
        let mut state = self.raw();
        match &mut *state {
            // Nothing local, but something in the bucket: the start rule has to look.
            State::Online(online) if online.log.is_untouched() && online.log.end() < chain.reached() => {
                *state = State::Unopened(None);
                self.shared.opening.note_unopened();
            }
            State::Online(online) => {
                online.settle_log_start(&chain);
                self.mark_changed(online);
                self.schedule_upkeep_in(online);
            }
            // It is settled by the chain of the moment at which it opens.
            State::Unopened(_) | State::Behind { .. } | State::Offline(_) | State::Gone => {}
        }
        drop(state);
        // The log start may have moved.
        self.waiters.moved();
    }

    /// The end of the tier, when the local log ends before it and waits for [`Partition::restart_at`]. Blocks: the
    /// partition is opened for the answer.
    pub fn behind_tier(&self) -> Option<Offset> {
        match &*self.lock() {
            State::Behind { tier_end, .. } => Some(*tier_end),
            State::Unopened(_) | State::Online(_) | State::Offline(_) | State::Gone => None,
        }
    }

    /// Empties the local log so that it begins at `start`, behind the last remote segment, with that segment's leader
    /// epochs and producers: what the start rule asks when the bucket is ahead of the local log. Where nothing can be read
    /// from there, the whole log begins at `start`. Blocks.
    pub fn restart_at(
        &self,
        start: Offset,
        epochs: &[(LeaderEpoch, Offset)],
        producer_snapshot: &[u8],
    ) -> io::Result<()> {
        let invalid = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let mut producers = match producer_snapshot {
            [] => ProducerTable::default(),
            bytes => ProducerTable::from_snapshot(bytes).map_err(|error| invalid(&error))?,
        };
        producers.loaded_at(self.shared.clock.now_ms());
        let mut state = self.lock();
        let (log_start, left_out_below) = match &*state {
            State::Online(online) => (online.log_start, online.left_out_below.max(online.log.flushed())),
            State::Behind { log_start, left_out_below, .. } => (*log_start, *left_out_below),
            State::Offline(_) | State::Unopened(_) => (start, Offset::MIN),
            State::Gone => return Ok(()),
        };
        state.leave(State::Offline("being emptied".into()), Rejected::NotLeader);
        let directory = self.log_directory();
        if self.shared.fs.exists(&directory.path) {
            self.shared.fs.remove_dir_all(&directory.path)?;
            self.shared.fs.sync_dir(self.dir().path())?;
        }
        let mut online = Online::empty(directory, start);
        let chain = self.remote_chain();
        online.log_start = if chain.segments.is_empty() { start } else { log_start };
        online.producers = producers;
        // A copy waits until the last stable offset has passed its segment, so what was open at the segment's end was
        // decided by a marker that is gone with the records behind it; the footer's list has the outcome.
        online.producers.forget_transactions();
        if !online.producers.is_empty() {
            // Durably, before anybody can append: no record of this log tells of them.
            online.log.begin_behind(&online.producers.snapshot()).map_err(io::Error::other)?;
            online.snapshot_at = start;
        }
        online.left_out_below = left_out_below;
        online.settle_stable();
        let starts = epochs.iter().map(|&(epoch, start_offset)| EpochStart { epoch, start_offset });
        *online.log.epochs_mut() = EpochCache::from_entries(starts);
        online.settle_log_start(&chain);
        self.mark_changed(&mut online);
        self.schedule_upkeep_in(&mut online);
        *state = State::Online(Box::new(online));
        Ok(())
    }
}
