//! The bucket and the metadata of a broker that was stopped agree.
//!
//! Reads the bucket's directory and `meta.redb` itself, and takes nothing but the formats from the broker: names are parsed
//! here a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use terrace::metadata::embedded::EmbeddedStore;
use terrace::metadata::image::PartitionId;
use terrace::metadata::remote_log::{RemoteLogMetadata, RemotePartition, SegmentState};
use terrace_tiering::manifest::{ManifestEntry, Root, format};
use terrace_tiering::object::footer::Footer;
use terrace_tiering::platform::fs::RealFs;
use terrace_tiering::platform::random::SystemRandom;
use uuid::Uuid;

/// What was found in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Readable segments.
    pub segments: usize,
    /// Objects that wait for their deletion.
    pub doomed: usize,
    /// Unfinished files of uploads that a crash ended.
    pub staged: usize,
}

/// Checks what a clean stop left in the data directory `data`, with the default store below it.
///
/// * The newest root of each partition names only segments that the metadata knows, in a chain without a gap.
/// * Each of them has an object of the right size, whose footer says the same and whose chunks pass their CRCs.
/// * Each other object is known to the metadata as on its way in or out, so that it will be deleted.
pub fn check(data: &Path) -> Found {
    let rows = rows(data);
    let mut found = Found::default();
    let mut objects: BTreeMap<Uuid, PathBuf> = BTreeMap::new();
    let mut roots: BTreeMap<(Uuid, i32), PathBuf> = BTreeMap::new();
    let mut files = Vec::new();
    list(&data.join("remote"), &mut files);
    files.sort();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.contains('#') {
            found.staged += 1;
        } else if let Some(uuid) = below(&file, "seg").and_then(|_| name.rsplit('-').next()) {
            objects.insert(uuid.parse().expect("a segment's name ends in its uuid"), file);
        } else if let Some(partition) = below(&file, "mf")
            && name.starts_with("root-")
        {
            // Sorted by leader epoch and generation: the last is the newest.
            roots.insert(partition, file);
        }
    }
    let mut known: BTreeSet<Uuid> = BTreeSet::new();
    for (id, partition) in &rows {
        known.extend(partition.segments.iter().map(|segment| segment.uuid));
        let root = roots.remove(&(id.topic, id.partition));
        let entries = root.as_deref().map_or_else(Vec::new, entries);
        for entry in &entries {
            assert!(known.contains(&entry.uuid), "{id:?}: {root:?} names what the metadata does not know: {entry:?}");
        }
        for segment in partition.segments.iter().filter(|segment| segment.state == SegmentState::CopyFinished) {
            let named = entries.iter().any(|entry| entry.uuid == segment.uuid);
            assert!(named, "{id:?}: the newest root {root:?} does not name {segment:?}");
            let file = objects.get(&segment.uuid).unwrap_or_else(|| panic!("{id:?}: no object for {segment:?}"));
            let bytes = std::fs::metadata(file).expect("an object can be asked").len();
            assert_eq!(bytes, segment.object_bytes, "size of {}", file.display());
        }
        for (before, after) in entries.iter().zip(entries.iter().skip(1)) {
            assert_eq!(before.last_offset + 1, after.base_offset, "{id:?}: the chain has no gap");
        }
        for entry in &entries {
            let file = objects.get(&entry.uuid).unwrap_or_else(|| panic!("{id:?}: no object for {entry:?}"));
            check_object(id, entry, file);
        }
        found.segments += entries.len();
        found.doomed += partition.segments.len().saturating_sub(entries.len());
    }
    for (partition, root) in roots {
        assert!(entries(&root).is_empty(), "{partition:?} has segments in {root:?} that the metadata does not know");
    }
    for (uuid, file) in objects {
        assert!(known.contains(&uuid), "nobody knows {}", file.display());
    }
    found
}

fn check_object(id: &PartitionId, entry: &ManifestEntry, file: &Path) {
    let bytes = std::fs::read(file).expect("an object can be read");
    assert_eq!(bytes.len() as u64, entry.object_bytes, "size of {}", file.display());
    let footer = Footer::of_object(&bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let identity = &footer.identity;
    assert_eq!(
        (identity.topic, identity.partition, identity.base_offset, identity.last_offset, identity.uuid),
        (id.topic, id.partition, entry.base_offset, entry.last_offset, entry.uuid),
        "footer of {}",
        file.display()
    );
    assert_eq!((footer.log_bytes, identity.leader_epoch), (entry.log_bytes, entry.leader_epoch));
    let mut end = 0;
    for chunk in &footer.chunks {
        assert_eq!(chunk.position, end, "chunks of {} follow each other", file.display());
        end += u64::from(chunk.length);
        let crc = crc32c::crc32c(&bytes[chunk.position as usize..end as usize]);
        assert_eq!(crc, chunk.crc, "chunk at {} of {}", chunk.position, file.display());
    }
    assert_eq!(end, footer.log_bytes, "the chunks of {} cover its log", file.display());
}

/// All segments that a root and its leaves name.
fn entries(root: &Path) -> Vec<ManifestEntry> {
    let Root { leaves, entries, .. } =
        format::parse_root(&std::fs::read(root).expect("a root can be read")).expect("the newest root is whole");
    let mut all = Vec::new();
    for leaf in leaves {
        let file = root.with_file_name(format!("leaf-{:020}-{}", leaf.first_offset, leaf.uuid.simple()));
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(crc32c::crc32c(&bytes), leaf.crc, "{}", file.display());
        all.extend(format::parse_leaf(&bytes).expect("a leaf is whole"));
    }
    all.extend(entries);
    all
}

/// The rows of all remote segments. Read from a copy, because opening `meta.redb` counts as a start.
fn rows(data: &Path) -> Vec<(PartitionId, RemotePartition)> {
    let copy = tempfile::tempdir().expect("a temporary directory");
    let file = copy.path().join("meta.redb");
    std::fs::copy(data.join("meta.redb"), &file).expect("the stopped broker left its metadata");
    let store =
        EmbeddedStore::open(&*RealFs::shared(), &file, None, &SystemRandom).expect("the metadata can be opened");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut rows = Vec::new();
        for id in store.partitions().await.expect("rows can be read") {
            rows.push((id, store.load(id).await.expect("rows can be read")));
        }
        rows
    })
}

/// Topic and partition of a file below `<cluster>/<kind>/<2 hex>/<topic id>/<partition>/`.
fn below(file: &Path, kind: &str) -> Option<(Uuid, i32)> {
    let mut parts = file.iter().rev().skip(1).map(|part| part.to_str().unwrap_or_default());
    let (partition, topic) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (parts.nth(1)? == kind).then_some((topic, partition))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}
