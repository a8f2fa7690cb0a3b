//! Orphans: segment objects that are old enough, that no retained manifest names, and that the caller does not know; and
//! on a local directory what uploads left behind when the process died.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::UNIX_EPOCH;

use uuid::Uuid;

use crate::manifest::ManifestError;
use crate::names::{ManifestName, ObjectRef};
use crate::store::open::{self, StoreKind};
use crate::tier::Tier;

impl Tier {
    /// Finds orphans older than `age_ms` and reports them in the log; deleting is the caller's, after it made sure that it
    /// still owns the prefix. `known` are the uuids of all segments in any state that the broker knows. A partition whose
    /// manifests cannot be read has no orphans.
    pub async fn find_orphans(&self, known: &HashSet<Uuid>, age_ms: i64) -> Result<Vec<ObjectRef>, ManifestError> {
        let oldest_ms = self.machine.clock.now_ms().saturating_sub(age_ms);
        let pick = |meta: object_store::ObjectMeta| {
            let object = self.names.parse_segment(&meta.location, meta.size)?;
            let old = meta.last_modified.timestamp_millis() <= oldest_ms;
            (old && !known.contains(&object.uuid)).then_some(object)
        };
        let candidates = self.bucket.list(&self.names.all_segments(), None, pick).await?;
        let mut by_partition: BTreeMap<(Uuid, i32), Vec<ObjectRef>> = BTreeMap::new();
        for object in candidates {
            by_partition.entry((object.topic, object.partition)).or_default().push(object);
        }
        let mut orphans = Vec::new();
        for ((topic, partition), candidates) in by_partition {
            match self.named_by_manifests(topic, partition).await {
                Ok(named) => orphans.extend(candidates.into_iter().filter(|object| !named.contains(&object.uuid))),
                Err(error @ ManifestError::Store(_)) => return Err(error),
                Err(error) => tracing::warn!(%topic, partition, %error, "orphans of the partition are left alone"),
            }
        }
        if !orphans.is_empty() {
            let bytes: u64 = orphans.iter().map(|object| object.object_bytes).sum();
            tracing::info!(count = orphans.len(), bytes, "orphaned segments in the bucket");
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

    /// On a local directory: removes temporary files older than `age_ms`, which a process that died in an upload left.
    /// Elsewhere there are none. Returns how many went.
    pub async fn remove_stale_uploads(&self, age_ms: i64) -> std::io::Result<usize> {
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
