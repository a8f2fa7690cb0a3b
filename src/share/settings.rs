//! The times and numbers of one group: `share.*` of the group, else `group.share.*` of the broker.

use std::str::FromStr;
use std::time::Duration;

use super::in_flight::Backoff;
use crate::config::server::{Bounded, ShareGroupSettings};
use crate::metadata::image::{ConfigOverrides, Image};
use crate::partition::read::Isolation;

/// The topic that takes a group's dead letters.
pub(super) const DEAD_LETTERS: &str = "errors.deadletterqueue.topic.name";

/// What holds for one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareLimits {
    /// How often a member sends a heartbeat.
    pub heartbeat_interval_ms: i32,
    /// How long it lives without one.
    pub session_timeout_ms: i32,
    /// Least time from one target assignment to the next.
    pub assignment_interval_ms: i32,
    /// How long a member has a record that it was given.
    pub record_lock: Duration,
    /// How often a record is given out at most.
    pub delivery_count_limit: i16,
    /// Records of one partition that are given out and not done with, at most.
    pub record_locks_max: u64,
    /// How long a record waits that was given back.
    pub backoff: Backoff,
    /// Has the group a topic of dead letters?
    pub dead_letters: bool,
    /// From which share of dead letters on the group is given no more; 0: from none.
    pub breaker_ratio: f64,
    /// What members see.
    pub isolation: Isolation,
    /// May a member renew its locks?
    pub renews: bool,
    /// Where a group begins that has read nothing.
    pub reset: Reset,
}

/// `share.auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// At the log start.
    Earliest,
    /// Behind what is there.
    Latest,
    /// At the first record that is no older.
    ByDuration(Duration),
}

impl ShareLimits {
    /// Of one group.
    pub fn of(group: &str, settings: &ShareGroupSettings, image: &Image) -> Self {
        let own = image.group_configs.get(group);
        let lock_ms = bounded(own, "share.record.lock.duration.ms", settings.record_lock_duration_ms);
        let locks = bounded(own, "share.partition.max.record.locks", settings.partition_record_locks_max);
        let limit = bounded(own, "share.delivery.count.limit", settings.delivery_count_limit);
        let text = |key: &str| own.and_then(|own| own.get(key)).map(|value| value.trim());
        Self {
            heartbeat_interval_ms: bounded(own, "share.heartbeat.interval.ms", settings.heartbeat_interval_ms),
            session_timeout_ms: bounded(own, "share.session.timeout.ms", settings.session_timeout_ms),
            assignment_interval_ms: bounded(own, "share.assignment.interval.ms", settings.assignment_interval_ms),
            record_lock: Duration::from_millis(u64::try_from(lock_ms).unwrap_or(0)),
            delivery_count_limit: i16::try_from(limit).unwrap_or(i16::MAX),
            record_locks_max: u64::try_from(locks).unwrap_or(0),
            backoff: Backoff {
                first_ms: number(text("share.redelivery.backoff.ms"), 0),
                max_ms: number(text("share.redelivery.backoff.max.ms"), 60_000),
                multiplier: number(text("share.redelivery.backoff.multiplier"), 2.0),
            },
            dead_letters: text(DEAD_LETTERS).is_some_and(|topic| !topic.is_empty()),
            breaker_ratio: number(text("errors.deadletterqueue.breaker.ratio"), 0.0),
            isolation: match text("share.isolation.level") {
                Some("read_committed") => Isolation::ReadCommitted,
                _ => Isolation::ReadUncommitted,
            },
            renews: text("share.renew.acknowledge.enable") != Some("false"),
            reset: text("share.auto.offset.reset").map_or(Reset::Latest, reset),
        }
    }
}

/// What stands in `text` or, when nothing is set, in the table of keys.
fn number<N: FromStr>(text: Option<&str>, default: N) -> N {
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A value outside of the broker's bounds, which may have moved since it was set, counts as the nearest within.
fn bounded(own: Option<&ConfigOverrides>, key: &str, bounds: Bounded) -> i32 {
    let own = own.and_then(|own| own.get(key)?.trim().parse::<i32>().ok());
    own.map_or(bounds.default, |value| value.max(bounds.least).min(bounds.most))
}

fn reset(text: &str) -> Reset {
    match text.split_once(':') {
        Some(("by_duration", duration)) => Reset::ByDuration(duration_of(duration).unwrap_or_default()),
        _ if text == "earliest" => Reset::Earliest,
        _ => Reset::Latest,
    }
}

/// An ISO 8601 duration as Java reads it: `PnDTnHnMn.nS`.
pub fn duration_of(text: &str) -> Option<Duration> {
    let (days, time) = text.strip_prefix('P')?.split_once('T').unwrap_or((text.strip_prefix('P')?, ""));
    let mut seconds = 0.0;
    let mut rest = days;
    if let Some((number, behind)) = rest.split_once('D') {
        seconds += number.parse::<f64>().ok()? * 86_400.0;
        rest = behind;
    }
    if !rest.is_empty() {
        return None;
    }
    rest = time;
    for (unit, length) in [('H', 3600.0), ('M', 60.0), ('S', 1.0)] {
        if let Some((number, behind)) = rest.split_once(unit) {
            seconds += number.parse::<f64>().ok()? * length;
            rest = behind;
        }
    }
    (rest.is_empty() && seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::days("P1D", Some(86_400.0))]
    #[case::all("P1DT2H3M4.5S", Some(86_400.0 + 7200.0 + 180.0 + 4.5))]
    #[case::seconds("PT10S", Some(10.0))]
    #[case::no_p("1D", None)]
    #[case::rest("PT10Sx", None)]
    #[case::negative("PT-10S", None)]
    fn durations_are_read_as_java_does(#[case] text: &str, #[case] seconds: Option<f64>) {
        assert_eq!(duration_of(text), seconds.map(Duration::from_secs_f64));
    }

    #[rstest]
    #[case::of_the_broker(&[], 5, Reset::Latest)]
    #[case::own(&[("share.delivery.count.limit", "3"), ("share.auto.offset.reset", "earliest")], 3, Reset::Earliest)]
    #[case::out_of_bounds(&[("share.delivery.count.limit", "99")], 10, Reset::Latest)]
    #[case::duration(&[("share.auto.offset.reset", "by_duration:PT1M")], 5, Reset::ByDuration(Duration::from_secs(60)))]
    fn the_nearest_value_counts(#[case] own: &[(&str, &str)], #[case] limit: i16, #[case] reset: Reset) {
        let mut image = Image::default();
        let own = own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        image.group_configs.insert("g".to_owned(), own);
        let limits = ShareLimits::of("g", &ShareGroupSettings::for_tests(), &image);
        assert_eq!((limits.delivery_count_limit, limits.reset), (limit, reset));
    }
}
