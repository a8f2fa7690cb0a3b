//! How topics come to be.

use crate::config::key::{Key, boolean, class, int};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    class("alter.config.policy.class.name").low().accepted(),
    boolean("auto.create.topics.enable")
        .default("true")
        .high()
        .says("Asking for the metadata of an unknown topic creates it."),
    class("create.topic.policy.class.name").low().accepted(),
    int("default.replication.factor").default("1").says("Replication factor of a topic that is created without one."),
    boolean("delete.topic.enable").default("true").high().says("Topics can be deleted."),
    int("num.partitions").default("1").at_least(1).says("Partitions of a topic that is created without a number."),
    boolean("replication.factor.accept.any")
        .default("false")
        .ours()
        .says("A replication factor above the number of brokers is stored and shown, and one replica serves."),
];
