//! Writes the fields of a message: lengths as the version has them.

use bytes::BufMut;
use uuid::Uuid;

use super::cursor::STRING_BYTES_MAX;
use super::varint;

/// A buffer and how lengths are written into it.
#[derive(Debug)]
pub struct Put<'b, B> {
    /// Fixed-size fields go in directly.
    pub out: &'b mut B,
    /// Compact lengths and tags?
    pub flexible: bool,
}

impl<B: BufMut> Put<'_, B> {
    /// A string.
    pub fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    /// A string that may be null. Past 32767 bytes, which no string on the wire may have, it is cut: only a text of ours
    /// around a client's long name can grow that far.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        let value = value.map(|value| &value[..value.floor_char_boundary(STRING_BYTES_MAX)]);
        match value {
            Some(value) if self.flexible => varint::write_unsigned(self.out, compact(value.len())),
            Some(value) => self.out.put_u16(value.len() as u16),
            None if self.flexible => self.out.put_u8(0),
            None => self.out.put_i16(-1),
        }
        self.out.put_slice(value.unwrap_or_default().as_bytes());
    }

    /// The count of an array or the length of bytes; `None` is null.
    pub fn len(&mut self, len: Option<usize>) {
        match len {
            Some(len) if self.flexible => varint::write_unsigned(self.out, compact(len)),
            Some(len) => self.out.put_i32(i32::try_from(len).expect("a length of a message is below 2 GiB")),
            None if self.flexible => self.out.put_u8(0),
            None => self.out.put_i32(-1),
        }
    }

    /// A uuid.
    pub fn uuid(&mut self, value: Uuid) {
        self.out.put_slice(value.as_bytes());
    }

    /// The number of tagged fields that follow; nothing in a version that has none.
    pub fn tags(&mut self, count: u32) {
        if self.flexible {
            varint::write_unsigned(self.out, count);
        }
    }

    /// The front of one tagged field.
    pub fn tag(&mut self, tag: u32, bytes: usize) {
        varint::write_unsigned(self.out, tag);
        varint::write_unsigned(self.out, compact(bytes) - 1);
    }
}

/// Compact lengths count one more, so that zero is null.
fn compact(len: usize) -> u32 {
    u32::try_from(len + 1).expect("a length of a message is below 2 GiB")
}
