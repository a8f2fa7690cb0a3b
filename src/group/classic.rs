//! One classic group: the state machine of JoinGroup, SyncGroup, Heartbeat and LeaveGroup, without I/O or clock.
//!
//! ```text
//!          join                    all joined, or the rebalance timeout
//!  Empty ────────▶ PreparingRebalance ────────────▶ CompletingRebalance ──── leader syncs ────▶ Stable
//!    ▲                 │         ▲                        │    ▲                                  │
//!    └── last leaves ──┘         └──── member joins, leaves, expires, or doesn't sync in time ────┘
//! ```
//! What the log keeps of a group ([`GroupMetadata`]) changes at three moments: the group becomes empty, its leader's
//! assignment arrives, or a static member returns under a new id. An operation then sets [`Out::write`]; the shard
//! appends the record and only then takes over the changed group through [`ClassicGroup::absorb`], the same function that
//! loading uses. A rebalance in progress is not in the log: after a restart the members of the last generation are
//! there again and join anew, as in Kafka.
//!
//! Kafka's Dead state is the absence of the group here.

mod describe;
mod join;
mod membership;
mod protocols;
mod rebalance;
mod sync;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;

pub use describe::{DescribedMember, Description};
pub use join::{JoinRequest, Joined, JoinedMember};
pub use membership::{HeartbeatRequest, Leaving};
pub use sync::{SyncRequest, Synced};

use super::records::{GroupMetadata, MemberMetadata};
use crate::coordinator::Now;

/// The protocol type whose metadata names topics.
pub const CONSUMER_PROTOCOL: &str = "consumer";

/// Names the waiting answer of one request; the shard knows whose it is.
pub type ReplyId = u64;

/// An answer that may have waited for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a JoinGroup.
    Join(Joined),
    /// To a SyncGroup.
    Sync(Synced),
}

/// What an operation wants done besides the change of the group.
#[derive(Debug, Default)]
pub struct Out {
    /// Answers that are ready, each once.
    pub answers: Vec<(ReplyId, Answer)>,
    /// The group must be appended to the log before anything of the change counts.
    pub write: bool,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No members; offsets may be committed by anyone.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// All have joined, the leader's assignment is awaited.
    CompletingRebalance,
    /// All have their assignment.
    Stable,
}

impl State {
    /// As ListGroups and DescribeGroups call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    instance_id: Option<Arc<str>>,
    client_id: Arc<str>,
    client_host: Arc<str>,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    /// In the member's order of preference.
    protocols: Vec<(Arc<str>, Bytes)>,
    assignment: Bytes,
    /// Joined, but no rebalance has completed with it: it expires even while it waits for its JoinGroup answer.
    is_new: bool,
    awaiting_join: Option<ReplyId>,
    awaiting_sync: Option<ReplyId>,
    /// When it is removed unless it is heard of; none while a rebalance keeps its answer.
    expires_at: Option<u64>,
}

impl Member {
    /// Its metadata for `protocol`.
    fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| &**name == protocol).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }
}

/// How the wait for joining members ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JoinWait {
    /// The first rebalance of an empty group: a delay that grows while members keep coming.
    Initial { at: u64, delay_ms: i32, remaining_ms: i32 },
    /// The rebalance timeout.
    Timeout { at: u64 },
}

/// The protocols of each member, in its order of preference.
pub type Protocols = Vec<(Arc<str>, Vec<(Arc<str>, Bytes)>)>;

/// One classic group. Cheap to clone: members are counted references.
#[derive(Debug, Clone)]
pub struct ClassicGroup {
    id: Arc<str>,
    state: State,
    previous: State,
    /// When the state last changed; unknown for groups that only old records know.
    state_timestamp: Option<i64>,
    generation: i32,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    /// By member id, in order of joining.
    members: IndexMap<Arc<str>, Arc<Member>>,
    /// Instance id to member id.
    static_members: HashMap<Arc<str>, Arc<str>>,
    /// Ids handed out by MEMBER_ID_REQUIRED, and when they lapse.
    pending_join: BTreeMap<Arc<str>, u64>,
    /// Members of this generation whose SyncGroup has not come.
    pending_sync: BTreeSet<Arc<str>>,
    /// Topics of the members' subscriptions; `None` when they cannot be known.
    subscribed: Option<BTreeSet<Arc<str>>>,
    new_member_added: bool,
    join_wait: Option<JoinWait>,
    /// When members that have not synced are removed.
    sync_deadline: Option<u64>,
}

impl ClassicGroup {
    /// A group without members.
    pub fn new(id: Arc<str>, now: Now) -> Self {
        Self {
            id,
            state: State::Empty,
            previous: State::Empty,
            state_timestamp: Some(now.wall_ms),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: IndexMap::new(),
            static_members: HashMap::new(),
            pending_join: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            subscribed: None,
            new_member_added: false,
            join_wait: None,
            sync_deadline: None,
        }
    }

    /// The state that `logged` describes. With `live` given, which is the group that wrote it, everything that the log
    /// doesn't keep stays as it is there: waiting answers, deadlines, the members' other protocols.
    pub fn absorb(id: &Arc<str>, logged: &GroupMetadata, live: Option<Self>, now: Now) -> Self {
        let mut group = match live {
            // The log keeps nothing of a rebalance in progress.
            Some(live) if matches!(live.state, State::PreparingRebalance | State::CompletingRebalance) => return live,
            Some(live) => live,
            None => Self::new(Arc::clone(id), now),
        };
        group.generation = logged.generation;
        group.protocol_type = Some(Arc::clone(&logged.protocol_type)).filter(|name| !name.is_empty());
        group.protocol = logged.protocol.clone();
        group.leader = logged.leader.clone();
        group.state_timestamp = Some(logged.state_timestamp).filter(|&at| at != -1);
        group.state = if logged.members.is_empty() { State::Empty } else { State::Stable };
        let known = std::mem::take(&mut group.members);
        group.static_members.clear();
        for member in &logged.members {
            let id = Arc::clone(&member.member_id);
            if let Some(instance_id) = &member.instance_id {
                group.static_members.insert(Arc::clone(instance_id), Arc::clone(&id));
            }
            let loaded = Member::loaded(member, logged.protocol.as_ref(), known.get(&id), now);
            group.members.insert(id, Arc::new(loaded));
        }
        group.subscribed = group.subscribed_by_members();
        group
    }

    /// What the log keeps of it.
    pub fn logged(&self) -> GroupMetadata {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| MemberMetadata {
            member_id: Arc::clone(id),
            instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_timestamp.unwrap_or(-1),
            members: members.collect(),
        }
    }

    /// What the log gets of a group at its birth, whatever its first request did to it.
    pub fn logged_at_birth(&self) -> GroupMetadata {
        GroupMetadata {
            protocol_type: "".into(),
            generation: 0,
            protocol: None,
            leader: None,
            state_timestamp: self.state_timestamp.unwrap_or(-1),
            members: Vec::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// All protocols of one member, in its order of preference.
    pub fn protocols_of(&self, member_id: &str) -> Vec<(Arc<str>, Bytes)> {
        self.members.get(member_id).map(|member| member.protocols.clone()).unwrap_or_default()
    }

    /// Gives members that came from a consumer group all their protocols, of which the log keeps the chosen one.
    pub fn restore_protocols(&mut self, protocols: Protocols) {
        for (id, protocols) in protocols {
            if let Some(member) = self.member_mut(&id) {
                member.protocols = protocols;
            }
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The type of its members' protocols, none while it has had no member.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// When its state last changed.
    pub fn state_timestamp(&self) -> Option<i64> {
        self.state_timestamp
    }

    /// Does nothing hold it but its offsets?
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Has it neither members nor anyone who was promised to become one?
    pub fn is_idle(&self) -> bool {
        self.is_empty() && self.pending_join.is_empty()
    }

    /// Number of members.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    fn transition(&mut self, state: State, now: Now) {
        self.previous = self.state;
        self.state = state;
        self.state_timestamp = Some(now.wall_ms);
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn member_mut(&mut self, member_id: &str) -> Option<&mut Member> {
        self.members.get_mut(member_id).map(Arc::make_mut)
    }

    /// How long a rebalance waits: as long as its most patient member asks.
    fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }
}

impl Member {
    fn loaded(logged: &MemberMetadata, protocol: Option<&Arc<str>>, live: Option<&Arc<Self>>, now: Now) -> Self {
        let rebalance_timeout_ms = match logged.rebalance_timeout_ms {
            -1 => logged.session_timeout_ms,
            timeout_ms => timeout_ms,
        };
        let volatile = live.map(|live| (**live).clone()).unwrap_or_else(|| Self {
            instance_id: None,
            client_id: "".into(),
            client_host: "".into(),
            rebalance_timeout_ms,
            session_timeout_ms: logged.session_timeout_ms,
            protocols: vec![(protocol.cloned().unwrap_or_default(), logged.subscription.clone())],
            assignment: Bytes::new(),
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
            expires_at: Some(now.after_ms(logged.session_timeout_ms)),
        });
        Self {
            instance_id: logged.instance_id.clone(),
            client_id: Arc::clone(&logged.client_id),
            client_host: Arc::clone(&logged.client_host),
            rebalance_timeout_ms,
            session_timeout_ms: logged.session_timeout_ms,
            assignment: logged.assignment.clone(),
            ..volatile
        }
    }
}

#[cfg(test)]
mod tests;
