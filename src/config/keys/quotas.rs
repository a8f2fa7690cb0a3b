//! Quotas and the counting behind them.

use crate::config::key::{Key, class, int, list, long, string};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    class("client.quota.callback.class").low().accepted(),
    int("controller.quota.window.num").default("11").at_least(1).low().accepted(),
    int("controller.quota.window.size.seconds").default("1").at_least(1).low().accepted(),
    int("kafka.metrics.polling.interval.secs").default("10").at_least(1).low().accepted(),
    list("kafka.metrics.reporters").default("").low().accepted(),
    list("metric.reporters").default("org.apache.kafka.common.metrics.JmxReporter").cluster_wide().low().accepted(),
    int("metrics.num.samples").default("2").at_least(1).low().accepted(),
    string("metrics.recording.level").default("INFO").low().accepted(),
    long("metrics.sample.window.ms").default("30000").at_least(1).low().accepted(),
    int("quota.window.num").default("11").at_least(1).low().accepted(),
    int("quota.window.size.seconds").default("1").at_least(1).low().accepted(),
    int("telemetry.max.bytes")
        .default("1048576")
        .at_least(1)
        .low()
        .says("Largest push of a client's metrics, as it is sent."),
];
