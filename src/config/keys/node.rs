//! The node: identity, roles, data folder, HTTP.

use crate::config::key::{Check, Key, boolean, int, list, long, string};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    list("admin.allowed.hosts")
        .default("")
        .ours()
        .says("Host names besides loopback that HTTP requests may name, against DNS rebinding."),
    list("admin.health.listeners")
        .default("")
        .ours()
        .says("Where the health checks are served alone; empty is the same as admin.listeners."),
    list("admin.listeners")
        .default("http://127.0.0.1:9190")
        .ours()
        .high()
        .says("Where /status, /metrics and the health checks are served. Empty turns them off."),
    int("broker.heartbeat.interval.ms").default("2000").accepted(),
    int("broker.id").default("-1").high().says("node.id, in its older name."),
    string("broker.rack").says("The rack that clients are told."),
    int("broker.session.timeout.ms").default("9000").accepted(),
    list("config.providers").default("").cluster_wide().low().accepted(),
    list("controller.listener.names").high().says("Listener names that are accepted and not opened."),
    long("controller.performance.always.log.threshold.ms").default("2000").at_least(0).internal().accepted(),
    long("controller.performance.sample.period.ms").default("60000").at_least(100).internal().accepted(),
    int("controller.quorum.append.linger.ms").default("25").at_least(0).accepted(),
    boolean("controller.quorum.auto.join.enable").default("false").low().accepted(),
    list("controller.quorum.bootstrap.servers").default("").high().accepted(),
    int("controller.quorum.election.backoff.max.ms").default("1000").at_least(0).high().accepted(),
    int("controller.quorum.election.timeout.ms").default("1000").at_least(0).high().accepted(),
    int("controller.quorum.fetch.max.bytes").default("1048576").at_least(1).low().accepted(),
    int("controller.quorum.fetch.snapshot.max.bytes").default("1048576").at_least(1).low().accepted(),
    int("controller.quorum.fetch.timeout.ms").default("2000").at_least(0).high().accepted(),
    int("controller.quorum.request.timeout.ms").default("2000").at_least(0).accepted(),
    int("controller.quorum.retry.backoff.ms").default("20").at_least(0).low().accepted(),
    list("controller.quorum.voters").default("").high().accepted(),
    int("controller.socket.timeout.ms").default("30000").accepted(),
    int("initial.broker.registration.timeout.ms").default("60000").accepted(),
    long("internal.metadata.delete.delay.millis").default("60000").low().internal().accepted(),
    int("internal.metadata.log.segment.bytes").low().internal().accepted(),
    int("internal.metadata.max.batch.size.in.bytes").default("8388608").low().internal().accepted(),
    string("log.format")
        .default("text")
        .check(Check::OneOf(&["text", "json"]))
        .ours()
        .low()
        .says("How the broker's own log lines are written."),
    string("log.level")
        .default("info")
        .ours()
        .low()
        .says("What the broker logs, as a tracing filter; the environment's TERRACE_LOG wins."),
    string("metadata.log.dir").high().says("Where meta.redb is, if not in the data folder."),
    long("metadata.log.max.record.bytes.between.snapshots").default("20971520").at_least(1).high().accepted(),
    long("metadata.log.max.snapshot.interval.ms").default("3600000").at_least(0).high().accepted(),
    int("metadata.log.segment.bytes").default("1073741824").at_least(8388608).high().accepted(),
    long("metadata.log.segment.ms").default("604800000").high().accepted(),
    int("metadata.max.idle.interval.ms").default("500").at_least(0).low().accepted(),
    long("metadata.max.retention.bytes").default("104857600").high().accepted(),
    long("metadata.max.retention.ms").default("604800000").high().accepted(),
    int("node.id")
        .default("1")
        .differs(None, "no configuration is needed to start")
        .at_least(0)
        .high()
        .says("The number of this broker."),
    list("process.roles")
        .default("broker")
        .differs(None, "no configuration is needed to start")
        .check(Check::EachOf(&["broker", "controller"]))
        .high()
        .says("Accepted in any combination: there is one role, and it has no controller apart."),
    string("terrace.data.dir")
        .ours()
        .high()
        .says("The data folder; default ./terrace-data, or .terrace below the first of log.dirs if those are set."),
    boolean("unstable.feature.versions.enable").default("false").high().internal().accepted(),
];
