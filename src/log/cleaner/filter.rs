//! What stays of one batch.

use std::borrow::Cow;

use crate::log::cleaner::key_map::KeyMap;
use crate::log::cleaner::transactions::TransactionWalk;
use crate::log::txn_index::AbortedTransaction;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::control::EndTransaction;
use crate::protocol::record_batch::{BatchView, Offset};
use crate::protocol::records::{Record, Records, RecordsError, records};

/// By what a round decides.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The last offset of each key, up to the round's end.
    pub map: &'a KeyMap,
    /// Wall time.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `record.decompressed.max.bytes`.
    pub decompressed_max_bytes: u64,
    /// The round sees all of the log, and what it leaves stays in one piece. If not, because a part is in the tier or is going
    /// there segment by segment, tombstones and markers stay, without a delete horizon: what they undo or end may lie below,
    /// for as long as they are there.
    pub sees_all: bool,
    /// Which records stay only so that readers reach an end.
    pub ends: Ends,
}

/// Whose last record stays, though a later one of its key is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// That of the round: the log may end there.
    OfRound,
    /// That of each segment too: a tier may end with any of them. Nothing that it could bring back to life is gone while
    /// tombstones stay.
    OfSegments,
    /// Nobody's: something that stays lies behind.
    None,
}

/// What stays.
#[derive(Debug)]
pub struct Kept<'a> {
    /// The batch as it was, or what is left of it; `None` when nothing is.
    pub bytes: Option<Cow<'a, [u8]>>,
    /// It ends an aborted transaction of which the pass has met a batch.
    pub aborted: Option<AbortedTransaction>,
    /// Records that do not stay.
    pub dropped_records: u64,
    /// It could not be opened and stays as it is.
    pub is_bad: bool,
}

impl<'a> Kept<'a> {
    fn whole(batch: &BatchView<'a>) -> Self {
        Self { bytes: Some(Cow::Borrowed(batch.bytes())), aborted: None, dropped_records: 0, is_bad: false }
    }

    fn nothing(dropped_records: u64) -> Self {
        Self { bytes: None, aborted: None, dropped_records, is_bad: false }
    }

    fn rebuilt(bytes: Vec<u8>, dropped_records: u64) -> Self {
        Self { bytes: Some(Cow::Owned(bytes)), aborted: None, dropped_records, is_bad: false }
    }
}

/// The fate of a batch's records, in order.
#[derive(Default)]
struct Fates {
    stays: Vec<bool>,
    kept: usize,
    has_tombstone: bool,
    last_is_tombstone: bool,
    /// One of the tombstones that stay is not in the map: the round does not show that all it deletes is gone.
    has_unmapped_tombstone: bool,
}

impl Rules<'_> {
    /// What stays of `batch`, the next one of the pass.
    /// `segment_end` is the offset behind the segment that is made.
    pub fn filter<'b>(
        &self,
        batch: &BatchView<'b>,
        transactions: &mut TransactionWalk,
        segment_end: Offset,
    ) -> Kept<'b> {
        let bad = || Kept { is_bad: true, ..Kept::whole(batch) };
        if batch.check_crc().is_err() {
            return bad();
        }
        if batch.is_control() {
            return self.marker(batch, transactions, segment_end);
        }
        let is_aborted = transactions.data(batch);
        if batch.records_count() == 0 {
            return Kept::nothing(0);
        }
        if is_aborted {
            return match self.carries(batch, segment_end) {
                // They know that it was aborted.
                true => Kept::whole(batch),
                false => Kept::nothing(u64::try_from(batch.records_count()).unwrap_or(0)),
            };
        }
        let Ok(opened) = records(batch, self.decompressed_max_bytes) else { return bad() };
        let Ok(mut fates) = self.fates(batch, &opened) else { return bad() };
        if fates.kept == 0 && self.carries(batch, segment_end) {
            let last = fates.stays.last_mut().expect("the batch has records");
            *last = true;
            fates.kept = 1;
            fates.has_tombstone = fates.last_is_tombstone;
        }
        let dropped_records = (fates.stays.len() - fates.kept) as u64;
        if fates.kept == 0 {
            return Kept::nothing(dropped_records);
        }
        let is_proven = self.sees_all && !fates.has_unmapped_tombstone;
        let needs_horizon = is_proven && fates.has_tombstone && !batch.has_delete_horizon();
        if dropped_records == 0 && !needs_horizon {
            return Kept::whole(batch);
        }
        let Some(mut builder) = BatchBuilder::like(batch) else { return bad() };
        if needs_horizon {
            builder = builder.with_delete_horizon(self.horizon_ms());
        }
        // The walk above has read every record, so none is lost to an error here.
        let stayed = opened.iter().flatten().zip(&fates.stays).filter(|(_, stays)| **stays);
        for (record, _) in stayed {
            builder.push(record.offset_delta, record.timestamp, record.key, record.value, record.headers);
        }
        Kept::rebuilt(builder.finish(), dropped_records)
    }

    /// Do readers need it, whatever it holds, to be carried to the end of the round, or of what may be all that is left?
    fn carries(&self, batch: &BatchView<'_>, segment_end: Offset) -> bool {
        let next = batch.next_offset();
        match self.ends {
            Ends::OfRound => next == self.map.end(),
            Ends::OfSegments => next == self.map.end() || next == segment_end,
            Ends::None => false,
        }
    }

    /// A marker stays as long as a batch of its transaction does, and from the first pass that meets none of them until
    /// the delete horizon is over: a reader may be on its way to it.
    fn marker<'b>(&self, batch: &BatchView<'b>, transactions: &mut TransactionWalk, segment_end: Offset) -> Kept<'b> {
        let Some(end) = EndTransaction::read(batch) else { return Kept::whole(batch) };
        let marker = transactions.marker(batch, end.commit);
        if !marker.is_idle || !self.sees_all {
            return Kept { aborted: marker.entry, ..Kept::whole(batch) };
        }
        if batch.has_delete_horizon() {
            return if self.horizon_passed(batch) && !self.carries(batch, segment_end) {
                Kept::nothing(1)
            } else {
                Kept::whole(batch)
            };
        }
        let (Some(builder), Ok(opened)) = (BatchBuilder::like(batch), records(batch, self.decompressed_max_bytes))
        else {
            return Kept::whole(batch);
        };
        let mut builder = builder.with_delete_horizon(self.horizon_ms());
        for record in opened.iter().flatten() {
            builder.push(record.offset_delta, record.timestamp, record.key, record.value, record.headers);
        }
        Kept::rebuilt(builder.finish(), 0)
    }

    fn horizon_ms(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms)
    }

    fn horizon_passed(&self, batch: &BatchView<'_>) -> bool {
        batch.has_delete_horizon() && self.now_ms >= batch.base_timestamp()
    }

    fn fates(&self, batch: &BatchView<'_>, opened: &Records<'_>) -> Result<Fates, RecordsError> {
        let mut fates = Fates::default();
        for record in opened.iter() {
            let record = record?;
            let stays = self.stays(batch, &record);
            fates.last_is_tombstone = record.value.is_none();
            fates.has_tombstone |= stays && record.value.is_none();
            let is_mapped = record.key.is_none_or(|key| self.map.last_offset(key).is_some());
            fates.has_unmapped_tombstone |= stays && record.value.is_none() && !is_mapped;
            fates.kept += usize::from(stays);
            fates.stays.push(stays);
        }
        Ok(fates)
    }

    fn stays(&self, batch: &BatchView<'_>, record: &Record<'_>) -> bool {
        if record.offset >= self.map.end() {
            return true;
        }
        // Without a key it means nothing here: the topic was not compacted when it came.
        let Some(key) = record.key else { return false };
        let superseded = self.map.last_offset(key).is_some_and(|last: Offset| last > record.offset);
        !superseded && (record.value.is_some() || !self.sees_all || !self.horizon_passed(batch))
    }
}
