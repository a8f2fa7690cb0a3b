//! The crate's face: one [`Tier`] per broker owns the bucket, the caches and the budgets.
//!
//! What it does is in the modules beside this one: each adds its methods to [`Tier`].

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cache::policy::Policy;
use crate::names::Names;
use crate::platform::clock::SharedClock;
use crate::platform::fs::SharedFs;
use crate::platform::random::SharedRandom;
use crate::platform::task::Tasks;
use crate::read::reader::Reader;
use crate::store::admin::S3Admin;
use crate::store::bucket::{Bucket, Deadlines};
use crate::store::error::StoreError;
use crate::store::health::StoreHealth;
use crate::store::meter::{Purpose, Usage};
use crate::store::open::{self, Opened, StoreKind};
use crate::store::probe;
use crate::upload::verify::Verify;

/// The second cache tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCacheOptions {
    /// `remote.cache.dir`; made when missing. Belongs to this broker alone.
    pub dir: PathBuf,
    /// `remote.cache.disk.bytes`.
    pub bytes: u64,
}

/// Everything a tier needs to know. [`TierOptions::new`] has the documented defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierOptions {
    /// `remote.storage.uri`: `file:///dir`, `s3://bucket/prefix` or `memory:`.
    pub uri: String,
    /// `remote.storage.endpoint`; an `http://` endpoint allows plain HTTP and path style.
    pub endpoint: Option<String>,
    /// `remote.storage.region`.
    pub region: Option<String>,
    /// Kafka's cluster id; everything lies below it.
    pub cluster_id: String,
    /// `remote.cache.memory.bytes`.
    pub memory_cache_bytes: u64,
    /// `remote.cache.policy`.
    pub cache_policy: Policy,
    /// The second tier; ignored when the store is a local directory.
    pub disk_cache: Option<DiskCacheOptions>,
    /// Memory for footers.
    pub footer_cache_bytes: u64,
    /// `remote.read.ahead.stream.bytes`: of those, one reader's.
    pub read_ahead_stream_bytes: u64,
    /// `remote.read.ahead.max.bytes`: all downloads of the node, until they were read.
    pub read_ahead_max_bytes: u64,
    /// `remote.copy.memory.bytes`: all uploads of the node together.
    pub copy_memory_bytes: u64,
    /// `remote.copy.verify`.
    pub verify: Verify,
    /// Upper bound of upload bandwidth in bytes per second.
    pub upload_bytes_per_s: Option<u64>,
    /// Upper bound of download bandwidth in bytes per second.
    pub download_bytes_per_s: Option<u64>,
    /// `remote.manifest.retention.ms`.
    pub manifest_retention_ms: i64,
    /// How long the store may take.
    pub deadlines: Deadlines,
}

impl TierOptions {
    /// The defaults for a store and a cluster.
    pub fn new(uri: impl Into<String>, cluster_id: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            endpoint: None,
            region: None,
            cluster_id: cluster_id.into(),
            memory_cache_bytes: 64 << 20,
            cache_policy: Policy::Lru,
            disk_cache: None,
            footer_cache_bytes: 8 << 20,
            read_ahead_stream_bytes: 32 << 20,
            read_ahead_max_bytes: 64 << 20,
            copy_memory_bytes: 64 << 20,
            verify: Verify::Footer,
            upload_bytes_per_s: None,
            download_bytes_per_s: None,
            manifest_retention_ms: 7 * 24 * 3600 * 1000,
            deadlines: Deadlines::default(),
        }
    }
}

/// What a tier takes from the machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Wall time.
    pub clock: SharedClock,
    /// Jitter and ids.
    pub random: SharedRandom,
    /// Files of the disk cache and of segments.
    pub fs: SharedFs,
    /// Where downloads and cache writes run.
    pub tasks: Tasks,
}

/// Why a tier could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// The URI or endpoint is not one that is understood.
    #[error("remote.storage.uri: {0}")]
    Uri(String),
    /// The store does not answer as it must.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store overwrites an object that was to be created "if absent": two brokers could destroy each other's data.
    #[error("the object store at '{0}' ignores \"create if absent\" (If-None-Match: *); it cannot be used")]
    NotConditional(String),
    /// The directory of the store or of the disk cache cannot be used.
    #[error("directory '{path}': {source}", path = .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// One of the tier's budgets of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// What it is for.
    pub name: &'static str,
    /// Bytes that it may hold.
    pub limit: u64,
    /// Bytes that it holds.
    pub held: u64,
}

/// A share of `remote.copy.memory.bytes`, until it is dropped.
#[derive(Debug)]
pub struct CopyMemory {
    _permit: Option<OwnedSemaphorePermit>,
}

/// The tier of one broker.
#[derive(Debug)]
pub struct Tier {
    pub(crate) bucket: Bucket,
    pub(crate) names: Names,
    pub(crate) machine: Machine,
    pub(crate) options: TierOptions,
    pub(crate) kind: StoreKind,
    pub(crate) admin: Option<Arc<S3Admin>>,
    pub(crate) reader: Arc<Reader>,
    /// Bytes of copies in memory, in KiB.
    pub(crate) copy_memory: Arc<Semaphore>,
}

impl Tier {
    /// Opens the store that the options name and checks that it creates "if absent".
    pub async fn open(options: TierOptions, machine: Machine) -> Result<Arc<Self>, TierError> {
        let (of, fs) = (options.clone(), Arc::clone(&machine.fs));
        // A directory may hang like any other store.
        let opened = tokio::task::spawn_blocking(move || open::open(&of, &fs)).await;
        let opened = opened.map_err(|error| StoreError::Unavailable(error.to_string()))??;
        Self::over_opened(opened, options, machine).await
    }

    /// A tier over a store that is open already.
    pub async fn over_opened(opened: Opened, options: TierOptions, machine: Machine) -> Result<Arc<Self>, TierError> {
        let names = Names::new(&opened.root, &options.cluster_id);
        let bucket = Bucket::new(opened.store, opened.directory, &options, &machine);
        probe::create_if_absent(&bucket, &names, &options.uri, &machine.random).await?;
        Self::assemble(bucket, names, opened.kind, opened.admin, options, machine).await
    }

    /// The same over a store of any make; tests put a faulty one here.
    pub async fn over(
        store: Arc<dyn ObjectStore>,
        kind: StoreKind,
        root: Path,
        options: TierOptions,
        machine: Machine,
    ) -> Result<Arc<Self>, TierError> {
        Self::over_opened(Opened { store, kind, root, directory: None, admin: None }, options, machine).await
    }

    /// A tier for the command line, beside a broker that may run: nothing is written into the bucket or into the cache.
    pub async fn for_reading(options: TierOptions, machine: Machine) -> Result<Arc<Self>, TierError> {
        let opened = open::open(&options, &machine.fs)?;
        let options = TierOptions { disk_cache: None, ..options };
        let names = Names::new(&opened.root, &options.cluster_id);
        let bucket = Bucket::new(opened.store, opened.directory, &options, &machine);
        Self::assemble(bucket, names, opened.kind, opened.admin, options, machine).await
    }

    async fn assemble(
        bucket: Bucket,
        names: Names,
        kind: StoreKind,
        admin: Option<Arc<S3Admin>>,
        options: TierOptions,
        machine: Machine,
    ) -> Result<Arc<Self>, TierError> {
        let reader = Reader::open(bucket.on(Purpose::Replay), names.clone(), &options, kind, &machine).await?;
        let copy_memory = Arc::new(Semaphore::new(kib(options.copy_memory_bytes) as usize));
        Ok(Arc::new(Self { bucket, names, machine, options, kind, admin, reader, copy_memory }))
    }

    /// Does the store answer, and since when?
    pub fn health(&self) -> StoreHealth {
        self.bucket.health()
    }

    /// What was asked of the store since the start.
    pub fn usage(&self) -> Usage {
        self.bucket.usage()
    }

    /// Fine when something may be written: the store was not found to be down. Where it only refused writes, a probe tells
    /// whether it still does, because nobody else would.
    pub async fn takes_writes(&self) -> Result<(), StoreError> {
        if self.bucket.is_read_only() {
            return probe::write(&self.bucket, &self.names, &self.machine.random).await;
        }
        match self.bucket.health() {
            StoreHealth::Up { .. } => Ok(()),
            StoreHealth::Down { reason, .. } => Err(StoreError::Down(reason)),
        }
    }

    /// What kind of store it is.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// What each memory budget may hold and holds at this moment.
    pub fn budgets(&self) -> [MemoryBudget; 3] {
        let options = &self.options;
        let taken = |limit: u64, free_kib: usize| u64::from(kib(limit)).saturating_sub(free_kib as u64) << 10;
        let budget = |name, limit, held| MemoryBudget { name, limit, held };
        [
            budget("chunk-cache", options.memory_cache_bytes, self.memory_cache_bytes()),
            budget("read-ahead", options.read_ahead_max_bytes, self.reader.ahead_bytes()),
            budget(
                "copy",
                options.copy_memory_bytes,
                taken(options.copy_memory_bytes, self.copy_memory.available_permits()),
            ),
        ]
    }

    /// Waits for memory of copies; for more than there is, for all of it. Whoever holds some waits for no more.
    pub async fn copy_memory(&self, bytes: u64) -> CopyMemory {
        let wanted = kib(bytes).min(kib(self.options.copy_memory_bytes));
        // The semaphore is never closed.
        CopyMemory { _permit: self.copy_memory.clone().acquire_many_owned(wanted).await.ok() }
    }

    /// `remote.copy.memory.bytes`.
    pub fn copy_memory_bytes(&self) -> u64 {
        self.options.copy_memory_bytes
    }

    /// The keys of this cluster.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Kafka's cluster id, below which everything lies.
    pub fn cluster_id(&self) -> &str {
        &self.options.cluster_id
    }

    /// Where the store is, as configured.
    pub fn uri(&self) -> &str {
        &self.options.uri
    }
}

/// Bytes as permits of a semaphore: whole KiB, at least one.
pub(crate) fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4)
}
