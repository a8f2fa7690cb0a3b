//! The bucket for people: what `terrace remote` shows. Nothing is written, no broker is needed.
//!
//! - [`doctor`]: does the store do what a tier needs?
//! - [`show`]: objects as text.
//! - [`verify`]: is everything there that the manifests name, and whole?

pub mod doctor;
mod show;
pub mod verify;

use std::path::Path as FilePath;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;

use crate::cluster::snapshot::Snapshot;
use crate::manifest::{Manifest, format};
use crate::names::{ManifestName, Names};
use crate::object::footer::{Footer, FooterError};
use crate::object::trailer::{TRAILER_LEN, Trailer};
use crate::platform::fs::Open;
use crate::store::admin::S3Admin;
use crate::store::open::{self, Opened, StoreKind};
use crate::store::{Bucket, StoreError};
use crate::tier::{Machine, Tier, TierError, TierOptions};

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `cluster.json`.
    ClusterFile,
    /// A claim on the prefix.
    Owner,
    /// A metadata snapshot.
    Snapshot,
    /// A deleted topic.
    Tombstone,
    /// A segment.
    Segment,
    /// A manifest's root.
    Root,
    /// A manifest's leaf.
    Leaf,
    /// None of these.
    Unknown,
}

impl Kind {
    /// One word for a listing.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterFile => "cluster",
            Self::Owner => "owner",
            Self::Snapshot => "snapshot",
            Self::Tombstone => "tombstone",
            Self::Segment => "segment",
            Self::Root => "root",
            Self::Leaf => "leaf",
            Self::Unknown => "unknown",
        }
    }
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Its whole key in the bucket.
    pub key: String,
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub bytes: u64,
    /// When it was written, wall time of the store in milliseconds.
    pub modified_ms: i64,
}

/// Why an object could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key cannot be one.
    #[error("'{0}' is not a key")]
    Key(String),
    /// The object is not what its key says.
    #[error("'{key}': {reason}")]
    Corrupt {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The local file could not be written.
    #[error("'{path}': {source}", path = .path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Reads a bucket that may belong to a running broker.
#[derive(Debug)]
pub struct Inspector {
    bucket: Bucket,
    root: Path,
    kind: StoreKind,
    admin: Option<Arc<S3Admin>>,
    options: TierOptions,
    machine: Machine,
}

impl Inspector {
    /// Opens the store that the options name; their cluster id does not matter.
    pub fn open(options: &TierOptions, machine: &Machine) -> Result<Self, TierError> {
        Ok(Self::over(open::open(options, &machine.fs)?, options, machine))
    }

    /// The same over a store that is open already.
    pub fn over(opened: Opened, options: &TierOptions, machine: &Machine) -> Self {
        let Opened { store, kind, root, directory, admin } = opened;
        let bucket = Bucket::new(store, directory, options, machine);
        Self { bucket, root, kind, admin, options: options.clone(), machine: machine.clone() }
    }

    /// The tier of one cluster, for reading.
    pub async fn tier(&self, cluster_id: &str) -> Result<Arc<Tier>, TierError> {
        let options = TierOptions { cluster_id: cluster_id.to_owned(), ..self.options.clone() };
        Tier::for_reading(options, self.machine.clone()).await
    }

    /// The ids of the clusters below the URI.
    pub async fn clusters(&self) -> Result<Vec<String>, InspectError> {
        Ok(self.bucket.list_directories(&self.root).await?)
    }

    /// All objects of a cluster, by key.
    pub async fn list(&self, cluster_id: &str) -> Result<Vec<Line>, InspectError> {
        let names = Names::new(&self.root, cluster_id);
        let pick = |meta: object_store::ObjectMeta| {
            Some(Line {
                kind: kind(&names, &meta.location),
                bytes: meta.size,
                modified_ms: meta.last_modified.timestamp_millis(),
                key: meta.location.to_string(),
            })
        };
        Ok(self.bucket.list(names.prefix(), None, pick).await?)
    }

    /// What an object says, as text. `key` is one that [`Inspector::list`] shows.
    pub async fn dump(&self, key: &str) -> Result<String, InspectError> {
        let path = Path::parse(key).map_err(|_| InspectError::Key(key.to_owned()))?;
        let cluster = path.prefix_match(&self.root).and_then(|mut parts| parts.next());
        let cluster = cluster.ok_or_else(|| InspectError::Key(key.to_owned()))?;
        let names = Names::new(&self.root, cluster.as_ref());
        let corrupt = |reason: String| InspectError::Corrupt { key: key.to_owned(), reason };
        let kind = kind(&names, &path);
        if kind == Kind::Segment {
            return Ok(show::footer(&self.footer(&path).await?.map_err(|error| corrupt(error.to_string()))?));
        }
        let bytes = self.bucket.get(&path).await?;
        match kind {
            Kind::Root => format::parse_root(&bytes).map(|root| show::root(&root)).map_err(|e| corrupt(e.to_string())),
            Kind::Leaf => format::parse_leaf(&bytes).map(|all| show::entries(&all)).map_err(|e| corrupt(e.to_string())),
            Kind::Snapshot => Snapshot::parse(&bytes).map(|snapshot| show::snapshot(&snapshot)).map_err(corrupt),
            Kind::ClusterFile | Kind::Owner | Kind::Tombstone => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Kind::Segment | Kind::Unknown => Err(InspectError::Key(key.to_owned())),
        }
    }

    /// What a partition's newest manifest says, its leaves included.
    pub fn show_manifest(manifest: &Manifest) -> String {
        let root = &manifest.committed.root;
        let in_leaves = manifest.entries.len().saturating_sub(root.entries.len());
        show::entries(&manifest.entries[..in_leaves]) + &show::root(root)
    }

    /// Copies an object into a new file.
    pub async fn download(&self, key: &str, file: &FilePath) -> Result<u64, InspectError> {
        let path = Path::parse(key).map_err(|_| InspectError::Key(key.to_owned()))?;
        let failed = |source| InspectError::File { path: file.to_owned(), source };
        let size = self.bucket.head(&path).await?.size;
        let out = self.machine.fs.open(file, Open::CreateNew).map_err(failed)?;
        let mut pieces = self.bucket.get_stream(&path, 0..size).await?;
        let mut position = 0;
        while let Some(piece) = pieces.try_next().await? {
            out.write_all_at(&piece, position).map_err(failed)?;
            position += piece.len() as u64;
        }
        Ok(position)
    }

    async fn footer(&self, key: &Path) -> Result<Result<Footer, FooterError>, InspectError> {
        let size = self.bucket.head(key).await?.size;
        let Some(at) = size.checked_sub(TRAILER_LEN as u64) else { return Ok(Err(FooterError::Malformed("length"))) };
        let tail = self.bucket.get_range(key, at..size).await?;
        let trailer = tail.first_chunk().map(|tail| Trailer::parse(tail, size));
        let trailer = match trailer.unwrap_or(Err(FooterError::Malformed("length"))) {
            Ok(trailer) => trailer,
            Err(error) => return Ok(Err(error)),
        };
        let footer = self.bucket.get_range(key, trailer.footer_position..at).await?;
        Ok(Footer::parse(&footer, &trailer))
    }
}

fn kind(names: &Names, key: &Path) -> Kind {
    match names.parse_manifest(key) {
        Some((_, _, ManifestName::Root { .. })) => return Kind::Root,
        Some((_, _, ManifestName::Leaf { .. })) => return Kind::Leaf,
        None => {}
    }
    if names.parse_segment(key, 0).is_some() {
        Kind::Segment
    } else if names.parse_snapshot(key).is_some() {
        Kind::Snapshot
    } else if names.parse_owner(key).is_some() {
        Kind::Owner
    } else if names.parse_tombstone(key).is_some() {
        Kind::Tombstone
    } else if *key == names.cluster_file() {
        Kind::ClusterFile
    } else {
        Kind::Unknown
    }
}
