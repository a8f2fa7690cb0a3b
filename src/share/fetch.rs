//! Records for a member: read, looked through batch by batch, and acquired.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::breaker::Passage;
use super::in_flight::Acquired;
use super::partition::{Inner, Moment, SharePartition, Turn, lock};
use super::settings::ShareLimits;
use super::suspects;
use crate::log::view::FileRange;
use crate::partition::read::{AbortedTransaction, Isolation, ReadError, ReadSpec, Records};
use crate::protocol::control::EndTransaction;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchView, Offset, ProducerId};

/// Bytes of one read: more are read when these hold too few records.
const READ_BYTES: u64 = 1 << 20;

/// What a member asks of one partition.
#[derive(Debug, Clone, Copy)]
pub struct Acquire {
    /// Most records; whole batches may exceed it unless `exact`.
    pub most: u64,
    /// No record more than `most` (KIP-1206, record limit).
    pub exact: bool,
    /// Most bytes, but for the first batch.
    pub bytes: u64,
}

/// For whom.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The member.
    pub member: &'a Arc<str>,
    /// Is the session that asks there still? What is acquired for one that is gone is held by nobody. It is asked in the step
    /// that acquires, so that whoever ends the session and gives back what it has misses nothing.
    pub is_live: &'a (dyn Fn() -> bool + Sync),
}

/// What it gets.
#[derive(Debug, Default)]
pub struct Given {
    /// Whole batches; there may be others in them than what was acquired.
    pub records: Bytes,
    /// What was acquired.
    pub acquired: Vec<Acquired>,
}

impl SharePartition {
    /// Acquires records for a member. Nothing when there is nothing: the group's bell and the partition's watchers tell when
    /// to look again. `_turn` is this partition's.
    pub async fn acquire(
        &self,
        _turn: Turn<'_>,
        reader: Reader<'_>,
        ask: Acquire,
        limits: &ShareLimits,
        now: Moment,
    ) -> Result<Given, ErrorCode> {
        let mut given = Given::default();
        let mut bytes = BytesMut::new();
        let mut left = ask;
        let probes = match self.passage(limits, now) {
            Passage::Free => false,
            Passage::Probe => {
                left = Acquire { most: 1, exact: true, ..ask };
                true
            }
            Passage::Blocked => {
                self.with(|inner| inner.is_passage_wanted = true)?;
                return Ok(given);
            }
        };
        loop {
            let log_start = self.partition().offsets().log_start;
            let (from, has_room) = self.with(|inner| {
                inner.in_flight.log_starts_at(log_start);
                let next = inner.next_offset(probes, now.mono_ms);
                // What came back may be given out again however much is out.
                let has_room = next < inner.in_flight.end() || inner.in_flight.room(limits.record_locks_max) > 0;
                inner.is_room_wanted |= !has_room;
                (next, has_room)
            })?;
            if !has_room || left.most == 0 || (left.bytes == 0 && !bytes.is_empty()) {
                break;
            }
            let Some((read, aborted)) = self.read(from, left.bytes, bytes.is_empty(), limits).await? else { break };
            let Taken { used, acquired, is_last } = self.with(|inner| match (reader.is_live)() {
                true => take(inner, &read, from, &aborted, reader.member, left, given.acquired.is_empty(), limits, now),
                false => Taken { used: 0..0, acquired: Vec::new(), is_last: true },
            })?;
            let count: u64 = acquired.iter().map(|some| some.last.abs_diff(some.first) + 1).sum();
            left.most = left.most.saturating_sub(count);
            left.bytes = left.bytes.saturating_sub(used.len() as u64);
            bytes.extend_from_slice(&read[used]);
            given.acquired.extend(acquired);
            if is_last || self.with(|inner| inner.in_flight.next_offset(now.mono_ms))? <= from {
                break;
            }
        }
        given.records = bytes.freeze();
        Ok(given)
    }

    /// Bytes of records that were given out before, for who copies them; `None` when there is nothing to read.
    pub(super) async fn read_again(&self, from: Offset, limits: &ShareLimits) -> Result<Option<Bytes>, ErrorCode> {
        Ok(self.read(from, READ_BYTES, true, limits).await?.map(|(bytes, _)| bytes))
    }

    /// The next batches from `from` on; `None` when there is nothing to read.
    async fn read(
        &self,
        from: Offset,
        most: u64,
        min_one: bool,
        limits: &ShareLimits,
    ) -> Result<Option<(Bytes, Vec<AbortedTransaction>)>, ErrorCode> {
        let spec = ReadSpec {
            offset: from,
            max_bytes: most.min(READ_BYTES),
            min_one,
            current_leader_epoch: None,
            last_fetched_epoch: None,
            isolation: limits.isolation,
        };
        let outcome = match self.partition().read(&spec) {
            // It was cut off above what the group has read: the log goes on at its end.
            Err(ReadError::OutOfRange { .. }) => return Ok(None),
            outcome => outcome.map_err(|error| error.code())?,
        };
        let (bytes, aborted) = match outcome.records {
            Records::Empty => return Ok(None),
            Records::File(range) => (of_file(&range)?, outcome.aborted),
            Records::Cold(cold) => {
                let loaded = cold.load().await.map_err(|error| error.code())?;
                let bytes = match loaded.range {
                    Some(range) => of_file(&range)?,
                    None => loaded.chunks.concat().into(),
                };
                (bytes, loaded.aborted)
            }
        };
        Ok(Some((bytes, aborted)).filter(|(bytes, _)| !bytes.is_empty()))
    }
}

/// Of the page cache, as what was read is there.
fn of_file(range: &FileRange) -> Result<Bytes, ErrorCode> {
    let mut bytes = BytesMut::zeroed(usize::try_from(range.len).map_err(|_| ErrorCode::UnknownServerError)?);
    range.file.read_exact_at(&mut bytes, range.position).map_err(|_| ErrorCode::KafkaStorageError)?;
    Ok(bytes.freeze())
}

/// What was given out of one read.
struct Taken {
    /// Where in it the batches of the acquired records lie.
    used: Range<usize>,
    acquired: Vec<Acquired>,
    /// Nothing more goes into this answer: records near the limit of deliveries are in it, or come next; or there is no room
    /// for new ones, and a batch that is in it may have more of them.
    is_last: bool,
}

/// Goes through the batches and acquires what may be given out. `is_first`: the answer has no record of this partition yet.
#[expect(clippy::too_many_arguments, reason = "one step of the loop above, under the lock")]
fn take(
    inner: &mut Inner,
    read: &[u8],
    from: Offset,
    aborted: &[AbortedTransaction],
    member: &Arc<str>,
    ask: Acquire,
    is_first: bool,
    limits: &ShareLimits,
    now: Moment,
) -> Taken {
    let holder = inner.holder(member);
    let lock = lock(holder, limits, now);
    let mut aborted = Aborted::new(aborted, limits.isolation);
    let mut all = Vec::new();
    let (mut used, mut left, mut at, mut next) = (0..0, ask.most, 0, from);
    let mut is_last = false;
    while left > 0
        && !is_last
        && let Ok((batch, rest)) = BatchView::split_first(&read[at..])
    {
        let end = read.len() - rest.len();
        let mut room = inner.in_flight.room(limits.record_locks_max);
        if room == 0 && batch.base_offset() >= inner.in_flight.end() {
            // What came back and is not there any more may have been all that took up the room.
            inner.in_flight.archive(next, inner.in_flight.end() - 1);
            room = inner.in_flight.room(limits.record_locks_max);
            if room == 0 {
                (inner.is_room_wanted, is_last) = (true, true);
                break;
            }
        }
        if batch.next_offset() > next {
            // Between batches there is nothing: compacted, or never there.
            inner.in_flight.archive(next, batch.base_offset() - 1);
            let first = batch.base_offset().max(next);
            next = batch.next_offset();
            if aborted.has(&batch) {
                inner.in_flight.archive(first, batch.last_offset());
            } else {
                let free = inner.in_flight.free(first, batch.last_offset(), now.mono_ms);
                let portion = suspects::portion(
                    free,
                    batch.last_offset().abs_diff(batch.base_offset()) + 1,
                    limits.delivery_count_limit,
                );
                is_last |= portion.is_some();
                if portion.is_some() && !(is_first && all.is_empty()) {
                    break;
                }
                let most = portion.unwrap_or(u64::MAX).min(if ask.exact { left } else { u64::MAX });
                // As with Kafka new ones go out as whole batches while there is room for one.
                let new = match room {
                    0 => 0,
                    room if ask.exact => room,
                    _ => u64::MAX,
                };
                let last = batch.last_offset().min(inner.in_flight.end().saturating_add_unsigned(new) - 1);
                if last < batch.last_offset() {
                    (inner.is_room_wanted, is_last) = (true, true);
                }
                let acquired = inner.in_flight.acquire(first, last, most, lock, now.mono_ms);
                let count: u64 = acquired.iter().map(|some| some.last.abs_diff(some.first) + 1).sum();
                if count > 0 {
                    used = if used.is_empty() { at..end } else { used.start..end };
                    left = left.saturating_sub(count);
                    join(&mut all, acquired);
                }
            }
        }
        at = end;
    }
    if !all.is_empty() {
        inner.holds(member, holder);
    }
    Taken { used, acquired: all, is_last }
}

fn join(all: &mut Vec<Acquired>, more: Vec<Acquired>) {
    for next in more {
        match all.last_mut() {
            Some(last) if last.last + 1 == next.first && last.count == next.count => last.last = next.last,
            _ => all.push(next),
        }
    }
}

/// The aborted transactions of a read, as its batches are passed.
struct Aborted<'a> {
    /// By first offset.
    coming: std::iter::Peekable<std::vec::IntoIter<&'a AbortedTransaction>>,
    open: Vec<ProducerId>,
    isolation: Isolation,
}

impl<'a> Aborted<'a> {
    fn new(aborted: &'a [AbortedTransaction], isolation: Isolation) -> Self {
        let mut by_offset: Vec<_> = aborted.iter().collect();
        by_offset.sort_by_key(|one| one.first_offset);
        Self { coming: by_offset.into_iter().peekable(), open: Vec::new(), isolation }
    }

    /// Does the next batch belong to one of them?
    fn has(&mut self, batch: &BatchView<'_>) -> bool {
        if self.isolation == Isolation::ReadUncommitted {
            return false;
        }
        while let Some(one) = self.coming.next_if(|one| one.first_offset <= batch.last_offset()) {
            self.open.push(one.producer_id);
        }
        if batch.is_control() {
            if EndTransaction::read(batch).is_some_and(|end| !end.commit) {
                self.open.retain(|producer| *producer != batch.producer_id());
            }
            return false;
        }
        batch.is_transactional() && self.open.contains(&batch.producer_id())
    }
}
