//! What the job that copies, expires and restores needs of a partition.

use std::io;
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
}

impl Partition {
    /// The local segments; none while its files cannot be used.
    pub fn local_info(&self) -> LocalInfo {
        let Ok(view) = self.view() else { return LocalInfo::default() };
        let first = |segment: &Arc<Segment>| segment.first_timestamp().ok().flatten();
        let sealed = view.sealed().map(|(segment, next_offset)| SealedInfo {
            base_offset: segment.base(),
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
        }
    }

    /// Is its topic compacted, or was a part of its log ever?
    pub fn was_compacted(&self) -> bool {
        let compacted = self.lock().online().is_ok_and(|online| online.cleaned_end > 0);
        compacted || self.topic_config().cleanup_policy.compact
    }

    /// Opens the sealed segment that begins at `base_offset`. Blocks.
    pub fn open_sealed(&self, base_offset: Offset) -> io::Result<SealedParts> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let view = self.view().map_err(|_| gone())?;
        let (segment, next) = view.sealed().find(|(segment, _)| segment.base() == base_offset).ok_or_else(gone)?;
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
        let log_start = match &*state {
            State::Online(online) => online.log_start,
            State::Behind { log_start, .. } => *log_start,
            State::Offline(_) | State::Unopened(_) => start,
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
        online.settle_stable();
        let starts = epochs.iter().map(|&(epoch, start_offset)| EpochStart { epoch, start_offset });
        *online.log.epochs_mut() = EpochCache::from_entries(starts);
        online.settle_log_start(&chain);
        self.mark_changed(&mut online);
        self.schedule_upkeep_in(&mut online);
        *state = State::Online(Box::new(online));
        Ok(())
    }

    /// Stops serving, with a line for the operator: what is stored contradicts itself.
    pub fn set_offline(&self, why: &str) {
        tracing::error!(topic = %self.topic, partition = self.id.partition, why, "partition is offline");
        let mut state = self.raw();
        self.skip_opening(&state);
        state.leave(State::Offline(why.to_owned()), Rejected::Storage);
        drop(state);
        self.waiters.wake_all();
    }
}
