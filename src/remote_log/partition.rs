//! What the jobs of the tier need of a partition. Narrow, so that they are tested without a log.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use crate::config::topic::TopicConfig;
use crate::log::pulled::{Pulled, PulledFile};
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::RemoteChain;
use crate::partition::read::ReadError;
use crate::partition::registry::Partitions;
use crate::partition::tiered::{CopyHold, LocalInfo, SealedInfo, SealedParts};
use crate::partition::{Offsets, Partition};
use crate::protocol::record_batch::Offset;

/// A partition as the jobs see it.
#[async_trait::async_trait]
pub trait TieredPartition: Send + Sync + Debug {
    /// Its topic's id and its number.
    fn id(&self) -> PartitionId;

    /// Its topic's name.
    fn topic_name(&self) -> Arc<str>;

    /// The effective configuration of its topic.
    fn topic_config(&self) -> Arc<TopicConfig>;

    /// Returns once asking it no longer opens its files, which would hold up an async worker.
    async fn opened(&self);

    /// Where it stands.
    fn offsets(&self) -> Offsets;

    /// Its first readable offset; `None` while its files cannot be used.
    fn log_start(&self) -> Option<Offset>;

    /// Its local segments.
    fn local_info(&self) -> LocalInfo;

    /// While it lives no segment that begins below `upto` is rewritten. At most one is held at a time. Blocks.
    fn hold_for_copy(&self, upto: Offset) -> CopyHold;

    /// Opens a sealed segment, if it is still the one that [`TieredPartition::local_info`] told of. Blocks.
    fn open_sealed(&self, segment: &SealedInfo) -> io::Result<SealedParts>;

    /// `log.cleaner.dedupe.buffer.size`: bytes that a round of the cleaner may take for keys.
    fn cleaning_memory(&self) -> usize;

    /// Swaps what readers and local deletion know of the tier.
    fn set_remote_chain(&self, chain: Arc<RemoteChain>);

    /// Bytes that its log directory can take; `None` where nobody knows.
    fn room_bytes(&self) -> Option<u64>;

    /// Where the records of a segment that comes back from the tier go. Blocks.
    fn begin_pull(&self, base_offset: Offset) -> io::Result<PulledFile>;

    /// Puts a segment that came back in front of the local log; false when that begins elsewhere by now. Blocks.
    fn end_pull(&self, file: PulledFile, pulled: &Pulled) -> Result<bool, ReadError>;

    /// Takes the copies away from readers and local retention if the local log has all that can be read, durably below
    /// the given offset. Blocks.
    fn let_go_of_copies(&self, durable_below: Option<Offset>) -> bool;

    /// Moves the log start up to `to`; returns once that is durable.
    async fn raise_log_start(&self, to: Offset) -> Result<(), ReadError>;
}

/// A shared partition.
pub type SharedPartition = Arc<dyn TieredPartition>;

/// Where partitions are found.
pub trait PartitionSource: Send + Sync + Debug {
    /// The partition with this id, while this broker has it.
    fn get(&self, id: PartitionId) -> Option<SharedPartition>;

    /// All partitions.
    fn all(&self) -> Vec<SharedPartition>;
}

/// A partition of this node.
#[derive(Debug)]
struct Local(Arc<Partition>);

#[async_trait::async_trait]
impl TieredPartition for Local {
    fn id(&self) -> PartitionId {
        self.0.id()
    }

    fn topic_name(&self) -> Arc<str> {
        Arc::clone(self.0.topic_name())
    }

    fn topic_config(&self) -> Arc<TopicConfig> {
        self.0.topic_config()
    }

    async fn opened(&self) {
        self.0.opened().await;
    }

    fn offsets(&self) -> Offsets {
        self.0.offsets()
    }

    fn log_start(&self) -> Option<Offset> {
        self.0.online_offsets().ok().map(|offsets| offsets.log_start)
    }

    fn local_info(&self) -> LocalInfo {
        self.0.local_info()
    }

    fn hold_for_copy(&self, upto: Offset) -> CopyHold {
        self.0.hold_for_copy(upto)
    }

    fn open_sealed(&self, segment: &SealedInfo) -> io::Result<SealedParts> {
        self.0.open_sealed(segment)
    }

    fn cleaning_memory(&self) -> usize {
        self.0.cleaning_memory()
    }

    fn set_remote_chain(&self, chain: Arc<RemoteChain>) {
        self.0.set_remote_chain(chain);
    }

    fn room_bytes(&self) -> Option<u64> {
        self.0.room_bytes()
    }

    fn begin_pull(&self, base_offset: Offset) -> io::Result<PulledFile> {
        self.0.begin_pull(base_offset)
    }

    fn end_pull(&self, file: PulledFile, pulled: &Pulled) -> Result<bool, ReadError> {
        self.0.end_pull(file, pulled)
    }

    fn let_go_of_copies(&self, durable_below: Option<Offset>) -> bool {
        self.0.let_go_of_copies(durable_below)
    }

    async fn raise_log_start(&self, to: Offset) -> Result<(), ReadError> {
        self.0.raise_log_start(to).await.map(|_| ())
    }
}

impl PartitionSource for Partitions {
    fn get(&self, id: PartitionId) -> Option<SharedPartition> {
        Self::get(self, id).map(|partition| Arc::new(Local(partition)) as _)
    }

    fn all(&self) -> Vec<SharedPartition> {
        Self::all(self).into_iter().map(|partition| Arc::new(Local(partition)) as _).collect()
    }
}
