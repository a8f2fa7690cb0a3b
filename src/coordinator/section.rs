//! The state of a coordinator's shards in a metadata snapshot: for each shard partition i32, next offset i64, number of
//! records u32; for each record key and value, each with a length u32. All big-endian. Everything below the next offset of
//! a shard is in its records.

use bytes::{Buf, BufMut, BytesMut};

use super::state::Encoded;
use crate::protocol::record_batch::Offset;

/// One shard at the moment of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSection {
    /// Its partition of the internal topic.
    pub partition: i32,
    /// Behind the last record that its state has.
    pub next_offset: Offset,
    /// Records that rebuild the state, in no order.
    pub records: Vec<Encoded>,
}

/// The section cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the section of a coordinator is cut short")]
pub struct CutShort;

impl ShardSection {
    /// Appends its bytes; `None` when there is too much for the lengths.
    pub fn encode(&self, out: &mut BytesMut) -> Option<()> {
        out.put_i32(self.partition);
        out.put_i64(self.next_offset);
        out.put_u32(u32::try_from(self.records.len()).ok()?);
        for record in &self.records {
            for bytes in [&record.key[..], record.value.as_deref().unwrap_or_default()] {
                out.put_u32(u32::try_from(bytes.len()).ok()?);
                out.put_slice(bytes);
            }
        }
        Some(())
    }

    /// All shards of a section. A snapshot has no tombstones, so that every record has a value.
    pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Self>, CutShort> {
        let mut shards = Vec::new();
        while !bytes.is_empty() {
            let partition = bytes.try_get_i32().map_err(|_| CutShort)?;
            let next_offset = bytes.try_get_i64().map_err(|_| CutShort)?;
            let count = bytes.try_get_u32().map_err(|_| CutShort)?;
            let mut records = Vec::new();
            for _ in 0..count {
                let (key, value) = (take(&mut bytes)?, take(&mut bytes)?);
                records.push(Encoded { key, value: Some(value) });
            }
            shards.push(Self { partition, next_offset, records });
        }
        Ok(shards)
    }
}

fn take(bytes: &mut &[u8]) -> Result<Vec<u8>, CutShort> {
    let length = bytes.try_get_u32().map_err(|_| CutShort)? as usize;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(CutShort)?;
    *bytes = rest;
    Ok(taken.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shards_come_back_as_written(
            shards in proptest::collection::vec(
                (any::<i32>(), any::<i64>(), proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..4)), 0..4,
            ),
            cut: prop::sample::Index,
        ) {
            let record = |(key, value)| Encoded { key, value: Some(value) };
            let shards: Vec<_> = shards
                .into_iter()
                .map(|(partition, next_offset, records)| ShardSection {
                    partition,
                    next_offset,
                    records: records.into_iter().map(record).collect(),
                })
                .collect();
            let mut out = BytesMut::new();
            shards.iter().for_each(|shard| shard.encode(&mut out).expect("small"));
            let cut = &out[..cut.index(out.len() + 1)];
            let read = ShardSection::decode_all(cut);
            prop_assert!(read.is_err() || shards.starts_with(&read.expect("checked")));
            prop_assert_eq!(ShardSection::decode_all(&out), Ok(shards));
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let _ = ShardSection::decode_all(&bytes);
        }
    }
}
