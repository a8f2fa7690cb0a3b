//! The bytes of roots and leaves.
//!
//! ```text
//! magic "TRCROOT1" or "TRCLEAF1" | version u16 | reserved u16 (0) | CRC-32C u32 over all that follows | sections
//! ```

use uuid::Uuid;

use super::{LeafRef, ManifestEntry, Root};
use crate::cursor::{Cursor, Malformed, Put};
use crate::sections;

const ROOT_MAGIC: [u8; 8] = *b"TRCROOT1";
const LEAF_MAGIC: [u8; 8] = *b"TRCLEAF1";
const VERSION: u16 = 1;
const HEAD_LEN: usize = 16;

const ROOT_FACTS: u16 = 1;
const ENTRIES: u16 = 2;
const LEAVES: u16 = 3;
const CLEANED: u16 = 4;

/// Bytes that an entry takes at least.
const ENTRY_MIN: usize = 16 + 9;
const LEAF_LEN: usize = 8 + 8 + 16 + 4 + 4;

/// Why bytes are not a root or leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They end too early or contradict themselves.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A CRC does not match.
    #[error("CRC does not match")]
    Crc,
    /// Written by a later version with another layout.
    #[error("version {0} is newer than this program")]
    Version(u16),
}

impl From<Malformed> for FormatError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

impl From<sections::SectionError> for FormatError {
    fn from(error: sections::SectionError) -> Self {
        match error {
            sections::SectionError::Short => Self::Malformed("section"),
            sections::SectionError::Crc(_) => Self::Crc,
        }
    }
}

/// The bytes of a root.
pub fn encode_root(root: &Root) -> Vec<u8> {
    let mut facts = Vec::with_capacity(96);
    facts.extend_from_slice(root.topic.as_bytes());
    facts.extend_from_slice(&root.partition.to_be_bytes());
    facts.extend_from_slice(&root.leader_epoch.to_be_bytes());
    facts.extend_from_slice(&root.generation.to_be_bytes());
    facts.extend_from_slice(root.writer.as_bytes());
    facts.extend_from_slice(&root.previous_crc.to_be_bytes());
    facts.extend_from_slice(&root.written_at_ms.to_be_bytes());
    facts.extend_from_slice(&root.log_start.to_be_bytes());
    facts.extend_from_slice(&root.tier_end.to_be_bytes());
    let mut leaves = (root.leaves.len() as u32).to_be_bytes().to_vec();
    for leaf in &root.leaves {
        leaves.extend_from_slice(&leaf.first_offset.to_be_bytes());
        leaves.extend_from_slice(&leaf.last_offset.to_be_bytes());
        leaves.extend_from_slice(leaf.uuid.as_bytes());
        leaves.extend_from_slice(&leaf.entry_count.to_be_bytes());
        leaves.extend_from_slice(&leaf.crc.to_be_bytes());
    }
    let mut body = Vec::new();
    sections::put(&mut body, ROOT_FACTS, &facts);
    sections::put(&mut body, LEAVES, &leaves);
    sections::put(&mut body, ENTRIES, &encode_entries(&root.entries));
    if root.cleaned_end > 0 {
        sections::put(&mut body, CLEANED, &root.cleaned_end.to_be_bytes());
    }
    with_head(ROOT_MAGIC, &body)
}

/// Reads what [`encode_root`] wrote.
pub fn parse_root(bytes: &[u8]) -> Result<Root, FormatError> {
    let sections = sections::parse(without_head(bytes, ROOT_MAGIC)?)?;
    let facts = sections.iter().find(|s| s.kind == ROOT_FACTS).ok_or(FormatError::Malformed("root"))?;
    let mut cursor = Cursor::new(facts.payload);
    let mut root = Root {
        topic: cursor.uuid()?,
        partition: cursor.i32()?,
        leader_epoch: cursor.i32()?,
        generation: cursor.u64()?,
        writer: cursor.uuid()?,
        previous_crc: cursor.u32()?,
        written_at_ms: cursor.i64()?,
        log_start: cursor.i64()?,
        tier_end: cursor.i64()?,
        cleaned_end: 0,
        leaves: Vec::new(),
        entries: Vec::new(),
    };
    for section in &sections {
        match section.kind {
            LEAVES => root.leaves = parse_leaves(section.payload)?,
            ENTRIES => root.entries = parse_entries(section.payload)?,
            CLEANED => root.cleaned_end = Cursor::new(section.payload).i64()?.max(0),
            _ => {}
        }
    }
    Ok(root)
}

/// The bytes of a leaf.
pub fn encode_leaf(entries: &[ManifestEntry]) -> Vec<u8> {
    let mut body = Vec::new();
    sections::put(&mut body, ENTRIES, &encode_entries(entries));
    with_head(LEAF_MAGIC, &body)
}

/// Reads what [`encode_leaf`] wrote.
pub fn parse_leaf(bytes: &[u8]) -> Result<Vec<ManifestEntry>, FormatError> {
    let sections = sections::parse(without_head(bytes, LEAF_MAGIC)?)?;
    let entries = sections.iter().find(|s| s.kind == ENTRIES).ok_or(FormatError::Malformed("leaf"))?;
    Ok(parse_entries(entries.payload)?)
}

fn with_head(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_LEN + body.len());
    out.extend_from_slice(&magic);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn without_head(bytes: &[u8], magic: [u8; 8]) -> Result<&[u8], FormatError> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(8)? != magic {
        return Err(FormatError::Malformed("magic"));
    }
    let (version, _reserved, crc) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    if crc32c::crc32c(cursor.rest()) != crc {
        return Err(FormatError::Crc);
    }
    Ok(cursor.rest())
}

/// Entries lie close to each other, so most numbers are differences to the entry before.
fn encode_entries(entries: &[ManifestEntry]) -> Vec<u8> {
    let mut out = (entries.len() as u32).to_be_bytes().to_vec();
    let (mut next_offset, mut time) = (0i64, 0i64);
    for entry in entries {
        out.extend_from_slice(entry.uuid.as_bytes());
        out.put_zigzag(entry.base_offset.wrapping_sub(next_offset));
        out.put_zigzag(entry.last_offset.wrapping_sub(entry.base_offset));
        out.put_zigzag(i64::from(entry.leader_epoch));
        out.put_varint(entry.log_bytes);
        out.put_varint(entry.object_bytes.wrapping_sub(entry.log_bytes));
        out.put_zigzag(entry.first_timestamp.wrapping_sub(time));
        out.put_zigzag(entry.max_timestamp.wrapping_sub(entry.first_timestamp));
        out.put_zigzag(entry.max_timestamp_offset.wrapping_sub(entry.base_offset));
        out.put_varint(entry.epochs.len() as u64);
        for (epoch, first_offset) in &entry.epochs {
            out.put_zigzag(i64::from(*epoch));
            out.put_zigzag(first_offset.wrapping_sub(entry.base_offset));
        }
        next_offset = entry.last_offset.wrapping_add(1);
        time = entry.first_timestamp;
    }
    out
}

fn parse_entries(payload: &[u8]) -> Result<Vec<ManifestEntry>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count(ENTRY_MIN)?;
    let mut entries = Vec::with_capacity(count);
    let (mut next_offset, mut time) = (0i64, 0i64);
    for _ in 0..count {
        let uuid: Uuid = cursor.uuid()?;
        let base_offset = next_offset.wrapping_add(cursor.zigzag()?);
        let last_offset = base_offset.wrapping_add(cursor.zigzag()?);
        let leader_epoch = epoch(&mut cursor)?;
        let log_bytes = cursor.varint()?;
        let object_bytes = log_bytes.wrapping_add(cursor.varint()?);
        let first_timestamp = time.wrapping_add(cursor.zigzag()?);
        let max_timestamp = first_timestamp.wrapping_add(cursor.zigzag()?);
        let max_timestamp_offset = base_offset.wrapping_add(cursor.zigzag()?);
        let epoch_count = cursor.varint()?;
        if epoch_count > cursor.rest().len() as u64 / 2 {
            return Err(Malformed("epoch count"));
        }
        let epochs = (0..epoch_count)
            .map(|_| Ok((epoch(&mut cursor)?, base_offset.wrapping_add(cursor.zigzag()?))))
            .collect::<Result<_, Malformed>>()?;
        next_offset = last_offset.wrapping_add(1);
        time = first_timestamp;
        entries.push(ManifestEntry {
            uuid,
            base_offset,
            last_offset,
            leader_epoch,
            log_bytes,
            object_bytes,
            first_timestamp,
            max_timestamp,
            max_timestamp_offset,
            epochs,
        });
    }
    Ok(entries)
}

fn epoch(cursor: &mut Cursor<'_>) -> Result<i32, Malformed> {
    i32::try_from(cursor.zigzag()?).map_err(|_| Malformed("leader epoch"))
}

fn parse_leaves(payload: &[u8]) -> Result<Vec<LeafRef>, Malformed> {
    let mut cursor = Cursor::new(payload);
    (0..cursor.count(LEAF_LEN)?)
        .map(|_| {
            Ok(LeafRef {
                first_offset: cursor.i64()?,
                last_offset: cursor.i64()?,
                uuid: cursor.uuid()?,
                entry_count: cursor.u32()?,
                crc: cursor.u32()?,
            })
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn entries(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<ManifestEntry>> {
        prop::collection::vec(
            (
                any::<u128>(),
                0i64..50,
                0i64..5000,
                0..9i32,
                1u64..(1 << 30),
                any::<[i64; 3]>(),
                any::<Vec<(i32, i64)>>(),
            ),
            count,
        )
        .prop_map(|list| {
            let mut next = 0;
            list.into_iter()
                .map(|(uuid, gap, more, leader_epoch, log_bytes, times, mut epochs)| {
                    epochs.truncate(3);
                    let base_offset = next + gap;
                    let last_offset = base_offset + more;
                    next = last_offset + 1;
                    ManifestEntry {
                        uuid: Uuid::from_u128(uuid),
                        base_offset,
                        last_offset,
                        leader_epoch,
                        log_bytes,
                        object_bytes: log_bytes + 300,
                        first_timestamp: times[0],
                        max_timestamp: times[1],
                        max_timestamp_offset: times[2],
                        epochs,
                    }
                })
                .collect()
        })
    }

    fn root() -> impl Strategy<Value = Root> {
        (
            entries(0..6),
            any::<(u128, u128, u64, u32)>(),
            0..i64::MAX,
            prop::collection::vec(any::<(i64, i64, u128, u32, u32)>(), 0..4),
        )
            .prop_map(|(entries, (topic, writer, generation, previous_crc), cleaned_end, leaves)| Root {
                topic: Uuid::from_u128(topic),
                partition: 4,
                leader_epoch: 2,
                generation,
                writer: Uuid::from_u128(writer),
                previous_crc,
                written_at_ms: 99,
                log_start: 1,
                tier_end: 8,
                cleaned_end,
                leaves: leaves
                    .into_iter()
                    .map(|(first_offset, last_offset, uuid, entry_count, crc)| LeafRef {
                        first_offset,
                        last_offset,
                        uuid: Uuid::from_u128(uuid),
                        entry_count,
                        crc,
                    })
                    .collect(),
                entries,
            })
    }

    proptest! {
        #[test]
        fn a_root_survives_the_round_trip(root in root()) {
            prop_assert_eq!(parse_root(&encode_root(&root)).unwrap(), root);
        }

        #[test]
        fn a_leaf_survives_the_round_trip(entries in entries(0..9)) {
            prop_assert_eq!(parse_leaf(&encode_leaf(&entries)).unwrap(), entries);
        }

        #[test]
        fn one_wrong_bit_is_noticed(root in root(), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = encode_root(&root);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // The two reserved bytes mean nothing yet.
            prop_assert!((10..12).contains(&at) || parse_root(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes: Vec<u8>, kind in 1u16..5) {
            let _ = (parse_root(&bytes), parse_leaf(&bytes), parse_entries(&bytes), parse_leaves(&bytes));
            let mut body = Vec::new();
            sections::put(&mut body, kind, &bytes);
            let _ = parse_root(&with_head(ROOT_MAGIC, &body));
            let _ = parse_leaf(&with_head(LEAF_MAGIC, &body));
        }
    }

    #[test]
    fn an_entry_takes_about_forty_bytes() {
        let entry = |i: i64| ManifestEntry {
            uuid: Uuid::from_u128(i as u128),
            base_offset: i * 100_000,
            last_offset: i * 100_000 + 99_999,
            leader_epoch: 3,
            log_bytes: 1 << 30,
            object_bytes: (1 << 30) + 40_000,
            first_timestamp: 1_700_000_000_000 + i * 600_000,
            max_timestamp: 1_700_000_599_000 + i * 600_000,
            max_timestamp_offset: i * 100_000 + 99_990,
            epochs: vec![(3, i * 100_000)],
        };
        let all: Vec<_> = (0..4096).map(entry).collect();
        let each = encode_leaf(&all).len() / all.len();
        assert!(each <= 48, "{each} bytes an entry");
    }
}
