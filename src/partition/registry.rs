//! All partitions of this node, following the metadata image.
//!
//! A partition exists here as soon as the image names it, and costs no file until its first append. The image is taken
//! over by whoever commits to it and by a task that watches; both do the same, one after another.

mod homes;
mod jobs;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use terrace_tiering::Tier;
use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::fs::SharedFs;
use terrace_tiering::platform::random::SharedRandom;
use terrace_tiering::platform::task::Tasks;

use tokio::sync::watch;
use uuid::Uuid;

use super::disk_reads::DiskReads;
use super::due::DueQueue;
use super::moving::Moves;
use super::node_dirs::{NodeDir, SyncSettings};
use super::open;
use super::opening::Opening;
use super::tuning::Tuning;
use super::waiters::WaiterList;
use super::{Online, Partition, Shared, State};
use crate::config::topic::TopicConfig;
use crate::log::open_files::OpenFiles;
use crate::metadata::image::{ConfigOverrides, Image, PartitionId, Topic};
use crate::protocol::record_batch::LeaderEpoch;
use crate::telemetry::traffic::{NodeTraffic, Traffic};
use crate::wal::group_commit::{self, Wal};
use homes::{Home, Homes};

/// Resolves a topic's effective configuration; comes from `config`.
pub type ResolveConfig = Arc<dyn Fn(&Image, &Topic) -> Arc<TopicConfig> + Send + Sync>;

/// Hears of sealed segments.
pub type RollListener = Arc<dyn Fn(PartitionId) + Send + Sync>;

/// What the broker's configuration says to the partitions.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// `node.id`, for `meta.properties`.
    pub node_id: i32,
    /// `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// Those of them that are known to have failed, and why.
    pub failed_dirs: Vec<(PathBuf, String)>,
    /// `log.dir.min.free.bytes`, of each of `log_dirs`; none where it names none.
    pub min_free_bytes: Vec<u64>,
    /// What may change while partitions are open.
    pub tuning: Arc<Tuning>,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: i64,
    /// `remote.segment.roll.ms`: a quiet active segment of a tiered topic rolls when its first record is older; `None` never.
    pub remote_segment_roll_ms: Option<i64>,
    /// `log.open.files`: files of segments that are open at once, at most.
    pub open_files_max: usize,
    /// How often the checkpoint is written when something changed.
    pub checkpoint_interval_ms: u64,
    /// How the log directories make things durable.
    pub syncs: SyncSettings,
}

/// What partitions are made with.
#[derive(Clone)]
pub struct PartitionDeps {
    /// The file system.
    pub fs: SharedFs,
    /// The wall clock.
    pub clock: SharedClock,
    /// Jitter comes from here.
    pub random: SharedRandom,
    /// What the broker's configuration says.
    pub settings: LogSettings,
    /// Topic configurations.
    pub resolve_config: ResolveConfig,
}

/// Why the partitions of this node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No log directory works: which there are, and why each does not.
    #[error("no log directory works: {}", .0.join("; "))]
    LogDirs(Vec<String>),
}

type Map = HashMap<PartitionId, Arc<Partition>>;

#[derive(Default)]
struct Tables {
    by_id: Map,
    /// By topic name, then by number.
    by_name: HashMap<Arc<str>, Arc<[Arc<Partition>]>>,
}

/// What was taken over last.
#[derive(Default)]
struct Followed {
    topics: HashMap<Uuid, Arc<Topic>>,
    broker_configs: BTreeMap<String, ConfigOverrides>,
    generation: Option<u64>,
}

/// All partitions of this node.
pub struct Partitions {
    shared: Arc<Shared>,
    resolve_config: ResolveConfig,
    tables: RwLock<Tables>,
    /// Held while an image is taken over, so that images come one after another.
    followed: Mutex<Followed>,
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").field("dirs", &self.shared.dirs).finish_non_exhaustive()
    }
}

impl Partitions {
    /// Takes over what the log directories hold of the image's topics. No partition is opened yet: each is at its first
    /// use. Blocks.
    pub fn open(deps: PartitionDeps, image: &Image) -> Result<Arc<Self>, OpenError> {
        let Homes { dirs, partitions: homes, moves } = Homes::find(&deps, image)?;
        let shared = Shared {
            fs: deps.fs,
            files: OpenFiles::new(deps.settings.open_files_max),
            dirs,
            clock: deps.clock,
            random: deps.random,
            settings: deps.settings,
            opening: Opening::default(),
            due: DueQueue::default(),
            cleaning: DueQueue::default(),
            moves: Moves::default(),
            tier: OnceLock::new(),
            disk_reads: DiskReads::default(),
            fenced: AtomicBool::new(false),
            on_roll: OnceLock::new(),
            traffic: NodeTraffic::default(),
        };
        let partitions = Arc::new(Self {
            shared: Arc::new(shared),
            resolve_config: deps.resolve_config,
            tables: RwLock::default(),
            followed: Mutex::default(),
        });
        partitions.take_over(image, homes);
        partitions.resume_moves(&moves);
        Ok(partitions)
    }

    /// The tier for cold reads, once it is open.
    pub fn set_tier(&self, tier: Arc<Tier>) {
        // A second one is no use to anybody: there is one tier per broker.
        let _ = self.shared.tier.set(tier);
    }

    /// Tells `listener` of every segment that is sealed and of every partition that gets another configuration from now on.
    /// It is called under the partition's lock and must only take a note.
    pub fn on_roll(&self, listener: RollListener) {
        let _ = self.shared.on_roll.set(listener);
    }

    /// Who reads the disk for those that must not wait for it.
    pub fn disk_reads(&self) -> &DiskReads {
        &self.shared.disk_reads
    }

    /// Starts what runs beside the appends: following `images`, checkpoints, due work.
    pub fn start(self: &Arc<Self>, tasks: &Tasks, images: watch::Receiver<Arc<Image>>) {
        jobs::start(self, tasks, images);
    }

    pub(super) fn dirs(&self) -> &[Arc<NodeDir>] {
        &self.shared.dirs
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Takes over a new image: partitions created, configured, deleted. Returns when the partitions can be asked for.
    /// The API that committed calls it before it answers, so that a client never meets a topic without partitions. Blocks
    /// when topics were deleted.
    pub fn follow(&self, image: &Image) {
        self.take_over(image, HashMap::new());
    }

    fn take_over(&self, image: &Image, mut homes: HashMap<PartitionId, Home>) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if followed.generation.is_some_and(|generation| generation >= image.generation) {
            return;
        }
        followed.generation = Some(image.generation);
        // The old topic of a name goes before the new one comes: they share a directory name.
        let gone: Vec<_> = followed.topics.keys().filter(|id| !image.topics_by_id.contains_key(id)).copied().collect();
        let gone: Vec<_> = gone.iter().filter_map(|id| followed.topics.remove(id)).collect();
        self.remove_topics(&gone);
        let defaults_changed = followed.broker_configs != image.broker_configs;
        followed.broker_configs.clone_from(&image.broker_configs);
        for topic in image.topics.values() {
            let known = followed.topics.get(&topic.id);
            if !defaults_changed && known.is_some_and(|known| Arc::ptr_eq(known, topic) || known == topic) {
                continue;
            }
            self.take_over_topic(image, topic, &mut homes);
            followed.topics.insert(topic.id, Arc::clone(topic));
        }
    }

    fn take_over_topic(&self, image: &Image, topic: &Arc<Topic>, homes: &mut HashMap<PartitionId, Home>) {
        let config = (self.resolve_config)(image, topic);
        let mut all = self.of_topic(&topic.name).map(|existing| existing.to_vec()).unwrap_or_default();
        for partition in &all {
            if *partition.topic_config() != *config {
                partition.set_topic_config(Arc::clone(&config));
            }
        }
        for number in all.len() as i32..topic.partition_count {
            let id = PartitionId { topic: topic.id, partition: number };
            let (home, state) = match homes.remove(&id) {
                Some((home, _)) if self.dirs()[home].sync().is_offline() => {
                    (home, State::Offline("log directory is offline".into()))
                }
                Some((home, known)) => {
                    self.shared.opening.note_unopened();
                    (home, State::Unopened(known.map(Box::new)))
                }
                None => {
                    let home = self.preferred_dir(&topic.name, number).unwrap_or_else(|| self.emptiest_dir());
                    let directory = open::log_directory(&self.shared, &self.dirs()[home], &topic.name, id);
                    (home, State::Online(Box::new(Online::empty(directory, 0))))
                }
            };
            self.dirs()[home].partitions().fetch_add(1, Ordering::Relaxed);
            all.push(self.make(id, &topic.name, image.node_epoch, home, &config, state));
        }
        let mut tables = self.write();
        for partition in &all {
            tables.by_id.insert(partition.id(), Arc::clone(partition));
        }
        tables.by_name.insert(Arc::clone(&topic.name), all.into());
    }

    fn make(
        &self,
        id: PartitionId,
        topic: &Arc<str>,
        leader_epoch: LeaderEpoch,
        home: usize,
        config: &Arc<TopicConfig>,
        state: State,
    ) -> Arc<Partition> {
        Arc::new_cyclic(|this| Partition {
            id,
            topic: Arc::clone(topic),
            leader_epoch,
            shared: Arc::clone(&self.shared),
            home: AtomicUsize::new(home),
            moving: Mutex::default(),
            this: this.clone(),
            config: RwLock::new(Arc::clone(config)),
            chain: RwLock::default(),
            state: Mutex::new(state),
            retention_due: AtomicBool::new(false),
            clean_due: AtomicBool::new(false),
            maintenance: Mutex::default(),
            copying: Default::default(),
            syncing: Mutex::default(),
            stopped: Default::default(),
            waiters: WaiterList::default(),
            traffic: Traffic::default(),
        })
    }

    /// The directory with the fewest partitions, as in Kafka.
    fn emptiest_dir(&self) -> usize {
        let working = self.dirs().iter().enumerate().filter(|(_, dir)| !dir.sync().is_offline());
        let emptiest = working.min_by_key(|(_, dir)| dir.partitions().load(Ordering::Relaxed));
        // A node has at least one; where none works, any is as good.
        emptiest.map_or(0, |(at, _)| at)
    }

    fn remove_topics(&self, topics: &[Arc<Topic>]) {
        let removed: Vec<_> = {
            let mut tables = self.write();
            let removed: Vec<_> = topics.iter().filter_map(|topic| tables.by_name.remove(&topic.name)).collect();
            for partition in removed.iter().flat_map(|all| &**all) {
                tables.by_id.remove(&partition.id());
            }
            removed
        };
        let mut had_files = vec![false; self.dirs().len()];
        for partition in removed.iter().flat_map(|all| &**all) {
            let deleted = partition.delete();
            // Only now: until then it may move.
            let home = partition.home.load(Ordering::Acquire);
            self.dirs()[home].partitions().fetch_sub(1, Ordering::Relaxed);
            had_files[home] |= deleted;
        }
        // One sync for all of them, before a topic that is made anew can have files under one of the names.
        for (dir, had_files) in self.dirs().iter().zip(had_files) {
            if had_files && let Err(error) = self.shared.fs.sync_dir(dir.path()) {
                tracing::error!(directory = %dir.path().display(), %error, "deletion of topics may not survive a loss of power");
            }
        }
    }

    /// The tables are changed by whole entries, so a panic elsewhere leaves them whole.
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition with this id.
    pub fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.read().by_id.get(&id).cloned()
    }

    /// The partition with this number of the topic with this name.
    pub fn by_name(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let at = usize::try_from(partition).ok()?;
        self.read().by_name.get(topic)?.get(at).cloned()
    }

    /// All partitions of the topic with this name, by number.
    pub fn of_topic(&self, topic: &str) -> Option<Arc<[Arc<Partition>]>> {
        self.read().by_name.get(topic).cloned()
    }

    /// Numbers of what belongs to no partition, and the sums over all.
    pub fn traffic(&self) -> &NodeTraffic {
        &self.shared.traffic
    }

    /// All partitions, in no order.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.read().by_id.values().cloned().collect()
    }

    /// The log directories: where each is, and whether it still works.
    pub fn log_dirs(&self) -> impl Iterator<Item = (&PathBuf, bool)> + '_ {
        self.dirs().iter().map(|dir| (dir.path(), !dir.sync().is_offline()))
    }

    /// Bytes of memory that records on their way into write-ahead logs take by now, and the most that they ever may.
    pub fn write_ahead_memory(&self) -> (u64, u64) {
        let held = self.dirs().iter().filter_map(|dir| dir.wal().ok()).map(Wal::memory_bytes).sum();
        (held, self.dirs().len() as u64 * group_commit::MEMORY_BYTES_MAX)
    }

    /// Returns when the last log directory has failed: there is nothing left to serve.
    pub async fn failed(&self) {
        for dir in self.dirs() {
            dir.sync().offline().await;
        }
    }

    /// The log directories that are too full for produce.
    pub fn full_dirs(&self) -> impl Iterator<Item = &PathBuf> + '_ {
        self.dirs().iter().filter(|dir| dir.is_full()).map(|dir| dir.path())
    }

    /// Looks how much space each log directory has left.
    pub fn look_at_space(&self) {
        self.dirs().iter().for_each(|dir| dir.look_at_space());
    }

    /// Nothing is appended from now on: another broker owns the bucket's prefix, and its history is the one that counts.
    pub fn fence(&self) {
        self.shared.fenced.store(true, Ordering::Relaxed);
    }

    /// Writes the checkpoint of each log directory in which something changed. Blocks.
    pub fn checkpoint(&self) {
        for dir in self.dirs() {
            if let Err(error) = dir.checkpoint() {
                tracing::error!(directory = %dir.path().display(), %error, "checkpoint not written; a crash now means a longer scan");
            }
        }
    }

    /// Does what is due by now, compaction included. Blocks.
    pub fn do_due_work(&self) {
        jobs::do_due_work(self, &self.shared.due);
        jobs::do_due_work(self, &self.shared.cleaning);
        jobs::do_due_work(self, &self.shared.moves.queue);
    }

    /// A clean stop: syncs everything, writes the last checkpoint and Kafka's own files. Nothing is appended any more.
    /// False when a directory could not be closed: its next start recovers it. Blocks.
    pub fn close(&self) -> bool {
        let mut clean = true;
        for dir in self.dirs() {
            let mut of_dir = self.all();
            of_dir.retain(|partition| Arc::ptr_eq(partition.dir(), dir));
            of_dir.sort_by(|a, b| (&a.topic, a.id.partition).cmp(&(&b.topic, b.id.partition)));
            if let Err(error) = dir.close(&of_dir) {
                tracing::error!(directory = %dir.path().display(), %error, "log directory not closed cleanly");
                clean = false;
            }
        }
        clean
    }
}
