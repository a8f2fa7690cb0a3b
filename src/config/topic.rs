//! The effective configuration of one topic: its overrides over the broker's dynamic and static values over defaults.

use std::collections::BTreeMap;

use super::given::Given;
use super::layers::{Dynamic, Layers};
use super::server::{BrokerConfig, RemoteSettings};
use super::{keys, value};

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
    /// Recompressed to one codec.
    Fixed {
        /// Kafka's number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
        codec: i16,
        /// `compression.gzip.level` or `compression.zstd.level`; the others have one.
        level: Option<i32>,
    },
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
    /// `errors.deadletterqueue.group.enable`.
    pub takes_dead_letters: bool,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `flush.messages`; `None` never.
    pub flush_messages: Option<u64>,
    /// `flush.ms`; `None` never.
    pub flush_ms: Option<u64>,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`: the largest batch, as it is sent and as it is stored.
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
    /// `remote.storage.enable`, and tiering is on for the broker, and the topic may be tiered. A compacted topic is tiered
    /// only where it names the key itself, never by the broker's default.
    pub remote_storage_enable: bool,
    /// `remote.log.copy.disable`.
    pub remote_log_copy_disable: bool,
    /// `remote.log.delete.on.disable`.
    pub remote_log_delete_on_disable: bool,
    /// `remote.log.drain.on.disable`.
    pub remote_log_drain_on_disable: bool,
    /// `remote.copy.lag.ms` with -2 resolved; -1: when it becomes eligible for local deletion; 0: at once.
    pub remote_copy_lag_ms: i64,
    /// `remote.copy.lag.bytes`, likewise.
    pub remote_copy_lag_bytes: i64,
    /// `record.validation`.
    pub record_validation: RecordValidation,
    /// `record.decompressed.max.bytes`: the most that anything of ours decompresses of one batch.
    pub record_decompressed_max_bytes: u64,
}

impl TopicConfig {
    /// What counts for the topic `name`, whose own settings are `overrides`.
    pub fn resolve(
        broker: &BrokerConfig,
        dynamic: Dynamic<'_>,
        name: &str,
        overrides: &BTreeMap<String, String>,
    ) -> Self {
        let layers = Layers { own: overrides, dynamic, given: &broker.given };
        Topic { layers, tier: Tier::of(&broker.remote), internal: is_internal(name) }.resolve()
    }

    /// What counts for a topic without settings of its own, before a broker's configuration is complete.
    pub(super) fn of_broker(given: &Given, remote: &RemoteSettings) -> Self {
        let own = BTreeMap::new();
        let layers = Layers { own: &own, dynamic: Dynamic::none(), given };
        Topic { layers, tier: Tier::of(remote), internal: false }.resolve()
    }
}

/// What becomes of the copies of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// They stay, also where the topic is no longer tiered.
    Stay,
    /// They go, and with them all that is not local.
    Go,
    /// They go once all that they hold is local.
    ComeBack,
}

impl TopicConfig {
    /// What becomes of what was copied.
    pub fn copies(&self) -> Copies {
        match (self.remote_storage_enable, self.remote_log_drain_on_disable, self.remote_log_delete_on_disable) {
            (false, true, _) => Copies::ComeBack,
            (false, false, true) => Copies::Go,
            (true, ..) | (false, false, false) => Copies::Stay,
        }
    }

    /// Are its segments copied, and copies put in the place of others?
    pub fn takes_copies(&self) -> bool {
        self.remote_storage_enable && !self.remote_log_copy_disable
    }
}

/// Topics that the broker keeps for itself; they are never tiered.
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// The part of the tier's settings that topics depend on.
struct Tier {
    enable: bool,
    uri_is_set: bool,
}

impl Tier {
    fn of(remote: &RemoteSettings) -> Self {
        Self { enable: remote.enable, uri_is_set: remote.uri_is_set }
    }
}

struct Topic<'a> {
    layers: Layers<'a>,
    tier: Tier,
    internal: bool,
}

impl Topic<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let key = keys::TOPIC.get(name).copied().unwrap_or_else(|| panic!("{name} is not declared in config/keys"));
        self.layers.value(key)
    }

    fn long(&self, name: &str) -> i64 {
        let number = self.text(name).and_then(|text| text.trim().parse().ok());
        number.unwrap_or_else(|| panic!("{name} is declared without a number as default"))
    }

    /// Declared as int and not negative.
    fn size(&self, name: &str) -> u32 {
        u32::try_from(self.long(name)).unwrap_or_else(|_| panic!("{name} is declared without a lower bound"))
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name).as_deref().and_then(value::parse_boolean).unwrap_or(false)
    }

    /// -1, and any other negative number, is no limit.
    fn limit_ms(&self, name: &str) -> Option<i64> {
        Some(self.long(name)).filter(|limit| *limit >= 0)
    }

    fn limit_bytes(&self, name: &str) -> Option<u64> {
        u64::try_from(self.long(name)).ok()
    }

    /// Kafka's "never" is the largest number.
    fn unless_never(&self, name: &str) -> Option<u64> {
        self.limit_bytes(name).filter(|interval| *interval != i64::MAX as u64)
    }

    fn resolve(&self) -> TopicConfig {
        let policy = self.text("cleanup.policy").unwrap_or_default();
        let cleanup_policy = CleanupPolicy {
            delete: value::elements(&policy).contains(&"delete"),
            compact: value::elements(&policy).contains(&"compact"),
        };
        let (retention_ms, retention_bytes) = (self.limit_ms("retention.ms"), self.limit_bytes("retention.bytes"));
        let segment_bytes = match self.text("internal.segment.bytes") {
            Some(_) => self.size("internal.segment.bytes"),
            None => self.size("segment.bytes"),
        };
        TopicConfig {
            cleanup_policy,
            compression: self.compression(),
            delete_retention_ms: self.long("delete.retention.ms"),
            takes_dead_letters: self.flag("errors.deadletterqueue.group.enable"),
            file_delete_delay_ms: self.long("file.delete.delay.ms"),
            flush_messages: self.unless_never("flush.messages"),
            flush_ms: self.unless_never("flush.ms"),
            index_interval_bytes: self.size("index.interval.bytes"),
            max_message_bytes: self.size("max.message.bytes"),
            timestamp_type: match self.text("message.timestamp.type").as_deref().map(str::trim) {
                Some("LogAppendTime") => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: self.long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: self.long("message.timestamp.after.max.ms"),
            min_cleanable_dirty_ratio: self
                .text("min.cleanable.dirty.ratio")
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0.5),
            min_compaction_lag_ms: self.long("min.compaction.lag.ms"),
            max_compaction_lag_ms: self.long("max.compaction.lag.ms"),
            retention_ms,
            retention_bytes,
            local_retention_ms: match self.long("local.retention.ms") {
                -2 => retention_ms,
                ms => Some(ms).filter(|ms| *ms >= 0),
            },
            local_retention_bytes: match self.long("local.retention.bytes") {
                -2 => retention_bytes,
                bytes => u64::try_from(bytes).ok(),
            },
            segment_bytes,
            segment_index_bytes: self.size("segment.index.bytes"),
            segment_ms: self.long("segment.ms"),
            segment_jitter_ms: self.long("segment.jitter.ms"),
            remote_storage_enable: self.tier.enable
                && !self.internal
                && (!cleanup_policy.compact || self.layers.own.contains_key("remote.storage.enable"))
                && self.flag("remote.storage.enable"),
            remote_log_copy_disable: self.flag("remote.log.copy.disable"),
            remote_log_delete_on_disable: self.flag("remote.log.delete.on.disable"),
            remote_log_drain_on_disable: self.flag("remote.log.drain.on.disable"),
            remote_copy_lag_ms: match self.long("remote.copy.lag.ms") {
                // The copies in the data folder save nothing until the local segments go.
                -2 if self.tier.uri_is_set => 0,
                -2 => -1,
                lag => lag,
            },
            remote_copy_lag_bytes: self.long("remote.copy.lag.bytes"),
            record_validation: match self.text("record.validation").as_deref().map(str::trim) {
                Some("full") => RecordValidation::Full,
                // Cleaning opens records, so they must be sound.
                _ if cleanup_policy.compact => RecordValidation::Full,
                _ => RecordValidation::Header,
            },
            record_decompressed_max_bytes: self.limit_bytes("record.decompressed.max.bytes").unwrap_or(u64::MAX),
        }
    }

    fn compression(&self) -> TopicCompression {
        let level = |name: &str| i32::try_from(self.long(name)).ok();
        let (codec, level) = match self.text("compression.type").as_deref().map(str::trim) {
            Some("uncompressed") => (0, None),
            Some("gzip") => (1, level("compression.gzip.level")),
            Some("snappy") => (2, None),
            Some("lz4") => (3, None),
            Some("zstd") => (4, level("compression.zstd.level")),
            _ => return TopicCompression::Producer,
        };
        TopicCompression::Fixed { codec, level }
    }
}

#[cfg(test)]
mod tests;
