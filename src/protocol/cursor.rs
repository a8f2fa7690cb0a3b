//! Reads the fields of a message whose bytes may be anybody's: every length is held against what remains.

use uuid::Uuid;

use super::varint::{self, BadVarint};

/// The longest string on the wire, whatever its length field could say.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Why a message cannot be read; the connection that sent it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A field, or what its length or count promises, lies beyond the end.
    #[error("message ends inside of a field")]
    Truncated,
    /// A field that cannot be null is.
    #[error("field is null that cannot be")]
    Null,
    /// A string is longer than [`STRING_BYTES_MAX`].
    #[error("string field had invalid length {0}")]
    LongString(usize),
    /// A string is not UTF-8.
    #[error("string is not UTF-8")]
    NotUtf8,
    /// No such version of this message is read here.
    #[error("version {0} is not read here")]
    Version(i16),
}

impl From<BadVarint> for ReadError {
    fn from(_: BadVarint) -> Self {
        Self::Truncated
    }
}

/// A place in a message. `flexible` says how lengths are written.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    flexible: bool,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(&mut self) -> Result<$type, ReadError> {
            let (field, rest) = self.rest.split_first_chunk().ok_or(ReadError::Truncated)?;
            self.rest = rest;
            Ok(<$type>::from_be_bytes(*field))
        })*
    };
}

impl<'a> Cursor<'a> {
    /// Begins at the front of `bytes`.
    pub fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self { rest: bytes, flexible }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fixed! {
        /// One byte.
        i8: i8;
        /// Two bytes.
        i16: i16;
        /// Four bytes.
        i32: i32;
        /// Eight bytes.
        i64: i64;
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<Uuid, ReadError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(Uuid::from_bytes(*field))
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, ReadError> {
        let length = if self.flexible { self.compact_len()? } else { usize::try_from(self.i16()?).ok() };
        match length {
            None => Ok(None),
            Some(length) if length > STRING_BYTES_MAX => Err(ReadError::LongString(length)),
            Some(length) => str::from_utf8(self.take(length)?).map(Some).map_err(|_| ReadError::NotUtf8),
        }
    }

    /// A string.
    pub fn string(&mut self) -> Result<&'a str, ReadError> {
        self.nullable_string()?.ok_or(ReadError::Null)
    }

    /// Bytes or records that may be null.
    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, ReadError> {
        self.len()?.map(|length| self.take(length)).transpose()
    }

    /// The count of an array, `None` for null; each element takes at least `element_bytes_min` bytes (at least 1), so that a
    /// count which the remaining bytes cannot hold is refused here.
    pub fn array(&mut self, element_bytes_min: usize) -> Result<Option<usize>, ReadError> {
        let Some(count) = self.len()? else { return Ok(None) };
        if count.saturating_mul(element_bytes_min.max(1)) > self.rest.len() {
            return Err(ReadError::Truncated);
        }
        Ok(Some(count))
    }

    /// Skips the tagged fields; nothing happens in a version that has none.
    pub fn skip_tags(&mut self) -> Result<(), ReadError> {
        self.tags(|_, _| Ok(()))
    }

    /// Hands each tagged field (tag, its bytes) to `field`.
    pub fn tags(&mut self, mut field: impl FnMut(u32, Cursor<'a>) -> Result<(), ReadError>) -> Result<(), ReadError> {
        if !self.flexible {
            return Ok(());
        }
        // A field takes two bytes at least, so that a huge count ends soon.
        for _ in 0..varint::read_unsigned(&mut self.rest)? {
            let tag = varint::read_unsigned(&mut self.rest)?;
            let length = varint::read_unsigned(&mut self.rest)? as usize;
            field(tag, Cursor::new(self.take(length)?, true))?;
        }
        Ok(())
    }

    fn len(&mut self) -> Result<Option<usize>, ReadError> {
        // Any negative length is null, as in Kafka's readers.
        if self.flexible { self.compact_len() } else { Ok(usize::try_from(self.i32()?).ok()) }
    }

    fn compact_len(&mut self) -> Result<Option<usize>, ReadError> {
        Ok((varint::read_unsigned(&mut self.rest)? as usize).checked_sub(1))
    }
}
