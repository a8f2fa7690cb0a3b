//! What the API asks about streams groups.

use std::sync::Arc;

use super::GroupCoordinator;
use crate::group::consumer::Refused;
use crate::group::streams::describe::Description;
use crate::group::streams::heartbeat::{HeartbeatAnswer, HeartbeatRequest};
use crate::protocol::error_code::ErrorCode;

impl GroupCoordinator {
    /// StreamsGroupHeartbeat.
    pub async fn streams_heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatAnswer, Refused> {
        request.check()?;
        let group = Arc::clone(&request.group);
        self.shards.ask(&group, move |shard, to, now| shard.streams_heartbeat(&request, to, now)).await?
    }

    /// StreamsGroupDescribe of one group.
    pub async fn describe_streams(&self, group: Arc<str>) -> Result<Description, Refused> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId.into());
        }
        let of = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, _| shard.describe_streams(&of, to)).await?
    }
}
