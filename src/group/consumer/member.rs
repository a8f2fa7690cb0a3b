//! One member of a consumer group, in the two halves that the log keeps: who it is, and what it owns.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::EpochPartitions;

/// Epoch in a heartbeat of a member that joins.
pub const JOINS: i32 = 0;
/// Epoch in a heartbeat of a member that leaves.
pub const LEAVES: i32 = -1;
/// Epoch of a static member that leaves for a while; its partitions stay its own.
pub const LEAVES_FOR_NOW: i32 = -2;

/// What a member told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// Where it runs.
    pub rack_id: Option<Arc<str>>,
    /// As its client calls itself.
    pub client_id: Arc<str>,
    /// Where it last joined from, as Java prints an address.
    pub client_host: Arc<str>,
    /// The topics it names.
    pub topics: BTreeSet<Arc<str>>,
    /// The regular expression it names; empty is none.
    pub regex: Option<Arc<str>>,
    /// How long it may take to give partitions back, -1 before it said.
    pub rebalance_timeout_ms: i32,
    /// The assignor it would like.
    pub assignor: Option<Arc<str>>,
    /// Set while it speaks the classic protocol.
    pub classic: Option<ClassicMember>,
}

impl Subscription {
    /// Its regular expression if it has one.
    pub fn regex(&self) -> Option<&Arc<str>> {
        self.regex.as_ref().filter(|regex| !regex.is_empty())
    }
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            instance_id: None,
            rack_id: None,
            client_id: "".into(),
            client_host: "".into(),
            topics: BTreeSet::new(),
            regex: Some("".into()),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }
}

/// What a member of the classic protocol told beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMember {
    /// How long it lives without a heartbeat.
    pub session_timeout_ms: i32,
    /// Its protocols with their metadata, in order of preference.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// How far a member is with its assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It owns what its epoch's assignment gives it.
    Stable,
    /// It must give partitions back before its epoch can rise.
    Unrevoked,
    /// It waits for partitions that others still own.
    Unreleased,
    /// Written by a newer broker.
    Unknown(i8),
}

impl MemberState {
    /// As the log has it.
    pub fn from_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::Unrevoked,
            2 => Self::Unreleased,
            other => Self::Unknown(other),
        }
    }

    /// As the log has it.
    pub fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
            Self::Unknown(code) => code,
        }
    }
}

/// Epoch, state and partitions of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// What its heartbeats must carry.
    pub epoch: i32,
    /// The epoch before: accepted too, in case the answer with the new one was lost.
    pub previous_epoch: i32,
    /// See [`MemberState`].
    pub state: MemberState,
    /// What it owns, with the epoch at which it got each.
    pub assigned: EpochPartitions,
    /// What it must give back.
    pub revoking: EpochPartitions,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: EpochPartitions::new(),
            revoking: EpochPartitions::new(),
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

impl Member {
    /// Does it speak the classic protocol?
    pub fn is_classic(&self) -> bool {
        self.subscription.classic.is_some()
    }
}
