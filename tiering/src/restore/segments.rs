//! What of a partition is in the bucket at the cut.

use std::collections::HashMap;

use uuid::Uuid;

use super::chain::{self, Limit};
use crate::manifest::load::Listed;
use crate::manifest::{Committed, ManifestEntry, ManifestError, rebuild};
use crate::names::{ManifestName, ObjectRef};
use crate::read::ReadError;
use crate::store::StoreError;
use crate::store::meter::Purpose;
use crate::tier::Tier;

/// One partition at the cut.
#[derive(Debug, Clone)]
pub struct RestoredChain {
    /// Its segments, by offset; each was there when the bucket was listed.
    pub entries: Vec<ManifestEntry>,
    /// Log start that the root names; -1 without one. It lies below the first entry when that is missing.
    pub log_start: i64,
    /// The newest root, upon which the next one builds; `None` when there is none that can be read.
    pub newest: Option<Committed>,
    /// Segments that a root names and the bucket lacks.
    pub missing: Vec<ManifestEntry>,
    /// Where the last round of the cleaner ended, if the entries are those that its root names; 0 where nobody knows.
    pub cleaned_end: i64,
    /// How many entries no root named.
    pub found: usize,
    /// Where an older cut ends, when the last entry reaches beyond: it was merged with later ones, and only what lies below
    /// belongs to the cut.
    pub cut_at: Option<i64>,
}

/// Why a partition cannot be put together; nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RestoreError {
    /// A manifest cannot be had.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A footer cannot be had.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Tier {
    /// All segment objects of all partitions, by one LIST.
    pub async fn all_segments(&self) -> Result<HashMap<(Uuid, i32), Vec<ObjectRef>>, StoreError> {
        let names = &self.names;
        let pick = |meta: object_store::ObjectMeta| names.parse_segment(&meta.location, meta.size);
        let mut of_partition: HashMap<(Uuid, i32), Vec<ObjectRef>> = HashMap::new();
        for object in self.bucket.on(Purpose::Restore).list(&names.all_segments(), None, pick).await? {
            of_partition.entry((object.topic, object.partition)).or_default().push(object);
        }
        Ok(of_partition)
    }

    /// A partition's segments among `objects`, which a LIST found: as of now, or with `limit` as of an older cut.
    /// `log_start` is what the snapshot knows.
    pub async fn restore_chain(
        &self,
        topic: Uuid,
        partition: i32,
        objects: &[ObjectRef],
        log_start: i64,
        limit: Option<&Limit>,
    ) -> Result<RestoredChain, RestoreError> {
        let listed = self.list_manifests(topic, partition).await.map_err(ManifestError::from)?;
        let roots: Vec<&Listed> = listed.iter().filter(|(name, _)| matches!(name, ManifestName::Root { .. })).collect();
        let newest = match roots.last() {
            Some((name, _)) => match self.load_root(topic, partition, *name).await {
                Ok(root) => Some(root),
                // The next root has a higher leader epoch and needs none before it.
                Err(error @ ManifestError::Corrupt { .. }) => {
                    tracing::warn!(%topic, partition, %error, "newest manifest root is not readable");
                    None
                }
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let counted = counted(&roots, limit);
        let (mut named, mut root_start, mut epoch_min) = (Vec::new(), -1, i32::MIN);
        for name in &counted {
            match self.entries_of(topic, partition, *name).await {
                Ok((root, mut entries)) => {
                    entries.retain(|each| limit.is_none_or(|limit| limit.allows(each.last_offset, each.leader_epoch)));
                    if named.is_empty() && limit.is_none_or(|limit| root.root.leader_epoch <= limit.leader_epoch) {
                        (root_start, epoch_min) = (root.root.log_start, root.root.leader_epoch);
                    }
                    named.push(entries);
                }
                Err(error @ ManifestError::Corrupt { .. }) => {
                    tracing::warn!(%topic, partition, %error, "manifest is not readable; its segments are looked for");
                }
                Err(error) => return Err(error.into()),
            }
        }
        // The log start of a root behind an older cut may lie above the cut's.
        let root_start = if limit.is_none() { root_start } else { root_start.min(log_start) };
        let named = chain::merge(named);
        // An older cut may have what the newest root's rounds have rewritten since.
        let is_as_rooted = limit.is_none() && chain::split_missing(named.clone(), objects).1.is_empty();
        let cleaned_end = newest.as_ref().filter(|_| is_as_rooted).map_or(0, |newest| newest.root.cleaned_end);
        let named = self.replace_missing(named, objects, root_start.max(log_start), limit).await?;
        let (mut entries, missing) = chain::split_missing(named, objects);
        let before = entries.len();
        self.extend(&mut entries, objects, root_start.max(log_start), epoch_min, limit).await?;
        let found = entries.len().saturating_sub(before);
        let beyond = |limit: &&Limit| entries.last().is_some_and(|last| last.last_offset >= limit.tier_end);
        let cut_at = limit.filter(beyond).map(|limit| limit.tier_end);
        Ok(RestoredChain { entries, log_start: root_start, newest, missing, cleaned_end, found, cut_at })
    }

    /// Puts merged objects in the place of what roots name and the bucket lacks, as far as it can be read.
    async fn replace_missing(
        &self,
        mut named: Vec<ManifestEntry>,
        objects: &[ObjectRef],
        log_start: i64,
        limit: Option<&Limit>,
    ) -> Result<Vec<ManifestEntry>, RestoreError> {
        let (_, missing) = chain::split_missing(named.clone(), objects);
        for missing in missing.iter().filter(|missing| missing.last_offset >= log_start) {
            // One before may have brought it too.
            if named.contains(missing) {
                let covering = chain::covering(objects, missing.base_offset, missing.last_offset, limit);
                self.put_first(&mut named, covering, limit).await?;
            }
        }
        Ok(named)
    }

    /// Puts the first of `objects` over the chain that is whole and holds the same records; false if none does.
    async fn put_first(
        &self,
        chain: &mut Vec<ManifestEntry>,
        objects: Vec<ObjectRef>,
        limit: Option<&Limit>,
    ) -> Result<bool, RestoreError> {
        for object in objects {
            match self.footer(&object).await {
                Ok(footer) if chain::put_over(chain, rebuild::entry(&object, &footer), limit) => return Ok(true),
                Ok(_) => {}
                Err(error @ (ReadError::Footer { .. } | ReadError::Gone(_))) => {
                    tracing::warn!(%error, "an object that is not a whole segment is left out");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Appends what a LIST found behind the end of the chain and whose footer is whole. An older cut goes on to its end,
    /// where necessary with an object that begins before or ends behind.
    async fn extend(
        &self,
        entries: &mut Vec<ManifestEntry>,
        objects: &[ObjectRef],
        log_start: i64,
        epoch_min: i32,
        limit: Option<&Limit>,
    ) -> Result<(), RestoreError> {
        'next: loop {
            let end = entries.last().map(|last| last.last_offset + 1);
            for object in chain::candidates(objects, end, log_start, epoch_min, limit) {
                match self.footer(&object).await {
                    Ok(footer) => {
                        entries.push(rebuild::entry(&object, &footer));
                        continue 'next;
                    }
                    Err(error @ (ReadError::Footer { .. } | ReadError::Gone(_))) => {
                        tracing::warn!(%error, "an object that is not a whole segment is left out");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let Some(limit) = limit else { return Ok(()) };
            let from = end.unwrap_or(log_start.max(0));
            if from >= limit.tier_end {
                return Ok(());
            }
            let mut covering = chain::covering(objects, from, from, Some(limit));
            covering.retain(|object| object.leader_epoch >= epoch_min);
            if !self.put_first(entries, covering, Some(limit)).await? {
                return Ok(());
            }
        }
    }

    async fn entries_of(
        &self,
        topic: Uuid,
        partition: i32,
        name: ManifestName,
    ) -> Result<(Committed, Vec<ManifestEntry>), ManifestError> {
        let committed = self.load_root(topic, partition, name).await?;
        let mut entries = Vec::new();
        for leaf in &committed.root.leaves {
            entries.extend(self.load_leaf(topic, partition, leaf).await?);
        }
        entries.extend(committed.root.entries.iter().cloned());
        Ok((committed, entries))
    }
}

/// The roots that tell of the cut: the newest; for an older cut the last before it and the first behind it, because a root
/// comes up to 16 changes after what it tells of.
fn counted(roots: &[&Listed], limit: Option<&Limit>) -> Vec<ManifestName> {
    let Some(limit) = limit else { return roots.last().map(|(name, _)| *name).into_iter().collect() };
    let before = roots.iter().rev().find(|(_, written_ms)| *written_ms <= limit.written_ms);
    let behind = roots.iter().find(|(_, written_ms)| *written_ms > limit.written_ms);
    before.into_iter().chain(behind).map(|(name, _)| *name).collect()
}
