//! `group.consumer.*`: groups of the consumer protocol (KIP-848).

use crate::config::reader::Reader;

/// Names by which `group.consumer.assignors` may name what there is: short, or the class of Kafka's.
pub const ASSIGNORS: [(&str, &str); 2] = [
    ("uniform", "org.apache.kafka.coordinator.group.assignor.UniformAssignor"),
    ("range", "org.apache.kafka.coordinator.group.assignor.RangeAssignor"),
];

/// A time in milliseconds or a number, and the bounds that one group's own may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    /// Without a value of the group's own.
    pub default: i32,
    /// The least that a group may have.
    pub least: i32,
    /// The most.
    pub most: i32,
}

/// Groups of the consumer protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Bounded,
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: Bounded,
    /// `group.consumer.assignment.interval.ms`.
    pub assignment_interval_ms: Bounded,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub regex_refresh_interval_ms: i64,
    /// `group.consumer.assignors` by their short names; the first is the default.
    pub assignors: Vec<&'static str>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: String,
    /// `group.consumer.max.size`.
    pub size_max: usize,
}

impl ConsumerGroupSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let bounded = |reader: &mut Reader<'_>, name: &str| Bounded::read(reader, "group.consumer.", name);
        Self {
            heartbeat_interval_ms: bounded(reader, "heartbeat.interval.ms"),
            session_timeout_ms: bounded(reader, "session.timeout.ms"),
            assignment_interval_ms: bounded(reader, "assignment.interval.ms"),
            regex_refresh_interval_ms: reader.long("group.consumer.regex.refresh.interval.ms"),
            assignors: assignors(reader),
            migration_policy: reader.text("group.consumer.migration.policy").unwrap_or_default().to_ascii_lowercase(),
            size_max: usize::try_from(reader.int("group.consumer.max.size")).unwrap_or(usize::MAX),
        }
    }
}

impl Bounded {
    /// From `<prefix><name>` and its bounds `<prefix>min.<name>` and `<prefix>max.<name>`.
    pub(super) fn read(reader: &mut Reader<'_>, prefix: &str, name: &str) -> Self {
        let key = |part: &str| format!("{prefix}{part}{name}");
        let (default, least, most) = (reader.int(&key("")), reader.int(&key("min.")), reader.int(&key("max.")));
        if least > most {
            reader.reject(&key("max."), format!("must not be less than {}", key("min.")));
        } else if !(least..=most).contains(&default) {
            reader.reject(&key(""), format!("must lie between {} and {}", key("min."), key("max.")));
        }
        Self { default, least, most }
    }
}

fn assignors(reader: &mut Reader<'_>) -> Vec<&'static str> {
    let key = "group.consumer.assignors";
    let mut found = Vec::new();
    for given in reader.list(key) {
        match ASSIGNORS.into_iter().find(|(short, class)| given == *short || given == *class) {
            Some((short, _)) if !found.contains(&short) => found.push(short),
            Some((short, _)) => reader.reject(key, format!("names {short} twice")),
            None => reader.reject(key, format!("{given} is none of: uniform, range")),
        }
    }
    if found.is_empty() {
        reader.reject(key, "must name an assignor");
    }
    found
}

#[cfg(test)]
impl ConsumerGroupSettings {
    /// Kafka's defaults, for tests of the coordinator; assignments follow at once.
    pub fn for_tests() -> Self {
        let bounded = |default, least, most| Bounded { default, least, most };
        Self {
            heartbeat_interval_ms: bounded(5000, 5000, 15_000),
            session_timeout_ms: bounded(45_000, 45_000, 60_000),
            assignment_interval_ms: bounded(0, 0, 15_000),
            regex_refresh_interval_ms: 600_000,
            assignors: vec!["uniform", "range"],
            migration_policy: "bidirectional".to_owned(),
            size_max: usize::MAX,
        }
    }
}
