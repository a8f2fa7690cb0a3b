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
use terrace_tiering::read::ReadError;
use terrace_tiering::store::StoreError;

use super::start::Loaded;
use super::state::object_of;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteChain, RemoteLogError, RemoteLogMetadata};
use crate::partition::Partition;
use crate::partition::registry::Partitions;
use crate::partition::tiered::SealedInfo;
use crate::protocol::record_batch::Offset;

/// Partitions that are attached at once.
const PARALLEL_MAX: usize = 32;
/// Between two questions to a store that failed.
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

/// Partitions that do not have yet what only the store can tell.
#[derive(Debug, Default)]
pub struct Unattached(Vec<(Arc<Partition>, Arc<RemoteChain>)>);

impl Unattached {
    /// All that have something in the tier.
    pub fn all<'a>(loaded: impl IntoIterator<Item = (&'a PartitionId, &'a Loaded)>, partitions: &Partitions) -> Self {
        let known = loaded.into_iter();
        Self(known.filter_map(|(id, loaded)| Some((partitions.get(*id)?, Arc::new(loaded.remote.chain())))).collect())
    }

    /// Lets the partitions whose local log ends before the tier go on at its end, and stops those whose local bytes
    /// differ from what was copied. The bucket and the rows agree by now. Hands back those that wait for the store: they
    /// hold up nobody but themselves.
    pub async fn attach(self, tier: &Tier) -> Self {
        let (waiting, why) = self.try_attach(tier).await;
        if let Some(error) = why {
            let partitions = waiting.0.len();
            tracing::warn!(
                partitions, %error,
                "partitions wait for the store to go on at the tier's end; it is asked until it answers"
            );
        }
        waiting
    }

    /// Asks the store until each of them has what it needs, or is gone.
    pub async fn attach_at_last(mut self, tier: &Tier) {
        while !self.0.is_empty() {
            tokio::time::sleep(STORE_LOOK).await;
            self = self.try_attach(tier).await.0;
        }
    }

    /// Attaches them side by side. Those that wait, and why one of them does.
    async fn try_attach(self, tier: &Tier) -> (Self, Option<StoreError>) {
        let attached = futures::stream::iter(self.0).map(|(partition, chain)| async move {
            let failed = attach_partition(tier, &partition, &chain).await.err()?;
            Some(((partition, chain), failed))
        });
        let waiting = attached.buffer_unordered(PARALLEL_MAX).filter_map(std::future::ready);
        let (waiting, mut why): (Vec<_>, Vec<_>) = waiting.unzip().await;
        (Self(waiting), why.pop())
    }
}

/// The error is why it has to be tried again.
async fn attach_partition(tier: &Tier, partition: &Arc<Partition>, chain: &RemoteChain) -> Result<(), StoreError> {
    let asked = Arc::clone(partition);
    let Ok(behind) = tokio::task::spawn_blocking(move || asked.behind_tier()).await else { return Ok(()) };
    if let Some(tier_end) = behind {
        let producers = match producers_at_end(tier, partition.id(), chain).await {
            Err(ReadError::Store(error)) => return Err(error),
            told => told.map_err(|error| error.to_string()),
        };
        let restarted = match producers {
            Ok(producers) => restart(partition, chain, tier_end, producers).await,
            Err(why) => Err(why),
        };
        match restarted {
            Ok(()) => tracing::warn!(
                topic = %partition.topic_name(), partition = partition.id().partition, tier_end,
                "local log starts anew at the tier's end"
            ),
            Err(why) => partition.set_offline(&format!("the start at the tier's end {tier_end} failed: {why}")),
        }
        return Ok(());
    }
    if partition.offline_reason().is_some() {
        // Files that cannot be read are not files that are gone: nothing of them is thrown away.
        return Ok(());
    }
    if let Some(offset) = disagreement(tier, partition, chain).await {
        partition.set_offline(&format!(
            "the local segment at offset {offset} and its copy in the bucket hold different records; if the copy \
             is right, move the partition's directory away to go on at the tier's end; if the local log is right, \
             the bucket holds another history: set remote.storage.uri to a prefix of its own"
        ));
    }
    Ok(())
}

/// Where the local log and the tier meet they must hold the same bytes: the last chunk of the last copy, as far as its
/// segment is still local. The cleaner rewrites nothing that was copied. The segment's first offset when they differ.
async fn disagreement(tier: &Tier, partition: &Arc<Partition>, chain: &RemoteChain) -> Option<Offset> {
    let last = chain.segments.last()?;
    if partition.is_rewritten_below_the_tier() {
        return None;
    }
    let (base, of_thread, copied) = (last.base_offset, Arc::clone(partition), Arc::clone(last));
    let open = move || {
        let local = of_thread.local_info();
        // Cleaning may have emptied what lies in front of it, and that may be gone.
        let is_it = |segment: &&SealedInfo| segment.base_offset <= copied.last_offset && segment.bytes > 0;
        let found = local.sealed.iter().rev().find(is_it)?;
        let begins = found.base_offset == copied.base_offset || found.covers_from == copied.base_offset;
        if begins { of_thread.open_sealed(found).ok() } else { None }
    };
    // Most often it is not local any more.
    let local = tokio::task::spawn_blocking(open).await.ok()??;
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

async fn restart(
    partition: &Arc<Partition>,
    chain: &RemoteChain,
    tier_end: Offset,
    producers: Bytes,
) -> Result<(), String> {
    let (epochs, partition) = (chain.epochs(), Arc::clone(partition));
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
