//! Share groups (KIP-932): any number of members read the same partitions, and each record goes to one of them at a time.
//!
//! Here is who is a member and which partitions it may read; who has which record is [`crate::share`]'s. A [`ShareGroup`] is
//! the fold of its [`records`], beside sessions, which begin anew after a load. As in groups of the consumer protocol a
//! group epoch rises with members, subscriptions and topics, and the target assignment follows it; but nobody owns a
//! partition, so nothing has to be given back and a member takes the target's epoch with its next heartbeat.
//!
//! A partition is assigned once the share coordinator keeps a state for it:
//!
//! ```text
//!  subscribed ──> initializing ──the coordinator has it──> initialized ──> in the target
//! ```

mod assignor;
pub mod describe;
pub mod heartbeat;
pub mod initialize;
pub mod records;
mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use self::records::{ShareRecord, StatePartitions};
use super::consumer::records::{GroupEpoch, TargetEpoch};
use super::consumer::{Partitions, Refused};
use crate::coordinator::Now;
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;
use crate::share::settings::ShareLimits;

/// Name of the one assignor.
pub const ASSIGNOR: &str = "simple";

/// Of a group of which the log says nothing yet.
const FIRST_EPOCH: GroupEpoch = GroupEpoch { epoch: 0, metadata_hash: 0 };
/// Its target assignment, which is empty.
const FIRST_TARGET: TargetEpoch = TargetEpoch { epoch: 0, timestamp: 0 };

/// What an operation looks at beside the group.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Topics.
    pub image: &'a Arc<Image>,
    /// The times and numbers that hold for the group.
    pub limits: ShareLimits,
    /// Where this broker, and so every replica, runs.
    pub rack: Option<&'a str>,
    /// Most members of a group.
    pub size_max: usize,
    /// The moment.
    pub now: Now,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Who it is.
    pub subscription: Subscription,
    /// What it may read.
    pub current: Current,
}

/// What a member told about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    /// Where it runs.
    pub rack_id: Option<Arc<str>>,
    /// As its client calls itself.
    pub client_id: Arc<str>,
    /// Where it last joined from, as Java prints an address.
    pub client_host: Arc<str>,
    /// The topics it names.
    pub topics: BTreeSet<Arc<str>>,
}

/// Epoch and partitions of a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Current {
    /// What its heartbeats must carry.
    pub epoch: i32,
    /// The epoch before: accepted too, in case the answer with the new one was lost.
    pub previous_epoch: i32,
    /// What it may read.
    pub assigned: Partitions,
}

/// One share group. Cheap to clone: members and targets are counted references.
#[derive(Debug, Clone)]
pub struct ShareGroup {
    id: Arc<str>,
    epoch: GroupEpoch,
    target_epoch: TargetEpoch,
    members: BTreeMap<Arc<str>, Arc<Member>>,
    targets: HashMap<Arc<str>, Arc<Partitions>>,
    /// The partitions that the share coordinator keeps, or is to keep or to forget.
    states: Arc<StatePartitions>,
    /// Monotonic ends of the members' sessions.
    sessions: HashMap<Arc<str>, u64>,
    /// Generation of the image that the metadata hash was last compared with.
    seen_image: Option<u64>,
    /// What was last found out about the partitions that members subscribe to.
    lacks: Option<initialize::Lacks>,
}

impl ShareGroup {
    /// A group without members.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: FIRST_EPOCH,
            target_epoch: FIRST_TARGET,
            members: BTreeMap::new(),
            targets: HashMap::new(),
            states: Arc::default(),
            sessions: HashMap::new(),
            seen_image: None,
            lacks: None,
        }
    }

    /// Takes over one record: the only way by which what the log keeps changes. The end of the group itself, a tombstone
    /// of [`ShareRecord::Epoch`], is the shard's.
    pub fn apply(&mut self, record: ShareRecord) {
        if !matches!(record, ShareRecord::Epoch(_) | ShareRecord::TargetEpoch(_) | ShareRecord::Current(..)) {
            self.lacks = None;
        }
        match record {
            ShareRecord::Epoch(epoch) => self.epoch = epoch.unwrap_or(FIRST_EPOCH),
            ShareRecord::Member(id, Some(subscription)) => {
                Arc::make_mut(self.members.entry(id).or_default()).subscription = subscription;
            }
            ShareRecord::Member(id, None) => {
                self.members.remove(&id);
                self.sessions.remove(&id);
            }
            ShareRecord::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or(FIRST_TARGET),
            ShareRecord::Target(id, Some(target)) => {
                self.targets.insert(id, Arc::new(target));
            }
            ShareRecord::Target(id, None) => {
                self.targets.remove(&id);
            }
            ShareRecord::Current(id, Some(current)) => {
                Arc::make_mut(self.members.entry(id).or_default()).current = current;
            }
            ShareRecord::Current(id, None) => {
                if let Some(member) = self.members.get_mut(&id) {
                    Arc::make_mut(member).current = Current::default();
                }
            }
            ShareRecord::States(states) => self.states = Arc::new(states.unwrap_or_default()),
        }
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The state's name as ListGroups and ShareGroupDescribe call it: a share group never rebalances.
    pub fn state_name(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    /// Has it no members?
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Is `topic` read by members of this group?
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.subscription.topics.contains(topic))
    }

    /// The partitions that the share coordinator keeps for it.
    pub fn states(&self) -> &StatePartitions {
        &self.states
    }

    /// One member; UNKNOWN_MEMBER_ID if it isn't there.
    pub fn member(&self, id: &str) -> Result<&Arc<Member>, Refused> {
        self.members.get(id).ok_or_else(|| {
            let message = format!("Member {id} is not a member of group {}.", self.id);
            Refused::new(ErrorCode::UnknownMemberId, message)
        })
    }

    fn target(&self, member_id: &str) -> Option<&Arc<Partitions>> {
        self.targets.get(member_id)
    }

    /// Everything that the log must have so that a load gives this group.
    pub fn logged(&self) -> Vec<ShareRecord> {
        let mut records = vec![ShareRecord::Epoch(Some(self.epoch))];
        for (id, member) in &self.members {
            records.push(ShareRecord::Member(Arc::clone(id), Some(member.subscription.clone())));
        }
        for (id, target) in &self.targets {
            records.push(ShareRecord::Target(Arc::clone(id), Some(Partitions::clone(target))));
        }
        records.push(ShareRecord::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            records.push(ShareRecord::Current(Arc::clone(id), Some(member.current.clone())));
        }
        if !self.states.is_empty() {
            records.push(ShareRecord::States(Some(StatePartitions::clone(&self.states))));
        }
        records
    }

    /// What ends the group in the log; its own record last, so that a prefix never leaves members without a group.
    pub fn tombstones(&self) -> Vec<ShareRecord> {
        let ids = || self.members.keys().cloned();
        let mut records: Vec<_> = ids().map(|id| ShareRecord::Current(id, None)).collect();
        records.extend(ids().map(|id| ShareRecord::Target(id, None)));
        records.push(ShareRecord::TargetEpoch(None));
        records.extend(ids().map(|id| ShareRecord::Member(id, None)));
        records.extend([ShareRecord::States(None), ShareRecord::Epoch(None)]);
        records
    }

    /// All of the log is read: sessions begin.
    pub fn loaded(&mut self, limits: &ShareLimits, now: Now) {
        let session_at = now.after_ms(limits.session_timeout_ms);
        self.sessions = self.members.keys().map(|id| (Arc::clone(id), session_at)).collect();
    }

    /// When time next matters to this group.
    pub fn next_due(&self) -> Option<u64> {
        self.sessions.values().min().copied()
    }

    /// Members that were not heard of in time.
    pub fn overdue(&self, now: Now) -> BTreeSet<Arc<str>> {
        let late = self.sessions.iter().filter(|(_, at)| **at <= now.mono_ms).map(|(id, _)| Arc::clone(id));
        let late: BTreeSet<_> = late.collect();
        for member in &late {
            tracing::info!(group = %self.id, %member, "member of a share group was not heard of in time and is removed");
        }
        late
    }
}

/// A group as an operation changes it, with the records that say so: the shard appends them, and only then does the group
/// count.
#[derive(Debug)]
pub struct ShareDraft {
    /// The group with all records so far.
    pub group: ShareGroup,
    /// What must be appended before the group counts.
    pub records: Vec<ShareRecord>,
}

impl ShareDraft {
    /// Of a group as it is.
    pub fn of(group: &ShareGroup) -> Self {
        Self { group: group.clone(), records: Vec::new() }
    }

    /// Of a group that begins without members.
    pub fn begun(id: Arc<str>) -> Self {
        let mut draft = Self { group: ShareGroup::new(id), records: Vec::new() };
        draft.write(ShareRecord::Epoch(Some(FIRST_EPOCH)));
        draft
    }

    fn write(&mut self, record: ShareRecord) {
        self.group.apply(record.clone());
        self.records.push(record);
    }
}

#[cfg(test)]
mod tests;
