//! The bytes of the write-ahead log: the header of a file, of the bundles behind it, and of the records in them. Layout:
//! `docs/formats.md`.

use bytes::{Buf, BufMut};
use terrace_tiering::platform::fs::durable::BLOCK_BYTES;
use uuid::Uuid;

use crate::protocol::record_batch::{LeaderEpoch, Offset};

const MAGIC: &[u8; 8] = b"TERRAWAL";
const VERSION: u16 = 2;

/// Where the first bundle of a file begins: the header has a block of its own.
pub const BUNDLES_FROM: u64 = BLOCK_BYTES as u64;
/// Bytes of a bundle before its records.
pub const BUNDLE_HEADER_BYTES: usize = 16;
/// Bytes of a file's header.
pub const FILE_HEADER_BYTES: usize = 40;
/// Bytes of a record before the batches that it carries.
pub const RECORD_HEADER_BYTES: usize = 72;
/// Most bytes that one record carries; a length beyond it is no record.
pub const RECORD_BYTES_MAX: u32 = 1 << 30;

/// What a file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// New at each use of a file, in every life of the node: a record of an earlier use is none of this one.
    pub generation: u64,
    /// The sequence number of its first record.
    pub first_sequence: u64,
    /// The oldest record that a start needs: partition files hold what lies before durably.
    pub replay_from: u64,
}

impl FileHeader {
    /// The bytes of the header.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        let mut at = &mut bytes[..];
        at.put_slice(MAGIC);
        at.put_u16(VERSION);
        at.put_u16(0);
        at.put_u64(self.generation);
        at.put_u64(self.first_sequence);
        at.put_u64(self.replay_from);
        let crc = crc32c::crc32c(&bytes[..FILE_HEADER_BYTES - 4]);
        bytes[FILE_HEADER_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a header; `None` for anything else, be it zeros, a torn one or a later version.
    pub fn decode(bytes: &[u8; FILE_HEADER_BYTES]) -> Option<Self> {
        let (mut at, mut crc) = bytes.split_at(FILE_HEADER_BYTES - 4);
        if crc.get_u32() != crc32c::crc32c(at) || at.get(..8)? != MAGIC {
            return None;
        }
        at.advance(MAGIC.len());
        if at.get_u16() != VERSION {
            return None;
        }
        at.advance(2);
        Some(Self { generation: at.get_u64(), first_sequence: at.get_u64(), replay_from: at.get_u64() })
    }
}

/// What a bundle begins with: records that went to the disk by one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleHeader {
    /// The sequence number of its first record.
    pub first_sequence: u64,
    /// Bytes of its records.
    pub len: u32,
}

impl BundleHeader {
    /// The bytes of the header, in a file of `generation`.
    pub fn encode(&self, generation: u64) -> [u8; BUNDLE_HEADER_BYTES] {
        let mut bytes = [0; BUNDLE_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.len.to_be_bytes());
        bytes[8..].copy_from_slice(&self.first_sequence.to_be_bytes());
        let crc = seeded(generation, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a header; `None` for anything else, one of another generation too.
    pub fn decode(bytes: &[u8; BUNDLE_HEADER_BYTES], generation: u64) -> Option<Self> {
        let mut at = &bytes[..];
        let (crc, len, first_sequence) = (at.get_u32(), at.get_u32(), at.get_u64());
        (crc == seeded(generation, &bytes[4..])).then_some(Self { first_sequence, len })
    }
}

/// Which bytes of which file a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// The epoch in which the batches were appended.
    pub leader_epoch: LeaderEpoch,
    /// Offset of the first record of the first batch.
    pub base_offset: Offset,
    /// Base offset of the segment, which names the file.
    pub segment: Offset,
    /// Where in that file the batches begin.
    pub position: u64,
}

/// The header of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// One higher with each record, over all files and lives.
    pub sequence: u64,
    /// That of the file.
    pub generation: u64,
    /// Whose bytes follow.
    pub place: Place,
    /// How many bytes follow.
    pub len: u32,
    /// The CRC that the bytes gave when they were written.
    crc: u32,
}

/// A CRC begins from the generation, so that nothing of another use of the file passes for a part of this one.
fn seeded(generation: u64, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&generation.to_be_bytes()), header)
}

/// The header of the record that carries `batches`.
pub fn encode_header(sequence: u64, generation: u64, place: &Place, batches: &[u8]) -> [u8; RECORD_HEADER_BYTES] {
    let mut bytes = [0; RECORD_HEADER_BYTES];
    let mut at = &mut bytes[4..];
    // An append is far below RECORD_BYTES_MAX: it came in one request.
    at.put_u32(batches.len() as u32);
    at.put_u64(sequence);
    at.put_u64(generation);
    at.put_slice(place.topic.as_bytes());
    at.put_i32(place.partition);
    at.put_i32(place.leader_epoch);
    at.put_i64(place.base_offset);
    at.put_i64(place.segment);
    at.put_u64(place.position);
    let crc = crc32c::crc32c_append(seeded(generation, &bytes[4..]), batches);
    bytes[..4].copy_from_slice(&crc.to_be_bytes());
    bytes
}

impl RecordHeader {
    /// Reads what may be a header; whether it is one only [`RecordHeader::holds`] tells. `None` when its length is no
    /// record's.
    pub fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Option<Self> {
        let mut at = &bytes[..];
        let (crc, len) = (at.get_u32(), at.get_u32());
        let (sequence, generation) = (at.get_u64(), at.get_u64());
        let mut topic = [0; 16];
        at.copy_to_slice(&mut topic);
        let place = Place {
            topic: Uuid::from_bytes(topic),
            partition: at.get_i32(),
            leader_epoch: at.get_i32(),
            base_offset: at.get_i64(),
            segment: at.get_i64(),
            position: at.get_u64(),
        };
        (len > 0 && len <= RECORD_BYTES_MAX).then_some(Self { sequence, generation, place, len, crc })
    }

    /// Its bytes, the header's included.
    pub fn bytes(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + u64::from(self.len)
    }

    /// Are these the header and the batches that were written?
    pub fn holds(&self, header: &[u8; RECORD_HEADER_BYTES], batches: &[u8]) -> bool {
        crc32c::crc32c_append(seeded(self.generation, &header[4..]), batches) == self.crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            topic: Uuid::from_u128(0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10),
            partition: 3,
            leader_epoch: 9,
            base_offset: 1_000,
            segment: 900,
            position: 4_242,
        }
    }

    #[test]
    fn bytes_of_a_record() {
        let header = encode_header(77, 0x5_0000_0001, &place(), b"batch");
        let expected = "\
            d0f2485900000005000000000000004d00000005000000010102030405060708090a0b0c0d0e0f10\
            000000030000000900000000000003e800000000000003840000000000001092";
        assert_eq!(hex(&header), expected);
        let read = RecordHeader::decode(&header).unwrap();
        assert_eq!((read.sequence, read.generation, read.place, read.len), (77, 0x5_0000_0001, place(), 5));
        assert!(read.holds(&header, b"batch"));
        assert!(!read.holds(&header, b"batCh"));
    }

    #[test]
    fn bytes_of_a_file_header() {
        let header = FileHeader { generation: 0x5_0000_0001, first_sequence: 77, replay_from: 70 };
        let bytes = header.encode();
        let expected = "544552524157414c000200000000000500000001000000000000004d0000000000000046316a3618";
        assert_eq!(hex(&bytes), expected);
        assert_eq!(FileHeader::decode(&bytes), Some(header));
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(FileHeader::decode(&damaged), None, "byte {at}");
        }
        assert_eq!(FileHeader::decode(&[0; FILE_HEADER_BYTES]), None);
    }

    #[test]
    fn bytes_of_a_bundle_header() {
        let header = BundleHeader { first_sequence: 77, len: 77_000 };
        let bytes = header.encode(0x5_0000_0001);
        assert_eq!(hex(&bytes), "7447999600012cc8000000000000004d");
        assert_eq!(BundleHeader::decode(&bytes, 0x5_0000_0001), Some(header));
        assert_eq!(BundleHeader::decode(&bytes, 0x5_0000_0002), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(BundleHeader::decode(&damaged, 0x5_0000_0001), None, "byte {at}");
        }
        assert_eq!(BundleHeader::decode(&[0; BUNDLE_HEADER_BYTES], 0), None);
    }

    #[test]
    fn a_record_of_another_use_of_the_file_is_none_of_this_one() {
        let header = encode_header(77, 5, &place(), b"batch");
        let mut forged = header;
        forged[16..24].copy_from_slice(&6u64.to_be_bytes());
        let read = RecordHeader::decode(&forged).unwrap();
        assert_eq!(read.generation, 6);
        assert!(!read.holds(&forged, b"batch"));
    }

    #[test]
    fn a_length_that_no_record_has_is_refused() {
        let mut header = encode_header(77, 5, &place(), b"batch");
        for len in [0, RECORD_BYTES_MAX + 1, u32::MAX] {
            header[4..8].copy_from_slice(&len.to_be_bytes());
            assert_eq!(RecordHeader::decode(&header), None);
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
