//! Reads chunks: from memory, else from the local disk, else by a GET of a whole window; and further ahead the longer
//! somebody reads on.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::download::{Claim, Flights, Waiter, Window};
use super::footers::Footers;
use super::pins::Pins;
use super::read_ahead::{Stream, Streams};
use super::{ChunkRead, ReadError, ReadHint};
use crate::cache::disk::DiskCache;
use crate::cache::memory::{ChunkKey, MemoryCache};
use crate::names::{Names, ObjectRef};
use crate::object::footer::Footer;
use crate::platform::task::Tasks;
use crate::store::bucket::Bucket;
use crate::store::open::StoreKind;
use crate::tier::{Machine, Tier, TierError, TierOptions, kib};

/// Chunks that wait to be written to the disk tier.
const DISK_WRITES_MAX: usize = 16;

/// Everything that reads share.
#[derive(Debug)]
pub struct Reader {
    pub(super) bucket: Bucket,
    pub(super) names: Names,
    pub(super) tasks: Tasks,
    pub(super) memory: MemoryCache,
    pub(super) disk: Option<Arc<DiskCache>>,
    pub(super) disk_writes: Arc<Semaphore>,
    footers: Footers,
    flights: Flights,
    streams: Streams,
    pub(super) pins: Pins,
    /// Bytes of all downloads on their way, in KiB; whoever waits longest is next.
    budget: Arc<Semaphore>,
    budget_kib: u32,
    ahead_max: u64,
}

impl Tier {
    /// Chunks of `object` from the one that holds `offset` on: at least one, more while they are at hand and
    /// `max_bytes` is not reached. What it began goes on when the caller leaves.
    pub async fn read(
        &self,
        object: &ObjectRef,
        offset: i64,
        max_bytes: u64,
        hint: ReadHint,
    ) -> Result<ChunkRead, ReadError> {
        self.reader.read(object, offset, max_bytes, hint).await
    }

    /// The footer of `object`, from memory if it was read before.
    pub async fn footer(&self, object: &ObjectRef) -> Result<Arc<Footer>, ReadError> {
        self.reader.footers.get(object).await
    }

    /// Bytes that the memory tier holds.
    pub fn memory_cache_bytes(&self) -> u64 {
        self.reader.memory.bytes()
    }

    /// Bytes that the disk tier holds; `None` without one.
    pub fn disk_cache_bytes(&self) -> Option<u64> {
        self.reader.disk.as_ref().map(|disk| disk.bytes())
    }
}

impl Reader {
    pub(crate) fn downloads_free_kib(&self) -> usize {
        self.budget.available_permits()
    }

    pub(crate) async fn open(
        bucket: Bucket,
        names: Names,
        options: &TierOptions,
        kind: StoreKind,
        machine: &Machine,
    ) -> Result<Arc<Self>, TierError> {
        // A local directory is as fast as the second tier would be.
        let disk = match &options.disk_cache {
            Some(disk) if kind != StoreKind::Local => {
                let (disk, options, fs) = (disk.clone(), options.clone(), machine.fs.clone());
                let path = disk.dir.clone();
                let opened = tokio::task::spawn_blocking(move || DiskCache::open(&disk, &options, &fs)).await;
                let opened = opened.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                Some(opened.map_err(|source| TierError::Directory { path, source })?)
            }
            Some(_) | None => None,
        };
        let budget_kib = kib(options.read_ahead_max_bytes);
        Ok(Arc::new(Self {
            memory: MemoryCache::new(options.memory_cache_bytes, options.cache_policy),
            disk,
            disk_writes: Arc::new(Semaphore::new(DISK_WRITES_MAX)),
            footers: Footers::new(options.footer_cache_bytes, bucket.clone(), names.clone()),
            flights: Flights::default(),
            streams: Streams::new(),
            pins: Pins::new(options.memory_cache_bytes / 2),
            budget: Arc::new(Semaphore::new(budget_kib as usize)),
            budget_kib,
            // One stream must not push out of memory what was read ahead for the others.
            ahead_max: options.read_ahead_stream_bytes.min(options.memory_cache_bytes / 4),
            tasks: machine.tasks.clone(),
            bucket,
            names,
        }))
    }

    async fn read(
        self: &Arc<Self>,
        object: &ObjectRef,
        offset: i64,
        max_bytes: u64,
        hint: ReadHint,
    ) -> Result<ChunkRead, ReadError> {
        let footer = self.footers.get(object).await?;
        let first = footer.chunk_of_offset(offset).ok_or(ReadError::OffsetOutOfRange(offset))?;
        let (stream, sequential) = self.streams.at(&key(object, first));
        let wanted = self.want(object, &footer, first, &stream);
        if sequential {
            self.read_ahead(object, &footer, first + 1, &stream, hint).await;
        }
        let mut chunks = vec![match wanted {
            Ok(bytes) => bytes,
            Err(waiter) => waiter.wait().await?,
        }];
        let mut bytes = chunks[0].len() as u64;
        let mut next = first + 1;
        // The rest of the answer does not wait: chunks on their way are for the next read.
        while bytes < max_bytes
            && let Some(chunk) = footer.chunks.get(next).and_then(|_| self.memory.get(&key(object, next)))
        {
            bytes += chunk.len() as u64;
            chunks.push(chunk);
            next += 1;
        }
        let (goes_on, next_offset) = match footer.chunks.get(next) {
            Some(chunk) => (Some(key(object, next)), chunk.first_offset),
            None => (hint.next.map(|next| key(&next, 0)), object.last_offset + 1),
        };
        self.streams.ended(&stream, key(object, first), key(object, next - 1), goes_on);
        Ok(ChunkRead { first_offset: footer.chunks[first].first_offset, next_offset, chunks })
    }

    /// The chunk, or the wait for it; a download is begun if none is on its way.
    fn want(
        self: &Arc<Self>,
        object: &ObjectRef,
        footer: &Footer,
        number: usize,
        stream: &Stream,
    ) -> Result<Bytes, Waiter> {
        let key = key(object, number);
        if let Some(bytes) = self.memory.get(&key) {
            metrics::counter!("terrace_remote_cache_hits_total", "tier" => "memory").increment(1);
            return Ok(bytes);
        }
        match self.flights.claim(key, footer.chunks[number], || self.memory.get(&key).or_else(|| self.pins.take(&key)))
        {
            Ok(bytes) => Ok(bytes),
            Err(Claim::Flying(waiter)) => Err(waiter),
            Err(Claim::Ours(mut slot)) => {
                let waiter = slot.waiter();
                slot.wanted = true;
                let slots = VecDeque::from([slot]);
                let window = self.widen(Window { object: *object, slots }, footer, number, stream.next_window());
                self.start(window, None, None);
                Err(waiter)
            }
        }
    }

    /// Begins downloads behind what is at hand or on its way, until half of what a stream may have ahead is there.
    async fn read_ahead(
        self: &Arc<Self>,
        object: &ObjectRef,
        footer: &Arc<Footer>,
        from: usize,
        stream: &Stream,
        hint: ReadHint,
    ) {
        let (mut object, mut footer, mut number) = (*object, footer.clone(), from);
        let mut next = hint.next;
        let mut ahead = 0;
        while ahead < self.ahead_max / 2 {
            let Some(chunk) = footer.chunks.get(number) else {
                let Some(behind) = next.take() else { return };
                let Some(its_footer) = self.footers.at_hand(&behind).await else {
                    return self.fetch_footer(behind);
                };
                (object, footer, number) = (behind, its_footer, 0);
                continue;
            };
            let key = key(&object, number);
            if self.memory.contains(&key) || self.flights.is_flying(&key) {
                ahead += u64::from(chunk.length);
                number += 1;
                continue;
            }
            // What memory does not keep would be fetched for nothing.
            if !self.memory.keeps(u64::from(chunk.length)) {
                return;
            }
            // Reading ahead takes what is free and never waits: who needs a chunk now comes first. The permits come before
            // the claim, for a claimed chunk must be fetched: somebody may already wait for it.
            let Some(get) = stream.one_more_get() else { return };
            let bytes = stream.next_window().min(self.ahead_max - ahead).max(u64::from(chunk.length));
            let wanted = kib(bytes).min(self.budget_kib);
            let Ok(permit) = self.budget.clone().try_acquire_many_owned(wanted) else { return };
            let Err(Claim::Ours(slot)) = self.flights.claim(key, *chunk, || self.memory.get(&key)) else { continue };
            let window = Window { object, slots: VecDeque::from([slot]) };
            let window = self.widen(window, &footer, number, bytes);
            ahead += window.bytes();
            number += window.slots.len();
            self.start(window, Some(permit), Some(get));
        }
    }

    /// Adds the chunks behind the window's first one, as long as they come from the same place and stay within `bytes`.
    fn widen(&self, mut window: Window, footer: &Footer, first: usize, bytes: u64) -> Window {
        let on_disk = self.on_disk(&window);
        let mut sum = window.bytes();
        for (number, chunk) in footer.chunks.iter().enumerate().skip(first + 1) {
            sum += u64::from(chunk.length);
            let key = key(&window.object, number);
            let elsewhere = self.disk.as_ref().is_some_and(|disk| disk.contains(&key)) != on_disk;
            let useless = !self.memory.keeps(u64::from(chunk.length)) || self.memory.contains(&key);
            if sum > bytes || elsewhere || useless {
                break;
            }
            match self.flights.claim(key, *chunk, || self.memory.get(&key)) {
                Err(Claim::Ours(slot)) => window.slots.push_back(slot),
                Ok(_) | Err(Claim::Flying(_)) => break,
            }
        }
        window
    }

    fn on_disk(&self, window: &Window) -> bool {
        let first = window.slots.front();
        self.disk.as_ref().zip(first).is_some_and(|(disk, slot)| disk.contains(&slot.key))
    }

    /// Runs the window's download as a task of its own. Without a permit it first waits for its share of the budget.
    fn start(
        self: &Arc<Self>,
        window: Window,
        permit: Option<OwnedSemaphorePermit>,
        get: Option<OwnedSemaphorePermit>,
    ) {
        let reader = self.clone();
        let on_disk = self.on_disk(&window);
        let stopping = self.tasks.stopping();
        let work = async move {
            let wanted = kib(window.bytes()).min(reader.budget_kib);
            let _budget = match permit {
                Some(permit) => Some(permit),
                None => reader.budget.clone().acquire_many_owned(wanted).await.ok(),
            };
            let _get = get;
            match on_disk {
                true => reader.load(window).await,
                false => {
                    metrics::counter!("terrace_remote_cache_misses_total").increment(window.slots.len() as u64);
                    reader.fetch(window).await;
                }
            }
        };
        // Nobody reads any more when the broker stops; whoever still does gets an error.
        self.tasks.spawn("remote-download", async move {
            let _ = stopping.run_until_cancelled(work).await;
        });
    }

    /// Brings the next segment's footer into memory, so that a later read can go on there.
    fn fetch_footer(self: &Arc<Self>, object: ObjectRef) {
        let reader = self.clone();
        self.tasks.spawn("remote-footer", async move {
            if let Err(error) = reader.footers.get(&object).await {
                tracing::debug!(%error, "footer of the next segment not read ahead");
            }
        });
    }
}

fn key(object: &ObjectRef, number: usize) -> ChunkKey {
    // A footer's chunk count is a u32.
    ChunkKey { object: object.uuid, number: number as u32 }
}
