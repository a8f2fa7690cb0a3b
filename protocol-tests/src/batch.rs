//! Record batches made by hand, every header field free to lie. Independent of the broker's own builder.

use bytes::{BufMut, Bytes, BytesMut};

/// Key and value of a record; either may be null.
pub type KeyValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A batch to be; the defaults make a correct one.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Key, value pairs; the timestamp of each is `timestamp` plus its place.
    pub records: Vec<KeyValue>,
    /// In place of the places, what is added to `timestamp`.
    pub timestamp_deltas: Option<Vec<i64>>,
    /// Of the first record, in milliseconds.
    pub timestamp: i64,
    /// Base offset as a producer sends it.
    pub base_offset: i64,
    /// Attribute bits.
    pub attributes: i16,
    /// -1 for none.
    pub producer_id: i64,
    /// -1 for none.
    pub producer_epoch: i16,
    /// -1 for none.
    pub base_sequence: i32,
    /// Message format.
    pub magic: i8,
    /// In place of the number of records.
    pub records_count: Option<i32>,
    /// In place of the number of records minus one.
    pub last_offset_delta: Option<i32>,
    /// Added to the right CRC.
    pub crc_error: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            timestamp_deltas: None,
            timestamp: 1_700_000_000_000,
            base_offset: 0,
            attributes: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            magic: 2,
            records_count: None,
            last_offset_delta: None,
            crc_error: 0,
        }
    }
}

impl Batch {
    /// One record per value, without keys.
    pub fn of(values: &[&str]) -> Self {
        Self { records: values.iter().map(|v| (None, Some(v.as_bytes().to_vec()))).collect(), ..Self::default() }
    }

    /// One record per pair; a value of `-` makes a tombstone.
    pub fn keyed(pairs: &[(&str, &str)]) -> Self {
        let value = |v: &str| (v != "-").then(|| v.as_bytes().to_vec());
        let records = pairs.iter().map(|(k, v)| (Some(k.as_bytes().to_vec()), value(v)));
        Self { records: records.collect(), ..Self::default() }
    }

    /// The same from an idempotent producer.
    #[must_use]
    pub fn from_producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, sequence);
        self
    }

    /// The same with records at and after `timestamp`.
    #[must_use]
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    fn timestamp_delta(&self, place: usize) -> i64 {
        self.timestamp_deltas.as_ref().map_or(place as i64, |deltas| deltas[place])
    }

    /// The bytes.
    pub fn build(&self) -> Bytes {
        let mut records = BytesMut::new();
        for (i, (key, value)) in self.records.iter().enumerate() {
            let mut record = BytesMut::new();
            record.put_i8(0);
            put_varint(&mut record, self.timestamp_delta(i));
            put_varint(&mut record, i as i64);
            for part in [key, value] {
                match part {
                    Some(bytes) => {
                        put_varint(&mut record, bytes.len() as i64);
                        record.put_slice(bytes);
                    }
                    None => put_varint(&mut record, -1),
                }
            }
            put_varint(&mut record, 0);
            put_varint(&mut records, record.len() as i64);
            records.put_slice(&record);
        }
        let count = i32::try_from(self.records.len()).expect("tests are small");
        let mut covered = BytesMut::new();
        covered.put_i16(self.attributes);
        covered.put_i32(self.last_offset_delta.unwrap_or(count - 1));
        covered.put_i64(self.timestamp);
        let newest = (0..self.records.len()).map(|place| self.timestamp_delta(place)).max().unwrap_or(0);
        covered.put_i64(self.timestamp + newest);
        covered.put_i64(self.producer_id);
        covered.put_i16(self.producer_epoch);
        covered.put_i32(self.base_sequence);
        covered.put_i32(self.records_count.unwrap_or(count));
        covered.put_slice(&records);
        let mut batch = BytesMut::new();
        batch.put_i64(self.base_offset);
        batch.put_i32(i32::try_from(covered.len() + 9).expect("tests are small"));
        batch.put_i32(-1);
        batch.put_i8(self.magic);
        batch.put_u32(crc32c::crc32c(&covered).wrapping_add(self.crc_error));
        batch.put_slice(&covered);
        batch.freeze()
    }
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// The values of all records in uncompressed batches, as text; `null` for none.
pub fn values(batches: &[u8]) -> Vec<String> {
    by_base_offset(batches).into_iter().flat_map(|(_, values)| values).collect()
}

/// Base offset and values of every whole uncompressed batch; checks each CRC.
pub fn by_base_offset(batches: &[u8]) -> Vec<(i64, Vec<String>)> {
    let values = |records: Vec<(i64, String)>| records.into_iter().map(|(_, value)| value).collect();
    whole(batches).into_iter().map(|(base, records)| (base, values(records))).collect()
}

/// Offset and value of every record, also where the cleaner left gaps; checks each batch's CRC.
pub fn by_offset(batches: &[u8]) -> Vec<(i64, String)> {
    let offsets = |(base, records): (i64, Vec<(i64, String)>)| {
        records.into_iter().map(move |(delta, value)| (base + delta, value))
    };
    whole(batches).into_iter().flat_map(offsets).collect()
}

fn whole(mut batches: &[u8]) -> Vec<(i64, Vec<(i64, String)>)> {
    let mut found = Vec::new();
    while batches.len() >= 61 {
        let total = 12 + i32::from_be_bytes(batches[8..12].try_into().expect("four bytes")) as usize;
        if batches.len() < total {
            break;
        }
        let crc = u32::from_be_bytes(batches[17..21].try_into().expect("four bytes"));
        assert_eq!(crc, crc32c::crc32c(&batches[21..total]), "a batch comes with its CRC");
        let base = i64::from_be_bytes(batches[..8].try_into().expect("eight bytes"));
        found.push((base, records_of(&batches[..total])));
        batches = &batches[total..];
    }
    found
}

/// Offset delta and value of each record.
fn records_of(batch: &[u8]) -> Vec<(i64, String)> {
    let mut records = Vec::new();
    let mut at = 61;
    while at < batch.len() {
        let length = varint(batch, &mut at);
        let end = at + length as usize;
        at += 1;
        varint(batch, &mut at);
        let delta = varint(batch, &mut at);
        let key = varint(batch, &mut at);
        at += key.max(0) as usize;
        let value = varint(batch, &mut at);
        let value = if value < 0 {
            "null".to_owned()
        } else {
            String::from_utf8_lossy(&batch[at..at + value as usize]).into_owned()
        };
        records.push((delta, value));
        at = end;
    }
    records
}

fn varint(bytes: &[u8], at: &mut usize) -> i64 {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
        shift += 7;
    }
}
