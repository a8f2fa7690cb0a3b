//! Giving every tiered partition what it has in the tier, at a start: first the rows, before any client is served, later
//! what only the store can tell.
//!
//! The rows alone decide where the local log begins (the start rule, in `partition`). A partition whose local log ends
//! before the tier waits here for the producers as of the tier's end; all others serve meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use terrace_tiering::Tier;
use terrace_tiering::object::footer::Footer;
use terrace_tiering::read::ReadError;

use super::start::Loaded;
use super::state::object_of;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteChain, RemoteLogError, RemoteLogMetadata, RemoteSegment};
use crate::partition::Partition;
use crate::partition::registry::Partitions;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// Partitions that are attached at once.
const PARALLEL_MAX: usize = 32;
/// Between two questions to a store that fails.
const STORE_LOOK: Duration = Duration::from_secs(2);

/// Tells every partition what our rows say of it, before any of them is used.
pub async fn tell_rows(segments: &dyn RemoteLogMetadata, partitions: &Partitions) -> Result<(), RemoteLogError> {
    for id in segments.partitions().await? {
        if let Some(partition) = partitions.get(id) {
            partition.set_remote_chain(Arc::new(segments.load(id).await?.chain()));
        }
    }
    Ok(())
}

/// Lets the partitions whose local log ends before the tier go on at its end, and stops those whose local bytes differ
/// from what was copied. The bucket and the rows agree by now.
pub async fn attach<'a>(
    tier: &Tier,
    loaded: impl IntoIterator<Item = (&'a PartitionId, &'a Loaded)>,
    partitions: &Partitions,
) {
    let known = loaded.into_iter().filter_map(|(id, loaded)| Some((partitions.get(*id)?, &loaded.remote)));
    futures::stream::iter(known)
        .for_each_concurrent(PARALLEL_MAX, |(partition, remote)| async move {
            attach_partition(tier, &partition, Arc::new(remote.chain())).await;
        })
        .await;
}

async fn attach_partition(tier: &Tier, partition: &Arc<Partition>, chain: Arc<RemoteChain>) {
    let asked = Arc::clone(partition);
    let Ok(behind) = tokio::task::spawn_blocking(move || asked.behind_tier()).await else { return };
    if let Some(tier_end) = behind {
        match restart(tier, partition, &chain, tier_end).await {
            Ok(()) => tracing::warn!(
                topic = %partition.topic_name(), partition = partition.id().partition, tier_end,
                "local log starts anew at the tier's end"
            ),
            Err(why) => partition.set_offline(&format!("the start at the tier's end {tier_end} failed: {why}")),
        }
        return;
    }
    if partition.offline_reason().is_some() {
        // Files that cannot be read are not files that are gone: nothing of them is thrown away.
        return;
    }
    if let Some(offset) = disagreement(tier, partition, &chain).await {
        partition.set_offline(&format!(
            "the local segment at offset {offset} and its copy in the bucket hold different records; if the copy \
             is right, move the partition's directory away to go on at the tier's end; if the local log is right, \
             the bucket holds another history: set remote.storage.uri to a prefix of its own"
        ));
    }
}

/// Where the local log and the tier meet they must hold the same bytes: the last chunk of the last copy, as far as its
/// segment is still local. The segment's first offset when they differ.
async fn disagreement(tier: &Tier, partition: &Arc<Partition>, chain: &RemoteChain) -> Option<Offset> {
    let last = chain.segments.last()?;
    if partition.was_compacted() {
        // What the cleaner rewrote differs from what was copied before.
        return None;
    }
    let (base, of_thread) = (last.base_offset, Arc::clone(partition));
    // Most often it is not local any more.
    let local = tokio::task::spawn_blocking(move || of_thread.open_sealed(base)).await.ok()?.ok()?;
    let footer = match footer_at_last(tier, partition.id(), last).await {
        Ok(footer) => footer,
        Err(error) => {
            tracing::warn!(
                topic = %partition.topic_name(), partition = partition.id().partition, %error,
                "last copy cannot be compared with the local segment"
            );
            return None;
        }
    };
    let chunk = *footer.chunks.last()?;
    // A crash may have taken the roll back, so the local segment can be longer than its copy.
    if chunk.position + u64::from(chunk.length) > local.log_bytes {
        return Some(base);
    }
    let read = move || {
        let mut bytes = vec![0; chunk.length as usize];
        local.log.read_exact_at(&mut bytes, chunk.position).map(|()| crc32c::crc32c(&bytes))
    };
    match tokio::task::spawn_blocking(read).await.ok()? {
        Ok(crc) => (crc != chunk.crc).then_some(base),
        // Readers of these offsets will be told so.
        Err(_) => None,
    }
}

async fn restart(tier: &Tier, partition: &Arc<Partition>, chain: &RemoteChain, tier_end: Offset) -> Result<(), String> {
    let producers = producers_at_end(tier, partition.id(), chain).await.map_err(|error| error.to_string())?;
    let (epochs, partition) = (epochs(chain), Arc::clone(partition));
    let restarted = tokio::task::spawn_blocking(move || partition.restart_at(tier_end, &epochs, &producers)).await;
    restarted.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// The producers at the tier's end, as Kafka's `.snapshot` file, from the last segment's footer.
async fn producers_at_end(tier: &Tier, id: PartitionId, chain: &RemoteChain) -> Result<Bytes, ReadError> {
    match chain.segments.last() {
        Some(last) => Ok(footer_at_last(tier, id, last).await?.producer_snapshot.clone()),
        None => Ok(Bytes::new()),
    }
}

/// The footer of a copy, from a store that is asked until it answers: what a start needs of it nobody tells later.
async fn footer_at_last(tier: &Tier, id: PartitionId, segment: &RemoteSegment) -> Result<Arc<Footer>, ReadError> {
    let object = object_of(id, segment);
    let mut told = false;
    loop {
        match tier.footer(&object).await {
            Err(ReadError::Store(error)) if error.is_transient() => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(?id, %error, "the store fails while a partition is attached; it is asked until it answers");
                }
                tokio::time::sleep(STORE_LOOK).await;
            }
            answer => return answer,
        }
    }
}

/// The leader epochs of all remote segments, each with its first offset in the tier.
fn epochs(chain: &RemoteChain) -> Vec<(LeaderEpoch, Offset)> {
    let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for (epoch, first_offset) in chain.segments.iter().flat_map(|segment| &segment.epochs) {
        if epochs.last().is_none_or(|(before, _)| before < epoch) {
            epochs.push((*epoch, *first_offset));
        }
    }
    epochs
}
