//! Is everything in the bucket that the newest manifests name, and is it whole? A broker may run beside: what it deleted
//! meanwhile is no finding.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use uuid::Uuid;

use crate::check::Damage;
use crate::delete::sweeper::Unnamed;
use crate::manifest::load::NewestRoot;
use crate::manifest::{Manifest, ManifestEntry, ManifestError};
use crate::names::ObjectRef;
use crate::store::StoreError;
use crate::tier::Tier;

/// Segments that are looked at side by side.
const PARALLEL_MAX: usize = 8;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Sizes and footers.
    Footers,
    /// Every chunk.
    Full,
}

/// How far it is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes or segments to look at; 0 until that is known.
    pub total: AtomicU64,
    /// Those that were looked at.
    pub done: AtomicU64,
}

impl Progress {
    fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The newest manifest of a partition cannot be read.
    Manifest {
        /// The topic's id.
        topic: Uuid,
        /// The partition's number.
        partition: i32,
        /// Why.
        reason: String,
    },
    /// A segment is damaged.
    Segment {
        /// Which.
        object: ObjectRef,
        /// Its key.
        key: String,
        /// What is wrong.
        damage: Damage,
    },
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Partitions that have a manifest.
    pub partitions: usize,
    /// Segments that their manifests name.
    pub segments: usize,
    /// Bytes of those.
    pub bytes: u64,
    /// What is wrong, by partition and offset.
    pub findings: Vec<Finding>,
    /// Segment objects that no retained manifest names: on their way in or out, or left behind.
    pub unnamed: Vec<Unnamed>,
}

/// A partition and its newest manifest, or why that cannot be read.
pub type Surveyed = (NewestRoot, Result<Manifest, String>);

impl Tier {
    /// The newest manifests of all partitions that `wanted` wants.
    pub async fn survey(&self, wanted: impl Fn(&NewestRoot) -> bool) -> Result<Vec<Surveyed>, StoreError> {
        let roots: Vec<NewestRoot> = self.newest_roots().await?.into_iter().filter(wanted).collect();
        let load = |root: NewestRoot| async move {
            match self.load_manifest(root.topic, root.partition).await {
                Ok(Some(manifest)) => Ok(Some((root, Ok(manifest)))),
                // The topic was deleted meanwhile.
                Ok(None) => Ok(None),
                Err(ManifestError::Store(StoreError::NotFound(_))) => {
                    self.load_again(root).await.map(|found| found.map(|found| (root, found)))
                }
                Err(ManifestError::Store(error)) => Err(error),
                Err(error) => Ok(Some((root, Err(error.to_string())))),
            }
        };
        let mut surveyed = Vec::with_capacity(roots.len());
        let mut loading = futures::stream::iter(roots).map(load).buffered(PARALLEL_MAX);
        while let Some(loaded) = loading.next().await {
            surveyed.extend(loaded?);
        }
        Ok(surveyed)
    }

    /// A root or leaf went away between listing and reading: pruned, or lost.
    async fn load_again(&self, root: NewestRoot) -> Result<Option<Result<Manifest, String>>, StoreError> {
        match self.load_manifest(root.topic, root.partition).await {
            Ok(found) => Ok(found.map(Ok)),
            Err(ManifestError::Store(error)) if !matches!(error, StoreError::NotFound(_)) => Err(error),
            Err(error) => Ok(Some(Err(error.to_string()))),
        }
    }

    /// Compares the bucket with what its manifests name. Counts segments in `progress`, with [`Depth::Full`] bytes.
    pub async fn verify_stored(
        &self,
        wanted: impl Fn(Uuid, i32) -> bool,
        depth: Depth,
        progress: &Progress,
    ) -> Result<Report, ManifestError> {
        let surveyed = self.survey(|root| wanted(root.topic, root.partition)).await?;
        let mut report = Report { partitions: surveyed.len(), ..Report::default() };
        let mut entries: Vec<(NewestRoot, ManifestEntry)> = Vec::new();
        for (root, manifest) in surveyed {
            match manifest {
                Ok(manifest) => entries.extend(manifest.entries.into_iter().map(|entry| (root, entry))),
                Err(reason) => {
                    let NewestRoot { topic, partition, .. } = root;
                    report.findings.push(Finding::Manifest { topic, partition, reason });
                }
            }
        }
        report.segments = entries.len();
        report.bytes = entries.iter().map(|(_, entry)| entry.object_bytes).sum();
        let total = if depth == Depth::Full { report.bytes } else { report.segments as u64 };
        progress.total.store(total, Ordering::Relaxed);
        let look = |(root, entry): (NewestRoot, ManifestEntry)| async move {
            self.verify_entry(entry.object(root.topic, root.partition), depth, progress).await
        };
        let mut looking = futures::stream::iter(entries).map(look).buffered(PARALLEL_MAX);
        while let Some(found) = looking.next().await {
            report.findings.extend(found?);
        }
        drop(looking);
        self.forget_deleted(&mut report.findings).await?;
        let unnamed = self.find_unnamed(&HashSet::new(), i64::MAX).await?;
        report.unnamed = unnamed.into_iter().filter(|each| wanted(each.object.topic, each.object.partition)).collect();
        Ok(report)
    }

    async fn verify_entry(
        &self,
        object: ObjectRef,
        depth: Depth,
        progress: &Progress,
    ) -> Result<Vec<Finding>, StoreError> {
        let mut check = self.check(&object).await?;
        let mut read = 0;
        if depth == Depth::Full {
            while let Some(bytes) = check.read_on().await? {
                read += bytes;
                progress.advance(bytes);
            }
        }
        progress.advance(if depth == Depth::Full { object.object_bytes.saturating_sub(read) } else { 1 });
        let finding = |damage: &Damage| Finding::Segment { object, key: check.key().to_owned(), damage: *damage };
        Ok(check.damage().iter().map(finding).collect())
    }

    /// Leaves out what is no longer named: a broker that runs deletes objects, and roots before them.
    async fn forget_deleted(&self, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
        let damaged: HashSet<(Uuid, i32)> = findings
            .iter()
            .filter_map(|finding| match finding {
                Finding::Segment { object, .. } => Some((object.topic, object.partition)),
                Finding::Manifest { .. } => None,
            })
            .collect();
        if damaged.is_empty() {
            return Ok(());
        }
        let again = self.survey(|root| damaged.contains(&(root.topic, root.partition))).await?;
        let readable = again.into_iter().filter_map(|(_, manifest)| manifest.ok());
        let named: HashSet<Uuid> = readable.flat_map(|manifest| manifest.entries).map(|entry| entry.uuid).collect();
        findings.retain(|finding| match finding {
            Finding::Segment { object, .. } => named.contains(&object.uuid),
            Finding::Manifest { .. } => true,
        });
        Ok(())
    }
}
