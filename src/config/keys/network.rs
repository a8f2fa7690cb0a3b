//! Listeners, connections, requests.

use crate::config::key::{Check, Key, boolean, int, list, long, string};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    list("advertised.listeners").high().says("The addresses that clients are told, where they differ from listeners."),
    long("connections.max.idle.ms").default("600000").says("A connection that says nothing for this long is closed."),
    int("delete.records.purgatory.purge.interval.requests").default("1").accepted(),
    list("early.start.listeners").high().accepted(),
    int("fetch.max.bytes")
        .default("57671680")
        .at_least(1024)
        .says("The most that one Fetch answer carries, whatever the client asks for."),
    int("fetch.purgatory.purge.interval.requests").default("1000").accepted(),
    string("inter.broker.listener.name")
        .says("The listener whose address stands for the broker where a client names none."),
    string("listener.security.protocol.map")
        .default("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT")
        .low()
        .says("The security protocol of each listener name."),
    list("listeners")
        .default("PLAINTEXT://127.0.0.1:9092")
        .differs(Some("PLAINTEXT://:9092"), "nothing is opened to the network unasked")
        .high()
        .says("Where Kafka clients connect, as NAME://host:port. Names in controller.listener.names are not opened."),
    int("max.connection.creation.rate").default("2147483647").at_least(0).cluster_wide().accepted(),
    int("max.connections").default("2147483647").at_least(0).cluster_wide().says("Connections per broker."),
    int("max.connections.per.ip")
        .default("2147483647")
        .at_least(0)
        .cluster_wide()
        .says("Connections from one address."),
    string("max.connections.per.ip.overrides")
        .default("")
        .cluster_wide()
        .says("Other limits for some addresses, as host:count with commas between."),
    int("max.incremental.fetch.session.cache.slots")
        .default("1000")
        .at_least(0)
        .says("Incremental fetch sessions that are kept."),
    int("max.request.partition.size.limit")
        .default("2000")
        .at_least(1)
        .says("Partitions that one DescribeTopicPartitions answer lists at most."),
    int("num.io.threads").default("8").at_least(1).cluster_wide().high().accepted(),
    int("num.network.threads").default("3").at_least(1).cluster_wide().high().accepted(),
    int("producer.purgatory.purge.interval.requests").default("1000").accepted(),
    long("queued.max.request.bytes")
        .default("-1")
        .says("Memory for requests of all connections; -1 takes 10 % of memory, at most 512 MiB."),
    int("queued.max.requests").default("500").at_least(1).high().accepted(),
    int("request.timeout.ms").default("30000").high().accepted(),
    string("security.inter.broker.protocol")
        .default("PLAINTEXT")
        .check(Check::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]))
        .accepted(),
    long("server.max.startup.time.ms").default("9223372036854775807").at_least(0).internal().accepted(),
    int("share.fetch.purgatory.purge.interval.requests").default("1000").accepted(),
    long("socket.connection.setup.timeout.max.ms").default("30000").accepted(),
    long("socket.connection.setup.timeout.ms").default("10000").accepted(),
    int("socket.listen.backlog.size")
        .default("50")
        .at_least(1)
        .says("Connections that the kernel may hold before they are accepted."),
    int("socket.receive.buffer.bytes")
        .default("102400")
        .high()
        .says("Receive buffer of a client socket; where it is not set, and with -1, the kernel sizes it by need."),
    int("socket.request.max.bytes")
        .default("104857600")
        .at_least(1)
        .high()
        .says("The largest request. A larger one closes its connection."),
    int("socket.send.buffer.bytes").default("102400").high().says(
        "Send buffer of a client socket; where it is not set, 1 MiB, if the kernel's net.core.wmem_max grants as much; \
             else, and with -1, the kernel sizes it by need.",
    ),
    boolean("unstable.api.versions.enable").default("false").high().internal().accepted(),
];
