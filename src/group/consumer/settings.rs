//! The times of one group: `consumer.*` of the group, else `group.consumer.*` of the broker.

use crate::config::server::{Bounded, ConsumerGroupSettings};
use crate::metadata::image::{ConfigOverrides, Image};

/// What a cluster-wide override of this key says holds without a restart.
const ASSIGNMENT_INTERVAL: &str = "group.consumer.assignment.interval.ms";
/// Overrides of all brokers.
const ALL_BROKERS: &str = "";

/// The times that hold for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// How often a member sends a heartbeat.
    pub heartbeat_interval_ms: i32,
    /// How long it lives without one.
    pub session_timeout_ms: i32,
    /// Least time from one target assignment to the next.
    pub assignment_interval_ms: i32,
}

impl GroupLimits {
    /// Of one group.
    pub fn of(group: &str, settings: &ConsumerGroupSettings, image: &Image) -> Self {
        let own = image.group_configs.get(group);
        let for_all = image.broker_configs.get(ALL_BROKERS).and_then(|all| number(all, ASSIGNMENT_INTERVAL));
        let assignment_interval_ms = Bounded {
            default: for_all.unwrap_or(settings.assignment_interval_ms.default),
            ..settings.assignment_interval_ms
        };
        Self {
            heartbeat_interval_ms: bounded(own, "consumer.heartbeat.interval.ms", settings.heartbeat_interval_ms),
            session_timeout_ms: bounded(own, "consumer.session.timeout.ms", settings.session_timeout_ms),
            assignment_interval_ms: bounded(own, "consumer.assignment.interval.ms", assignment_interval_ms),
        }
    }
}

/// A value outside of the broker's bounds, which may have moved since it was set, counts as the nearest within.
fn bounded(own: Option<&ConfigOverrides>, key: &str, bounds: Bounded) -> i32 {
    own.and_then(|own| number(own, key)).map_or(bounds.default, |value| value.max(bounds.least).min(bounds.most))
}

fn number(overrides: &ConfigOverrides, key: &str) -> Option<i32> {
    overrides.get(key)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::of_the_broker(&[], &[], 45_000, 1000)]
    #[case::own(&[("consumer.session.timeout.ms", "50000")], &[], 50_000, 1000)]
    #[case::own_out_of_bounds(&[("consumer.session.timeout.ms", "70000")], &[], 60_000, 1000)]
    #[case::for_all(&[], &[(ASSIGNMENT_INTERVAL, "30")], 45_000, 30)]
    #[case::own_first(&[("consumer.assignment.interval.ms", "7")], &[(ASSIGNMENT_INTERVAL, "30")], 45_000, 7)]
    fn the_nearest_value_counts(
        #[case] own: &[(&str, &str)],
        #[case] for_all: &[(&str, &str)],
        #[case] session_timeout_ms: i32,
        #[case] assignment_interval_ms: i32,
    ) {
        let overrides = |of: &[(&str, &str)]| of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut image = Image::default();
        image.group_configs.insert("g".to_owned(), overrides(own));
        image.broker_configs.insert(String::new(), overrides(for_all));
        let mut settings = ConsumerGroupSettings::for_tests();
        settings.assignment_interval_ms.default = 1000;
        let limits = GroupLimits::of("g", &settings, &image);
        assert_eq!(
            (limits.session_timeout_ms, limits.assignment_interval_ms),
            (session_timeout_ms, assignment_interval_ms)
        );
    }
}
