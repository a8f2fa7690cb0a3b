//! Transactions.

use crate::config::key::{Key, boolean, int, short};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    int("add.partitions.to.txn.retry.backoff.max.ms").default("100").at_least(0).high().accepted(),
    int("add.partitions.to.txn.retry.backoff.ms").default("20").at_least(1).high().accepted(),
    int("transaction.abort.timed.out.transaction.cleanup.interval.ms").default("10000").at_least(1).low().accepted(),
    int("transaction.max.timeout.ms").default("900000").at_least(1).high().accepted(),
    boolean("transaction.partition.verification.enable")
        .default("true")
        .cluster_wide()
        .low()
        .says("Whether a batch that would open a transaction in a partition is checked with its coordinator first. Read at the start."),
    int("transaction.remove.expired.transaction.cleanup.interval.ms").default("3600000").at_least(1).low().accepted(),
    int("transaction.state.log.load.buffer.size").default("5242880").at_least(1).high().accepted(),
    int("transaction.state.log.min.isr").default("2").at_least(1).high().accepted(),
    int("transaction.state.log.num.partitions").default("50").at_least(1).high().accepted(),
    short("transaction.state.log.replication.factor").default("3").at_least(1).high().accepted(),
    int("transaction.state.log.segment.bytes").default("104857600").at_least(1).high().accepted(),
    boolean("transaction.two.phase.commit.enable").default("false").low().accepted(),
    int("transactional.id.expiration.ms").default("604800000").at_least(1).high().accepted(),
];
