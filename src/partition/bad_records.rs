//! Records that a topic of this kind may not hold: which of a batch they are, and what the producer is told (KIP-467).

use std::fmt;

use crate::config::topic::{TimestampType, TopicConfig};
use crate::protocol::record_batch::{BatchView, Offset};
use crate::protocol::records::{self, Record};

/// As many are spelled out in the message for the whole batch.
const SHOWN: usize = 3;
/// As many are named: a small batch may hold millions, and an answer says a hundred bytes about each.
const NAMED_MAX: usize = 1000;

/// Those of one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRecords {
    /// The first of them.
    pub named: Vec<BadRecord>,
    /// How many there are.
    pub count: usize,
    /// A wrong time spoils the batch, whatever else does.
    pub any_wrong_time: bool,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Its place in the batch.
    pub place: i32,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a record. The first counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A compacted topic needs a key.
    NoKey,
    /// Its time is outside `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`.
    OutOfRange {
        /// Its offset as it was sent.
        offset: Offset,
        /// Its time.
        timestamp_ms: i64,
        /// The earliest and the latest that the topic takes.
        range_ms: (i64, i64),
    },
    /// The producer says that its time is the broker's.
    BrokersTime {
        /// Its offset as it was sent.
        offset: Offset,
    },
}

impl BadRecord {
    /// What the producer is told about it.
    pub fn describe(&self, partition: impl fmt::Display) -> String {
        match self.fault {
            Fault::NoKey => format!("Compacted topic cannot accept message without key in topic partition {partition}"),
            Fault::OutOfRange { offset, timestamp_ms, range_ms: (earliest, latest) } => format!(
                "Timestamp {timestamp_ms} of message with offset {offset} is out of range. The timestamp should be within \
                 [{earliest}, {latest}]"
            ),
            Fault::BrokersTime { offset } => format!(
                "Invalid timestamp type in message Record(offset={offset}). Producer should not set timestamp type to \
                 LogAppendTime."
            ),
        }
    }
}

impl BadRecords {
    fn push(&mut self, place: i32, fault: Fault) {
        self.count += 1;
        self.any_wrong_time |= !matches!(fault, Fault::NoKey);
        if self.named.len() < NAMED_MAX {
            self.named.push(BadRecord { place, fault });
        }
    }

    /// What the producer is told about the batch.
    pub fn summary(&self, partition: &impl fmt::Display) -> String {
        if self.any_wrong_time {
            return "One or more records have been rejected due to invalid timestamp".to_owned();
        }
        let show =
            |bad: &BadRecord| format!("RecordError(batchIndex={}, message='{}')", bad.place, bad.describe(partition));
        let shown: Vec<_> = self.named.iter().take(SHOWN).map(show).collect();
        format!(
            "One or more records have been rejected due to {} record errors in total, and only showing the first three \
             errors at most: [{}]",
            self.count,
            shown.join(", ")
        )
    }
}

/// Is `timestamp_ms` one that the topic refuses? -1 says that the record has none.
pub(super) fn is_out_of_range(timestamp_ms: i64, config: &TopicConfig, now_ms: i64) -> bool {
    let too_old = now_ms.saturating_sub(timestamp_ms) > config.timestamp_before_max_ms;
    let too_new = timestamp_ms.saturating_sub(now_ms) > config.timestamp_after_max_ms;
    timestamp_ms != -1 && (too_old || too_new)
}

/// Walks every record of `batch`; an error tells what makes it unreadable.
pub(super) fn find(batch: &BatchView<'_>, config: &TopicConfig, now_ms: i64) -> Result<BadRecords, &'static str> {
    let unreadable = |_| "records of the batch cannot be read";
    let opened = records::records(batch, config.record_decompressed_max_bytes).map_err(unreadable)?;
    let mut bad = BadRecords::default();
    for (expected, record) in opened.iter().enumerate() {
        let record = record.map_err(unreadable)?;
        if usize::try_from(record.offset_delta) != Ok(expected) {
            return Err("offsets of the records do not follow on");
        }
        if let Some(fault) = fault(&record, batch, config, now_ms) {
            bad.push(record.offset_delta, fault);
        }
    }
    Ok(bad)
}

fn fault(record: &Record<'_>, batch: &BatchView<'_>, config: &TopicConfig, now_ms: i64) -> Option<Fault> {
    let (offset, timestamp_ms) = (record.offset, record.timestamp);
    if config.cleanup_policy.compact && record.key.is_none() {
        return Some(Fault::NoKey);
    }
    if batch.is_log_append_time() {
        return Some(Fault::BrokersTime { offset });
    }
    let counts = config.timestamp_type == TimestampType::CreateTime;
    (counts && is_out_of_range(timestamp_ms, config, now_ms)).then(|| Fault::OutOfRange {
        offset,
        timestamp_ms,
        range_ms: (
            now_ms.saturating_sub(config.timestamp_before_max_ms),
            now_ms.saturating_add(config.timestamp_after_max_ms),
        ),
    })
}
