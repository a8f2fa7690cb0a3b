//! The last 40 bytes of an object: where its footer lies.
//!
//! ```text
//! footer position u64 | footer length u64 | section count u32 | version u16 | reserved u16 (0)
//! CRC-32C of the footer u32 | CRC-32C of all bytes before this one u32 | magic "TRCTRAIL"
//! ```

use crate::cursor::Cursor;
use crate::object::footer::FooterError;

/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 40;
/// The version that is written. A reader refuses a higher one: it would mean another layout, not another section.
pub const VERSION: u16 = 1;
/// A footer is never larger; a trailer that claims more is not ours.
pub const FOOTER_LEN_MAX: u64 = 256 << 20;

const MAGIC: [u8; 8] = *b"TRCTRAIL";
const CRC_AT: usize = 28;

/// Where the footer of an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the footer begins: the length of the segment.
    pub footer_position: u64,
    /// Bytes of the footer.
    pub footer_len: u64,
    /// Sections in it.
    pub section_count: u32,
    /// CRC-32C over the whole footer.
    pub footer_crc: u32,
}

impl Trailer {
    /// The bytes at the object's end.
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut out = [0; TRAILER_LEN];
        out[..8].copy_from_slice(&self.footer_position.to_be_bytes());
        out[8..16].copy_from_slice(&self.footer_len.to_be_bytes());
        out[16..20].copy_from_slice(&self.section_count.to_be_bytes());
        out[20..22].copy_from_slice(&VERSION.to_be_bytes());
        out[24..28].copy_from_slice(&self.footer_crc.to_be_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..32].copy_from_slice(&crc.to_be_bytes());
        out[32..].copy_from_slice(&MAGIC);
        out
    }

    /// Reads the last bytes of an object of `object_bytes`.
    pub fn parse(bytes: &[u8; TRAILER_LEN], object_bytes: u64) -> Result<Self, FooterError> {
        if bytes[32..] != MAGIC {
            return Err(FooterError::Malformed("trailer magic"));
        }
        let mut cursor = Cursor::new(bytes);
        let (footer_position, footer_len) = (cursor.u64()?, cursor.u64()?);
        let (section_count, version, _) = (cursor.u32()?, cursor.u16()?, cursor.u16()?);
        let (footer_crc, crc) = (cursor.u32()?, cursor.u32()?);
        if crc32c::crc32c(&bytes[..CRC_AT]) != crc {
            return Err(FooterError::Malformed("trailer CRC"));
        }
        if version != VERSION {
            return Err(FooterError::Version(version));
        }
        let whole = footer_position.checked_add(footer_len).and_then(|end| end.checked_add(TRAILER_LEN as u64));
        if whole != Some(object_bytes) || footer_len > FOOTER_LEN_MAX {
            return Err(FooterError::Malformed("trailer positions"));
        }
        Ok(Self { footer_position, footer_len, section_count, footer_crc })
    }
}
