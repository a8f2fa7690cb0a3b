//! Incremental fetch sessions (KIP-227): what a consumer watches stays here, so that its requests and our answers carry
//! only what changed.
//!
//! Sessions belong to the node, not to a connection. The request in hand takes its session out of the cache and puts it
//! back with the next epoch; one that ends without doing so (the client left) takes the session with it. The cache is
//! bounded in sessions (`max.incremental.fetch.session.cache.slots`) and in bytes over all of them. A full cache
//! makes room as Kafka does: first for who was silent for two minutes, else a larger session replaces the smallest one
//! that is older than two minutes; who finds no room fetches without a session.

mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use terrace_tiering::platform::random::Random;

pub use self::session::{Session, Told, TopicRef, Watched};
use crate::protocol::error_code::ErrorCode;

/// Kafka's MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS.
const EVICTION_MS: i64 = 120_000;
/// All sessions of the node.
const BYTES_MAX: usize = 64 << 20;

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
const NO_SESSION: i32 = 0;

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
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` while a request holds it.
    session: Option<Box<Session>>,
    partitions: usize,
    bytes: usize,
    created_ms: i64,
    used_ms: i64,
}

impl Entries {
    fn remove(&mut self, id: i32) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        self.bytes -= entry.bytes;
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

    /// Number of sessions, and the bytes that they take.
    pub fn counts(&self) -> (usize, usize) {
        let entries = self.0.lock();
        (entries.by_id.len(), entries.bytes)
    }

    /// Reads the session fields of a request.
    pub fn begin(&self, id: i32, epoch: i32, by_id: bool, now_ms: i64) -> Begun {
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != NO_SESSION {
                let ended = self.0.lock().remove(id);
                drop(ended);
            }
            return if epoch == FINAL_EPOCH || self.0.slots == 0 { Begun::Sessionless } else { Begun::Full };
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
    pub fn keep(&self, mut session: Box<Session>, random: &dyn Random, now_ms: i64) -> i32 {
        let (partitions, bytes) = (session.len(), session.bytes());
        if self.0.slots == 0 || bytes > BYTES_MAX {
            return NO_SESSION;
        }
        let mut evicted = Vec::new();
        let mut entries = self.0.lock();
        while entries.by_id.len() >= self.0.slots || entries.bytes + bytes > BYTES_MAX {
            match entries.evictable(partitions, now_ms) {
                // Dropped behind the lock: it leaves the list of each of its partitions.
                Some(id) => evicted.push(entries.remove(id)),
                None => return NO_SESSION,
            };
        }
        let id = loop {
            let id = (random.next_u64() & 0x7fff_ffff) as i32;
            if id != NO_SESSION && !entries.by_id.contains_key(&id) {
                break id;
            }
        };
        session.id = id;
        entries.bytes += bytes;
        let entry = Entry { session: Some(session), partitions, bytes, created_ms: now_ms, used_ms: now_ms };
        entries.by_id.insert(id, entry);
        drop(entries);
        drop(evicted);
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
        let Entries { by_id, bytes } = &mut *entries;
        // It may have been evicted meanwhile.
        let Some(entry) = by_id.get_mut(&session.id) else { return };
        *bytes = *bytes - entry.bytes + session.bytes();
        (entry.partitions, entry.bytes) = (session.len(), session.bytes());
        let id = session.id;
        entry.session = Some(session);
        let ended = if *bytes > BYTES_MAX { entries.remove(id) } else { None };
        drop(entries);
        drop(ended);
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
