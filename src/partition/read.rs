//! The read: the one place that decides between the local log and the tier.

use std::io;
use std::sync::Arc;

use super::Partition;
pub use super::cold::ColdRead;
use super::waiters::Visible;
use crate::log::copies::Copies;
pub use crate::log::txn_index::AbortedTransaction;
use crate::log::view::{Copied, FileRange, Found, LogView, Mark, Place, Wanted};
use crate::log::walk::Reach;
use crate::log::{LogError, leader_epochs};
use crate::metadata::remote_log::RemoteChain;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// What a reader of transactions sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark.
    ReadUncommitted,
    /// Everything below the last stable offset.
    ReadCommitted,
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy)]
pub struct ReadSpec {
    /// First offset wanted.
    pub offset: Offset,
    /// Most bytes wanted.
    pub max_bytes: u64,
    /// Answer with the first batch even if it is larger than `max_bytes`.
    pub min_one: bool,
    /// The leader epoch that the reader knows; checked against ours.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// Epoch of the last record that the reader has; a log that diverged below is told instead of records (KIP-595).
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// What is visible.
    pub isolation: Isolation,
}

/// Records of an answer.
#[derive(Debug)]
pub enum Records {
    /// None.
    Empty,
    /// In a local file.
    File(FileRange),
    /// In the bucket, or local but not in the page cache; to be loaded.
    Cold(ColdRead),
}

/// What a read found.
#[derive(Debug)]
pub struct ReadOutcome {
    /// Where readers end.
    pub high_watermark: Offset,
    /// Where readers of committed records end.
    pub last_stable_offset: Offset,
    /// First readable offset.
    pub log_start_offset: Offset,
    /// Set when the reader's history diverged: the largest common epoch and its end offset; no records then.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// For readers of committed records: the aborted transactions that lie in the records, by the place of their markers.
    /// Those of a cold read come with its bytes.
    pub aborted: Vec<AbortedTransaction>,
    /// The records.
    pub records: Records,
    /// They themselves, if they are few and a copy was asked for.
    pub copied: Option<Copied>,
    /// More records are at hand than a wait could bring: the answer ends with an old segment, or no batch fits its limit.
    pub cut: bool,
    /// How much was visible.
    pub visible: Visible,
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Below the log start or above the log end.
    #[error("offset {offset} is not within {log_start} to {high_watermark}")]
    OutOfRange {
        /// What was asked.
        offset: Offset,
        /// First readable offset.
        log_start: Offset,
        /// Where readers end.
        high_watermark: Offset,
    },
    /// The reader's epoch is older than ours.
    #[error("leader epoch {required} is older than {current}")]
    FencedLeaderEpoch {
        /// What the reader named.
        required: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// The reader's epoch is newer than ours.
    #[error("leader epoch {required} is newer than {current}")]
    UnknownLeaderEpoch {
        /// What the reader named.
        required: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// A file or the bucket failed.
    #[error("storage failed: {0}")]
    Storage(String),
    /// The topic was deleted, or this broker no longer leads the partition.
    #[error("partition is gone")]
    Gone,
}

impl ReadError {
    /// What the client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::Storage(_) => ErrorCode::KafkaStorageError,
            Self::Gone => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl From<LogError> for ReadError {
    fn from(error: LogError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// The part of an outcome that is not known under the lock.
struct Answer {
    records: Records,
    copied: Option<Copied>,
    aborted: Vec<AbortedTransaction>,
}

impl Answer {
    fn of(records: Records) -> Self {
        Self { records, copied: None, aborted: Vec::new() }
    }
}

/// How often a reader takes a new view because a file of the last one was gone: each time the local start has moved.
const VIEWS_MAX: usize = 3;

/// What is taken under the lock.
struct Moment {
    view: Arc<LogView>,
    high_watermark: Mark,
    last_stable: Offset,
    /// Where this reader ends.
    upto: Mark,
    log_start: Offset,
    local_start: Offset,
    /// For a read below `local_start`: what the tier has. Taken with the rest, because what leaves the chain is below the
    /// log start, or local again, before it does.
    chain: Option<Arc<RemoteChain>>,
    diverging: Option<(LeaderEpoch, Offset)>,
    visible: Visible,
}

impl Moment {
    fn cut(&self, spec: &ReadSpec, records: &Records) -> bool {
        match records {
            // As Kafka has it: who reads an older segment doesn't wait for the newest.
            Records::File(_) => self.view.segment_of(spec.offset) < Some(self.upto.segment),
            Records::Empty => self.diverging.is_none() && spec.offset < self.upto.offset,
            Records::Cold(_) => false,
        }
    }
}

impl Partition {
    /// Records from `spec.offset` on. Never waits for the disk or the bucket; a cold answer is loaded by the caller.
    pub fn read(&self, spec: &ReadSpec) -> Result<ReadOutcome, ReadError> {
        self.read_within(spec, Reach::PageCache, None, None)
    }

    /// As [`Partition::read`]; few records are copied at once. Who goes on where an earlier read ended says so by `place`.
    pub fn read_copying(
        &self,
        spec: &ReadSpec,
        place: Option<Place>,
        copies: &mut Copies,
    ) -> Result<ReadOutcome, ReadError> {
        self.read_within(spec, Reach::PageCache, place, Some(copies))
    }

    /// As [`Partition::read`], on a thread that may wait for the disk.
    pub fn read_from_disk(&self, spec: &ReadSpec) -> Result<ReadOutcome, ReadError> {
        self.read_within(spec, Reach::Disk, None, None)
    }

    fn read_within(
        &self,
        spec: &ReadSpec,
        reach: Reach,
        place: Option<Place>,
        mut copies: Option<&mut Copies>,
    ) -> Result<ReadOutcome, ReadError> {
        self.check_leader_epoch(spec.current_leader_epoch)?;
        let mut views = 1;
        loop {
            let moment = self.moment(spec)?;
            let wanted = Wanted {
                from: spec.offset,
                upto: moment.upto,
                max_bytes: spec.max_bytes,
                min_one: spec.min_one,
                reach,
                place,
            };
            let Answer { records, copied, aborted } = match self.records(spec, &moment, &wanted, copies.as_deref_mut())
            {
                Err(LogError::Io(error)) if error.kind() == io::ErrorKind::NotFound && views < VIEWS_MAX => {
                    views += 1;
                    continue;
                }
                other => other?,
            };
            return Ok(ReadOutcome {
                high_watermark: moment.high_watermark.offset,
                last_stable_offset: moment.last_stable,
                log_start_offset: moment.log_start,
                diverging: moment.diverging,
                aborted,
                cut: moment.cut(spec, &records),
                records,
                copied,
                visible: moment.visible,
            });
        }
    }

    fn moment(&self, spec: &ReadSpec) -> Result<Moment, ReadError> {
        let mut state = self.lock();
        let online = state.online()?;
        let (log_start, high_watermark) = (online.log_start, online.high_watermark);
        let out_of_range =
            || ReadError::OutOfRange { offset: spec.offset, log_start, high_watermark: high_watermark.offset };
        let diverging = match spec.last_fetched_epoch {
            Some(last) if last >= 0 => {
                let (epoch, end) = online.log.epochs().end_offset_for(last, online.log.end());
                if (epoch, end) == leader_epochs::UNDEFINED {
                    return Err(out_of_range());
                }
                (epoch < last || end < spec.offset).then_some((epoch, end))
            }
            _ => None,
        };
        // Between the high watermark and the log end there is nothing to read yet, and nothing wrong with asking.
        if diverging.is_none() && (spec.offset < log_start || spec.offset > online.log.end()) {
            return Err(out_of_range());
        }
        Ok(Moment {
            view: Arc::clone(online.log.view()),
            high_watermark,
            last_stable: online.stable.offset,
            upto: online.end_for(spec.isolation),
            log_start,
            local_start: online.local_start(),
            chain: (spec.offset < online.local_start()).then(|| self.remote_chain()),
            diverging,
            visible: online.visible(),
        })
    }

    /// The decision between the two tiers.
    fn records(
        &self,
        spec: &ReadSpec,
        moment: &Moment,
        wanted: &Wanted,
        copies: Option<&mut Copies>,
    ) -> Result<Answer, LogError> {
        let nothing = || Answer::of(Records::Empty);
        let from_disk = || Answer::of(Records::Cold(self.on_disk(spec)));
        if moment.diverging.is_some() || spec.offset >= moment.upto.offset {
            return Ok(nothing());
        }
        // The partitions behind the one that filled the answer: nothing fits, so nothing is looked up.
        if spec.max_bytes == 0 && !spec.min_one {
            return Ok(nothing());
        }
        if let Some(chain) = &moment.chain {
            return Ok(Answer::of(Records::Cold(self.cold(spec, chain, moment.local_start)?)));
        }
        let found = match moment.view.read(wanted, copies) {
            Err(error) if would_wait(&error) => return Ok(from_disk()),
            found => found?,
        };
        let Some(Found { range, copied }) = found else { return Ok(nothing()) };
        let aborted = match spec.isolation {
            Isolation::ReadUncommitted => Vec::new(),
            Isolation::ReadCommitted => {
                match moment.view.aborted_within(&range, spec.offset, moment.upto.offset, wanted.reach) {
                    Err(error) if would_wait(&error) => return Ok(from_disk()),
                    aborted => aborted?,
                }
            }
        };
        Ok(Answer { records: Records::File(range), copied, aborted })
    }
}

fn would_wait(error: &LogError) -> bool {
    matches!(error, LogError::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}
