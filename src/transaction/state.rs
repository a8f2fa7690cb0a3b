//! What the coordinator knows of one transactional id.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::protocol::record_batch::ProducerId;

/// No producer id.
pub const NO_PRODUCER_ID: ProducerId = -1;
/// No producer epoch.
pub const NO_EPOCH: i16 = -1;

/// `transaction.version` 2: the epoch rises with every transaction (KIP-890 part 2).
pub const EPOCH_BUMP_FROM: i16 = 2;

/// Where a transactional id stands. The numbers are those of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum State {
    /// No transaction yet.
    Empty = 0,
    /// Partitions are being written.
    Ongoing = 1,
    /// To be committed; the markers are on their way.
    PrepareCommit = 2,
    /// To be aborted; the markers are on their way.
    PrepareAbort = 3,
    /// The last transaction was committed.
    CompleteCommit = 4,
    /// The last transaction was aborted.
    CompleteAbort = 5,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Are markers on their way?
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// The state of this number.
    pub fn from_id(id: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i8 == id)
    }
}

/// A partition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic, by name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

/// One transactional id as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The producer id in use.
    pub producer_id: ProducerId,
    /// The producer id before the last change of state; the same unless that change replaced it.
    pub previous_producer_id: ProducerId,
    /// The producer id that replaces an exhausted one when the prepared transaction is complete, else -1.
    pub next_producer_id: ProducerId,
    /// Its epoch; -1 before the first record.
    pub epoch: i16,
    /// After this time an ongoing transaction is aborted.
    pub timeout_ms: i32,
    /// Where it stands.
    pub state: State,
    /// What the transaction may have written to; empty outside of one.
    pub partitions: BTreeSet<TopicPartition>,
    /// When the transaction began, -1 before the first.
    pub start_ms: i64,
    /// When its record was last written.
    pub last_update_ms: i64,
    /// The `transaction.version` by which its client works.
    pub client_version: i16,
}

impl Transaction {
    /// A transactional id that nobody used before.
    pub fn new(producer_id: ProducerId, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            last_update_ms: now_ms,
            client_version: 0,
        }
    }

    /// Is there no epoch left for another producer? The last one is kept for fencing.
    pub fn is_epoch_exhausted(&self) -> bool {
        is_epoch_exhausted(self.epoch)
    }

    /// Does its client expect another epoch after each transaction?
    pub fn bumps_epoch(&self) -> bool {
        self.client_version >= EPOCH_BUMP_FROM
    }

    /// Was it begun so long ago that it is to be aborted? One without timeout (KIP-939) never.
    pub fn is_timed_out(&self, now_ms: i64) -> bool {
        self.state == State::Ongoing
            && self.timeout_ms != i32::MAX
            && self.start_ms.saturating_add(i64::from(self.timeout_ms)) < now_ms
    }

    /// Was nothing done under it for so long that it is forgotten?
    pub fn is_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        matches!(self.state, State::Empty | State::CompleteCommit | State::CompleteAbort)
            && self.last_update_ms <= now_ms.saturating_sub(expiration_ms)
    }
}

/// Is this the last epoch that a producer may be given?
pub fn is_epoch_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

/// A transactional id in memory: what the log keeps, and what Kafka forgets with a restart too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The fold of its records.
    pub logged: Transaction,
    /// The epoch before the last bump by a producer that named its own (KIP-360), or by the end of a transaction; a retry
    /// that still names it is answered like the original.
    pub last_epoch: i16,
}
