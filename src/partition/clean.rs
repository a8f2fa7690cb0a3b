//! Compaction of one partition: when a round is due, and how its result takes the place of segments that are read.
//!
//! Rounds run on the node's one cleaning thread. A reader that holds an older view keeps the files it was shown: the
//! replaced segments hold on to their descriptors before their names go to others. While a clean takes their place,
//! nothing else removes files of the partition ([`Partition::maintenance`]).

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::due::Work;
use super::read::ReadError;
use super::{Partition, State};
use crate::config::topic::TopicConfig;
use crate::log::cleaner::{
    self, CleanError, Cleaned, Ends, KeyMap, Layout, Rules, SealedSegment, Source, TransactionWalk,
};
use crate::log::segment::Segment;
use crate::protocol::record_batch::Offset;
use crate::wal::ticket::Rejected;

impl From<CleanError> for ReadError {
    fn from(error: CleanError) -> Self {
        Self::Storage(error.to_string())
    }
}

fn storage(error: std::io::Error) -> ReadError {
    ReadError::Storage(error.to_string())
}

impl Partition {
    /// Held by whoever removes or replaces files of sealed segments, before the partition's lock. It guards no memory,
    /// so a panic under it spoils nothing.
    pub(super) fn maintenance(&self) -> MutexGuard<'_, ()> {
        self.maintenance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes a look at the partition to the cleaning thread, once.
    pub(super) fn schedule_clean(&self, config: &TopicConfig, now_ms: i64) {
        if config.cleanup_policy.compact && !self.clean_due.swap(true, Ordering::Relaxed) {
            let at_ms = now_ms.saturating_add(self.shared.settings.tuning.get().cleaner_backoff_ms);
            self.shared.cleaning.push(at_ms, Work::Clean(self.id));
        }
    }

    /// `log.cleaner.dedupe.buffer.size`: bytes that a round may take for keys.
    pub fn cleaning_memory(&self) -> usize {
        usize::try_from(self.shared.settings.tuning.get().cleaner_map_bytes).unwrap_or(usize::MAX)
    }

    /// One round of compaction, if it is worth its I/O. Blocks.
    pub(super) fn clean(&self, now_ms: i64) -> Result<(), ReadError> {
        let config = self.topic_config();
        self.clean_due.store(false, Ordering::Relaxed);
        let (view, cleaned_end, settled, log_start) = {
            let mut state = self.lock();
            let online = state.online()?;
            // Only what survives a power loss is rewritten: a scan never meets a gap that cleaning made.
            // And only what is decided: the high watermark is never below the last stable offset.
            let settled = online.stable.offset.min(online.log.flushed());
            (online.log.view().clone(), online.cleaned_end, settled, online.log_start)
        };
        self.schedule_clean(&config, now_ms);
        // What was copied stays as it is: the tier has the same records, and its end always lies between two segments.
        let copied_to = self.copied_or_copying();
        let segments: Vec<_> = view.sealed().skip_while(|(segment, _)| segment.base() < copied_to).collect();
        let facts: Vec<_> = segments.iter().map(|(segment, next)| facts_of(segment, *next)).collect();
        let active_bytes = view.segments().last().map_or(0, |active| active.size());
        let Some(plan) = cleaner::plan(&config, now_ms, cleaned_end, settled, &facts, active_bytes) else {
            return Ok(());
        };

        let cleanable = facts.partition_point(|segment| segment.next <= plan.upto);
        let sources = segments[..cleanable].iter().map(|(segment, next)| source_of(segment, *next));
        let sources: Vec<_> = sources.collect::<Result<_, _>>().map_err(storage)?;
        let proceed = || self.offline_reason().is_none();
        let met = TransactionWalk::new(view.aborted(plan.from, plan.upto)?);
        let map = KeyMap::build(
            &sources,
            plan.from,
            self.cleaning_memory(),
            config.record_decompressed_max_bytes,
            met,
            &proceed,
        )?;
        let copies = config.takes_copies();
        let sees_all = !copies && facts.first().is_some_and(|first| first.base <= log_start);
        let rules = Rules {
            map: &map,
            now_ms,
            delete_retention_ms: config.delete_retention_ms,
            decompressed_max_bytes: config.record_decompressed_max_bytes,
            sees_all,
            ends: if sees_all { Ends::OfRound } else { Ends::OfSegments },
        };
        let mapped = facts[..cleanable].partition_point(|segment| segment.base < map.end());
        let mut met = match facts[..mapped].first().zip(facts[..mapped].last()) {
            Some((first, last)) => TransactionWalk::new(view.aborted(first.base, last.next)?),
            None => TransactionWalk::default(),
        };
        for group in cleaner::groups(&config, &facts[..mapped]) {
            if !self.clean_group(&sources[group], &rules, &mut met, &config, &proceed)? {
                // A copy of it is on its way, older values included. A tombstone behind it may not go in this round.
                return Ok(());
            }
        }
        if let Ok(online) = self.lock().online() {
            online.cleaned_end = map.end();
            self.mark_changed(online);
            if config.remote_storage_enable
                && let Some(listener) = self.shared.on_roll.get()
            {
                // Copies have waited for it.
                listener(self.id);
            }
        }
        Ok(())
    }

    /// The offset below which no local segment may be rewritten: it is in the tier, or on its way.
    fn copied_or_copying(&self) -> Offset {
        // In this order: what has arrived meanwhile is in the chain before it is let go of.
        let copying = self.copying.upto();
        copying.max(self.remote_chain().end().unwrap_or(Offset::MIN))
    }

    /// False when its segments are being copied by now and stay as they are.
    fn clean_group(
        &self,
        sources: &[Source],
        rules: &Rules<'_>,
        met: &mut TransactionWalk,
        config: &TopicConfig,
        proceed: &dyn Fn() -> bool,
    ) -> Result<bool, ReadError> {
        let directory = self.log_directory();
        let (fs, path) = (&directory.fs, &directory.path);
        let layout = Layout {
            index_interval_bytes: config.index_interval_bytes,
            segment_index_bytes: config.segment_index_bytes,
        };
        let mut cleaned = cleaner::clean_group(fs, path, sources, rules, met, &layout, proceed)?;
        let _maintenance = self.maintenance();
        if cleaned.base < self.copied_or_copying() {
            return Ok(false);
        }
        let first_gone = self.view()?.segments().first().is_none_or(|first| first.base() > cleaned.base);
        let has_moved = self.log_directory().path != *path;
        if cleaned.stats.changed_batches == 0 && sources.len() == 1 || first_gone || has_moved {
            // Nothing to gain, or retention or a move was faster: the next round's file takes the place of this one.
            return Ok(true);
        }
        if config.flush_messages == Some(1) {
            // A replay of the write-ahead log leaves out what lies below the flushed end that the checkpoint holds.
            self.dir().checkpoint_now(self).map_err(storage)?;
        }
        cleaned.commit(fs, path).map_err(storage)?;
        self.install(&mut cleaned)?;
        cleaned.sweep(fs, path).map_err(storage)?;
        let stats = cleaned.stats;
        tracing::debug!(
            topic = %self.topic, partition = self.id.partition, base = cleaned.base, next = cleaned.next,
            read_bytes = stats.read_bytes, written_bytes = stats.written_bytes, bad_batches = stats.bad_batches,
            "segments compacted"
        );
        Ok(true)
    }

    /// Gives the cleaned segment its name and shows it to readers, in one step under the lock.
    fn install(&self, cleaned: &mut Cleaned) -> Result<(), ReadError> {
        let mut state = self.lock();
        let online = state.online()?;
        let directory = online.log.directory().clone();
        let installed = online
            .log
            .retire(&cleaned.replaced)
            .and_then(|()| cleaned.install(&directory.fs, &directory.path))
            .map(|()| online.log.replace(cleaned));
        if let Err(error) = installed {
            tracing::error!(
                topic = %self.topic, partition = self.id.partition, %error,
                "compacted segment not installed; the partition is offline until the next start"
            );
            state.leave(State::Offline(error.to_string()), Rejected::Storage);
            return Err(storage(error));
        }
        self.mark_changed(online);
        Ok(())
    }
}

fn facts_of(segment: &Arc<Segment>, next: Offset) -> SealedSegment {
    SealedSegment {
        base: segment.base(),
        next,
        size_bytes: segment.size(),
        index_bytes: segment.index_bytes(),
        first_ms: segment.first_timestamp().ok().flatten().filter(|first| *first >= 0),
        newest_ms: segment.largest_timestamp().timestamp,
    }
}

fn source_of(segment: &Arc<Segment>, next: Offset) -> std::io::Result<Source> {
    Ok(Source { base: segment.base(), next, file: segment.file()?, len: segment.size() })
}
