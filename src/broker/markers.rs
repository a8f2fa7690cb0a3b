//! Where the markers of transactions go: to the partition, or for `__consumer_offsets` to the group shard that owns it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::group::coordinator::{GroupCoordinator, MarkerError};
use crate::group::internal_topic::OFFSETS_TOPIC;
use crate::metadata::image::PartitionId;
use crate::metadata::store::SharedMetadata;
use crate::partition::append::AppendError;
use crate::partition::registry::Partitions;
use crate::partition::transactions::EndMarker;
use crate::transaction::markers::{MarkerTarget, Written};
use crate::transaction::state::TopicPartition;
use crate::wal::ticket::Rejected;

/// Every partition that this broker leads.
pub(super) struct Markers {
    /// Which topics there are.
    pub(super) metadata: SharedMetadata,
    /// Their partitions.
    pub(super) partitions: Arc<Partitions>,
    /// The owner of the partitions of `__consumer_offsets`.
    pub(super) groups: Arc<GroupCoordinator>,
}

#[async_trait]
impl MarkerTarget for Markers {
    async fn write(&self, at: &TopicPartition, marker: EndMarker) -> Written {
        let image = self.metadata.image();
        let Some(topic) = image.topic(&at.topic).filter(|topic| at.partition < topic.partition_count) else {
            // Deleted with everything that the transaction wrote to it.
            return Written::Done;
        };
        let written = if &*at.topic == OFFSETS_TOPIC {
            self.groups.end_transaction(at.partition, marker).await
        } else {
            self.to_partition(PartitionId { topic: topic.id, partition: at.partition }, &marker).await
        };
        match written {
            Ok(()) => Written::Done,
            Err(MarkerError::Append(AppendError::Producer(error))) => {
                // A newer epoch has written here, and with it ended whatever this one had open.
                tracing::warn!(topic = &*at.topic, partition = at.partition, %error, "a marker came too late");
                Written::Done
            }
            Err(error) => Written::NotNow(error.code().name().to_owned()),
        }
    }
}

impl Markers {
    async fn to_partition(&self, id: PartitionId, marker: &EndMarker) -> Result<(), MarkerError> {
        let partition = self.partitions.get(id).ok_or(MarkerError::Append(AppendError::Gone))?;
        let ticket = partition.append_marker(marker).map_err(MarkerError::Append)?.ticket;
        ticket.wait().await.map_err(|rejected| {
            MarkerError::Append(match rejected {
                Rejected::Storage => AppendError::Storage,
                Rejected::NotLeader => AppendError::Gone,
            })
        })
    }
}
