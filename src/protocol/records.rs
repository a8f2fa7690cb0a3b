//! The records of one batch, read lazily; the bytes may be anybody's, so every length is held against what remains.
//!
//! ```text
//! record: length varint | attributes i8 | timestamp delta varlong | offset delta varint
//!         | key length varint, key | value length varint, value | headers count varint, headers
//! header: key length varint, key | value length varint, value
//! ```
//! Uncompressed records borrow from the batch; compressed ones are decompressed whole, at most `max_decompressed` bytes.

use std::borrow::Cow;

use super::compression::{Compression, CompressionError, decompress};
use super::record_batch::{BatchView, Offset};
use super::varint::{self, BadVarint};

/// Why the records of a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The attributes name a codec that does not exist, or the compressed bytes are damaged or too large.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The header's count is negative.
    #[error("found invalid record count {0} in the batch")]
    BadCount(i32),
    /// A field reaches beyond its record, or a record beyond its batch.
    #[error("a record's field ends outside of its record")]
    Truncated,
    /// A length or count that must not be negative is, or a record is longer than its fields.
    #[error("a record's length disagrees with its fields")]
    BadLength,
    /// The header promises fewer records than there are bytes for.
    #[error("bytes remain behind the records that the batch declares")]
    BytesRemain,
}

impl From<BadVarint> for RecordsError {
    fn from(_: BadVarint) -> Self {
        Self::Truncated
    }
}

/// The readable records of one batch; iterate over a reference to it.
#[derive(Debug)]
pub struct Records<'a> {
    bytes: Cow<'a, [u8]>,
    count: i32,
    base_offset: Offset,
    base_timestamp: i64,
    append_timestamp: Option<i64>,
}

/// Opens the records of `batch`, decompressing at most `max_decompressed` bytes.
pub fn records<'a>(batch: &BatchView<'a>, max_decompressed: u64) -> Result<Records<'a>, RecordsError> {
    let count = batch.records_count();
    if count < 0 {
        return Err(RecordsError::BadCount(count));
    }
    let bytes = match Compression::from_id(batch.compression_id())? {
        Compression::None => Cow::Borrowed(batch.records_bytes()),
        codec => Cow::Owned(decompress(codec, batch.records_bytes(), max_decompressed)?),
    };
    Ok(Records {
        bytes,
        count,
        base_offset: batch.base_offset(),
        base_timestamp: batch.base_timestamp(),
        append_timestamp: batch.is_log_append_time().then(|| batch.max_timestamp()),
    })
}

impl<'r> IntoIterator for &'r Records<'_> {
    type Item = Result<Record<'r>, RecordsError>;
    type IntoIter = RecordIter<'r>;

    fn into_iter(self) -> RecordIter<'r> {
        self.iter()
    }
}

impl Records<'_> {
    /// The records in order; an error is the last item.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter { rest: &self.bytes, left: self.count, records: self, done: false }
    }
}

/// One record, its bytes where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'r> {
    /// Its offset.
    pub offset: Offset,
    /// Its offset minus the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp in milliseconds; the broker's where the batch says LogAppendTime.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'r [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'r [u8]>,
    /// The headers, in order, duplicates kept.
    pub headers: Headers<'r>,
}

/// Walks the records of a batch; ends after the first error.
#[derive(Debug)]
pub struct RecordIter<'r> {
    rest: &'r [u8],
    left: i32,
    records: &'r Records<'r>,
    done: bool,
}

impl<'r> Iterator for RecordIter<'r> {
    type Item = Result<Record<'r>, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            return (!self.rest.is_empty()).then_some(Err(RecordsError::BytesRemain));
        }
        self.left -= 1;
        let record = self.read();
        self.done = record.is_err();
        Some(record)
    }
}

impl<'r> RecordIter<'r> {
    fn read(&mut self) -> Result<Record<'r>, RecordsError> {
        let length = varint::read_i32(&mut self.rest)?;
        let mut body = take(&mut self.rest, usize::try_from(length).map_err(|_| RecordsError::BadLength)?)?;
        take(&mut body, 1)?; // attributes, all unused
        let timestamp_delta = varint::read_i64(&mut body)?;
        let offset_delta = varint::read_i32(&mut body)?;
        let key = read_nullable(&mut body)?;
        let value = read_nullable(&mut body)?;
        let headers = Headers::read(&mut body)?;
        if !body.is_empty() {
            return Err(RecordsError::BadLength);
        }
        let Records { base_offset, base_timestamp, append_timestamp, .. } = *self.records;
        Ok(Record {
            offset: base_offset.wrapping_add(i64::from(offset_delta)),
            offset_delta,
            timestamp: append_timestamp.unwrap_or(base_timestamp.wrapping_add(timestamp_delta)),
            key,
            value,
            headers,
        })
    }
}

/// The headers of a record: checked when the record was read, so that walking them cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'r> {
    bytes: &'r [u8],
    left: usize,
}

impl<'r> Headers<'r> {
    /// No headers.
    pub const EMPTY: Self = Self { bytes: &[], left: 0 };

    fn read(body: &mut &'r [u8]) -> Result<Self, RecordsError> {
        let left = usize::try_from(varint::read_i32(body)?).map_err(|_| RecordsError::BadLength)?;
        let bytes = *body;
        for _ in 0..left {
            read_nullable(body)?.ok_or(RecordsError::BadLength)?;
            read_nullable(body)?;
        }
        Ok(Self { bytes: &bytes[..bytes.len() - body.len()], left })
    }
}

impl<'r> Iterator for Headers<'r> {
    type Item = (&'r [u8], Option<&'r [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let key = read_nullable(&mut self.bytes).ok().flatten()?;
        Some((key, read_nullable(&mut self.bytes).ok()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn take<'r>(bytes: &mut &'r [u8], count: usize) -> Result<&'r [u8], RecordsError> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(RecordsError::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

/// Any negative length means null, as in Kafka's reader.
fn read_nullable<'r>(bytes: &mut &'r [u8]) -> Result<Option<&'r [u8]>, RecordsError> {
    match usize::try_from(varint::read_i32(bytes)?) {
        Ok(length) => take(bytes, length).map(Some),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
