//! What a shard needs of its partition of the internal topic: append records, and read all of them again.

use std::fmt::Debug;
use std::sync::Arc;

use crate::metadata::image::{Image, PartitionId};
use crate::partition::Partition;
use crate::partition::append::{AppendError, AppendOrigin};
use crate::partition::producers::VerificationGuard;
use crate::partition::read::{Isolation, ReadError, ReadSpec, Records};
use crate::partition::registry::Partitions;
use crate::partition::transactions::EndMarker;
use crate::protocol::record_batch::{LeaderEpoch, Offset, ProducerId};
use crate::wal::ticket::Ticket;

/// Coordinators' records are not numbered.
const NO_SEQUENCE: i32 = -1;
/// Most bytes of one read while loading.
const READ_BYTES: u64 = 1 << 20;

/// The log of one shard.
pub trait ShardLog: Send + Sync + Debug + 'static {
    /// Appends whole batches, all or nothing. What belongs to a transaction that is not open here needs a guard.
    fn append(&self, batches: &mut [u8], guard: Option<VerificationGuard>) -> Result<Ticket, AppendError>;

    /// Begins to verify that a producer's transaction has this partition; `None` when it is open here already.
    fn begin_verification(
        &self,
        producer_id: ProducerId,
        producer_epoch: i16,
        supports_epoch_bump: bool,
    ) -> Result<Option<VerificationGuard>, AppendError>;

    /// Appends the marker that ends a producer's transaction here.
    fn append_marker(&self, marker: &EndMarker) -> Result<Ticket, AppendError>;

    /// Nothing below `offset` is needed any more.
    fn forget_below(&self, offset: Offset);

    /// The epoch in which this broker leads the partition.
    fn leader_epoch(&self) -> LeaderEpoch;

    /// Where reading begins and where it must get to: log start and log end. An error while nobody knows, which is not the
    /// same as an empty log.
    fn bounds(&self) -> Result<(Offset, Offset), ReadError>;

    /// The next bytes from `from` on: batches, the last may be cut. Empty where durability has not got further yet.
    /// Blocks for the disk.
    fn read(&self, from: Offset) -> Result<Vec<u8>, ReadError>;
}

/// Where shards get their logs.
pub trait ShardLogs: Send + Sync + 'static {
    /// Takes over a new image, so that its partitions can be opened.
    fn follow(&self, image: &Image);

    /// The log of one partition.
    fn open(&self, id: PartitionId) -> Option<Arc<dyn ShardLog>>;
}

impl ShardLogs for Partitions {
    fn follow(&self, image: &Image) {
        Partitions::follow(self, image);
    }

    fn open(&self, id: PartitionId) -> Option<Arc<dyn ShardLog>> {
        self.get(id).map(|partition| Arc::new(PartitionLog(partition)) as Arc<dyn ShardLog>)
    }
}

/// A partition as a shard's log.
#[derive(Debug)]
pub struct PartitionLog(pub Arc<Partition>);

impl ShardLog for PartitionLog {
    fn append(&self, batches: &mut [u8], guard: Option<VerificationGuard>) -> Result<Ticket, AppendError> {
        let appended = self.0.may_hang(|| self.0.append_verified(batches, AppendOrigin::Coordinator, None, guard));
        appended.map(|appended| appended.ticket)
    }

    fn begin_verification(
        &self,
        producer_id: ProducerId,
        producer_epoch: i16,
        supports_epoch_bump: bool,
    ) -> Result<Option<VerificationGuard>, AppendError> {
        self.0.begin_verification(producer_id, producer_epoch, NO_SEQUENCE, supports_epoch_bump)
    }

    fn append_marker(&self, marker: &EndMarker) -> Result<Ticket, AppendError> {
        self.0.may_hang(|| self.0.append_marker(marker)).map(|appended| appended.ticket)
    }

    fn forget_below(&self, offset: Offset) {
        if self.0.offsets().log_start < offset
            && let Err(error) = self.0.may_hang(|| self.0.raise_log_start_blocking(offset))
        {
            tracing::warn!(%error, topic = %self.0.topic_name(), "old records of a coordinator stay until later");
        }
    }

    fn leader_epoch(&self) -> LeaderEpoch {
        self.0.offsets().leader_epoch
    }

    fn bounds(&self) -> Result<(Offset, Offset), ReadError> {
        let offsets = self.0.online_offsets()?;
        Ok((offsets.log_start, offsets.log_end))
    }

    fn read(&self, from: Offset) -> Result<Vec<u8>, ReadError> {
        let outcome = self.0.read_from_disk(&ReadSpec {
            offset: from,
            max_bytes: READ_BYTES,
            min_one: true,
            current_leader_epoch: None,
            last_fetched_epoch: None,
            isolation: Isolation::ReadUncommitted,
        })?;
        match outcome.records {
            Records::Empty => Ok(Vec::new()),
            Records::File(range) => {
                let mut bytes = vec![0; usize::try_from(range.len).unwrap_or(usize::MAX)];
                range.file.read_exact_at(&mut bytes, range.position).map_err(|e| ReadError::Storage(e.to_string()))?;
                Ok(bytes)
            }
            // Internal topics are not copied, so that their log is local as a whole.
            Records::Cold(_) => Err(ReadError::Storage("a coordinator's log is not local".to_owned())),
        }
    }
}

#[cfg(test)]
pub mod fake;
