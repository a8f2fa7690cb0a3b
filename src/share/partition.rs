//! One partition as one share group reads it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::breaker::{Breaker, Passage};
use super::dead_letters::Waiting;
use super::in_flight::{Archiving, DeadLetters, Holder, InFlight, Lock, Redelivery};
use super::settings::{Reset, ShareLimits};
use super::state::ShareStates;
use super::state::lines::{Delivery, StateBatch};
use super::state::records::ShareKey;
use super::state::shard::Written;
use crate::partition::Partition;
use crate::partition::list_offsets::OffsetSpec;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic, for locks.
    pub mono_ms: u64,
    /// Wall time.
    pub wall_ms: i64,
}

/// See the module.
pub struct SharePartition {
    key: ShareKey,
    partition: Arc<Partition>,
    states: Arc<ShareStates>,
    /// Rung when records may be given out that could not before: of the whole group.
    bell: Arc<Notify>,
    /// Of the group's records of this topic.
    breaker: Arc<Breaker>,
    /// Share partitions whose dead letters are to be written.
    waiting: Arc<Waiting>,
    stage: Mutex<Stage>,
    /// Held while the state is read.
    loading: tokio::sync::Mutex<()>,
    /// Held while a member reads records to be given out: two that read the same would get nothing the second time.
    reading: tokio::sync::Mutex<()>,
}

/// Nobody else reads records of the share partition, to be given out, while this is held.
#[derive(Debug)]
pub struct Turn<'p>(#[expect(dead_code, reason = "held, not looked at")] tokio::sync::MutexGuard<'p, ()>);

/// How far a share partition came.
#[derive(Debug)]
enum Stage {
    /// The state was not read yet.
    New,
    Known(Inner),
    /// Another one reads the state anew: this one gives out and takes back nothing any more.
    Dead,
}

/// What is known once the state was read.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) in_flight: InFlight,
    /// Somebody got nothing, or less, because too many records are out.
    pub(super) is_room_wanted: bool,
    /// Somebody got nothing because of the breaker.
    pub(super) is_passage_wanted: bool,
    state_epoch: i32,
    holders: HashMap<Arc<str>, Holder>,
    last_holder: Holder,
    /// The last record that was given out alone while the breaker was open.
    pub(super) probed: Offset,
}

impl Inner {
    /// The number of a member, or the one that it would get.
    pub(super) fn holder(&self, member: &str) -> Holder {
        self.known_holder(member).unwrap_or_else(|| self.last_holder.wrapping_add(1))
    }

    /// The member has records now, by that number.
    pub(super) fn holds(&mut self, member: &Arc<str>, holder: Holder) {
        if self.known_holder(member).is_none() {
            self.last_holder = holder;
            self.holders.insert(Arc::clone(member), holder);
        }
    }

    /// Forgets the names of those who have nothing.
    fn forget_idle(&mut self) {
        if !self.holders.is_empty() {
            let busy = self.in_flight.holders();
            self.holders.retain(|_, holder| busy.contains(holder));
        }
    }

    /// Where a fetch begins. One that `probes` takes another record than the last that did.
    pub(super) fn next_offset(&mut self, probes: bool, now_ms: u64) -> Offset {
        if !probes {
            return self.in_flight.next_offset(now_ms);
        }
        let mut next = self.in_flight.next_offset_from(self.probed + 1, now_ms);
        if next >= self.in_flight.end() {
            next = self.in_flight.next_offset(now_ms);
        }
        self.probed = next;
        next
    }

    pub(super) fn known_holder(&self, member: &str) -> Option<Holder> {
        self.holders.get(member).copied()
    }
}

impl SharePartition {
    /// Whose state was not read yet.
    pub(super) fn new(
        key: ShareKey,
        partition: Arc<Partition>,
        states: Arc<ShareStates>,
        bell: Arc<Notify>,
        breaker: Arc<Breaker>,
        waiting: Arc<Waiting>,
    ) -> Self {
        Self {
            key,
            partition,
            states,
            bell,
            breaker,
            waiting,
            stage: Mutex::new(Stage::New),
            loading: tokio::sync::Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Which one it is.
    pub(super) fn key(&self) -> &ShareKey {
        &self.key
    }

    /// The log that it reads.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Changes are whole steps, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with what is known; NOT_LEADER_OR_FOLLOWER before the state was read, and when another one reads it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> Result<T, ErrorCode> {
        match &mut *self.lock() {
            Stage::Known(inner) => Ok(work(inner)),
            Stage::New | Stage::Dead => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// The state that it read does not hold any more, or there is none: whoever uses it opens another.
    pub(super) fn die(&self) {
        *self.lock() = Stage::Dead;
        self.ring();
    }

    /// Must another be opened?
    pub fn is_dead(&self) -> bool {
        matches!(*self.lock(), Stage::Dead)
    }

    fn is_new(&self) -> bool {
        matches!(*self.lock(), Stage::New)
    }

    /// The turn to read here, unless somebody has it.
    pub fn try_turn(&self) -> Option<Turn<'_>> {
        self.reading.try_lock().map(Turn).ok()
    }

    /// The turn to read here, in the order of those who ask.
    pub async fn turn(&self) -> Turn<'_> {
        Turn(self.reading.lock().await)
    }

    /// Others of the group look again.
    pub(super) fn ring(&self) {
        self.bell.notify_waiters();
    }

    /// Reads the state unless that was done.
    pub async fn load(&self, limits: &ShareLimits, now: Moment) -> Result<(), ErrorCode> {
        let _loading = match self.is_new() {
            true => self.loading.lock().await,
            false => return self.with(|_| ()),
        };
        if !self.is_new() {
            return self.with(|_| ());
        }
        let kept = self.states.read(self.key.clone()).await.map_err(client_error)?;
        // Groups are assigned what is kept; who asks for something else is not in its group any more.
        let mut kept = kept.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        // Of a log that cannot be used nobody knows the end.
        let end = self.partition.online_offsets().map_err(|error| error.code())?.log_end;
        if kept.reaches_past(end) {
            // A lost tail: the offsets are given to other records, of which nothing is known.
            tracing::warn!(
                group = %self.key.group, topic = %self.partition.topic_name(), partition = self.key.partition, end,
                start = kept.start_offset, "a share group was further than its log, and goes on where that ends"
            );
            let cut = self.states.cut(self.key.clone(), end).await.map_err(client_error)?;
            kept = cut.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        }
        let start = match kept.start_offset {
            start if start >= 0 => start,
            _ => self.first_offset(limits, now).await?,
        };
        let log_start = self.partition.offsets().log_start;
        let mut in_flight = InFlight::new(start, &kept.lines.all().collect::<Vec<_>>());
        in_flight.log_starts_at(log_start.max(start));
        let has_dead = !in_flight.archiving(1).is_empty();
        if kept.start_offset < 0 {
            // Where the group begins must not move with the log before its first acknowledgement. Nobody is given anything
            // before that is written.
            let begun = Written {
                state_epoch: kept.state_epoch,
                leader_epoch: self.partition.offsets().leader_epoch,
                start_offset: in_flight.start(),
                complete_count: 0,
                lines: Vec::new(),
            };
            self.states.write(self.key.clone(), begun).await.map_err(|error| self.refused(error))?;
        }
        let inner = Inner {
            in_flight,
            is_room_wanted: false,
            is_passage_wanted: false,
            state_epoch: kept.state_epoch,
            holders: HashMap::new(),
            last_holder: 0,
            probed: -1,
        };
        match &mut *self.lock() {
            stage @ Stage::New => *stage = Stage::Known(inner),
            Stage::Known(_) | Stage::Dead => return Err(ErrorCode::NotLeaderOrFollower),
        }
        if has_dead {
            self.waiting.push(&self.key);
        }
        Ok(())
    }

    /// Waits for who reads the state, if anybody does.
    pub(super) async fn loaded(&self) {
        if self.is_new() {
            drop(self.loading.lock().await);
        }
    }

    async fn first_offset(&self, limits: &ShareLimits, now: Moment) -> Result<Offset, ErrorCode> {
        let (spec, otherwise) = match limits.reset {
            Reset::Earliest => (OffsetSpec::Earliest, OffsetSpec::Earliest),
            Reset::Latest => (OffsetSpec::Latest, OffsetSpec::Latest),
            Reset::ByDuration(age) => {
                let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                (OffsetSpec::Time(now.wall_ms.saturating_sub(age_ms).max(0)), OffsetSpec::Latest)
            }
        };
        let found = self.partition.list_offset(spec, limits.isolation).await.map_err(|error| error.code())?;
        if found.offset >= 0 {
            return Ok(found.offset);
        }
        let found = self.partition.list_offset(otherwise, limits.isolation).await.map_err(|error| error.code())?;
        Ok(found.offset)
    }

    /// Writes what became of records; it counts when that is done. Whoever stops waiting for it leaves the records as they
    /// were before: they are given out again when their locks are over, as after a write that took too long.
    pub(super) async fn write(&self, lines: Vec<StateBatch>) -> Result<(), ErrorCode> {
        let settling = Settling { of: self, lines };
        let written = self.with(|inner| {
            let progress = inner.in_flight.progress_with(&settling.lines);
            Written {
                state_epoch: inner.state_epoch,
                leader_epoch: self.partition.offsets().leader_epoch,
                start_offset: progress.start,
                complete_count: i32::try_from(progress.complete).unwrap_or(i32::MAX),
                lines: settling.lines.clone(),
            }
        })?;
        let outcome = self.states.write(self.key.clone(), written).await;
        let has_dead = settling.end(outcome.is_ok());
        if has_dead {
            self.waiting.push(&self.key);
        }
        outcome.map_err(|error| self.refused(error))
    }

    /// What was settling counts, or it is as it was before.
    fn settle(&self, lines: &[StateBatch], is_written: bool) {
        // Of one that is dead nobody asks.
        let is_wanted = self.with(|inner| {
            let has_room = inner.in_flight.settled(lines, is_written) && std::mem::take(&mut inner.is_room_wanted);
            has_room | std::mem::take(&mut inner.is_passage_wanted)
        });
        let is_back = is_written && lines.iter().any(|line| line.delivery == Delivery::Available);
        if is_back || is_wanted == Ok(true) {
            self.ring();
        }
    }

    /// The share coordinator refused: what to tell the member. One that reads or writes no state any more dies.
    fn refused(&self, error: ErrorCode) -> ErrorCode {
        tracing::warn!(
            group = %self.key.group, topic = %self.partition.topic_name(), partition = self.key.partition,
            ?error, "state of a share group is not written"
        );
        if matches!(
            error,
            ErrorCode::FencedStateEpoch | ErrorCode::FencedLeaderEpoch | ErrorCode::UnknownTopicOrPartition
        ) {
            self.die();
        }
        client_error(error)
    }

    /// The first records that wait for their dead letters.
    pub(super) fn archiving(&self, most_runs: usize) -> Vec<Archiving> {
        self.with(|inner| inner.in_flight.archiving(most_runs)).unwrap_or_default()
    }

    /// The dead letters of these are durable, or there are to be none.
    pub(super) async fn archive(&self, first: Offset, last: Offset) -> Result<(), ErrorCode> {
        let lines = self.with(|inner| inner.in_flight.archived(first, last))?;
        if lines.is_empty() { Ok(()) } else { self.write(lines).await }
    }

    /// Gives back what is held for too long; when to look again.
    pub(super) async fn expire(&self, limits: &ShareLimits, now: Moment) -> Option<u64> {
        let mut lines = Vec::new();
        let expire = |inner: &mut Inner, back: Redelivery<'_>| {
            inner.in_flight.expire(now.mono_ms, back, &mut lines);
            inner.forget_idle();
        };
        self.with_redelivery(limits, now, expire).ok()?;
        if !lines.is_empty() {
            // What is refused is held on and looked at again.
            let _ = self.write(lines).await;
        }
        self.ring();
        self.next_moment(now)
    }

    /// Gives back all that a member has.
    pub async fn release(&self, member: &str, limits: &ShareLimits, now: Moment) -> Result<(), ErrorCode> {
        let mut lines = Vec::new();
        self.with_redelivery(limits, now, |inner, back| {
            if let Some(holder) = inner.holders.remove(member) {
                inner.in_flight.release(holder, back, &mut lines);
            }
        })?;
        if lines.is_empty() { Ok(()) } else { self.write(lines).await }
    }

    /// When the next lock is over, or a record may be given out that may not now.
    pub(super) fn next_moment(&self, now: Moment) -> Option<u64> {
        let in_flight = self.with(|inner| inner.in_flight.next_moment(now.mono_ms)).ok()?;
        in_flight.into_iter().chain(self.breaker.next_probe(now.mono_ms)).min()
    }

    /// Does something with what is known, and with how records come back now.
    pub(super) fn with_redelivery<T>(
        &self,
        limits: &ShareLimits,
        now: Moment,
        work: impl FnOnce(&mut Inner, Redelivery<'_>) -> T,
    ) -> Result<T, ErrorCode> {
        let breaker = self.breaker.at(limits.breaker_ratio, now.mono_ms);
        let back = Redelivery {
            count_limit: limits.delivery_count_limit,
            backoff: limits.backoff,
            now_ms: now.mono_ms,
            dead_letters: limits.dead_letters.then_some(&breaker as &dyn DeadLetters),
        };
        self.with(|inner| work(inner, back))
    }

    /// May a member be given records now?
    pub(super) fn passage(&self, limits: &ShareLimits, now: Moment) -> Passage {
        self.breaker.passage(limits.breaker_ratio, now.mono_ms)
    }
}

/// Lines on their way to the share coordinator.
struct Settling<'p> {
    of: &'p SharePartition,
    lines: Vec<StateBatch>,
}

impl Settling<'_> {
    /// It answered; are there records whose dead letters are to be written?
    fn end(mut self, is_written: bool) -> bool {
        let lines = std::mem::take(&mut self.lines);
        self.of.settle(&lines, is_written);
        is_written && lines.iter().any(|line| line.delivery == Delivery::Archiving)
    }
}

impl Drop for Settling<'_> {
    /// Nobody waits for the answer any more, whatever it is.
    fn drop(&mut self) {
        if !self.lines.is_empty() {
            self.of.settle(&self.lines, false);
        }
    }
}

/// A lock that begins now.
pub(super) fn lock(holder: Holder, limits: &ShareLimits, now: Moment) -> Lock {
    Lock { holder, until_ms: now.mono_ms.saturating_add(millis(limits.record_lock)) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a member is told when the share coordinator refuses, as Kafka has it.
fn client_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::FencedStateEpoch | ErrorCode::FencedLeaderEpoch => ErrorCode::NotLeaderOrFollower,
        ErrorCode::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        _ => ErrorCode::UnknownServerError,
    }
}

impl std::fmt::Debug for SharePartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharePartition").field("key", &self.key).finish_non_exhaustive()
    }
}
