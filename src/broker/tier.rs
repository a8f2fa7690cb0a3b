//! Opening the tier beside the running broker: the bucket is claimed and compared with our rows, partitions whose local
//! log lost what the bucket has begin behind it, then the jobs start.
//!
//! ```text
//!  accepting ---> [ tiered partitions wait ]---> compared, or the store had its time ---> they serve
//!                  other partitions serve                                        jobs start once it was compared
//! ```
//! A store that doesn't answer holds up nothing but itself: it is asked again until it does. A bucket that is not ours ends
//! the broker whenever that shows.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use terrace_tiering::Tier;
use terrace_tiering::cluster::owner::OwnerClaim;
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::store::health::StoreHealth;
use terrace_tiering::tier::{Machine, TierError};
use tokio::sync::watch;

use bytes::{Bytes, BytesMut};

use super::tier_options::tier_options;
use crate::config::server::{BrokerConfig, RemoteSettings};
use crate::coordinator::{ShardState, Shards};
use crate::metadata::embedded::EmbeddedStore;
use crate::metadata::store::MetadataStore;
use crate::partition::registry::Partitions;
use crate::remote_log::attach::Unattached;
use crate::remote_log::cost;
use crate::remote_log::due::DueQueue;
use crate::remote_log::snapshots::{self, SectionSource, content};
use crate::remote_log::start::{self, StartError};
use crate::remote_log::{RemoteLog, RemoteLogParts, RemoteLogSettings};
use crate::telemetry::Telemetry;
use crate::telemetry::health::{Condition, Health};

/// Between two looks whether the store answers.
const STORE_LOOK: Duration = Duration::from_secs(2);
/// How long tiered partitions wait for a store that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the tier keeps the broker from starting.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be used.
    #[error(transparent)]
    Tier(Arc<TierError>),
    /// The bucket is not ours, or knows more than we do.
    #[error(transparent)]
    Start(Arc<StartError>),
}

impl OpenError {
    /// The store failed, and may answer when it is asked again.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Tier(error) => matches!(&**error, TierError::Store(error) if error.is_transient()),
            Self::Start(error) => error.is_temporary(),
        }
    }

    /// The directory of the store cannot be used.
    fn is_of_directory(&self) -> bool {
        matches!(self, Self::Tier(error) if matches!(**error, TierError::Directory { .. }))
    }
}

impl From<TierError> for OpenError {
    fn from(error: TierError) -> Self {
        Self::Tier(Arc::new(error))
    }
}

impl From<StartError> for OpenError {
    fn from(error: StartError) -> Self {
        Self::Start(Arc::new(error))
    }
}

/// What the tier is opened with.
pub(super) struct Parts {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) machine: Machine,
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) partitions: Arc<Partitions>,
    pub(super) sections: Vec<Arc<dyn SectionSource>>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// How far the opening is.
#[derive(Debug, Clone)]
enum Progress {
    /// The store has not answered yet.
    Asking,
    /// Tiered partitions serve.
    Serving,
    /// The broker must not go on.
    Failed(OpenError),
}

/// The tier on its way, and when it is there.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    remote_log: Arc<OnceLock<Arc<RemoteLog>>>,
    progress: watch::Receiver<Progress>,
}

impl Opening {
    /// Begins to open it.
    pub(super) fn begin(parts: Parts) -> Self {
        let (tell, progress) = watch::channel(Progress::Asking);
        let remote_log = Arc::new(OnceLock::new());
        let (opened, tasks) = (Arc::clone(&remote_log), parts.machine.tasks.clone());
        tasks.spawn("tier-opening", async move { open_until_stopped(parts, &opened, &tell).await });
        Self { remote_log, progress }
    }

    /// Returns when tiered partitions serve; the error is why they never will.
    pub(super) async fn settled(&self) -> Result<(), OpenError> {
        let mut progress = self.progress.clone();
        match progress.wait_for(|progress| !matches!(progress, Progress::Asking)).await.as_deref() {
            Ok(Progress::Failed(error)) => Err(error.clone()),
            // The task ended without an outcome: the broker is stopping.
            Ok(Progress::Asking | Progress::Serving) | Err(_) => Ok(()),
        }
    }

    /// Returns when the broker must not go on.
    pub(super) async fn failed(&self) -> OpenError {
        let mut progress = self.progress.clone();
        if let Ok(found) = progress.wait_for(|progress| matches!(progress, Progress::Failed(_))).await
            && let Progress::Failed(error) = &*found
        {
            return error.clone();
        }
        std::future::pending().await
    }

    /// The jobs of the tier, from when the bucket was compared with our rows; they run a little later.
    pub(super) fn remote_log(&self) -> Option<&Arc<RemoteLog>> {
        self.remote_log.get()
    }
}

async fn open_until_stopped(parts: Parts, opened: &OnceLock<Arc<RemoteLog>>, tell: &watch::Sender<Progress>) {
    let stopping = parts.machine.tasks.stopping();
    tokio::select! {
        () = stopping.cancelled() => {}
        () = open_at_last(&parts, opened, tell) => {}
    }
}

async fn open_at_last(parts: &Parts, opened: &OnceLock<Arc<RemoteLog>>, tell: &watch::Sender<Progress>) {
    let serve = || {
        parts.partitions.tier_was_compared();
        tell.send_if_modified(|progress| {
            let waited = matches!(progress, Progress::Asking);
            if waited {
                *progress = Progress::Serving;
            }
            waited
        });
    };
    let mut attempts = std::pin::pin!(open_in_attempts(parts, opened, &serve));
    let outcome = match tokio::time::timeout(PATIENCE, &mut attempts).await {
        Ok(outcome) => outcome,
        Err(_) => {
            tracing::warn!("the store does not answer; tiered topics are served from their local logs meanwhile");
            parts.telemetry.health.raise(Condition::StoreDown, "the store has not answered since the start");
            serve();
            attempts.await
        }
    };
    match outcome {
        Ok(remote_log) => {
            remote_log.start(&parts.machine.tasks);
            watch_health(&remote_log, &parts.partitions, parts.telemetry.health.clone(), &parts.machine.tasks);
            show_budgets(&remote_log, &parts.telemetry);
            show_cost(&remote_log, &parts.config, &parts.telemetry);
        }
        Err(error) => {
            // Whatever is appended from here on would be a second history.
            parts.partitions.fence();
            parts.telemetry.health.raise(Condition::TierFenced, error.to_string());
            tell.send_replace(Progress::Failed(error));
        }
    }
}

/// Asks the store until it answers. As soon as the bucket was compared with the rows, `opened` is set, then `serve` called.
async fn open_in_attempts(
    parts: &Parts,
    opened: &OnceLock<Arc<RemoteLog>>,
    serve: &(dyn Fn() + Sync),
) -> Result<Arc<RemoteLog>, OpenError> {
    let claim = OwnerClaim {
        node_epoch: parts.store.image().node_epoch,
        node_id: parts.config.node_id,
        process: parts.machine.random.uuid(),
        claimed_at_ms: parts.machine.clock.now_ms(),
    };
    let mut tried = false;
    loop {
        match open(parts, &claim, opened, serve).await {
            // A directory that was there once is one whose server is gone.
            Err(error) if error.is_temporary() || tried && error.is_of_directory() => {
                tried = true;
                tracing::warn!(%error, "the tier cannot be opened yet; it is tried again");
                tokio::time::sleep(STORE_LOOK).await;
            }
            outcome => return outcome,
        }
    }
}

async fn open(
    parts: &Parts,
    claim: &OwnerClaim,
    opened: &OnceLock<Arc<RemoteLog>>,
    serve: &(dyn Fn() + Sync),
) -> Result<Arc<RemoteLog>, OpenError> {
    let Parts { config, machine, store, partitions, sections, .. } = parts;
    let (clock, random) = (machine.clock.clone(), machine.random.clone());
    let tier = Tier::open(tier_options(config, &store.image().cluster_id), machine.clone()).await?;
    let started = start::start(&tier, &**store, claim.clone()).await?;
    partitions.set_tier(Arc::clone(&tier));
    let unattached = Unattached::all(&started.loaded, partitions);
    let rolls = Arc::new(DueQueue::default());
    let remote_log = RemoteLog::new(RemoteLogParts {
        tier: Arc::clone(&tier),
        metadata: Arc::clone(store) as _,
        segments: Arc::clone(store) as _,
        partitions: Arc::clone(partitions) as _,
        ownership: started.ownership,
        loaded: started.loaded,
        rolls: Arc::clone(&rolls),
        sections: sections.clone(),
        clock,
        random,
        settings: settings(&config.remote),
    });
    // Before anybody is served: a clean stop from here on writes the roots that are behind.
    let _ = opened.set(Arc::clone(&remote_log));
    serve();
    let waiting = unattached.attach(&tier).await;
    let stopping = machine.tasks.stopping();
    machine.tasks.spawn("tier-attach", async move {
        // Some wait for longer than the store may be given; the jobs do not wait for them.
        let _ = stopping.run_until_cancelled(waiting.attach_at_last(&tier)).await;
    });
    partitions.trust_copies();
    partitions.on_roll(Arc::new(move |id| rolls.wake(id)));
    Ok(remote_log)
}

fn show_budgets(remote_log: &Arc<RemoteLog>, telemetry: &Telemetry) {
    for (at, budget) in remote_log.tier().budgets().into_iter().enumerate() {
        let tier = Arc::clone(remote_log.tier());
        telemetry.show_budget(budget.name, budget.limit, move || tier.budgets()[at].held);
    }
}

fn show_cost(remote_log: &Arc<RemoteLog>, config: &Arc<BrokerConfig>, telemetry: &Telemetry) {
    // What telemetry keeps must not keep the metadata's file open.
    let (remote_log, config) = (Arc::downgrade(remote_log), Arc::clone(config));
    telemetry.on_scrape(move |scrape| {
        if let Some(remote_log) = remote_log.upgrade() {
            let stored_bytes = remote_log.status().stored_bytes;
            cost::collect(scrape, &remote_log.tier().usage(), stored_bytes, &config.remote.prices);
        }
    });
}

/// Shows in health whether the prefix is ours and the store answers. Once the prefix is lost nothing is appended any more.
fn watch_health(remote_log: &Arc<RemoteLog>, partitions: &Arc<Partitions>, health: Arc<Health>, tasks: &Tasks) {
    let (remote_log, partitions, stopping) = (Arc::clone(remote_log), Arc::clone(partitions), tasks.stopping());
    let mut lost = remote_log.ownership().watch();
    let checked = Arc::downgrade(&remote_log);
    health.watch(Condition::TierDamaged, move || checked.upgrade()?.damage());
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

/// The state of one coordinator's shards in the metadata snapshots.
pub(super) struct ShardsSection<S: ShardState> {
    /// The section's type.
    pub kind: u16,
    /// Whose state it is.
    pub shards: Arc<Shards<S>>,
}

#[async_trait::async_trait]
impl<S: ShardState> SectionSource for ShardsSection<S> {
    fn kind(&self) -> u16 {
        self.kind
    }

    fn version(&self) -> u64 {
        self.shards.version()
    }

    async fn section(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        self.shards.write_section(&mut out).await?;
        Some(out.freeze())
    }
}

/// ACLs, SCRAM credentials and tokens in the metadata snapshots; they change with an adoption only.
pub(super) struct SecuritySection(pub(super) Arc<EmbeddedStore>);

#[async_trait::async_trait]
impl SectionSource for SecuritySection {
    fn kind(&self) -> u16 {
        snapshots::SECURITY
    }

    fn version(&self) -> u64 {
        0
    }

    async fn section(&self) -> Option<Bytes> {
        Some(content::encode_security(self.0.security()))
    }
}

/// The producer ids in the metadata snapshots.
pub(super) struct ProducerIdsSection(pub(super) Arc<EmbeddedStore>);

#[async_trait::async_trait]
impl SectionSource for ProducerIdsSection {
    fn kind(&self) -> u16 {
        snapshots::PRODUCER_IDS
    }

    fn version(&self) -> u64 {
        self.0.next_producer_id().unsigned_abs()
    }

    async fn section(&self) -> Option<Bytes> {
        Some(content::encode_producer_ids(self.0.next_producer_id()))
    }
}

fn settings(remote: &RemoteSettings) -> RemoteLogSettings {
    RemoteLogSettings {
        copiers: remote.copies_at_once,
        task_interval_ms: remote.task_interval_ms,
        delete_grace_ms: milliseconds(remote.delete_grace_ms),
        snapshot_interval_ms: remote.snapshot_interval_ms,
        merge_target_bytes: remote.merge_target_bytes,
        orphan_age_ms: milliseconds(remote.orphan_age_ms),
        scrub_ratio_per_day: remote.scrub_ratio_per_day,
    }
}

fn milliseconds(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
