//! The node as a handler sees it: every part of the broker by one reference, built by `broker.rs`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::random::SharedRandom;

use tokio::sync::watch;

use super::fetch_sessions::FetchSessions;
use super::share_acknowledgements;
use crate::client_metrics::ClientMetrics;
use crate::config::listeners::Endpoint;
use crate::config::server::BrokerConfig;
use crate::group::coordinator::GroupCoordinator;
use crate::metadata::store::SharedMetadata;
use crate::partition::registry::Partitions;
use crate::share::partitions::SharePartitions;
use crate::share::sessions::ShareSessions;
use crate::telemetry::Telemetry;
use crate::transaction::coordinator::TransactionCoordinator;

/// Everything a handler may ask. Shared by all connections; each part guards its own state.
pub struct Node {
    /// What the operator said, before dynamic changes: what was decided at the start.
    pub config: Arc<BrokerConfig>,
    /// The same with dynamic changes above it: what counts at the moment.
    pub effective: watch::Sender<Arc<BrokerConfig>>,
    /// Topics, ids, configurations, producer id blocks.
    pub metadata: SharedMetadata,
    /// The partitions that this broker leads: all.
    pub partitions: Arc<Partitions>,
    /// Who reads what, and how far.
    pub groups: Arc<GroupCoordinator>,
    /// Clients that push their metrics.
    pub client_metrics: Arc<ClientMetrics>,
    /// Who writes under which transactional id, and producer ids.
    pub transactions: Arc<TransactionCoordinator>,
    /// Which record is at which member of a share group.
    pub shares: Arc<SharePartitions>,
    /// What members of share groups fetch.
    pub share_sessions: ShareSessions,
    /// Incremental fetch sessions.
    pub sessions: FetchSessions,
    /// Wall time.
    pub clock: SharedClock,
    /// Ids and jitter.
    pub random: SharedRandom,
    /// Counters of topics and requests.
    pub telemetry: Arc<Telemetry>,
    /// What clients are told, by listener name; set once all listeners are bound, before the first connection.
    pub advertised: OnceLock<Vec<(Arc<str>, Endpoint)>>,
}

impl Node {
    /// A connection is gone, and with it what depends on it.
    pub async fn disconnected(&self, peer: SocketAddr) {
        for ended in self.share_sessions.disconnected(peer) {
            share_acknowledgements::release(self, &ended).await;
        }
    }

    /// Where a client that came in by `listener` reaches this broker.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        let listeners = self.advertised.get()?;
        listeners.iter().find(|(name, _)| &**name == listener).map(|(_, endpoint)| endpoint)
    }
}
