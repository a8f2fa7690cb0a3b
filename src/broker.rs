//! Wiring: builds, starts and drains every part of a broker in order.
//!
//! Start: locks, metadata, listeners bound, what the checkpoints say of the partitions; then connections are accepted and
//! served, while partitions open at their first use and the tier is opened and compared. Stop, the other way round: no new
//! connection, those that are open finish what they have in hand, background work ends, partitions and tier are closed,
//! the locks go last.

pub(crate) mod dynamic;
pub mod locks;
mod markers;
mod scrape;
pub mod tier;
pub mod tier_options;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use terrace_tiering::platform::clock::{SharedClock, SystemClock};
use terrace_tiering::platform::fs::{self, SharedFs};
use terrace_tiering::platform::random::{SharedRandom, SystemRandom};
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::tier::Machine;

use tokio::sync::watch;

use crate::api::Node;
use crate::api::fetch_sessions::FetchSessions;
use crate::client_metrics::ClientMetrics;
use crate::config::layers::Dynamic;
use crate::config::listeners::Endpoint;
use crate::config::server::BrokerConfig;
use crate::config::topic::TopicConfig;
use crate::coordinator::ShardsDeps;
use crate::group::coordinator::GroupCoordinator;
use crate::group::shard::GroupContext;
use crate::metadata::embedded::{EmbeddedStore, OpenError};
use crate::metadata::remote_log::RemoteLogError;
use crate::metadata::store::MetadataStore;
use crate::partition::node_dirs::SyncSettings;
use crate::partition::registry::{self, LogSettings, PartitionDeps, Partitions};
use crate::partition::tuning::Tuning;
use crate::remote_log::snapshots::{COORDINATORS, SHARE_COORDINATORS, TRANSACTION_COORDINATORS};
use crate::remote_log::{RemoteLog, attach, cost};
use crate::server::listener::Connections;
use crate::share::dead_letters::{DeadLetters, DeadLettersParts};
use crate::share::partitions::{SharePartitions, SharePartitionsParts};
use crate::share::sessions::ShareSessions;
use crate::share::state::ShareStates;
use crate::share::state::shard::ShareStateContext;
use crate::telemetry::health::Condition;
use crate::telemetry::status::Status;
use crate::telemetry::{Telemetry, http};
use crate::transaction::coordinator::TransactionCoordinator;
use locks::{LockError, Locks};
use markers::Markers;

/// How long connections may take to finish what they have in hand.
const DRAIN_CONNECTIONS: Duration = Duration::from_secs(5);
/// How long a drain of everything else may take before what is left is cut off.
const DRAIN: Duration = Duration::from_secs(30);
/// A store that is down must not hold up a stop.
const CLOSE_TIER: Duration = Duration::from_secs(10);
/// Between two looks whether the coordinators are loaded, at a start only.
const LOADING_LOOK: Duration = Duration::from_millis(50);
const CHECKPOINT_INTERVAL_MS: u64 = 1000;

/// Why a broker does not start. One line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder is taken or unusable.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The metadata cannot be opened.
    #[error("metadata: {0}")]
    Metadata(#[from] OpenError),
    /// An address cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Listen(Endpoint, io::Error),
    /// A log directory cannot be opened.
    #[error(transparent)]
    Log(#[from] registry::OpenError),
    /// The rows of the tier cannot be read.
    #[error(transparent)]
    Rows(RemoteLogError),
    /// The tier cannot be used.
    #[error(transparent)]
    Tier(#[from] tier::OpenError),
    /// It ran, and has nothing left to write to.
    #[error("all log directories have failed: repair the disks and start again")]
    LogDirsFailed,
}

/// A running broker.
pub struct Broker {
    cluster_id: Arc<str>,
    kafka: Vec<(String, SocketAddr)>,
    http: Vec<SocketAddr>,
    node: Arc<Node>,
    telemetry: Arc<Telemetry>,
    connections: Arc<Connections>,
    tier: Option<tier::Opening>,
    /// What accepts connections; stopped before everything else.
    accepting: Tasks,
    tasks: Tasks,
    /// Released last.
    _locks: Locks,
}

/// What touches the machine, so that a test can put its own in place.
pub(crate) struct Parts {
    pub(crate) clock: SharedClock,
    pub(crate) random: SharedRandom,
    pub(crate) fs: SharedFs,
}

impl Parts {
    /// Those of the real one.
    pub(crate) fn of_machine() -> Self {
        Self { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), fs: fs::of_machine() }
    }
}

impl Broker {
    /// Starts everything; when it returns clients are served.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        let parts = Parts::of_machine();
        let locks = Locks::take(&config.dirs)?;
        let (tasks, accepting) = (Tasks::new(), Tasks::new());
        let telemetry = Telemetry::start(parts.clock.now_ms());
        telemetry.spawn_upkeep(&tasks);
        let store = EmbeddedStore::open(
            &*parts.fs,
            &config.dirs.metadata_file(),
            config.cluster_id.as_deref(),
            &*parts.random,
        )?;
        let config = Arc::new(config);
        let connections = Connections::new(&config.requests);
        let listeners = bind(&config, &connections).await?;

        let image = store.image();
        let effective = dynamic::effective(&config, &image);
        let tuning = Tuning::new(dynamic::tuned(&effective, &image));
        let partitions = open_partitions(&config, &locks.failed, &parts, &store, &tuning).await?;
        let shards = ShardsDeps {
            metadata: store.clone(),
            logs: partitions.clone(),
            clock: parts.clock.clone(),
            random: parts.random.clone(),
            tasks: tasks.clone(),
        };
        let transactions = TransactionCoordinator::new(shards.clone(), config.transactions.clone());
        let share_states = ShareStates::new(
            shards.clone(),
            ShareStateContext { settings: config.share_state.clone(), metadata: store.clone() },
        );
        let groups = GroupCoordinator::new(
            shards,
            GroupContext {
                group: config.group.clone(),
                offsets: config.offsets.clone(),
                rack: config.rack.clone(),
                random: parts.random.clone(),
                metadata: store.clone(),
                new_topics: Arc::default(),
            },
        );
        // What the rows say must be known before a partition opens, also where the tier is switched off: what only the
        // bucket has is a part of the log.
        attach::tell_rows(&*store, &partitions).await.map_err(StartError::Rows)?;
        if config.remote.enable {
            // And what the bucket says before one is used.
            partitions.hold_tiered();
        }
        groups.start();
        transactions.start(Arc::new(Markers {
            metadata: store.clone(),
            partitions: partitions.clone(),
            groups: groups.clone(),
        }));
        share_states.start();
        watch_loading(&groups, &transactions, &share_states, &telemetry, &tasks);
        let shares = SharePartitions::new(SharePartitionsParts {
            settings: config.group.share.clone(),
            states: Arc::clone(&share_states),
            partitions: partitions.clone(),
            metadata: store.clone(),
            clock: parts.clock.clone(),
        });
        shares.start(&tasks);
        let letters = DeadLettersParts {
            shares: Arc::clone(&shares),
            partitions: partitions.clone(),
            metadata: store.clone(),
            config: config.clone(),
            clock: parts.clock.clone(),
            random: parts.random.clone(),
        };
        DeadLetters::start(letters, &tasks);

        let node = Arc::new(Node {
            config: config.clone(),
            metadata: store.clone(),
            partitions: partitions.clone(),
            groups: groups.clone(),
            client_metrics: Arc::new(ClientMetrics::new(config.requests.telemetry_bytes_max)),
            transactions: transactions.clone(),
            shares,
            share_sessions: ShareSessions::new(config.group.share.sessions_max),
            sessions: FetchSessions::new(config.requests.fetch_session_slots),
            clock: parts.clock.clone(),
            random: parts.random.clone(),
            telemetry: telemetry.clone(),
            advertised: OnceLock::new(),
            effective: watch::Sender::new(effective),
        });
        dynamic::Followers { node: node.clone(), connections: connections.clone(), tuning }
            .follow(store.watch(), &tasks);
        let kafka = accept(&node, &connections, listeners, &accepting)?;
        telemetry.health.set_listening();
        let tier = config.remote.enable.then(|| {
            let machine = Machine { clock: parts.clock, random: parts.random, fs: parts.fs, tasks: tasks.clone() };
            tier::Opening::begin(tier::Parts {
                config: config.clone(),
                machine,
                store: store.clone(),
                partitions: partitions.clone(),
                sections: vec![
                    Arc::new(tier::SecuritySection(store.clone())),
                    Arc::new(tier::ProducerIdsSection(store.clone())),
                    Arc::new(tier::ShardsSection { kind: COORDINATORS, shards: Arc::clone(groups.shards()) }),
                    Arc::new(tier::ShardsSection {
                        kind: TRANSACTION_COORDINATORS,
                        shards: Arc::clone(transactions.shards()),
                    }),
                    Arc::new(tier::ShardsSection {
                        kind: SHARE_COORDINATORS,
                        shards: Arc::clone(share_states.shards()),
                    }),
                ],
                telemetry: telemetry.clone(),
            })
        });
        partitions.start(&tasks, store.watch());
        let mut broker = Self {
            cluster_id: Arc::clone(&store.image().cluster_id),
            kafka,
            http: Vec::new(),
            node,
            telemetry,
            connections,
            tier,
            accepting,
            tasks,
            _locks: locks,
        };
        broker.http = broker.serve_http().await?;
        if let Some(tier) = &broker.tier {
            tier.settled().await?;
        }
        Ok(broker)
    }

    /// Returns when the broker cannot go on, with the line that says what to do: the store answered at last, and the
    /// bucket is not ours; or the last log directory failed.
    pub async fn failed(&self) -> StartError {
        let tier_failed = async {
            match &self.tier {
                Some(tier) => tier.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = tier_failed => error.into(),
            () = self.node.partitions.failed() => StartError::LogDirsFailed,
        }
    }

    fn remote_log(&self) -> Option<&Arc<RemoteLog>> {
        self.tier.as_ref()?.remote_log()
    }

    async fn serve_http(&self) -> Result<Vec<SocketAddr>, StartError> {
        let held = self.connections.budget().clone();
        self.telemetry.show_budget("requests", self.node.config.requests.queued_bytes_max, move || held.used() as u64);
        let partitions = Arc::clone(&self.node.partitions);
        let (_, most) = partitions.write_ahead_memory();
        self.telemetry.show_budget("write-ahead log", most, move || partitions.write_ahead_memory().0);
        scrape::register(&self.node, &self.connections);
        scrape::watch(&self.node);
        http::serve(&self.node.config.admin, Arc::clone(&self.telemetry), Arc::new(self.status()), &self.tasks)
            .await
            .map_err(|(endpoint, error)| StartError::Listen(endpoint, error))
    }

    fn status(&self) -> impl Fn() -> Status + Send + Sync + 'static {
        let (node, telemetry, connections) = (self.node.clone(), self.telemetry.clone(), self.connections.clone());
        let opening = self.tier.clone();
        let (cluster_id, started_ms) = (self.cluster_id.to_string(), node.clock.now_ms());
        let listeners: Vec<String> = self.kafka.iter().map(|(name, address)| format!("{name}://{address}")).collect();
        move || {
            let partitions = node.partitions.all();
            let remote_log = opening.as_ref().and_then(|opening| opening.remote_log());
            let tier = remote_log.map(|remote_log| remote_log.status()).unwrap_or_default();
            let mut status = Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                node_id: node.config.node_id,
                cluster_id: cluster_id.clone(),
                uptime_seconds: u64::try_from((node.clock.now_ms() - started_ms) / 1000).unwrap_or(0),
                listeners: listeners.clone(),
                connections: connections.count() as u64,
                topics: node.metadata.image().topics.len() as u64,
                partitions: partitions.len() as u64,
                local_bytes: partitions.iter().map(|partition| partition.size_bytes()).sum(),
                ..Status::default()
            }
            .with_health(&telemetry.health);
            status.tier.enabled = node.config.remote.enable;
            status.tier.uri.clone_from(&node.config.remote.uri);
            status.tier.uncopied_segments = tier.uncopied_segments;
            status.tier.uncopied_bytes = tier.uncopied_bytes;
            status.tier.oldest_uncopied_age_seconds =
                (tier.oldest_uncopied_age_ms > 0).then(|| tier.oldest_uncopied_age_ms as f64 / 1000.0);
            if let Some(remote_log) = remote_log {
                let prices = &node.config.remote.prices;
                status.tier.currency.clone_from(&prices.currency);
                status.tier.usage = cost::statuses(&remote_log.tier().usage(), prices);
            }
            status
        }
    }

    /// Kafka's cluster id.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The partitions it leads, for who runs a broker in its own process.
    pub fn partitions(&self) -> &Arc<Partitions> {
        &self.node.partitions
    }

    /// The open Kafka listeners by name.
    pub fn kafka_addresses(&self) -> &[(String, SocketAddr)] {
        &self.kafka
    }

    /// The open addresses of `admin.listeners`.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Stops accepting, finishes what is in flight, makes it durable.
    pub async fn stop(self) {
        self.telemetry.health.raise(Condition::Draining, "the broker stops");
        self.accepting.stop(DRAIN).await;
        self.connections.drain(DRAIN_CONNECTIONS).await;
        if !self.tasks.stop(DRAIN).await {
            tracing::warn!("some tasks did not end in time");
        }
        let partitions = self.node.partitions.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || partitions.close()).await {
            tracing::error!(%error, "partitions were not closed cleanly; the next start recovers them");
        }
        if let Some(remote_log) = self.remote_log()
            && tokio::time::timeout(CLOSE_TIER, remote_log.close()).await.is_err()
        {
            tracing::warn!("the store did not answer in time; the next start writes what is missing there");
        }
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("kafka", &self.kafka).field("http", &self.http).finish_non_exhaustive()
    }
}

/// Not ready until every coordinator shard is loaded.
fn watch_loading(
    groups: &Arc<GroupCoordinator>,
    transactions: &Arc<TransactionCoordinator>,
    share_states: &Arc<ShareStates>,
    telemetry: &Arc<Telemetry>,
    tasks: &Tasks,
) {
    let (groups, transactions, shares) = (Arc::clone(groups), Arc::clone(transactions), Arc::clone(share_states));
    let loaded = move || groups.is_loaded() && transactions.is_loaded() && shares.is_loaded();
    if loaded() {
        return;
    }
    telemetry.health.raise(Condition::LoadingCoordinators, "coordinators are being loaded");
    let (telemetry, stopping) = (Arc::clone(telemetry), tasks.stopping());
    tasks.spawn("coordinators-loading", async move {
        while !loaded() && !stopping.is_cancelled() {
            tokio::time::sleep(LOADING_LOOK).await;
        }
        telemetry.health.clear(Condition::LoadingCoordinators);
    });
}

type Bound = Vec<(crate::config::listeners::Listener, tokio::net::TcpListener)>;

async fn bind(config: &BrokerConfig, connections: &Connections) -> Result<Bound, StartError> {
    let mut bound = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        let socket =
            connections.bind(listener).await.map_err(|error| StartError::Listen(listener.bind.clone(), error))?;
        bound.push((listener.clone(), socket));
    }
    Ok(bound)
}

/// Tells the node what clients are to be told, then begins to accept.
fn accept(
    node: &Arc<Node>,
    connections: &Arc<Connections>,
    listeners: Bound,
    accepting: &Tasks,
) -> Result<Vec<(String, SocketAddr)>, StartError> {
    let (mut addresses, mut advertised) = (Vec::new(), Vec::new());
    for (listener, socket) in &listeners {
        let address = socket.local_addr().map_err(|error| StartError::Listen(listener.bind.clone(), error))?;
        let mut told = listener.advertised.clone();
        if told.port == 0 {
            told.port = address.port();
        }
        advertised.push((Arc::from(listener.name.as_str()), told));
        addresses.push((listener.name.clone(), address));
    }
    // Set once, here: the node was made by the caller.
    let _ = node.advertised.set(advertised);
    for (listener, socket) in listeners {
        let accept = Arc::clone(connections).accept(
            Arc::clone(node),
            socket,
            Arc::from(listener.name.as_str()),
            accepting.stopping(),
        );
        accepting.spawn(format!("accept-{}", listener.name), accept);
    }
    Ok(addresses)
}

/// What the partitions of a broker with this configuration are made with.
pub(crate) fn partition_deps(
    config: &Arc<BrokerConfig>,
    failed_dirs: &[(PathBuf, String)],
    parts: &Parts,
    tuning: &Arc<Tuning>,
) -> PartitionDeps {
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let settings = LogSettings {
        node_id: config.node_id,
        log_dirs: config.dirs.logs.clone(),
        failed_dirs: failed_dirs.to_vec(),
        min_free_bytes: config.dirs.logs.iter().map(|dir| config.log.min_free_bytes(dir)).collect(),
        tuning: tuning.clone(),
        retention_check_interval_ms: ms(config.log.retention_check_interval_ms),
        remote_segment_roll_ms: config.remote.segment_roll_ms.map(ms),
        open_files_max: config.log.open_files_max,
        checkpoint_interval_ms: CHECKPOINT_INTERVAL_MS,
        syncs: SyncSettings { wal_file_bytes: config.log.wal_file_bytes, ..SyncSettings::default() },
    };
    let resolving = Arc::clone(config);
    PartitionDeps {
        fs: parts.fs.clone(),
        clock: parts.clock.clone(),
        random: parts.random.clone(),
        settings,
        resolve_config: Arc::new(move |image, topic| {
            let dynamic = Dynamic::of(&image.broker_configs, resolving.node_id);
            Arc::new(TopicConfig::resolve(&resolving, dynamic, &topic.name, &topic.config))
        }),
    }
}

async fn open_partitions(
    config: &Arc<BrokerConfig>,
    failed_dirs: &[(PathBuf, String)],
    parts: &Parts,
    store: &Arc<EmbeddedStore>,
    tuning: &Arc<Tuning>,
) -> Result<Arc<Partitions>, StartError> {
    let deps = partition_deps(config, failed_dirs, parts, tuning);
    let image = store.image();
    let opened = tokio::task::spawn_blocking(move || Partitions::open(deps, &image)).await;
    // A panic while opening is our own broken invariant: it stops the start like one anywhere else.
    Ok(opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?)
}

#[cfg(test)]
mod tests;
