//! The running jobs of the tier and what they share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terrace_tiering::Tier;
use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::random::SharedRandom;
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::store::health::StoreHealth;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::damage::Damaged;
use super::due::DueQueue;
use super::observe;
use super::ownership::{NotOwner, Ownership};
use super::partition::{PartitionSource, SharedPartition};
use super::snapshots::{SectionSource, Snapshots};
use super::start::Loaded;
use super::state::{Known, PartitionState};
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::RemoteLogMetadata;
use crate::metadata::store::SharedMetadata;
use crate::partition::tiered::{LocalInfo, SealedInfo};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// The first retry waits about this long; each further one twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// No retry waits longer.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What the broker's configuration says to the jobs.
#[derive(Debug, Clone, Copy)]
pub struct RemoteLogSettings {
    /// `remote.log.manager.copier.thread.pool.size`: partitions that copy at once.
    pub copiers: usize,
    /// `remote.log.manager.task.interval.ms`: between two looks at all partitions.
    pub task_interval_ms: u64,
    /// `remote.delete.grace.ms`: between the mark of a deletion and the deletion.
    pub delete_grace_ms: i64,
    /// `remote.metadata.snapshot.interval.ms`.
    pub snapshot_interval_ms: u64,
    /// `remote.merge.target.bytes`, within what the memory of copies allows; 0: nothing is merged.
    pub merge_target_bytes: u64,
    /// `remote.orphan.age.ms`: younger objects are never taken for orphans.
    pub orphan_age_ms: i64,
    /// `remote.scrub.ratio.per.day`: the share of all segments that is read back in a day.
    pub scrub_ratio_per_day: f64,
}

/// What the jobs work with.
pub struct RemoteLogParts {
    /// The bucket.
    pub tier: Arc<Tier>,
    /// The node's metadata.
    pub metadata: SharedMetadata,
    /// The rows of remote segments.
    pub segments: Arc<dyn RemoteLogMetadata>,
    /// The partitions.
    pub partitions: Arc<dyn PartitionSource>,
    /// From [`start`](super::start::start).
    pub ownership: Arc<Ownership>,
    /// From [`start`](super::start::start).
    pub loaded: HashMap<PartitionId, Loaded>,
    /// Partitions wake it when they roll a segment.
    pub rolls: Arc<DueQueue>,
    /// The coordinators, for the metadata snapshots.
    pub sections: Vec<Arc<dyn SectionSource>>,
    /// Wall time.
    pub clock: SharedClock,
    /// Ids and jitter.
    pub random: SharedRandom,
    /// What the configuration says.
    pub settings: RemoteLogSettings,
}

/// What the tier shows of itself.
#[derive(Debug, Clone, Default)]
pub struct RemoteLogStatus {
    /// Why this broker may no longer write to the bucket; `None` while it may.
    pub lost: Option<Arc<str>>,
    /// Age of the oldest record of a tiered partition that is not in the bucket; 0 when there is none.
    pub oldest_uncopied_age_ms: i64,
    /// Sealed bytes that are not in the bucket.
    pub uncopied_bytes: u64,
    /// Sealed segments that are not in the bucket.
    pub uncopied_segments: u64,
    /// Bytes of segment objects, those to be deleted included.
    pub stored_bytes: u64,
    /// When the last metadata snapshot was written, wall time in milliseconds; `None` if none was in this run.
    pub last_snapshot_ms: Option<i64>,
}

/// The jobs. One per broker.
pub struct RemoteLog {
    pub(super) tier: Arc<Tier>,
    pub(super) metadata: SharedMetadata,
    pub(super) segments: Arc<dyn RemoteLogMetadata>,
    pub(super) partitions: Arc<dyn PartitionSource>,
    pub(super) ownership: Arc<Ownership>,
    pub(super) clock: SharedClock,
    pub(super) random: SharedRandom,
    pub(super) settings: RemoteLogSettings,
    /// Partitions that may have something to copy.
    pub(super) rolls: Arc<DueQueue>,
    /// Partitions whose root is behind.
    pub(super) roots: DueQueue,
    /// Partitions that may have something to merge.
    pub(super) merges: DueQueue,
    /// Compacted ones whose copies may be cleaned.
    pub(super) cleans: DueQueue,
    /// The copies of a topic that is no longer tiered shall go.
    pub(super) given_up: Notify,
    /// They shall come back first.
    pub(super) drained: Notify,
    pub(super) snapshots: Snapshots,
    pub(super) damaged: Damaged,
    states: Mutex<HashMap<PartitionId, Arc<PartitionState>>>,
    /// Segments that are never copied, by base offset, each reported once.
    refused: Mutex<HashSet<(PartitionId, Offset)>>,
    /// Ends of the tier upon which the local log does not follow; told of once.
    seams: Mutex<HashSet<(PartitionId, Offset)>>,
    /// Remote segments that cannot be merged or cleaned, each reported once.
    unmergeable: Mutex<HashSet<Uuid>>,
    /// Failures in a row.
    failures: Mutex<HashMap<PartitionId, u32>>,
    status: Mutex<RemoteLogStatus>,
}

impl std::fmt::Debug for RemoteLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteLog").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl RemoteLog {
    /// The jobs, not running yet.
    pub fn new(parts: RemoteLogParts) -> Arc<Self> {
        let roots = DueQueue::default();
        let mut states = HashMap::new();
        for (id, Loaded { remote, root, root_is_current, cleaned_end }) in parts.loaded {
            if !root_is_current {
                roots.wake(id);
            }
            let mut known = Known::loaded(remote, root, u32::from(!root_is_current));
            known.cleaned_end = cleaned_end;
            states.insert(id, Arc::new(PartitionState::new(id, known)));
        }
        Arc::new(Self {
            tier: parts.tier,
            metadata: parts.metadata,
            segments: parts.segments,
            partitions: parts.partitions,
            ownership: parts.ownership,
            clock: parts.clock,
            random: parts.random,
            settings: parts.settings,
            rolls: parts.rolls,
            roots,
            merges: DueQueue::default(),
            cleans: DueQueue::default(),
            given_up: Notify::new(),
            drained: Notify::new(),
            snapshots: Snapshots::new(parts.sections),
            damaged: Damaged::default(),
            states: Mutex::new(states),
            refused: Mutex::default(),
            seams: Mutex::default(),
            unmergeable: Mutex::default(),
            failures: Mutex::default(),
            status: Mutex::default(),
        })
    }

    /// Starts the jobs. The partitions must know their chains by now.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let stopping = tasks.stopping();
        for _ in 0..self.settings.copiers.max(1) {
            tasks.spawn("remote-log-copier", Arc::clone(self).copy_until(stopping.clone()));
        }
        tasks.spawn("remote-log-manifests", Arc::clone(self).write_roots_until(stopping.clone()));
        tasks.spawn("remote-log-expirer", Arc::clone(self).expire_until(stopping.clone()));
        tasks.spawn("remote-log-merger", Arc::clone(self).merge_until(stopping.clone()));
        tasks.spawn("remote-log-cleaner", Arc::clone(self).clean_until(stopping.clone()));
        tasks.spawn("remote-log-drainer", Arc::clone(self).drain_until(stopping.clone()));
        tasks.spawn("remote-log-snapshots", Arc::clone(self).snapshot_until(stopping.clone()));
        tasks.spawn("remote-log-orphans", Arc::clone(self).delete_orphans_until(stopping.clone()));
        tasks.spawn("remote-log-scrubber", Arc::clone(self).scrub_until(stopping.clone()));
        tasks.spawn("remote-log-sweep", Arc::clone(self).sweep_until(stopping.clone()));
        let (ownership, tier) = (Arc::clone(&self.ownership), Arc::clone(&self.tier));
        tasks.spawn("remote-log-owner", ownership.watch_over(tier, stopping));
    }

    /// The last writes of a clean stop: roots that are behind, then the metadata snapshot. After the tasks have ended;
    /// the caller bounds its time, since a store that is down must not hold up the stop.
    pub async fn close(&self) {
        for state in self.all_states() {
            if let Err(error) = self.write_root(&state).await {
                tracing::warn!(%error, "manifest root is not written; the next start does it");
                break;
            }
        }
        self.write_snapshot().await;
    }

    /// What the tier shows of itself.
    pub fn status(&self) -> RemoteLogStatus {
        RemoteLogStatus { lost: self.ownership.lost(), ..lock(&self.status).clone() }
    }

    /// Whether this broker still owns its prefix of the bucket.
    pub fn ownership(&self) -> &Arc<Ownership> {
        &self.ownership
    }

    /// The tier that it copies to.
    pub fn tier(&self) -> &Arc<Tier> {
        &self.tier
    }

    /// Does the store answer?
    pub fn store_health(&self) -> StoreHealth {
        self.tier.health()
    }

    /// The epoch of all our changes.
    pub(super) fn leader_epoch(&self) -> LeaderEpoch {
        self.ownership.claim().node_epoch
    }

    /// Fine while this broker leads and owns its prefix, as far as is known without asking.
    pub(super) fn may_write(&self) -> Result<(), NotOwner> {
        let (ours, newest) = (self.leader_epoch(), self.metadata.image().node_epoch);
        if newest != ours {
            self.ownership.lose(&format_args!("node epoch {newest} follows on {ours}"));
        }
        self.ownership.assume()
    }

    /// The state of a partition, made when it has none.
    pub(super) fn state(&self, id: PartitionId) -> Arc<PartitionState> {
        let mut states = lock(&self.states);
        let new = || Arc::new(PartitionState::new(id, Known::default()));
        Arc::clone(states.entry(id).or_insert_with(new))
    }

    /// All partitions with remote state.
    pub(super) fn all_states(&self) -> Vec<Arc<PartitionState>> {
        lock(&self.states).values().map(Arc::clone).collect()
    }

    /// The partition's last object is gone.
    pub(super) fn drop_state(&self, id: PartitionId) {
        lock(&self.states).remove(&id);
        lock(&self.failures).remove(&id);
        lock(&self.refused).retain(|(refused, _)| *refused != id);
        lock(&self.seams).retain(|(seam, _)| *seam != id);
    }

    /// Never copies this segment; true the first time.
    pub(super) fn refuse(&self, id: PartitionId, base_offset: Offset) -> bool {
        lock(&self.refused).insert((id, base_offset))
    }

    /// The local log does not follow on this end of the tier; true the first time.
    pub(super) fn is_new_seam(&self, id: PartitionId, tier_end: Offset) -> bool {
        lock(&self.seams).insert((id, tier_end))
    }

    pub(super) fn is_refused(&self, id: PartitionId, base_offset: Offset) -> bool {
        lock(&self.refused).contains(&(id, base_offset))
    }

    /// Never writes these segments anew in this life.
    pub(super) fn leave_unmerged(&self, segments: impl IntoIterator<Item = Uuid>) {
        lock(&self.unmergeable).extend(segments);
    }

    pub(super) fn is_unmergeable(&self, segment: Uuid) -> bool {
        lock(&self.unmergeable).contains(&segment)
    }

    /// When to try again after one more failure: doubling, with jitter so that partitions do not come together.
    pub(super) fn retry_at(&self, id: PartitionId) -> Instant {
        let failures = {
            let mut failures = lock(&self.failures);
            let count = failures.entry(id).or_insert(0);
            *count = count.saturating_add(1);
            *count
        };
        let most = RETRY_MAX.min(RETRY_FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(16)));
        let half_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX) / 2;
        Instant::now() + Duration::from_millis(half_ms + self.random.next_u64() % (half_ms + 1))
    }

    pub(super) fn succeeded(&self, id: PartitionId) {
        lock(&self.failures).remove(&id);
    }

    pub(super) fn snapshot_was_written(&self, now_ms: i64) {
        lock(&self.status).last_snapshot_ms = Some(now_ms);
    }

    /// Looks at all partitions now and then: measures what is not copied, and wakes copiers that nobody woke.
    async fn sweep_until(self: Arc<Self>, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.settings.task_interval_ms.max(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = ticks.tick() => self.sweep().await,
            }
        }
    }

    /// One look at all partitions.
    pub(super) async fn sweep(&self) {
        let now_ms = self.clock.now_ms();
        let mut status = RemoteLogStatus::default();
        for (partition, local) in self.tiered_partitions().await {
            let id = partition.id();
            let state = lock(&self.states).get(&id).map(Arc::clone);
            let tier_end = match state {
                Some(state) => state.lock().await.tier_end(),
                None => None,
            };
            let copied_to = tier_end.unwrap_or(0).max(partition.offsets().log_start);
            let mut oldest = local.active_first_timestamp;
            let uncopied = |segment: &&SealedInfo| segment.next_offset > copied_to && segment.bytes > 0;
            for segment in local.sealed.iter().rev().filter(uncopied) {
                oldest = Some(segment.first_timestamp);
                status.uncopied_bytes += segment.bytes;
                status.uncopied_segments += 1;
            }
            if let Some(oldest) = oldest.filter(|oldest| *oldest >= 0) {
                status.oldest_uncopied_age_ms = status.oldest_uncopied_age_ms.max(now_ms - oldest);
            }
            if !local.sealed.is_empty() {
                self.rolls.wake_unless_waiting(id);
            }
            self.may_clean(id);
        }
        for state in self.all_states() {
            let known = state.lock().await;
            status.stored_bytes += known.remote.segments.iter().map(|segment| segment.object_bytes).sum::<u64>();
        }
        observe::uncopied(status.oldest_uncopied_age_ms, status.uncopied_bytes, status.uncopied_segments);
        let mut shared = lock(&self.status);
        *shared = RemoteLogStatus { last_snapshot_ms: shared.last_snapshot_ms, ..status };
    }

    /// All tiered partitions with their local segments. What is not known of a segment is read from its file, so this
    /// stays away from the async workers.
    async fn tiered_partitions(&self) -> Vec<(SharedPartition, LocalInfo)> {
        let partitions = Arc::clone(&self.partitions);
        let look = move || {
            let tiered = partitions.all().into_iter().filter(|each| each.topic_config().remote_storage_enable);
            tiered.map(|partition| (Arc::clone(&partition), partition.local_info())).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// A new id for a copy.
    pub(super) fn new_uuid(&self) -> Uuid {
        self.random.uuid()
    }
}

/// None of these maps is ever left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
