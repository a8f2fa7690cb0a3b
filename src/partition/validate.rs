//! What is checked of a batch before the partition's lock is taken: all that its bytes say by themselves.

use super::append::{AppendError, AppendOrigin};
use super::bad_records;
use crate::config::topic::{RecordValidation, TimestampType, TopicConfig};
use crate::protocol::record_batch::{BatchError, BatchView};

/// What the append needs of batches that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    /// Bytes of whole batches; what a client sent behind them is ignored, as Kafka does.
    pub(super) bytes: usize,
    /// Offsets that they take.
    pub(super) offsets: i64,
    /// The largest timestamp.
    pub(super) max_timestamp: i64,
}

/// Checks `bytes` against the topic's rules.
pub(super) fn check(
    bytes: &[u8],
    origin: AppendOrigin,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<Checked, AppendError> {
    match origin {
        AppendOrigin::Client => check_client(bytes, config, now_ms),
        AppendOrigin::Coordinator => check_own(bytes, config),
    }
}

fn check_client(bytes: &[u8], config: &TopicConfig, now_ms: i64) -> Result<Checked, AppendError> {
    let (batch, rest) = match BatchView::split_first(bytes) {
        Ok(split) => split,
        Err(BatchError::Truncated) => return Err(AppendError::InvalidRecord("records hold no whole batch")),
        Err(BatchError::BadMagic(_)) => return Err(AppendError::InvalidRecord("batch is not of message format v2")),
        Err(error) => return Err(error.into()),
    };
    if !matches!(BatchView::split_first(rest), Err(BatchError::Truncated)) {
        return Err(AppendError::InvalidRecord("more than one batch for a partition"));
    }
    check_size(batch.bytes().len(), config)?;
    batch.check_crc()?;
    if batch.is_control() {
        return Err(AppendError::InvalidRecord("clients may not write control batches"));
    }
    if batch.is_transactional() && batch.producer_id() < 0 {
        return Err(AppendError::InvalidRecord("batch of a transaction without a producer"));
    }
    let (count, span) = (batch.records_count(), i64::from(batch.last_offset_delta()) + 1);
    if count <= 0 || i64::from(count) != span {
        return Err(AppendError::InvalidRecord("number of records disagrees with the last offset delta"));
    }
    if batch.producer_id() >= 0 && (batch.base_sequence() < 0 || batch.producer_epoch() < 0) {
        return Err(AppendError::InvalidRecord("producer without an epoch or a sequence"));
    }
    if batch.compression_id() > 4 {
        return Err(AppendError::UnsupportedCompression(batch.compression_id()));
    }
    let wrong_time = wrong_time(&batch, config, now_ms);
    let must_be_readable = config.record_validation == RecordValidation::Full || config.cleanup_policy.compact;
    // Of a wrong time in the header the producer wants to know which of its records are to blame.
    if must_be_readable || wrong_time.is_some() {
        match bad_records::find(&batch, config, now_ms) {
            Ok(bad) if bad.count > 0 => return Err(AppendError::BadRecords(bad)),
            Err(why) if must_be_readable => return Err(AppendError::InvalidRecord(why)),
            Ok(_) | Err(_) => {}
        }
    }
    if let Some(timestamp_ms) = wrong_time {
        return Err(AppendError::InvalidTimestamp { timestamp_ms });
    }
    Ok(Checked { bytes: batch.bytes().len(), offsets: span, max_timestamp: batch.max_timestamp() })
}

/// Our own batches: no limit but the format's.
fn check_own(bytes: &[u8], config: &TopicConfig) -> Result<Checked, AppendError> {
    let mut checked = Checked { bytes: bytes.len(), offsets: 0, max_timestamp: -1 };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (batch, behind) = BatchView::split_first(rest)?;
        check_size(batch.bytes().len(), config)?;
        if batch.last_offset_delta() < 0 {
            return Err(AppendError::InvalidRecord("batch without an offset"));
        }
        checked.offsets += i64::from(batch.last_offset_delta()) + 1;
        checked.max_timestamp = checked.max_timestamp.max(batch.max_timestamp());
        rest = behind;
    }
    if checked.offsets == 0 { Err(AppendError::InvalidRecord("records hold no whole batch")) } else { Ok(checked) }
}

/// Of a batch as it was sent, and once more as it is stored when that is another size.
pub(super) fn check_size(bytes: usize, config: &TopicConfig) -> Result<(), AppendError> {
    let size = bytes as u64;
    if size > config.max_message_bytes.into() {
        return Err(AppendError::TooLarge { size, limit: config.max_message_bytes.into() });
    }
    if size > config.segment_bytes.into() {
        return Err(AppendError::LargerThanSegment { size, limit: config.segment_bytes.into() });
    }
    Ok(())
}

/// A time in the header that the topic refuses.
fn wrong_time(batch: &BatchView<'_>, config: &TopicConfig, now_ms: i64) -> Option<i64> {
    if batch.is_log_append_time() {
        return Some(batch.max_timestamp());
    }
    let mut times = [batch.base_timestamp(), batch.max_timestamp()].into_iter();
    let counts = config.timestamp_type == TimestampType::CreateTime;
    times.find(|time| counts && bad_records::is_out_of_range(*time, config, now_ms))
}
