//! One partition: its offsets, its producers, its log, behind one plain mutex that is never held across an await.
//!
//! ```text
//!            append                 wal (sync thread)            readers
//!   log end ---------> written ------------------------> high watermark --> waiters woken, tickets accepted
//! ```
//! The high watermark is a field of its own and moves only by durability; log end is never an answer to a reader.
//! Readers take an immutable view and a mark under the lock and read without it. The lock is a poisoning one: after a
//! panic under it the partition is reopened through recovery, as after a crash.
//!
//! | File | What it does |
//! |---|---|
//! | [`append`] | the one way in; [`validate`] and [`bad_records`] are what it checks outside the lock |
//! | [`read`], [`list_offsets`], [`cold`] | the ways out, over both tiers; [`disk_reads`] is who waits for the disk |
//! | [`transactions`] | verification, markers, the last stable offset |
//! | [`durability`] | tickets, high watermark, the sync thread's side |
//! | [`upkeep`], [`clean`] | roll by time, retention, checkpoint marks; compaction: called by the node's queues of due work |
//! | [`registry`] | all partitions of the node; [`node_dirs`], [`due`] and [`deletion`] serve it |
//! | [`pulling`] | takes segments back from the tier |
//! | [`moving`] | takes a partition to another log directory while it serves |
//! | [`slow_dir`] | keeps the appends of a disk that hangs away from the async workers |
//! | `open`, `opening`, `start_rule`, `closing` | from files to a partition at work, at its first use; and back |
//! | `stopping` | a partition that goes offline by itself |

pub mod append;
pub mod bad_records;
mod clean;
mod closing;
pub mod cold;
pub mod deletion;
pub mod disk_reads;
pub mod due;
pub mod durability;
pub mod list_offsets;
pub mod moving;
pub mod node_dirs;
mod open;
mod opening;
pub mod producers;
pub mod pulling;
pub mod read;
mod recompress;
pub mod registry;
mod replay;
pub mod slow_dir;
mod start_rule;
mod stopping;
pub mod tiered;
pub mod transactions;
pub mod tuning;
pub mod upkeep;
pub mod validate;
pub mod waiters;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError, Weak};

use terrace_tiering::Tier;
use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::fs::SharedFs;
use terrace_tiering::platform::random::SharedRandom;

use self::disk_reads::DiskReads;
use self::due::DueQueue;
use self::durability::Cover;
use self::moving::{Move, Moves};
use self::node_dirs::NodeDir;
use self::open::Known;
use self::opening::Opening;
use self::producers::ProducerTable;
use self::read::ReadError;
use self::registry::{LogSettings, RollListener};
use self::stopping::Stopped;
use self::tiered::Copying;
use self::waiters::WaiterList;
use crate::config::topic::TopicConfig;
use crate::log::Log;
use crate::log::open_files::OpenFiles;
use crate::log::view::{LogView, Mark};
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::RemoteChain;
use crate::protocol::record_batch::{LeaderEpoch, Offset};
use crate::telemetry::traffic::{NodeTraffic, Traffic};
use crate::wal::ticket::{Promise, Rejected};

/// Where a partition stands at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// First readable offset over both tiers.
    pub log_start: Offset,
    /// First offset of the local log.
    pub local_start: Offset,
    /// Everything below is as durable as the topic's mode asks; readers see nothing above.
    pub high_watermark: Offset,
    /// Everything below is decided: the high watermark, or where the first transaction begins that is open or whose
    /// marker readers don't see yet.
    pub last_stable: Offset,
    /// The next offset to be written. Never an answer to a reader.
    pub log_end: Offset,
    /// The epoch in which this broker leads.
    pub leader_epoch: LeaderEpoch,
}

impl Offsets {
    /// No local records, between these two.
    fn nothing(log_start: Offset, end: Offset, leader_epoch: LeaderEpoch) -> Self {
        Self { log_start, local_start: end, high_watermark: end, last_stable: end, log_end: end, leader_epoch }
    }
}

/// What all partitions of the node share.
pub(crate) struct Shared {
    fs: SharedFs,
    /// What the segments of all partitions hold open.
    files: Arc<OpenFiles>,
    /// `log.dirs`, in their order.
    dirs: Vec<Arc<NodeDir>>,
    clock: SharedClock,
    random: SharedRandom,
    settings: LogSettings,
    opening: Opening,
    due: DueQueue,
    /// Compaction takes long, so it has a queue and a thread of its own.
    cleaning: DueQueue,
    moves: Moves,
    tier: OnceLock<Arc<Tier>>,
    disk_reads: DiskReads,
    /// Another broker owns the bucket's prefix: nothing is appended any more.
    fenced: AtomicBool,
    /// Who hears of every sealed segment, again when all in it is decided, and of every other configuration; called under
    /// the partition's lock, so it may only take a note.
    on_roll: OnceLock<RollListener>,
    traffic: NodeTraffic,
}

/// One partition that this broker leads.
pub struct Partition {
    id: PartitionId,
    topic: Arc<str>,
    leader_epoch: LeaderEpoch,
    shared: Arc<Shared>,
    /// Which of the node's directories it is in; changed under the lock.
    home: AtomicUsize,
    /// Where it is on its way to. Taken before the lock.
    moving: Mutex<Option<Arc<Move>>>,
    /// For those who outlive a call: the sync thread, the due-time queue.
    this: Weak<Self>,
    config: RwLock<Arc<TopicConfig>>,
    chain: RwLock<Arc<RemoteChain>>,
    state: Mutex<State>,
    /// Retention waits in the due-time queue.
    retention_due: AtomicBool,
    /// Compaction waits in the cleaning queue.
    clean_due: AtomicBool,
    maintenance: Mutex<()>,
    /// The part of the log that is on its way to the tier.
    copying: Copying,
    /// Held while its files are synced. Taken before the lock.
    syncing: Mutex<()>,
    /// What it still needs of the write-ahead log once it is offline.
    stopped: Stopped,
    waiters: WaiterList,
    /// Counted by who appends and reads for clients.
    pub traffic: Traffic,
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.shared.traffic.elsewhere.add(&self.traffic);
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("topic", &self.topic).field("partition", &self.id.partition).finish()
    }
}

/// What the lock guards.
enum State {
    /// It may have files, and nobody looked at them yet; with what the checkpoint said of it.
    Unopened(Option<Box<Known>>),
    Online(Box<Online>),
    /// Its local log ends before the tier does: it goes on at the tier's end once the store has told the producers
    /// there.
    Behind {
        log_start: Offset,
        tier_end: Offset,
        /// As [`Online::left_out_below`].
        left_out_below: Offset,
    },
    /// Its files or its log directory failed; the text was logged.
    Offline(String),
    /// The topic was deleted.
    Gone,
}

/// A partition at work.
struct Online {
    log: Log,
    producers: ProducerTable,
    log_start: Offset,
    /// False after a start without a checkpoint, until the tier has said where it begins.
    log_start_known: bool,
    /// The checkpoint that this life found says that records below are flushed, and a replay of the write-ahead log leaves
    /// them out. Above the log's end where files were damaged.
    left_out_below: Offset,
    /// Where the next checkpoint puts the log start, if that is higher; readers see it behind that.
    next_log_start: Offset,
    /// Moved only by [`durability`].
    high_watermark: Mark,
    /// The last stable offset; moved only by [`transactions`].
    stable: Mark,
    /// The end of what is synced, as a mark.
    synced: Mark,
    /// Appends whose durability is awaited, by next offset.
    pending: VecDeque<(Offset, Promise)>,
    /// What the write-ahead log covers; `None` in every mode but `flush.messages=1`.
    cover: Option<Box<Cover>>,
    /// The high watermark stays until a sync says otherwise.
    holding: bool,
    /// This partition is in the sync thread's queue.
    sync_queued: bool,
    /// `flush.ms` waits in the due-time queue.
    flush_due: bool,
    /// `remote.segment.roll.ms` waits in the due-time queue.
    roll_due: bool,
    /// Something that the checkpoint records has changed since it was written.
    changed: bool,
    /// Where the last producer snapshot was taken.
    snapshot_at: Offset,
    /// Everything below has been compacted.
    cleaned_end: Offset,
}

/// Why a partition cannot serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unavailable {
    Offline(String),
    Gone,
}

impl From<Unavailable> for ReadError {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Offline(why) => Self::Storage(why),
            Unavailable::Gone => Self::Gone,
        }
    }
}

impl State {
    fn online(&mut self) -> Result<&mut Online, Unavailable> {
        match self {
            Self::Online(online) => Ok(online),
            Self::Behind { tier_end, .. } => {
                Err(Unavailable::Offline(format!("the local log waits for the store, to go on at offset {tier_end}")))
            }
            Self::Unopened(_) => Err(Unavailable::Offline("not opened yet".to_owned())),
            Self::Offline(why) => Err(Unavailable::Offline(why.clone())),
            Self::Gone => Err(Unavailable::Gone),
        }
    }

    /// Leaves the online state; nothing that waits will be durable.
    fn leave(&mut self, next: Self, why: Rejected) {
        if let Self::Online(online) = std::mem::replace(self, next) {
            for (_, promise) in online.pending {
                promise.reject(why);
            }
        }
    }
}

impl Online {
    /// First offset of the local log that can be read.
    fn local_start(&self) -> Offset {
        self.log.start().max(self.log_start)
    }

    fn offsets(&self, leader_epoch: LeaderEpoch) -> Offsets {
        Offsets {
            log_start: self.log_start,
            local_start: self.local_start(),
            high_watermark: self.high_watermark.offset,
            last_stable: self.stable.offset,
            log_end: self.log.end(),
            leader_epoch,
        }
    }
}

impl Partition {
    /// Its topic's id and its number.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Its topic's name.
    pub fn topic_name(&self) -> &Arc<str> {
        &self.topic
    }

    /// The epoch in which this broker leads.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The effective configuration of its topic.
    pub fn topic_config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Swaps the configuration; what it decides is asked anew at every append and every piece of due work.
    pub(crate) fn set_topic_config(&self, config: Arc<TopicConfig>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.schedule_upkeep();
        if let Some(listener) = self.shared.on_roll.get() {
            listener(self.id);
        }
    }

    /// The log directory that it is in.
    fn dir(&self) -> &Arc<NodeDir> {
        &self.shared.dirs[self.home.load(Ordering::Acquire)]
    }

    /// The path of the log directory that it is in.
    pub fn log_dir(&self) -> &PathBuf {
        self.dir().path()
    }

    /// Where it stands; all offsets 0 while its files cannot be used.
    pub fn offsets(&self) -> Offsets {
        self.online_offsets().unwrap_or_else(|_| Offsets::nothing(0, 0, self.leader_epoch))
    }

    /// Where it stands, or why its files cannot be used.
    pub fn online_offsets(&self) -> Result<Offsets, ReadError> {
        Ok(self.lock().online()?.offsets(self.leader_epoch))
    }

    /// Where it stands as far as is known without opening it.
    pub fn known_offsets(&self) -> Offsets {
        match &*self.raw() {
            State::Online(online) => online.offsets(self.leader_epoch),
            State::Unopened(Some(known)) => known.offsets(self.leader_epoch),
            State::Behind { log_start, tier_end, .. } => Offsets::nothing(*log_start, *tier_end, self.leader_epoch),
            State::Unopened(None) | State::Offline(_) | State::Gone => Offsets::nothing(0, 0, self.leader_epoch),
        }
    }

    /// Bytes of the local log, as far as is known without opening it.
    pub fn size_bytes(&self) -> u64 {
        let view = match &*self.raw() {
            State::Online(online) => Arc::clone(online.log.view()),
            State::Unopened(Some(known)) => return known.marks.size_bytes,
            State::Unopened(None) | State::Behind { .. } | State::Offline(_) | State::Gone => return 0,
        };
        view.size()
    }

    /// Can it serve? The reason why not is an operator's.
    pub fn offline_reason(&self) -> Option<String> {
        match &*self.raw() {
            State::Offline(why) => Some(why.clone()),
            State::Behind { .. } => Some("waits for the store".to_owned()),
            State::Unopened(_) | State::Online(_) | State::Gone => None,
        }
    }

    /// The local segments at this moment.
    pub fn view(&self) -> Result<Arc<LogView>, ReadError> {
        Ok(Arc::clone(self.lock().online()?.log.view()))
    }

    /// Compares the leader epoch that a request carries with ours: FENCED_LEADER_EPOCH below, UNKNOWN_LEADER_EPOCH above.
    pub fn check_leader_epoch(&self, required: Option<LeaderEpoch>) -> Result<(), ReadError> {
        let current = self.leader_epoch;
        match required {
            Some(required) if required >= 0 && required < current => {
                Err(ReadError::FencedLeaderEpoch { required, current })
            }
            Some(required) if required > current => Err(ReadError::UnknownLeaderEpoch { required, current }),
            _ => Ok(()),
        }
    }

    /// The largest epoch not above `requested` that has records, and its end offset, over both tiers; (-1, -1) when
    /// there is none (OffsetForLeaderEpoch, KIP-320).
    pub fn epoch_end(&self, requested: LeaderEpoch) -> Result<(LeaderEpoch, Offset), ReadError> {
        let mut state = self.lock();
        let online = state.online()?;
        if requested == self.leader_epoch {
            return Ok((requested, online.high_watermark.offset));
        }
        Ok(online.log.epochs().end_offset_for(requested, online.high_watermark.offset))
    }

    /// The epoch in which the record at `offset` was written, -1 when unknown.
    pub fn epoch_of(&self, offset: Offset) -> LeaderEpoch {
        match self.lock().online() {
            Ok(online) => online.log.epochs().epoch_for_offset(offset).unwrap_or(-1),
            Err(_) => -1,
        }
    }

    /// Moves the log start to `before` (-1: the high watermark) and answers with the new log start once that is durable.
    pub async fn delete_records(self: &Arc<Self>, before: Offset) -> Result<Offset, ReadError> {
        self.check_delete(before)?;
        self.raise_log_start(before).await
    }

    /// The lock, behind which the partition is open; see [`opening`].
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.raw();
        if let State::Unopened(_) = *state {
            self.open_in(&mut state);
        }
        state
    }

    /// The lock, without opening the partition. After a panic under it the partition comes back through recovery, here
    /// and now; after a failure of its log directory, whichever partition met it, it is offline.
    fn raw(&self) -> MutexGuard<'_, State> {
        let taken = match self.state.try_lock() {
            Err(TryLockError::WouldBlock) => self.may_hang(|| self.state.lock()),
            Err(TryLockError::Poisoned(poisoned)) => Err(poisoned),
            Ok(state) => Ok(state),
        };
        let mut state = taken.unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            self.state.clear_poison();
            self.reopen(&mut state);
            state
        });
        if self.dir().sync().is_offline() && matches!(*state, State::Online(_)) {
            state.leave(State::Offline("log directory is offline".into()), Rejected::Storage);
        }
        state
    }

    /// Tells the watchers' list how much is visible; under the lock.
    fn publish_visible(&self, online: &Online) {
        self.waiters.publish(online.visible());
    }
}

#[cfg(test)]
mod tests;
