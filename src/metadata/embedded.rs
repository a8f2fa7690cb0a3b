//! Metadata in one local file, `meta.redb`: the store of a single node.
//!
//! One thread of its own writes the file; it takes all commits that wait, puts them into one transaction, and answers
//! them together after the transaction's sync. No async worker ever commits. Readers take the published image and never
//! meet the file. A commit is promised to its caller by the sync, and seen by everybody else after it, never before.
//!
//! Every open raises the node's boot counter durably before anything else: the leader epoch of this run is never
//! reused, whatever the last run left behind.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};
use terrace_tiering::platform::fs::Fs;
use terrace_tiering::platform::random::Random;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::backend::FileBackend;
use super::cluster_id;
use super::embedded_writer::{Request, Writer};
use super::features::Feature;
use super::image::{Change, Image};
use super::records::{self, BadRow};
use super::store::{CommitError, MetadataStore};
use super::tables::{
    BROKER_CONFIGS, CLIENT_METRICS, CLIENT_QUOTAS, CLUSTER_ID, FEATURES, FORMAT, GENERATION, GROUP_CONFIGS,
    KAFKA_SECURITY, NEXT_PRODUCER_ID, NODE, NODE_EPOCH, NODE_TEXT, REMOTE_DAMAGE, REMOTE_PARTITIONS, REMOTE_SEGMENTS,
    TOPICS,
};
use crate::protocol::record_batch::ProducerId;

pub(super) const FORMAT_VERSION: u64 = 1;
/// Pages of the file that redb keeps in memory, in bytes; the image is in memory anyway.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Commits that wait for the writer, at most; more wait in their callers.
const QUEUE_MAX: usize = 1024;

/// Why `meta.redb` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened, read or written.
    #[error("metadata file failed: {0}")]
    File(String),
    /// Its content is not what we write.
    #[error("metadata file, table {table}: {why}")]
    Row {
        /// The table.
        table: &'static str,
        /// What is wrong with the row.
        why: BadRow,
    },
    /// A newer program wrote it.
    #[error("metadata file has format {0}, this program knows {FORMAT_VERSION}")]
    NewerFormat(u64),
    /// The file belongs to another cluster.
    #[error(
        "metadata file belongs to cluster {stored}, configured is {given}: point the broker at another data directory or leave the cluster id out"
    )]
    OtherCluster {
        /// The cluster id in the file.
        stored: String,
        /// The one the operator named.
        given: String,
    },
}

/// The embedded store. Its thread ends, with all it was asked done, when the last handle is dropped.
#[derive(Debug)]
pub struct EmbeddedStore {
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Request>>,
    image: watch::Receiver<Arc<Image>>,
    /// For reading remote segments; the writer holds the same.
    pub(super) database: Arc<Database>,
    next_producer_id: Arc<AtomicI64>,
    security: BTreeMap<String, Vec<u8>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens or makes the file at `path`, raises the boot counter and starts the writer. A new file gets the cluster id
    /// `given`, or a random one; an old one must agree with it. Blocks on the disk.
    pub fn open(fs: &dyn Fs, path: &Path, given: Option<&str>, random: &dyn Random) -> Result<Arc<Self>, OpenError> {
        let backend = FileBackend::open(fs, path).map_err(|error| OpenError::File(error.to_string()))?;
        Self::open_backend(backend, given, random)
    }

    /// The same over any storage of redb.
    pub(super) fn open_backend(
        backend: impl StorageBackend,
        given: Option<&str>,
        random: &dyn Random,
    ) -> Result<Arc<Self>, OpenError> {
        let database = builder().create_with_backend(backend).map_err(file)?;
        let database = Arc::new(database);
        boot(&database, given, random)?;
        let (image, next_producer_id) = read_image(&database)?;

        let (publish, image) = watch::channel(Arc::new(image));
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let next_producer_id = Arc::new(AtomicI64::new(next_producer_id));
        let writer = Writer::new(Arc::clone(&database), publish, Arc::clone(&next_producer_id));
        let thread = std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(|error| OpenError::File(error.to_string()))?;
        let security = read_security(&database)?;
        let thread = Mutex::new(Some(thread));
        Ok(Arc::new(Self { queue: Some(queue), image, database, next_producer_id, security, thread }))
    }

    /// The first producer id that nobody was given.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id.load(Ordering::Relaxed)
    }

    /// ACLs, SCRAM credentials and delegation tokens of an adopted broker, as Kafka wrote them.
    pub fn security(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.security
    }

    /// Hands a request to the writer and waits for its answer. `None`: the writer is gone.
    pub(super) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.queue.as_ref()?.send(make(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A writer that panicked has ended the process; there is nothing to say here.
            let _ = thread.join();
        }
    }
}

#[async_trait::async_trait]
impl MetadataStore for EmbeddedStore {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    async fn commit(&self, expected: Option<u64>, changes: Vec<Change>) -> Result<Arc<Image>, CommitError> {
        let answer = self.ask(|reply| Request::Commit { expected, changes, reply }).await;
        answer.unwrap_or_else(|| Err(CommitError::Store("metadata writer has ended".to_owned())))
    }

    async fn allocate_producer_ids(&self, count: i64) -> Result<Range<ProducerId>, CommitError> {
        let answer = self.ask(|reply| Request::ProducerIds { count, reply }).await;
        answer.unwrap_or_else(|| Err(CommitError::Store("metadata writer has ended".to_owned())))
    }
}

/// How the file is opened.
pub(super) fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// The first transaction of a run: format, cluster id, boot counter.
fn boot(database: &Database, given: Option<&str>, random: &dyn Random) -> Result<(), OpenError> {
    let transaction = database.begin_write().map_err(file)?;
    {
        let mut node = transaction.open_table(NODE).map_err(file)?;
        let mut texts = transaction.open_table(NODE_TEXT).map_err(file)?;
        // All tables exist from here on, so that reading never meets a missing one.
        transaction.open_table(TOPICS).map_err(file)?;
        transaction.open_table(BROKER_CONFIGS).map_err(file)?;
        transaction.open_table(GROUP_CONFIGS).map_err(file)?;
        transaction.open_table(CLIENT_METRICS).map_err(file)?;
        transaction.open_table(CLIENT_QUOTAS).map_err(file)?;
        transaction.open_table(FEATURES).map_err(file)?;
        transaction.open_table(REMOTE_PARTITIONS).map_err(file)?;
        transaction.open_table(REMOTE_SEGMENTS).map_err(file)?;
        transaction.open_table(REMOTE_DAMAGE).map_err(file)?;

        let format = node.get(FORMAT).map_err(file)?.map(|row| row.value());
        if let Some(newer) = format.filter(|format| *format > FORMAT_VERSION) {
            return Err(OpenError::NewerFormat(newer));
        }
        node.insert(FORMAT, FORMAT_VERSION).map_err(file)?;

        let stored = texts.get(CLUSTER_ID).map_err(file)?.map(|row| row.value().to_owned());
        match (stored, given) {
            (Some(stored), Some(given)) if stored != given => {
                return Err(OpenError::OtherCluster { stored, given: given.to_owned() });
            }
            (Some(_), _) => {}
            (None, Some(given)) => drop(texts.insert(CLUSTER_ID, given).map_err(file)?),
            (None, None) => drop(texts.insert(CLUSTER_ID, &*cluster_id::random(random)).map_err(file)?),
        }

        // Kafka's first leader epoch is 0.
        let epoch = node.get(NODE_EPOCH).map_err(file)?.map_or(0, |row| row.value() + 1);
        node.insert(NODE_EPOCH, epoch).map_err(file)?;
    }
    transaction.commit().map_err(file)
}

/// The image that the file holds, and the next producer id.
pub(super) fn read_image(database: &Database) -> Result<(Image, ProducerId), OpenError> {
    let row = |table| move |why| OpenError::Row { table, why };
    let number = |name: &'static str, found: u64| {
        let why = || BadRow::Damaged(format!("{name} {found} is too large"));
        i64::try_from(found).map_err(|_| row("node")(why()))
    };
    let transaction = database.begin_read().map_err(file)?;
    let node = transaction.open_table(NODE).map_err(file)?;
    let get = |name| -> Result<u64, OpenError> { Ok(node.get(name).map_err(file)?.map_or(0, |row| row.value())) };
    let node_epoch = number(NODE_EPOCH, get(NODE_EPOCH)?)?;
    let cluster_id = transaction.open_table(NODE_TEXT).map_err(file)?.get(CLUSTER_ID).map_err(file)?;
    let mut image = Image {
        generation: get(GENERATION)?,
        cluster_id: cluster_id.map_or("".into(), |row| row.value().into()),
        node_epoch: i32::try_from(node_epoch)
            .map_err(|_| row("node")(BadRow::Damaged(format!("boot counter {node_epoch} is too large"))))?,
        ..Image::default()
    };
    for entry in transaction.open_table(TOPICS).map_err(file)?.iter().map_err(file)? {
        let (key, value) = entry.map_err(file)?;
        let id = Uuid::from_slice(key.value()).map_err(|error| row("topics")(BadRow::Damaged(error.to_string())))?;
        image.put_topic(records::decode_topic(id, value.value()).map_err(row("topics"))?);
    }
    for (definition, name, configs) in [
        (BROKER_CONFIGS, "broker_configs", &mut image.broker_configs),
        (GROUP_CONFIGS, "group_configs", &mut image.group_configs),
        (CLIENT_METRICS, "client_metrics", &mut image.client_metrics),
    ] {
        for entry in transaction.open_table(definition).map_err(file)?.iter().map_err(file)? {
            let (key, value) = entry.map_err(file)?;
            configs.insert(key.value().to_owned(), records::decode_config(value.value()).map_err(row(name))?);
        }
    }
    for entry in transaction.open_table(CLIENT_QUOTAS).map_err(file)?.iter().map_err(file)? {
        let (key, value) = entry.map_err(file)?;
        let entity = records::decode_entity(key.value()).map_err(row("client_quotas"))?;
        image.client_quotas.insert(entity, records::decode_quotas(value.value()).map_err(row("client_quotas"))?);
    }
    for entry in transaction.open_table(FEATURES).map_err(file)?.iter().map_err(file)? {
        let (name, level) = entry.map_err(file)?;
        // A feature of a newer program stays in the file for it.
        if let Some(feature) = Feature::named(name.value()) {
            image.features.set(feature, level.value());
        }
    }
    Ok((image, number(NEXT_PRODUCER_ID, get(NEXT_PRODUCER_ID)?)?))
}

fn read_security(database: &Database) -> Result<BTreeMap<String, Vec<u8>>, OpenError> {
    let transaction = database.begin_read().map_err(file)?;
    let table = match transaction.open_table(KAFKA_SECURITY) {
        Ok(table) => table,
        // Only an adopted broker has any.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(error) => return Err(file(error)),
    };
    let mut records = BTreeMap::new();
    for entry in table.iter().map_err(file)? {
        let (key, record) = entry.map_err(file)?;
        records.insert(key.value().to_owned(), record.value().to_vec());
    }
    Ok(records)
}

pub(super) fn file(error: impl Into<redb::Error>) -> OpenError {
    OpenError::File(error.into().to_string())
}

#[cfg(test)]
mod tests;
