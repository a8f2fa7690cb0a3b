//! The times and numbers of one group: `streams.*` of the group, else `group.streams.*` of the broker.

use crate::config::server::{Bounded, StreamsGroupSettings};
use crate::metadata::image::{ConfigOverrides, Image};

/// What a cluster-wide override of this key says holds without a restart.
const ASSIGNMENT_INTERVAL: &str = "group.streams.assignment.interval.ms";
/// Overrides of all brokers.
const ALL_BROKERS: &str = "";

/// What holds for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamsLimits {
    /// How often a member sends a heartbeat.
    pub heartbeat_interval_ms: i32,
    /// How long it lives without one.
    pub session_timeout_ms: i32,
    /// Least time from one target assignment to the next.
    pub assignment_interval_ms: i32,
    /// How long the first assignment of a group without members waits for more of them.
    pub initial_rebalance_delay_ms: i32,
    /// Copies of every state beside the active task's.
    pub standby_replicas: i32,
}

impl StreamsLimits {
    /// Of one group.
    pub fn of(group: &str, settings: &StreamsGroupSettings, image: &Image) -> Self {
        let own = image.group_configs.get(group);
        let for_all = image.broker_configs.get(ALL_BROKERS).and_then(|all| number(all, ASSIGNMENT_INTERVAL));
        let assignment_interval_ms = Bounded {
            default: for_all.unwrap_or(settings.assignment_interval_ms.default),
            ..settings.assignment_interval_ms
        };
        Self {
            heartbeat_interval_ms: bounded(own, "streams.heartbeat.interval.ms", settings.heartbeat_interval_ms),
            session_timeout_ms: bounded(own, "streams.session.timeout.ms", settings.session_timeout_ms),
            assignment_interval_ms: bounded(own, "streams.assignment.interval.ms", assignment_interval_ms),
            initial_rebalance_delay_ms: own
                .and_then(|own| number(own, "streams.initial.rebalance.delay.ms"))
                .unwrap_or(settings.initial_rebalance_delay_ms),
            standby_replicas: bounded(own, "streams.num.standby.replicas", settings.standby_replicas),
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
    #[case::of_the_broker(&[], &[], 0, 1000, 0)]
    #[case::own(&[("streams.num.standby.replicas", "1"), ("streams.initial.rebalance.delay.ms", "7")], &[], 1, 1000, 7)]
    #[case::out_of_bounds(&[("streams.num.standby.replicas", "9")], &[], 2, 1000, 0)]
    #[case::for_all(&[], &[(ASSIGNMENT_INTERVAL, "30")], 0, 30, 0)]
    #[case::own_first(&[("streams.assignment.interval.ms", "8")], &[(ASSIGNMENT_INTERVAL, "30")], 0, 8, 0)]
    fn the_nearest_value_counts(
        #[case] own: &[(&str, &str)],
        #[case] for_all: &[(&str, &str)],
        #[case] standby_replicas: i32,
        #[case] assignment_interval_ms: i32,
        #[case] initial_rebalance_delay_ms: i32,
    ) {
        let overrides = |of: &[(&str, &str)]| of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut image = Image::default();
        image.group_configs.insert("g".to_owned(), overrides(own));
        image.broker_configs.insert(String::new(), overrides(for_all));
        let mut settings = StreamsGroupSettings::for_tests();
        settings.assignment_interval_ms.default = 1000;
        let limits = StreamsLimits::of("g", &settings, &image);
        let found = (limits.standby_replicas, limits.assignment_interval_ms, limits.initial_rebalance_delay_ms);
        assert_eq!(found, (standby_replicas, assignment_interval_ms, initial_rebalance_delay_ms));
    }
}
