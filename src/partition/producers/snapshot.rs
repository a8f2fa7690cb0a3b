//! A producer table as bytes: Kafka's `.snapshot` file, and the fuller form that the broker's checkpoint carries.
//!
//! ```text
//! snapshot: 0 version i16 (1) | 2 CRC-32C u32 of all behind it | 6 count i32 | entries of 46 bytes:
//!   0 producer id i64 | 8 epoch i16 | 10 last sequence i32 | 14 last offset i64 | 22 last offset minus first i32
//!   26 timestamp i64 | 34 coordinator epoch i32 | 38 first offset of the running transaction i64
//! changes: 0 version u8 (2) | 1 count u32 | entries of 39 bytes and 24 per batch, at most five, oldest first:
//!   0 producer id i64 | 8 epoch i16 | 10 coordinator epoch i32 | 14 first offset of the running transaction i64
//!   22 offset of its last batch or marker i64 | 30 timestamp i64 | 38 number of batches u8
//!   | batches: last sequence i32, last offset i64, offset delta i32, timestamp i64
//! ```
//! All numbers are big-endian. The changes carry no CRC: the checkpoint around them does.

use bytes::{Buf, BufMut};

use super::{BATCHES_KEPT, Producer, ProducerTable, Written};
use crate::protocol::record_batch::{Offset, ProducerId};

const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEADER_BYTES: usize = 10;
const SNAPSHOT_CRC_FROM: usize = 6;
const SNAPSHOT_ENTRY_BYTES: usize = 46;
const CHANGES_VERSION: u8 = 2;
const CHANGES_ENTRY_BYTES: usize = 39;
const CHANGES_BATCH_BYTES: usize = 24;

/// Why bytes are not a producer table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another version than we know.
    #[error("version {0} is unknown")]
    Version(i16),
    /// The length disagrees with the number of entries.
    #[error("length disagrees with the number of entries")]
    Length,
    /// The CRC disagrees.
    #[error("crc is {found:08x}, header says {expected:08x}")]
    Crc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// A field holds what it never can.
    #[error("entry of producer {0} is impossible")]
    Entry(ProducerId),
}

/// One entry of a `.snapshot` file, in the file's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// Its last sequence, -1 without a batch.
    pub last_sequence: i32,
    /// The offset of its last record, -1 without a batch.
    pub last_offset: Offset,
    /// Last offset minus first of its last batch.
    pub offset_delta: i32,
    /// The largest timestamp of its last batch.
    pub timestamp: i64,
    /// Epoch of the transaction coordinator that wrote the last marker, -1 without.
    pub coordinator_epoch: i32,
    /// First offset of the running transaction, -1 without.
    pub txn_first_offset: Offset,
}

/// All entries of a `.snapshot` file.
pub fn read_snapshot(bytes: &[u8]) -> Result<Vec<SnapshotEntry>, SnapshotError> {
    if bytes.len() < SNAPSHOT_HEADER_BYTES {
        return Err(SnapshotError::Length);
    }
    let mut at = bytes;
    let version = at.get_i16();
    if version != SNAPSHOT_VERSION {
        return Err(SnapshotError::Version(version));
    }
    let (expected, found) = (at.get_u32(), crc32c::crc32c(&bytes[SNAPSHOT_CRC_FROM..]));
    if expected != found {
        return Err(SnapshotError::Crc { expected, found });
    }
    let count = usize::try_from(at.get_i32()).map_err(|_| SnapshotError::Length)?;
    let (entries, rest) = at.as_chunks::<SNAPSHOT_ENTRY_BYTES>();
    if entries.len() != count || !rest.is_empty() {
        return Err(SnapshotError::Length);
    }
    entries.iter().map(|entry| read_entry(entry)).collect()
}

fn read_entry(mut at: &[u8]) -> Result<SnapshotEntry, SnapshotError> {
    let entry = SnapshotEntry {
        producer_id: at.get_i64(),
        epoch: at.get_i16(),
        last_sequence: at.get_i32(),
        last_offset: at.get_i64(),
        offset_delta: at.get_i32(),
        timestamp: at.get_i64(),
        coordinator_epoch: at.get_i32(),
        txn_first_offset: at.get_i64(),
    };
    if entry.producer_id < 0 || entry.offset_delta < 0 {
        return Err(SnapshotError::Entry(entry.producer_id));
    }
    Ok(entry)
}

impl ProducerTable {
    /// The table as the content of Kafka's `<next offset>.snapshot`: the last batch of each producer, sorted by id.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self.producers.iter().collect();
        entries.sort_unstable_by_key(|(id, _)| **id);
        let mut bytes = Vec::with_capacity(SNAPSHOT_HEADER_BYTES + entries.len() * SNAPSHOT_ENTRY_BYTES);
        bytes.put_i16(SNAPSHOT_VERSION);
        bytes.put_u32(0);
        bytes.put_i32(entries.len() as i32);
        for (&id, producer) in entries {
            let none = Written { last_sequence: -1, last_offset: -1, offset_delta: 0, timestamp: 0 };
            let last = producer.last().copied().unwrap_or(none);
            bytes.put_i64(id);
            bytes.put_i16(producer.epoch);
            bytes.put_i32(last.last_sequence);
            bytes.put_i64(last.last_offset);
            bytes.put_i32(last.offset_delta);
            bytes.put_i64(producer.last_timestamp);
            bytes.put_i32(producer.coordinator_epoch);
            bytes.put_i64(producer.txn_first_offset);
        }
        let crc = crc32c::crc32c(&bytes[SNAPSHOT_CRC_FROM..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// The table that a `.snapshot` file holds. Whoever loads one calls [`ProducerTable::loaded_at`] next.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut table = Self::default();
        for entry in read_snapshot(bytes)? {
            let mut producer = Producer::new(entry.epoch);
            if entry.last_offset >= 0 {
                producer.add(Written {
                    last_sequence: entry.last_sequence,
                    last_offset: entry.last_offset,
                    offset_delta: entry.offset_delta,
                    timestamp: entry.timestamp,
                });
            }
            producer.last_timestamp = entry.timestamp;
            producer.coordinator_epoch = entry.coordinator_epoch;
            producer.txn_first_offset = entry.txn_first_offset;
            // A snapshot repeats what it was loaded from only when the producer writes again.
            producer.touched = -1;
            table.producers.insert(entry.producer_id, producer);
        }
        table.find_transactions();
        Ok(table)
    }

    /// The producers that wrote or got a marker at or behind `since` (where the last snapshot was taken), with all that is known of
    /// them. `None` when that is more than `max_bytes`: a new snapshot is then the cheaper thing to write.
    pub fn changes_since(&self, since: Offset, max_bytes: usize) -> Option<Vec<u8>> {
        let changed = |producer: &Producer| producer.touched >= since.max(0);
        let mut bytes = vec![CHANGES_VERSION, 0, 0, 0, 0];
        let mut count = 0u32;
        for (&id, producer) in self.producers.iter().filter(|(_, producer)| changed(producer)) {
            count += 1;
            bytes.put_i64(id);
            bytes.put_i16(producer.epoch);
            bytes.put_i32(producer.coordinator_epoch);
            bytes.put_i64(producer.txn_first_offset);
            bytes.put_i64(producer.touched);
            bytes.put_i64(producer.last_timestamp);
            bytes.put_u8(producer.kept);
            for batch in producer.batches() {
                bytes.put_i32(batch.last_sequence);
                bytes.put_i64(batch.last_offset);
                bytes.put_i32(batch.offset_delta);
                bytes.put_i64(batch.timestamp);
            }
            if bytes.len() > max_bytes {
                return None;
            }
        }
        bytes[1..5].copy_from_slice(&count.to_be_bytes());
        Some(bytes)
    }

    /// Puts what [`ProducerTable::changes_since`] gave over a table that was loaded from the snapshot before it.
    /// An error leaves the table as it was.
    pub fn apply_changes(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let changes = read_changes(bytes)?;
        self.producers.extend(changes);
        self.find_transactions();
        Ok(())
    }
}

fn read_changes(mut at: &[u8]) -> Result<Vec<(ProducerId, Producer)>, SnapshotError> {
    let version = at.try_get_u8().map_err(|_| SnapshotError::Length)?;
    if version != CHANGES_VERSION {
        return Err(SnapshotError::Version(version.into()));
    }
    let count = at.try_get_u32().map_err(|_| SnapshotError::Length)?;
    let mut changes = Vec::new();
    for _ in 0..count {
        if at.len() < CHANGES_ENTRY_BYTES {
            return Err(SnapshotError::Length);
        }
        let id = at.get_i64();
        let mut producer = Producer::new(at.get_i16());
        producer.coordinator_epoch = at.get_i32();
        producer.txn_first_offset = at.get_i64();
        let touched = at.get_i64();
        let last_timestamp = at.get_i64();
        let batches = usize::from(at.get_u8());
        if id < 0 || batches > BATCHES_KEPT {
            return Err(SnapshotError::Entry(id));
        }
        if at.len() < batches * CHANGES_BATCH_BYTES {
            return Err(SnapshotError::Length);
        }
        for _ in 0..batches {
            let batch = Written {
                last_sequence: at.get_i32(),
                last_offset: at.get_i64(),
                offset_delta: at.get_i32(),
                timestamp: at.get_i64(),
            };
            if batch.last_offset < 0 || batch.offset_delta < 0 {
                return Err(SnapshotError::Entry(id));
            }
            producer.add(batch);
        }
        producer.last_timestamp = last_timestamp;
        producer.touched = touched;
        changes.push((id, producer));
    }
    if at.is_empty() { Ok(changes) } else { Err(SnapshotError::Length) }
}
