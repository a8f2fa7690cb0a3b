//! Merging goes on after a cut was made, and may put a segment of the cut into one object with later ones. An older cut gets
//! a copy of its own then, which ends where the cut does.

use terrace_tiering::Tier;
use terrace_tiering::cluster::owner::OwnerClaim;
use terrace_tiering::platform::random::Random;

use super::RestoreError;
use super::cut::{Cut, PartitionCut};
use crate::metadata::remote_log::RemoteSegment;
use crate::remote_log::manifest_entry;
use crate::remote_log::merge::join::join;

/// Makes every partition end where the cut does. Nothing names the new objects before the roots of the restore do.
pub async fn shorten(tier: &Tier, cut: &mut Cut, claim: &OwnerClaim, random: &dyn Random) -> Result<(), RestoreError> {
    for partition in &mut cut.partitions {
        shorten_one(tier, partition, claim, random).await?;
    }
    Ok(())
}

async fn shorten_one(
    tier: &Tier,
    partition: &mut PartitionCut,
    claim: &OwnerClaim,
    random: &dyn Random,
) -> Result<(), RestoreError> {
    let Some(end) = partition.chain.cut_at.take() else { return Ok(()) };
    let Some(last) = partition.chain.entries.pop() else { return Ok(()) };
    let (id, object) = (partition.id, last.object(partition.id.topic, partition.id.partition));
    let memory = tier.copy_memory(2 * object.object_bytes).await;
    partition.end = match join(tier, &[object], Some(end)).await {
        Ok(joined) => {
            let (row, upload) = joined.into_copy(random.uuid(), claim.node_epoch);
            let object_bytes = tier.upload_merged(upload, &memory).await?.object_bytes;
            partition.chain.entries.push(manifest_entry(&RemoteSegment { object_bytes, ..row }));
            end
        }
        // As any other segment that the bucket should have and has not.
        Err(error) if error.is_for_good() => {
            tracing::warn!(topic = %id.topic, partition = id.partition, %error, "the end of the cut cannot be read");
            let before = partition.chain.entries.last().map(|entry| entry.last_offset + 1);
            partition.chain.missing.push(last);
            before.unwrap_or(end)
        }
        Err(error) => return Err(error.into()),
    };
    partition.log_start = match partition.chain.entries.is_empty() {
        true => partition.end,
        false => partition.log_start.min(partition.end),
    };
    Ok(())
}
