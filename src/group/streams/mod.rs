//! Streams groups by KIP-1071: the coordinator knows the application's topology, makes its internal topics, and assigns
//! tasks; members follow in their heartbeats.
//!
//! A [`StreamsGroup`] is the fold of its [`records`], beside deadlines and what it last saw of the metadata, which begin anew
//! after a load. Epochs drive it as they do a group of [`super::consumer`], with one more in front:
//!
//! ```text
//!  topology epoch     of the application, as the first member told it                      (topology.rs)
//!  validated epoch    follows when all topics are there and fit                            (configure.rs)
//!  group epoch        rises when members, topics, the topology or the configuration change (heartbeat.rs)
//!  assignment epoch   follows when the assignor has made a target for it                   (target.rs, assignor/)
//!  member epoch       follows when the member has let go of what the target takes          (reconcile.rs)
//! ```
//! An operation works on a [`StreamsDraft`], a copy that takes each record as it is written; the shard appends the draft's
//! records and only then puts the copy in the group's place.

pub mod assignor;
pub mod commits;
pub mod configure;
pub mod describe;
pub mod endpoints;
pub mod heartbeat;
pub mod member;
mod reconcile;
pub mod records;
mod repartition;
pub mod settings;
pub mod status;
mod target;
pub mod tasks;
pub mod topology;
mod topology_record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use self::configure::Configured;
use self::member::{Member, MemberState};
use self::records::{GroupEpoch, StreamsRecord};
use self::settings::StreamsLimits;
use self::tasks::Tasks;
use self::topology::Topology;
use super::consumer::Refused;
use super::consumer::deadlines::{Deadlines, Overdue};
use super::consumer::records::TargetEpoch;
use crate::coordinator::Now;
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

/// Its target assignment before the first, which is empty.
const FIRST_TARGET: TargetEpoch = TargetEpoch { epoch: 1, timestamp: 0 };

/// What an operation looks at beside the group.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Topics.
    pub image: &'a Arc<Image>,
    /// The times and numbers that hold for the group.
    pub limits: StreamsLimits,
    /// Where this broker, and so every replica, runs.
    pub rack: Option<&'a str>,
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
    /// Topics are missing or don't fit.
    NotReady,
    /// The target assignment is behind the group.
    Assigning,
    /// Members are behind the target.
    Reconciling,
    /// All members own what they shall.
    Stable,
}

impl State {
    /// As ListGroups and StreamsGroupDescribe call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::NotReady => "NotReady",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// One streams group. Cheap to clone: members, targets and the topology are counted references.
#[derive(Debug, Clone)]
pub struct StreamsGroup {
    id: Arc<str>,
    epoch: GroupEpoch,
    target_epoch: TargetEpoch,
    topology: Option<Arc<Topology>>,
    members: BTreeMap<Arc<str>, Arc<Member>>,
    targets: HashMap<Arc<str>, Arc<Tasks>>,
    /// The topology on the topics as they were last seen.
    configured: Option<Arc<Configured>>,
    /// Generation of the image that the metadata hash was last compared with.
    seen_image: Option<u64>,
    deadlines: Deadlines,
    /// Until then the first assignment waits for more members.
    first_target_at: Option<u64>,
    /// The member that asked that the application ends; forgotten with the last member.
    shutdown_by: Option<Arc<str>>,
    /// Rises when what members with an endpoint own changes.
    endpoint_epoch: i32,
}

impl StreamsGroup {
    /// A group without members.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: GroupEpoch::default(),
            target_epoch: FIRST_TARGET,
            topology: None,
            members: BTreeMap::new(),
            targets: HashMap::new(),
            configured: None,
            seen_image: None,
            deadlines: Deadlines::default(),
            first_target_at: None,
            shutdown_by: None,
            endpoint_epoch: 0,
        }
    }

    /// Takes over one record: the only way by which what the log keeps changes. The end of the group itself, a tombstone
    /// of [`StreamsRecord::Epoch`], is the shard's.
    pub fn apply(&mut self, record: StreamsRecord) {
        match record {
            StreamsRecord::Epoch(epoch) => self.epoch = epoch.unwrap_or_default(),
            StreamsRecord::Topology(topology) => self.topology = topology.map(Arc::new),
            StreamsRecord::Member(id, Some(subscription)) => {
                Arc::make_mut(self.members.entry(id).or_default()).subscription = subscription;
            }
            StreamsRecord::Member(id, None) => {
                self.members.remove(&id);
                self.deadlines.forget(&id);
                if self.members.is_empty() {
                    self.shutdown_by = None;
                }
            }
            StreamsRecord::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or(FIRST_TARGET),
            StreamsRecord::Target(id, Some(target)) => {
                self.targets.insert(id, Arc::new(target));
            }
            StreamsRecord::Target(id, None) => {
                self.targets.remove(&id);
            }
            StreamsRecord::Current(id, Some(current)) => {
                Arc::make_mut(self.members.entry(id).or_default()).current = current;
            }
            StreamsRecord::Current(id, None) => {
                if let Some(member) = self.members.get_mut(&id) {
                    Arc::make_mut(member).current = Default::default();
                }
            }
        }
    }

    /// See [`State`].
    pub fn state(&self) -> State {
        let validated = |topology: &Arc<Topology>| topology.epoch == self.epoch.validated_topology_epoch;
        if self.members.is_empty() {
            State::Empty
        } else if !self.topology.as_ref().is_some_and(validated) {
            State::NotReady
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

    /// Is `topic` read by members of this group?
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let topology = self.topology.as_ref().filter(|_| !self.members.is_empty());
        topology.is_some_and(|topology| topology.reader_of(topic).is_some())
    }

    /// One member; UNKNOWN_MEMBER_ID if it isn't there.
    pub fn member(&self, id: &str) -> Result<&Arc<Member>, Refused> {
        self.members.get(id).ok_or_else(|| {
            let message = format!("Member {id} is not a member of group {}.", self.id);
            Refused::new(ErrorCode::UnknownMemberId, message)
        })
    }

    /// Who learns the endpoints first begins to count them.
    pub fn begin_endpoints(&mut self) -> i32 {
        self.endpoint_epoch = 0;
        self.endpoint_epoch
    }

    fn target(&self, member_id: &str) -> Tasks {
        self.targets.get(member_id).map(|target| Tasks::clone(target)).unwrap_or_default()
    }

    /// Everything that the log must have so that a load gives this group.
    pub fn logged(&self) -> Vec<StreamsRecord> {
        let mut records = vec![StreamsRecord::Epoch(Some(self.epoch.clone()))];
        records.extend(self.topology.iter().map(|topology| StreamsRecord::Topology(Some(Topology::clone(topology)))));
        for (id, member) in &self.members {
            records.push(StreamsRecord::Member(Arc::clone(id), Some(member.subscription.clone())));
        }
        for (id, target) in &self.targets {
            records.push(StreamsRecord::Target(Arc::clone(id), Some(Tasks::clone(target))));
        }
        records.push(StreamsRecord::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            records.push(StreamsRecord::Current(Arc::clone(id), Some(member.current.clone())));
        }
        records
    }

    /// What ends the group in the log; its own record last, so that a prefix never leaves members without a group.
    pub fn tombstones(&self) -> Vec<StreamsRecord> {
        let ids = || self.members.keys().cloned();
        let mut records: Vec<_> = ids().map(|id| StreamsRecord::Current(id, None)).collect();
        records.extend(ids().map(|id| StreamsRecord::Target(id, None)));
        records.push(StreamsRecord::TargetEpoch(None));
        records.extend(ids().map(|id| StreamsRecord::Member(id, None)));
        records.extend([StreamsRecord::Topology(None), StreamsRecord::Epoch(None)]);
        records
    }

    /// All of the log is read: sessions begin, and what members must give back is due again.
    pub fn loaded(&mut self, limits: &StreamsLimits, now: Now) {
        for (id, member) in &self.members {
            let deadlines = self.deadlines.of(id);
            deadlines.session = Some(now.after_ms(limits.session_timeout_ms));
            if member.current.state == MemberState::Unrevoked {
                let at = now.after_ms(member.subscription.rebalance_timeout_ms);
                deadlines.revoke = Some((at, member.current.epoch));
            }
        }
    }

    /// When time next matters to this group.
    pub fn next_due(&self) -> Option<u64> {
        self.deadlines.next().into_iter().chain(self.first_target_at).min()
    }

    /// Members that were not heard of in time, or kept tasks too long.
    pub fn overdue(&mut self, now: Now) -> BTreeSet<Arc<str>> {
        let members = &self.members;
        let late = self.deadlines.overdue(now.mono_ms, |id| members.get(id).map(|member| member.current.epoch));
        for (member, why) in &late {
            let why = match why {
                Overdue::Revoke => "it kept tasks longer than its rebalance timeout",
                Overdue::Session | Overdue::Join | Overdue::Sync => "it was not heard of in time",
            };
            tracing::info!(group = %self.id, %member, "member of a streams group is removed: {why}");
        }
        late.into_iter().map(|(id, _)| id).collect()
    }
}

/// A group as an operation changes it, with the records that say so: the shard appends them, and only then does the group
/// count.
#[derive(Debug)]
pub struct StreamsDraft {
    /// The group with all records so far.
    pub group: StreamsGroup,
    /// What must be appended before the group counts.
    pub records: Vec<StreamsRecord>,
}

impl StreamsDraft {
    /// Of a group as it is.
    pub fn of(group: &StreamsGroup) -> Self {
        Self { group: group.clone(), records: Vec::new() }
    }

    fn write(&mut self, record: StreamsRecord) {
        self.group.apply(record.clone());
        self.records.push(record);
    }

    /// Takes members out.
    pub fn remove_members(&mut self, ids: &BTreeSet<Arc<str>>) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            self.write(StreamsRecord::Current(Arc::clone(id), None));
            self.write(StreamsRecord::Target(Arc::clone(id), None));
            self.write(StreamsRecord::Member(Arc::clone(id), None));
        }
        let epoch = self.group.epoch.epoch.saturating_add(1);
        self.write(StreamsRecord::Epoch(Some(GroupEpoch { epoch, ..self.group.epoch.clone() })));
    }

    /// A member that leaves may ask that the whole application ends.
    pub fn request_shutdown(&mut self, member: &Arc<str>) {
        self.group.shutdown_by.get_or_insert_with(|| Arc::clone(member));
    }
}

#[cfg(test)]
mod tests;
