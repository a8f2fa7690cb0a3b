//! The requests that the tier makes of a store, each with its deadline, its metrics, its retries and its share of the rate.

mod reading;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UploadPart,
};
use tokio::time::{Instant, timeout};

use super::StoreError;
use super::directory::Directory;
use super::health::{Health, StoreHealth};
use super::meter::{Meter, Op, Purpose, Usage};
use super::retry::Retry;
use super::throttle::Throttle;
use crate::tier::{Machine, TierOptions};

/// Keys that a store tells in one answer; a listing of more is as many requests.
const LIST_PAGE_KEYS: u64 = 1000;

/// How long the store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// A request that carries little: HEAD, LIST page, small PUT; and each wait for the next bytes of a GET.
    pub request: Duration,
    /// Bytes per second below which an upload, or a read of a directory's file, counts as hanging; one of n bytes has
    /// `request` + n / this.
    pub transfer_bytes_per_s: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { request: Duration::from_secs(15), transfer_bytes_per_s: 256 << 10 }
    }
}

impl Deadlines {
    /// The deadline of one request that carries `bytes`.
    pub fn transfer(&self, bytes: u64) -> Duration {
        self.request + Duration::from_secs(bytes / self.transfer_bytes_per_s.max(1))
    }
}

/// What came of "create if absent".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is new.
    New,
    /// An object has the key already. It may be our own from an attempt whose answer was lost: compare.
    Exists,
}

/// A store with manners, for one purpose. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket(Arc<Inner>, Purpose);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    /// Of a store whose objects are files.
    directory: Option<Directory>,
    deadlines: Deadlines,
    upload: Throttle,
    download: Throttle,
    health: Health,
    retry: Retry,
    meter: Meter,
}

impl Bucket {
    /// Wraps a store, whose objects are files of `directory` if there is one; what nobody says another purpose for is
    /// metadata.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        directory: Option<Directory>,
        options: &TierOptions,
        machine: &Machine,
    ) -> Self {
        metrics::gauge!("terrace_remote_store_up").set(1.0);
        let inner = Inner {
            store,
            directory,
            deadlines: options.deadlines,
            upload: Throttle::new(options.upload_bytes_per_s),
            download: Throttle::new(options.download_bytes_per_s),
            health: Health::new(machine.clock.clone()),
            retry: Retry::new(machine.random.clone()),
            meter: Meter::new(),
        };
        Self(Arc::new(inner), Purpose::Metadata)
    }

    /// The same store for another purpose.
    pub fn on(&self, purpose: Purpose) -> Self {
        Self(Arc::clone(&self.0), purpose)
    }

    /// What was asked of the store so far, for any purpose.
    pub fn usage(&self) -> Usage {
        self.0.meter.usage()
    }

    /// Does the store answer, and since when?
    pub fn health(&self) -> StoreHealth {
        self.0.health.get()
    }

    /// Does it answer reads, and refuse writes?
    pub fn is_read_only(&self) -> bool {
        self.0.health.is_read_only()
    }

    /// How long the store may take.
    pub fn deadlines(&self) -> Deadlines {
        self.0.deadlines
    }

    /// Size and time of an object.
    pub async fn head(&self, key: &Path) -> Result<ObjectMeta, StoreError> {
        self.retried(Op::Head, Some(key), self.0.deadlines.request, || self.0.store.head(key)).await
    }

    /// How long to wait before a request that came as far as `attempt` (from 1) is sent again; `None` if it shall not be.
    pub fn retry_after(&self, attempt: u32) -> Option<Duration> {
        self.0.retry.after(attempt)
    }

    /// Creates an object if its key is free.
    pub async fn create(&self, key: &Path, bytes: impl Into<PutPayload>) -> Result<Created, StoreError> {
        let payload: PutPayload = bytes.into();
        let len = payload.content_length() as u64;
        self.0.upload.take(len).await;
        let mut attempt = 1;
        loop {
            let created = self.create_once(key, &payload).await?;
            self.0.meter.sent(self.1, len);
            if created == Created::New {
                return Ok(created);
            }
            // The key may be refused (409 of S3) because another request for it is on its way, most likely our own whose
            // answer was not waited for. Then there is nothing yet to compare with.
            match self.head(key).await {
                Ok(_) => return Ok(Created::Exists),
                Err(StoreError::NotFound(_)) => match self.0.retry.after(attempt) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(StoreError::Unavailable(format!("'{key}' is refused for another request"))),
                },
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    async fn create_once(&self, key: &Path, payload: &PutPayload) -> Result<Created, StoreError> {
        let deadline = self.0.deadlines.transfer(payload.content_length() as u64);
        let request = || async {
            let options = PutOptions::from(PutMode::Create);
            match self.0.store.put_opts(key, payload.clone(), options).await {
                Ok(_) => Ok(Created::New),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Exists),
                Err(error) => Err(error),
            }
        };
        self.retried(Op::Put, Some(key), deadline, request).await
    }

    /// Begins an object of several parts.
    pub async fn start_parts(&self, key: &Path) -> Result<Box<dyn MultipartUpload>, StoreError> {
        self.retried(Op::PutPart, Some(key), self.0.deadlines.request, || self.0.store.put_multipart(key)).await
    }

    /// Waits for one part of `len` bytes. A part cannot be sent again at this level: its number is taken.
    pub async fn finish_part(&self, part: UploadPart, len: u64) -> Result<(), StoreError> {
        self.once(Op::PutPart, None, self.0.deadlines.transfer(len), part).await?;
        self.0.meter.sent(self.1, len);
        Ok(())
    }

    /// Waits until `bytes` may be sent.
    pub async fn before_part(&self, bytes: u64) {
        self.0.upload.take(bytes).await;
    }

    /// Puts the parts together.
    pub async fn complete_parts(&self, upload: &mut dyn MultipartUpload) -> Result<(), StoreError> {
        // The store may copy all parts here, so it gets longer than another small request.
        let deadline = self.0.deadlines.request * 4;
        self.once(Op::PutPart, None, deadline, upload.complete()).await.map(|_| ())
    }

    /// Gives up an object of several parts; a failure leaves what the store's own clean-up removes.
    pub async fn abort_parts(&self, upload: &mut dyn MultipartUpload) {
        if let Err(error) = self.once(Op::Delete, None, self.0.deadlines.request, upload.abort()).await {
            tracing::debug!(%error, "multipart upload was not aborted");
        }
    }

    /// Removes an object; fine when it is already gone.
    pub async fn delete(&self, key: &Path) -> Result<(), StoreError> {
        match self.retried(Op::Delete, Some(key), self.0.deadlines.request, || self.0.store.delete(key)).await {
            Err(StoreError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    /// What `pick` makes of every object below `prefix` (behind `after`, if given), in the order of keys.
    pub async fn list<T: Ord>(
        &self,
        prefix: &Path,
        after: Option<&Path>,
        mut pick: impl FnMut(ObjectMeta) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut attempt = 1;
        // A LIST that broke off begins anew: there is no place to go on from that all stores understand.
        loop {
            self.0.health.admit(Op::List)?;
            let started = Instant::now();
            let mut keys = 0;
            let outcome = self.list_once(prefix, after, &mut keys, &mut pick, &mut found).await;
            let pages = keys.div_ceil(LIST_PAGE_KEYS).max(1);
            self.0.meter.request(self.1, Op::List, pages, started.elapsed(), &outcome);
            self.0.health.record(Op::List, None, &outcome);
            match outcome {
                Ok(()) => break,
                Err(error) => match self.0.retry.after(attempt).filter(|_| error.is_transient()) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
            }
            attempt += 1;
        }
        self.0.retry.succeeded();
        // A local directory lists in no order.
        found.sort();
        Ok(found)
    }

    async fn list_once<T>(
        &self,
        prefix: &Path,
        after: Option<&Path>,
        keys: &mut u64,
        pick: &mut impl FnMut(ObjectMeta) -> Option<T>,
        found: &mut Vec<T>,
    ) -> Result<(), StoreError> {
        found.clear();
        let deadline = self.0.deadlines.request;
        let mut stream = match after {
            Some(after) => self.0.store.list_with_offset(Some(prefix), after),
            None => self.0.store.list(Some(prefix)),
        };
        loop {
            match timeout(deadline, self.where_it_runs(stream.next()))
                .await
                .map_err(|_| StoreError::Timeout(deadline))?
            {
                None => return Ok(()),
                Some(Ok(meta)) => {
                    *keys += 1;
                    found.extend(pick(meta));
                }
                // An object that went away while it was listed.
                Some(Err(object_store::Error::NotFound { .. })) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// The names directly below `prefix` that have something below them.
    pub async fn list_directories(&self, prefix: &Path) -> Result<Vec<String>, StoreError> {
        let list = || self.0.store.list_with_delimiter(Some(prefix));
        let mut found = self.retried(Op::List, None, self.0.deadlines.request, list).await?;
        found.common_prefixes.sort();
        Ok(found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    async fn arrived(&self, bytes: u64) {
        self.0.meter.received(self.1, bytes);
        self.0.download.take(bytes).await;
    }

    /// What the store's crate does with a directory's files, it does on the threads of that directory.
    async fn where_it_runs<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.0.directory {
            Some(directory) => directory.threads().run(work).await,
            None => work.await,
        }
    }

    /// One request; `key` names the object if it is about one alone.
    async fn once<T>(
        &self,
        op: Op,
        key: Option<&Path>,
        deadline: Duration,
        request: impl Future<Output = Result<T, impl Into<StoreError>>>,
    ) -> Result<T, StoreError> {
        self.0.health.admit(op)?;
        let started = Instant::now();
        let outcome = match timeout(deadline, self.where_it_runs(request)).await {
            Ok(answer) => answer.map_err(Into::into),
            Err(_) => Err(StoreError::Timeout(deadline)),
        };
        self.0.meter.request(self.1, op, 1, started.elapsed(), &outcome);
        self.0.health.record(op, key, &outcome);
        outcome
    }

    async fn retried<T, F, E>(
        &self,
        op: Op,
        key: Option<&Path>,
        deadline: Duration,
        mut request: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<StoreError>,
    {
        let mut attempt = 1;
        loop {
            match self.once(op, key, deadline, request()).await {
                Ok(answer) => {
                    self.0.retry.succeeded();
                    return Ok(answer);
                }
                // A store that is down is not asked again at once; that is what "down" is for.
                Err(error @ StoreError::Down(_)) => return Err(error),
                Err(error) => match self.0.retry.after(attempt).filter(|_| error.is_transient()) {
                    Some(wait) => {
                        metrics::counter!("terrace_remote_retries_total", "op" => op.name()).increment(1);
                        tracing::debug!(op = op.name(), attempt, %error, "request to the object store is sent again");
                        tokio::time::sleep(wait).await;
                    }
                    None => return Err(error),
                },
            }
            attempt += 1;
        }
    }
}
