//! What the API asks about share groups.

use std::sync::Arc;

use super::GroupCoordinator;
use crate::group::consumer::Refused;
use crate::group::shard::{Lives, StatesChange};
use crate::group::share::describe::Description;
use crate::group::share::heartbeat::HeartbeatRequest;
use crate::group::share::records::StatePartitions;
use crate::protocol::error_code::ErrorCode;

impl GroupCoordinator {
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
