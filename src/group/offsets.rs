//! Committed offsets of one shard: how far each group has read, and when that is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::classic::{ClassicGroup, State};
use super::consumer::commits::Committer;
use super::pending::PendingOffsets;
use super::records::{Committed, OffsetKey};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{LeaderEpoch, Offset, ProducerId};

/// Offsets of one group: by topic, then by partition.
pub type GroupOffsets = BTreeMap<Arc<str>, BTreeMap<i32, Committed>>;

/// An OffsetCommit request, its topics known to exist.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The group.
    pub group: Arc<str>,
    /// Empty from outside of the group.
    pub member_id: Arc<str>,
    /// Set by a static member.
    pub instance_id: Option<Arc<str>>,
    /// -1 from outside of the group.
    pub generation: i32,
    /// How long to keep the offsets, from clients before version 5.
    pub retention_ms: Option<i64>,
    /// Version 9+: an unknown group is GROUP_ID_NOT_FOUND, not ILLEGAL_GENERATION, and `generation` may be the epoch of a
    /// member of the consumer protocol.
    pub knows_group_id_not_found: bool,
    /// The offsets.
    pub offsets: Vec<CommitOffset>,
}

impl CommitRequest {
    /// Who commits; producers have always known epochs.
    pub fn committer(&self, transactional: bool) -> Committer<'_> {
        Committer {
            member_id: &self.member_id,
            instance_id: self.instance_id.as_deref(),
            epoch: self.generation,
            transactional,
            knows_epochs: transactional || self.knows_group_id_not_found,
        }
    }
}

/// One offset of a commit.
#[derive(Debug, Clone)]
pub struct CommitOffset {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, or -1.
    pub leader_epoch: LeaderEpoch,
    /// The client's own note.
    pub metadata: Option<Arc<str>>,
}

impl CommitOffset {
    /// Of what, by name.
    pub fn partition(&self) -> (&Arc<str>, i32) {
        (&self.topic, self.partition)
    }
}

/// An OffsetFetch of one group.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member that asks; absent from outside of the group, and always before version 9.
    pub member_id: Option<Arc<str>>,
    /// Its epoch, or -1.
    pub member_epoch: i32,
    /// Offsets of open transactions make a partition's offset unstable (version 7+).
    pub require_stable: bool,
    /// What it asks for.
    pub topics: FetchTopics,
}

/// What is asked of one group's offsets.
#[derive(Debug, Clone)]
pub enum FetchTopics {
    /// All that it has committed.
    All,
    /// These, with the topic's id where the request named it (nil where not).
    These(Vec<FetchTopic>),
}

/// One topic of an OffsetFetch.
#[derive(Debug, Clone)]
pub struct FetchTopic {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id, or nil.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// One partition of an OffsetFetch answer: what was committed last, if anything was. UNSTABLE_OFFSET_COMMIT where a
/// transaction that is still open has committed an offset and the request wants a stable one.
pub type FetchedOffset = Result<Option<Committed>, ErrorCode>;

/// One topic of an OffsetFetch answer.
pub type FetchedTopic = (Arc<str>, Vec<(i32, FetchedOffset)>);

/// All committed offsets of a shard. Changes only through [`Offsets::apply`] and the two functions of transactions.
#[derive(Debug, Default)]
pub struct Offsets {
    groups: HashMap<Arc<str>, GroupOffsets>,
    /// Of open transactions.
    pending: PendingOffsets,
}

impl Offsets {
    /// Takes over one record.
    pub fn apply(&mut self, key: OffsetKey, committed: Option<Committed>) {
        match committed {
            Some(committed) => {
                self.pending.supersede(&key);
                self.put(key, committed);
            }
            None => {
                self.pending.forget(&key);
                self.forget(&key);
            }
        }
    }

    /// Takes over one record of an open transaction.
    pub fn apply_in(&mut self, producer_id: ProducerId, key: OffsetKey, committed: Option<Committed>) {
        match committed {
            Some(committed) => self.pending.put(producer_id, key, committed),
            None => self.apply(key, None),
        }
    }

    /// A producer's transaction ended.
    pub fn end_transaction(&mut self, producer_id: ProducerId, commit: bool) {
        for (key, committed) in self.pending.end(producer_id, commit) {
            self.put(key, committed);
        }
    }

    fn put(&mut self, key: OffsetKey, committed: Committed) {
        let topics = self.groups.entry(key.group).or_default();
        topics.entry(key.topic).or_default().insert(key.partition, committed);
    }

    fn forget(&mut self, key: &OffsetKey) {
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        if let Some(partitions) = topics.get_mut(&key.topic) {
            partitions.remove(&key.partition);
            if partitions.is_empty() {
                topics.remove(&key.topic);
            }
        }
        if topics.is_empty() {
            self.groups.remove(&key.group);
        }
    }

    /// One committed offset.
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    /// All offsets of one group.
    pub fn of_group(&self, group: &str) -> Option<&GroupOffsets> {
        self.groups.get(group)
    }

    /// Is there an offset, committed or pending?
    pub fn knows(&self, key: &OffsetKey) -> bool {
        self.get(&key.group, &key.topic, key.partition).is_some() || self.pending.contains(key)
    }

    /// Has a transaction that is still open committed an offset of this partition?
    pub fn is_unstable(&self, key: &OffsetKey) -> bool {
        self.pending.contains(key)
    }

    /// Everything that is committed, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (OffsetKey, &Committed)> {
        self.groups.iter().flat_map(|(group, topics)| keys(group, topics))
    }

    /// The keys of one group, pending ones included.
    pub fn keys_of_group(&self, group: &Arc<str>) -> Vec<OffsetKey> {
        let committed = self.groups.get(group).into_iter().flat_map(|topics| keys(group, topics)).map(|(key, _)| key);
        committed.chain(self.only_pending().filter(|key| key.group == *group).cloned()).collect()
    }

    /// The keys that name one of these topics, pending ones included.
    pub fn keys_of_topics(&self, topics: &[Arc<str>]) -> Vec<OffsetKey> {
        let all = self.iter().map(|(key, _)| key).chain(self.only_pending().cloned());
        all.filter(|key| topics.contains(&key.topic)).collect()
    }

    fn only_pending(&self) -> impl Iterator<Item = &OffsetKey> {
        self.pending.keys().filter(|key| self.get(&key.group, &key.topic, key.partition).is_none())
    }

    /// Answers one OffsetFetch. A topic id that differs from the one of the commit names another topic.
    pub fn fetch(&self, group: &Arc<str>, wanted: &FetchTopics, require_stable: bool) -> Vec<FetchedTopic> {
        match wanted {
            FetchTopics::All => {
                let topics = self.groups.get(group).into_iter().flatten();
                let fetched = topics.map(|(topic, offsets)| {
                    let partitions = offsets.keys().map(|&at| (at, self.fetch_one(group, topic, at, require_stable)));
                    (Arc::clone(topic), partitions.collect())
                });
                fetched.collect()
            }
            FetchTopics::These(topics) => {
                topics.iter().map(|topic| self.fetch_topic(group, topic, require_stable)).collect()
            }
        }
    }

    fn fetch_topic(&self, group: &Arc<str>, wanted: &FetchTopic, require_stable: bool) -> FetchedTopic {
        let same_topic = |committed: &Committed| {
            wanted.topic_id.is_nil() || committed.topic_id.is_nil() || wanted.topic_id == committed.topic_id
        };
        let fetch = |&partition: &i32| {
            let fetched = self.fetch_one(group, &wanted.topic, partition, require_stable);
            (partition, fetched.map(|committed| committed.filter(same_topic)))
        };
        (Arc::clone(&wanted.topic), wanted.partitions.iter().map(fetch).collect())
    }

    fn fetch_one(&self, group: &Arc<str>, topic: &Arc<str>, partition: i32, require_stable: bool) -> FetchedOffset {
        let key = OffsetKey { group: Arc::clone(group), topic: Arc::clone(topic), partition };
        match require_stable && self.is_unstable(&key) {
            true => Err(ErrorCode::UnstableOffsetCommit),
            false => Ok(self.get(group, topic, partition).cloned()),
        }
    }

    /// The offsets of `group` that have outlived their retention, and whether those are all it has.
    pub fn expired(
        &self,
        id: &Arc<str>,
        base: Option<ExpiryBase>,
        is_subscribed_to: impl Fn(&str) -> bool,
        now_ms: i64,
        retention_ms: i64,
    ) -> (Vec<OffsetKey>, bool) {
        let pending = self.pending.keys().any(|key| key.group == *id);
        let Some(topics) = self.groups.get(id) else { return (Vec::new(), !pending) };
        let Some(base) = base else { return (Vec::new(), false) };
        let (expired, kept): (Vec<_>, Vec<_>) = keys(id, topics).partition(|(key, committed)| {
            let out_of_time = match committed.expire_timestamp {
                Some(at) => now_ms >= at,
                None => now_ms.saturating_sub(base.timestamp(committed)) >= retention_ms,
            };
            out_of_time && !is_subscribed_to(&key.topic) && !self.is_unstable(key)
        });
        (expired.into_iter().map(|(key, _)| key).collect(), kept.is_empty() && !pending)
    }
}

fn keys<'o>(group: &Arc<str>, topics: &'o GroupOffsets) -> impl Iterator<Item = (OffsetKey, &'o Committed)> {
    let group = Arc::clone(group);
    topics.iter().flat_map(move |(topic, partitions)| {
        let group = Arc::clone(&group);
        partitions.iter().map(move |(&partition, committed)| {
            (OffsetKey { group: Arc::clone(&group), topic: Arc::clone(topic), partition }, committed)
        })
    })
}

/// From when the retention of a group's offsets counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryBase {
    /// From when the group became empty.
    Emptied(i64),
    /// From the commit.
    Commit,
}

impl ExpiryBase {
    /// `None` while members may still need the offsets: only an empty group's expire, and those of topics that a stable
    /// group of consumers no longer reads.
    pub fn of(group: &ClassicGroup) -> Option<Self> {
        match (group.protocol_type(), group.state()) {
            (None, _) => Some(Self::Commit),
            (Some(_), State::Empty) => Some(group.state_timestamp().map_or(Self::Commit, Self::Emptied)),
            (Some(_), State::Stable) if group.uses_consumer_protocol() && group.knows_subscriptions() => {
                Some(Self::Commit)
            }
            (Some(_), State::Stable | State::PreparingRebalance | State::CompletingRebalance) => None,
        }
    }

    fn timestamp(&self, committed: &Committed) -> i64 {
        match self {
            Self::Emptied(at) => *at,
            Self::Commit => committed.commit_timestamp,
        }
    }
}

/// Is the note short enough? Kafka counts UTF-16 units.
pub fn check_metadata(metadata: Option<&str>, metadata_bytes_max: usize) -> Result<(), ErrorCode> {
    match metadata {
        Some(text) if text.encode_utf16().count() > metadata_bytes_max => Err(ErrorCode::OffsetMetadataTooLarge),
        Some(_) | None => Ok(()),
    }
}
