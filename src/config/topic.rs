//! The effective configuration of one topic: its overrides over the broker's dynamic and static values over defaults.

/// `cleanup.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted by time and size.
    pub delete: bool,
    /// Only the last value of each key is kept.
    pub compact: bool,
}

/// `message.timestamp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's time.
    CreateTime,
    /// The broker's time at the append.
    LogAppendTime,
}

/// `compression.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCompression {
    /// As the producer sent it.
    Producer,
    /// Recompressed to one codec (0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd).
    Fixed(i16),
}

/// `record.validation` (ours).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordValidation {
    /// CRC, sizes, counts, timestamps and sequences of the header.
    Header,
    /// Every record is walked.
    Full,
}

/// All topic keys with their types resolved. `None` stands for Kafka's "no limit" (-1, or the largest number).
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type`.
    pub compression: TopicCompression,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `flush.messages`; `None` never.
    pub flush_messages: Option<u64>,
    /// `flush.ms`; `None` never.
    pub flush_ms: Option<u64>,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`: the largest batch, as it is sent.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `retention.ms`; `None` forever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` unlimited.
    pub retention_bytes: Option<u64>,
    /// `local.retention.ms` with -2 resolved to `retention.ms`; `None` forever.
    pub local_retention_ms: Option<i64>,
    /// `local.retention.bytes` with -2 resolved to `retention.bytes`; `None` unlimited.
    pub local_retention_bytes: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `remote.storage.enable`, and tiering is on for the broker, and the topic may be tiered.
    pub remote_storage_enable: bool,
    /// `remote.log.copy.disable`.
    pub remote_log_copy_disable: bool,
    /// `remote.log.delete.on.disable`.
    pub remote_log_delete_on_disable: bool,
    /// `remote.copy.lag.ms` with -2 resolved; -1: when it becomes eligible for local deletion; 0: at once.
    pub remote_copy_lag_ms: i64,
    /// `remote.copy.lag.bytes`, likewise.
    pub remote_copy_lag_bytes: i64,
    /// `record.validation`.
    pub record_validation: RecordValidation,
    /// `record.decompressed.max.bytes`: the most that anything of ours decompresses of one batch.
    pub record_decompressed_max_bytes: u64,
}
