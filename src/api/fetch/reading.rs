//! One partition of a Fetch: what is asked of it, and what its read gave.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::fetch_sessions::{Told, Watched};
use crate::api::list_offsets::known;
use crate::log::copies::Copies;
use crate::log::view::{FileRange, Place};
use crate::partition::Partition;
use crate::partition::read::{self, AbortedTransaction, ColdRead, Isolation, ReadError, ReadOutcome, ReadSpec};
use crate::partition::waiters::Visible;
use crate::protocol::error_code::ErrorCode;

/// One partition of a Fetch.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) watched: Watched,
    /// In the session; without one, in the list of reads.
    pub(super) slot: u32,
    pub(super) partition: Result<Arc<Partition>, ErrorCode>,
    /// Where the last records that it gave end.
    pub(super) place: Option<Place>,
    pub(super) outcome: Outcome,
}

/// What is answered for one partition.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) error: ErrorCode,
    pub(super) high_watermark: i64,
    pub(super) last_stable_offset: i64,
    pub(super) log_start_offset: i64,
    pub(super) diverging: Option<(i32, i64)>,
    pub(super) aborted: Vec<AbortedTransaction>,
    pub(super) records: Records,
    /// There is more than this answer can carry, so that a wait would be for nothing.
    pub(super) cut: bool,
    pub(super) visible: Visible,
}

#[derive(Debug)]
pub(super) enum Records {
    Empty,
    File(FileRange),
    /// Also here, among the copies of the Fetch.
    Copied(FileRange, Range<usize>),
    Loaded(Vec<Bytes>),
    /// Not loaded yet, or being loaded; empty in the answer if that stays so.
    Cold(Option<ColdRead>),
}

impl Outcome {
    pub(super) const fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging: None,
            aborted: Vec::new(),
            records: Records::Empty,
            cut: false,
            visible: Visible { high: 0, stable: 0 },
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match &self.records {
            Records::Empty | Records::Cold(_) => 0,
            Records::File(range) | Records::Copied(range, _) => range.len,
            Records::Loaded(chunks) => chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        }
    }

    /// Must it be told at once, whatever else is there?
    pub(super) fn is_urgent(&self) -> bool {
        self.error != ErrorCode::None || self.diverging.is_some() || self.cut
    }

    pub(super) fn is_cold(&self) -> bool {
        matches!(self.records, Records::Cold(_))
    }

    /// Forgets the copy of its records.
    pub(super) fn drop_copy(&mut self) {
        if let Records::Copied(range, _) = &self.records {
            self.records = Records::File(range.clone());
        }
    }

    /// What a session compares.
    pub(super) fn told(&self) -> Told {
        Told {
            high_watermark: self.high_watermark,
            log_start: self.log_start_offset,
            bytes: self.bytes(),
            failed: self.error != ErrorCode::None || self.diverging.is_some(),
            readable: self.cut || !matches!(self.records, Records::Empty),
        }
    }
}

impl Outcome {
    fn found(found: ReadOutcome, copy: Option<Range<usize>>) -> Self {
        Self {
            error: ErrorCode::None,
            high_watermark: found.high_watermark,
            last_stable_offset: found.last_stable_offset,
            log_start_offset: found.log_start_offset,
            diverging: found.diverging,
            aborted: found.aborted,
            records: match found.records {
                read::Records::Empty => Records::Empty,
                read::Records::File(range) => match copy {
                    Some(copy) => Records::Copied(range, copy),
                    None => Records::File(range),
                },
                read::Records::Cold(cold) => Records::Cold(Some(cold)),
            },
            cut: found.cut,
            visible: found.visible,
        }
    }
}

/// What is left for the partitions that are still to be read.
pub(super) struct Budget {
    /// Below 0 as the client said it; Kafka fails the first partition then, and goes on with 0.
    left: i64,
    /// Nothing was found yet: the next batch comes whatever its size.
    min_one: bool,
}

impl Budget {
    pub(super) fn new(max_bytes: i64) -> Self {
        Self { left: max_bytes, min_one: true }
    }

    /// Takes off what a partition was given already.
    pub(super) fn take(&mut self, bytes: u64) {
        self.min_one &= bytes == 0;
        self.left = self.left.saturating_sub_unsigned(bytes).max(0);
    }
}

impl Read {
    /// Reads it within the budget; false when the partition is gone, and another may have its place.
    pub(super) fn perform(&mut self, isolation: Isolation, budget: &mut Budget, copies: &mut Copies) -> bool {
        let partition = match &self.partition {
            Ok(partition) => partition,
            Err(error) => {
                self.outcome = Outcome::failed(*error);
                return true;
            }
        };
        let Ok(max_bytes) = u64::try_from(budget.left.min(self.watched.max_bytes.into())) else {
            self.outcome = Outcome::failed(ErrorCode::UnknownServerError);
            budget.take(0);
            return true;
        };
        let spec = ReadSpec {
            offset: self.watched.fetch_offset,
            max_bytes,
            min_one: budget.min_one,
            current_leader_epoch: known(self.watched.current_leader_epoch),
            last_fetched_epoch: known(self.watched.last_fetched_epoch),
            isolation,
        };
        let read = partition.read_copying(&spec, self.place, copies);
        let here = !matches!(read, Err(ReadError::Gone));
        self.outcome = match read {
            Ok(mut found) => {
                let copy = found.copied.take().map(|copied| {
                    self.place = Some(copied.next);
                    copied.at
                });
                Outcome::found(found, copy)
            }
            Err(error) => Outcome::failed(error.code()),
        };
        budget.take(match &self.outcome.records {
            // Its size shows when it is loaded.
            Records::Cold(_) => max_bytes.max(1),
            _ => self.outcome.bytes(),
        });
        here
    }
}
