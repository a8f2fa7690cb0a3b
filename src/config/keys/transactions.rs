//! Transactions.

use crate::config::key::{Key, boolean, int, short};

/// The entries.
pub(super) const KEYS: &[Key] =
    &[
        int("add.partitions.to.txn.retry.backoff.max.ms")
            .default("100")
            .at_least(0)
            .high()
            .says("How long a Produce waits for the producer's last transaction to be complete before it is refused."),
        int("add.partitions.to.txn.retry.backoff.ms")
            .default("20")
            .at_least(1)
            .high()
            .says("How often such a Produce looks whether it is."),
        int("transaction.abort.timed.out.transaction.cleanup.interval.ms")
            .default("10000")
            .at_least(1)
            .low()
            .says("How often transactions are looked for that have outlived their timeout."),
        int("transaction.max.timeout.ms")
            .default("900000")
            .at_least(1)
            .high()
            .says("The longest transaction timeout that a producer may ask for."),
        boolean("transaction.partition.verification.enable").default("true").cluster_wide().low().says(
            "Whether a batch that would open a transaction in a partition is checked with its coordinator first.",
        ),
        int("transaction.remove.expired.transaction.cleanup.interval.ms")
            .default("3600000")
            .at_least(1)
            .low()
            .says("How often transactional ids are looked for that have outlived transactional.id.expiration.ms."),
        int("transaction.state.log.load.buffer.size").default("5242880").at_least(1).high().accepted(),
        int("transaction.state.log.min.isr")
            .default("2")
            .at_least(1)
            .high()
            .says("min.insync.replicas of `__transaction_state`, at most the number of brokers."),
        int("transaction.state.log.num.partitions")
            .default("50")
            .at_least(1)
            .high()
            .says("Partitions of `__transaction_state` when it is made."),
        short("transaction.state.log.replication.factor")
            .default("3")
            .at_least(1)
            .high()
            .says("Replicas of `__transaction_state`, at most the number of brokers."),
        int("transaction.state.log.segment.bytes")
            .default("104857600")
            .at_least(1)
            .high()
            .says("segment.bytes of `__transaction_state`."),
        boolean("transaction.two.phase.commit.enable").default("false").low().accepted(),
        int("transactional.id.expiration.ms")
            .default("604800000")
            .at_least(1)
            .high()
            .says("How long a transactional id is remembered after its last transaction."),
    ];
