//! Consumer groups by KIP-848: the coordinator assigns, members follow in their heartbeats.
//!
//! A [`ConsumerGroup`] is the fold of its [`records`], beside deadlines and what it last saw of the metadata, which begin
//! anew after a load. Three epochs drive it:
//!
//! ```text
//!  group epoch        rises when members, subscriptions or subscribed topics change   (subscriptions.rs)
//!  assignment epoch   follows when the assignor has made a target for it               (target.rs)
//!  member epoch       follows when the member has let go of what the target takes      (reconcile.rs)
//! ```
//! An operation works on a [`Draft`], a copy that takes each record as it is written; the shard appends the draft's records
//! and only then puts the copy in the group's place. So an append that fails changes nothing, and what an operation did is
//! what loading its records does.
//!
//! Members of the classic protocol may be in the group too while it migrates ([`classic_members`], [`migration`]).

pub mod assignor;
pub mod classic_members;
pub mod commits;
pub mod deadlines;
pub mod describe;
mod draft;
pub mod heartbeat;
pub mod leave;
pub mod member;
pub mod migration;
mod reconcile;
pub mod records;
pub mod regex;
pub mod settings;
mod subscriptions;
mod target;
pub mod topic_hash;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

pub use draft::Draft;

use self::assignor::Assignor;
use self::deadlines::Deadlines;
use self::member::{Current, Member};
use self::records::{ConsumerRecord, GroupEpoch, Resolved, TargetEpoch};
use self::settings::GroupLimits;
use super::new_topics::NewTopics;
use crate::coordinator::Now;
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

/// Partitions by topic id.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;
/// Partitions by topic id, each with the member epoch at which it was assigned.
pub type EpochPartitions = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// Of a group of which the log says nothing yet. A member's epoch of 0 means that it joins, so a group begins at 1.
const FIRST_EPOCH: GroupEpoch = GroupEpoch { epoch: 1, metadata_hash: 0 };
/// Its target assignment, which is empty.
const FIRST_TARGET: TargetEpoch = TargetEpoch { epoch: 1, timestamp: 0 };

/// A request that is refused, and why, as Kafka says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: ErrorCode,
    /// The text, where the answer has a place for it.
    pub message: String,
}

impl Refused {
    /// With a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: String::new() }
    }
}

/// What an operation looks at beside the group.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Topics, and the group's configuration.
    pub image: &'a Arc<Image>,
    /// When topics last appeared: expressions are resolved anew after it.
    pub new_topics: &'a NewTopics,
    /// The times that hold for the group.
    pub limits: GroupLimits,
    /// Where this broker, and so every replica, runs.
    pub rack: Option<&'a str>,
    /// How old a resolved expression may become.
    pub regex_refresh_interval_ms: i64,
    /// For groups whose members ask for none.
    pub default_assignor: Assignor,
    /// Most members of a group.
    pub size_max: usize,
    /// The moment.
    pub now: Now,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No members.
    Empty,
    /// The target assignment is behind the group.
    Assigning,
    /// Members are behind the target.
    Reconciling,
    /// All members own what they shall.
    Stable,
}

impl State {
    /// As ListGroups and ConsumerGroupDescribe call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// One consumer group. Cheap to clone: members and targets are counted references.
#[derive(Debug, Clone)]
pub struct ConsumerGroup {
    id: Arc<str>,
    epoch: GroupEpoch,
    target_epoch: TargetEpoch,
    members: BTreeMap<Arc<str>, Arc<Member>>,
    /// Instance id to member id.
    static_members: HashMap<Arc<str>, Arc<str>>,
    targets: HashMap<Arc<str>, Arc<Partitions>>,
    /// The epoch of the member that owns, or gives back, each partition.
    owner_epochs: HashMap<(Uuid, i32), i32>,
    /// What the members' expressions resolved to.
    resolved: BTreeMap<Arc<str>, Resolved>,
    /// The log has topic metadata in the form before Kafka 4.1.
    has_partition_metadata: bool,
    deadlines: Deadlines,
    /// Generation of the image that the metadata hash was last compared with.
    seen_image: Option<u64>,
}

impl ConsumerGroup {
    /// A group without members.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: FIRST_EPOCH,
            target_epoch: FIRST_TARGET,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            targets: HashMap::new(),
            owner_epochs: HashMap::new(),
            resolved: BTreeMap::new(),
            has_partition_metadata: false,
            deadlines: Deadlines::default(),
            seen_image: None,
        }
    }

    /// Takes over one record: the only way by which what the log keeps changes. The end of the group itself, a tombstone
    /// of [`ConsumerRecord::Epoch`], is the shard's.
    pub fn apply(&mut self, record: ConsumerRecord) {
        match record {
            ConsumerRecord::Epoch(epoch) => self.epoch = epoch.unwrap_or(FIRST_EPOCH),
            ConsumerRecord::PartitionMetadata(metadata) => self.has_partition_metadata = metadata.is_some(),
            ConsumerRecord::Member(id, Some(subscription)) => {
                if let Some(instance_id) = &subscription.instance_id {
                    self.static_members.insert(Arc::clone(instance_id), Arc::clone(&id));
                }
                Arc::make_mut(self.members.entry(id).or_default()).subscription = subscription;
            }
            ConsumerRecord::Member(id, None) => self.remove(&id),
            ConsumerRecord::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or(FIRST_TARGET),
            ConsumerRecord::Target(id, Some(target)) => {
                self.targets.insert(id, Arc::new(target));
            }
            ConsumerRecord::Target(id, None) => {
                self.targets.remove(&id);
            }
            ConsumerRecord::Current(id, Some(current)) => {
                Arc::make_mut(self.members.entry(Arc::clone(&id)).or_default());
                self.set_current(&id, current);
            }
            // The member's own tombstone follows; until then it owns nothing.
            ConsumerRecord::Current(id, None) => {
                self.set_current(&id, Current { epoch: member::LEAVES, ..Current::default() });
            }
            ConsumerRecord::Regex(expression, Some(resolved)) => {
                self.resolved.insert(expression, resolved);
            }
            ConsumerRecord::Regex(expression, None) => {
                self.resolved.remove(&expression);
            }
        }
    }

    fn remove(&mut self, id: &str) {
        self.set_current(id, Current::default());
        self.deadlines.forget(id);
        if let Some(instance_id) = self.members.remove(id).and_then(|member| member.subscription.instance_id.clone())
            && self.static_members.get(&instance_id).is_some_and(|current| &**current == id)
        {
            self.static_members.remove(&instance_id);
        }
    }

    fn set_current(&mut self, id: &str, current: Current) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = &member.current;
        for key in partitions(&before.assigned).chain(partitions(&before.revoking)) {
            // Another member may own it already at another epoch.
            if self.owner_epochs.get(&key) == Some(&before.epoch) {
                self.owner_epochs.remove(&key);
            }
        }
        for key in partitions(&current.assigned).chain(partitions(&current.revoking)) {
            let epoch = self.owner_epochs.entry(key).or_insert(current.epoch);
            *epoch = current.epoch.max(*epoch);
        }
        Arc::make_mut(member).current = current;
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        if self.members.is_empty() {
            State::Empty
        } else if self.epoch.epoch > self.target_epoch.epoch {
            State::Assigning
        } else if self.members.values().all(|member| member.current.is_reconciled_to(self.target_epoch.epoch)) {
            State::Stable
        } else {
            State::Reconciling
        }
    }

    /// Has it no members?
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Number of members.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// One member.
    pub fn member(&self, id: &str) -> Option<&Arc<Member>> {
        self.members.get(id)
    }

    /// Is `topic` read by members of this group?
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.subscription.topics.contains(topic))
            || self.resolved.values().any(|resolved| resolved.topics.contains(topic))
    }

    /// The member with this static id.
    fn static_member(&self, instance_id: &str) -> Option<(&Arc<str>, &Arc<Member>)> {
        self.members.get_key_value(self.static_members.get(instance_id)?)
    }

    fn known_member(&self, id: &str) -> Result<&Arc<Member>, Refused> {
        self.members.get(id).ok_or_else(|| {
            let message = format!("Member {id} is not a member of group {}.", self.id);
            Refused::new(ErrorCode::UnknownMemberId, message)
        })
    }

    fn target(&self, member_id: &str) -> Option<&Arc<Partitions>> {
        self.targets.get(member_id)
    }

    /// Everything that the log must have so that a load gives this group.
    pub fn logged(&self) -> Vec<ConsumerRecord> {
        let mut records = vec![ConsumerRecord::Epoch(Some(self.epoch))];
        if self.has_partition_metadata {
            records.push(ConsumerRecord::PartitionMetadata(Some(())));
        }
        for (id, member) in &self.members {
            records.push(ConsumerRecord::Member(Arc::clone(id), Some(member.subscription.clone())));
        }
        for (id, target) in &self.targets {
            records.push(ConsumerRecord::Target(Arc::clone(id), Some(Partitions::clone(target))));
        }
        records.push(ConsumerRecord::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            records.push(ConsumerRecord::Current(Arc::clone(id), Some(member.current.clone())));
        }
        for (expression, resolved) in &self.resolved {
            records.push(ConsumerRecord::Regex(Arc::clone(expression), Some(resolved.clone())));
        }
        records
    }

    /// What ends the group in the log; its own record last, so that a prefix never leaves members without a group.
    pub fn tombstones(&self) -> Vec<ConsumerRecord> {
        let ids = || self.members.keys().cloned();
        let mut records: Vec<_> = ids().map(|id| ConsumerRecord::Current(id, None)).collect();
        records.extend(ids().map(|id| ConsumerRecord::Target(id, None)));
        records.push(ConsumerRecord::TargetEpoch(None));
        records.extend(ids().map(|id| ConsumerRecord::Member(id, None)));
        records.extend(self.resolved.keys().map(|expression| ConsumerRecord::Regex(Arc::clone(expression), None)));
        records.extend([ConsumerRecord::PartitionMetadata(None), ConsumerRecord::Epoch(None)]);
        records
    }

    /// All of the log is read: sessions begin, and who was giving partitions back has its time for it again.
    pub fn loaded(&mut self, limits: &GroupLimits, now: Now) {
        let session_at = now.after_ms(limits.session_timeout_ms);
        for (id, member) in &self.members {
            self.deadlines.of(id).session = Some(session_at);
            if member.current.state == member::MemberState::Unrevoked {
                let until = now.after_ms(member.subscription.rebalance_timeout_ms);
                self.deadlines.of(id).revoke = Some((until, member.current.epoch));
            }
        }
    }

    /// When time next matters to this group.
    pub fn next_due(&self) -> Option<u64> {
        self.deadlines.next()
    }
}

fn partitions(topics: &EpochPartitions) -> impl Iterator<Item = (Uuid, i32)> {
    topics.iter().flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
}

#[cfg(test)]
pub(super) mod tests;
