//! Wiring: builds, starts and drains every part of a broker in order.

pub mod locks;
pub mod tier_options;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::platform::clock::{Clock, SystemClock};
use terrace_tiering::platform::fs::RealFs;
use terrace_tiering::platform::random::SystemRandom;
use terrace_tiering::platform::task::Tasks;

use crate::config::listeners::Endpoint;
use crate::config::server::BrokerConfig;
use crate::metadata::embedded::{EmbeddedStore, OpenError};
use crate::metadata::store::MetadataStore;
use crate::telemetry::status::Status;
use crate::telemetry::{Telemetry, http};
use locks::{LockError, Locks};

/// How long a drain may take before what is left is cut off.
const DRAIN: Duration = Duration::from_secs(30);

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
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    cluster_id: Arc<str>,
    kafka: Vec<(String, SocketAddr)>,
    http: Vec<SocketAddr>,
    tasks: Tasks,
    /// Released last.
    _locks: Locks,
}

impl Broker {
    /// Starts everything; when it returns the ports are open.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        let locks = Locks::take(&config.dirs)?;
        let tasks = Tasks::new();
        let clock = Arc::new(SystemClock);
        let telemetry = Telemetry::start(clock.now_ms());
        telemetry.spawn_upkeep(&tasks);
        let metadata = EmbeddedStore::open(
            &*RealFs::shared(),
            &config.dirs.metadata_file(),
            config.cluster_id.as_deref(),
            &SystemRandom,
        )?;
        let cluster_id = Arc::clone(&metadata.image().cluster_id);
        let status = {
            let (telemetry, cluster_id, node_id) = (Arc::clone(&telemetry), cluster_id.to_string(), config.node_id);
            Arc::new(move || {
                Status { node_id, cluster_id: cluster_id.clone(), ..Status::default() }.with_health(&telemetry.health)
            })
        };
        let http = http::serve(&config.admin, telemetry, status, &tasks)
            .await
            .map_err(|(endpoint, error)| StartError::Listen(endpoint, error))?;
        Ok(Self { cluster_id, kafka: Vec::new(), http, tasks, _locks: locks })
    }

    /// Kafka's cluster id.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
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
        if !self.tasks.stop(DRAIN).await {
            tracing::warn!("some tasks did not end in time");
        }
    }
}
