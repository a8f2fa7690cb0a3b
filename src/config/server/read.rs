//! Reads each part of the configuration out of the settings, and notes what is wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{
    ConsumerGroupSettings, Dirs, GroupSettings, LogSettings, OffsetsSettings, Prices, RemoteSettings, Requests,
    ShareGroupSettings, StreamsGroupSettings, Topics, TransactionSettings,
};
use crate::config::given::ConfigError;
use crate::config::listeners::Listener;
use crate::config::reader::Reader;
use crate::config::{machine, properties, value};

/// Descriptors for metadata, store, HTTP and what else is neither a log's nor a client's.
const OPEN_FILES_OF_ALL_ELSE: u64 = 64;
/// Two of the pieces in which a file is sent: enough to be filled while the peer empties it, and little enough that its
/// bytes are still in the processor's cache then.
const SEND_BUFFER_BYTES: u32 = 1 << 20;
/// Kafka's ids have 22; operators choose longer ones.
const CLUSTER_ID_BYTES_MAX: usize = 64;

/// `node.id`, or its older name.
pub(super) fn node_id(reader: &mut Reader<'_>) -> i32 {
    let named = |key| reader.is_set(key).then(|| reader.int(key));
    match (named("node.id"), named("broker.id")) {
        (Some(node), Some(broker)) if node != broker && broker >= 0 => {
            reader.reject("broker.id", format!("node.id says {node}"));
            node
        }
        (Some(node), _) => node,
        (None, Some(broker)) if broker >= 0 => broker,
        (None, _) => reader.int("node.id"),
    }
}

/// Must be one of the listeners; without it the first one.
pub(super) fn inter_broker_listener(reader: &mut Reader<'_>, listeners: &[Listener]) -> String {
    let first = listeners.first().map(|listener| listener.name.clone()).unwrap_or_default();
    let Some(name) = reader.filled("inter.broker.listener.name") else { return first };
    if !listeners.iter().any(|listener| listener.name.eq_ignore_ascii_case(&name)) {
        reader.reject("inter.broker.listener.name", "is not one of listeners");
    }
    name.to_uppercase()
}

/// The folders, each by its own key or below the data folder.
pub(super) fn dirs(reader: &mut Reader<'_>) -> Dirs {
    let key = if reader.is_set("log.dirs") { "log.dirs" } else { "log.dir" };
    let mut logs: Vec<PathBuf> = reader.list(key).into_iter().map(PathBuf::from).collect();
    let data = match (reader.filled("terrace.data.dir"), logs.first()) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(first)) => first.join(".terrace"),
        (None, None) => PathBuf::from("terrace-data"),
    };
    if logs.is_empty() {
        logs.push(data.join("log"));
    }
    if (1..logs.len()).any(|i| logs[..i].contains(&logs[i])) {
        reader.reject(key, "a folder is named twice");
    }
    Dirs {
        metadata: reader.filled("metadata.log.dir").map_or_else(|| data.clone(), PathBuf::from),
        remote_cache: reader.filled("remote.cache.dir").map_or_else(|| data.join("cache"), PathBuf::from),
        logs,
        data,
    }
}

/// The cluster id in the `meta.properties` of the log folders. Another node's folder is refused.
pub(super) fn identity(log_dirs: &[PathBuf], node_id: i32) -> (Option<String>, Vec<ConfigError>) {
    let (mut cluster, mut errors) = (None, Vec::new());
    for path in log_dirs.iter().map(|dir| dir.join("meta.properties")) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for entry in properties::parse(&text).unwrap_or_default() {
            match entry.key.as_str() {
                "cluster.id" => cluster = agreed(cluster.take(), Some(entry.value), &mut errors),
                "node.id" | "broker.id" if entry.value.trim().parse() != Ok(node_id) => {
                    let reason = format!("this folder belongs to node {}, and node.id is {node_id}", entry.value);
                    errors.push(ConfigError::new(path.display(), reason));
                }
                _ => {}
            }
        }
    }
    (cluster, errors)
}

/// One cluster id out of two that must agree.
pub(super) fn agreed(asked: Option<String>, found: Option<String>, errors: &mut Vec<ConfigError>) -> Option<String> {
    let (asked, found) = (asked.filter(|id| !id.is_empty()), found.filter(|id| !id.is_empty()));
    for id in asked.iter().chain(&found) {
        // It becomes part of object keys.
        if id.len() > CLUSTER_ID_BYTES_MAX || !id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            let reason = format!("cluster id '{id}' must be letters, digits, - and _, at most {CLUSTER_ID_BYTES_MAX}");
            errors.push(ConfigError::new("CLUSTER_ID", reason));
        }
    }
    if let (Some(asked), Some(found)) = (&asked, &found)
        && asked != found
    {
        errors.push(ConfigError::new("meta.properties", format!("cluster id is {found}, and {asked} is asked for")));
    }
    asked.or(found)
}

/// Bounds of connections and requests.
pub(super) fn requests(reader: &mut Reader<'_>) -> Requests {
    let request_bytes_max = reader.size("socket.request.max.bytes");
    let queued_bytes_max = reader.size_unless_negative("queued.max.request.bytes").unwrap_or_else(|| {
        // The largest request and some small ones beside it must fit.
        (machine::memory_bytes() / 10).min(512 << 20).max(request_bytes_max + (16 << 20))
    });
    let mut overrides = BTreeMap::new();
    for pair in reader.list("max.connections.per.ip.overrides") {
        match pair.rsplit_once(':').and_then(|(host, count)| Some((host.trim().to_owned(), count.trim().parse().ok()?)))
        {
            Some((host, count)) => {
                overrides.insert(host, count);
            }
            None => reader.reject("max.connections.per.ip.overrides", format!("'{pair}' is not address:count")),
        }
    }
    let connections = |key| u32::try_from(reader.size(key)).unwrap_or(u32::MAX);
    // Kafka's 100 KiB are less than one large batch: each read would wait for the sender. See docs/decisions.
    let buffer = |key| reader.is_set(key).then(|| reader.size_unless_negative(key)).flatten();
    // What connections could take of the log's descriptors would fail its appends.
    let descriptors = machine::open_files_max().saturating_sub(open_files(reader) + OPEN_FILES_OF_ALL_ELSE);
    Requests {
        request_bytes_max: connections("socket.request.max.bytes"),
        queued_bytes_max,
        receive_buffer_bytes: buffer("socket.receive.buffer.bytes"),
        send_buffer_bytes: match reader.is_set("socket.send.buffer.bytes") {
            true => buffer("socket.send.buffer.bytes"),
            false => machine::grants_send_buffer(SEND_BUFFER_BYTES).then_some(u64::from(SEND_BUFFER_BYTES)),
        },
        listen_backlog: connections("socket.listen.backlog.size"),
        // Negative is Kafka's "never".
        connections_idle_ms_max: reader.size_unless_negative("connections.max.idle.ms").unwrap_or(u64::MAX),
        connections_max: connections("max.connections").min(u32::try_from(descriptors.max(1)).unwrap_or(u32::MAX)),
        connections_per_ip_max: connections("max.connections.per.ip"),
        connections_per_ip_overrides: overrides,
        fetch_bytes_max: connections("fetch.max.bytes"),
        fetch_session_slots: count(reader, "max.incremental.fetch.session.cache.slots"),
        described_partitions_max: connections("max.request.partition.size.limit"),
        telemetry_bytes_max: usize::try_from(reader.long("telemetry.max.bytes")).unwrap_or(usize::MAX),
    }
}

fn count(reader: &Reader<'_>, key: &str) -> usize {
    usize::try_from(reader.size(key)).unwrap_or(usize::MAX)
}

/// `log.open.files`.
fn open_files(reader: &Reader<'_>) -> u64 {
    reader.size_unless_negative("log.open.files").unwrap_or_else(|| machine::open_files_max() / 2).max(16)
}

/// Creation of topics.
pub(super) fn topics(reader: &Reader<'_>) -> Topics {
    Topics {
        auto_create: reader.flag("auto.create.topics.enable"),
        delete_enable: reader.flag("delete.topic.enable"),
        partitions: reader.int("num.partitions"),
        replication_factor: factor(reader, "default.replication.factor"),
        accept_any_replication_factor: reader.flag("replication.factor.accept.any"),
    }
}

/// Kafka declares some factors as int; none is larger than the protocol's short.
pub(super) fn factor(reader: &Reader<'_>, key: &str) -> i16 {
    i16::try_from(reader.long(key)).unwrap_or(i16::MAX)
}

/// The local log.
pub(super) fn log(reader: &Reader<'_>) -> LogSettings {
    LogSettings {
        retention_check_interval_ms: reader.size("log.retention.check.interval.ms"),
        initial_task_delay_ms: reader.size("log.initial.task.delay.ms"),
        recovery_threads: count(reader, "num.recovery.threads.per.data.dir"),
        transaction_verification: reader.flag("transaction.partition.verification.enable"),
        producer_id_expiration_ms: reader.long("producer.id.expiration.ms"),
        producer_id_expiration_check_ms: reader.size("producer.id.expiration.check.interval.ms"),
        open_files_max: usize::try_from(open_files(reader)).unwrap_or(usize::MAX),
        min_free_bytes: reader.size_unless_negative("log.dir.min.free.bytes"),
        wal_file_bytes: reader.size("log.wal.file.bytes"),
        cleaner_enable: reader.flag("log.cleaner.enable"),
        cleaner_backoff_ms: reader.size("log.cleaner.backoff.ms"),
        cleaner_dedupe_bytes: reader.size_unless_negative("log.cleaner.dedupe.buffer.size").unwrap_or(0),
    }
}

/// Groups of all protocols.
pub(super) fn group(reader: &mut Reader<'_>) -> GroupSettings {
    let settings = GroupSettings {
        // Below zero is as good as no delay.
        initial_rebalance_delay_ms: reader.size_unless_negative("group.initial.rebalance.delay.ms").unwrap_or(0),
        session_timeout_ms_min: reader.int("group.min.session.timeout.ms"),
        session_timeout_ms_max: reader.int("group.max.session.timeout.ms"),
        size_max: count(reader, "group.max.size"),
        consumer: ConsumerGroupSettings::read(reader),
        share: ShareGroupSettings::read(reader),
        streams: StreamsGroupSettings::read(reader),
    };
    if settings.session_timeout_ms_min > settings.session_timeout_ms_max {
        let reason = "must not be more than group.max.session.timeout.ms";
        reader.reject("group.min.session.timeout.ms", reason);
    }
    settings
}

/// `__consumer_offsets`.
pub(super) fn offsets(reader: &Reader<'_>) -> OffsetsSettings {
    OffsetsSettings {
        partitions: reader.int("offsets.topic.num.partitions"),
        replication_factor: factor(reader, "offsets.topic.replication.factor"),
        compression_codec: factor(reader, "offsets.topic.compression.codec"),
        segment_bytes: u32::try_from(reader.size("offsets.topic.segment.bytes")).unwrap_or(u32::MAX),
        retention_ms: reader.long("offsets.retention.minutes").saturating_mul(60_000),
        retention_check_interval_ms: reader.size("offsets.retention.check.interval.ms"),
        metadata_bytes_max: usize::try_from(reader.long("offset.metadata.max.bytes")).unwrap_or(0),
        commit_timeout_ms: reader.size("offsets.commit.timeout.ms"),
    }
}

/// `__transaction_state` and what it coordinates.
pub(super) fn transactions(reader: &Reader<'_>) -> TransactionSettings {
    TransactionSettings {
        partitions: reader.int("transaction.state.log.num.partitions"),
        replication_factor: factor(reader, "transaction.state.log.replication.factor"),
        min_isr: reader.int("transaction.state.log.min.isr"),
        segment_bytes: u32::try_from(reader.size("transaction.state.log.segment.bytes")).unwrap_or(u32::MAX),
        timeout_ms_max: reader.int("transaction.max.timeout.ms"),
        id_expiration_ms: reader.long("transactional.id.expiration.ms"),
        expiration_check_ms: reader.size("transaction.remove.expired.transaction.cleanup.interval.ms"),
        timeout_check_ms: reader.size("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
        add_retry_ms: reader.size("add.partitions.to.txn.retry.backoff.ms"),
        add_retry_ms_max: reader.size("add.partitions.to.txn.retry.backoff.max.ms"),
    }
}

/// The tier.
pub(super) fn remote(reader: &mut Reader<'_>, dirs: &Dirs) -> RemoteSettings {
    let set = reader.filled("remote.storage.uri");
    if let Some(uri) = &set
        && !["s3://", "file://"].iter().any(|scheme| uri.starts_with(scheme))
    {
        reader.reject("remote.storage.uri", "must begin with s3:// or file://");
    }
    if let Some(endpoint) = reader.filled("remote.storage.endpoint")
        && !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme))
    {
        reader.reject("remote.storage.endpoint", "must begin with http:// or https://");
    }
    let limit = |key| reader.size_unless_negative(key).filter(|limit| *limit != i64::MAX as u64);
    let uri = set.clone().unwrap_or_else(|| {
        // The store wants an absolute path; a relative one is meant from where the broker was started.
        let folder = std::path::absolute(dirs.data.join("remote")).unwrap_or_else(|_| dirs.data.join("remote"));
        // A URI, so what has a meaning there is escaped.
        format!("file://{}", folder.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
    });
    let disk = reader.size_unless_negative("remote.cache.disk.bytes");
    RemoteSettings {
        enable: reader.flag("remote.log.storage.system.enable"),
        uri_is_set: set.is_some(),
        // A folder as the store is its own disk cache.
        cache_disk_bytes: match disk {
            _ if uri.starts_with("file:") => 0,
            Some(bytes) => bytes,
            None => (machine::volume_bytes(&dirs.remote_cache) / 10).min(64 << 30),
        },
        uri,
        endpoint: reader.filled("remote.storage.endpoint"),
        region: reader.filled("remote.storage.region"),
        cache_memory_bytes: reader.size("remote.cache.memory.bytes"),
        cache_tiny_lfu: reader.text("remote.cache.policy").as_deref() == Some("tinylfu"),
        read_ahead_stream_bytes: reader.size("remote.read.ahead.stream.bytes"),
        read_ahead_bytes_max: reader.size("remote.read.ahead.max.bytes"),
        copy_memory_bytes: reader.size("remote.copy.memory.bytes"),
        merge_target_bytes: reader.size("remote.merge.target.bytes").min(reader.size("remote.copy.memory.bytes") / 4),
        copy_verify_full: reader.text("remote.copy.verify").as_deref() == Some("full"),
        segment_roll_ms: set.is_some().then(|| reader.size("remote.segment.roll.ms")),
        snapshot_interval_ms: reader.size("remote.metadata.snapshot.interval.ms"),
        manifest_retention_ms: reader.size("remote.manifest.retention.ms"),
        delete_grace_ms: reader.size("remote.delete.grace.ms"),
        orphan_age_ms: reader.size("remote.orphan.age.ms"),
        scrub_ratio_per_day: reader.real("remote.scrub.ratio.per.day"),
        prices: Prices {
            currency: reader.text("remote.cost.currency").unwrap_or_default(),
            class_a_requests: reader.real("remote.cost.class.a.requests"),
            class_b_requests: reader.real("remote.cost.class.b.requests"),
            storage_gb_month: reader.real("remote.cost.storage.gb.month"),
            egress_gb: reader.real("remote.cost.egress.gb"),
        },
        fetch_wait_ms_max: reader.size("remote.fetch.max.wait.ms"),
        list_offsets_timeout_ms: reader.size("remote.list.offsets.request.timeout.ms"),
        task_interval_ms: reader.size("remote.log.manager.task.interval.ms"),
        copies_at_once: count(reader, "remote.log.manager.copier.thread.pool.size"),
        copy_bytes_per_second: limit("remote.log.manager.copy.max.bytes.per.second"),
        fetch_bytes_per_second: limit("remote.log.manager.fetch.max.bytes.per.second"),
    }
}

/// Access control that is asked for and not there must not look as if it were.
pub(super) fn refuse_unprotected(reader: &mut Reader<'_>) {
    if reader.filled("authorizer.class.name").is_some() {
        reader.reject("authorizer.class.name", "access control is not supported yet; everybody could do everything");
    }
    if let Some(protocol) = reader.filled("security.inter.broker.protocol")
        && reader.is_set("security.inter.broker.protocol")
        && value::elements(&protocol) != ["PLAINTEXT"]
    {
        reader.reject("security.inter.broker.protocol", "TLS and SASL are not supported yet");
    }
}
