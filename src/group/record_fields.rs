//! Fields that records of several kinds of groups have, as Kafka writes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BufMut;

use super::consumer::Partitions;
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

const VALUE_VERSION: i16 = 0;
/// The first tag of a struct; few structs of these records have a second one.
pub(super) const TAG: u32 = 0;

/// The key of a record about `group`, or about one thing `of` it.
pub(super) fn key(key_type: i16, group: &str, of: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + group.len() + of.map_or(0, str::len));
    out.put_i16(key_type);
    let mut put = Put { out: &mut out, flexible: false };
    put.string(group);
    if let Some(of) = of {
        put.string(of);
    }
    out
}

/// Reads the fields of a value that is no tombstone.
pub(super) fn read<T>(
    value: Option<&[u8]>,
    fields: impl FnOnce(&mut Cursor<'_>) -> Result<T, ReadError>,
) -> Result<Option<T>, ReadError> {
    let Some(value) = value else { return Ok(None) };
    let mut value = Cursor::new(value, true);
    let version = value.i16()?;
    if version != VALUE_VERSION {
        return Err(ReadError::Version(version));
    }
    fields(&mut value).map(Some)
}

/// Version, fields, no tags.
pub(super) fn write(fields: impl FnOnce(&mut Put<'_, Vec<u8>>)) -> Vec<u8> {
    write_with_tag(fields, None)
}

/// Version, fields, and at most one tagged field with these bytes.
pub(super) fn write_with_tag(fields: impl FnOnce(&mut Put<'_, Vec<u8>>), tagged: Option<&[u8]>) -> Vec<u8> {
    match tagged {
        Some(bytes) => write_with_tags(fields, &[(TAG, bytes)]),
        None => write_with_tags(fields, &[]),
    }
}

/// Version, fields, and tagged fields with their bytes, in the order of their tags.
pub(super) fn write_with_tags(fields: impl FnOnce(&mut Put<'_, Vec<u8>>), tagged: &[(u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.put_i16(VALUE_VERSION);
    let mut put = Put { out: &mut out, flexible: true };
    fields(&mut put);
    put_tags(&mut put, tagged);
    out
}

/// The tags of a struct that has at most one.
pub(super) fn put_tag(put: &mut Put<'_, Vec<u8>>, tagged: Option<&[u8]>) {
    match tagged {
        Some(bytes) => put_tags(put, &[(TAG, bytes)]),
        None => put_tags(put, &[]),
    }
}

fn put_tags(put: &mut Put<'_, Vec<u8>>, tagged: &[(u32, &[u8])]) {
    put.tags(u32::try_from(tagged.len()).expect("a struct has few tags"));
    for (tag, bytes) in tagged {
        put.tag(*tag, bytes.len());
        put.out.put_slice(bytes);
    }
}

/// The one tagged field, 0 without it; ends the struct.
pub(super) fn tagged_i64(value: &mut Cursor<'_>) -> Result<i64, ReadError> {
    let mut found = 0;
    value.tags(|tag, mut field| {
        if tag == TAG {
            found = field.i64()?;
        }
        Ok(())
    })?;
    Ok(found)
}

/// Topics with their partitions.
pub(super) fn partitions(value: &mut Cursor<'_>) -> Result<Partitions, ReadError> {
    let mut partitions = Partitions::new();
    // Topic id, a length and tags.
    for _ in 0..value.array(18)?.ok_or(ReadError::Null)? {
        let topic = value.uuid()?;
        partitions.insert(topic, integers(value)?.into_iter().collect());
        value.skip_tags()?;
    }
    Ok(partitions)
}

/// The same.
pub(super) fn put_partitions(put: &mut Put<'_, Vec<u8>>, partitions: &Partitions) {
    put.len(Some(partitions.len()));
    for (topic, partitions) in partitions {
        put.uuid(*topic);
        put_integers(put, partitions.iter().copied(), partitions.len());
        put.tags(0);
    }
}

/// A set of strings.
pub(super) fn strings(value: &mut Cursor<'_>) -> Result<BTreeSet<Arc<str>>, ReadError> {
    (0..value.array(1)?.ok_or(ReadError::Null)?).map(|_| value.string().map(Arc::from)).collect()
}

/// The same.
pub(super) fn put_strings(put: &mut Put<'_, Vec<u8>>, strings: &BTreeSet<Arc<str>>) {
    put.len(Some(strings.len()));
    for string in strings {
        put.string(string);
    }
}

/// Integers in order.
pub(super) fn integers(value: &mut Cursor<'_>) -> Result<Vec<i32>, ReadError> {
    (0..value.array(4)?.ok_or(ReadError::Null)?).map(|_| value.i32()).collect()
}

/// The same.
pub(super) fn put_integers(put: &mut Put<'_, Vec<u8>>, integers: impl Iterator<Item = i32>, count: usize) {
    put.len(Some(count));
    for integer in integers {
        put.out.put_i32(integer);
    }
}
