//! The rules between the keys of a group, and between them and the broker's bounds for groups.

use super::known;
use crate::config::keys;
use crate::config::layers::{Dynamic, Layers};
use crate::config::server::BrokerConfig;
use crate::config::value::Invalid;
use std::collections::BTreeMap;

/// A key of a group, the broker's lower and upper bound, and whether it counts only where it is set.
struct Bounded {
    key: &'static str,
    least: Option<&'static str>,
    most: &'static str,
    only_if_set: bool,
}

const fn bounded(key: &'static str, least: &'static str, most: &'static str) -> Bounded {
    Bounded { key, least: Some(least), most, only_if_set: false }
}

const fn interval(key: &'static str, least: &'static str, most: &'static str) -> Bounded {
    Bounded { key, least: Some(least), most, only_if_set: true }
}

/// In Kafka's order.
const BOUNDS: [Bounded; 13] = [
    bounded(
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    bounded(
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    interval(
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    bounded(
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    bounded("share.session.timeout.ms", "group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"),
    bounded(
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    bounded(
        "share.delivery.count.limit",
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    bounded(
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    interval(
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    bounded(
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    bounded(
        "streams.session.timeout.ms",
        "group.streams.min.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
    Bounded {
        key: "streams.num.standby.replicas",
        least: None,
        most: "group.streams.max.standby.replicas",
        only_if_set: false,
    },
    interval(
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
];

const DEAD_LETTERS: &str = "errors.deadletterqueue.topic.name";

/// Checks all settings that a group would have.
pub fn validate_group(
    broker: &BrokerConfig,
    dynamic: Dynamic<'_>,
    settings: &BTreeMap<String, String>,
) -> Result<(), Invalid> {
    known(&keys::GROUP, "group", settings)?;
    let layers = Layers { own: settings, dynamic, given: &broker.given };
    let of_group = |name: &str| number(keys::GROUP.get(name).and_then(|key| layers.value(key)));
    let of_broker = |name: &str| {
        let default = || keys::broker(name)?.default.map(str::to_owned);
        number(layers.broker(name).or_else(default))
    };
    for Bounded { key, least, most, only_if_set } in &BOUNDS {
        if *only_if_set && !settings.contains_key(*key) {
            continue;
        }
        let value = of_group(key);
        if let Some(least) = least.filter(|least| value < of_broker(least)) {
            return Err(Invalid::Rule(format!("{key} must be greater than or equal to {least}")));
        }
        if value > of_broker(most) {
            return Err(Invalid::Rule(format!("{key} must be less than or equal to {most}")));
        }
    }
    for protocol in ["consumer", "share", "streams"] {
        let (session, heartbeat) =
            (format!("{protocol}.session.timeout.ms"), format!("{protocol}.heartbeat.interval.ms"));
        if of_group(&session) <= of_group(&heartbeat) {
            return Err(Invalid::Rule(format!("{session} must be greater than {heartbeat}")));
        }
    }
    if settings.get(DEAD_LETTERS).is_some_and(|topic| topic.starts_with("__")) {
        return Err(Invalid::Rule(format!("{DEAD_LETTERS}: DLQ topic name must not start with '__'")));
    }
    Ok(())
}

/// All of these keys are declared as int with a default.
fn number(text: Option<String>) -> i64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}
