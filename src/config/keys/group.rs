//! Keys of a group. Each names the broker key behind it.

use crate::config::key::{Check, Key, boolean, double, int, long, same, string};
use crate::config::rules::offset_reset;

/// The entries.
pub(super) const KEYS: &[Key] = &[
    int("consumer.assignment.interval.ms")
        .default("1000")
        .at_least(0)
        .synonyms(&[same("group.consumer.assignment.interval.ms")])
        .accepted(),
    int("consumer.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .synonyms(&[same("group.consumer.heartbeat.interval.ms")])
        .accepted(),
    int("consumer.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .synonyms(&[same("group.consumer.session.timeout.ms")])
        .accepted(),
    double("errors.deadletterqueue.breaker.ratio").default("0").between(0.0, 1.0).ours().says(
        "When more than this share of a topic's records that the group is done with goes to its dead letters, the group is \
         given no more of that topic, but for a record now and then, until some are accepted; 0 is never.",
    ),
    boolean("errors.deadletterqueue.copy.record.enable")
        .default("false")
        .says("A dead letter has the key, value and headers of its record, and not only headers that say which it was."),
    string("errors.deadletterqueue.topic.name")
        .default("")
        .says("Where a share group's records go that were rejected or given out too often; empty: nowhere (KIP-1191)."),
    int("share.assignment.interval.ms")
        .default("1000")
        .at_least(0)
        .synonyms(&[same("group.share.assignment.interval.ms")])
        .accepted(),
    string("share.auto.offset.reset").default("latest").check(Check::By(offset_reset)).accepted(),
    int("share.delivery.count.limit")
        .default("5")
        .at_least(2)
        .synonyms(&[same("group.share.delivery.count.limit")])
        .accepted(),
    int("share.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .synonyms(&[same("group.share.heartbeat.interval.ms")])
        .accepted(),
    string("share.isolation.level")
        .default("read_uncommitted")
        .check(Check::OneOf(&["read_committed", "read_uncommitted"]))
        .accepted(),
    int("share.partition.max.record.locks")
        .default("2000")
        .at_least(100)
        .synonyms(&[same("group.share.partition.max.record.locks")])
        .accepted(),
    double("share.redelivery.backoff.multiplier")
        .default("2")
        .at_least(1)
        .ours()
        .says("How many times as long a record waits as after its delivery before."),
    long("share.redelivery.backoff.max.ms")
        .default("60000")
        .at_least(0)
        .ours()
        .says("The longest that a record waits, unless share.redelivery.backoff.ms is more."),
    long("share.redelivery.backoff.ms")
        .default("0")
        .at_least(0)
        .ours()
        .says("A record that was given back, or whose lock is over, is given to nobody for so long; 0: to the next who asks."),
    int("share.record.lock.duration.ms")
        .default("30000")
        .at_least(1000)
        .synonyms(&[same("group.share.record.lock.duration.ms")])
        .accepted(),
    boolean("share.renew.acknowledge.enable").default("true").accepted(),
    int("share.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .synonyms(&[same("group.share.session.timeout.ms")])
        .accepted(),
    int("streams.assignment.interval.ms")
        .default("1000")
        .at_least(0)
        .synonyms(&[same("group.streams.assignment.interval.ms")])
        .accepted(),
    int("streams.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .synonyms(&[same("group.streams.heartbeat.interval.ms")])
        .accepted(),
    int("streams.initial.rebalance.delay.ms")
        .default("3000")
        .at_least(0)
        .synonyms(&[same("group.streams.initial.rebalance.delay.ms")])
        .accepted(),
    int("streams.num.standby.replicas")
        .default("0")
        .at_least(0)
        .synonyms(&[same("group.streams.num.standby.replicas")])
        .accepted(),
    int("streams.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .synonyms(&[same("group.streams.session.timeout.ms")])
        .accepted(),
];
