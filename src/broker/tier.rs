//! Opening the tier: the bucket is claimed and compared with our rows before any client is served, and partitions whose
//! local log lost what the bucket has begin behind it.

use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::Tier;
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::store::health::StoreHealth;
use terrace_tiering::tier::{Machine, TierError};

use bytes::{Bytes, BytesMut};

use super::tier_options::tier_options;
use crate::config::server::{BrokerConfig, RemoteSettings};
use crate::group::coordinator::GroupCoordinator;
use crate::metadata::embedded::EmbeddedStore;
use crate::metadata::store::MetadataStore;
use crate::partition::registry::Partitions;
use crate::remote_log::attach::attach;
use crate::remote_log::due::DueQueue;
use crate::remote_log::snapshots::{COORDINATORS, SectionSource};
use crate::remote_log::start::{self, StartError};
use crate::remote_log::{RemoteLog, RemoteLogParts, RemoteLogSettings};
use crate::telemetry::health::{Condition, Health};

/// Between two looks whether the store answers.
const STORE_LOOK: Duration = Duration::from_secs(2);

/// Why the tier keeps the broker from starting.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be used.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// The bucket is not ours, or knows more than we do.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Opens the tier and makes its jobs; they are not running yet.
pub(super) async fn open(
    config: &BrokerConfig,
    machine: Machine,
    store: &Arc<EmbeddedStore>,
    partitions: &Arc<Partitions>,
    sections: Vec<Arc<dyn SectionSource>>,
) -> Result<Arc<RemoteLog>, OpenError> {
    let image = store.image();
    let (clock, random) = (machine.clock.clone(), machine.random.clone());
    let tier = Tier::open(tier_options(config, &image.cluster_id), machine).await?;
    let started = start::start(&tier, &**store, config.node_id, image.node_epoch, &*clock, &*random).await?;
    partitions.set_tier(Arc::clone(&tier));
    attach(&tier, &started.loaded, partitions).await;
    let rolls = Arc::new(DueQueue::default());
    let woken = Arc::clone(&rolls);
    partitions.on_roll(Arc::new(move |id| woken.wake(id)));
    let parts = RemoteLogParts {
        tier,
        metadata: Arc::clone(store) as _,
        segments: Arc::clone(store) as _,
        partitions: Arc::clone(partitions) as _,
        ownership: started.ownership,
        loaded: started.loaded,
        rolls,
        sections,
        clock,
        random,
        settings: settings(&config.remote),
    };
    Ok(RemoteLog::new(parts))
}

/// Shows in health whether the prefix is ours and the store answers. Once the prefix is lost nothing is appended any more.
pub(super) fn watch_health(
    remote_log: &Arc<RemoteLog>,
    partitions: &Arc<Partitions>,
    health: Arc<Health>,
    tasks: &Tasks,
) {
    let (remote_log, partitions, stopping) = (Arc::clone(remote_log), Arc::clone(partitions), tasks.stopping());
    let mut lost = remote_log.ownership().watch();
    tasks.spawn("tier-health", async move {
        let mut ticks = tokio::time::interval(STORE_LOOK);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                Ok(()) = lost.changed() => {}
                _ = ticks.tick() => {}
            }
            if let Some(why) = remote_log.ownership().lost() {
                partitions.fence();
                health.raise(Condition::TierFenced, &*why);
            }
            match remote_log.store_health() {
                StoreHealth::Up { .. } => health.clear(Condition::StoreDown),
                StoreHealth::Down { reason, .. } => health.raise(Condition::StoreDown, reason),
            }
        }
    });
}

/// The groups' state in the metadata snapshots.
pub(super) struct GroupSection(pub Arc<GroupCoordinator>);

#[async_trait::async_trait]
impl SectionSource for GroupSection {
    fn kind(&self) -> u16 {
        COORDINATORS
    }

    fn version(&self) -> u64 {
        self.0.version()
    }

    async fn section(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        self.0.write_section(&mut out).await?;
        Some(out.freeze())
    }
}

fn settings(remote: &RemoteSettings) -> RemoteLogSettings {
    RemoteLogSettings {
        copiers: remote.copies_at_once,
        task_interval_ms: remote.task_interval_ms,
        delete_grace_ms: milliseconds(remote.delete_grace_ms),
        snapshot_interval_ms: remote.snapshot_interval_ms,
        orphan_age_ms: milliseconds(remote.orphan_age_ms),
    }
}

fn milliseconds(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
