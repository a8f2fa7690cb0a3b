//! The variable-length integers of records (zigzag) and of flexible messages (unsigned), bounded by the bytes at hand.

use bytes::BufMut;

/// The bytes end, or the number does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("variable-length integer is cut short or too long")]
pub struct BadVarint;

/// Reads an unsigned 32-bit integer at the front of `bytes` and moves behind it.
pub fn read_unsigned(bytes: &mut &[u8]) -> Result<u32, BadVarint> {
    read(bytes, 5).map(|value| value as u32)
}

/// Reads a zigzag 32-bit integer.
pub fn read_i32(bytes: &mut &[u8]) -> Result<i32, BadVarint> {
    let raw = read_unsigned(bytes)?;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads a zigzag 64-bit integer.
pub fn read_i64(bytes: &mut &[u8]) -> Result<i64, BadVarint> {
    let raw = read(bytes, 10)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Bits beyond the type's width in the last byte are dropped, as Kafka's `ByteUtils` does.
fn read(bytes: &mut &[u8], bytes_max: usize) -> Result<u64, BadVarint> {
    let mut value = 0u64;
    for (place, &byte) in bytes.iter().take(bytes_max).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *bytes = &bytes[place + 1..];
            return Ok(value);
        }
    }
    Err(BadVarint)
}

/// Appends an unsigned integer.
pub fn write_unsigned(out: &mut impl BufMut, value: u32) {
    write(out, u64::from(value));
}

/// Appends a zigzag 32-bit integer.
pub fn write_i32(out: &mut impl BufMut, value: i32) {
    write(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

/// Appends a zigzag 64-bit integer.
pub fn write_i64(out: &mut impl BufMut, value: i64) {
    write(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// How many bytes [`write_i32`] takes for `value`.
pub fn len_i32(value: i32) -> usize {
    let raw = ((value << 1) ^ (value >> 31)) as u32;
    (32 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

fn write(out: &mut impl BufMut, mut value: u64) {
    while value > 0x7f {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(small: i32, large: i64, plain: u32) {
            let mut out = Vec::new();
            write_i32(&mut out, small);
            prop_assert_eq!(out.len(), len_i32(small));
            write_i64(&mut out, large);
            write_unsigned(&mut out, plain);
            let mut rest = out.as_slice();
            prop_assert_eq!(read_i32(&mut rest), Ok(small));
            prop_assert_eq!(read_i64(&mut rest), Ok(large));
            prop_assert_eq!(read_unsigned(&mut rest), Ok(plain));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn endless_and_cut_integers_are_refused() {
        assert_eq!(read_unsigned(&mut [0x80; 5].as_slice()), Err(BadVarint));
        assert_eq!(read_i64(&mut [0xff; 11].as_slice()), Err(BadVarint));
        assert_eq!(read_i32(&mut [0x80].as_slice()), Err(BadVarint));
    }
}
