//! One member of a streams group, in the two halves that the log keeps: who it is, and what it owns.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tasks::OwnedTasks;

/// Where a member answers interactive queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

/// What a member told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its static id; Kafka 4.3.1 knows none yet.
    pub instance_id: Option<Arc<str>>,
    /// Where it runs.
    pub rack_id: Option<Arc<str>>,
    /// As its client calls itself.
    pub client_id: Arc<str>,
    /// Where its last heartbeat came from, as Java prints an address.
    pub client_host: Arc<str>,
    /// How long it may take to give tasks back, -1 before it said.
    pub rebalance_timeout_ms: i32,
    /// The epoch of its topology, -1 before it said.
    pub topology_epoch: i32,
    /// The process it runs in: what members of one process have in common is its state directory.
    pub process_id: Arc<str>,
    /// Where it answers queries.
    pub endpoint: Option<Endpoint>,
    /// Tags for where standbys go.
    pub client_tags: BTreeMap<Arc<str>, Arc<str>>,
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            instance_id: None,
            rack_id: None,
            client_id: "".into(),
            client_host: "".into(),
            rebalance_timeout_ms: -1,
            topology_epoch: -1,
            process_id: "".into(),
            endpoint: None,
            client_tags: BTreeMap::new(),
        }
    }
}

/// How far a member is with its assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It owns what its epoch's assignment gives it.
    Stable,
    /// It must give tasks back before its epoch can rise.
    Unrevoked,
    /// It waits for tasks that others still own.
    Unreleased,
    /// Written by a newer broker.
    Unknown(i8),
}

impl MemberState {
    /// As the log has it.
    pub fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Stable,
            2 => Self::Unrevoked,
            3 => Self::Unreleased,
            other => Self::Unknown(other),
        }
    }

    /// As the log has it.
    pub fn code(self) -> i8 {
        match self {
            Self::Stable => 1,
            Self::Unrevoked => 2,
            Self::Unreleased => 3,
            Self::Unknown(code) => code,
        }
    }
}

/// Epoch, state and tasks of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// What its heartbeats must carry.
    pub epoch: i32,
    /// The epoch before: accepted too, in case the answer with the new one was lost.
    pub previous_epoch: i32,
    /// See [`MemberState`].
    pub state: MemberState,
    /// What it owns.
    pub assigned: OwnedTasks,
    /// What it must give back.
    pub revoking: OwnedTasks,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: OwnedTasks::default(),
            revoking: OwnedTasks::default(),
        }
    }
}

impl Current {
    /// Does it own what the assignment of `epoch` gives it?
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Who it is.
    pub subscription: Subscription,
    /// What it owns.
    pub current: Current,
}
