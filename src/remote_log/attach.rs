//! The start rule: where each tiered partition's local log begins this run, given what is in the tier.
//!
//! What is FINISHED was below the high watermark, so a local log that ends before it lost records that readers saw (a
//! power loss without syncs, a lost disk). It must not give their offsets away a second time.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use terrace_tiering::Tier;
use terrace_tiering::read::ReadError;

use super::start::Loaded;
use super::state::object_of;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteChain, RemotePartition};
use crate::partition::Partition;
use crate::partition::registry::Partitions;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// Partitions that are attached at once.
const PARALLEL_MAX: usize = 32;

/// Gives every partition what it has in the tier, and empties or stops those whose local log disagrees. Before anything is
/// served or deleted.
pub async fn attach<'a>(
    tier: &Tier,
    loaded: impl IntoIterator<Item = (&'a PartitionId, &'a Loaded)>,
    partitions: &Partitions,
) {
    let known = loaded.into_iter().filter_map(|(id, loaded)| Some((partitions.get(*id)?, &loaded.remote)));
    let attach_one = |(partition, remote): (Arc<Partition>, &'a RemotePartition)| async move {
        attach_partition(tier, &partition, Arc::new(remote.chain())).await;
    };
    futures::stream::iter(known).for_each_concurrent(PARALLEL_MAX, attach_one).await;
}

async fn attach_partition(tier: &Tier, partition: &Arc<Partition>, chain: Arc<RemoteChain>) {
    // The partition settles its log start by the chain first.
    partition.set_remote_chain(Arc::clone(&chain));
    if partition.offline_reason().is_some() {
        // Files that cannot be read are not files that are gone: nothing of them is thrown away.
        return;
    }
    let offsets = partition.offsets();
    match local_start(&chain, offsets.log_start, offsets.local_start, offsets.log_end) {
        LocalStart::Keep => {
            if let Some(offset) = disagreement(tier, partition, &chain).await {
                partition.set_offline(&format!(
                    "the local segment at offset {offset} and its copy in the bucket hold different records; if the copy \
                     is right, move the partition's directory away to go on at the tier's end; if the local log is right, \
                     the bucket holds another history: set remote.storage.uri to a prefix of its own"
                ));
            }
        }
        LocalStart::Gap { tier_end, local_start } => partition.set_offline(&format!(
            "the tier ends at offset {tier_end}, the local log begins at {local_start}, and what lies between is lost; \
             put the missing segments back, or move the partition's directory away to go on at {tier_end}"
        )),
        LocalStart::Empty(tier_end) => match restart(tier, partition, &chain, tier_end).await {
            Ok(()) => {
                tracing::warn!(
                    topic = %partition.topic_name(), partition = partition.id().partition,
                    local_end = offsets.log_end, tier_end,
                    "local log ended before the tier and starts anew at its end"
                );
                partition.set_remote_chain(chain);
            }
            Err(why) => partition.set_offline(&format!("the start at the tier's end {tier_end} failed: {why}")),
        },
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
    let footer = match tier.footer(&object_of(partition.id(), last)).await {
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
        Some(last) => Ok(tier.footer(&object_of(id, last)).await?.producer_snapshot.clone()),
        None => Ok(Bytes::new()),
    }
}

/// How a partition's local log begins a run, given what is in the tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LocalStart {
    /// As it is.
    Keep,
    /// Emptied; the next offset is this, the end of the tier.
    Empty(Offset),
    /// Records that readers may ask for are in neither tier: the partition stays offline.
    Gap {
        /// Where the tier ends.
        tier_end: Offset,
        /// Where the local log begins.
        local_start: Offset,
    },
}

fn local_start(chain: &RemoteChain, log_start: Offset, local_start: Offset, log_end: Offset) -> LocalStart {
    match chain.end() {
        Some(tier_end) if log_end < tier_end => LocalStart::Empty(tier_end),
        Some(tier_end) if local_start > tier_end.max(log_start) => LocalStart::Gap { tier_end, local_start },
        _ => LocalStart::Keep,
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::remote_segment;
    use super::*;

    #[rstest]
    #[case::no_tier(0, 0, 0, 0, LocalStart::Keep)]
    #[case::nothing_local(20, 0, 0, 0, LocalStart::Empty(20))]
    #[case::local_lost_its_tail(20, 0, 5, 19, LocalStart::Empty(20))]
    #[case::local_ends_with_the_tier(20, 0, 5, 20, LocalStart::Keep)]
    #[case::local_goes_on(20, 0, 20, 33, LocalStart::Keep)]
    #[case::gap(20, 0, 21, 33, LocalStart::Gap { tier_end: 20, local_start: 21 })]
    #[case::gap_below_the_log_start(20, 21, 21, 33, LocalStart::Keep)]
    fn the_start_rule(
        #[case] tier_end: Offset,
        #[case] log_start: Offset,
        #[case] begins: Offset,
        #[case] log_end: Offset,
        #[case] expected: LocalStart,
    ) {
        let segments = (tier_end > 0).then(|| Arc::new(remote_segment(0, tier_end - 1, 0))).into_iter().collect();
        let chain = RemoteChain { segments, ..RemoteChain::default() };
        assert_eq!(local_start(&chain, log_start, begins, log_end), expected);
    }
}
