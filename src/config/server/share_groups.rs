//! `group.share.*`: share groups (KIP-932), and `share.coordinator.*`, who keeps their state.

use super::consumer_groups::Bounded;
use super::read::factor;
use crate::config::reader::Reader;

/// Share groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareGroupSettings {
    /// `group.share.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Bounded,
    /// `group.share.session.timeout.ms`.
    pub session_timeout_ms: Bounded,
    /// `group.share.assignment.interval.ms`.
    pub assignment_interval_ms: Bounded,
    /// `group.share.record.lock.duration.ms`.
    pub record_lock_duration_ms: Bounded,
    /// `group.share.delivery.count.limit`.
    pub delivery_count_limit: Bounded,
    /// `group.share.partition.max.record.locks`.
    pub partition_record_locks_max: Bounded,
    /// `group.share.max.size`.
    pub size_max: usize,
    /// `group.share.max.share.sessions`.
    pub sessions_max: usize,
}

/// `__share_group_state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareStateSettings {
    /// `share.coordinator.state.topic.num.partitions`.
    pub partitions: i32,
    /// `share.coordinator.state.topic.replication.factor`; the factor used is at most the number of brokers.
    pub replication_factor: i16,
    /// `share.coordinator.state.topic.min.isr`; used like the factor.
    pub min_isr: i32,
    /// `share.coordinator.state.topic.segment.bytes`.
    pub segment_bytes: u32,
    /// `share.coordinator.state.topic.compression.codec`: Kafka's number of the codec of appends, 0 for none.
    pub compression_codec: i16,
    /// `share.coordinator.snapshot.update.records.per.snapshot`.
    pub updates_per_snapshot: u32,
    /// `share.coordinator.write.timeout.ms`.
    pub write_timeout_ms: u64,
}

impl ShareGroupSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let bounded = |reader: &mut Reader<'_>, name: &str| Bounded::read(reader, "group.share.", name);
        Self {
            heartbeat_interval_ms: bounded(reader, "heartbeat.interval.ms"),
            session_timeout_ms: bounded(reader, "session.timeout.ms"),
            assignment_interval_ms: bounded(reader, "assignment.interval.ms"),
            record_lock_duration_ms: bounded(reader, "record.lock.duration.ms"),
            delivery_count_limit: bounded(reader, "delivery.count.limit"),
            partition_record_locks_max: bounded(reader, "partition.max.record.locks"),
            size_max: usize::try_from(reader.int("group.share.max.size")).unwrap_or(usize::MAX),
            sessions_max: usize::try_from(reader.int("group.share.max.share.sessions")).unwrap_or(usize::MAX),
        }
    }
}

impl ShareStateSettings {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let key = |name: &str| format!("share.coordinator.{name}");
        Self {
            partitions: reader.int(&key("state.topic.num.partitions")),
            replication_factor: factor(reader, &key("state.topic.replication.factor")),
            min_isr: factor(reader, &key("state.topic.min.isr")).into(),
            segment_bytes: u32::try_from(reader.int(&key("state.topic.segment.bytes"))).unwrap_or(u32::MAX),
            compression_codec: factor(reader, &key("state.topic.compression.codec")),
            updates_per_snapshot: u32::try_from(reader.int(&key("snapshot.update.records.per.snapshot"))).unwrap_or(0),
            write_timeout_ms: u64::try_from(reader.int(&key("write.timeout.ms"))).unwrap_or(0),
        }
    }
}

#[cfg(test)]
impl ShareGroupSettings {
    /// Kafka's defaults, for tests of the coordinator; assignments follow at once.
    pub fn for_tests() -> Self {
        let bounded = |default, least, most| Bounded { default, least, most };
        Self {
            heartbeat_interval_ms: bounded(5000, 5000, 15_000),
            session_timeout_ms: bounded(45_000, 45_000, 60_000),
            assignment_interval_ms: bounded(0, 0, 15_000),
            record_lock_duration_ms: bounded(30_000, 15_000, 60_000),
            delivery_count_limit: bounded(5, 2, 10),
            partition_record_locks_max: bounded(2000, 100, 4000),
            size_max: 200,
            sessions_max: 2000,
        }
    }
}
