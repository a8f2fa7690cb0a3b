//! `group.streams.*`: streams groups (KIP-1071).

use super::consumer_groups::Bounded;
use crate::config::reader::Reader;

/// Streams groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsGroupSettings {
    /// `group.streams.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Bounded,
    /// `group.streams.session.timeout.ms`.
    pub session_timeout_ms: Bounded,
    /// `group.streams.assignment.interval.ms`.
    pub assignment_interval_ms: Bounded,
    /// `group.streams.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.streams.num.standby.replicas`.
    pub standby_replicas: Bounded,
    /// `group.streams.max.size`.
    pub size_max: usize,
}

impl StreamsGroupSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let bounded = |reader: &mut Reader<'_>, name: &str| Bounded::read(reader, "group.streams.", name);
        Self {
            heartbeat_interval_ms: bounded(reader, "heartbeat.interval.ms"),
            session_timeout_ms: bounded(reader, "session.timeout.ms"),
            assignment_interval_ms: bounded(reader, "assignment.interval.ms"),
            initial_rebalance_delay_ms: reader.int("group.streams.initial.rebalance.delay.ms"),
            standby_replicas: standby_replicas(reader),
            size_max: usize::try_from(reader.int("group.streams.max.size")).unwrap_or(usize::MAX),
        }
    }
}

fn standby_replicas(reader: &mut Reader<'_>) -> Bounded {
    let (key, most_key) = ("group.streams.num.standby.replicas", "group.streams.max.standby.replicas");
    let (default, most) = (reader.int(key), reader.int(most_key));
    if default > most {
        reader.reject(key, format!("must not be greater than {most_key}"));
    }
    Bounded { default, least: 0, most }
}

#[cfg(test)]
impl StreamsGroupSettings {
    /// Kafka's defaults, for tests of the coordinator; assignments follow at once.
    pub fn for_tests() -> Self {
        let bounded = |default, least, most| Bounded { default, least, most };
        Self {
            heartbeat_interval_ms: bounded(5000, 5000, 15_000),
            session_timeout_ms: bounded(45_000, 45_000, 60_000),
            assignment_interval_ms: bounded(0, 0, 15_000),
            initial_rebalance_delay_ms: 0,
            standby_replicas: bounded(0, 0, 2),
            size_max: usize::MAX,
        }
    }
}
