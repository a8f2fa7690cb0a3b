//! What a shard needs of its partition of the internal topic: append records, and read all of them again.

use std::fmt::Debug;
use std::sync::Arc;

use crate::metadata::image::{Image, PartitionId};
use crate::partition::Partition;
use crate::partition::append::{AppendError, AppendOrigin};
use crate::partition::read::{Isolation, ReadError, ReadSpec, Records};
use crate::partition::registry::Partitions;
use crate::protocol::record_batch::Offset;
use crate::wal::ticket::Ticket;

/// Most bytes of one read while loading.
const READ_BYTES: u64 = 1 << 20;

/// The log of one shard.
pub trait ShardLog: Send + Sync + Debug + 'static {
    /// Appends whole batches, all or nothing.
    fn append(&self, batches: &mut [u8]) -> Result<Ticket, AppendError>;

    /// Where reading begins and where it must get to: log start and log end.
    fn bounds(&self) -> (Offset, Offset);

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
    fn append(&self, batches: &mut [u8]) -> Result<Ticket, AppendError> {
        self.0.append(batches, AppendOrigin::Coordinator, None).map(|appended| appended.ticket)
    }

    fn bounds(&self) -> (Offset, Offset) {
        let offsets = self.0.offsets();
        (offsets.log_start, offsets.log_end)
    }

    fn read(&self, from: Offset) -> Result<Vec<u8>, ReadError> {
        let outcome = self.0.read(&ReadSpec {
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
