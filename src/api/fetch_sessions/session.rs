//! One session: its partitions, their order, and which of them may have something to tell.
//!
//! A partition is *ready* when its next read can differ from what the client was told: it is new or asked anew, it failed,
//! it has records that the client did not get, or it moved (its mark comes through the [`Watcher`]). Only these are read,
//! in serving order. The order is a rising number per partition: who gave records gets the next one.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::NO_SESSION;
use crate::log::view::Place;
use crate::partition::Partition;
use crate::partition::waiters::{Watch, Watcher};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// A topic as a request named it, and what we knew of it then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// There are records at the fetch offset, given or not.
    pub readable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Name(Arc<str>, i32),
    Id(Uuid, i32),
}

#[derive(Debug)]
struct Slot {
    watched: Watched,
    /// `None` while there is no such partition.
    watch: Option<Watch>,
    high_watermark: Offset,
    log_start: Offset,
    /// Where the last records that it gave end.
    place: Option<Place>,
    order: u64,
    ready: bool,
}

/// About what one partition takes: its slot, its key, its entry with the partition, its places in the lists.
const SLOT_BYTES: usize = size_of::<Option<Slot>>() + size_of::<(Key, u32)>() + 3 * size_of::<u64>() + 64;

/// The partitions of one session.
#[derive(Debug)]
pub struct Session {
    pub(super) id: i32,
    /// The epoch that its next request must carry.
    pub(super) epoch: i32,
    pub(super) by_id: bool,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Free, but maybe still in `ready`.
    forgotten: Vec<u32>,
    index: HashMap<Key, u32>,
    /// What names take that nobody else holds.
    names_bytes: usize,
    next_order: u64,
    ready: Vec<u32>,
    watcher: Arc<Watcher>,
}

impl Session {
    /// A session without partitions and without a place in the cache.
    pub fn new(by_id: bool) -> Self {
        Self {
            id: NO_SESSION,
            epoch: 1,
            by_id,
            slots: Vec::new(),
            free: Vec::new(),
            forgotten: Vec::new(),
            index: HashMap::new(),
            names_bytes: 0,
            next_order: 0,
            ready: Vec::new(),
            watcher: Watcher::new(),
        }
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

    /// Memory that it takes, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.slots.len() * SLOT_BYTES + self.names_bytes
    }

    /// What its partitions mark when they move.
    pub fn watcher(&self) -> &Arc<Watcher> {
        &self.watcher
    }

    fn key(&self, topic: &TopicRef, partition: i32) -> Key {
        match &topic.name {
            Some(name) if !self.by_id => Key::Name(name.clone(), partition),
            _ => Key::Id(topic.id, partition),
        }
    }

    fn slot(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    fn set_ready(&mut self, at: u32) {
        if let Some(slot) = self.slot(at)
            && !std::mem::replace(&mut slot.ready, true)
        {
            self.ready.push(at);
        }
    }

    /// Adds a partition at the end, or changes what is asked of one where it stands.
    pub fn watch(&mut self, mut watched: Watched) {
        let key = self.key(&watched.topic, watched.partition);
        if let Some(&at) = self.index.get(&key) {
            if let Some(slot) = self.slot(at) {
                if watched.topic.name.is_none() {
                    // The topic is gone, but the session knows what it was called: 3 or 103 says more than 100.
                    watched.topic.name = slot.watched.topic.name.take();
                }
                let before = std::mem::replace(&mut slot.watched, watched);
                let names = name_bytes(&slot.watched.topic);
                self.names_bytes = (self.names_bytes + names).saturating_sub(name_bytes(&before.topic));
            }
            return self.set_ready(at);
        }
        self.names_bytes += name_bytes(&watched.topic);
        let order = self.next_order();
        let slot =
            Some(Slot { watched, watch: None, high_watermark: -1, log_start: -1, place: None, order, ready: false });
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(key, at);
        self.set_ready(at);
    }

    fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// Removes a partition; fine when it isn't there.
    pub fn forget(&mut self, topic: &TopicRef, partition: i32) {
        let Some(at) = self.index.remove(&self.key(topic, partition)) else { return };
        if let Some(slot) = self.slots[at as usize].take() {
            self.names_bytes = self.names_bytes.saturating_sub(name_bytes(&slot.watched.topic));
        }
        self.forgotten.push(at);
    }

    /// Takes the marks: [`Session::ready`] has them, in serving order. What moves from here on is marked anew.
    pub fn collect(&mut self) {
        let Self { slots, ready, watcher, free, forgotten, .. } = self;
        if !forgotten.is_empty() {
            ready.retain(|at| slots[*at as usize].is_some());
            free.append(forgotten);
        }
        watcher.take_moved(|at| {
            // The mark of a partition that was forgotten since may be there still.
            if let Some(Some(slot)) = slots.get_mut(at as usize)
                && !std::mem::replace(&mut slot.ready, true)
            {
                ready.push(at);
            }
        });
        let order = |at: &u32| slots[*at as usize].as_ref().map_or(0, |slot| slot.order);
        if !ready.is_sorted_by_key(order) {
            ready.sort_unstable_by_key(order);
        }
    }

    /// The slots to be read.
    pub fn ready(&self) -> &[u32] {
        &self.ready
    }

    /// What is asked of a slot, and its partition.
    pub fn at(&self, slot: u32) -> Option<(&Watched, Option<&Arc<Partition>>)> {
        let slot = self.slots.get(slot as usize)?.as_ref()?;
        Some((&slot.watched, slot.watch.as_ref().map(Watch::partition)))
    }

    /// What [`Session::remember`] took for a slot.
    pub fn place_in(&self, slot: u32) -> Option<Place> {
        self.slots.get(slot as usize)?.as_ref()?.place
    }

    /// Remembers where the records end that a slot gave last.
    pub fn remember(&mut self, at: u32, place: Option<Place>) {
        if let Some(slot) = self.slot(at) {
            slot.place = place;
        }
    }

    /// Watches the partition that the slot stands for, or none; before it is read.
    pub fn place(&mut self, at: u32, partition: Option<&Arc<Partition>>) {
        let watch = partition.map(|partition| partition.watch(&self.watcher, at, None));
        if let Some(slot) = self.slot(at) {
            slot.watch = watch;
        }
    }

    /// Notes what is told of a partition that was read; false when it is nothing new, so that the answer leaves it out.
    /// With `rotate`, one that gave records goes to the end of the order.
    pub fn tell(&mut self, at: u32, told: &Told, rotate: bool) -> bool {
        let order = self.next_order;
        let Some(slot) = self.slot(at) else { return false };
        let news = told.bytes > 0
            || told.failed
            || slot.high_watermark != told.high_watermark
            || slot.log_start != told.log_start;
        slot.high_watermark = if told.failed { -1 } else { told.high_watermark };
        slot.log_start = told.log_start;
        slot.ready = told.failed || told.readable;
        if rotate && told.bytes > 0 {
            slot.order = order + 1;
            self.next_order += 1;
        }
        news
    }

    /// Ends the round of [`Session::collect`]: those that have nothing more to tell leave the list.
    pub fn settle(&mut self) {
        let Self { slots, ready, .. } = self;
        ready.retain(|at| slots[*at as usize].as_ref().is_some_and(|slot| slot.ready));
    }
}

/// A name that no topic has is the session's own.
fn name_bytes(topic: &TopicRef) -> usize {
    topic.name.as_ref().map_or(0, |name| name.len())
}
