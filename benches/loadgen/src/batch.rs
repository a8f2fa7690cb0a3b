//! One record batch (magic 2) of records of a given size.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use crate::Outcome;

/// Size of the batch header.
pub const HEADER_BYTES: usize = 61;
/// Where the CRC lies, and where the bytes it covers begin.
pub const CRC_AT: usize = 17;
pub const CRC_FROM: usize = 21;
/// Producer id, epoch and base sequence.
pub const PRODUCER_AT: usize = 43;

/// Compression of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    None,
    Lz4,
    Zstd,
}

/// A batch as it goes over the wire, without offset and producer.
#[derive(Debug, Clone)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub records: usize,
    /// Sum of the records' values.
    pub payload_bytes: usize,
}

/// A batch of records whose values have `record_bytes` each, as many as fit into `target_bytes` before compression, at
/// least one. Values are JSON-like text with random fields: zstd makes about a third or a quarter of them.
pub fn batch(record_bytes: usize, target_bytes: usize, codec: Codec) -> Outcome<Batch> {
    let mut text = Text { state: 42 };
    let mut records = Vec::with_capacity(target_bytes + 1024);
    let mut count = 0;
    loop {
        let mut record = vec![0]; // attributes
        put_varint(&mut record, 0); // timestamp delta
        put_varint(&mut record, count as i64);
        put_varint(&mut record, -1); // no key
        put_varint(&mut record, record_bytes as i64);
        text.fill(&mut record, record_bytes);
        put_varint(&mut record, 0); // no headers
        if count > 0 && HEADER_BYTES + records.len() + record.len() + 5 > target_bytes {
            break;
        }
        put_varint(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
        count += 1;
    }
    let (attributes, body) = compressed(records, codec)?;
    #[expect(clippy::disallowed_methods, reason = "a measuring tool has no clock to move")]
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&0i64.to_be_bytes());
    bytes.extend_from_slice(&((HEADER_BYTES - 12 + body.len()) as i32).to_be_bytes());
    bytes.extend_from_slice(&(-1i32).to_be_bytes()); // leader epoch
    bytes.push(2); // magic
    bytes.extend_from_slice(&[0; 4]); // CRC, below
    bytes.extend_from_slice(&attributes.to_be_bytes());
    bytes.extend_from_slice(&(count as i32 - 1).to_be_bytes());
    bytes.extend_from_slice(&now_ms.to_be_bytes());
    bytes.extend_from_slice(&now_ms.to_be_bytes());
    bytes.extend_from_slice(&(-1i64).to_be_bytes()); // producer id
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    bytes.extend_from_slice(&(count as i32).to_be_bytes());
    bytes.extend_from_slice(&body);
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    Ok(Batch { bytes, records: count, payload_bytes: count * record_bytes })
}

fn compressed(records: Vec<u8>, codec: Codec) -> Outcome<(i16, Vec<u8>)> {
    Ok(match codec {
        Codec::None => (0, records),
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&records)?;
            (3, encoder.finish()?)
        }
        Codec::Zstd => (4, zstd::bulk::compress(&records, 3)?),
    })
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The same text in every run.
struct Text {
    state: u64,
}

impl Text {
    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }

    fn fill(&mut self, out: &mut Vec<u8>, len: usize) {
        let mut value = String::with_capacity(len + 80);
        while value.len() < len {
            let state = ["created", "paid", "shipped", "closed"][self.random(4) as usize];
            let (id, user, tag) = (self.random(1_000_000), self.random(100_000), self.random(1 << 32));
            let (whole, cents) = (self.random(10_000), self.random(100));
            // Writing into a string cannot fail.
            let _ = write!(
                value,
                "{{\"id\":{id},\"user\":\"u{user:05}\",\"state\":\"{state}\",\"amount\":{whole}.{cents:02},\"tag\":\"{tag:08x}\"}}"
            );
        }
        out.extend_from_slice(&value.as_bytes()[..len]);
    }
}
