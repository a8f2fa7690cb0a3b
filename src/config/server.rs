//! The broker's configuration as typed values, complete and cross-checked before anything is opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::given::{ConfigError, Given, Origin};
use super::key::Mode;
use super::listeners::{self, Endpoint, Listener};
use super::reader::Reader;
use super::{alter, keys, machine, properties, value};

/// A text that logs never show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Everything the broker reads from its operator.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerConfig {
    /// `node.id`.
    pub node_id: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// The cluster id that `CLUSTER_ID` or `meta.properties` demand; without one the first start draws one.
    pub cluster_id: Option<String>,
    /// The Kafka listeners to open.
    pub listeners: Vec<Listener>,
    /// `inter.broker.listener.name`, or the first listener's name.
    pub inter_broker_listener: String,
    /// Where things are kept.
    pub dirs: Dirs,
    /// HTTP.
    pub admin: Admin,
    /// Connections and requests.
    pub requests: Requests,
    /// How topics come to be.
    pub topics: Topics,
    /// The local log, as far as it is not a topic's affair.
    pub log: LogSettings,
    /// `group.*` of the classic protocol.
    pub group: GroupSettings,
    /// `offsets.*`.
    pub offsets: OffsetsSettings,
    /// The tier.
    pub remote: RemoteSettings,
    /// The broker's own log lines.
    pub logging: LoggingSettings,
    /// What all of it was made from; DescribeConfigs shows it.
    pub given: Given,
}

/// Folders. None is created here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// `terrace.data.dir`, or what follows from `log.dirs`; its lock file is in it.
    pub data: PathBuf,
    /// `log.dirs`; at least one.
    pub logs: Vec<PathBuf>,
    /// The folder of `meta.redb`.
    pub metadata: PathBuf,
    /// `remote.cache.dir`.
    pub remote_cache: PathBuf,
}

impl Dirs {
    /// The file of the embedded metadata store.
    pub fn metadata_file(&self) -> PathBuf {
        self.metadata.join("meta.redb")
    }
}

/// The HTTP side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `admin.listeners`.
    pub listeners: Vec<Endpoint>,
    /// `admin.health.listeners`.
    pub health_listeners: Vec<Endpoint>,
    /// `admin.allowed.hosts`.
    pub allowed_hosts: Vec<String>,
}

/// Bounds of connections and requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    /// `socket.request.max.bytes`.
    pub request_bytes_max: u32,
    /// `queued.max.request.bytes`, with -1 resolved.
    pub queued_bytes_max: u64,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the kernel.
    pub receive_buffer_bytes: Option<u64>,
    /// `socket.send.buffer.bytes`.
    pub send_buffer_bytes: Option<u64>,
    /// `socket.listen.backlog.size`.
    pub listen_backlog: u32,
    /// `connections.max.idle.ms`.
    pub connections_idle_ms_max: u64,
    /// `max.connections`.
    pub connections_max: u32,
    /// `max.connections.per.ip`.
    pub connections_per_ip_max: u32,
    /// `max.connections.per.ip.overrides`: address or name to bound.
    pub connections_per_ip_overrides: BTreeMap<String, u32>,
    /// `fetch.max.bytes`.
    pub fetch_bytes_max: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: usize,
    /// `max.request.partition.size.limit`.
    pub described_partitions_max: u32,
}

/// Creation of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `delete.topic.enable`.
    pub delete_enable: bool,
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `replication.factor.accept.any`.
    pub accept_any_replication_factor: bool,
}

/// The local log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: u64,
    /// `log.initial.task.delay.ms`.
    pub initial_task_delay_ms: u64,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads: usize,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_ms: u64,
    /// `log.open.files`, with -1 resolved.
    pub open_files_max: usize,
    /// `log.dir.min.free.bytes`; `None` is [`LogSettings::min_free_bytes`]'s rule.
    pub min_free_bytes: Option<u64>,
    /// `log.cleaner.enable`.
    pub cleaner_enable: bool,
    /// `log.cleaner.backoff.ms`.
    pub cleaner_backoff_ms: u64,
    /// `log.cleaner.dedupe.buffer.size`.
    pub cleaner_dedupe_bytes: u64,
}

impl LogSettings {
    /// The free space below which `log_dir` takes no more: what was set, else 1 GiB or 5 % of its volume, the smaller.
    pub fn min_free_bytes(&self, log_dir: &Path) -> u64 {
        self.min_free_bytes.unwrap_or_else(|| (machine::volume_bytes(log_dir) / 20).min(1 << 30))
    }
}

/// Bounds of the classic group protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: u64,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: i32,
    /// `group.max.size`.
    pub size_max: usize,
}

/// `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetsSettings {
    /// `offsets.topic.num.partitions`.
    pub partitions: i32,
    /// `offsets.topic.replication.factor`; the factor used is at most the number of brokers.
    pub replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub segment_bytes: u32,
    /// `offsets.retention.minutes` in milliseconds.
    pub retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval_ms: u64,
    /// `offset.metadata.max.bytes`.
    pub metadata_bytes_max: usize,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout_ms: u64,
}

/// The tier.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSettings {
    /// `remote.log.storage.system.enable`.
    pub enable: bool,
    /// `remote.storage.uri`; the folder `remote/` of the data folder if it was not set.
    pub uri: String,
    /// It was set, so that copies are wanted at once.
    pub uri_is_set: bool,
    /// `remote.storage.endpoint`.
    pub endpoint: Option<String>,
    /// `remote.storage.region`.
    pub region: Option<String>,
    /// `remote.cache.memory.bytes`.
    pub cache_memory_bytes: u64,
    /// `remote.cache.disk.bytes`, with -1 resolved; 0 is no such cache.
    pub cache_disk_bytes: u64,
    /// `remote.cache.policy` is `tinylfu`.
    pub cache_tiny_lfu: bool,
    /// `remote.read.ahead.stream.bytes`.
    pub read_ahead_stream_bytes: u64,
    /// `remote.read.ahead.max.bytes`.
    pub read_ahead_bytes_max: u64,
    /// `remote.copy.memory.bytes`.
    pub copy_memory_bytes: u64,
    /// `remote.copy.verify` is `full`.
    pub copy_verify_full: bool,
    /// `remote.segment.roll.ms`; `None` without a store that was set, where nothing has to roll for its copy.
    pub segment_roll_ms: Option<u64>,
    /// `remote.metadata.snapshot.interval.ms`.
    pub snapshot_interval_ms: u64,
    /// `remote.manifest.retention.ms`.
    pub manifest_retention_ms: u64,
    /// `remote.delete.grace.ms`.
    pub delete_grace_ms: u64,
    /// `remote.orphan.age.ms`.
    pub orphan_age_ms: u64,
    /// `remote.fetch.max.wait.ms`.
    pub fetch_wait_ms_max: u64,
    /// `remote.list.offsets.request.timeout.ms`.
    pub list_offsets_timeout_ms: u64,
    /// `remote.log.manager.task.interval.ms`.
    pub task_interval_ms: u64,
    /// `remote.log.manager.copier.thread.pool.size`.
    pub copies_at_once: usize,
    /// `remote.log.reader.threads`.
    pub downloads_at_once: usize,
    /// `remote.log.manager.copy.max.bytes.per.second`; `None` is no limit.
    pub copy_bytes_per_second: Option<u64>,
    /// `remote.log.manager.fetch.max.bytes.per.second`; `None` is no limit.
    pub fetch_bytes_per_second: Option<u64>,
}

/// How the broker logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingSettings {
    /// `log.format` is `json`.
    pub json: bool,
    /// `log.level`, a filter of crate `tracing-subscriber`.
    pub level: String,
}

impl BrokerConfig {
    /// Everything by default.
    pub fn defaults() -> Self {
        Self::build(&Given::default(), None).unwrap_or_else(|errors| panic!("defaults are not valid: {errors:?}"))
    }

    /// Types and cross-checks `given`. `cluster_id` is what the environment demands. All errors are returned together.
    pub fn build(given: &Given, cluster_id: Option<String>) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader::new(given);
        let listeners = listeners::kafka(&mut reader);
        let inter_broker_listener = inter_broker_listener(&mut reader, &listeners);
        let dirs = dirs(&mut reader);
        let admin = Admin {
            listeners: listeners::http(&mut reader, "admin.listeners"),
            health_listeners: listeners::http(&mut reader, "admin.health.listeners"),
            allowed_hosts: reader.list("admin.allowed.hosts"),
        };
        let node_id = node_id(&mut reader);
        let (found, mut errors) = identity(&dirs.logs, node_id);
        let config = Self {
            node_id,
            rack: reader.filled("broker.rack"),
            cluster_id: agreed(cluster_id, found, &mut errors),
            inter_broker_listener,
            listeners,
            admin,
            requests: requests(&mut reader),
            topics: topics(&reader),
            log: log(&reader),
            group: group(&mut reader),
            offsets: offsets(&reader),
            remote: remote(&mut reader, &dirs),
            logging: LoggingSettings {
                json: reader.text("log.format").as_deref() == Some("json"),
                level: reader.filled("log.level").unwrap_or_else(|| "info".to_owned()),
            },
            dirs,
            given: given.clone(),
        };
        refuse_unprotected(&mut reader);
        errors.extend(reader.into_errors());
        errors.extend(alter::check_defaults(given, &config.remote));
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// This configuration with the dynamic settings of all brokers and of this one above it.
    pub fn with_dynamic(
        &self,
        all_brokers: &BTreeMap<String, String>,
        this_broker: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut given = self.given.clone();
        for (key, text) in all_brokers.iter().chain(this_broker) {
            if keys::broker(key).is_some_and(|key| key.mode != Mode::ReadOnly) {
                given.set(key.clone(), text.clone(), Origin::Dynamic);
            }
        }
        Self::build(&given, self.cluster_id.clone())
    }
}

fn node_id(reader: &mut Reader<'_>) -> i32 {
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

fn inter_broker_listener(reader: &mut Reader<'_>, listeners: &[Listener]) -> String {
    let first = listeners.first().map(|listener| listener.name.clone()).unwrap_or_default();
    let Some(name) = reader.filled("inter.broker.listener.name") else { return first };
    if !listeners.iter().any(|listener| listener.name.eq_ignore_ascii_case(&name)) {
        reader.reject("inter.broker.listener.name", "is not one of listeners");
    }
    name.to_uppercase()
}

fn dirs(reader: &mut Reader<'_>) -> Dirs {
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
fn identity(log_dirs: &[PathBuf], node_id: i32) -> (Option<String>, Vec<ConfigError>) {
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

fn agreed(asked: Option<String>, found: Option<String>, errors: &mut Vec<ConfigError>) -> Option<String> {
    let (asked, found) = (asked.filter(|id| !id.is_empty()), found.filter(|id| !id.is_empty()));
    if let (Some(asked), Some(found)) = (&asked, &found)
        && asked != found
    {
        errors.push(ConfigError::new("meta.properties", format!("cluster id is {found}, and {asked} is asked for")));
    }
    asked.or(found)
}

fn requests(reader: &mut Reader<'_>) -> Requests {
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
    Requests {
        request_bytes_max: connections("socket.request.max.bytes"),
        queued_bytes_max,
        receive_buffer_bytes: reader.size_unless_negative("socket.receive.buffer.bytes"),
        send_buffer_bytes: reader.size_unless_negative("socket.send.buffer.bytes"),
        listen_backlog: connections("socket.listen.backlog.size"),
        // Negative is Kafka's "never".
        connections_idle_ms_max: reader.size_unless_negative("connections.max.idle.ms").unwrap_or(u64::MAX),
        connections_max: connections("max.connections"),
        connections_per_ip_max: connections("max.connections.per.ip"),
        connections_per_ip_overrides: overrides,
        fetch_bytes_max: connections("fetch.max.bytes"),
        fetch_session_slots: count(reader, "max.incremental.fetch.session.cache.slots"),
        described_partitions_max: connections("max.request.partition.size.limit"),
    }
}

fn count(reader: &Reader<'_>, key: &str) -> usize {
    usize::try_from(reader.size(key)).unwrap_or(usize::MAX)
}

fn topics(reader: &Reader<'_>) -> Topics {
    Topics {
        auto_create: reader.flag("auto.create.topics.enable"),
        delete_enable: reader.flag("delete.topic.enable"),
        partitions: reader.int("num.partitions"),
        replication_factor: factor(reader, "default.replication.factor"),
        accept_any_replication_factor: reader.flag("replication.factor.accept.any"),
    }
}

/// Kafka declares some factors as int; none is larger than the protocol's short.
fn factor(reader: &Reader<'_>, key: &str) -> i16 {
    i16::try_from(reader.long(key)).unwrap_or(i16::MAX)
}

fn log(reader: &Reader<'_>) -> LogSettings {
    let open_files = reader.size_unless_negative("log.open.files").unwrap_or_else(|| machine::open_files_max() / 2);
    LogSettings {
        retention_check_interval_ms: reader.size("log.retention.check.interval.ms"),
        initial_task_delay_ms: reader.size("log.initial.task.delay.ms"),
        recovery_threads: count(reader, "num.recovery.threads.per.data.dir"),
        producer_id_expiration_ms: reader.long("producer.id.expiration.ms"),
        producer_id_expiration_check_ms: reader.size("producer.id.expiration.check.interval.ms"),
        open_files_max: usize::try_from(open_files.max(16)).unwrap_or(usize::MAX),
        min_free_bytes: reader.size_unless_negative("log.dir.min.free.bytes"),
        cleaner_enable: reader.flag("log.cleaner.enable"),
        cleaner_backoff_ms: reader.size("log.cleaner.backoff.ms"),
        cleaner_dedupe_bytes: reader.size_unless_negative("log.cleaner.dedupe.buffer.size").unwrap_or(0),
    }
}

fn group(reader: &mut Reader<'_>) -> GroupSettings {
    let settings = GroupSettings {
        // Below zero is as good as no delay.
        initial_rebalance_delay_ms: reader.size_unless_negative("group.initial.rebalance.delay.ms").unwrap_or(0),
        session_timeout_ms_min: reader.int("group.min.session.timeout.ms"),
        session_timeout_ms_max: reader.int("group.max.session.timeout.ms"),
        size_max: count(reader, "group.max.size"),
    };
    if settings.session_timeout_ms_min > settings.session_timeout_ms_max {
        let reason = "must not be more than group.max.session.timeout.ms";
        reader.reject("group.min.session.timeout.ms", reason);
    }
    settings
}

fn offsets(reader: &Reader<'_>) -> OffsetsSettings {
    OffsetsSettings {
        partitions: reader.int("offsets.topic.num.partitions"),
        replication_factor: factor(reader, "offsets.topic.replication.factor"),
        segment_bytes: u32::try_from(reader.size("offsets.topic.segment.bytes")).unwrap_or(u32::MAX),
        retention_ms: reader.long("offsets.retention.minutes").saturating_mul(60_000),
        retention_check_interval_ms: reader.size("offsets.retention.check.interval.ms"),
        metadata_bytes_max: usize::try_from(reader.long("offset.metadata.max.bytes")).unwrap_or(0),
        commit_timeout_ms: reader.size("offsets.commit.timeout.ms"),
    }
}

fn remote(reader: &mut Reader<'_>, dirs: &Dirs) -> RemoteSettings {
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
        copy_verify_full: reader.text("remote.copy.verify").as_deref() == Some("full"),
        segment_roll_ms: set.is_some().then(|| reader.size("remote.segment.roll.ms")),
        snapshot_interval_ms: reader.size("remote.metadata.snapshot.interval.ms"),
        manifest_retention_ms: reader.size("remote.manifest.retention.ms"),
        delete_grace_ms: reader.size("remote.delete.grace.ms"),
        orphan_age_ms: reader.size("remote.orphan.age.ms"),
        fetch_wait_ms_max: reader.size("remote.fetch.max.wait.ms"),
        list_offsets_timeout_ms: reader.size("remote.list.offsets.request.timeout.ms"),
        task_interval_ms: reader.size("remote.log.manager.task.interval.ms"),
        copies_at_once: count(reader, "remote.log.manager.copier.thread.pool.size"),
        downloads_at_once: count(reader, "remote.log.reader.threads"),
        copy_bytes_per_second: limit("remote.log.manager.copy.max.bytes.per.second"),
        fetch_bytes_per_second: limit("remote.log.manager.fetch.max.bytes.per.second"),
    }
}

/// Access control that is asked for and not there must not look as if it were.
fn refuse_unprotected(reader: &mut Reader<'_>) {
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

#[cfg(test)]
mod tests;
