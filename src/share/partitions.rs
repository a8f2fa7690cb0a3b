//! All share partitions of this node, and the clock of their locks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::task::Tasks;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::breaker::Breaker;
use super::dead_letters::Waiting;
use super::partition::{Moment, SharePartition};
use super::settings::ShareLimits;
use super::state::ShareStates;
use super::state::records::ShareKey;
use crate::config::server::ShareGroupSettings;
use crate::metadata::image::{Image, PartitionId};
use crate::metadata::store::SharedMetadata;
use crate::partition::registry::Partitions;
use crate::protocol::error_code::ErrorCode;

/// So many groups' bells are kept without asking who waits for them.
const LEAST_BELLS: usize = 64;
/// Share partitions whose locks are looked through at a time: each may wait for its share coordinator.
const EXPIRED_AT_ONCE: usize = 64;

/// See the module.
pub struct SharePartitions {
    settings: ShareGroupSettings,
    states: Arc<ShareStates>,
    partitions: Arc<Partitions>,
    metadata: SharedMetadata,
    clock: SharedClock,
    began: Instant,
    known: Mutex<Known>,
    timers: Mutex<Timers>,
    /// An earlier moment than all others was set.
    sooner: Notify,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Known {
    breakers: HashMap<(Arc<str>, Uuid), Arc<Breaker>>,
    partitions: HashMap<ShareKey, Arc<SharePartition>>,
    /// Kept by those who wait for them.
    bells: HashMap<Arc<str>, Weak<Notify>>,
    /// When so many bells are known, those that nobody keeps go.
    bells_to_sweep: usize,
}

impl Known {
    fn bell(&mut self, group: &Arc<str>) -> Arc<Notify> {
        if let Some(bell) = self.bells.get(group).and_then(Weak::upgrade) {
            return bell;
        }
        if self.bells.len() >= self.bells_to_sweep {
            self.bells.retain(|_, bell| bell.strong_count() > 0);
            self.bells_to_sweep = (2 * self.bells.len()).max(LEAST_BELLS);
        }
        let bell = Arc::default();
        self.bells.insert(Arc::clone(group), Arc::downgrade(&bell));
        bell
    }
}

/// When share partitions want time: one entry of each.
#[derive(Default)]
struct Timers {
    due: BTreeMap<(u64, ShareKey), ()>,
    of: HashMap<ShareKey, u64>,
}

impl Timers {
    /// Sets the moment of a share partition unless it has an earlier one; true when it is now the first of all.
    fn set(&mut self, key: &ShareKey, at_ms: u64) -> bool {
        match self.of.get(key) {
            Some(earlier) if *earlier <= at_ms => return false,
            Some(later) => {
                self.due.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.of.insert(key.clone(), at_ms);
        self.due.insert((at_ms, key.clone()), ());
        self.due.first_key_value().is_some_and(|((first, of), ())| (*first, of) == (at_ms, key))
    }

    fn forget(&mut self, key: &ShareKey) {
        if let Some(at_ms) = self.of.remove(key) {
            self.due.remove(&(at_ms, key.clone()));
        }
    }

    fn first(&self) -> Option<u64> {
        self.due.first_key_value().map(|((at, _), ())| *at)
    }

    fn take_due(&mut self, now_ms: u64) -> Option<ShareKey> {
        self.first().filter(|at| *at <= now_ms)?;
        let ((_, key), ()) = self.due.pop_first()?;
        self.of.remove(&key);
        Some(key)
    }
}

/// What it is made of.
pub struct SharePartitionsParts {
    /// `group.share.*`.
    pub settings: ShareGroupSettings,
    /// Who keeps the states.
    pub states: Arc<ShareStates>,
    /// The logs.
    pub partitions: Arc<Partitions>,
    /// Configurations of groups.
    pub metadata: SharedMetadata,
    /// Wall time.
    pub clock: SharedClock,
}

impl SharePartitions {
    /// None yet.
    pub fn new(parts: SharePartitionsParts) -> Arc<Self> {
        Arc::new(Self {
            settings: parts.settings,
            states: parts.states,
            partitions: parts.partitions,
            metadata: parts.metadata,
            clock: parts.clock,
            began: Instant::now(),
            known: Mutex::default(),
            timers: Mutex::default(),
            sooner: Notify::new(),
            waiting: Arc::default(),
        })
    }

    /// Starts the clock of the locks, and to follow which topics there are.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let (these, stopping) = (Arc::clone(self), tasks.stopping());
        tasks.spawn("share-locks", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = these.expire_forever() => {}
            }
        });
        let (these, stopping) = (Arc::clone(self), tasks.stopping());
        tasks.spawn("share-topics", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = these.follow_topics() => {}
            }
        });
    }

    /// Share partitions whose dead letters are to be written.
    pub(super) fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    /// The moment.
    pub fn now(&self) -> Moment {
        let mono_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { mono_ms, wall_ms: self.clock.now_ms() }
    }

    /// What holds for one group now.
    pub fn limits(&self, group: &str) -> ShareLimits {
        ShareLimits::of(group, &self.settings, &self.metadata.image())
    }

    /// Who keeps the states.
    pub fn states(&self) -> &Arc<ShareStates> {
        &self.states
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bell of a group: rung when records may be given out that could not before.
    pub fn bell(&self, group: &Arc<str>) -> Arc<Notify> {
        self.known().bell(group)
    }

    /// A share partition that has been fetched from since the start.
    pub fn get(&self, key: &ShareKey) -> Option<Arc<SharePartition>> {
        let mut known = self.known();
        let share = known.partitions.get(key).map(Arc::clone)?;
        if share.is_dead() {
            known.partitions.remove(key);
            return None;
        }
        Some(share)
    }

    /// One to fetch from. UNKNOWN_TOPIC_OR_PARTITION if there is no such log here.
    pub fn open(&self, key: &ShareKey) -> Result<Arc<SharePartition>, ErrorCode> {
        if let Some(known) = self.get(key) {
            return Ok(known);
        }
        let id = PartitionId { topic: key.topic, partition: key.partition };
        let partition = self.partitions.get(id).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let bell = self.bell(&key.group);
        let mut known = self.known();
        let topic = Arc::clone(partition.topic_name());
        let new = || Arc::new(Breaker::new(Arc::clone(&key.group), topic));
        let breaker = Arc::clone(known.breakers.entry((Arc::clone(&key.group), key.topic)).or_insert_with(new));
        let (states, waiting) = (Arc::clone(&self.states), Arc::clone(&self.waiting));
        let new = || Arc::new(SharePartition::new(key.clone(), partition, states, bell, breaker, waiting));
        Ok(Arc::clone(known.partitions.entry(key.clone()).or_insert_with(new)))
    }

    /// Forgets what is known of a share partition, so that its state is read anew: the offsets were set, the topic or the
    /// group is gone, or another leads.
    pub fn forget(&self, key: &ShareKey) {
        let forgotten = self.known().partitions.remove(key);
        if let Some(share) = forgotten {
            share.die();
        }
        self.ring(&key.group);
    }

    /// The same of one that is no use, and not of the one that may have taken its place.
    pub fn forget_this(&self, share: &Arc<SharePartition>) {
        share.die();
        let mut known = self.known();
        if known.partitions.get(share.key()).is_some_and(|known| Arc::ptr_eq(known, share)) {
            known.partitions.remove(share.key());
        }
    }

    /// Forgets everything of a group that is gone.
    pub fn forget_group(&self, group: &str) {
        let forgotten: Vec<_> = {
            let mut known = self.known();
            known.breakers.retain(|(of, _), _| &**of != group);
            known.partitions.extract_if(|key, _| &*key.group == group).collect()
        };
        forgotten.iter().for_each(|(_, share)| share.die());
        self.ring(group);
        self.known().bells.remove(group);
    }

    /// Whoever waits for records of the group looks again.
    pub fn ring(&self, group: &str) {
        let bell = self.known().bells.get(group).and_then(Weak::upgrade);
        if let Some(bell) = bell {
            bell.notify_waiters();
        }
    }

    /// Forgets everything of topics that are gone. Who waits for their records looks again.
    fn forget_gone_topics(&self, image: &Image) {
        let gone: Vec<_> = {
            let mut known = self.known();
            known.breakers.retain(|(_, topic), _| image.topic_by_id(topic).is_some());
            known.partitions.extract_if(|key, _| image.topic_by_id(&key.topic).is_none()).collect()
        };
        for (key, share) in &gone {
            share.die();
            self.ring(&key.group);
            self.timers().forget(key);
        }
    }

    async fn follow_topics(&self) {
        let mut images = self.metadata.watch();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            self.forget_gone_topics(&image);
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    /// Looks at a share partition again when its next lock is over.
    pub fn watch_locks(&self, key: &ShareKey, partition: &SharePartition) {
        if let Some(at_ms) = partition.next_moment(self.now())
            && self.timers().set(key, at_ms)
        {
            self.sooner.notify_one();
        }
    }

    async fn expire_forever(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let now_ms = self.now().mono_ms;
            while under_way.len() < EXPIRED_AT_ONCE
                && let Some(key) = self.timers().take_due(now_ms)
            {
                under_way.push(self.expire(key));
            }
            let next = self.timers().first().filter(|_| under_way.len() < EXPIRED_AT_ONCE);
            let next = next.map(|at_ms| self.began + Duration::from_millis(at_ms));
            tokio::select! {
                Some(()) = under_way.next() => {}
                () = sleep_until(next) => {}
                () = self.sooner.notified() => {}
            }
        }
    }

    async fn expire(&self, key: ShareKey) {
        // One that is dead has no moments.
        let Some(partition) = self.get(&key) else { return };
        // Opened while its topic went.
        if self.metadata.image().topic_by_id(&key.topic).is_none() {
            return self.forget(&key);
        }
        if let Some(at_ms) = partition.expire(&self.limits(&key.group), self.now()).await {
            // A write that was refused is not tried in a loop.
            self.timers().set(&key, at_ms.max(self.now().mono_ms + 100));
        }
    }
}

/// Never without a moment.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for SharePartitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharePartitions").finish_non_exhaustive()
    }
}
