//! The thread that writes `meta.redb`: takes what waits, one transaction, one sync, then publishes and answers.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use redb::{Database, Table, WriteTransaction};
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::embedded_remote::{self, RemoteChange};
use super::image::{Change, ConfigOverrides, Image};
use super::records;
use super::remote_log::RemoteLogError;
use super::store::CommitError;
use super::tables::{
    BROKER_CONFIGS, CLIENT_METRICS, CLIENT_QUOTAS, DURABILITY, FEATURES, GENERATION, GROUP_CONFIGS, NEXT_PRODUCER_ID,
    NODE, TOPICS,
};
use crate::protocol::record_batch::ProducerId;

/// Requests in one transaction, at most: bounds how long the first of them waits for the others' rows.
const BATCH_MAX: usize = 256;

/// What callers ask of the writer, each with where its answer goes.
#[derive(Debug)]
pub(super) enum Request {
    /// [`MetadataStore::commit`](super::store::MetadataStore::commit).
    Commit { expected: Option<u64>, changes: Vec<Change>, reply: oneshot::Sender<Result<Arc<Image>, CommitError>> },
    /// [`MetadataStore::allocate_producer_ids`](super::store::MetadataStore::allocate_producer_ids).
    ProducerIds { count: i64, reply: oneshot::Sender<Result<Range<ProducerId>, CommitError>> },
    /// A change of [`RemoteLogMetadata`](super::remote_log::RemoteLogMetadata).
    Remote { change: RemoteChange, reply: oneshot::Sender<Result<u64, RemoteLogError>> },
}

/// An answer that is true once the transaction is durable.
enum Staged {
    Commit(oneshot::Sender<Result<Arc<Image>, CommitError>>, Result<(), CommitError>),
    ProducerIds(oneshot::Sender<Result<Range<ProducerId>, CommitError>>, Result<Range<ProducerId>, CommitError>),
    Remote(oneshot::Sender<Result<u64, RemoteLogError>>, Result<u64, RemoteLogError>),
}

/// The image and numbers as they will be when the transaction is durable.
struct Next {
    image: Arc<Image>,
    next_producer_id: ProducerId,
}

/// The state of the thread.
pub(super) struct Writer {
    database: Arc<Database>,
    publish: watch::Sender<Arc<Image>>,
    /// The first that is not given away durably; written here alone.
    next_producer_id: Arc<AtomicI64>,
}

impl Writer {
    /// A writer over an opened file.
    pub(super) fn new(
        database: Arc<Database>,
        publish: watch::Sender<Arc<Image>>,
        next_producer_id: Arc<AtomicI64>,
    ) -> Self {
        Self { database, publish, next_producer_id }
    }

    /// Serves requests until all senders are gone. A panic in here would leave callers with an image that may not be
    /// the file's, so it ends the process.
    pub(super) fn run(self, mut requests: mpsc::Receiver<Request>) {
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            while requests.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                self.serve(std::mem::take(&mut batch));
            }
        }));
        if served.is_err() {
            tracing::error!("metadata writer panicked; the broker stops, start it again");
            std::process::abort();
        }
    }

    fn serve(&self, batch: Vec<Request>) {
        let next_producer_id = self.next_producer_id.load(Ordering::Relaxed);
        let mut next = Next { image: Arc::clone(&self.publish.borrow()), next_producer_id };
        let mut staged = Vec::with_capacity(batch.len());
        match self.write(batch, &mut next, &mut staged) {
            Ok(()) => {
                self.next_producer_id.store(next.next_producer_id, Ordering::Relaxed);
                if next.image.generation != self.publish.borrow().generation {
                    self.publish.send_replace(Arc::clone(&next.image));
                }
                staged.into_iter().for_each(|answer| answer.send(&next.image));
            }
            Err(error) => {
                let error = error.to_string();
                tracing::error!(%error, "metadata commit failed; nothing of it is in effect");
                staged.into_iter().for_each(|answer| answer.fail(&error));
            }
        }
    }

    /// One durable transaction. On an error some requests may not be staged: their callers see the writer hang up.
    fn write(&self, batch: Vec<Request>, next: &mut Next, staged: &mut Vec<Staged>) -> Result<(), redb::Error> {
        let mut transaction = match self.database.begin_write() {
            Ok(transaction) => transaction,
            Err(error) => {
                staged.extend(batch.into_iter().map(Request::not_done));
                return Err(error.into());
            }
        };
        let mut failed = transaction.set_durability(DURABILITY).map_err(redb::Error::from).err();
        for request in batch {
            if failed.is_some() {
                staged.push(request.not_done());
                continue;
            }
            match stage(&transaction, next, request) {
                (answer, None) => staged.push(answer),
                (answer, Some(error)) => {
                    staged.push(answer);
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        crash_point::reach(CrashPoint::MetadataBeforeCommit);
        transaction.commit()?;
        crash_point::reach(CrashPoint::MetadataAfterCommit);
        Ok(())
    }
}

/// Puts one request into the transaction. An error of the file spoils the whole transaction; a refusal does not.
fn stage(transaction: &WriteTransaction, next: &mut Next, request: Request) -> (Staged, Option<redb::Error>) {
    match request {
        Request::Commit { expected, changes, reply } => match apply(next, expected, &changes) {
            Ok(()) => {
                let error = write_changes(transaction, next, &changes).err();
                (Staged::Commit(reply, Ok(())), error)
            }
            Err(refused) => (Staged::Commit(reply, Err(refused)), None),
        },
        Request::ProducerIds { count, reply } => {
            let first = next.next_producer_id;
            let Some(end) = first.checked_add(count).filter(|_| count > 0) else {
                let refused = CommitError::Store(format!("no block of {count} producer ids"));
                return (Staged::ProducerIds(reply, Err(refused)), None);
            };
            next.next_producer_id = end;
            let error = write_number(transaction, NEXT_PRODUCER_ID, end.unsigned_abs()).err();
            (Staged::ProducerIds(reply, Ok(first..end)), error)
        }
        Request::Remote { change, reply } => match embedded_remote::write(transaction, change) {
            Ok(outcome) => (Staged::Remote(reply, outcome), None),
            Err(error) => (Staged::Remote(reply, Err(RemoteLogError::Store(String::new()))), Some(error)),
        },
    }
}

/// All changes of a commit on the next image, or none of them.
fn apply(next: &mut Next, expected: Option<u64>, changes: &[Change]) -> Result<(), CommitError> {
    if expected.is_some_and(|expected| expected != next.image.generation) {
        return Err(CommitError::Conflict);
    }
    // The first commit of a transaction copies the image: two maps of counted references, about a millisecond for
    // 10 000 topics. Those behind it change the copy in place; only a commit of several steps, which a later step may
    // still refuse, makes one of its own.
    let before = (changes.len() > 1).then(|| Arc::clone(&next.image));
    let image = Arc::make_mut(&mut next.image);
    for change in changes {
        if let Err(refused) = image.apply(change) {
            if let Some(before) = before {
                next.image = before;
            }
            return Err(refused);
        }
    }
    image.generation += 1;
    Ok(())
}

fn write_changes(transaction: &WriteTransaction, next: &Next, changes: &[Change]) -> Result<(), redb::Error> {
    let image = &next.image;
    let mut topics = transaction.open_table(TOPICS)?;
    let mut broker_configs = transaction.open_table(BROKER_CONFIGS)?;
    let mut group_configs = transaction.open_table(GROUP_CONFIGS)?;
    for change in changes {
        match change {
            Change::CreateTopic(topic) => write_topic(&mut topics, image, topic.id)?,
            Change::DeleteTopic(id) => write_topic(&mut topics, image, *id)?,
            Change::SetPartitionCount { topic, .. } | Change::SetTopicConfig { topic, .. } => {
                write_topic(&mut topics, image, *topic)?;
            }
            Change::SetBrokerConfig { broker, .. } => {
                write_config(&mut broker_configs, broker, image.broker_configs.get(broker))?;
            }
            Change::SetGroupConfig { group, .. } => {
                write_config(&mut group_configs, group, image.group_configs.get(group))?;
            }
            Change::SetClientMetrics { subscription, .. } => {
                let mut table = transaction.open_table(CLIENT_METRICS)?;
                write_config(&mut table, subscription, image.client_metrics.get(subscription))?;
            }
            Change::SetClientQuotas { entity, .. } => {
                let mut table = transaction.open_table(CLIENT_QUOTAS)?;
                let row = image.client_quotas.get(entity).map(records::encode_quotas);
                write_row(&mut table, &records::encode_entity(entity), row)?;
            }
            Change::SetFeature { feature, level } => {
                drop(transaction.open_table(FEATURES)?.insert(feature.name(), *level)?);
            }
        }
    }
    write_number(transaction, GENERATION, image.generation)
}

/// The row of a topic as the image has it; none when the image has none.
fn write_topic(table: &mut Table<'_, &[u8], &[u8]>, image: &Image, id: Uuid) -> Result<(), redb::Error> {
    match image.topic_by_id(&id) {
        Some(topic) => drop(table.insert(id.as_bytes().as_slice(), records::encode_topic(topic).as_slice())?),
        None => drop(table.remove(id.as_bytes().as_slice())?),
    }
    Ok(())
}

fn write_config(
    table: &mut Table<'_, &str, &[u8]>,
    resource: &str,
    config: Option<&ConfigOverrides>,
) -> Result<(), redb::Error> {
    write_row(table, resource, config.map(records::encode_config))
}

fn write_row(table: &mut Table<'_, &str, &[u8]>, key: &str, row: Option<Vec<u8>>) -> Result<(), redb::Error> {
    match row {
        Some(row) => drop(table.insert(key, row.as_slice())?),
        None => drop(table.remove(key)?),
    }
    Ok(())
}

fn write_number(transaction: &WriteTransaction, name: &str, value: u64) -> Result<(), redb::Error> {
    transaction.open_table(NODE)?.insert(name, value)?;
    Ok(())
}

impl Request {
    /// Its answer when the transaction failed before its turn; [`Staged::fail`] fills in the reason.
    fn not_done(self) -> Staged {
        match self {
            Self::Commit { reply, .. } => Staged::Commit(reply, Ok(())),
            Self::ProducerIds { reply, .. } => Staged::ProducerIds(reply, Ok(0..0)),
            Self::Remote { reply, .. } => Staged::Remote(reply, Ok(0)),
        }
    }
}

impl Staged {
    // In both, a caller that went away no longer needs its answer.

    fn send(self, image: &Arc<Image>) {
        match self {
            Self::Commit(reply, outcome) => drop(reply.send(outcome.map(|()| Arc::clone(image)))),
            Self::ProducerIds(reply, outcome) => drop(reply.send(outcome)),
            Self::Remote(reply, outcome) => drop(reply.send(outcome)),
        }
    }

    fn fail(self, why: &str) {
        match self {
            Self::Commit(reply, _) => drop(reply.send(Err(CommitError::Store(why.to_owned())))),
            Self::ProducerIds(reply, _) => drop(reply.send(Err(CommitError::Store(why.to_owned())))),
            Self::Remote(reply, _) => drop(reply.send(Err(RemoteLogError::Store(why.to_owned())))),
        }
    }
}
