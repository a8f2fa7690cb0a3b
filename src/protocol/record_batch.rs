//! A record batch as bytes: its 61-byte header, checks that read nothing else, and the stamps a broker may put in place.
//!
//! ```text
//!  0 base offset i64 | 8 length i32 (of all behind it) | 12 partition leader epoch i32 | 16 magic i8 | 17 CRC-32C u32
//! 21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64
//! 51 producer epoch i16 | 53 base sequence i32 | 57 records count i32 | 61 records
//! ```
//! The CRC covers everything from byte 21, so base offset and leader epoch are patched without touching it
//! (message format v2, KIP-98).

/// An offset of a partition.
pub type Offset = i64;
/// A partition's leader epoch; -1 when unknown.
pub type LeaderEpoch = i32;
/// A producer id; -1 for none.
pub type ProducerId = i64;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes in front of what the length field counts.
pub const LENGTH_OVERHEAD: usize = 12;
/// Where the bytes that the CRC covers begin.
pub const CRC_FROM: usize = 21;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(crate) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(crate) const CONTROL_BIT: i16 = 0x20;
pub(crate) const DELETE_HORIZON_BIT: i16 = 0x40;

/// Why bytes are not a batch we can store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("batch is cut short")]
    Truncated,
    /// The length field cannot be a batch's.
    #[error("batch length {0} is impossible")]
    BadLength(i32),
    /// Message formats v0 and v1 are not served since Kafka 4.0 (KIP-724).
    #[error("magic {0} is not 2")]
    BadMagic(i8),
    /// The CRC-32C over the batch disagrees with its header.
    #[error("crc is {found:08x}, header says {expected:08x}")]
    BadCrc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
}

/// One whole batch, its header readable, its records untouched.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a>(&'a [u8]);

fn be<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a header field lies inside the header")
}

impl<'a> BatchView<'a> {
    /// The batch at the front of `bytes` and what lies behind it. Checks length and magic, not the CRC.
    pub fn split_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Truncated);
        }
        let total = total_bytes(bytes)?;
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchError::BadMagic(magic));
        }
        if bytes.len() < total {
            return Err(BatchError::Truncated);
        }
        let (batch, rest) = bytes.split_at(total);
        Ok((Self(batch), rest))
    }

    /// The header alone, of a batch whose records stay where they are, and the size of the whole batch. Checks length
    /// and magic. The view has no records: [`BatchView::bytes`] ends with the header, and its CRC cannot be checked.
    pub fn header_only(bytes: &'a [u8]) -> Result<(Self, usize), BatchError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(BatchError::Truncated)?;
        let total = total_bytes(header)?;
        match header[16] as i8 {
            2 => Ok((Self(header), total)),
            magic => Err(BatchError::BadMagic(magic)),
        }
    }

    /// Compares the CRC in the header with the bytes.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (expected, found) = (self.crc(), crc32c::crc32c(&self.0[CRC_FROM..]));
        if expected == found { Ok(()) } else { Err(BatchError::BadCrc { expected, found }) }
    }

    /// All bytes of the batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
    /// The bytes behind the header, compressed as the attributes say.
    pub fn records_bytes(&self) -> &'a [u8] {
        &self.0[HEADER_BYTES..]
    }
    /// Offset of the first record, as the batch was made (compaction may have removed that record).
    pub fn base_offset(&self) -> Offset {
        i64::from_be_bytes(be(self.0, 0))
    }
    /// Epoch of the leader that appended it.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        i32::from_be_bytes(be(self.0, 12))
    }
    /// The CRC-32C that the header carries.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(be(self.0, 17))
    }
    /// All attribute bits.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(be(self.0, 21))
    }
    /// The compression id: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd; 5 to 7 are unknown.
    pub fn compression_id(&self) -> i16 {
        self.attributes() & COMPRESSION_MASK
    }
    /// Do all records carry the broker's time (max timestamp) instead of their own?
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME_BIT != 0
    }
    /// Is it part of a transaction?
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }
    /// Is it a control batch (a transaction marker)?
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }
    /// Does the base timestamp hold a delete horizon (KIP-534)?
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & DELETE_HORIZON_BIT != 0
    }
    /// Last offset minus base offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(be(self.0, 23))
    }
    /// Offset of the last record, as the batch was made.
    pub fn last_offset(&self) -> Offset {
        self.base_offset().wrapping_add(i64::from(self.last_offset_delta()))
    }
    /// The offset behind the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().wrapping_add(1)
    }
    /// Timestamp of the first record in milliseconds, or the delete horizon.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(be(self.0, 27))
    }
    /// The largest timestamp in milliseconds.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(be(self.0, 35))
    }
    /// The producer, or -1.
    pub fn producer_id(&self) -> ProducerId {
        i64::from_be_bytes(be(self.0, 43))
    }
    /// The producer's epoch, or -1.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(be(self.0, 51))
    }
    /// Sequence of the first record, or -1.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(be(self.0, 53))
    }
    /// Sequence of the last record: wraps from 2^31-1 to 0, as producers count.
    pub fn last_sequence(&self) -> i32 {
        let base = self.base_sequence();
        if base < 0 { base } else { sequence_after(base, self.last_offset_delta()) }
    }
    /// Number of records.
    pub fn records_count(&self) -> i32 {
        i32::from_be_bytes(be(self.0, 57))
    }
}

/// Why Kafka's `LogValidator` refuses a client's batch by its header alone; all are INVALID_RECORD, the texts are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The last offset delta is negative.
    #[error("Batch has an invalid offset range: [{base}, {last}]")]
    OffsetRange {
        /// Base offset.
        base: Offset,
        /// Last offset.
        last: Offset,
    },
    /// No records, or less than none.
    #[error("Invalid reported count for record batch: {0}")]
    Count(i32),
    /// A producer numbers its records without gap, so count and offset range agree.
    #[error("Inconsistent batch offset range [{base}, {last}] and count of records {count}")]
    CountDisagrees {
        /// Base offset.
        base: Offset,
        /// Last offset.
        last: Offset,
        /// What the header counts.
        count: i32,
    },
    /// A producer id without a sequence.
    #[error("Invalid sequence number {sequence} in record batch with producerId {producer_id}")]
    Sequence {
        /// The base sequence.
        sequence: i32,
        /// The producer.
        producer_id: ProducerId,
    },
}

/// Checks what a client's batch says about itself; reads only the header.
pub fn validate_header(batch: &BatchView<'_>) -> Result<(), HeaderError> {
    let (base, last, count) = (batch.base_offset(), batch.last_offset(), batch.records_count());
    let range = i64::from(batch.last_offset_delta()) + 1;
    if range <= 0 {
        return Err(HeaderError::OffsetRange { base, last });
    }
    if count <= 0 {
        return Err(HeaderError::Count(count));
    }
    if range != i64::from(count) {
        return Err(HeaderError::CountDisagrees { base, last, count });
    }
    let (producer_id, sequence) = (batch.producer_id(), batch.base_sequence());
    if producer_id > -1 && sequence < 0 {
        return Err(HeaderError::Sequence { sequence, producer_id });
    }
    Ok(())
}

/// The sequence `by` places after `sequence`; sequences wrap from 2^31-1 to 0.
pub fn sequence_after(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX)) as i32
}

/// The size in bytes that the batch at the front of `header` (at least 12 bytes) claims to have.
pub fn total_bytes(header: &[u8]) -> Result<usize, BatchError> {
    if header.len() < LENGTH_OVERHEAD {
        return Err(BatchError::Truncated);
    }
    let length = i32::from_be_bytes(be(header, 8));
    match usize::try_from(length) {
        Ok(length) if length + LENGTH_OVERHEAD >= HEADER_BYTES => Ok(length + LENGTH_OVERHEAD),
        _ => Err(BatchError::BadLength(length)),
    }
}

/// Gives the batch its place: base offset and leader epoch, neither covered by the CRC.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Gives all records of the batch the broker's time (`message.timestamp.type=LogAppendTime`) and computes the CRC anew.
pub fn stamp_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(be(batch, 21)) | LOG_APPEND_TIME_BIT;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::protocol::batch_builder::BatchBuilder;

    #[rstest]
    #[case(0, 4, 4)]
    #[case(i32::MAX, 1, 0)]
    #[case(i32::MAX - 2, 5, 2)]
    fn sequences_wrap_to_zero(#[case] from: i32, #[case] by: i32, #[case] expected: i32) {
        assert_eq!(sequence_after(from, by), expected);
    }

    #[rstest]
    #[case(0, 1, -1, -1, Ok(()))]
    #[case(9, 10, 7, 0, Ok(()))]
    #[case(-1, 1, -1, -1, Err(HeaderError::OffsetRange { base: i64::MAX, last: i64::MAX - 1 }))]
    #[case(0, 0, -1, -1, Err(HeaderError::Count(0)))]
    #[case(0, -5, -1, -1, Err(HeaderError::Count(-5)))]
    #[case(0, 2, -1, -1, Err(HeaderError::CountDisagrees { base: i64::MAX, last: i64::MAX, count: 2 }))]
    #[case(0, 1, 7, -1, Err(HeaderError::Sequence { sequence: -1, producer_id: 7 }))]
    fn headers_of_clients_are_held_to_their_counts(
        #[case] last_offset_delta: i32,
        #[case] count: i32,
        #[case] producer_id: i64,
        #[case] sequence: i32,
        #[case] expected: Result<(), HeaderError>,
    ) {
        let mut bytes = BatchBuilder::new(i64::MAX).with_producer(producer_id, 0, sequence).finish();
        bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let (view, _) = BatchView::split_first(&bytes).expect("whole");
        assert_eq!(validate_header(&view), expected);
    }
}
