//! Writes the next root, and before it the leaves it needs.

use uuid::Uuid;

use super::load::corrupt;
use super::{Committed, LeafRef, ManifestEntry, ManifestError, Root, format, invariants};
use crate::platform::crash_point::{self, CrashPoint};
use crate::store::bucket::Created;
use crate::store::meter::Purpose;
use crate::tier::Tier;

/// Entries that a root holds itself at most.
pub const ROOT_ENTRIES_MAX: usize = 1024;
/// Entries that stay in the root when it has passed its bound; the others move to leaves. Half, so that a leaf is written
/// once in 512 segments.
const ROOT_ENTRIES_KEPT: usize = 512;
/// Entries of a leaf at most.
pub const LEAF_ENTRIES_MAX: usize = 4096;

/// What the next root shall say.
#[derive(Debug, Clone, Copy)]
pub struct RootContent<'a> {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// The writer's leader epoch; not below that of the root before.
    pub leader_epoch: i32,
    /// The broker process.
    pub writer: Uuid,
    /// Log start offset of the partition.
    pub log_start: i64,
    /// Where the last round of the cleaner ended in these segments; 0 where none is known.
    pub cleaned_end: i64,
    /// All readable segments (FINISHED), by offset.
    pub entries: &'a [ManifestEntry],
}

impl Tier {
    /// Creates the root behind `previous` (from [`Tier::load_manifest`] or the commit before; `None` when the partition
    /// has none). An error other than [`ManifestError::Fenced`] leaves nothing that a later commit would not repair.
    ///
    /// When the generation is taken: by this very root, it is done (an answer was lost); by another of this process (a
    /// commit that failed but was stored), the next generation is tried; by anybody else, this broker has lost the prefix.
    pub async fn commit_root(
        &self,
        previous: Option<&Committed>,
        content: RootContent<'_>,
    ) -> Result<Committed, ManifestError> {
        let RootContent { topic, partition, leader_epoch, writer, log_start, cleaned_end, entries } = content;
        invariants::check(entries).map_err(ManifestError::Invalid)?;
        if previous.is_some_and(|before| before.root.leader_epoch > leader_epoch) {
            return Err(ManifestError::Invalid(format!(
                "leader epoch {leader_epoch} is below that of the root before"
            )));
        }
        let plan = plan(previous.map_or(&[], |before| &before.root.leaves), entries);
        let mut leaves = Vec::with_capacity(plan.leaves.len());
        for (leaf, of_leaf) in plan.leaves {
            leaves.push(match leaf {
                Some(leaf) => leaf,
                None => self.write_leaf(topic, partition, of_leaf).await?,
            });
        }
        let mut root = Root {
            topic,
            partition,
            leader_epoch,
            generation: previous.map_or(1, |before| before.root.generation + 1),
            writer,
            previous_crc: previous.map_or(0, |before| before.crc),
            written_at_ms: self.machine.clock.now_ms(),
            log_start,
            tier_end: entries.last().map_or(-1, |last| last.last_offset + 1),
            cleaned_end,
            leaves,
            entries: plan.in_root.to_vec(),
        };
        loop {
            let bytes = format::encode_root(&root);
            let crc = crc32c::crc32c(&bytes);
            let key = self.names.manifest(topic, partition, root.name());
            crash_point::reach(CrashPoint::ManifestBeforeRoot);
            if self.bucket.on(Purpose::Manifest).create(&key, bytes).await? == Created::New {
                crash_point::reach(CrashPoint::ManifestAfterRoot);
                return Ok(Committed { root: root.into(), crc });
            }
            let found = self.load_root(topic, partition, root.name()).await?;
            if found.root.writer != writer {
                return Err(ManifestError::Fenced { generation: root.generation, writer: found.root.writer });
            }
            if found.crc == crc {
                return Ok(found);
            }
            root.previous_crc = found.crc;
            root.generation += 1;
        }
    }

    async fn write_leaf(
        &self,
        topic: Uuid,
        partition: i32,
        entries: &[ManifestEntry],
    ) -> Result<LeafRef, ManifestError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err(ManifestError::Invalid("a leaf without entries".to_owned()));
        };
        let bytes = format::encode_leaf(entries);
        let leaf = LeafRef {
            first_offset: first.base_offset,
            last_offset: last.last_offset,
            uuid: self.machine.random.uuid(),
            entry_count: entries.len() as u32,
            crc: crc32c::crc32c(&bytes),
        };
        let key = self.names.manifest(topic, partition, leaf.name());
        let created = self.bucket.on(Purpose::Manifest).create(&key, bytes).await?;
        if created == Created::Exists && crc32c::crc32c(&self.bucket.on(Purpose::Manifest).get(&key).await?) != leaf.crc
        {
            return Err(corrupt(&key, "another leaf has its key".to_owned()));
        }
        Ok(leaf)
    }
}

struct Plan<'a> {
    /// Each leaf's entries, and the leaf in the bucket that has exactly these.
    leaves: Vec<(Option<LeafRef>, &'a [ManifestEntry])>,
    in_root: &'a [ManifestEntry],
}

/// Which leaves of the root before still hold, which must be written, and what the root keeps. Leaves change only where
/// entries went: at the front as retention moves on, and at the end as the root spills.
fn plan<'a>(before: &[LeafRef], entries: &'a [ManifestEntry]) -> Plan<'a> {
    let mut leaves = Vec::new();
    let mut rest = entries;
    for leaf in before {
        let (of_leaf, behind) = rest.split_at(rest.partition_point(|entry| entry.base_offset <= leaf.last_offset));
        rest = behind;
        if !of_leaf.is_empty() {
            let same =
                of_leaf.len() == leaf.entry_count as usize && crc32c::crc32c(&format::encode_leaf(of_leaf)) == leaf.crc;
            leaves.push((same.then(|| leaf.clone()), of_leaf));
        }
    }
    if rest.len() > ROOT_ENTRIES_MAX {
        // The last leaf takes what fits, so that leaves are full but for the last.
        let room = |of_leaf: &[ManifestEntry]| of_leaf.len() < LEAF_ENTRIES_MAX;
        let reopened = leaves.pop_if(|(_, of_leaf)| room(of_leaf)).map_or(0, |(_, of_leaf)| of_leaf.len());
        let from = entries.len() - rest.len() - reopened;
        let spilled = &entries[from..entries.len() - ROOT_ENTRIES_KEPT];
        leaves.extend(spilled.chunks(LEAF_ENTRIES_MAX).map(|of_leaf| (None, of_leaf)));
        rest = &entries[entries.len() - ROOT_ENTRIES_KEPT..];
    }
    Plan { leaves, in_root: rest }
}

#[cfg(test)]
mod tests;
