//! Offsets by name and by time, over both tiers.

use std::sync::Arc;

use super::read::{Isolation, ReadError};
use super::{Offsets, Partition};
use crate::log::view::{FileRange, LogView, Mark};
use crate::protocol::record_batch::{BatchView, LeaderEpoch, Offset};
use crate::protocol::records;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// -2: the log start.
    Earliest,
    /// -1: the high watermark, or the last stable offset.
    Latest,
    /// -3: of the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// -4: first offset of the local log (KIP-405).
    EarliestLocal,
    /// -5: last offset in the bucket (KIP-1005).
    LatestTiered,
    /// -6: first offset that is not in the bucket yet (KIP-1023).
    EarliestPendingUpload,
    /// The first record at this time in milliseconds or later.
    Time(i64),
}

/// Kafka's answer to one question; all fields -1 when there is no such record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The offset.
    pub offset: Offset,
    /// The record's time, -1 where the question was not about time.
    pub timestamp: i64,
    /// The leader epoch of that offset, -1 when unknown.
    pub leader_epoch: LeaderEpoch,
}

impl Found {
    /// There is no such record.
    pub const NOTHING: Self = Self { offset: -1, timestamp: -1, leader_epoch: -1 };
}

impl Partition {
    /// Answers one ListOffsets question; only a question about time can touch the bucket.
    pub async fn list_offset(self: &Arc<Self>, spec: OffsetSpec, isolation: Isolation) -> Result<Found, ReadError> {
        let offsets = {
            let mut state = self.lock();
            state.online()?.offsets(self.leader_epoch)
        };
        let end = match isolation {
            Isolation::ReadUncommitted => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable,
        };
        // As Kafka: a record that this reader may not see yet is none, even where an earlier one of a later time is.
        let visible = |found: Found| if found.offset < end { found } else { Found::NOTHING };
        let known = |offset: Offset| Found { offset, timestamp: -1, leader_epoch: self.epoch_of(offset) };
        let tiered = self.topic_config().remote_storage_enable;
        let tiered_end = self.remote_chain().end();
        Ok(match spec {
            OffsetSpec::Latest => Found { offset: end, timestamp: -1, leader_epoch: self.leader_epoch },
            OffsetSpec::Earliest => known(offsets.log_start),
            OffsetSpec::EarliestLocal => known(offsets.local_start),
            OffsetSpec::LatestTiered => match tiered_end {
                Some(end) if tiered => known(end - 1),
                _ => Found::NOTHING,
            },
            OffsetSpec::EarliestPendingUpload => match tiered_end {
                Some(end) if tiered => known(end.max(offsets.log_start)),
                // Nothing was copied yet, so the whole log waits; unless a part of it was local once.
                None if tiered && offsets.local_start == offsets.log_start => known(offsets.log_start),
                _ => Found::NOTHING,
            },
            OffsetSpec::MaxTimestamp => visible(self.at_max_timestamp().await?),
            OffsetSpec::Time(timestamp) => visible(self.at_time(timestamp, offsets).await?),
        })
    }

    fn found(&self, offset: Offset, timestamp: i64) -> Found {
        Found { offset, timestamp, leader_epoch: self.epoch_of(offset) }
    }

    /// Records move from the local log to the bucket, and out of it, while both are asked: what was asked of a tier that
    /// they had left is asked again.
    async fn at_time(self: &Arc<Self>, timestamp: i64, mut offsets: Offsets) -> Result<Found, ReadError> {
        loop {
            let Offsets { log_start, local_start, .. } = offsets;
            if log_start < local_start {
                match self.cold_time(timestamp, log_start, local_start).await {
                    Ok(Some((offset, found))) => return Ok(self.found(offset, found)),
                    Ok(None) => {}
                    // What was deleted meanwhile can be read no more, and is no answer either.
                    Err(_) if self.offsets().log_start > log_start => {
                        offsets = self.offsets();
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let (found, asked_from) = self.off_worker(move |partition| partition.local_at_time(timestamp)).await?;
            if asked_from > local_start {
                offsets = self.offsets();
                continue;
            }
            return Ok(found.map_or(Found::NOTHING, |(offset, timestamp)| self.found(offset, timestamp)));
        }
    }

    /// As [`Partition::at_time`]: what left the log while it was asked for is no answer, and what is left is asked again.
    async fn at_max_timestamp(self: &Arc<Self>) -> Result<Found, ReadError> {
        loop {
            // In this order: what leaves the local log meanwhile is in the bucket already.
            let local = self.off_worker(|partition| partition.local_max_timestamp()).await?;
            let (remote, Offsets { log_start, local_start, .. }) = (self.remote_chain(), self.offsets());
            // Of equal timestamps the first record's is the answer. What both tiers have, the local index knows to the
            // record.
            let largest = remote
                .segments
                .iter()
                .filter(|segment| segment.max_timestamp_offset >= log_start && segment.base_offset < local_start)
                .map(|segment| (segment.max_timestamp_offset, segment.max_timestamp))
                .reduce(|best, next| if next.1 > best.1 { next } else { best });
            let best = match (largest, local) {
                (Some(remote), local) if local.is_none_or(|local| remote.1 >= local.1) => {
                    match self.cold_time(remote.1, log_start, local_start).await {
                        Ok(Some(found)) => Some(found),
                        Ok(None) | Err(_) if self.offsets().log_start > log_start => continue,
                        // A row names the batch by its last offset.
                        Ok(None) => Some(remote),
                        Err(error) => return Err(error),
                    }
                }
                (_, local) => local,
            };
            return Ok(best.map_or(Found::NOTHING, |(offset, timestamp)| self.found(offset, timestamp)));
        }
    }

    /// A lookup reads headers and opens a batch: work for a thread that may block.
    async fn off_worker<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let partition = Arc::clone(self);
        let done = self.shared.disk_reads.run(move || work(&partition)).await;
        done.map_err(|error| ReadError::Storage(error.to_string()))?
    }

    /// The first local record at `timestamp` or later: its offset and its time; and where the local log began then.
    fn local_at_time(&self, timestamp: i64) -> Result<(Option<(Offset, i64)>, Offset), ReadError> {
        let (view, upto, local_start) = self.local_moment()?;
        let mut from = local_start;
        let max_decompressed = self.topic_config().record_decompressed_max_bytes;
        while let Some(range) = view.find_time(timestamp, from, &upto)? {
            let batch = load(&range)?;
            if let Some(found) = find_in(&batch, timestamp, from, max_decompressed) {
                return Ok((Some(found), local_start));
            }
            // A batch that says it has such a record and has none (or cannot be opened) is skipped.
            let Ok((header, _)) = BatchView::header_only(&batch) else { break };
            from = header.next_offset();
        }
        Ok((None, local_start))
    }

    /// The local record with the largest timestamp.
    fn local_max_timestamp(&self) -> Result<Option<(Offset, i64)>, ReadError> {
        let (view, upto, from) = self.local_moment()?;
        let mut largest = match view.max_timestamp() {
            None => return Ok(None),
            Some(largest) => largest,
        };
        if largest.offset >= upto.offset || largest.offset < from {
            // The indexes speak of what is not visible: the headers of what is decide.
            match view.max_timestamp_within(from, &upto)? {
                None => return Ok(None),
                Some(visible) => largest = visible,
            }
        }
        let Some(range) = view.batch_at(largest.offset)? else { return Ok(None) };
        let max_decompressed = self.topic_config().record_decompressed_max_bytes;
        let found = find_in(&load(&range)?, largest.timestamp, from, max_decompressed);
        // A batch that cannot be opened is named by its last offset, as its index entry does.
        Ok(Some(found.unwrap_or((largest.offset, largest.timestamp))))
    }

    fn local_moment(&self) -> Result<(Arc<LogView>, Mark, Offset), ReadError> {
        let mut state = self.lock();
        let online = state.online()?;
        Ok((Arc::clone(online.log.view()), online.high_watermark, online.local_start()))
    }
}

fn load(range: &FileRange) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0; range.len as usize];
    range.file.read_exact_at(&mut bytes, range.position).map_err(|error| ReadError::Storage(error.to_string()))?;
    Ok(bytes)
}

/// The first record of `batches` (whole ones) at `timestamp` or later, at or behind `from`. Batches that cannot be
/// opened, or only beyond `max_decompressed` bytes, are skipped.
pub(super) fn find_in(batches: &[u8], timestamp: i64, from: Offset, max_decompressed: u64) -> Option<(Offset, i64)> {
    let mut rest = batches;
    while let Ok((batch, behind)) = BatchView::split_first(rest) {
        rest = behind;
        if batch.max_timestamp() < timestamp || batch.last_offset() < from {
            continue;
        }
        match records::records(&batch, max_decompressed) {
            Ok(opened) => {
                let mut readable = opened.iter().map_while(Result::ok);
                if let Some(found) = readable.find(|record| record.timestamp >= timestamp && record.offset >= from) {
                    return Some((found.offset, found.timestamp));
                }
            }
            Err(error) => {
                tracing::debug!(base_offset = batch.base_offset(), %error, "batch skipped by a lookup by time");
            }
        }
    }
    None
}
