//! Builds record batches: what coordinators append and what the cleaner leaves of a batch.

use super::compression::{Compression, compress};
use super::record_batch::{
    BatchView, CONTROL_BIT, CRC_FROM, DELETE_HORIZON_BIT, HEADER_BYTES, LENGTH_OVERHEAD, LeaderEpoch, Offset,
    TRANSACTIONAL_BIT,
};
use super::varint;

const NO_TIMESTAMP: i64 = -1;

/// A batch in the making. Records are pushed in order of offset.
#[derive(Debug)]
pub struct BatchBuilder {
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    attributes: i16,
    compression: Compression,
    last_offset_delta: i32,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
    records: Vec<u8>,
}

impl BatchBuilder {
    /// An empty, uncompressed batch without producer; append gives it its final base offset and leader epoch.
    pub fn new(base_offset: Offset) -> Self {
        Self {
            base_offset,
            leader_epoch: -1,
            attributes: 0,
            compression: Compression::None,
            last_offset_delta: 0,
            base_timestamp: None,
            max_timestamp: NO_TIMESTAMP,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
            records: Vec::new(),
        }
    }

    /// An empty batch with the header of `original`, for what the cleaner keeps of it: offsets, epoch, producer, sequences,
    /// timestamp type and compression stay. `None` where the batch names an unknown codec.
    pub fn like(original: &BatchView<'_>) -> Option<Self> {
        Some(Self {
            leader_epoch: original.leader_epoch(),
            attributes: original.attributes(),
            compression: Compression::from_id(original.compression_id()).ok()?,
            last_offset_delta: original.last_offset_delta(),
            base_timestamp: original.has_delete_horizon().then(|| original.base_timestamp()),
            max_timestamp: original.max_timestamp(),
            producer_id: original.producer_id(),
            producer_epoch: original.producer_epoch(),
            base_sequence: original.base_sequence(),
            ..Self::new(original.base_offset())
        })
    }

    /// Compresses the records when the batch is finished.
    pub fn with_compression(mut self, codec: Compression) -> Self {
        self.compression = codec;
        self
    }

    /// Names the producer.
    pub fn with_producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// Makes it part of its producer's transaction.
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// Makes it a control batch, whose records no consumer hands on.
    pub fn control(mut self) -> Self {
        self.attributes |= CONTROL_BIT;
        self
    }

    /// Sets the delete horizon (KIP-534); before the first record, because timestamps are stored relative to it.
    pub fn with_delete_horizon(mut self, horizon_ms: i64) -> Self {
        assert_eq!(self.count, 0, "the delete horizon is set before the first record");
        self.attributes |= DELETE_HORIZON_BIT;
        self.base_timestamp = Some(horizon_ms);
        self
    }

    /// Adds a record.
    pub fn push<'h>(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) {
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        // A batch that the cleaner leaves empty keeps the time of its original.
        self.max_timestamp = if self.count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.last_offset_delta = self.last_offset_delta.max(offset_delta);
        self.count += 1;

        let mut front = Vec::with_capacity(16);
        front.push(0); // attributes
        varint::write_i64(&mut front, timestamp.wrapping_sub(base_timestamp));
        varint::write_i32(&mut front, offset_delta);
        let headers_bytes = varint::len_i32(length(headers.len()))
            + headers.clone().map(|(key, value)| bytes_of(Some(key)) + bytes_of(value)).sum::<usize>();
        let out = &mut self.records;
        varint::write_i32(out, length(front.len() + bytes_of(key) + bytes_of(value) + headers_bytes));
        out.extend_from_slice(&front);
        write_nullable(out, key);
        write_nullable(out, value);
        varint::write_i32(out, length(headers.len()));
        for (key, value) in headers {
            write_nullable(out, Some(key));
            write_nullable(out, value);
        }
    }

    /// Number of records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Size of the batch so far, before compression.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The whole batch, with its CRC.
    pub fn finish(self) -> Vec<u8> {
        let codec_bits = self.compression.id();
        let records = match self.compression {
            Compression::None => self.records,
            codec => compress(codec, &self.records),
        };
        let mut out = Vec::with_capacity(HEADER_BYTES + records.len());
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&length(HEADER_BYTES - LENGTH_OVERHEAD + records.len()).to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.extend_from_slice(&[2, 0, 0, 0, 0]); // magic, room for the CRC
        out.extend_from_slice(&(self.attributes & !0x07 | codec_bits).to_be_bytes());
        out.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        out.extend_from_slice(&self.base_timestamp.unwrap_or(NO_TIMESTAMP).to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.base_sequence.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&records);
        let crc = crc32c::crc32c(&out[CRC_FROM..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out
    }
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a batch of ours stays below 2 GiB")
}

fn bytes_of(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint::len_i32(length(bytes.len())) + bytes.len())
}

fn write_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    varint::write_i32(out, field.map_or(-1, |bytes| length(bytes.len())));
    out.extend_from_slice(field.unwrap_or_default());
}
