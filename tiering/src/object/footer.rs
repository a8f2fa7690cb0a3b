//! The footer of a segment object: what the segment is, where its chunks lie, and all that a restart needs with it.
//!
//! It begins with 8 bytes of magic and `7F FF FF FF`, then [`sections`]. Types 1 to 5 are known here;
//! others are skipped. Identity and chunk index must be there.

use bytes::Bytes;
use uuid::Uuid;

use crate::cursor::{Cursor, Malformed, Put};
use crate::object::chunk::ChunkEntry;
use crate::object::trailer::{TRAILER_LEN, Trailer};
use crate::sections::{self, SectionError};

/// The footer's first bytes: read as a batch header, an offset and an impossible size.
pub const HEAD: [u8; 12] = *b"TRCFOOT1\x7F\xFF\xFF\xFF";

const IDENTITY: u16 = 1;
const CHUNKS: u16 = 2;
const EPOCHS: u16 = 3;
const PRODUCERS: u16 = 4;
const ABORTED: u16 = 5;
const CHUNK_LEN: usize = 32;

/// Which segment an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIdentity {
    /// The cluster that wrote it.
    pub cluster_id: String,
    /// The topic's id.
    pub topic: Uuid,
    /// The topic's name when it was written; only the id decides.
    pub topic_name: String,
    /// The partition's number.
    pub partition: i32,
    /// First offset it covers.
    pub base_offset: i64,
    /// Last offset it covers.
    pub last_offset: i64,
    /// Leader epoch of the broker that copied it.
    pub leader_epoch: i32,
    /// Of this copy.
    pub uuid: Uuid,
    /// Records in it.
    pub record_count: u64,
    /// Batches in it.
    pub batch_count: u64,
    /// Timestamp of the first batch in milliseconds.
    pub first_timestamp: i64,
    /// Largest timestamp in milliseconds.
    pub max_timestamp: i64,
    /// Offset of the record with the largest timestamp.
    pub max_timestamp_offset: i64,
    /// Reserved for what later versions must say about the data; 0.
    pub flags: u32,
}

/// A transaction that was aborted and overlaps the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// Its first offset.
    pub first_offset: i64,
    /// Its last offset (of the marker).
    pub last_offset: i64,
    /// Last stable offset when it was aborted.
    pub last_stable_offset: i64,
}

/// All that a footer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Which segment it is.
    pub identity: SegmentIdentity,
    /// Bytes of the segment's log in front of the footer.
    pub log_bytes: u64,
    /// Its chunks, by position; they cover `0..log_bytes`.
    pub chunks: Vec<ChunkEntry>,
    /// Leader epochs that have records in it: epoch and its first offset here.
    pub epochs: Vec<(i32, i64)>,
    /// The producer state behind its last offset, as Kafka's `.snapshot` file; may be empty.
    pub producer_snapshot: Bytes,
    /// Aborted transactions that overlap it.
    pub aborted: Vec<AbortedTransaction>,
}

/// Why bytes are not a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FooterError {
    /// They end too early or contradict themselves.
    #[error("malformed footer: {0}")]
    Malformed(&'static str),
    /// A CRC does not match.
    #[error("footer fails its CRC")]
    Crc,
    /// Written by a later version with another layout.
    #[error("footer has version {0}, this program reads {version}", version = crate::object::trailer::VERSION)]
    Version(u16),
}

impl From<Malformed> for FooterError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

impl From<SectionError> for FooterError {
    fn from(error: SectionError) -> Self {
        match error {
            SectionError::Short => Self::Malformed("section"),
            SectionError::Crc(_) => Self::Crc,
        }
    }
}

impl Footer {
    /// Footer and trailer as they follow the segment's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        let known: [(u16, Vec<u8>); 5] = [
            (IDENTITY, self.identity.encode()),
            (CHUNKS, encode_chunks(&self.chunks)),
            (EPOCHS, encode_epochs(&self.epochs)),
            (PRODUCERS, self.producer_snapshot.to_vec()),
            (ABORTED, encode_aborted(&self.aborted)),
        ];
        for (kind, payload) in &known {
            sections::put(&mut out, *kind, payload);
        }
        let trailer = Trailer {
            footer_position: self.log_bytes,
            footer_len: out.len() as u64,
            section_count: known.len() as u32,
            footer_crc: crc32c::crc32c(&out),
        };
        out.extend_from_slice(&trailer.encode());
        out
    }

    /// Reads `footer`, the bytes that `trailer` points at.
    pub fn parse(footer: &[u8], trailer: &Trailer) -> Result<Self, FooterError> {
        if footer.len() as u64 != trailer.footer_len {
            return Err(FooterError::Malformed("length"));
        }
        if crc32c::crc32c(footer) != trailer.footer_crc {
            return Err(FooterError::Crc);
        }
        let body = footer.strip_prefix(&HEAD[..]).ok_or(FooterError::Malformed("magic"))?;
        let sections = sections::parse(body)?;
        if sections.len() as u64 != u64::from(trailer.section_count) {
            return Err(FooterError::Malformed("section count"));
        }
        let (mut identity, mut chunks) = (None, None);
        let (mut epochs, mut aborted, mut producer_snapshot) = (Vec::new(), Vec::new(), Bytes::new());
        for section in sections {
            match section.kind {
                IDENTITY => identity = Some(SegmentIdentity::parse(section.payload)?),
                CHUNKS => chunks = Some(parse_chunks(section.payload, trailer.footer_position)?),
                EPOCHS => epochs = parse_epochs(section.payload)?,
                PRODUCERS => producer_snapshot = Bytes::copy_from_slice(section.payload),
                ABORTED => aborted = parse_aborted(section.payload)?,
                _ => {}
            }
        }
        Ok(Self {
            identity: identity.ok_or(FooterError::Malformed("identity is missing"))?,
            log_bytes: trailer.footer_position,
            chunks: chunks.ok_or(FooterError::Malformed("chunk index is missing"))?,
            epochs,
            producer_snapshot,
            aborted,
        })
    }

    /// Reads the footer at the end of a whole object.
    pub fn of_object(object: &[u8]) -> Result<Self, FooterError> {
        let (rest, last) = object.split_last_chunk::<TRAILER_LEN>().ok_or(FooterError::Malformed("length"))?;
        let trailer = Trailer::parse(last, object.len() as u64)?;
        // The trailer's positions add up to the object's length, so the footer lies in `rest`.
        Self::parse(&rest[trailer.footer_position as usize..], &trailer)
    }

    /// Bytes that the footer takes in memory, nearly.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.chunks.len() * size_of::<ChunkEntry>()
            + self.epochs.len() * size_of::<(i32, i64)>()
            + self.aborted.len() * size_of::<AbortedTransaction>()
            + self.producer_snapshot.len()
            + self.identity.topic_name.len()
            + self.identity.cluster_id.len()
    }

    /// The number of the chunk that holds `offset`; `None` outside the segment.
    pub fn chunk_of_offset(&self, offset: i64) -> Option<usize> {
        if offset < self.identity.base_offset || offset > self.identity.last_offset {
            return None;
        }
        // Offsets between two batches (after compaction) belong to the chunk before; the first chunk takes what is below.
        let behind = self.chunks.partition_point(|chunk| chunk.first_offset <= offset);
        (!self.chunks.is_empty()).then(|| behind.saturating_sub(1))
    }

    /// The first chunk that may hold a record with at least this timestamp: the first whose running maximum reaches it.
    pub fn chunk_of_time(&self, timestamp_ms: i64) -> Option<usize> {
        let at = self.chunks.partition_point(|chunk| chunk.max_timestamp < timestamp_ms);
        (at < self.chunks.len()).then_some(at)
    }
}

impl SegmentIdentity {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.put_string(&self.cluster_id);
        out.extend_from_slice(self.topic.as_bytes());
        out.put_string(&self.topic_name);
        out.extend_from_slice(&self.partition.to_be_bytes());
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&self.last_offset.to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.extend_from_slice(self.uuid.as_bytes());
        out.extend_from_slice(&self.record_count.to_be_bytes());
        out.extend_from_slice(&self.batch_count.to_be_bytes());
        out.extend_from_slice(&self.first_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp_offset.to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out
    }

    /// Bytes behind the known fields are skipped, so that fields can be added at the end.
    fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let identity = Self {
            cluster_id: cursor.string()?.to_owned(),
            topic: cursor.uuid()?,
            topic_name: cursor.string()?.to_owned(),
            partition: cursor.i32()?,
            base_offset: cursor.i64()?,
            last_offset: cursor.i64()?,
            leader_epoch: cursor.i32()?,
            uuid: cursor.uuid()?,
            record_count: cursor.u64()?,
            batch_count: cursor.u64()?,
            first_timestamp: cursor.i64()?,
            max_timestamp: cursor.i64()?,
            max_timestamp_offset: cursor.i64()?,
            flags: cursor.u32()?,
        };
        if identity.partition < 0 || identity.base_offset < 0 || identity.last_offset < identity.base_offset {
            return Err(Malformed("identity"));
        }
        Ok(identity)
    }
}

fn encode_chunks(chunks: &[ChunkEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + chunks.len() * CHUNK_LEN);
    out.extend_from_slice(&(chunks.len() as u32).to_be_bytes());
    for chunk in chunks {
        out.extend_from_slice(&chunk.position.to_be_bytes());
        out.extend_from_slice(&chunk.length.to_be_bytes());
        out.extend_from_slice(&chunk.first_offset.to_be_bytes());
        out.extend_from_slice(&chunk.max_timestamp.to_be_bytes());
        out.extend_from_slice(&chunk.crc.to_be_bytes());
    }
    out
}

/// The chunks, which must cover `0..log_bytes` without a gap, with rising offsets.
fn parse_chunks(payload: &[u8], log_bytes: u64) -> Result<Vec<ChunkEntry>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count(CHUNK_LEN)?;
    let mut chunks: Vec<ChunkEntry> = Vec::with_capacity(count);
    let mut position = 0u64;
    for _ in 0..count {
        let chunk = ChunkEntry {
            position: cursor.u64()?,
            length: cursor.u32()?,
            first_offset: cursor.i64()?,
            max_timestamp: cursor.i64()?,
            crc: cursor.u32()?,
        };
        let follows = chunks.last().is_none_or(|before| {
            before.first_offset < chunk.first_offset && before.max_timestamp <= chunk.max_timestamp
        });
        if chunk.position != position || chunk.length == 0 || !follows {
            return Err(Malformed("chunk index"));
        }
        position = position.checked_add(u64::from(chunk.length)).ok_or(Malformed("chunk index"))?;
        chunks.push(chunk);
    }
    if position != log_bytes {
        return Err(Malformed("chunk index"));
    }
    Ok(chunks)
}

fn encode_epochs(epochs: &[(i32, i64)]) -> Vec<u8> {
    let mut out = (epochs.len() as u32).to_be_bytes().to_vec();
    for (epoch, first_offset) in epochs {
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&first_offset.to_be_bytes());
    }
    out
}

fn parse_epochs(payload: &[u8]) -> Result<Vec<(i32, i64)>, Malformed> {
    let mut cursor = Cursor::new(payload);
    (0..cursor.count(12)?).map(|_| Ok((cursor.i32()?, cursor.i64()?))).collect()
}

fn encode_aborted(aborted: &[AbortedTransaction]) -> Vec<u8> {
    let mut out = (aborted.len() as u32).to_be_bytes().to_vec();
    for entry in aborted {
        for number in [entry.producer_id, entry.first_offset, entry.last_offset, entry.last_stable_offset] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
    out
}

fn parse_aborted(payload: &[u8]) -> Result<Vec<AbortedTransaction>, Malformed> {
    let mut cursor = Cursor::new(payload);
    (0..cursor.count(32)?)
        .map(|_| {
            Ok(AbortedTransaction {
                producer_id: cursor.i64()?,
                first_offset: cursor.i64()?,
                last_offset: cursor.i64()?,
                last_stable_offset: cursor.i64()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
