//! Reads chunks: from memory, else from the local disk, else by a GET of a whole window; and further ahead the longer
//! somebody reads on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::download::{Claim, Flights, Waiter, Window};
use super::footers::Footers;
use super::kept::{IDLE_MAX, IDLE_UNDER_PRESSURE, Kept, Released};
use super::streams::{Memory, Stream, Streams};
use super::{ChunkRead, ReadError, ReadHint};
use crate::cache::disk::DiskCache;
use crate::cache::memory::{ChunkKey, MemoryCache, NOBODY};
use crate::names::{Names, ObjectRef};
use crate::object::chunk::ChunkEntry;
use crate::object::footer::Footer;
use crate::platform::task::Tasks;
use crate::store::bucket::Bucket;
use crate::store::open::StoreKind;
use crate::tier::{Machine, Tier, TierError, TierOptions, kib};

/// Chunks that wait to be written to the disk tier: three windows that come at once.
const DISK_WRITES_MAX: usize = 48;
/// How far ahead of a reader anything is looked for that is not at hand.
const DISTANCE_MAX: u64 = 64 << 20;

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
    pub(super) kept: Kept,
    /// For what is on its way or kept.
    ahead: Memory,
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
    /// Bytes on their way, and of chunks that wait for their readers.
    pub(crate) fn ahead_bytes(&self) -> u64 {
        self.ahead.held()
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
        Ok(Arc::new(Self {
            memory: MemoryCache::new(options.memory_cache_bytes, options.cache_policy),
            disk,
            disk_writes: Arc::new(Semaphore::new(DISK_WRITES_MAX)),
            footers: Footers::new(options.footer_cache_bytes, bucket.clone(), names.clone()),
            flights: Flights::default(),
            streams: Streams::new(),
            kept: Kept::default(),
            ahead: Memory::new(options.read_ahead_max_bytes, options.read_ahead_stream_bytes),
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
        let place = key(object, first);
        let (stream, sequential) = self.streams.at(&place);
        self.move_on(&stream, &place);
        let wanted = self.want(object, &footer, first, &stream);
        if sequential {
            self.read_ahead(object, &footer, first + 1, &stream, hint).await;
        }
        let mut chunks = vec![match wanted {
            Ok(bytes) => bytes,
            Err(waiter) => waiter.wait().await?,
        }];
        let mut handed = vec![place];
        // The rest of the answer does not wait: chunks on their way are for the next read.
        let (mut bytes, mut next) = (chunks[0].len() as u64, first + 1);
        while bytes < max_bytes
            && let Some(chunk) = footer.chunks.get(next).and_then(|_| self.at_hand(&key(object, next), &stream))
        {
            bytes += chunk.len() as u64;
            chunks.push(chunk);
            handed.push(key(object, next));
            next += 1;
        }
        let (goes_on, next_offset) = match footer.chunks.get(next) {
            Some(chunk) => (Some(key(object, next)), chunk.first_offset),
            None => (hint.next.map(|next| key(&next, 0)), object.last_offset + 1),
        };
        self.streams.ended(&stream, &handed, goes_on);
        Ok(ChunkRead { first_offset: footer.chunks[first].first_offset, next_offset, chunks })
    }

    fn at_hand(&self, key: &ChunkKey, stream: &Stream) -> Option<Bytes> {
        self.kept.get(key, stream.id()).or_else(|| self.memory.get(key, stream.id()))
    }

    /// The stream reads at `place`: what it had before is for the cache.
    fn move_on(&self, stream: &Stream, place: &ChunkKey) {
        let behind = stream.left_behind(place);
        self.streams.leave(stream, &behind);
        behind.iter().filter_map(|key| self.kept.release(key, stream.id())).for_each(|chunk| self.put_back(chunk));
    }

    fn put_back(&self, chunk: Released) {
        self.memory.insert(chunk.key, chunk.bytes, chunk.reader);
        if chunk.by_others {
            self.memory.get(&chunk.key, NOBODY);
        }
    }

    fn give_up(&self, idle: Duration) {
        self.kept.give_up(idle).into_iter().for_each(|chunk| self.put_back(chunk));
    }

    /// The chunk, or the wait for it; a download is begun if none is on its way.
    fn want(
        self: &Arc<Self>,
        object: &ObjectRef,
        footer: &Footer,
        number: usize,
        stream: &Arc<Stream>,
    ) -> Result<Bytes, Waiter> {
        let key = key(object, number);
        if let Some(bytes) = self.at_hand(&key, stream) {
            metrics::counter!("terrace_remote_cache_hits_total", "tier" => "memory").increment(1);
            return Ok(bytes);
        }
        match self.flights.claim(key, footer.chunks[number], || self.at_hand(&key, stream)) {
            Ok(bytes) => Ok(bytes),
            Err(Claim::Flying(waiter)) => Err(waiter),
            Err(Claim::Ours(slot)) => {
                let waiter = slot.waiter();
                let bytes = match stream.is_sequential() {
                    true => self.ahead.window(stream, self.streams.others(stream)),
                    false => stream.window(),
                };
                let slots = VecDeque::from([slot]);
                let window = self.widen(Window { object: *object, slots }, footer, number, bytes);
                stream.grow();
                self.give_up(IDLE_MAX);
                self.start(window, stream, None, stream.one_more_get());
                Err(waiter)
            }
        }
    }

    /// Begins downloads behind what is at hand or on its way, as long as the stream may have more ahead.
    async fn read_ahead(
        self: &Arc<Self>,
        object: &ObjectRef,
        footer: &Arc<Footer>,
        from: usize,
        stream: &Arc<Stream>,
        hint: ReadHint,
    ) {
        let others = self.streams.others(stream);
        let (mut object, mut footer, mut number) = (*object, footer.clone(), from);
        let mut next = hint.next;
        let mut distance = 0;
        while distance <= DISTANCE_MAX && self.ahead.has_room(stream, others) {
            let Some(chunk) = footer.chunks.get(number) else {
                let Some(behind) = next.take() else { return };
                let Some(its_footer) = self.footers.at_hand(&behind).await else {
                    return self.fetch_footer(behind);
                };
                (object, footer, number) = (behind, its_footer, 0);
                continue;
            };
            let key = key(&object, number);
            distance += u64::from(chunk.length);
            if self.is_near(&key) || self.flights.is_flying(&key) {
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
            let bytes = self.ahead.window(stream, others);
            let Some(permit) = self.memory_ahead(planned_kib(&footer.chunks[number..], bytes)) else { return };
            let Err(Claim::Ours(slot)) = self.flights.claim(key, *chunk, || self.at_hand(&key, stream)) else {
                continue;
            };
            let window = Window { object, slots: VecDeque::from([slot]) };
            let window = self.widen(window, &footer, number, bytes);
            stream.grow();
            number += window.slots.len();
            distance += window.bytes();
            self.start(window, stream, Some(permit), Some(get));
        }
    }

    /// Memory for what nobody needs yet: what is free, or held by readers who stay away.
    fn memory_ahead(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        self.ahead.try_take_ahead(kib).or_else(|| {
            self.give_up(IDLE_UNDER_PRESSURE);
            self.ahead.try_take_ahead(kib)
        })
    }

    /// Memory for what is needed now: also that of readers who stay away, and of chunks that somebody has seen.
    fn memory_at_once(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        self.ahead.try_take(kib).or_else(|| {
            self.make_room(kib);
            self.ahead.try_take(kib)
        })
    }

    fn make_room(&self, kib: u32) {
        self.give_up(IDLE_UNDER_PRESSURE);
        self.kept.give_up_seen(u64::from(kib) << 10).into_iter().for_each(|chunk| self.put_back(chunk));
    }

    /// Waits for memory; who waits longest is next.
    async fn memory_in_turn(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        let mut turn = std::pin::pin!(self.ahead.take(kib));
        loop {
            match tokio::time::timeout(IDLE_UNDER_PRESSURE / 8, &mut turn).await {
                Ok(permit) => return permit,
                Err(_) => self.make_room(kib),
            }
        }
    }

    fn is_near(&self, key: &ChunkKey) -> bool {
        self.kept.contains(key) || self.memory.contains(key)
    }

    /// Adds the chunks behind the window's first one that come from the same place, to the first that ends at or behind
    /// `bytes`.
    fn widen(&self, mut window: Window, footer: &Footer, first: usize, bytes: u64) -> Window {
        let on_disk = self.on_disk(&window);
        let mut sum = window.bytes();
        for (number, chunk) in footer.chunks.iter().enumerate().skip(first + 1) {
            let key = key(&window.object, number);
            let elsewhere = self.disk.as_ref().is_some_and(|disk| disk.contains(&key)) != on_disk;
            let useless = !self.memory.keeps(u64::from(chunk.length)) || self.is_near(&key);
            if sum >= bytes || elsewhere || useless {
                break;
            }
            sum += u64::from(chunk.length);
            // It was looked for a moment ago; what has come since then is fetched once more, which is rare and harmless.
            match self.flights.claim(key, *chunk, || None) {
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

    /// Runs the window's download as a task of its own. Without a permit it first waits for memory.
    fn start(
        self: &Arc<Self>,
        mut window: Window,
        stream: &Arc<Stream>,
        permit: Option<OwnedSemaphorePermit>,
        get: Option<OwnedSemaphorePermit>,
    ) {
        let (reader, stream) = (self.clone(), stream.clone());
        let on_disk = self.on_disk(&window);
        let stopping = self.tasks.stopping();
        let permit = permit.or_else(|| self.memory_at_once(window.kib()));
        let is_waiting = permit.is_none();
        if let Some(permit) = permit {
            window.share(&stream, permit);
        }
        let work = async move {
            if is_waiting && let Some(permit) = reader.memory_in_turn(window.kib()).await {
                window.share(&stream, permit);
            }
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

/// Memory for the chunks of a window that ends at or behind `bytes`.
fn planned_kib(chunks: &[ChunkEntry], bytes: u64) -> u32 {
    let (mut sum, mut planned) = (0, 0u32);
    for chunk in chunks {
        sum += u64::from(chunk.length);
        planned = planned.saturating_add(kib(chunk.length.into()));
        if sum >= bytes {
            break;
        }
    }
    planned
}

fn key(object: &ObjectRef, number: usize) -> ChunkKey {
    // A footer's chunk count is a u32.
    ChunkKey { object: object.uuid, number: number as u32 }
}
