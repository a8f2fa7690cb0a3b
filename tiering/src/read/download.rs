//! Chunks on their way. Each is claimed by one download and everybody else waits for that; the download is a task of its
//! own, so it outlives the request that began it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::ReadError;
use super::reader::Reader;
use super::streams::{Share, Stream};
use crate::cache::memory::{ChunkKey, NOBODY};
use crate::names::ObjectRef;
use crate::object::chunk::ChunkEntry;
use crate::store::StoreError;
use crate::tier::kib;

type Outcome = Option<Result<Bytes, ReadError>>;

/// All chunks on their way.
#[derive(Debug, Clone, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<ChunkKey, watch::Receiver<Outcome>>>>);

/// Waits for a chunk; holds its bytes from then on, whatever the caches do.
#[derive(Debug)]
pub(super) struct Waiter(watch::Receiver<Outcome>);

impl Waiter {
    pub(super) async fn wait(mut self) -> Result<Bytes, ReadError> {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The download's task went away with the runtime or by a panic.
            Ok(None) | Err(_) => Err(ReadError::Store(StoreError::Unavailable("download was given up".to_owned()))),
        }
    }
}

/// What stands between a reader and a chunk.
#[derive(Debug)]
pub(super) enum Claim {
    /// Somebody fetches it.
    Flying(Waiter),
    /// The caller must fetch it.
    Ours(Slot),
}

impl Flights {
    /// Claims a chunk. `at_hand` looks into the cache, under the lock: a chunk that just arrived is not fetched again.
    pub(super) fn claim(
        &self,
        key: ChunkKey,
        chunk: ChunkEntry,
        at_hand: impl FnOnce() -> Option<Bytes>,
    ) -> Result<Bytes, Claim> {
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&key) {
            return Err(Claim::Flying(Waiter(flight.clone())));
        }
        if let Some(bytes) = at_hand() {
            return Ok(bytes);
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key, receiver);
        Err(Claim::Ours(Slot { key, chunk, share: None, sender, flights: self.clone() }))
    }

    pub(super) fn is_flying(&self, key: &ChunkKey) -> bool {
        self.lock().contains_key(key)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChunkKey, watch::Receiver<Outcome>>> {
        // A map of handles: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to deliver one chunk. Dropped undelivered it lets the next reader try.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: ChunkKey,
    pub(super) chunk: ChunkEntry,
    /// The memory that it may take.
    share: Option<Share>,
    sender: watch::Sender<Outcome>,
    flights: Flights,
}

impl Slot {
    pub(super) fn waiter(&self) -> Waiter {
        Waiter(self.sender.subscribe())
    }

    /// Does somebody wait? (One receiver is the table's own.)
    fn is_awaited(&self) -> bool {
        self.sender.receiver_count() > 1
    }

    /// Hands the outcome to all who wait. The caller has put the chunk into the cache before, so that there is no moment
    /// in which it is neither there nor on its way.
    fn deliver(self, outcome: Result<Bytes, ReadError>) {
        self.sender.send_replace(Some(outcome));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

/// Consecutive chunks of one object, to be fetched together.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) object: ObjectRef,
    pub(super) slots: VecDeque<Slot>,
}

impl Window {
    pub(super) fn bytes(&self) -> u64 {
        self.slots.iter().map(|slot| u64::from(slot.chunk.length)).sum()
    }

    /// KiB of memory that it takes.
    pub(super) fn kib(&self) -> u32 {
        self.slots.iter().map(|slot| kib(slot.chunk.length.into())).fold(0, u32::saturating_add)
    }

    /// Deals out the memory for the whole window to its chunks; what is left over goes back.
    pub(super) fn share(&mut self, stream: &Arc<Stream>, mut memory: OwnedSemaphorePermit) {
        for slot in &mut self.slots {
            let bytes = u64::from(slot.chunk.length);
            // A window larger than all there is has less.
            let part = memory.split(memory.num_permits().min(kib(bytes) as usize));
            slot.share = part.map(|part| Share::new(Arc::clone(stream), bytes, part));
        }
    }

    fn fail(self, error: &ReadError) {
        for slot in self.slots {
            slot.deliver(Err(error.clone()));
        }
    }
}

impl Reader {
    /// Takes the chunks from the disk tier; those that turn out to be bad are fetched.
    pub(super) async fn load(self: Arc<Self>, mut window: Window) {
        let Some(disk) = self.disk.clone() else { return self.fetch(window).await };
        while let Some(slot) = window.slots.pop_front() {
            let (key, chunk, disk) = (slot.key, slot.chunk, disk.clone());
            let read = tokio::task::spawn_blocking(move || disk.read(&key, &chunk)).await;
            match read.ok().flatten() {
                Some(bytes) => {
                    metrics::counter!("terrace_remote_cache_hits_total", "tier" => "disk").increment(1);
                    self.deliver(slot, bytes);
                }
                None => {
                    let one = Window { object: window.object, slots: VecDeque::from([slot]) };
                    self.clone().fetch(one).await;
                }
            }
        }
    }

    /// Fetches a window by one GET; what is missing after a failure by another one, as long as retries are granted.
    pub(super) async fn fetch(self: Arc<Self>, mut window: Window) {
        let mut attempt = 1;
        while let Some(first) = window.slots.front().map(|slot| slot.key) {
            let Err(error) = self.fetch_once(&mut window).await else { continue };
            let progressed = window.slots.front().is_some_and(|slot| slot.key != first);
            attempt = if progressed { 1 } else { attempt };
            let again = match &error {
                // Bytes may have been damaged on the way, once. What is wrong twice is wrong in the store.
                ReadError::Corrupt { .. } => attempt == 1,
                ReadError::Store(error) => error.is_transient() && !matches!(error, StoreError::Down(_)),
                ReadError::Gone(_) | ReadError::Footer { .. } | ReadError::OffsetOutOfRange(_) => false,
            };
            match self.bucket.retry_after(attempt).filter(|_| again) {
                Some(wait) => {
                    attempt += 1;
                    tokio::time::sleep(wait).await;
                }
                // The chunks behind a bad one may be good.
                None if matches!(error, ReadError::Corrupt { .. }) => {
                    if let Some(slot) = window.slots.pop_front() {
                        tracing::error!(%error, "chunk in the object store is corrupt; not served");
                        slot.deliver(Err(error));
                    }
                    attempt = 1;
                }
                None => return window.fail(&error),
            }
        }
    }

    async fn fetch_once(&self, window: &mut Window) -> Result<(), ReadError> {
        let [Some(first), Some(last)] = [window.slots.front(), window.slots.back()] else { return Ok(()) };
        let range = first.chunk.position..last.chunk.position + u64::from(last.chunk.length);
        let key = self.names.segment(&window.object);
        let lengths = window.slots.iter().map(|slot| slot.chunk.length).collect();
        let mut pieces = self.bucket.get_chunks(&key, range, lengths).await?;
        let mut filling = BytesMut::new();
        while let Some(mut piece) = pieces.try_next().await? {
            while !piece.is_empty() {
                let Some(slot) = window.slots.front() else { return Ok(()) };
                let length = slot.chunk.length as usize;
                // The pieces of a directory are chunks in memory of their own; those of a connection share its buffer.
                if filling.is_empty() && piece.len() == length && self.bucket.is_directory() {
                    self.arrived(window, std::mem::take(&mut piece))?;
                    continue;
                }
                filling.reserve(length - filling.len());
                let part = piece.split_to(piece.len().min(length - filling.len()));
                filling.extend_from_slice(&part);
                if filling.len() == length {
                    // A chunk owns its memory: a slice of something larger would keep all of that alive in the cache.
                    self.arrived(window, std::mem::take(&mut filling).freeze())?;
                }
            }
        }
        if window.slots.is_empty() {
            return Ok(());
        }
        Err(ReadError::Store(StoreError::Unavailable(format!("answer for '{key}' ended too early"))))
    }

    /// The bytes of the window's first chunk are complete.
    fn arrived(&self, window: &mut Window, bytes: Bytes) -> Result<(), ReadError> {
        let Some(slot) = window.slots.pop_front() else { return Ok(()) };
        if !slot.chunk.holds(&bytes) {
            metrics::counter!("terrace_remote_corrupt_chunks_total").increment(1);
            let (key, chunk) = (self.names.segment(&window.object).to_string(), slot.key.number as usize);
            window.slots.push_front(slot);
            return Err(ReadError::Corrupt { key, chunk });
        }
        self.write_behind(slot.key, &bytes);
        self.deliver(slot, bytes);
        Ok(())
    }

    fn deliver(&self, mut slot: Slot, bytes: Bytes) {
        match slot.share.take() {
            // Who reads here and there has what he wants, if he still waits for it.
            Some(share) if !share.is_sequential() && slot.is_awaited() => {
                self.memory.insert(slot.key, bytes.clone(), share.reader());
            }
            Some(share) => self.kept.insert(slot.key, bytes.clone(), share),
            None => self.memory.insert(slot.key, bytes.clone(), NOBODY),
        }
        slot.deliver(Ok(bytes));
    }

    /// Writes a chunk to the disk tier, unless writes are already piling up: a cache must not slow a reader.
    fn write_behind(&self, key: ChunkKey, bytes: &Bytes) {
        let Some(disk) = self.disk.clone() else { return };
        let Ok(permit) = self.disk_writes.clone().try_acquire_owned() else {
            metrics::counter!("terrace_remote_cache_skipped_writes_total").increment(1);
            return;
        };
        let bytes = bytes.clone();
        self.tasks.spawn("remote-cache-write", async move {
            let write = tokio::task::spawn_blocking(move || disk.write(key, &bytes));
            if let Err(error) = write.await {
                tracing::warn!(%error, "write to the disk cache broke off");
            }
            drop(permit);
        });
    }
}
