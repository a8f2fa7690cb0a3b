//! What the API asks about share groups.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::GroupCoordinator;
use crate::group::consumer::Refused;
use crate::group::shard::{Lives, StatesChange};
use crate::group::share::describe::Description;
use crate::group::share::heartbeat::HeartbeatRequest;
use crate::group::share::records::StatePartitions;
use crate::protocol::error_code::ErrorCode;

/// So many groups' turns are kept without asking who waits for them.
const LEAST_TURNS: usize = 64;

/// Nobody else changes the states of the group's partitions while this is held.
#[derive(Debug)]
pub struct StatesTurn {
    group: Arc<str>,
    _held: OwnedMutexGuard<()>,
}

impl StatesTurn {
    /// The group.
    pub fn group(&self) -> &Arc<str> {
        &self.group
    }
}

/// The turns of all groups; each is kept by those who have it or wait for it.
#[derive(Debug, Default)]
pub(super) struct StatesTurns {
    of: HashMap<Arc<str>, Weak<Turn<()>>>,
    /// When so many are known, those that nobody keeps go.
    to_sweep: usize,
}

impl StatesTurns {
    fn of(&mut self, group: &Arc<str>) -> Arc<Turn<()>> {
        if let Some(turn) = self.of.get(group).and_then(Weak::upgrade) {
            return turn;
        }
        if self.of.len() >= self.to_sweep {
            self.of.retain(|_, turn| turn.strong_count() > 0);
            self.to_sweep = (2 * self.of.len()).max(LEAST_TURNS);
        }
        let turn = Arc::default();
        self.of.insert(Arc::clone(group), Arc::downgrade(&turn));
        turn
    }
}

impl GroupCoordinator {
    /// Waits until nobody else changes the states of a group's partitions.
    pub async fn states_turn(&self, group: &Arc<str>) -> StatesTurn {
        let turn = self.states_turns.lock().unwrap_or_else(PoisonError::into_inner).of(group);
        StatesTurn { group: Arc::clone(group), _held: turn.lock_owned().await }
    }

    /// ShareGroupHeartbeat.
    pub async fn share_heartbeat(&self, request: HeartbeatRequest) -> Result<Lives, Refused> {
        request.check()?;
        let group = Arc::clone(&request.group);
        self.shards.ask(&group, move |shard, to, now| shard.share_heartbeat(&request, to, now)).await?
    }

    /// ShareGroupDescribe of one group.
    pub async fn describe_shares(&self, group: Arc<str>) -> Result<Description, Refused> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId.into());
        }
        let of = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, _| shard.describe_shares(&of, to)).await?
    }

    /// The partitions whose states are kept for a share group; with `only_empty` NON_EMPTY_GROUP while it has members.
    pub async fn share_states(&self, group: Arc<str>, only_empty: bool) -> Result<StatePartitions, Refused> {
        let of = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, _| shard.share_states(&of, only_empty, to)).await?
    }

    /// Is there no group of this name?
    pub async fn is_free(&self, group: &Arc<str>) -> Result<bool, ErrorCode> {
        let of = Arc::clone(group);
        self.shards.ask(group, move |shard, to, _| shard.is_free(&of, to)).await
    }

    /// Writes what has become of the states of partitions.
    pub async fn change_share_states(&self, group: Arc<str>, change: StatesChange) -> Result<(), ErrorCode> {
        let of = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, now| shard.change_share_states(&of, change, to, now)).await?
    }
}
