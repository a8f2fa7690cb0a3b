//! Orphans: segment objects that are old enough, that no retained manifest names, and that the caller does not know; and
//! on a local directory what uploads left behind when the process died.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::UNIX_EPOCH;

use uuid::Uuid;

use crate::manifest::ManifestError;
use crate::names::{ManifestName, ObjectRef};
use crate::store::StoreError;
use crate::store::meter::Purpose;
use crate::store::open::{self, StoreKind};
use crate::tier::Tier;

/// A segment object that no retained manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unnamed {
    /// Which.
    pub object: ObjectRef,
    /// When it was written, wall time of the store in milliseconds.
    pub modified_ms: i64,
}

impl Tier {
    /// Finds orphans older than `age_ms` and reports them in the log; deleting is the caller's, after it made sure that it
    /// still owns the prefix. `known` are the uuids of all segments in any state that the broker knows. A partition whose
    /// manifests cannot be read has no orphans.
    pub async fn find_orphans(&self, known: &HashSet<Uuid>, age_ms: i64) -> Result<Vec<ObjectRef>, ManifestError> {
        let oldest_ms = self.machine.clock.now_ms().saturating_sub(age_ms);
        let orphans = self.find_unnamed(known, oldest_ms).await?;
        if !orphans.is_empty() {
            let bytes: u64 = orphans.iter().map(|orphan| orphan.object.object_bytes).sum();
            tracing::info!(count = orphans.len(), bytes, "orphaned segments in the bucket");
        }
        Ok(orphans.into_iter().map(|orphan| orphan.object).collect())
    }

    /// Segment objects written at or before `newest_ms` that are not in `known` and that no retained manifest names.
    pub async fn find_unnamed(&self, known: &HashSet<Uuid>, newest_ms: i64) -> Result<Vec<Unnamed>, ManifestError> {
        let pick = |meta: object_store::ObjectMeta| {
            let object = self.names.parse_segment(&meta.location, meta.size)?;
            let modified_ms = meta.last_modified.timestamp_millis();
            (modified_ms <= newest_ms && !known.contains(&object.uuid)).then_some(Unnamed { object, modified_ms })
        };
        let candidates = self.bucket.on(Purpose::Sweep).list(&self.names.all_segments(), None, pick).await?;
        let mut by_partition: BTreeMap<(Uuid, i32), Vec<Unnamed>> = BTreeMap::new();
        for each in candidates {
            by_partition.entry((each.object.topic, each.object.partition)).or_default().push(each);
        }
        let mut orphans = Vec::new();
        for ((topic, partition), candidates) in by_partition {
            match self.named_by_manifests(topic, partition).await {
                Ok(named) => orphans.extend(candidates.into_iter().filter(|each| !named.contains(&each.object.uuid))),
                Err(error @ ManifestError::Store(_)) => return Err(error),
                Err(error) => tracing::warn!(%topic, partition, %error, "orphans of the partition are left alone"),
            }
        }
        Ok(orphans)
    }

    /// The uuids that any retained root or leaf of a partition names.
    async fn named_by_manifests(&self, topic: Uuid, partition: i32) -> Result<HashSet<Uuid>, ManifestError> {
        let mut named = HashSet::new();
        let mut leaves = HashMap::new();
        for (name, _) in self.list_manifests(topic, partition).await? {
            if matches!(name, ManifestName::Root { .. }) {
                let root = self.load_root(topic, partition, name).await?.root;
                named.extend(root.entries.iter().map(|entry| entry.uuid));
                leaves.extend(root.leaves.iter().map(|leaf| (leaf.uuid, leaf.clone())));
            }
        }
        for leaf in leaves.values() {
            named.extend(self.load_leaf(topic, partition, leaf).await?.iter().map(|entry| entry.uuid));
        }
        Ok(named)
    }

    /// Removes what uploads older than `age_ms` left when their process died: on S3 the parts, on a local directory
    /// temporary files. The caller made sure that it still owns the prefix. Returns how many uploads that were.
    pub async fn remove_stale_uploads(&self, age_ms: i64) -> Result<usize, StoreError> {
        if self.admin.is_some() {
            return self.abort_stale_uploads(self.names.all_segments().as_ref(), age_ms).await;
        }
        let removed = self.remove_stale_files(age_ms).await;
        removed.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Aborts uploads to S3 of keys below `prefix` that began more than `age_ms` ago.
    pub async fn abort_stale_uploads(&self, prefix: &str, age_ms: i64) -> Result<usize, StoreError> {
        let Some(admin) = &self.admin else { return Ok(0) };
        let oldest_ms = self.machine.clock.now_ms().saturating_sub(age_ms);
        let uploads = admin.uploads(prefix).await?;
        let mut aborted = 0;
        for stale in uploads.iter().filter(|upload| upload.initiated_ms <= oldest_ms) {
            admin.abort(stale).await?;
            aborted += 1;
        }
        if aborted > 0 {
            tracing::info!(count = aborted, "uploads that nobody finished were aborted");
        }
        Ok(aborted)
    }

    async fn remove_stale_files(&self, age_ms: i64) -> std::io::Result<usize> {
        let dir = self.options.uri.strip_prefix("file://").and_then(|path| open::local_dir(path).ok());
        let (StoreKind::Local, Some(dir)) = (self.kind, dir) else { return Ok(0) };
        let dir = dir.join(self.names.prefix().as_ref());
        let oldest_ms = self.machine.clock.now_ms().saturating_sub(age_ms);
        let work = move || remove_stale(&dir, oldest_ms);
        tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
    }
}

fn remove_stale(dir: &Path, oldest_ms: i64) -> std::io::Result<usize> {
    let mut removed = 0;
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_stale(&entry.path(), oldest_ms)?;
        } else if is_staged(&entry.file_name().to_string_lossy()) && modified_ms(&entry)? <= oldest_ms {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The store's crate writes `<name>#<number>` and renames it when it is whole.
fn is_staged(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn modified_ms(entry: &std::fs::DirEntry) -> std::io::Result<i64> {
    let modified = entry.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(modified.as_millis()).unwrap_or(i64::MAX))
}
