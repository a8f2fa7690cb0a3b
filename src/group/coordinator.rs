//! What the API asks about groups: finds the shard of a group and hands it the request.
//!
//! Shards are started when `__consumer_offsets` appears in the metadata image and end when it goes. Requests for a shard
//! that loads answer COORDINATOR_LOAD_IN_PROGRESS; for one that is not here, or that dropped its answers because the log
//! rejected an append, NOT_COORDINATOR, upon which clients look for the coordinator again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::random::SharedRandom;
use terrace_tiering::platform::task::Tasks;
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use super::classic::{Description, HeartbeatRequest, JoinRequest, Joined, Leaving, SyncRequest, Synced};
use super::internal_topic::{OFFSETS_TOPIC, offsets_topic};
use super::offsets::{CommitRequest, FetchTopics, FetchedTopic};
use super::partitioner::partition_for;
use super::shard::{CoordinatorSettings, Listed};
use super::shard_log::ShardLogs;
use super::shard_task::{self, Ask, MAILBOX_REQUESTS, ShardDeps};
use crate::metadata::image::{Change, Image, PartitionId};
use crate::metadata::store::{CommitError, SharedMetadata};
use crate::protocol::error_code::ErrorCode;

const PARTITION_POLL: Duration = Duration::from_millis(20);

/// The outcome of each element of a request, or one for all.
pub type Outcomes = Result<Vec<Result<(), ErrorCode>>, ErrorCode>;

/// What the coordinator is made with.
#[derive(Clone)]
pub struct CoordinatorDeps {
    /// What the broker's configuration says.
    pub settings: CoordinatorSettings,
    /// Where `__consumer_offsets` is made, and topics vanish.
    pub metadata: SharedMetadata,
    /// The logs of the shards.
    pub logs: Arc<dyn ShardLogs>,
    /// Wall time.
    pub clock: SharedClock,
    /// Ids of members and of the topic.
    pub random: SharedRandom,
    /// Runs the shards.
    pub tasks: Tasks,
}

/// All groups of this node.
pub struct GroupCoordinator {
    deps: CoordinatorDeps,
    settings: Arc<CoordinatorSettings>,
    shards: RwLock<Shards>,
    /// Held while the topic is made, so that many first clients make one.
    creating: Mutex<()>,
}

#[derive(Debug, Default)]
struct Shards {
    topic: Uuid,
    /// By partition; `None` where there is no partition yet.
    handles: Vec<Option<Handle>>,
}

#[derive(Debug, Clone)]
struct Handle {
    mailbox: mpsc::Sender<Ask>,
    loaded: Arc<AtomicBool>,
    next_offset: Arc<AtomicI64>,
}

impl GroupCoordinator {
    /// A coordinator whose shards are not started.
    pub fn new(deps: CoordinatorDeps) -> Arc<Self> {
        let settings = Arc::new(deps.settings.clone());
        Arc::new(Self { deps, settings, shards: RwLock::default(), creating: Mutex::default() })
    }

    /// Starts the shards that the image knows, and follows it from now on.
    pub fn start(self: &Arc<Self>) {
        let mut images = self.deps.metadata.watch();
        let mut known = topic_ids(&images.borrow_and_update());
        self.follow(&self.deps.metadata.image());
        let coordinator = Arc::clone(self);
        let stop = self.deps.tasks.stopping();
        self.deps.tasks.spawn("group-coordinator", async move {
            let mut whole = false;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = images.changed() => if changed.is_err() { return },
                    // The partitions follow the image by themselves, and may not be there yet.
                    () = tokio::time::sleep(PARTITION_POLL), if !whole => {}
                }
                let image = Arc::clone(&images.borrow_and_update());
                whole = coordinator.follow(&image);
                let now_known = topic_ids(&image);
                let deleted = known.iter().filter(|(name, id)| now_known.get(*name) != Some(*id));
                let deleted: Arc<[Arc<str>]> = deleted.map(|(name, _)| Arc::clone(name)).collect();
                known = now_known;
                if !deleted.is_empty() {
                    coordinator.topics_deleted(&deleted).await;
                }
            }
        });
    }

    /// Starts and ends shards as the image says; also one whose task died starts again. False while one is missing.
    fn follow(&self, image: &Image) -> bool {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = image.topic(OFFSETS_TOPIC) else {
            *shards = Shards::default();
            return true;
        };
        let count = usize::try_from(topic.partition_count).unwrap_or(0);
        if shards.topic != topic.id || shards.handles.len() != count {
            *shards = Shards { topic: topic.id, handles: vec![None; count] };
        }
        for (partition, handle) in (0..).zip(&mut shards.handles) {
            if handle.as_ref().is_none_or(|handle| handle.mailbox.is_closed()) {
                *handle = self.start_shard(PartitionId { topic: topic.id, partition });
            }
        }
        shards.handles.iter().all(Option::is_some)
    }

    fn start_shard(&self, id: PartitionId) -> Option<Handle> {
        let log = self.deps.logs.open(id)?;
        let (mailbox, asked) = mpsc::channel(MAILBOX_REQUESTS);
        let handle = Handle { mailbox, loaded: Arc::default(), next_offset: Arc::default() };
        let deps = ShardDeps {
            log,
            settings: Arc::clone(&self.settings),
            clock: Arc::clone(&self.deps.clock),
            random: Arc::clone(&self.deps.random),
            loaded: Arc::clone(&handle.loaded),
            next_offset: Arc::clone(&handle.next_offset),
        };
        let stop = self.deps.tasks.stopping();
        self.deps.tasks.spawn(format!("group-shard-{}", id.partition), shard_task::run(deps, asked, stop));
        Some(handle)
    }

    fn handles(&self) -> Vec<Option<Handle>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).handles.clone()
    }

    /// Are all shards loaded, so that the node is ready?
    pub fn is_loaded(&self) -> bool {
        self.handles().iter().flatten().all(|handle| handle.loaded.load(Ordering::Acquire))
    }

    /// Makes sure that groups have a place to be: what FindCoordinator asks. COORDINATOR_NOT_AVAILABLE if that fails.
    pub async fn find(&self) -> Result<(), ErrorCode> {
        let image = self.deps.metadata.image();
        if image.topic(OFFSETS_TOPIC).is_none() {
            let _creating = self.creating.lock().await;
            if self.deps.metadata.image().topic(OFFSETS_TOPIC).is_none() {
                self.create_topic().await?;
            }
        }
        // Before the first answer, so that the client meets a shard and not the way to it.
        let missing = self.handles().iter().any(|h| h.as_ref().is_none_or(|h| h.mailbox.is_closed()));
        if missing || self.handles().is_empty() {
            let image = self.deps.metadata.image();
            self.deps.logs.follow(&image);
            self.follow(&image);
        }
        if self.handles().is_empty() { Err(ErrorCode::CoordinatorNotAvailable) } else { Ok(()) }
    }

    async fn create_topic(&self) -> Result<(), ErrorCode> {
        let topic = offsets_topic(&self.settings.offsets, self.deps.random.uuid());
        match self.deps.metadata.commit(None, vec![Change::CreateTopic(topic)]).await {
            Ok(_) | Err(CommitError::TopicExists(_)) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "{OFFSETS_TOPIC} cannot be created");
                Err(ErrorCode::CoordinatorNotAvailable)
            }
        }
    }

    /// Asks the shard of `group`.
    async fn ask<T>(&self, group: &str, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, ErrorCode> {
        let handle = {
            let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
            let partition = partition_for(group, i32::try_from(shards.handles.len()).unwrap_or(i32::MAX));
            let handle = usize::try_from(partition).ok().and_then(|partition| shards.handles.get(partition));
            handle.cloned().flatten().ok_or(ErrorCode::NotCoordinator)?
        };
        handle.ask(make).await
    }

    /// JoinGroup; the answer may take as long as the rebalance.
    pub async fn join(&self, request: JoinRequest) -> Joined {
        let member_id = Arc::clone(&request.member_id);
        let bounds = &self.settings.group;
        if request.group.is_empty() {
            return Joined::refused(member_id, ErrorCode::InvalidGroupId);
        }
        if !(bounds.session_timeout_ms_min..=bounds.session_timeout_ms_max).contains(&request.session_timeout_ms) {
            return Joined::refused(member_id, ErrorCode::InvalidSessionTimeout);
        }
        let group = Arc::clone(&request.group);
        let joined = self.ask(&group, |to| Box::new(move |shard, now| shard.join(&request, to, now))).await;
        joined.unwrap_or_else(|error| Joined::refused(member_id, error))
    }

    /// SyncGroup; a follower's answer waits for the leader's.
    pub async fn sync(&self, request: SyncRequest) -> Synced {
        if request.group.is_empty() {
            return Synced::refused(ErrorCode::InvalidGroupId);
        }
        let group = Arc::clone(&request.group);
        let synced = self.ask(&group, |to| Box::new(move |shard, now| shard.sync(&request, to, now))).await;
        synced.unwrap_or_else(Synced::refused)
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<(), ErrorCode> {
        if request.group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let group = Arc::clone(&request.group);
        let outcome = self.ask(&group, |to| Box::new(move |shard, now| shard.heartbeat(&request, to, now))).await;
        match outcome.and_then(|outcome| outcome) {
            // A member of a loading group must not be told to join anew; its next heartbeat finds the group.
            Err(ErrorCode::CoordinatorLoadInProgress) => Ok(()),
            outcome => outcome,
        }
    }

    /// LeaveGroup.
    pub async fn leave(&self, group: Arc<str>, leaving: Vec<Leaving>) -> Outcomes {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let to_leave = Arc::clone(&group);
        self.ask(&group, |to| Box::new(move |shard, now| shard.leave(&to_leave, &leaving, to, now))).await?
    }

    /// OffsetCommit. One that is not durable in time counts as COORDINATOR_NOT_AVAILABLE; it may become so later.
    pub async fn commit(&self, request: CommitRequest) -> Outcomes {
        let within = Duration::from_millis(self.settings.offsets.commit_timeout_ms);
        let group = Arc::clone(&request.group);
        let asked = self.ask(&group, |to| Box::new(move |shard, now| shard.commit(&request, to, now)));
        tokio::time::timeout(within, asked).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))?
    }

    /// OffsetFetch of one group.
    pub async fn fetch(&self, group: Arc<str>, topics: FetchTopics) -> Result<Vec<FetchedTopic>, ErrorCode> {
        let of = Arc::clone(&group);
        self.ask(&group, |to| Box::new(move |shard, _| shard.fetch(&of, &topics, to))).await
    }

    /// OffsetDelete.
    pub async fn delete_offsets(&self, group: Arc<str>, partitions: Vec<(Arc<str>, i32)>) -> Outcomes {
        let of = Arc::clone(&group);
        self.ask(&group, |to| Box::new(move |shard, now| shard.delete_offsets(&of, &partitions, to, now))).await?
    }

    /// DescribeGroups of one group; `None` for one that isn't there.
    pub async fn describe(&self, group: Arc<str>) -> Result<Option<Description>, ErrorCode> {
        let of = Arc::clone(&group);
        self.ask(&group, |to| Box::new(move |shard, _| shard.describe(&of, to))).await
    }

    /// DeleteGroups of one group.
    pub async fn delete_group(&self, group: Arc<str>) -> Result<(), ErrorCode> {
        let of = Arc::clone(&group);
        self.ask(&group, |to| Box::new(move |shard, now| shard.delete_group(&of, to, now))).await?
    }

    /// ListGroups: the groups of all shards.
    pub async fn list(&self) -> Result<Vec<Listed>, ErrorCode> {
        let mut listed = Vec::new();
        for handle in self.handles().into_iter().flatten() {
            match handle.ask(|to| Box::new(move |shard, _| shard.list(to))).await {
                Ok(some) => listed.extend(some),
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    async fn topics_deleted(&self, topics: &Arc<[Arc<str>]>) {
        for handle in self.handles().into_iter().flatten() {
            let topics = Arc::clone(topics);
            // Also one that loads gets it, behind the load; one that ends has nothing to forget.
            let _ = handle.mailbox.send(Box::new(move |shard, now| shard.topics_deleted(&topics, now))).await;
        }
    }

    /// Rises with every record of any shard.
    pub fn version(&self) -> u64 {
        let offsets = self.handles().into_iter().flatten().map(|handle| handle.next_offset.load(Ordering::Acquire));
        offsets.map(|offset| u64::try_from(offset).unwrap_or(0)).sum()
    }

    /// The compacted state of all shards, for the metadata snapshot in the bucket; `None` while one of them loads.
    ///
    /// For each shard: partition i32, next offset i64, number of records u32; for each record: key and value, each with
    /// a length u32. All big-endian. Everything below the next offset of a shard is in its records.
    pub async fn section(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        for (partition, handle) in (0i32..).zip(self.handles()) {
            let snapshot = handle?.ask(|to| Box::new(move |shard, _| shard.snapshot(to))).await.ok()?;
            out.put_i32(partition);
            out.put_i64(snapshot.next_offset);
            out.put_u32(u32::try_from(snapshot.records.len()).ok()?);
            for record in snapshot.records {
                for bytes in [record.key, record.value.unwrap_or_default()] {
                    out.put_u32(u32::try_from(bytes.len()).ok()?);
                    out.put_slice(&bytes);
                }
            }
        }
        Some(out.freeze())
    }
}

impl Handle {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, ErrorCode> {
        if !self.loaded.load(Ordering::Acquire) {
            let gone = self.mailbox.is_closed();
            return Err(if gone { ErrorCode::NotCoordinator } else { ErrorCode::CoordinatorLoadInProgress });
        }
        let (to, answer) = oneshot::channel();
        self.mailbox.send(make(to)).await.map_err(|_| ErrorCode::NotCoordinator)?;
        // Dropped when the log rejected an append that the answer depends on.
        answer.await.map_err(|_| ErrorCode::NotCoordinator)
    }
}

fn topic_ids(image: &Image) -> HashMap<Arc<str>, Uuid> {
    image.topics.iter().map(|(name, topic)| (Arc::clone(name), topic.id)).collect()
}

#[cfg(test)]
mod tests;
