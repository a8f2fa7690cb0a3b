//! One shard: all share partitions whose records lie in one partition of `__share_group_state`.
//!
//! A change is an update record, and every so many updates a snapshot, so that loading reads few records of each. What is
//! older than the oldest snapshot that counts is deleted; idle states are written anew when they hold up too much of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use tokio::sync::oneshot;

use super::lines::{Lines, StateBatch};
use super::records::{Record, ShareKey, Snapshot, Update};
use super::share_state_topic;
use crate::config::server::ShareStateSettings;
use crate::coordinator::internal_topic::InternalTopic;
use crate::coordinator::journal::{Journal, client_error};
use crate::coordinator::{Encoded, Now, Replayed, ShardState};
use crate::metadata::store::SharedMetadata;
use crate::protocol::compression::Compression;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// How often the front of the log is looked at.
const PRUNE_INTERVAL: Duration = Duration::from_secs(300);
/// Records beside those that count which may be in the log before idle states are written anew.
const SLACK: i64 = 1000;

/// How a state begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initialized {
    /// Rises whenever an administrator sets the offsets.
    pub state_epoch: i32,
    /// The first offset to read; -1: as the group's configuration says when it is read first.
    pub start_offset: Offset,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The state that the writer read.
    pub state_epoch: i32,
    /// In which the writer leads the partition.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is not done with; -1 when it did not move.
    pub start_offset: Offset,
    /// Offsets from the start on that are done with.
    pub complete_count: i32,
    /// Where records stand now.
    pub lines: Vec<StateBatch>,
}

/// Why a write is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The state is of another life.
    StateEpoch,
    /// A newer leader has it.
    LeaderEpoch,
    /// It is not kept.
    Unknown,
    /// The log refused.
    Log(ErrorCode),
}

impl Refused {
    /// Kafka's code for it.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::StateEpoch => ErrorCode::FencedStateEpoch,
            Self::LeaderEpoch => ErrorCode::FencedLeaderEpoch,
            Self::Unknown => ErrorCode::UnknownTopicOrPartition,
            Self::Log(code) => code,
        }
    }
}

/// One state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Rises whenever an administrator sets the offsets.
    pub state_epoch: i32,
    /// Of the last writer.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is not done with; -1 before the first read.
    pub start_offset: Offset,
    /// Offsets from the start on that are done with; -1 when nobody counted.
    pub complete_count: i32,
    /// Where records stand.
    pub lines: Lines,
    snapshot_epoch: i32,
    /// Offset of its last snapshot: nothing of it is needed before.
    snapshot_at: Offset,
    updates: u32,
    created_ms: i64,
}

impl Kept {
    fn of(snapshot: &Snapshot, at: Offset) -> Self {
        let mut kept = Self {
            state_epoch: snapshot.state_epoch,
            leader_epoch: snapshot.leader_epoch,
            start_offset: snapshot.start_offset,
            complete_count: snapshot.complete_count,
            lines: Lines::of(&snapshot.lines),
            snapshot_epoch: snapshot.snapshot_epoch,
            snapshot_at: at,
            updates: 0,
            created_ms: snapshot.created_ms,
        };
        kept.lines.forget_below(kept.start_offset);
        kept
    }

    /// Does it say something of records behind `end`?
    pub fn reaches_past(&self, end: Offset) -> bool {
        self.start_offset > end || self.lines.last().is_some_and(|last| last >= end)
    }

    fn update(&mut self, update: &Update) {
        self.leader_epoch = update.leader_epoch.max(self.leader_epoch);
        let counted_from = if update.start_offset < 0 { self.start_offset } else { update.start_offset };
        // Writes side by side may come in another order, and none of them counts what the others settle.
        self.start_offset = update.start_offset.max(self.start_offset);
        update.lines.iter().for_each(|line| self.lines.put(*line));
        self.lines.forget_below(self.start_offset);
        if self.start_offset >= 0 {
            self.start_offset = self.lines.take_done(self.start_offset);
        }
        self.complete_count = match update.complete_count {
            unknown @ ..0 => unknown,
            // The writer knows of offsets without records, for which there are no lines.
            counted => {
                let below = self.start_offset.saturating_sub(counted_from);
                let lines = i32::try_from(self.lines.done()).unwrap_or(i32::MAX);
                i32::try_from(i64::from(counted) - below).unwrap_or(0).max(lines)
            }
        };
        self.updates += 1;
    }

    fn snapshot(&self, wall_ms: i64) -> Snapshot {
        Snapshot {
            snapshot_epoch: self.snapshot_epoch.saturating_add(1),
            state_epoch: self.state_epoch,
            leader_epoch: self.leader_epoch,
            start_offset: self.start_offset,
            complete_count: self.complete_count,
            created_ms: self.created_ms,
            written_ms: wall_ms,
            lines: self.lines.all().collect(),
        }
    }
}

/// What all shards share.
#[derive(Clone)]
pub struct ShareStateContext {
    /// `share.coordinator.*`.
    pub settings: ShareStateSettings,
    /// Which topics there are.
    pub metadata: SharedMetadata,
}

impl std::fmt::Debug for ShareStateContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShareStateContext").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// One shard's state.
#[derive(Debug)]
pub struct ShareStateShard {
    context: Arc<ShareStateContext>,
    journal: Journal,
    states: HashMap<ShareKey, Kept>,
}

impl ShardState for ShareStateShard {
    const NAME: &'static str = "share";

    type Context = ShareStateContext;

    fn internal_topic(context: &ShareStateContext) -> InternalTopic {
        share_state_topic(&context.settings)
    }

    fn upkeep_interval(_: &ShareStateContext) -> Duration {
        PRUNE_INTERVAL
    }

    fn new(context: &Arc<ShareStateContext>, journal: Journal) -> Self {
        let codec = Compression::from_id(context.settings.compression_codec).unwrap_or(Compression::None);
        Self { context: Arc::clone(context), journal: journal.with_compression(codec), states: HashMap::new() }
    }

    fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    fn replay(&mut self, replayed: Replayed<'_>, _: Now) {
        match Record::decode(replayed.key, replayed.value) {
            Ok(record) => self.apply(&record, replayed.offset),
            // One bad record must not hide all states of the shard.
            Err(error) => tracing::error!(
                offset = replayed.offset, %error,
                "record of a coordinator cannot be read and is skipped"
            ),
        }
    }

    fn loaded(&mut self, _: Now) {}

    fn next_due(&self) -> Option<u64> {
        None
    }

    fn on_time(&mut self, _: Now) {}

    fn upkeep(&mut self, now: Now) {
        self.renew_idle(now);
        let oldest = self.states.values().map(|kept| kept.snapshot_at).min();
        self.journal.forget_below(oldest.unwrap_or_else(|| self.journal.next_offset()));
    }

    /// Their states go with them: a topic of the same name is another.
    fn topics_deleted(&mut self, _: &[Arc<str>], now: Now) {
        let image = self.context.metadata.image();
        let gone = self.states.keys().filter(|key| image.topic_by_id(&key.topic).is_none());
        for key in gone.cloned().collect::<Vec<_>>() {
            // When the log refuses, the next topic that goes takes it along.
            if self.commit(&Record::Snapshot(key, None), now).is_err() {
                return;
            }
        }
    }

    fn snapshot(&self) -> Vec<Encoded> {
        let whole = |(key, kept): (&ShareKey, &Kept)| {
            Record::Snapshot(key.clone(), Some(kept.snapshot(kept.created_ms))).encode()
        };
        self.states.iter().filter_map(whole).collect()
    }
}

impl ShareStateShard {
    /// The only way by which the state changes.
    fn apply(&mut self, record: &Record, at: Offset) {
        match record {
            Record::Snapshot(key, Some(snapshot)) => {
                self.states.insert(key.clone(), Kept::of(snapshot, at));
            }
            Record::Snapshot(key, None) => {
                self.states.remove(key);
            }
            Record::Update(key, Some(update)) => {
                // One of an older snapshot says what the newer has already.
                if let Some(kept) = self.states.get_mut(key)
                    && kept.snapshot_epoch == update.snapshot_epoch
                {
                    kept.update(update);
                }
            }
            Record::Update(_, None) | Record::Unknown => {}
        }
    }

    fn commit(&mut self, record: &Record, now: Now) -> Result<(), Refused> {
        let at = self.journal.next_offset();
        self.journal.append(record.encode(), now.wall_ms).map_err(|error| Refused::Log(client_error(&error)))?;
        crash_point::reach(CrashPoint::ShareStateAfterAppend);
        self.apply(record, at);
        Ok(())
    }

    /// Begins to keep a state. One that is kept stays as it is, unless its epoch is lower.
    pub fn initialize(
        &mut self,
        key: ShareKey,
        begin: Initialized,
        to: oneshot::Sender<Result<(), Refused>>,
        now: Now,
    ) {
        let outcome = match self.states.get(&key) {
            Some(kept) if kept.state_epoch > begin.state_epoch => Err(Refused::StateEpoch),
            Some(kept) if kept.state_epoch == begin.state_epoch => Ok(()),
            Some(_) | None => self.begin(key, begin, now),
        };
        self.journal.tell(to, outcome);
    }

    /// Begins a state anew, whatever it was.
    pub fn set(&mut self, key: ShareKey, start_offset: Offset, to: oneshot::Sender<Result<(), Refused>>, now: Now) {
        let state_epoch = self.states.get(&key).map_or(0, |kept| kept.state_epoch.saturating_add(1));
        let outcome = self.begin(key, Initialized { state_epoch, start_offset }, now);
        self.journal.tell(to, outcome);
    }

    fn begin(&mut self, key: ShareKey, begin: Initialized, now: Now) -> Result<(), Refused> {
        let snapshot = Snapshot {
            snapshot_epoch: self.states.get(&key).map_or(0, |kept| kept.snapshot_epoch.saturating_add(1)),
            state_epoch: begin.state_epoch,
            leader_epoch: self.states.get(&key).map_or(0, |kept| kept.leader_epoch),
            start_offset: begin.start_offset,
            complete_count: 0,
            created_ms: now.wall_ms,
            written_ms: now.wall_ms,
            lines: Vec::new(),
        };
        self.commit(&Record::Snapshot(key, Some(snapshot)), now)
    }

    /// Says nothing of records from `end` on any more: the log ends there. Told once that is durable.
    pub fn cut(&mut self, key: ShareKey, end: Offset, to: oneshot::Sender<Result<Option<Kept>, Refused>>, now: Now) {
        let outcome = match self.states.get(&key).filter(|kept| kept.reaches_past(end)) {
            Some(kept) => {
                let mut snapshot = kept.snapshot(now.wall_ms);
                snapshot.cut_at(end);
                self.commit(&Record::Snapshot(key.clone(), Some(snapshot)), now)
            }
            None => Ok(()),
        };
        let outcome = outcome.map(|()| self.states.get(&key).cloned());
        self.journal.tell(to, outcome);
    }

    /// The state as it is, told once it is durable.
    pub fn read(&mut self, key: &ShareKey, to: oneshot::Sender<Option<Kept>>) {
        let kept = self.states.get(key).cloned();
        self.journal.tell(to, kept);
    }

    /// Writes a change.
    pub fn write(&mut self, key: ShareKey, written: Written, to: oneshot::Sender<Result<(), Refused>>, now: Now) {
        let outcome = self.try_write(key, written, now);
        self.journal.tell(to, outcome);
    }

    fn try_write(&mut self, key: ShareKey, written: Written, now: Now) -> Result<(), Refused> {
        let kept = self.states.get(&key).ok_or(Refused::Unknown)?;
        if written.state_epoch != kept.state_epoch {
            return Err(Refused::StateEpoch);
        }
        if written.leader_epoch < kept.leader_epoch {
            return Err(Refused::LeaderEpoch);
        }
        let update = Update {
            snapshot_epoch: kept.snapshot_epoch,
            leader_epoch: written.leader_epoch,
            start_offset: written.start_offset,
            complete_count: written.complete_count,
            lines: written.lines,
        };
        if kept.updates < self.context.settings.updates_per_snapshot {
            return self.commit(&Record::Update(key, Some(update)), now);
        }
        let mut whole = kept.clone();
        whole.update(&update);
        self.commit(&Record::Snapshot(key, Some(whole.snapshot(now.wall_ms))), now)
    }

    /// Forgets a state; one that is not kept is forgotten already.
    pub fn delete(&mut self, key: ShareKey, to: oneshot::Sender<Result<(), ErrorCode>>, now: Now) {
        let outcome = match self.states.contains_key(&key) {
            true => self.commit(&Record::Snapshot(key, None), now).map_err(Refused::code),
            false => Ok(()),
        };
        self.journal.tell(to, outcome);
    }

    /// Writes idle states anew when they hold up much that nobody needs.
    fn renew_idle(&mut self, now: Now) {
        let Some(oldest) = self.states.values().map(|kept| kept.snapshot_at).min() else { return };
        let states = i64::try_from(self.states.len()).unwrap_or(i64::MAX);
        let held = self.journal.next_offset() - oldest;
        if held <= states.saturating_mul(4).saturating_add(SLACK) {
            return;
        }
        let idle = self.states.iter().filter(|(_, kept)| kept.snapshot_at < oldest + held / 2);
        let anew: Vec<_> =
            idle.map(|(key, kept)| Record::Snapshot(key.clone(), Some(kept.snapshot(now.wall_ms)))).collect();
        for record in anew {
            if self.commit(&record, now).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
