//! `compression.type` of a topic: a batch that comes in another codec than the topic's is compressed anew.

use super::append::{AppendError, AppendOrigin};
use super::validate;
use crate::config::topic::{TopicCompression, TopicConfig};
use crate::protocol::compression::{Compression, compress_at, decompress};
use crate::protocol::record_batch::{BatchView, CRC_FROM, HEADER_BYTES, LENGTH_OVERHEAD};

const COMPRESSION_MASK: u8 = 0x07;

/// The client's batch in the topic's codec; `None` when it is that already, which costs nothing.
pub(super) fn as_topic_wants(
    bytes: &[u8],
    origin: AppendOrigin,
    config: &TopicConfig,
) -> Result<Option<Vec<u8>>, AppendError> {
    let TopicCompression::Fixed { codec: wanted, level } = config.compression else { return Ok(None) };
    if origin != AppendOrigin::Client {
        return Ok(None);
    }
    let (batch, _) = BatchView::split_first(bytes)?;
    if batch.compression_id() == wanted {
        return Ok(None);
    }
    let unknown = |_| AppendError::UnsupportedCompression(batch.compression_id());
    let from = Compression::from_id(batch.compression_id()).map_err(unknown)?;
    let to = Compression::from_id(wanted).map_err(|_| AppendError::UnsupportedCompression(wanted))?;
    let plain = decompress(from, batch.records_bytes(), config.record_decompressed_max_bytes)
        .map_err(|_| AppendError::InvalidRecord("records of the batch cannot be decompressed"))?;
    let mut made = bytes[..HEADER_BYTES].to_vec();
    made.extend_from_slice(&compress_at(to, level, &plain));
    let length = i32::try_from(made.len() - LENGTH_OVERHEAD)
        .map_err(|_| AppendError::InvalidRecord("batch is too large in the topic's codec"))?;
    made[8..12].copy_from_slice(&length.to_be_bytes());
    made[22] = (made[22] & !COMPRESSION_MASK) | to.id() as u8;
    let crc = crc32c::crc32c(&made[CRC_FROM..]);
    made[17..21].copy_from_slice(&crc.to_be_bytes());
    // It may have grown.
    validate::check_size(made.len(), config)?;
    Ok(Some(made))
}
