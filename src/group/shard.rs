//! One shard: all groups whose records lie in one partition of `__consumer_offsets`.
//!
//! Owned by one task, so nothing here is shared or waits. The state is the fold of the partition's records: a request
//! makes records, the journal appends them, and only then [`Shard::apply`] changes the state, the same function that
//! loading uses. An append that fails changes nothing. Answers leave through the [`Journal`], after the appends they
//! depend on are durable. What the log doesn't keep (rebalances in progress, deadlines) lives beside it in each group's
//! [`ClassicGroup`] and begins anew after a load.

mod consumers;
mod entry;
mod members;
mod offsets;
mod shares;
mod streams;
mod transactional;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::random::SharedRandom;
use tokio::sync::oneshot;

use self::entry::Entry;
pub use self::shares::{Lives, StatesChange};
use super::classic::{Answer, ClassicGroup, Description, Joined, Out, ReplyId, Synced};
use super::consumer::Refused;
use super::consumer::settings::GroupLimits;
use super::internal_topic::offsets_topic;
use super::new_topics::NewTopics;
use super::offsets::Offsets;
use super::records::{Committed, OffsetKey, Record};
use super::streams::settings::StreamsLimits;
use crate::config::server::{GroupSettings, OffsetsSettings};
use crate::coordinator::internal_topic::InternalTopic;
use crate::coordinator::journal::{Journal, client_error};
use crate::coordinator::{Encoded, Now, Replayed, ShardState};
use crate::metadata::store::SharedMetadata;
use crate::protocol::compression::Compression;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::ProducerId;
use crate::share::settings::ShareLimits;

/// When an append of the shard's own (expired members) failed, it is tried again after this time.
const RETRY_MS: u64 = 1000;

/// What all shards share.
#[derive(Debug, Clone)]
pub struct GroupContext {
    /// `group.*`.
    pub group: GroupSettings,
    /// `offsets.*`.
    pub offsets: OffsetsSettings,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Member ids.
    pub random: SharedRandom,
    /// Topics, and configurations of groups.
    pub metadata: SharedMetadata,
    /// When topics last appeared.
    pub new_topics: Arc<NewTopics>,
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
    /// "classic", "consumer", "share" or "streams".
    pub group_type: &'static str,
}

#[derive(Debug)]
enum Parked {
    Join(oneshot::Sender<Joined>),
    Sync(oneshot::Sender<Synced>),
}

/// One shard's state.
#[derive(Debug)]
pub struct Shard {
    context: Arc<GroupContext>,
    journal: Journal,
    groups: HashMap<Arc<str>, Entry>,
    offsets: Offsets,
    /// Records of types we don't know, by key: part of the fold, so that a snapshot has them.
    unknown: HashMap<Vec<u8>, Vec<u8>>,
    parked: HashMap<ReplyId, Parked>,
    last_reply: ReplyId,
    /// When groups want time: one entry per group counts, the one that `due` names too.
    timers: BinaryHeap<Reverse<(u64, Arc<str>)>>,
    due: HashMap<Arc<str>, u64>,
}

impl ShardState for Shard {
    const NAME: &'static str = "group";

    type Context = GroupContext;

    fn internal_topic(context: &GroupContext) -> InternalTopic {
        offsets_topic(&context.offsets)
    }

    fn upkeep_interval(context: &GroupContext) -> Duration {
        Duration::from_millis(context.offsets.retention_check_interval_ms)
    }

    fn new(context: &Arc<GroupContext>, journal: Journal) -> Self {
        let codec = Compression::from_id(context.offsets.compression_codec).unwrap_or(Compression::None);
        Self {
            context: Arc::clone(context),
            journal: journal.with_compression(codec),
            groups: HashMap::new(),
            offsets: Offsets::default(),
            unknown: HashMap::new(),
            parked: HashMap::new(),
            last_reply: 0,
            timers: BinaryHeap::new(),
            due: HashMap::new(),
        }
    }

    fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    fn replay(&mut self, replayed: Replayed<'_>, now: Now) {
        let Replayed { offset, transaction, key, value } = replayed;
        match (Record::decode(key, value), value) {
            (Ok(Record::Offset(key, committed)), _) if let Some(producer_id) = transaction => {
                self.apply_in(producer_id, key, committed, now);
            }
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

    fn replay_marker(&mut self, producer_id: ProducerId, commit: bool, _: Now) {
        self.offsets.end_transaction(producer_id, commit);
    }

    fn loaded(&mut self, now: Now) {
        let ids: Vec<_> = self.groups.keys().cloned().collect();
        for id in ids {
            self.begin_sessions(&id, now);
            self.schedule(&id);
        }
    }

    fn next_due(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    fn on_time(&mut self, now: Now) {
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= now.mono_ms
        {
            let Some(Reverse((at, id))) = self.timers.pop() else { break };
            if self.due.get(&id) != Some(&at) {
                continue; // superseded by an earlier one
            }
            self.due.remove(&id);
            if self.groups.get(&id).and_then(Entry::next_due).is_none_or(|at| at > now.mono_ms) {
                self.schedule(&id);
            } else if self.group_on_time(&id, now).is_err() {
                let retry_at = now.mono_ms + RETRY_MS;
                self.due.insert(Arc::clone(&id), retry_at);
                self.timers.push(Reverse((retry_at, id)));
            }
        }
    }

    fn upkeep(&mut self, now: Now) {
        self.expire_offsets(now);
    }

    fn topics_deleted(&mut self, topics: &[Arc<str>], now: Now) {
        self.delete_offsets_of_topics(topics, now);
        self.forget_states_of_gone_topics(now);
    }

    fn snapshot(&self) -> Vec<Encoded> {
        let groups = self.groups.iter().flat_map(|(id, entry)| entry.logged(id)).filter_map(|record| record.encode());
        let offsets =
            self.offsets.iter().filter_map(|(key, committed)| Record::Offset(key, Some(committed.clone())).encode());
        let unknown = self.unknown.iter().map(|(key, value)| Encoded { key: key.clone(), value: Some(value.clone()) });
        groups.chain(offsets).chain(unknown).collect()
    }
}

impl Shard {
    /// The only way by which the state changes. `live` is the changed group that wrote the record.
    fn apply(&mut self, record: Record, live: Option<ClassicGroup>, now: Now) {
        match record {
            Record::Offset(key, committed) => {
                self.make_simple_group(&key, committed.is_some(), now);
                self.offsets.apply(key, committed);
            }
            Record::Group(id, Some(logged)) => {
                let live = ClassicGroup::absorb(&id, &logged, live, now);
                self.groups.insert(id, Entry::Classic { live, logged: Some(logged) });
            }
            Record::Group(id, None) => {
                if self.groups.get(&id).is_some_and(|entry| entry.classic().is_some()) {
                    self.groups.remove(&id);
                }
            }
            Record::Consumer(id, record) => self.apply_consumer(id, record),
            Record::Share(id, record) => self.apply_share(id, record),
            Record::Streams(id, record) => self.apply_streams(id, record),
            Record::Unknown { .. } => {}
        }
    }

    /// The same for an offset of an open transaction.
    fn apply_in(&mut self, producer_id: ProducerId, key: OffsetKey, committed: Option<Committed>, now: Now) {
        self.make_simple_group(&key, committed.is_some(), now);
        self.offsets.apply_in(producer_id, key, committed);
    }

    /// An offset of a group that isn't there makes one without members.
    fn make_simple_group(&mut self, key: &OffsetKey, committed: bool, now: Now) {
        if committed && !self.groups.contains_key(&key.group) {
            let live = ClassicGroup::new(Arc::clone(&key.group), now);
            self.groups.insert(Arc::clone(&key.group), Entry::Classic { live, logged: None });
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
        let appended = self.journal.append(records.iter().filter_map(Record::encode), now.wall_ms);
        appended.map_err(|error| client_error(&error))?;
        crash_point::reach(CrashPoint::GroupAfterAppend);
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
        let known = self.groups.get(id).and_then(Entry::classic).cloned();
        let born = known.is_none();
        let mut live = known.unwrap_or_else(|| ClassicGroup::new(Arc::clone(id), now));
        let mut out = Out::default();
        let result = operation(&mut live, &self.context.group, &mut out);
        if out.write || born {
            let logged = if out.write { live.logged() } else { live.logged_at_birth() };
            let record = Record::Group(Arc::clone(id), Some(logged));
            self.append(std::slice::from_ref(&record), now)?;
            self.apply(record, Some(live), now);
        } else if let Some(group) = self.groups.get_mut(id).and_then(Entry::classic_mut) {
            *group = live;
        }
        self.schedule(id);
        self.answer_all(out);
        Ok(result)
    }

    /// Sessions of a group that was loaded begin.
    fn begin_sessions(&mut self, id: &Arc<str>, now: Now) {
        let context = Arc::clone(&self.context);
        match self.groups.get_mut(id) {
            Some(Entry::Consumer(group)) => {
                let image = context.metadata.image();
                group.loaded(&GroupLimits::of(id, &context.group.consumer, &image), now);
            }
            Some(Entry::Share(group)) => {
                group.loaded(&ShareLimits::of(id, &context.group.share, &context.metadata.image()), now);
            }
            Some(Entry::Streams(group)) => {
                group.loaded(&StreamsLimits::of(id, &context.group.streams, &context.metadata.image()), now);
            }
            Some(Entry::Classic { live, .. }) if live.member_count() > context.group.size_max => {
                // Members over a lowered limit are turned away when they join again.
                let _ = self.change(id, now, |group, settings, out| group.rejoin_all(now, settings, out));
            }
            Some(Entry::Classic { .. }) | None => {}
        }
    }

    /// Does all that is due in one group.
    fn group_on_time(&mut self, id: &Arc<str>, now: Now) -> Result<(), ErrorCode> {
        match self.groups.get(id) {
            Some(Entry::Classic { .. }) => {
                self.change(id, now, |group, settings, out| group.on_time(now, settings, out))
            }
            Some(Entry::Consumer(_)) => self.consumers_on_time(id, now),
            Some(Entry::Share(_)) => self.shares_on_time(id, now),
            Some(Entry::Streams(_)) => self.streams_on_time(id, now),
            None => Ok(()),
        }
    }

    fn answer_all(&mut self, out: Out) {
        for (reply, answer) in out.answers {
            self.answer(reply, answer);
        }
    }

    fn answer(&mut self, reply: ReplyId, answer: Answer) {
        match (self.parked.remove(&reply), answer) {
            (Some(Parked::Join(to)), Answer::Join(joined)) => self.journal.tell(to, joined),
            (Some(Parked::Sync(to)), Answer::Sync(synced)) => self.journal.tell(to, synced),
            (Some(_) | None, _) => {}
        }
    }

    fn park(&mut self, parked: Parked) -> ReplyId {
        self.last_reply += 1;
        self.parked.insert(self.last_reply, parked);
        self.last_reply
    }

    fn schedule(&mut self, id: &Arc<str>) {
        let Some(at) = self.groups.get(id).and_then(Entry::next_due) else { return };
        // An earlier entry finds out by itself that nothing is due yet.
        if self.due.get(id).is_none_or(|&earlier| at < earlier) {
            self.due.insert(Arc::clone(id), at);
            self.timers.push(Reverse((at, Arc::clone(id))));
        }
    }

    /// One group as DescribeGroups shows it.
    pub fn describe(&mut self, id: &str, to: oneshot::Sender<Result<Description, Refused>>) {
        let described = match self.groups.get(id) {
            Some(Entry::Classic { live, .. }) => Ok(live.describe()),
            Some(Entry::Consumer(_) | Entry::Share(_) | Entry::Streams(_)) => {
                Err(Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a classic group.")))
            }
            None => Err(consumers::not_found(id)),
        };
        self.journal.tell(to, described);
    }

    /// All groups.
    pub fn list(&mut self, to: oneshot::Sender<Vec<Listed>>) {
        let listed = self.groups.iter().map(|(id, entry)| Listed {
            group: Arc::clone(id),
            protocol_type: entry.protocol_type(),
            state: entry.state_name(),
            group_type: entry.type_name(),
        });
        let listed = listed.collect();
        self.journal.tell(to, listed);
    }
}

#[cfg(test)]
mod tests;
