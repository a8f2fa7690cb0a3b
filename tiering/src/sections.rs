//! The one shape that footers, manifests and metadata snapshots share: a list of typed sections, each with its length and
//! its CRC. Readers skip types they do not know, so a section can be added without a new format version.
//!
//! ```text
//! type u16 | reserved u16 (0) | length u32 | CRC-32C u32 over type, reserved, length and payload | payload
//! ```

use crate::cursor::{Cursor, Malformed};

/// Bytes in front of each payload.
pub const HEADER_LEN: usize = 12;

/// One section as it lies in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// What it is; the meaning belongs to the format around it.
    pub kind: u16,
    /// Its payload, CRC checked.
    pub payload: &'a [u8],
}

/// Why sections could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// The bytes end inside a section.
    #[error("section is cut short")]
    Short,
    /// The CRC of a section does not match.
    #[error("section {0} fails its CRC")]
    Crc(u16),
}

impl From<Malformed> for SectionError {
    fn from(_: Malformed) -> Self {
        Self::Short
    }
}

/// Appends one section to `out`.
///
/// # Panics
/// If the payload has 4 GiB or more; everything written here is bounded far below.
pub fn put(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("a section is shorter than 4 GiB");
    let mut head = [0; 8];
    head[..2].copy_from_slice(&kind.to_be_bytes());
    head[4..].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), payload);
    out.extend_from_slice(&head);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(payload);
}

/// All sections of `bytes`, in order.
pub fn parse(bytes: &[u8]) -> Result<Vec<Section<'_>>, SectionError> {
    let mut cursor = Cursor::new(bytes);
    let mut sections = Vec::new();
    while !cursor.is_empty() {
        let head = cursor.rest().get(..8).ok_or(SectionError::Short)?;
        let kind = cursor.u16()?;
        cursor.u16()?;
        let len = cursor.u32()? as usize;
        let expected = cursor.u32()?;
        let payload = cursor.take(len)?;
        if crc32c::crc32c_append(crc32c::crc32c(head), payload) != expected {
            return Err(SectionError::Crc(kind));
        }
        sections.push(Section { kind, payload });
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sections_survive_the_round_trip(list in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..50)), 0..8)) {
            let mut bytes = Vec::new();
            for (kind, payload) in &list {
                put(&mut bytes, *kind, payload);
            }
            let parsed: Vec<(u16, Vec<u8>)> =
                parse(&bytes).unwrap().into_iter().map(|s| (s.kind, s.payload.to_vec())).collect();
            prop_assert_eq!(parsed, list);
        }

        #[test]
        fn one_wrong_bit_is_noticed(payload in prop::collection::vec(any::<u8>(), 1..50), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = Vec::new();
            put(&mut bytes, 7, &payload);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(parse(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
