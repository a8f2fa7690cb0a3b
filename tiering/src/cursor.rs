//! Reads numbers, ids and strings from bytes of which nothing is known: every length is checked against what remains.

use uuid::Uuid;

/// The bytes end too early, or a value is out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// A place in a byte slice; every read moves it. All numbers are big-endian.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing remains?
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed("length"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("length"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// An unsigned 16-bit number.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// An unsigned 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// An unsigned 64-bit number.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A signed 32-bit number.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// A signed 64-bit number.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A UUID as 16 bytes.
    pub fn uuid(&mut self) -> Result<Uuid, Malformed> {
        self.array().map(Uuid::from_bytes)
    }

    /// A string with a 16-bit length.
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u16()?;
        std::str::from_utf8(self.take(usize::from(len))?).map_err(|_| Malformed("string"))
    }

    /// A count of elements that each take at least `element_min` bytes of what remains.
    pub fn count(&mut self, element_min: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / element_min.max(1) {
            return Err(Malformed("count"));
        }
        Ok(count)
    }

    /// An unsigned number of 7-bit groups, low group first.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("varint"))
    }

    /// A signed number, zigzag over [`Cursor::varint`].
    pub fn zigzag(&mut self) -> Result<i64, Malformed> {
        let raw = self.varint()?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }
}

/// Writes what [`Cursor`] reads.
pub trait Put {
    /// A string with a 16-bit length; cut at the last whole character that fits.
    fn put_string(&mut self, value: &str);
    /// See [`Cursor::varint`].
    fn put_varint(&mut self, value: u64);
    /// See [`Cursor::zigzag`].
    fn put_zigzag(&mut self, value: i64);
}

impl Put for Vec<u8> {
    fn put_string(&mut self, value: &str) {
        let mut len = value.len().min(usize::from(u16::MAX));
        while !value.is_char_boundary(len) {
            len -= 1;
        }
        self.extend_from_slice(&(len as u16).to_be_bytes());
        self.extend_from_slice(&value.as_bytes()[..len]);
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_zigzag(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)) as u64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive_the_round_trip(unsigned: u64, signed: i64, text in ".{0,40}") {
            let mut bytes = Vec::new();
            bytes.put_varint(unsigned);
            bytes.put_zigzag(signed);
            bytes.put_string(&text);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varint()?, unsigned);
            prop_assert_eq!(cursor.zigzag()?, signed);
            prop_assert_eq!(cursor.string()?, text);
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut cursor = Cursor::new(&bytes);
            while cursor.varint().is_ok() {}
            let _ = Cursor::new(&bytes).string();
            let _ = Cursor::new(&bytes).count(4);
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        assert_eq!(Cursor::new(&[0xFF; 8]).count(4), Err(Malformed("count")));
    }
}
