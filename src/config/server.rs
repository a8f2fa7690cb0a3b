//! The broker's configuration as typed values, complete and cross-checked before anything is opened.

mod consumer_groups;
mod read;
mod share_groups;
mod streams_groups;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::given::{ConfigError, Given, Origin};
use super::key::Mode;
use super::layers::{Dynamic, Layers};
use super::listeners::{self, Endpoint, Listener};
use super::reader::Reader;
use super::{alter, keys, machine};
pub use consumer_groups::{Bounded, ConsumerGroupSettings};
pub use share_groups::{ShareGroupSettings, ShareStateSettings};
pub use streams_groups::StreamsGroupSettings;

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
    /// `transaction.*`.
    pub transactions: TransactionSettings,
    /// `share.coordinator.*`.
    pub share_state: ShareStateSettings,
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
    /// `socket.receive.buffer.bytes`; `None`, as where it is not set, leaves it to the kernel.
    pub receive_buffer_bytes: Option<u64>,
    /// `socket.send.buffer.bytes`; `None` leaves it to the kernel.
    pub send_buffer_bytes: Option<u64>,
    /// `socket.listen.backlog.size`.
    pub listen_backlog: u32,
    /// `connections.max.idle.ms`.
    pub connections_idle_ms_max: u64,
    /// `max.connections`, and no more than there are descriptors beside the log's.
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
    /// `telemetry.max.bytes`.
    pub telemetry_bytes_max: usize,
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
    /// `transaction.partition.verification.enable`.
    pub transaction_verification: bool,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_ms: u64,
    /// `log.open.files`, with -1 resolved.
    pub open_files_max: usize,
    /// `log.dir.min.free.bytes`; `None` is [`LogSettings::min_free_bytes`]'s rule.
    pub min_free_bytes: Option<u64>,
    /// `log.wal.file.bytes`.
    pub wal_file_bytes: u64,
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

/// Bounds of the group protocols; those without a prefix are of the classic one.
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
    /// `group.consumer.*`.
    pub consumer: ConsumerGroupSettings,
    /// `group.share.*`.
    pub share: ShareGroupSettings,
    /// `group.streams.*`.
    pub streams: StreamsGroupSettings,
}

/// `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetsSettings {
    /// `offsets.topic.num.partitions`.
    pub partitions: i32,
    /// `offsets.topic.replication.factor`; the factor used is at most the number of brokers.
    pub replication_factor: i16,
    /// `offsets.topic.compression.codec`: Kafka's number of the codec of appends, 0 for none.
    pub compression_codec: i16,
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

/// `__transaction_state` and what it coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionSettings {
    /// `transaction.state.log.num.partitions`.
    pub partitions: i32,
    /// `transaction.state.log.replication.factor`; the factor used is at most the number of brokers.
    pub replication_factor: i16,
    /// `transaction.state.log.min.isr`; used like the factor.
    pub min_isr: i32,
    /// `transaction.state.log.segment.bytes`.
    pub segment_bytes: u32,
    /// `transaction.max.timeout.ms`.
    pub timeout_ms_max: i32,
    /// `transactional.id.expiration.ms`.
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiration_check_ms: u64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub timeout_check_ms: u64,
    /// `add.partitions.to.txn.retry.backoff.ms`.
    pub add_retry_ms: u64,
    /// `add.partitions.to.txn.retry.backoff.max.ms`.
    pub add_retry_ms_max: u64,
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
    /// `remote.merge.target.bytes`, at most a quarter of the memory of copies; 0 is no merging.
    pub merge_target_bytes: u64,
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
    /// `remote.scrub.ratio.per.day`.
    pub scrub_ratio_per_day: f64,
    /// `remote.cost.*`.
    pub prices: Prices,
    /// `remote.fetch.max.wait.ms`.
    pub fetch_wait_ms_max: u64,
    /// `remote.list.offsets.request.timeout.ms`.
    pub list_offsets_timeout_ms: u64,
    /// `remote.log.manager.task.interval.ms`.
    pub task_interval_ms: u64,
    /// `remote.log.manager.copier.thread.pool.size`.
    pub copies_at_once: usize,
    /// `remote.log.manager.copy.max.bytes.per.second`; `None` is no limit.
    pub copy_bytes_per_second: Option<u64>,
    /// `remote.log.manager.fetch.max.bytes.per.second`; `None` is no limit.
    pub fetch_bytes_per_second: Option<u64>,
}

/// What the store costs: `remote.cost.*`.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// `remote.cost.currency`.
    pub currency: String,
    /// `remote.cost.class.a.requests`: 1 000 requests that write or list.
    pub class_a_requests: f64,
    /// `remote.cost.class.b.requests`: 1 000 requests that read.
    pub class_b_requests: f64,
    /// `remote.cost.storage.gb.month`: 1 GiB for a month.
    pub storage_gb_month: f64,
    /// `remote.cost.egress.gb`: 1 GiB that is read.
    pub egress_gb: f64,
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
        let inter_broker_listener = read::inter_broker_listener(&mut reader, &listeners);
        let dirs = read::dirs(&mut reader);
        let admin = Admin {
            listeners: listeners::http(&mut reader, "admin.listeners"),
            health_listeners: listeners::http(&mut reader, "admin.health.listeners"),
            allowed_hosts: reader.list("admin.allowed.hosts"),
        };
        let node_id = read::node_id(&mut reader);
        let (found, mut errors) = read::identity(&dirs.logs, node_id);
        let config = Self {
            node_id,
            rack: reader.filled("broker.rack"),
            cluster_id: read::agreed(cluster_id, found, &mut errors),
            inter_broker_listener,
            listeners,
            admin,
            requests: read::requests(&mut reader),
            topics: read::topics(&reader),
            log: read::log(&reader),
            group: read::group(&mut reader),
            offsets: read::offsets(&reader),
            transactions: read::transactions(&reader),
            share_state: ShareStateSettings::read(&reader),
            remote: read::remote(&mut reader, &dirs),
            logging: LoggingSettings {
                json: reader.text("log.format").as_deref() == Some("json"),
                level: reader.filled("log.level").unwrap_or_else(|| "info".to_owned()),
            },
            dirs,
            given: given.clone(),
        };
        read::refuse_unprotected(&mut reader);
        errors.extend(reader.into_errors());
        errors.extend(alter::check_defaults(given, &config.remote));
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// The value of a key as it counts now, for who asks seldom.
    pub fn broker_value(&self, dynamic: Dynamic<'_>, name: &str) -> String {
        let own = BTreeMap::new();
        let set = Layers { own: &own, dynamic, given: &self.given }.broker(name);
        set.or_else(|| keys::broker(name)?.default.map(str::to_owned)).unwrap_or_default()
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

#[cfg(test)]
mod tests;
