//! The records of `__share_group_state` in Kafka's formats: a share partition as a whole, and what changed since.
//!
//! ```text
//!  key type  key                      value
//!   0        group, topic, partition  ShareSnapshot: epochs, start offset, all lines
//!   1        group, topic, partition  ShareUpdate: of the snapshot with that epoch, the lines that changed
//! ```
//! Keys have version 0 and plain lengths; values have version 0, compact lengths and tags. An update only adds to what is
//! before it, so the topic is not compacted: what nobody needs any more is deleted from its front.

use std::sync::Arc;

use bytes::BufMut;
use uuid::Uuid;

use super::lines::{Delivery, StateBatch};
use crate::coordinator::Encoded;
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

const KEY_SNAPSHOT: i16 = 0;
const KEY_UPDATE: i16 = 1;
const VALUE_VERSION: i16 = 0;
const TAG_COMPLETE: u32 = 0;
/// Nobody counted.
const COMPLETE_UNKNOWN: i32 = -1;

/// Which share partition a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareKey {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub partition: i32,
}

/// A share partition as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Rises with every snapshot.
    pub snapshot_epoch: i32,
    /// Rises whenever an administrator sets the offsets.
    pub state_epoch: i32,
    /// Of the topic's partition.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is not done with; -1 before the first read.
    pub start_offset: Offset,
    /// Offsets from the start on that are done with; -1 when nobody counted.
    pub complete_count: i32,
    /// Wall time at which the state began.
    pub created_ms: i64,
    /// Wall time of this record.
    pub written_ms: i64,
    /// Where records stand.
    pub lines: Vec<StateBatch>,
}

impl Snapshot {
    /// Nothing is done with from `end` on, where the log ends: what comes there is other records than those that were.
    pub fn cut_at(&mut self, end: Offset) {
        self.start_offset = self.start_offset.min(end);
        self.lines.retain(|line| line.first < end);
        self.lines.iter_mut().for_each(|line| line.last = line.last.min(end - 1));
        let done = self.lines.iter().filter(|line| line.delivery.is_done());
        let count: u64 = done.map(|line| line.last.abs_diff(line.first) + 1).sum();
        self.complete_count = i32::try_from(count).unwrap_or(i32::MAX);
    }
}

/// What changed in a share partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The snapshot that it adds to.
    pub snapshot_epoch: i32,
    /// Of the topic's partition.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is not done with; -1 when it did not move.
    pub start_offset: Offset,
    /// As in the snapshot.
    pub complete_count: i32,
    /// Where records stand now.
    pub lines: Vec<StateBatch>,
}

/// A record, read. A missing value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The whole.
    Snapshot(ShareKey, Option<Snapshot>),
    /// A change.
    Update(ShareKey, Option<Update>),
    /// Of a type we do not know; stays in the log.
    Unknown,
}

impl Record {
    /// Reads a record; the bytes may be anybody's.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, ReadError> {
        let mut key = Cursor::new(key, false);
        let key_type = key.i16()?;
        if !matches!(key_type, KEY_SNAPSHOT | KEY_UPDATE) {
            return Ok(Self::Unknown);
        }
        let key = ShareKey { group: key.string()?.into(), topic: key.uuid()?, partition: key.i32()? };
        match key_type {
            KEY_SNAPSHOT => Ok(Self::Snapshot(key, value.map(decode_snapshot).transpose()?)),
            _ => Ok(Self::Update(key, value.map(decode_update).transpose()?)),
        }
    }

    /// Writes it; there is nothing to write for a type we do not know.
    pub fn encode(&self) -> Option<Encoded> {
        match self {
            Self::Snapshot(key, value) => {
                Some(Encoded { key: encode_key(KEY_SNAPSHOT, key), value: value.as_ref().map(encode_snapshot) })
            }
            Self::Update(key, value) => {
                Some(Encoded { key: encode_key(KEY_UPDATE, key), value: value.as_ref().map(encode_update) })
            }
            Self::Unknown => None,
        }
    }
}

fn encode_key(key_type: i16, key: &ShareKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + key.group.len());
    out.put_i16(key_type);
    let mut put = Put { out: &mut out, flexible: false };
    put.string(&key.group);
    put.uuid(key.topic);
    put.out.put_i32(key.partition);
    out
}

fn value_cursor(value: &[u8]) -> Result<Cursor<'_>, ReadError> {
    let mut value = Cursor::new(value, true);
    match value.i16()? {
        VALUE_VERSION => Ok(value),
        other => Err(ReadError::Version(other)),
    }
}

fn decode_snapshot(value: &[u8]) -> Result<Snapshot, ReadError> {
    let mut value = value_cursor(value)?;
    let (snapshot_epoch, state_epoch, leader_epoch) = (value.i32()?, value.i32()?, value.i32()?);
    let (start_offset, created_ms, written_ms) = (value.i64()?, value.i64()?, value.i64()?);
    let lines = lines(&mut value)?;
    let complete_count = complete_count(&mut value)?;
    Ok(Snapshot {
        snapshot_epoch,
        state_epoch,
        leader_epoch,
        start_offset,
        complete_count,
        created_ms,
        written_ms,
        lines,
    })
}

fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + snapshot.lines.len() * 20);
    out.put_i16(VALUE_VERSION);
    for epoch in [snapshot.snapshot_epoch, snapshot.state_epoch, snapshot.leader_epoch] {
        out.put_i32(epoch);
    }
    for number in [snapshot.start_offset, snapshot.created_ms, snapshot.written_ms] {
        out.put_i64(number);
    }
    put_lines(&mut out, &snapshot.lines, snapshot.complete_count);
    out
}

fn decode_update(value: &[u8]) -> Result<Update, ReadError> {
    let mut value = value_cursor(value)?;
    let (snapshot_epoch, leader_epoch, start_offset) = (value.i32()?, value.i32()?, value.i64()?);
    let lines = lines(&mut value)?;
    let complete_count = complete_count(&mut value)?;
    Ok(Update { snapshot_epoch, leader_epoch, start_offset, complete_count, lines })
}

fn encode_update(update: &Update) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + update.lines.len() * 20);
    out.put_i16(VALUE_VERSION);
    out.put_i32(update.snapshot_epoch);
    out.put_i32(update.leader_epoch);
    out.put_i64(update.start_offset);
    put_lines(&mut out, &update.lines, update.complete_count);
    out
}

fn lines(value: &mut Cursor<'_>) -> Result<Vec<StateBatch>, ReadError> {
    let line = |value: &mut Cursor<'_>| {
        let (first, last, delivery, count) = (value.i64()?, value.i64()?, value.i8()?, value.i16()?);
        value.skip_tags()?;
        Ok(StateBatch { first, last, delivery: Delivery::from_code(delivery), count })
    };
    (0..value.array(20)?.ok_or(ReadError::Null)?).map(|_| line(value)).collect()
}

/// The lines, and the tags behind them, which end the value.
fn put_lines(out: &mut Vec<u8>, lines: &[StateBatch], complete_count: i32) {
    let mut put = Put { out, flexible: true };
    put.len(Some(lines.len()));
    for line in lines {
        put.out.put_i64(line.first);
        put.out.put_i64(line.last);
        put.out.put_i8(line.delivery.code());
        put.out.put_i16(line.count);
        put.tags(0);
    }
    let counted = complete_count != COMPLETE_UNKNOWN;
    put.tags(u32::from(counted));
    if counted {
        put.tag(TAG_COMPLETE, 4);
        put.out.put_i32(complete_count);
    }
}

fn complete_count(value: &mut Cursor<'_>) -> Result<i32, ReadError> {
    let mut count = COMPLETE_UNKNOWN;
    value.tags(|tag, mut field| {
        if tag == TAG_COMPLETE {
            count = field.i32()?;
        }
        Ok(())
    })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_come_back_as_written() {
        let key = ShareKey { group: "g".into(), topic: Uuid::from_u128(3), partition: 2 };
        let lines = vec![StateBatch { first: 5, last: 9, delivery: Delivery::Archived, count: 3 }];
        let snapshot = Snapshot {
            snapshot_epoch: 1,
            state_epoch: 2,
            leader_epoch: 3,
            start_offset: 4,
            complete_count: 5,
            created_ms: 6,
            written_ms: 7,
            lines: lines.clone(),
        };
        let update = Update { snapshot_epoch: 1, leader_epoch: 3, start_offset: -1, complete_count: -1, lines };
        let records = [
            Record::Snapshot(key.clone(), Some(snapshot)),
            Record::Snapshot(key.clone(), None),
            Record::Update(key.clone(), Some(update)),
            Record::Update(key, None),
        ];
        for record in records {
            let encoded = record.encode().unwrap();
            assert_eq!(Record::decode(&encoded.key, encoded.value.as_deref()), Ok(record));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(key_type in -1i16..3, mut key: Vec<u8>, value: Vec<u8>) {
            key.splice(0..0, key_type.to_be_bytes());
            let _ = Record::decode(&key, Some(&value));
        }
    }
}
