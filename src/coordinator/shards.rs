//! All shards of one coordinator on this node: started and ended as the metadata image says, found by key.
//!
//! Shards are started when the internal topic appears in the image and end when it goes. Requests for a shard that loads
//! answer COORDINATOR_LOAD_IN_PROGRESS; for one that is not here, or that dropped its answers because the log rejected
//! an append, NOT_COORDINATOR, upon which clients look for the coordinator again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::BytesMut;
use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::random::SharedRandom;
use terrace_tiering::platform::task::Tasks;
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use super::internal_topic::InternalTopic;
use super::log::ShardLogs;
use super::partitioner::partition_for;
use super::section::ShardSection;
use super::state::{Now, ShardState};
use super::task::{self, Ask, MAILBOX_REQUESTS, ShardDeps};
use crate::metadata::image::{Change, Image, PartitionId};
use crate::metadata::store::{CommitError, SharedMetadata};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;

const PARTITION_POLL: Duration = Duration::from_millis(20);

/// What the shards of a coordinator are made with, beside its own context.
#[derive(Clone)]
pub struct ShardsDeps {
    /// Where the internal topic is made, and topics vanish.
    pub metadata: SharedMetadata,
    /// The logs of the shards.
    pub logs: Arc<dyn ShardLogs>,
    /// Wall time.
    pub clock: SharedClock,
    /// The id of the topic.
    pub random: SharedRandom,
    /// Runs the shards.
    pub tasks: Tasks,
}

/// The shards of one coordinator; see the module.
pub struct Shards<S: ShardState> {
    deps: ShardsDeps,
    context: Arc<S::Context>,
    topic: InternalTopic,
    here: RwLock<Here<S>>,
    /// Held while the topic is made, so that many first clients make one.
    creating: Mutex<()>,
}

struct Here<S> {
    topic: Uuid,
    /// By partition; `None` where there is no partition yet.
    handles: Vec<Option<Handle<S>>>,
}

struct Handle<S> {
    mailbox: mpsc::Sender<Ask<S>>,
    loaded: Arc<AtomicBool>,
    next_offset: Arc<AtomicI64>,
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
            loaded: Arc::clone(&self.loaded),
            next_offset: Arc::clone(&self.next_offset),
        }
    }
}

impl<S: ShardState> Shards<S> {
    /// The shards of a coordinator, not started.
    pub fn new(deps: ShardsDeps, context: Arc<S::Context>) -> Arc<Self> {
        let topic = S::internal_topic(&context);
        let here = RwLock::new(Here { topic: Uuid::nil(), handles: Vec::new() });
        Arc::new(Self { deps, context, topic, here, creating: Mutex::default() })
    }

    /// What the shards share.
    pub fn context(&self) -> &Arc<S::Context> {
        &self.context
    }

    /// Starts the shards that the image knows, and follows it from now on.
    pub fn start(self: &Arc<Self>) {
        let mut images = self.deps.metadata.watch();
        let mut known = topic_ids(&images.borrow_and_update());
        self.follow(&self.deps.metadata.image());
        let shards = Arc::clone(self);
        let stop = self.deps.tasks.stopping();
        self.deps.tasks.spawn(format!("{}-coordinator", S::NAME), async move {
            let mut whole = false;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = images.changed() => if changed.is_err() { return },
                    // The partitions follow the image by themselves, and may not be there yet.
                    () = tokio::time::sleep(PARTITION_POLL), if !whole => {}
                }
                let image = Arc::clone(&images.borrow_and_update());
                whole = shards.follow(&image);
                let now_known = topic_ids(&image);
                let deleted = known.iter().filter(|(name, id)| now_known.get(*name) != Some(*id));
                let deleted: Arc<[Arc<str>]> = deleted.map(|(name, _)| Arc::clone(name)).collect();
                known = now_known;
                if !deleted.is_empty() {
                    shards.topics_deleted(&deleted).await;
                }
            }
        });
    }

    /// Starts and ends shards as the image says; also one whose task died starts again. False while one is missing.
    fn follow(&self, image: &Image) -> bool {
        let mut here = self.here.write().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = image.topic(self.topic.name) else {
            *here = Here { topic: Uuid::nil(), handles: Vec::new() };
            return true;
        };
        let count = usize::try_from(topic.partition_count).unwrap_or(0);
        if here.topic != topic.id || here.handles.len() != count {
            *here = Here { topic: topic.id, handles: vec![None; count] };
        }
        for (partition, handle) in (0..).zip(&mut here.handles) {
            if handle.as_ref().is_none_or(|handle| handle.mailbox.is_closed()) {
                *handle = self.start_shard(PartitionId { topic: topic.id, partition });
            }
        }
        here.handles.iter().all(Option::is_some)
    }

    fn start_shard(&self, id: PartitionId) -> Option<Handle<S>> {
        let log = self.deps.logs.open(id)?;
        let (mailbox, asked) = mpsc::channel(MAILBOX_REQUESTS);
        let handle = Handle { mailbox, loaded: Arc::default(), next_offset: Arc::default() };
        let deps = ShardDeps {
            log,
            context: Arc::clone(&self.context),
            clock: Arc::clone(&self.deps.clock),
            loaded: Arc::clone(&handle.loaded),
            next_offset: Arc::clone(&handle.next_offset),
        };
        let stop = self.deps.tasks.stopping();
        self.deps.tasks.spawn(format!("{}-shard-{}", S::NAME, id.partition), task::run(deps, asked, stop));
        Some(handle)
    }

    fn handles(&self) -> Vec<Option<Handle<S>>> {
        self.here.read().unwrap_or_else(PoisonError::into_inner).handles.clone()
    }

    fn handle(&self, partition: impl FnOnce(i32) -> i32) -> Result<Handle<S>, ErrorCode> {
        let here = self.here.read().unwrap_or_else(PoisonError::into_inner);
        let partition = partition(i32::try_from(here.handles.len()).unwrap_or(i32::MAX));
        let handle = usize::try_from(partition).ok().and_then(|partition| here.handles.get(partition));
        handle.cloned().flatten().ok_or(ErrorCode::NotCoordinator)
    }

    /// Are all shards loaded, so that the node is ready?
    pub fn is_loaded(&self) -> bool {
        self.handles().iter().flatten().all(|handle| handle.loaded.load(Ordering::Acquire))
    }

    /// Makes sure that the shards have a place to be: what FindCoordinator asks. COORDINATOR_NOT_AVAILABLE if that
    /// fails.
    pub async fn find(&self) -> Result<(), ErrorCode> {
        let image = self.deps.metadata.image();
        if image.topic(self.topic.name).is_none() {
            let _creating = self.creating.lock().await;
            if self.deps.metadata.image().topic(self.topic.name).is_none() {
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
        let topic = self.topic.clone().create(self.deps.random.uuid());
        match self.deps.metadata.commit(None, vec![Change::CreateTopic(topic)]).await {
            Ok(_) | Err(CommitError::TopicExists(_)) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "{} cannot be created", self.topic.name);
                Err(ErrorCode::CoordinatorNotAvailable)
            }
        }
    }

    /// The partition that holds `key`, also before the internal topic is there.
    pub fn partition_of(&self, key: &str) -> i32 {
        let here = self.here.read().unwrap_or_else(PoisonError::into_inner);
        let count = i32::try_from(here.handles.len()).unwrap_or(i32::MAX);
        partition_for(key, if count == 0 { self.topic.partitions } else { count })
    }

    /// Asks the shard that holds `key`.
    pub async fn ask<T>(
        &self,
        key: &str,
        ask: impl FnOnce(&mut S, oneshot::Sender<T>, Now) + Send + 'static,
    ) -> Result<T, ErrorCode>
    where
        T: Send + 'static,
    {
        self.handle(|count| partition_for(key, count))?.ask(ask).await
    }

    /// Asks the shard of one partition.
    pub async fn ask_partition<T>(
        &self,
        partition: i32,
        ask: impl FnOnce(&mut S, oneshot::Sender<T>, Now) + Send + 'static,
    ) -> Result<T, ErrorCode>
    where
        T: Send + 'static,
    {
        self.handle(|_| partition)?.ask(ask).await
    }

    /// Asks every shard and puts the answers together; while one loads there is no answer.
    pub async fn ask_all<T>(
        &self,
        ask: impl Fn(&mut S, oneshot::Sender<Vec<T>>, Now) + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode>
    where
        T: Send + 'static,
    {
        let mut all = Vec::new();
        for handle in self.handles().into_iter().flatten() {
            match handle.ask(ask.clone()).await {
                Ok(some) => all.extend(some),
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
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

    /// Writes the compacted state of all shards, for the metadata snapshot in the bucket; `None` while one of them loads.
    pub async fn write_section(&self, out: &mut BytesMut) -> Option<()> {
        for (partition, handle) in (0i32..).zip(self.handles()) {
            let (next_offset, records) = handle?.ask(snapshot).await.ok()?;
            ShardSection { partition, next_offset, records }.encode(out)?;
        }
        Some(())
    }
}

/// The compacted state of one shard, told once all of it is durable.
fn snapshot<S: ShardState>(shard: &mut S, to: oneshot::Sender<(Offset, Vec<super::Encoded>)>, _: Now) {
    let records = shard.snapshot();
    let next_offset = shard.journal().next_offset();
    shard.journal().tell(to, (next_offset, records));
}

impl<S: ShardState> Handle<S> {
    async fn ask<T>(&self, ask: impl FnOnce(&mut S, oneshot::Sender<T>, Now) + Send + 'static) -> Result<T, ErrorCode>
    where
        T: Send + 'static,
    {
        if !self.loaded.load(Ordering::Acquire) {
            let gone = self.mailbox.is_closed();
            return Err(if gone { ErrorCode::NotCoordinator } else { ErrorCode::CoordinatorLoadInProgress });
        }
        let (to, answer) = oneshot::channel();
        let ask: Ask<S> = Box::new(move |shard, now| ask(shard, to, now));
        self.mailbox.send(ask).await.map_err(|_| ErrorCode::NotCoordinator)?;
        // Dropped when the log rejected an append that the answer depends on.
        answer.await.map_err(|_| ErrorCode::NotCoordinator)
    }
}

fn topic_ids(image: &Image) -> HashMap<Arc<str>, Uuid> {
    image.topics.iter().map(|(name, topic)| (Arc::clone(name), topic.id)).collect()
}
