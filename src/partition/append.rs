//! The append: checked in the receive buffer, stamped in place, written once.
//!
//! ```text
//!  outside the lock                    | under the lock                                          | behind it
//!  CRC, header, size, times, broker's  | epoch, sequence, roll, stamp, one write, publish log    | waiters woken,
//!  time                                | end, producers, index; high watermark as the topic asks | sync asked for
//! ```
//! A crash before the write leaves nothing, one behind it a batch that nobody was told of; recovery keeps it if it is
//! whole. The producer that retries it meets its own sequence.

use std::cmp::Ordering;
use std::sync::atomic::Ordering::Relaxed;

use super::bad_records::BadRecords;
use super::producers::{Admission, EndedTransaction, ProducerError, Verdict, VerificationGuard};
use super::validate::{self, Checked};
use super::{Online, Partition, State, Unavailable, recompress};
use crate::config::topic::{TimestampType, TopicConfig};
use crate::log::{Incoming, LogError};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{
    BatchError, BatchView, LeaderEpoch, Offset, stamp, stamp_log_append_time, total_bytes,
};
use crate::wal::ticket::{Rejected, Ticket};

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A Produce request: exactly one batch, no control bit.
    Client,
    /// A coordinator of this broker: whole batches of our own making.
    Coordinator,
}

/// What an append that was written hands back.
#[derive(Debug)]
pub struct Appended {
    /// Offset of the first record; of the original for a duplicate.
    pub base_offset: Offset,
    /// The broker's time that the records got, -1 when they keep the producer's.
    pub log_append_time_ms: i64,
    /// First readable offset of the partition.
    pub log_start_offset: Offset,
    /// What the acknowledgement waits for.
    pub ticket: Ticket,
}

/// Why nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The bytes are no batch, or its CRC is wrong.
    #[error("{0}")]
    Corrupt(#[from] BatchError),
    /// A batch that no client may send or no topic of this kind may hold.
    #[error("{0}")]
    InvalidRecord(&'static str),
    /// Records that a topic of this kind may not hold.
    #[error("{} records have no key or a wrong time", .0.count)]
    BadRecords(BadRecords),
    /// A time in the header is outside `message.timestamp.*.max.ms`, and the records don't tell more.
    #[error("timestamp {timestamp_ms} of a record lies outside the accepted range")]
    InvalidTimestamp {
        /// The offending time.
        timestamp_ms: i64,
    },
    /// Over `max.message.bytes`.
    #[error("batch of {size} bytes exceeds max.message.bytes {limit}")]
    TooLarge {
        /// The batch, as it was sent or as it would be stored.
        size: u64,
        /// The topic's limit.
        limit: u64,
    },
    /// Over `segment.bytes`.
    #[error("batch of {size} bytes exceeds segment.bytes {limit}")]
    LargerThanSegment {
        /// The batch, as it was sent or as it would be stored.
        size: u64,
        /// The topic's limit.
        limit: u64,
    },
    /// A compression id that Kafka does not know.
    #[error("compression id {0} is unknown")]
    UnsupportedCompression(i16),
    /// The caller's epoch is older than ours.
    #[error("leader epoch {required} is older than {current}")]
    FencedLeaderEpoch {
        /// What the caller named.
        required: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// The caller's epoch is newer than ours.
    #[error("leader epoch {required} is newer than {current}")]
    UnknownLeaderEpoch {
        /// What the caller named.
        required: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// The sequence does not follow the producer's last, or its epoch is fenced.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// The log directory failed, or the partition's files did.
    #[error("log directory is offline")]
    Storage,
    /// Less free space than `log.dir.min.free.bytes`.
    #[error("log directory has less free space than log.dir.min.free.bytes")]
    DiskFull,
    /// Another broker owns the bucket's prefix: what this one took would be on no chain.
    #[error("another broker took over this cluster's bucket; this one takes no more records")]
    Fenced,
    /// The topic was deleted, or this broker no longer leads the partition.
    #[error("partition is gone")]
    Gone,
}

impl AppendError {
    /// What the client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
            Self::BadRecords(bad) if bad.any_wrong_time => ErrorCode::InvalidTimestamp,
            Self::InvalidRecord(_) | Self::BadRecords(_) => ErrorCode::InvalidRecord,
            Self::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            Self::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::Producer(error) => error.code(),
            Self::Storage | Self::DiskFull => ErrorCode::KafkaStorageError,
            Self::Fenced | Self::Gone => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl From<Unavailable> for AppendError {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Offline(_) => Self::Storage,
            Unavailable::Gone => Self::Gone,
        }
    }
}

/// One append on its way through the lock.
struct Incomer<'a> {
    bytes: &'a mut [u8],
    checked: Checked,
    admission: Admission,
    config: &'a TopicConfig,
    now_ms: i64,
    /// The broker's time that the records got, else -1.
    log_append_time_ms: i64,
}

impl Partition {
    /// Appends whole batches, stamping them in place. Blocks for one write into the page cache, nothing else.
    pub fn append(
        &self,
        batches: &mut [u8],
        origin: AppendOrigin,
        required_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Appended, AppendError> {
        self.append_admitted(batches, self.admission(origin), required_leader_epoch)
    }

    /// As [`Partition::append`], for batches of a transaction whose coordinator was asked; `guard` is what
    /// [`Partition::begin_verification`] gave before.
    pub fn append_verified(
        &self,
        batches: &mut [u8],
        origin: AppendOrigin,
        required_leader_epoch: Option<LeaderEpoch>,
        guard: Option<VerificationGuard>,
    ) -> Result<Appended, AppendError> {
        self.append_admitted(batches, Admission { guard, ..self.admission(origin) }, required_leader_epoch)
    }

    pub(super) fn admission(&self, origin: AppendOrigin) -> Admission {
        Admission::of(origin, self.shared.settings.tuning.get().transaction_verification)
    }

    pub(super) fn append_admitted(
        &self,
        batches: &mut [u8],
        admission: Admission,
        required_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Appended, AppendError> {
        let origin = admission.origin;
        let current = self.leader_epoch;
        if let Some(required) = required_leader_epoch {
            match required.cmp(&current) {
                Ordering::Less => return Err(AppendError::FencedLeaderEpoch { required, current }),
                Ordering::Greater => return Err(AppendError::UnknownLeaderEpoch { required, current }),
                Ordering::Equal => {}
            }
        }
        if self.shared.fenced.load(Relaxed) {
            return Err(AppendError::Fenced);
        }
        // The coordinators' few bytes come from what is kept free.
        if origin == AppendOrigin::Client && self.dir().is_full() {
            return Err(AppendError::DiskFull);
        }
        let config = self.topic_config();
        let config = &*config;
        let now_ms = self.shared.clock.now_ms();
        let mut checked = validate::check(batches, origin, config, now_ms)?;
        let mut recompressed = recompress::as_topic_wants(&batches[..checked.bytes], origin, config)?;
        let bytes = match &mut recompressed {
            Some(bytes) => bytes.as_mut_slice(),
            None => &mut batches[..checked.bytes],
        };
        let mut log_append_time_ms = -1;
        if config.timestamp_type == TimestampType::LogAppendTime {
            for_each_batch(bytes, |batch| stamp_log_append_time(batch, now_ms))?;
            checked.max_timestamp = now_ms;
            log_append_time_ms = now_ms;
        }
        self.append_checked(Incomer { bytes, checked, admission, config, now_ms, log_append_time_ms })
    }

    fn append_checked(&self, mut incomer: Incomer<'_>) -> Result<Appended, AppendError> {
        let (config, epoch) = (incomer.config, self.leader_epoch);
        let mut state = self.lock();
        let _timing = self.dir().appends().begin(self.dir());
        let online = state.online()?;
        if let Some(original) = duplicate(online, &incomer, epoch)? {
            return Ok(original);
        }
        let base_offset = online.log.end();
        let rolled = match self.write(online, &mut incomer) {
            Ok(rolled) => rolled,
            Err(error) => return Err(self.write_failed(&mut state, &error)),
        };
        if let Err(error) = self.write_ahead(online, config, base_offset, incomer.bytes) {
            self.dir().sync().set_offline(&error);
            state.leave(State::Offline(error.to_string()), Rejected::Storage);
            return Err(AppendError::Storage);
        }
        self.mark_changed(online);
        let moved = self.settle(online, config);
        let ticket = online.ticket(online.log.end(), epoch);
        self.schedule_after_append(online, config, incomer.now_ms);
        let queued = if online.needs_file_sync() || rolled { self.request_sync(online) } else { None };
        let log_start_offset = online.log_start;
        drop(state);

        if moved {
            self.waiters.moved();
        }
        self.send_to_sync(queued);
        Ok(Appended { base_offset, log_append_time_ms: incomer.log_append_time_ms, log_start_offset, ticket })
    }

    /// Rolls if it must, stamps, writes, records the producers. True when it rolled.
    fn write(&self, online: &mut Online, incomer: &mut Incomer<'_>) -> Result<bool, LogError> {
        let Incomer { bytes, checked, config, now_ms, .. } = incomer;
        let base_offset = online.log.end();
        let incoming = Incoming {
            bytes: bytes.len() as u64,
            last_offset: base_offset + checked.offsets - 1,
            max_timestamp: checked.max_timestamp,
        };
        let rolled = online.log.should_roll(&incoming, config, *now_ms) && self.roll(online, config)?;
        let mut next = base_offset;
        let stamped = for_each_batch(bytes, |batch| {
            stamp(batch, next, self.leader_epoch);
            next += BatchView::header_only(batch).map_or(0, |(header, _)| i64::from(header.last_offset_delta()) + 1);
        });
        stamped.map_err(|error| LogError::Corrupt(error.to_string()))?;
        online.log.append(bytes, self.leader_epoch, config, *now_ms, &*self.shared.random)?;
        let mut rest: &[u8] = bytes;
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            let ended = online.producers.update(&batch, *now_ms);
            if let Some(aborted) = ended.and_then(EndedTransaction::to_aborted) {
                // The marker is in the log: without its entry, readers would be handed what was aborted.
                online.log.append_aborted(&aborted).map_err(|error| LogError::Corrupt(error.to_string()))?;
            }
            rest = behind;
        }
        Ok(rolled)
    }

    /// A failed write refuses this append; one that could not be undone ends the log directory.
    fn write_failed(&self, state: &mut State, error: &LogError) -> AppendError {
        match error {
            LogError::Io(error) => {
                tracing::warn!(topic = %self.topic, partition = self.id.partition, %error, "append failed");
            }
            LogError::Unrepaired { .. } | LogError::Corrupt(_) => {
                self.dir().sync().set_offline(error);
                state.leave(State::Offline(error.to_string()), Rejected::Storage);
            }
        }
        AppendError::Storage
    }
}

/// The answer to a batch that is in the log already: it waits for what its original waits for.
fn duplicate(online: &mut Online, incomer: &Incomer<'_>, epoch: LeaderEpoch) -> Result<Option<Appended>, AppendError> {
    let mut rest: &[u8] = incomer.bytes;
    while let Ok((batch, behind)) = BatchView::split_first(rest) {
        if let Verdict::Duplicate { base_offset, last_offset, timestamp } =
            online.producers.check(&batch, &incomer.admission)?
        {
            let log_append_time_ms = if incomer.log_append_time_ms < 0 { -1 } else { timestamp };
            let ticket = online.ticket(last_offset + 1, epoch);
            return Ok(Some(Appended { base_offset, log_append_time_ms, log_start_offset: online.log_start, ticket }));
        }
        rest = behind;
    }
    Ok(None)
}

/// Calls `each` with every batch of `bytes`, which hold whole ones.
fn for_each_batch(bytes: &mut [u8], mut each: impl FnMut(&mut [u8])) -> Result<(), BatchError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (batch, behind) = rest.split_at_mut_checked(total_bytes(rest)?).ok_or(BatchError::Truncated)?;
        each(batch);
        rest = behind;
    }
    Ok(())
}
