//! Incremental fetch sessions (KIP-227): what a consumer watches stays here, so that its requests and our answers carry
//! only what changed.
//!
//! Sessions belong to the node, not to a connection. The request in hand takes its session out of the cache and puts it
//! back with the next epoch; one that ends without doing so (the client left) takes the session with it. The cache is
//! bounded in sessions (`max.incremental.fetch.session.cache.slots`) and in partitions over all of them. A full cache
//! makes room as Kafka does: first for who was silent for two minutes, else a larger session replaces the smallest one
//! that is older than two minutes; who finds no room fetches without a session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use terrace_tiering::platform::random::Random;
use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// Kafka's MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS.
const EVICTION_MS: i64 = 120_000;
/// About 200 bytes each: 64 MiB for all sessions of the node.
const PARTITIONS_MAX: usize = (64 << 20) / 200;

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
const NO_SESSION: i32 = 0;
const NO_SLOT: usize = usize::MAX;

/// A topic as a request named it, and what we knew of it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRef {
    /// `None`: an id that was unknown.
    pub name: Option<Arc<str>>,
    /// Nil in requests by name.
    pub id: Uuid,
}

/// What a consumer asks of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its topic.
    pub topic: TopicRef,
    /// Its number.
    pub partition: i32,
    /// From here.
    pub fetch_offset: Offset,
    /// At most so much.
    pub max_bytes: i32,
    /// -1 when unknown.
    pub current_leader_epoch: LeaderEpoch,
    /// -1 when unknown.
    pub last_fetched_epoch: LeaderEpoch,
}

/// What an answer says of one partition, as far as a session compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// -1 makes the partition part of the next answer.
    pub high_watermark: Offset,
    /// First readable offset.
    pub log_start: Offset,
    /// Bytes of records.
    pub bytes: u64,
    /// An error or a divergence: always told, and told again when it is over.
    pub failed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Name(Arc<str>, i32),
    Id(Uuid, i32),
}

#[derive(Debug)]
struct Slot {
    /// `None`: free.
    watched: Option<Watched>,
    high_watermark: Offset,
    log_start: Offset,
    previous: usize,
    next: usize,
}

/// The partitions of one session, in the order in which they are served.
#[derive(Debug)]
pub struct Session {
    id: i32,
    /// The epoch that its next request must carry.
    epoch: i32,
    by_id: bool,
    slots: Vec<Slot>,
    free: Vec<usize>,
    index: HashMap<Key, usize>,
    first: usize,
    last: usize,
}

impl Session {
    /// A session without partitions and without a place in the cache.
    pub fn new(by_id: bool) -> Self {
        let (slots, free, index) = (Vec::new(), Vec::new(), HashMap::new());
        Self { id: NO_SESSION, epoch: 1, by_id, slots, free, index, first: NO_SLOT, last: NO_SLOT }
    }

    /// Its id, as the client knows it.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Number of partitions.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Has it no partitions?
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn key(&self, topic: &TopicRef, partition: i32) -> Key {
        match &topic.name {
            Some(name) if !self.by_id => Key::Name(name.clone(), partition),
            _ => Key::Id(topic.id, partition),
        }
    }

    /// Adds a partition at the end, or changes what is asked of one where it stands. Returns its slot.
    pub fn watch(&mut self, mut watched: Watched) -> usize {
        let key = self.key(&watched.topic, watched.partition);
        if let Some(&slot) = self.index.get(&key) {
            let before = self.slots[slot].watched.take();
            if watched.topic.name.is_none() {
                // The topic is gone, but the session knows what it was called: 3 or 103 says more than 100.
                watched.topic.name = before.and_then(|before| before.topic.name);
            }
            self.slots[slot].watched = Some(watched);
            return slot;
        }
        let fresh =
            Slot { watched: Some(watched), high_watermark: -1, log_start: -1, previous: NO_SLOT, next: NO_SLOT };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = fresh;
                slot
            }
            None => {
                self.slots.push(fresh);
                self.slots.len() - 1
            }
        };
        self.index.insert(key, slot);
        self.link_last(slot);
        slot
    }

    /// Removes a partition; fine when it isn't there.
    pub fn forget(&mut self, topic: &TopicRef, partition: i32) {
        if let Some(slot) = self.index.remove(&self.key(topic, partition)) {
            self.unlink(slot);
            self.slots[slot].watched = None;
            self.free.push(slot);
        }
    }

    /// Slots and what is asked, in serving order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Watched)> {
        let mut at = self.first;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at)?;
            let item = (at, slot.watched.as_ref()?);
            at = slot.next;
            Some(item)
        })
    }

    /// Notes what is told of a partition; false when it is nothing new, so that the answer leaves it out. One that gave
    /// records goes to the end of the order.
    pub fn tell(&mut self, slot: usize, told: &Told) -> bool {
        let entry = &mut self.slots[slot];
        let news = told.bytes > 0
            || told.failed
            || entry.high_watermark != told.high_watermark
            || entry.log_start != told.log_start;
        entry.high_watermark = if told.failed { -1 } else { told.high_watermark };
        entry.log_start = told.log_start;
        if told.bytes > 0 && self.last != slot {
            self.unlink(slot);
            self.link_last(slot);
        }
        news
    }

    fn link_last(&mut self, slot: usize) {
        self.slots[slot].previous = self.last;
        self.slots[slot].next = NO_SLOT;
        match self.slots.get_mut(self.last) {
            Some(last) => last.next = slot,
            None => self.first = slot,
        }
        self.last = slot;
    }

    fn unlink(&mut self, slot: usize) {
        let (previous, next) = (self.slots[slot].previous, self.slots[slot].next);
        match self.slots.get_mut(previous) {
            Some(entry) => entry.next = next,
            None => self.first = next,
        }
        match self.slots.get_mut(next) {
            Some(entry) => entry.previous = previous,
            None => self.last = previous,
        }
    }
}

/// What a request's session fields ask for.
#[derive(Debug)]
pub enum Begun {
    /// Everything is in the request, and nothing is kept.
    Sessionless,
    /// Everything is in the request; a session may be made of it.
    Full,
    /// The request changes this session.
    Incremental(Held),
    /// The whole answer is this error.
    Refused(ErrorCode),
}

/// All sessions of the node.
#[derive(Debug, Clone)]
pub struct FetchSessions(Arc<Cache>);

#[derive(Debug)]
struct Cache {
    slots: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<i32, Entry>,
    partitions: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` while a request holds it.
    session: Option<Box<Session>>,
    partitions: usize,
    created_ms: i64,
    used_ms: i64,
}

impl Entries {
    fn remove(&mut self, id: i32) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        self.partitions -= entry.partitions;
        Some(entry)
    }

    /// The session that makes room for one of `partitions` partitions.
    fn evictable(&self, partitions: usize, now_ms: i64) -> Option<i32> {
        let silent = self.by_id.iter().min_by_key(|(_, entry)| entry.used_ms)?;
        if now_ms - silent.1.used_ms > EVICTION_MS {
            return Some(*silent.0);
        }
        let old = self.by_id.iter().filter(|(_, entry)| now_ms - entry.created_ms > EVICTION_MS);
        let (id, smallest) = old.min_by_key(|(id, entry)| (entry.partitions, **id))?;
        (smallest.partitions < partitions).then_some(*id)
    }
}

impl FetchSessions {
    /// An empty cache for `slots` sessions.
    pub fn new(slots: usize) -> Self {
        Self(Arc::new(Cache { slots, entries: Mutex::default() }))
    }

    /// Number of sessions, and of partitions in them.
    pub fn counts(&self) -> (usize, usize) {
        let entries = self.0.lock();
        (entries.by_id.len(), entries.partitions)
    }

    /// Reads the session fields of a request.
    pub fn begin(&self, id: i32, epoch: i32, by_id: bool, now_ms: i64) -> Begun {
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != NO_SESSION {
                self.0.lock().remove(id);
            }
            return if epoch == FINAL_EPOCH { Begun::Sessionless } else { Begun::Full };
        }
        let mut entries = self.0.lock();
        let Some(entry) = entries.by_id.get_mut(&id) else { return Begun::Refused(ErrorCode::FetchSessionIdNotFound) };
        // Another request has it in hand: that one's epoch is this one's, or later.
        let Some(session) = &entry.session else { return Begun::Refused(ErrorCode::InvalidFetchSessionEpoch) };
        if session.epoch != epoch {
            return Begun::Refused(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Begun::Refused(ErrorCode::FetchSessionTopicIdError);
        }
        entry.used_ms = now_ms;
        let session = entry.session.take();
        Begun::Incremental(Held { cache: self.0.clone(), session })
    }

    /// Keeps `session`, if there is room; its id, or 0.
    pub fn keep(&self, mut session: Session, random: &dyn Random, now_ms: i64) -> i32 {
        let partitions = session.len();
        let mut entries = self.0.lock();
        while entries.by_id.len() >= self.0.slots.max(1) || entries.partitions + partitions > PARTITIONS_MAX {
            match entries.evictable(partitions, now_ms) {
                Some(id) => entries.remove(id),
                None => return NO_SESSION,
            };
        }
        if self.0.slots == 0 || partitions > PARTITIONS_MAX {
            return NO_SESSION;
        }
        let id = loop {
            let id = (random.next_u64() & 0x7fff_ffff) as i32;
            if id != NO_SESSION && !entries.by_id.contains_key(&id) {
                break id;
            }
        };
        session.id = id;
        entries.partitions += partitions;
        let entry = Entry { session: Some(Box::new(session)), partitions, created_ms: now_ms, used_ms: now_ms };
        entries.by_id.insert(id, entry);
        id
    }
}

impl Cache {
    // Plain maps; no code of others runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session in the hand of one request.
#[derive(Debug)]
pub struct Held {
    cache: Arc<Cache>,
    /// `None` only when it was given back.
    session: Option<Box<Session>>,
}

impl Held {
    /// The session.
    pub fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("a held session is there until it is given back")
    }

    /// Puts it back, to be asked for with the next epoch. One that grew beyond the cache's bound is dropped: its client
    /// is told 70 and begins anew.
    pub fn give_back(mut self) {
        let Some(mut session) = self.session.take() else { return };
        session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
        let mut entries = self.cache.lock();
        let Entries { by_id, partitions } = &mut *entries;
        // It may have been evicted meanwhile.
        let Some(entry) = by_id.get_mut(&session.id) else { return };
        *partitions = *partitions - entry.partitions + session.len();
        entry.partitions = session.len();
        let id = session.id;
        entry.session = Some(session);
        if *partitions > PARTITIONS_MAX {
            entries.remove(id);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.cache.lock().remove(session.id);
        }
    }
}

#[cfg(test)]
mod tests;
