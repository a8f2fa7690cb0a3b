//! What the API asks about groups: bounds that need no group are checked here, the rest is the group's shard's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::classic::{Description, HeartbeatRequest, JoinRequest, Joined, Leaving, SyncRequest, Synced};
use super::consumer::Refused;
use super::consumer::describe::Description as ConsumerDescription;
use super::consumer::heartbeat::{HeartbeatAnswer, HeartbeatRequest as ConsumerHeartbeat};
use super::internal_topic::OFFSETS_TOPIC;
use super::offsets::{CommitRequest, FetchRequest, FetchedTopic};
use super::shard::{GroupContext, Listed, Shard};
use crate::coordinator::journal::OpenTransaction;
use crate::coordinator::{Outcomes, Shards, ShardsDeps};
use crate::partition::append::AppendError;
use crate::partition::producers::VerificationGuard;
use crate::partition::transactions::EndMarker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::ProducerId;

mod shares;
mod streams;

pub use self::shares::StatesTurn;

/// Why a marker was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkerError {
    /// The shard that owns the partition is not here or loads.
    Shard(ErrorCode),
    /// The partition refused it.
    Append(AppendError),
}

impl MarkerError {
    /// What the one who sent the marker is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Shard(error) => *error,
            Self::Append(error) => error.code(),
        }
    }
}

/// All groups of this node.
pub struct GroupCoordinator {
    shards: Arc<Shards<Shard>>,
    states_turns: Mutex<shares::StatesTurns>,
}

impl GroupCoordinator {
    /// A coordinator whose shards are not started.
    pub fn new(deps: ShardsDeps, context: GroupContext) -> Arc<Self> {
        Arc::new(Self { shards: Shards::new(deps, Arc::new(context)), states_turns: Mutex::default() })
    }

    /// Starts the shards that the image knows, and follows it from now on.
    pub fn start(&self) {
        self.shards.start();
    }

    /// Are all shards loaded, so that the node is ready?
    pub fn is_loaded(&self) -> bool {
        self.shards.is_loaded()
    }

    /// Makes sure that groups have a place to be: what FindCoordinator asks. COORDINATOR_NOT_AVAILABLE if that fails.
    pub async fn find(&self) -> Result<(), ErrorCode> {
        self.shards.find().await
    }

    /// The partition of `__consumer_offsets` that keeps `group`.
    pub fn offsets_partition(&self, group: &str) -> (Arc<str>, i32) {
        (OFFSETS_TOPIC.into(), self.shards.partition_of(group))
    }

    /// JoinGroup; the answer may take as long as the rebalance.
    pub async fn join(&self, request: JoinRequest) -> Joined {
        let member_id = Arc::clone(&request.member_id);
        let bounds = &self.shards.context().group;
        if request.group.is_empty() {
            return Joined::refused(member_id, ErrorCode::InvalidGroupId);
        }
        if !(bounds.session_timeout_ms_min..=bounds.session_timeout_ms_max).contains(&request.session_timeout_ms) {
            return Joined::refused(member_id, ErrorCode::InvalidSessionTimeout);
        }
        let group = Arc::clone(&request.group);
        let joined = self.shards.ask(&group, move |shard, to, now| shard.join(&request, to, now)).await;
        joined.unwrap_or_else(|error| Joined::refused(member_id, error))
    }

    /// SyncGroup; a follower's answer waits for the leader's.
    pub async fn sync(&self, request: SyncRequest) -> Synced {
        if request.group.is_empty() {
            return Synced::refused(ErrorCode::InvalidGroupId);
        }
        let group = Arc::clone(&request.group);
        let synced = self.shards.ask(&group, move |shard, to, now| shard.sync(&request, to, now)).await;
        synced.unwrap_or_else(Synced::refused)
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<(), ErrorCode> {
        if request.group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let group = Arc::clone(&request.group);
        let outcome = self.shards.ask(&group, move |shard, to, now| shard.heartbeat(&request, to, now)).await;
        match outcome.and_then(|outcome| outcome) {
            // A member of a loading group must not be told to join anew; its next heartbeat finds the group.
            Err(ErrorCode::CoordinatorLoadInProgress) => Ok(()),
            outcome => outcome,
        }
    }

    /// LeaveGroup.
    pub async fn leave(&self, group: Arc<str>, leaving: Vec<Leaving>) -> Outcomes {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let to_leave = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, now| shard.leave(&to_leave, &leaving, to, now)).await?
    }

    /// OffsetCommit. One that is not durable in time counts as COORDINATOR_NOT_AVAILABLE; it may become so later.
    pub async fn commit(&self, request: CommitRequest) -> Outcomes {
        let within = Duration::from_millis(self.shards.context().offsets.commit_timeout_ms);
        let group = Arc::clone(&request.group);
        let asked = self.shards.ask(&group, move |shard, to, now| shard.commit(&request, to, now));
        tokio::time::timeout(within, asked).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))?
    }

    /// Before a TxnOffsetCommit: the guard that it needs, and with it the question to the transaction's coordinator;
    /// `None` when the transaction is open in the group's partition.
    pub async fn begin_verification(
        &self,
        group: &str,
        producer: (ProducerId, i16),
        supports_epoch_bump: bool,
    ) -> Result<Option<VerificationGuard>, ErrorCode> {
        let asked = self.shards.ask(group, move |shard, to, _| {
            shard.begin_verification(producer, supports_epoch_bump, to);
        });
        asked.await?
    }

    /// TxnOffsetCommit of a producer whose transaction has the group's partition. One that is not durable in time counts
    /// as COORDINATOR_NOT_AVAILABLE; it may become so later.
    pub async fn commit_transactional(&self, request: CommitRequest, transaction: OpenTransaction) -> Outcomes {
        let within = Duration::from_millis(self.shards.context().offsets.commit_timeout_ms);
        let group = Arc::clone(&request.group);
        let asked = self.shards.ask(&group, move |shard, to, now| {
            shard.commit_transactional(&request, &transaction, to, now);
        });
        tokio::time::timeout(within, asked).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))?
    }

    /// Writes the marker that ends a transaction in one partition of `__consumer_offsets`, and waits until it is durable.
    pub async fn end_transaction(&self, partition: i32, marker: EndMarker) -> Result<(), MarkerError> {
        let asked = self.shards.ask_partition(partition, move |shard, to, _| shard.end_transaction(&marker, to));
        asked.await.map_err(MarkerError::Shard)?.map_err(MarkerError::Append)
    }

    /// OffsetFetch of one group.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Vec<FetchedTopic>, ErrorCode> {
        let group = Arc::clone(&request.group);
        self.shards.ask(&group, move |shard, to, _| shard.fetch(&request, to)).await?
    }

    /// OffsetDelete.
    pub async fn delete_offsets(&self, group: Arc<str>, partitions: Vec<(Arc<str>, i32)>) -> Outcomes {
        let of = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, now| shard.delete_offsets(&of, &partitions, to, now)).await?
    }

    /// DescribeGroups of one group; GROUP_ID_NOT_FOUND also for one of the consumer protocol.
    pub async fn describe(&self, group: Arc<str>) -> Result<Description, Refused> {
        let of = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, _| shard.describe(&of, to)).await?
    }

    /// ConsumerGroupHeartbeat. `needs_id` since version 1: clients make the ids of members.
    pub async fn consumer_heartbeat(
        &self,
        request: ConsumerHeartbeat,
        needs_id: bool,
    ) -> Result<HeartbeatAnswer, Refused> {
        request.check(needs_id, &self.shards.context().assignors())?;
        let group = Arc::clone(&request.group);
        self.shards.ask(&group, move |shard, to, now| shard.consumer_heartbeat(request, to, now)).await?
    }

    /// ConsumerGroupDescribe of one group.
    pub async fn describe_consumers(&self, group: Arc<str>) -> Result<ConsumerDescription, Refused> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId.into());
        }
        let of = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, _| shard.describe_consumers(&of, to)).await?
    }

    /// DeleteGroups of one group.
    pub async fn delete_group(&self, group: Arc<str>) -> Result<(), ErrorCode> {
        let of = Arc::clone(&group);
        self.shards.ask(&group, move |shard, to, now| shard.delete_group(&of, to, now)).await?
    }

    /// ListGroups: the groups of all shards.
    pub async fn list(&self) -> Result<Vec<Listed>, ErrorCode> {
        self.shards.ask_all(|shard, to, _| shard.list(to)).await
    }

    /// Its shards, whose state goes into the metadata snapshots.
    pub fn shards(&self) -> &Arc<Shards<Shard>> {
        &self.shards
    }
}

#[cfg(test)]
mod tests;
