//! Replication between brokers. One broker has nobody to replicate to.

use crate::config::key::{Key, boolean, int, long, string};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    int("alter.log.dirs.replication.quota.window.num").default("11").at_least(1).low().accepted(),
    int("alter.log.dirs.replication.quota.window.size.seconds").default("1").at_least(1).low().accepted(),
    boolean("auto.leader.rebalance.enable").default("true").high().accepted(),
    boolean("controlled.shutdown.enable").default("true").accepted(),
    long("leader.imbalance.check.interval.seconds").default("300").at_least(1).high().accepted(),
    int("num.replica.alter.log.dirs.threads").high().accepted(),
    int("num.replica.fetchers").default("1").at_least(1).cluster_wide().high().accepted(),
    int("replica.fetch.backoff.ms").default("1000").at_least(0).accepted(),
    int("replica.fetch.max.bytes").default("1048576").at_least(0).accepted(),
    int("replica.fetch.min.bytes").default("1").high().accepted(),
    int("replica.fetch.response.max.bytes").default("10485760").at_least(0).accepted(),
    int("replica.fetch.wait.max.ms").default("500").high().accepted(),
    long("replica.high.watermark.checkpoint.interval.ms").default("5000").high().accepted(),
    long("replica.lag.time.max.ms").default("30000").high().accepted(),
    string("replica.selector.class").accepted(),
    int("replica.socket.receive.buffer.bytes").default("65536").high().accepted(),
    int("replica.socket.timeout.ms").default("30000").high().accepted(),
    int("replication.quota.window.num").default("11").at_least(1).low().accepted(),
    int("replication.quota.window.size.seconds").default("1").at_least(1).low().accepted(),
    boolean("unclean.leader.election.enable").default("false").cluster_wide().high().accepted(),
    long("unclean.leader.election.interval.ms").default("300000").at_least(1).internal().accepted(),
];
