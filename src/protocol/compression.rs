//! The codecs that a batch's attributes name. Each decompression is bounded by what its caller will hold: a bomb is an
//! error after `max` bytes, never an allocation by a length that the bytes claim.

use std::io::{self, Read, Write};

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in snappy-java's framing; bare snappy is read too.
    Snappy,
    /// LZ4 frame.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Why bytes cannot be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// Ids 5 to 7 mean nothing.
    #[error("unknown compression type id: {0}")]
    UnknownId(i16),
    /// The bytes are not what the codec writes.
    #[error("compressed records are damaged")]
    Damaged,
    /// More than the caller's bound would come out.
    #[error("records decompress to more than {max} bytes")]
    TooLarge {
        /// The bound.
        max: u64,
    },
}

impl Compression {
    /// The codec with this id in a batch's attributes.
    pub fn from_id(id: i16) -> Result<Self, CompressionError> {
        Ok(match id {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return Err(CompressionError::UnknownId(id)),
        })
    }

    /// Its id in a batch's attributes.
    pub fn id(self) -> i16 {
        self as i16
    }
}

/// Decompresses `bytes` into at most `max` bytes.
pub fn decompress(codec: Compression, bytes: &[u8], max: u64) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None => read_bounded(bytes, max),
        Compression::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(bytes), max),
        Compression::Snappy => snappy::decompress(bytes, max),
        Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(bytes), max),
        Compression::Zstd => {
            read_bounded(zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| CompressionError::Damaged)?, max)
        }
    }
}

fn read_bounded(reader: impl Read, max: u64) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    reader.take(max.saturating_add(1)).read_to_end(&mut out).map_err(|_| CompressionError::Damaged)?;
    if out.len() as u64 > max { Err(CompressionError::TooLarge { max }) } else { Ok(out) }
}

/// Compresses `bytes` at the codec's default level.
pub fn compress(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    compress_at(codec, None, bytes)
}

/// Compresses `bytes` at one of the codec's levels, of which gzip and zstd have several.
pub fn compress_at(codec: Compression, level: Option<i32>, bytes: &[u8]) -> Vec<u8> {
    let written = || -> io::Result<Vec<u8>> {
        match codec {
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => {
                // A negative one stands for the default.
                let level = level.and_then(|level| u32::try_from(level).ok());
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Compression::Snappy => snappy::compress(bytes),
            Compression::Lz4 => {
                let mut info = lz4_flex::frame::FrameInfo::new();
                info.block_size = lz4_flex::frame::BlockSize::Max64KB; // what Kafka's clients write
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(bytes)?;
                encoder.finish().map_err(io::Error::other)
            }
            Compression::Zstd => zstd::stream::encode_all(bytes, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)),
        }
    };
    written().expect("nothing but memory is written to")
}

/// snappy-java's framing: magic, two version numbers, then blocks of big-endian length and raw snappy.
mod snappy {
    use std::io;

    use super::CompressionError;

    const MAGIC: &[u8] = b"\x82SNAPPY\0";
    const HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    const BLOCK_BYTES: usize = 32 * 1024;
    /// No snappy element makes more than 64 bytes of 3, so a block that claims more than this much growth lies.
    const GROWTH_MAX: usize = 32;

    pub(super) fn decompress(bytes: &[u8], max: u64) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        if !bytes.starts_with(MAGIC) {
            decompress_block(bytes, max, &mut out)?;
            return Ok(out);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if rest.starts_with(MAGIC) {
                // Streams may be concatenated, each with its header.
                rest = rest.get(HEADER.len()..).ok_or(CompressionError::Damaged)?;
                continue;
            }
            let (length, behind) = rest.split_first_chunk::<4>().ok_or(CompressionError::Damaged)?;
            let (block, behind) =
                behind.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(CompressionError::Damaged)?;
            decompress_block(block, max, &mut out)?;
            rest = behind;
        }
        Ok(out)
    }

    fn decompress_block(block: &[u8], max: u64, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let claimed = snap::raw::decompress_len(block).map_err(|_| CompressionError::Damaged)?;
        if claimed > block.len().saturating_mul(GROWTH_MAX) {
            return Err(CompressionError::Damaged);
        }
        let from = out.len();
        if (from as u64).saturating_add(claimed as u64) > max {
            return Err(CompressionError::TooLarge { max });
        }
        out.resize(from + claimed, 0);
        let made =
            snap::raw::Decoder::new().decompress(block, &mut out[from..]).map_err(|_| CompressionError::Damaged)?;
        out.truncate(from + made);
        Ok(())
    }

    pub(super) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = HEADER.to_vec();
        let mut encoder = snap::raw::Encoder::new();
        for block in bytes.chunks(BLOCK_BYTES) {
            let block = encoder.compress_vec(block)?;
            out.extend_from_slice(&(block.len() as u32).to_be_bytes());
            out.extend_from_slice(&block);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    #[rstest]
    fn a_bomb_is_an_error_and_the_exact_bound_is_not(#[values(0, 1, 2, 3, 4)] id: i16) {
        let codec = Compression::from_id(id).expect("known");
        let packed = compress(codec, &vec![0; 1 << 20]);
        assert_eq!(decompress(codec, &packed, (1 << 20) - 1), Err(CompressionError::TooLarge { max: (1 << 20) - 1 }));
        assert_eq!(decompress(codec, &packed, 1 << 20).expect("fits").len(), 1 << 20);
    }

    #[rstest]
    #[case(Compression::Gzip, 1, 9)]
    #[case(Compression::Gzip, 1, -1)]
    #[case(Compression::Zstd, -50, 19)]
    fn a_higher_level_packs_closer(#[case] codec: Compression, #[case] low: i32, #[case] high: i32) {
        let text: Vec<u8> = (0..40_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 22).to_be_bytes()).collect();
        let [low, high] = [low, high].map(|level| compress_at(codec, Some(level), &text));
        assert!(high.len() < low.len(), "{} {}", high.len(), low.len());
        assert_eq!(decompress(codec, &high, 1 << 20).expect("sound"), text);
    }

    #[test]
    fn bare_and_concatenated_snappy_are_read() {
        let bare = snap::raw::Encoder::new().compress_vec(b"terrace").expect("memory");
        assert_eq!(decompress(Compression::Snappy, &bare, 100).expect("bare"), b"terrace");
        let framed = compress(Compression::Snappy, b"terrace");
        let twice = [framed.as_slice(), framed.as_slice()].concat();
        assert_eq!(decompress(Compression::Snappy, &twice, 100).expect("twice"), b"terraceterrace");
    }

    #[test]
    fn a_snappy_block_that_claims_too_much_is_refused_before_memory_is_taken() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert_eq!(decompress(Compression::Snappy, &claim, u64::MAX), Err(CompressionError::Damaged));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_codec_gives_back_what_it_got(bytes in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            for codec in CODECS {
                prop_assert_eq!(decompress(codec, &compress(codec, &bytes), bytes.len() as u64), Ok(bytes.clone()));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), id in 0..5i16) {
            let codec = Compression::from_id(id).expect("known");
            let mut framed = compress(codec, b"a real beginning");
            let _ = decompress(codec, &bytes, 1000);
            framed.extend_from_slice(&bytes);
            let _ = decompress(codec, &framed, 1000);
        }
    }
}
