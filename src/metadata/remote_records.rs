//! The rows of `meta.redb` for remote segments: compact, since there is one per object. All numbers big-endian.
//!
//! ```text
//! partition key   topic id 16 | partition i32
//! partition row   version u8 | generation u64 | leader epoch i32 | log start i64
//! segment key     partition key | base offset i64 | uuid 16           sorts by partition and base offset
//! segment row     version u8 | state u8 | marked at ms i64 | last offset i64 | copy epoch i32 | log bytes u64
//!                 | object bytes u64 | first timestamp i64 | max timestamp i64 | its offset i64
//!                 | count u32 of epochs, each: epoch i32, first offset i64
//! ```

use uuid::Uuid;

use super::image::PartitionId;
use super::records::BadRow;
use super::remote_log::{RemoteSegment, SegmentState};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

const VERSION: u8 = 1;
/// Bytes of a partition's key.
pub(super) const PARTITION_KEY_BYTES: usize = 20;
/// Bytes of a segment's key.
pub(super) const SEGMENT_KEY_BYTES: usize = PARTITION_KEY_BYTES + 24;

/// What is kept once per partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartitionRow {
    /// Rises by one with every change.
    pub generation: u64,
    /// Highest leader epoch that changed it.
    pub leader_epoch: LeaderEpoch,
    /// Durable log start; -1 when never set.
    pub log_start: Offset,
}

impl Default for PartitionRow {
    fn default() -> Self {
        Self { generation: 0, leader_epoch: -1, log_start: -1 }
    }
}

/// The key of a partition, and of its segments' first bytes.
pub(super) fn partition_key(id: PartitionId) -> [u8; PARTITION_KEY_BYTES] {
    let mut key = [0; PARTITION_KEY_BYTES];
    key[..16].copy_from_slice(id.topic.as_bytes());
    key[16..].copy_from_slice(&id.partition.to_be_bytes());
    key
}

/// The partition of a key.
pub(super) fn decode_partition_key(key: &[u8]) -> Result<PartitionId, BadRow> {
    let mut fields = Fields(key);
    let id = PartitionId { topic: fields.uuid()?, partition: i32::from_be_bytes(fields.take()?) };
    fields.end()?;
    Ok(id)
}

/// The key of a segment.
pub(super) fn segment_key(id: PartitionId, base_offset: Offset, uuid: Uuid) -> [u8; SEGMENT_KEY_BYTES] {
    let mut key = [0; SEGMENT_KEY_BYTES];
    key[..20].copy_from_slice(&partition_key(id));
    key[20..28].copy_from_slice(&base_offset.to_be_bytes());
    key[28..].copy_from_slice(uuid.as_bytes());
    key
}

/// The row of a partition.
pub(super) fn encode_partition(row: &PartitionRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(21);
    out.push(VERSION);
    out.extend(row.generation.to_be_bytes());
    out.extend(row.leader_epoch.to_be_bytes());
    out.extend(row.log_start.to_be_bytes());
    out
}

/// The partition of a row.
pub(super) fn decode_partition(bytes: &[u8]) -> Result<PartitionRow, BadRow> {
    let mut fields = Fields(bytes);
    fields.version()?;
    let row = PartitionRow {
        generation: u64::from_be_bytes(fields.take()?),
        leader_epoch: i32::from_be_bytes(fields.take()?),
        log_start: i64::from_be_bytes(fields.take()?),
    };
    fields.end()?;
    Ok(row)
}

/// The row of a segment; base offset and uuid are in its key.
pub(super) fn encode_segment(segment: &RemoteSegment) -> Vec<u8> {
    let (state, marked_at) = match segment.state {
        SegmentState::CopyStarted => (0, 0),
        SegmentState::CopyFinished => (1, 0),
        SegmentState::DeleteStarted { at_ms } => (2, at_ms),
    };
    let mut out = Vec::with_capacity(66 + 12 * segment.epochs.len());
    out.extend([VERSION, state]);
    out.extend(marked_at.to_be_bytes());
    out.extend(segment.last_offset.to_be_bytes());
    out.extend(segment.copy_epoch.to_be_bytes());
    out.extend(segment.log_bytes.to_be_bytes());
    out.extend(segment.object_bytes.to_be_bytes());
    out.extend(segment.first_timestamp.to_be_bytes());
    out.extend(segment.max_timestamp.to_be_bytes());
    out.extend(segment.max_timestamp_offset.to_be_bytes());
    out.extend(u32::try_from(segment.epochs.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (epoch, first_offset) in &segment.epochs {
        out.extend(epoch.to_be_bytes());
        out.extend(first_offset.to_be_bytes());
    }
    out
}

/// The segment of a key and its row.
pub(super) fn decode_segment(key: &[u8], bytes: &[u8]) -> Result<RemoteSegment, BadRow> {
    let mut key = Fields(key);
    key.take::<PARTITION_KEY_BYTES>()?;
    let (base_offset, uuid) = (i64::from_be_bytes(key.take()?), key.uuid()?);
    key.end()?;

    let mut fields = Fields(bytes);
    fields.version()?;
    let [state] = fields.take()?;
    let at_ms = i64::from_be_bytes(fields.take()?);
    let state = match state {
        0 => SegmentState::CopyStarted,
        1 => SegmentState::CopyFinished,
        2 => SegmentState::DeleteStarted { at_ms },
        other => return Err(BadRow::Damaged(format!("segment state {other}"))),
    };
    let mut segment = RemoteSegment {
        uuid,
        base_offset,
        last_offset: i64::from_be_bytes(fields.take()?),
        copy_epoch: i32::from_be_bytes(fields.take()?),
        log_bytes: u64::from_be_bytes(fields.take()?),
        object_bytes: u64::from_be_bytes(fields.take()?),
        first_timestamp: i64::from_be_bytes(fields.take()?),
        max_timestamp: i64::from_be_bytes(fields.take()?),
        max_timestamp_offset: i64::from_be_bytes(fields.take()?),
        epochs: Vec::new(),
        state,
    };
    let count = u32::from_be_bytes(fields.take()?) as usize;
    if fields.0.len() != count.saturating_mul(12) {
        return Err(BadRow::Damaged(format!("{count} epochs in {} bytes", fields.0.len())));
    }
    for _ in 0..count {
        segment.epochs.push((i32::from_be_bytes(fields.take()?), i64::from_be_bytes(fields.take()?)));
    }
    Ok(segment)
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadRow> {
        let (field, rest) =
            self.0.split_first_chunk::<N>().ok_or_else(|| BadRow::Damaged("row is cut short".to_owned()))?;
        self.0 = rest;
        Ok(*field)
    }

    fn version(&mut self) -> Result<(), BadRow> {
        match self.take()? {
            [VERSION] => Ok(()),
            [0] => Err(BadRow::Damaged("version 0".to_owned())),
            [newer] => Err(BadRow::Newer(newer.into())),
        }
    }

    fn uuid(&mut self) -> Result<Uuid, BadRow> {
        Ok(Uuid::from_bytes(self.take()?))
    }

    fn end(&self) -> Result<(), BadRow> {
        if self.0.is_empty() { Ok(()) } else { Err(BadRow::Damaged(format!("{} bytes too many", self.0.len()))) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments() -> impl Strategy<Value = RemoteSegment> {
        let state = prop_oneof![
            Just(SegmentState::CopyStarted),
            Just(SegmentState::CopyFinished),
            any::<i64>().prop_map(|at_ms| SegmentState::DeleteStarted { at_ms }),
        ];
        let numbers = (any::<u128>(), any::<[i64; 5]>(), any::<i32>(), any::<[u64; 2]>());
        (numbers, proptest::collection::vec(any::<(i32, i64)>(), 0..6), state).prop_map(
            |((uuid, i, copy_epoch, u), epochs, state)| RemoteSegment {
                uuid: Uuid::from_u128(uuid),
                base_offset: i[0],
                last_offset: i[1],
                copy_epoch,
                log_bytes: u[0],
                object_bytes: u[1],
                first_timestamp: i[2],
                max_timestamp: i[3],
                max_timestamp_offset: i[4],
                epochs,
                state,
            },
        )
    }

    proptest! {
        #[test]
        fn segments_come_back_as_written(segment in segments(), topic: u128, partition: i32) {
            let id = PartitionId { topic: Uuid::from_u128(topic), partition };
            let key = segment_key(id, segment.base_offset, segment.uuid);
            prop_assert_eq!(decode_partition_key(&key[..PARTITION_KEY_BYTES]), Ok(id));
            prop_assert_eq!(decode_segment(&key, &encode_segment(&segment)), Ok(segment));
        }

        #[test]
        fn a_cut_or_longer_row_is_refused(segment in segments(), cut in 0usize..70) {
            let id = PartitionId { topic: Uuid::nil(), partition: 0 };
            let key = segment_key(id, segment.base_offset, segment.uuid);
            let mut row = encode_segment(&segment);
            row.push(0);
            prop_assert!(decode_segment(&key, &row).is_err());
            prop_assert!(decode_segment(&key, &row[..cut.min(row.len() - 2)]).is_err());
        }

        #[test]
        fn any_bytes_are_refused_or_read(
            key in proptest::collection::vec(any::<u8>(), 0..64), row in proptest::collection::vec(any::<u8>(), 0..160),
        ) {
            let _ = decode_segment(&key, &row);
            let _ = decode_partition(&row);
            let _ = decode_partition_key(&key);
        }

        #[test]
        fn partitions_come_back_as_written(generation: u64, leader_epoch: i32, log_start: i64) {
            let row = PartitionRow { generation, leader_epoch, log_start };
            prop_assert_eq!(decode_partition(&encode_partition(&row)), Ok(row));
        }
    }
}
