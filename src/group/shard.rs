//! One shard: all groups whose records lie in one partition of `__consumer_offsets`.
//!
//! Owned by one task, so nothing here is shared or waits. The state is the fold of the partition's records: a request
//! makes records, they are appended, and only then [`Shard::apply`] changes the state, the same function that loading
//! uses. An append that fails changes nothing. Answers leave through [`Held`], after the appends they depend on are
//! durable. What the log doesn't keep (rebalances in progress, deadlines) lives beside it in each group's
//! [`ClassicGroup`] and begins anew after a load.

mod members;
mod offsets;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::random::SharedRandom;
use tokio::sync::oneshot;

use super::classic::{Answer, ClassicGroup, Description, Joined, Now, Out, ReplyId, Synced};
use super::held::Held;
use super::offsets::Offsets;
use super::records::{Encoded, GroupMetadata, Record};
use super::shard_log::ShardLog;
use crate::config::server::{GroupSettings, OffsetsSettings};
use crate::partition::append::AppendError;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;

/// When an append of the shard's own (expired members) failed, it is tried again after this time.
const RETRY_MS: u64 = 1000;

/// What the broker's configuration says to coordinators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorSettings {
    /// `group.*`.
    pub group: GroupSettings,
    /// `offsets.*`.
    pub offsets: OffsetsSettings,
}

/// One group as ListGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub group: Arc<str>,
    /// The type of its members' protocols; empty without members ever.
    pub protocol_type: Arc<str>,
    /// The state's name.
    pub state: &'static str,
}

/// The compacted state of one shard, as records that rebuild it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// Everything below this offset of the shard's partition is in it.
    pub next_offset: Offset,
    /// The records, in no order.
    pub records: Vec<Encoded>,
}

#[derive(Debug)]
struct Entry {
    live: ClassicGroup,
    /// What the log has of it; none for a group that only has offsets.
    logged: Option<GroupMetadata>,
}

#[derive(Debug)]
enum Parked {
    Join(oneshot::Sender<Joined>),
    Sync(oneshot::Sender<Synced>),
}

/// One shard's state.
#[derive(Debug)]
pub struct Shard {
    log: Arc<dyn ShardLog>,
    settings: Arc<CoordinatorSettings>,
    random: SharedRandom,
    next_offset: Offset,
    groups: HashMap<Arc<str>, Entry>,
    offsets: Offsets,
    /// Records of types we don't know, by key: part of the fold, so that a snapshot has them.
    unknown: HashMap<Vec<u8>, Vec<u8>>,
    parked: HashMap<ReplyId, Parked>,
    last_reply: ReplyId,
    pub(super) held: Held,
    /// When groups want time: one entry per group counts, the one that `due` names too.
    timers: BinaryHeap<Reverse<(u64, Arc<str>)>>,
    due: HashMap<Arc<str>, u64>,
}

impl Shard {
    /// A shard without groups.
    pub fn new(log: Arc<dyn ShardLog>, settings: Arc<CoordinatorSettings>, random: SharedRandom) -> Self {
        Self {
            next_offset: log.bounds().0,
            log,
            settings,
            random,
            groups: HashMap::new(),
            offsets: Offsets::default(),
            unknown: HashMap::new(),
            parked: HashMap::new(),
            last_reply: 0,
            held: Held::default(),
            timers: BinaryHeap::new(),
            due: HashMap::new(),
        }
    }

    /// Takes over one record of the log while loading.
    pub fn replay(&mut self, offset: Offset, key: &[u8], value: Option<&[u8]>, now: Now) {
        self.next_offset = offset + 1;
        match (Record::decode(key, value), value) {
            (Ok(Record::Unknown { .. }), Some(value)) => {
                self.unknown.insert(key.to_vec(), value.to_vec());
            }
            (Ok(Record::Unknown { .. }), None) => {
                self.unknown.remove(key);
            }
            (Ok(record), _) => self.apply(record, None, now),
            // One bad record must not hide all groups of the shard.
            (Err(error), _) => tracing::error!(offset, %error, "record of a coordinator cannot be read and is skipped"),
        }
    }

    /// All of the log is read: sessions begin.
    pub fn loaded(&mut self, next_offset: Offset, now: Now) {
        self.next_offset = self.next_offset.max(next_offset);
        let ids: Vec<_> = self.groups.keys().cloned().collect();
        for id in ids {
            let over = |entry: &Entry| entry.live.member_count() > self.settings.group.size_max;
            if self.groups.get(&id).is_some_and(over) {
                // Members over a lowered limit are turned away when they join again.
                let _ = self.change(&id, now, |group, settings, out| group.shrink(now, settings, out));
            }
            self.schedule(&id);
        }
    }

    /// The only way by which the state changes. `live` is the changed group that wrote the record.
    fn apply(&mut self, record: Record, live: Option<ClassicGroup>, now: Now) {
        match record {
            Record::Offset(key, committed) => {
                if committed.is_some() && !self.groups.contains_key(&key.group) {
                    let live = ClassicGroup::new(Arc::clone(&key.group), now);
                    self.groups.insert(Arc::clone(&key.group), Entry { live, logged: None });
                }
                self.offsets.apply(key, committed);
            }
            Record::Group(id, Some(logged)) => {
                let live = ClassicGroup::absorb(&id, &logged, live, now);
                self.groups.insert(id, Entry { live, logged: Some(logged) });
            }
            Record::Group(id, None) => {
                self.groups.remove(&id);
            }
            Record::Unknown { .. } => {}
        }
    }

    /// Appends records in one batch, so that all or none of them count, and applies them.
    fn commit_records(&mut self, records: Vec<Record>, now: Now) -> Result<(), ErrorCode> {
        self.append(&records, now)?;
        for record in records {
            self.apply(record, None, now);
        }
        Ok(())
    }

    fn append(&mut self, records: &[Record], now: Now) -> Result<(), ErrorCode> {
        let mut batch = BatchBuilder::new(0);
        for encoded in records.iter().filter_map(Record::encode) {
            let delta = batch.count();
            batch.push(delta, now.wall_ms, Some(&encoded.key), encoded.value.as_deref(), [].into_iter());
        }
        let ticket = self.log.append(&mut batch.finish()).map_err(|error| {
            tracing::warn!(%error, "a coordinator cannot append");
            append_error(&error)
        })?;
        crash_point::reach(CrashPoint::GroupAfterAppend);
        self.next_offset = ticket.next_offset();
        self.held.append(ticket);
        Ok(())
    }

    /// One operation on a group, which is born if it isn't there. What the operation did counts only if the log took
    /// what it wanted to write.
    fn change<R>(
        &mut self,
        id: &Arc<str>,
        now: Now,
        operation: impl FnOnce(&mut ClassicGroup, &GroupSettings, &mut Out) -> R,
    ) -> Result<R, ErrorCode> {
        let known = self.groups.get(id).map(|entry| entry.live.clone());
        let born = known.is_none();
        let mut live = known.unwrap_or_else(|| ClassicGroup::new(Arc::clone(id), now));
        let mut out = Out::default();
        let result = operation(&mut live, &self.settings.group, &mut out);
        if out.write || born {
            let logged = if out.write { live.logged() } else { live.logged_at_birth() };
            let record = Record::Group(Arc::clone(id), Some(logged));
            self.append(std::slice::from_ref(&record), now)?;
            self.apply(record, Some(live), now);
        } else if let Some(entry) = self.groups.get_mut(id) {
            entry.live = live;
        }
        self.schedule(id);
        for (reply, answer) in out.answers {
            self.answer(reply, answer);
        }
        Ok(result)
    }

    fn answer(&mut self, reply: ReplyId, answer: Answer) {
        match (self.parked.remove(&reply), answer) {
            (Some(Parked::Join(to)), Answer::Join(joined)) => self.tell(to, joined),
            (Some(Parked::Sync(to)), Answer::Sync(synced)) => self.tell(to, synced),
            (Some(_) | None, _) => {}
        }
    }

    fn tell<T: Send + 'static>(&mut self, to: oneshot::Sender<T>, what: T) {
        // Who asked may have gone with its connection.
        self.held.answer(move || drop(to.send(what)));
    }

    fn park(&mut self, parked: Parked) -> ReplyId {
        self.last_reply += 1;
        self.parked.insert(self.last_reply, parked);
        self.last_reply
    }

    fn schedule(&mut self, id: &Arc<str>) {
        let Some(at) = self.groups.get(id).and_then(|entry| entry.live.next_due()) else { return };
        // An earlier entry finds out by itself that nothing is due yet.
        if self.due.get(id).is_none_or(|&earlier| at < earlier) {
            self.due.insert(Arc::clone(id), at);
            self.timers.push(Reverse((at, Arc::clone(id))));
        }
    }

    /// Behind the last record that the state has.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// When time next matters to the shard.
    pub fn next_due(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Does all that is due.
    pub fn on_time(&mut self, now: Now) {
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= now.mono_ms
        {
            let Some(Reverse((at, id))) = self.timers.pop() else { break };
            if self.due.get(&id) != Some(&at) {
                continue; // superseded by an earlier one
            }
            self.due.remove(&id);
            if self.groups.get(&id).and_then(|entry| entry.live.next_due()).is_none_or(|at| at > now.mono_ms) {
                self.schedule(&id);
            } else if self.change(&id, now, |group, settings, out| group.on_time(now, settings, out)).is_err() {
                let retry_at = now.mono_ms + RETRY_MS;
                self.due.insert(Arc::clone(&id), retry_at);
                self.timers.push(Reverse((retry_at, id)));
            }
        }
    }

    /// One group as DescribeGroups shows it.
    pub fn describe(&mut self, group: &str, to: oneshot::Sender<Option<Description>>) {
        let description = self.groups.get(group).map(|entry| entry.live.describe());
        self.tell(to, description);
    }

    /// All groups.
    pub fn list(&mut self, to: oneshot::Sender<Vec<Listed>>) {
        let listed = self.groups.iter().map(|(id, entry)| Listed {
            group: Arc::clone(id),
            protocol_type: entry.live.protocol_type().cloned().unwrap_or_default(),
            state: entry.live.state().name(),
        });
        let listed = listed.collect();
        self.tell(to, listed);
    }

    /// The compacted state, told once all of it is durable.
    pub fn snapshot(&mut self, to: oneshot::Sender<ShardSnapshot>) {
        let groups = self.groups.iter().filter_map(|(id, entry)| {
            entry.logged.as_ref().and_then(|logged| Record::Group(Arc::clone(id), Some(logged.clone())).encode())
        });
        let offsets =
            self.offsets.iter().filter_map(|(key, committed)| Record::Offset(key, Some(committed.clone())).encode());
        let unknown = self.unknown.iter().map(|(key, value)| Encoded { key: key.clone(), value: Some(value.clone()) });
        let records = groups.chain(offsets).chain(unknown).collect();
        let snapshot = ShardSnapshot { next_offset: self.next_offset, records };
        self.tell(to, snapshot);
    }
}

/// What a client is told when its coordinator's log refuses: look for the coordinator again, or give up.
fn append_error(error: &AppendError) -> ErrorCode {
    match error {
        // Clients ask who the coordinator is until another broker answers.
        AppendError::Fenced => ErrorCode::CoordinatorNotAvailable,
        AppendError::Storage
        | AppendError::DiskFull
        | AppendError::Gone
        | AppendError::FencedLeaderEpoch { .. }
        | AppendError::UnknownLeaderEpoch { .. } => ErrorCode::NotCoordinator,
        AppendError::Corrupt(_)
        | AppendError::InvalidRecord(_)
        | AppendError::InvalidTimestamp { .. }
        | AppendError::TooLarge { .. }
        | AppendError::LargerThanSegment { .. }
        | AppendError::UnsupportedCompression(_)
        | AppendError::Keyless(_)
        | AppendError::Producer(_) => ErrorCode::UnknownServerError,
    }
}

#[cfg(test)]
mod tests;
