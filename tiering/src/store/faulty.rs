//! A store that fails on purpose, for tests: at random from a seed, or exactly where a test says. It also counts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Semaphore;

use super::meter::Op;
use crate::platform::random::{Random, SeededRandom};

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error, nothing done.
    Error,
    /// Done, but the answer is an error.
    ErrorAfter,
    /// No answer, ever.
    Hang,
    /// The answer waits for a permit.
    Wait(Arc<Semaphore>),
    /// One bit of the bytes is wrong, on the way up or down.
    FlipBit,
    /// "If absent" is ignored.
    Overwrite,
}

#[derive(Debug, Default)]
struct Plan {
    next: HashMap<Op, VecDeque<Fault>>,
    counts: HashMap<Op, u64>,
    errors_per_mille: u64,
    down: bool,
}

/// Wraps a store. Clones share their plan.
#[derive(Debug, Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
    random: Arc<SeededRandom>,
}

impl Faulty {
    /// No fault yet.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self { inner, plan: Arc::default(), random: SeededRandom::new(seed) }
    }

    /// The next request of this kind without another fault meets this one.
    pub fn next(&self, op: Op, fault: Fault) {
        self.plan().next.entry(op).or_default().push_back(fault);
    }

    /// Forgets the faults that nobody met yet.
    pub fn clear(&self) {
        self.plan().next.clear();
    }

    /// From now on this share of all requests fails, half of them after they were done.
    pub fn fail_at_random(&self, per_mille: u64) {
        self.plan().errors_per_mille = per_mille;
    }

    /// From now on every request fails, or none because of this.
    pub fn set_down(&self, down: bool) {
        self.plan().down = down;
    }

    /// How many requests of this kind came.
    pub fn count(&self, op: Op) -> u64 {
        self.plan().counts.get(&op).copied().unwrap_or(0)
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, op: Op) -> Option<Fault> {
        let mut plan = self.plan();
        *plan.counts.entry(op).or_default() += 1;
        if plan.down {
            return Some(Fault::Error);
        }
        if let Some(fault) = plan.next.get_mut(&op).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let roll = self.random.next_u64() % 1000;
        let fault = if roll.is_multiple_of(2) { Fault::Error } else { Fault::ErrorAfter };
        (roll < plan.errors_per_mille).then_some(fault)
    }

    /// What comes before the request; the fault that concerns the request itself is left.
    async fn before(&self, op: Op) -> Result<Option<Fault>> {
        match self.draw(op) {
            Some(Fault::Error) => Err(injected()),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Wait(gate)) => {
                // A closed gate is an open one.
                let _ = gate.acquire().await.map(tokio::sync::SemaphorePermit::forget);
                Ok(None)
            }
            other => Ok(other),
        }
    }
}

fn injected() -> Error {
    Error::Generic { store: "faulty", source: "injected".into() }
}

fn after<T>(fault: Option<Fault>, outcome: Result<T>) -> Result<T> {
    match fault {
        Some(Fault::ErrorAfter) => outcome.and(Err(injected())),
        _ => outcome,
    }
}

fn flipped(payload: PutPayload) -> PutPayload {
    flip(&Bytes::from(payload)).into()
}

fn flip(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, mut payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fault = self.before(Op::Put).await?;
        match fault {
            Some(Fault::FlipBit) => payload = flipped(payload),
            Some(Fault::Overwrite) => options.mode = PutMode::Overwrite,
            _ => {}
        }
        after(fault, self.inner.put_opts(key, payload, options).await)
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(key, options).await?;
        Ok(Box::new(FaultyUpload { inner, faulty: self.clone() }))
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.before(if options.head { Op::Head } else { Op::Get }).await?;
        let mut answer = after(fault.clone(), self.inner.get_opts(key, options).await)?;
        if matches!(fault, Some(Fault::FlipBit)) {
            let (meta, range, attributes) = (answer.meta.clone(), answer.range.clone(), answer.attributes.clone());
            let extensions = std::mem::take(&mut answer.extensions);
            let bytes = flip(&answer.bytes().await?);
            let payload = GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed());
            return Ok(GetResult { payload, meta, range, attributes, extensions });
        }
        Ok(answer)
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let faulty = self.clone();
        let each = keys.and_then(move |key| {
            let faulty = faulty.clone();
            async move {
                let fault = faulty.before(Op::Delete).await?;
                let one = futures::stream::iter([Ok(key.clone())]).boxed();
                let gone: Result<Vec<Path>> = faulty.inner.delete_stream(one).try_collect().await;
                after(fault, gone.map(|_| key))
            }
        });
        each.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (faulty, prefix) = (self.clone(), prefix.cloned());
        let stream = async move {
            let fault = faulty.before(Op::List).await;
            let failed = fault.and_then(|fault| after(fault, Ok(()))).err();
            match failed {
                Some(error) => futures::stream::iter([Err(error)]).boxed(),
                None => faulty.inner.list(prefix.as_ref()),
            }
        };
        stream.flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fault = self.before(Op::List).await?;
        after(fault, self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faulty: Faulty,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // The part's number is taken here, in the order of the calls, whatever becomes of it.
        let fault = self.faulty.draw(Op::PutPart);
        let data = if matches!(fault, Some(Fault::FlipBit)) { flipped(data) } else { data };
        let part = self.inner.put_part(data);
        async move {
            match fault {
                Some(Fault::Error) => Err(injected()),
                Some(Fault::Hang) => std::future::pending().await,
                Some(Fault::Wait(gate)) => {
                    let _ = gate.acquire().await.map(tokio::sync::SemaphorePermit::forget);
                    part.await
                }
                other => after(other, part.await),
            }
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
