//! What a `meta.redb` begins with when it takes over from another broker or from an earlier life of its own, before any start
//! raised a counter in it.

use std::collections::BTreeMap;
use std::path::Path;

use terrace_tiering::platform::fs::Fs;

use super::backend::FileBackend;
use super::embedded::OpenError;
use super::image::PartitionId;
use super::remote_log::RemotePartition;
use super::remote_records::{self, PartitionRow};
use super::tables::{
    CLUSTER_ID, DURABILITY, KAFKA_SECURITY, NEXT_PRODUCER_ID, NODE, NODE_EPOCH, NODE_TEXT, REMOTE_PARTITIONS,
    REMOTE_SEGMENTS,
};
use crate::protocol::record_batch::{LeaderEpoch, ProducerId};

/// The numbers and texts that only a new file can be given.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// The highest leader epoch that anybody has used; ours begin above it.
    pub node_epoch: LeaderEpoch,
    /// The first producer id that nobody was given.
    pub next_producer_id: ProducerId,
    /// ACLs, SCRAM credentials and delegation tokens by what is unique about them, as Kafka wrote them.
    pub security: BTreeMap<String, Vec<u8>>,
    /// What is in the bucket already.
    pub remote: Vec<(PartitionId, RemotePartition)>,
}

/// Makes the file. Blocks for its sync.
pub fn prepare(fs: &dyn Fs, path: &Path, adopted: &Adopted) -> Result<(), OpenError> {
    let backend = FileBackend::open(fs, path).map_err(|error| OpenError::File(error.to_string()))?;
    let database = redb::Builder::new().create_with_backend(backend).map_err(file)?;
    let mut transaction = database.begin_write().map_err(file)?;
    transaction.set_durability(DURABILITY).map_err(file)?;
    {
        let mut numbers = transaction.open_table(NODE).map_err(file)?;
        for (name, value) in [(NODE_EPOCH, i64::from(adopted.node_epoch)), (NEXT_PRODUCER_ID, adopted.next_producer_id)]
        {
            numbers.insert(name, u64::try_from(value).unwrap_or(0)).map_err(file)?;
        }
        let mut texts = transaction.open_table(NODE_TEXT).map_err(file)?;
        texts.insert(CLUSTER_ID, adopted.cluster_id.as_str()).map_err(file)?;
        let mut security = transaction.open_table(KAFKA_SECURITY).map_err(file)?;
        for (key, record) in &adopted.security {
            security.insert(key.as_str(), record.as_slice()).map_err(file)?;
        }
        let mut partitions = transaction.open_table(REMOTE_PARTITIONS).map_err(file)?;
        let mut segments = transaction.open_table(REMOTE_SEGMENTS).map_err(file)?;
        for (id, remote) in &adopted.remote {
            let RemotePartition { generation, leader_epoch, log_start, .. } = *remote;
            let row = remote_records::encode_partition(&PartitionRow { generation, leader_epoch, log_start });
            partitions.insert(remote_records::partition_key(*id).as_slice(), row.as_slice()).map_err(file)?;
            for segment in &remote.segments {
                let key = remote_records::segment_key(*id, segment.base_offset, segment.uuid);
                let row = remote_records::encode_segment(segment);
                segments.insert(key.as_slice(), row.as_slice()).map_err(file)?;
            }
        }
    }
    transaction.commit().map_err(file)?;
    Ok(())
}

fn file(error: impl Into<redb::Error>) -> OpenError {
    OpenError::File(error.into().to_string())
}
