//! What stays of one batch.

use std::borrow::Cow;

use crate::log::cleaner::key_map::KeyMap;
use crate::protocol::batch_builder::BatchBuilder;
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
}

/// What stays.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    /// The batch as it was, or what is left of it; `None` when nothing is.
    pub bytes: Option<Cow<'a, [u8]>>,
    pub dropped_records: u64,
    /// It could not be opened and stays as it is.
    pub is_bad: bool,
}

impl<'a> Kept<'a> {
    fn whole(batch: &BatchView<'a>) -> Self {
        Self { bytes: Some(Cow::Borrowed(batch.bytes())), dropped_records: 0, is_bad: false }
    }
}

/// The fate of a batch's records, in order.
#[derive(Default)]
struct Fates {
    stays: Vec<bool>,
    kept: usize,
    has_tombstone: bool,
    last_is_tombstone: bool,
}

impl Rules<'_> {
    /// What stays of `batch`.
    pub(super) fn filter<'b>(&self, batch: &BatchView<'b>) -> Kept<'b> {
        let bad = || Kept { is_bad: true, ..Kept::whole(batch) };
        if batch.is_control() || batch.is_transactional() {
            return Kept::whole(batch);
        }
        if batch.check_crc().is_err() {
            return bad();
        }
        if batch.records_count() == 0 {
            return Kept { bytes: None, dropped_records: 0, is_bad: false };
        }
        let Ok(opened) = records(batch, self.decompressed_max_bytes) else { return bad() };
        let Ok(mut fates) = self.fates(batch, &opened) else { return bad() };
        if fates.kept == 0 && batch.next_offset() == self.map.end() {
            // Readers need something that carries them to the end of the round.
            let last = fates.stays.last_mut().expect("the batch has records");
            *last = true;
            fates.kept = 1;
            fates.has_tombstone = fates.last_is_tombstone;
        }
        let dropped_records = (fates.stays.len() - fates.kept) as u64;
        if fates.kept == 0 {
            return Kept { bytes: None, dropped_records, is_bad: false };
        }
        let needs_horizon = fates.has_tombstone && !batch.has_delete_horizon();
        if dropped_records == 0 && !needs_horizon {
            return Kept::whole(batch);
        }
        let Some(mut builder) = BatchBuilder::like(batch) else { return bad() };
        if needs_horizon {
            builder = builder.with_delete_horizon(self.now_ms.saturating_add(self.delete_retention_ms));
        }
        // The walk above has read every record, so none is lost to an error here.
        let stayed = opened.iter().flatten().zip(&fates.stays).filter(|(_, stays)| **stays);
        for (record, _) in stayed {
            builder.push(record.offset_delta, record.timestamp, record.key, record.value, record.headers);
        }
        Kept { bytes: Some(Cow::Owned(builder.finish())), dropped_records, is_bad: false }
    }

    fn fates(&self, batch: &BatchView<'_>, opened: &Records<'_>) -> Result<Fates, RecordsError> {
        let mut fates = Fates::default();
        for record in opened.iter() {
            let record = record?;
            let stays = self.stays(batch, &record);
            fates.last_is_tombstone = record.value.is_none();
            fates.has_tombstone |= stays && record.value.is_none();
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
        let horizon_passed = batch.has_delete_horizon() && self.now_ms >= batch.base_timestamp();
        !superseded && (record.value.is_some() || !horizon_passed)
    }
}
