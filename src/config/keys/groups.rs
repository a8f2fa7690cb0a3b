//! Consumer groups and their offsets; share and streams groups.

use crate::config::key::{Check, Key, boolean, int, list, long, short, string};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    boolean("errors.deadletterqueue.auto.create.topics.enable")
        .default("false")
        .cluster_wide()
        .says("A share group's topic of dead letters that does not exist is made when it is needed (KIP-1191)."),
    string("errors.deadletterqueue.topic.name.prefix")
        .default("dlq.")
        .cluster_wide()
        .says("How names of topics of dead letters begin; records of a group that names another are archived without."),
    int("group.consumer.assignment.interval.ms")
        .default("1000")
        .at_least(0)
        .cluster_wide()
        .says("Least time from one target assignment of a group to the next (KIP-1263)."),
    list("group.consumer.assignors")
        .default("uniform,range")
        .says("Server-side assignors that members may ask for; the first is for those that ask for none."),
    int("group.consumer.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .says("How often members of the consumer protocol send a heartbeat."),
    int("group.consumer.max.assignment.interval.ms")
        .default("15000")
        .at_least(0)
        .says("The most that a group may set as consumer.assignment.interval.ms."),
    int("group.consumer.max.heartbeat.interval.ms")
        .default("15000")
        .at_least(1)
        .says("The most that a group may set as consumer.heartbeat.interval.ms."),
    int("group.consumer.max.session.timeout.ms")
        .default("60000")
        .at_least(1)
        .says("The most that a group may set as consumer.session.timeout.ms."),
    int("group.consumer.max.size")
        .default("2147483647")
        .at_least(1)
        .says("Members of one group of the consumer protocol."),
    string("group.consumer.migration.policy")
        .default("bidirectional")
        .check(Check::OneOfAnyCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]))
        .says("Which way groups may change between the classic and the consumer protocol while they run."),
    int("group.consumer.min.assignment.interval.ms")
        .default("0")
        .at_least(0)
        .says("The least that a group may set as consumer.assignment.interval.ms."),
    int("group.consumer.min.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .says("The least that a group may set as consumer.heartbeat.interval.ms."),
    int("group.consumer.min.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .says("The least that a group may set as consumer.session.timeout.ms."),
    int("group.consumer.regex.refresh.interval.ms")
        .default("600000")
        .at_least(10000)
        .internal()
        .says("How old a resolved regular expression of a group may become."),
    int("group.consumer.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .says("How long a member of the consumer protocol lives without a heartbeat."),
    int("group.coordinator.append.linger.ms").default("-1").at_least(-1).accepted(),
    int("group.coordinator.background.threads").default("2").at_least(1).high().accepted(),
    int("group.coordinator.cached.buffer.max.bytes").default("1048588").at_least(524288).cluster_wide().accepted(),
    list("group.coordinator.rebalance.protocols")
        .default("classic,consumer,streams")
        .check(Check::EachOf(&["consumer", "classic", "share", "streams"]))
        .accepted(),
    int("group.coordinator.threads").default("4").at_least(1).high().accepted(),
    int("group.initial.rebalance.delay.ms")
        .default("3000")
        .says("How long the first rebalance of an empty group waits for more members."),
    int("group.max.session.timeout.ms")
        .default("1800000")
        .says("The longest session timeout that a member may ask for."),
    int("group.max.size").default("2147483647").at_least(1).says("Members of one group."),
    int("group.min.session.timeout.ms").default("6000").says("The shortest session timeout that a member may ask for."),
    int("group.share.assignment.interval.ms")
        .default("1000")
        .at_least(0)
        .cluster_wide()
        .says("Least time from one target assignment of a share group to the next (KIP-1263)."),
    list("group.share.assignors").default("simple").accepted(),
    int("group.share.delivery.count.limit")
        .default("5")
        .between(2.0, 10.0)
        .says("How often a record is given to members of a share group before it is archived."),
    int("group.share.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .says("How often members of a share group send a heartbeat."),
    int("group.share.initialize.retry.interval.ms").default("30000").at_least(1).low().internal().accepted(),
    int("group.share.max.assignment.interval.ms")
        .default("15000")
        .at_least(0)
        .says("The most that a group may set as share.assignment.interval.ms."),
    int("group.share.max.delivery.count.limit")
        .default("10")
        .between(5.0, 25.0)
        .says("The most that a group may set as share.delivery.count.limit."),
    int("group.share.max.heartbeat.interval.ms")
        .default("15000")
        .at_least(1)
        .says("The most that a group may set as share.heartbeat.interval.ms."),
    int("group.share.max.partition.max.record.locks")
        .default("4000")
        .between(2000.0, 10000.0)
        .says("The most that a group may set as share.partition.max.record.locks."),
    int("group.share.max.record.lock.duration.ms")
        .default("60000")
        .between(30000.0, 3600000.0)
        .says("The most that a group may set as share.record.lock.duration.ms."),
    int("group.share.max.session.timeout.ms")
        .default("60000")
        .at_least(1)
        .says("The most that a group may set as share.session.timeout.ms."),
    int("group.share.max.share.sessions")
        .default("2000")
        .at_least(1)
        .says("Share sessions that this broker keeps; a member without one cannot fetch."),
    int("group.share.max.size").default("200").between(1.0, 1000.0).says("Members of one share group."),
    int("group.share.min.assignment.interval.ms")
        .default("0")
        .at_least(0)
        .says("The least that a group may set as share.assignment.interval.ms."),
    int("group.share.min.delivery.count.limit")
        .default("2")
        .between(2.0, 5.0)
        .says("The least that a group may set as share.delivery.count.limit."),
    int("group.share.min.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .says("The least that a group may set as share.heartbeat.interval.ms."),
    int("group.share.min.partition.max.record.locks")
        .default("100")
        .between(100.0, 2000.0)
        .says("The least that a group may set as share.partition.max.record.locks."),
    int("group.share.min.record.lock.duration.ms")
        .default("15000")
        .between(1000.0, 30000.0)
        .says("The least that a group may set as share.record.lock.duration.ms."),
    int("group.share.min.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .says("The least that a group may set as share.session.timeout.ms."),
    int("group.share.partition.max.record.locks")
        .default("2000")
        .between(100.0, 10000.0)
        .says("Records of one partition that a share group has given out and is not done with, at most."),
    string("group.share.persister.class.name")
        .default("org.apache.kafka.server.share.persister.DefaultStatePersister")
        .internal()
        .accepted(),
    int("group.share.record.lock.duration.ms")
        .default("30000")
        .between(1000.0, 3600000.0)
        .says("How long a member of a share group has a record before others may get it."),
    int("group.share.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .says("How long a member of a share group lives without a heartbeat."),
    int("group.streams.assignment.interval.ms")
        .default("1000")
        .at_least(0)
        .cluster_wide()
        .says("Least time from one assignment of a streams group to the next."),
    int("group.streams.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .says("How often a member of a streams group sends a heartbeat."),
    int("group.streams.initial.rebalance.delay.ms")
        .default("3000")
        .at_least(0)
        .says("How long the first assignment of a streams group without members waits for more of them."),
    int("group.streams.max.assignment.interval.ms")
        .default("15000")
        .at_least(0)
        .says("The most that a group may set as streams.assignment.interval.ms."),
    int("group.streams.max.heartbeat.interval.ms")
        .default("15000")
        .at_least(1)
        .says("The most that a group may set as streams.heartbeat.interval.ms."),
    int("group.streams.max.session.timeout.ms")
        .default("60000")
        .at_least(1)
        .says("The most that a group may set as streams.session.timeout.ms."),
    int("group.streams.max.size").default("2147483647").at_least(1).says("Members of one streams group."),
    int("group.streams.max.standby.replicas")
        .default("2")
        .at_least(0)
        .says("The most that a group may set as streams.num.standby.replicas."),
    int("group.streams.min.assignment.interval.ms")
        .default("0")
        .at_least(0)
        .says("The least that a group may set as streams.assignment.interval.ms."),
    int("group.streams.min.heartbeat.interval.ms")
        .default("5000")
        .at_least(1)
        .says("The least that a group may set as streams.heartbeat.interval.ms."),
    int("group.streams.min.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .says("The least that a group may set as streams.session.timeout.ms."),
    int("group.streams.num.standby.replicas")
        .default("0")
        .at_least(0)
        .says("Copies of the state of each task that a streams group keeps beside the active one."),
    int("group.streams.session.timeout.ms")
        .default("45000")
        .at_least(1)
        .says("How long a member of a streams group lives without a heartbeat."),
    int("offset.metadata.max.bytes")
        .default("4096")
        .high()
        .says("The longest text that may go with a committed offset."),
    int("offsets.commit.timeout.ms")
        .default("5000")
        .at_least(1)
        .high()
        .says("How long a commit waits until its offsets are durable."),
    int("offsets.load.buffer.size").default("5242880").at_least(1).high().accepted(),
    long("offsets.retention.check.interval.ms")
        .default("600000")
        .at_least(1)
        .high()
        .says("How often expired offsets are looked for."),
    int("offsets.retention.minutes")
        .default("10080")
        .at_least(1)
        .high()
        .says("Offsets of a group without members are kept this long."),
    int("offsets.topic.compression.codec")
        .default("0")
        .between(0.0, 4.0)
        .high()
        .says("Codec of what coordinators of groups append: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."),
    int("offsets.topic.num.partitions").default("50").at_least(1).high().says("Partitions of __consumer_offsets."),
    short("offsets.topic.replication.factor")
        .default("3")
        .at_least(1)
        .high()
        .says("Replication factor of __consumer_offsets, at most the number of brokers."),
    int("offsets.topic.segment.bytes")
        .default("104857600")
        .at_least(1)
        .high()
        .says("Segment size of __consumer_offsets."),
    int("share.coordinator.append.linger.ms").default("-1").at_least(-1).accepted(),
    int("share.coordinator.cached.buffer.max.bytes").default("1048588").at_least(524288).cluster_wide().accepted(),
    int("share.coordinator.cold.partition.snapshot.interval.ms")
        .default("300000")
        .at_least(1)
        .low()
        .internal()
        .accepted(),
    int("share.coordinator.load.buffer.size").default("5242880").at_least(1).high().accepted(),
    int("share.coordinator.snapshot.update.records.per.snapshot")
        .default("500")
        .between(0.0, 500.0)
        .says("Updates of a share partition's state that are written before it is written as a whole."),
    int("share.coordinator.state.topic.compression.codec")
        .default("0")
        .high()
        .says("Codec of appends to __share_group_state, by Kafka's number."),
    short("share.coordinator.state.topic.min.isr")
        .default("2")
        .at_least(1)
        .high()
        .says("min.insync.replicas of __share_group_state, at most the number of brokers."),
    int("share.coordinator.state.topic.num.partitions")
        .default("50")
        .at_least(1)
        .high()
        .says("Partitions of __share_group_state when it is made."),
    int("share.coordinator.state.topic.prune.interval.ms").default("300000").at_least(1).low().internal().accepted(),
    short("share.coordinator.state.topic.replication.factor")
        .default("3")
        .at_least(1)
        .high()
        .says("Replicas of __share_group_state, at most the number of brokers."),
    int("share.coordinator.state.topic.segment.bytes")
        .default("104857600")
        .at_least(1)
        .high()
        .says("segment.bytes of __share_group_state."),
    int("share.coordinator.threads").default("1").at_least(1).accepted(),
    int("share.coordinator.write.timeout.ms")
        .default("5000")
        .at_least(1)
        .high()
        .says("How long an acknowledgement waits until its state is durable."),
];
