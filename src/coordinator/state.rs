//! What a coordinator provides: the state of one shard.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::internal_topic::InternalTopic;
use super::journal::Journal;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{Offset, ProducerId};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, for deadlines.
    pub mono_ms: u64,
    /// Wall time, for records.
    pub wall_ms: i64,
}

impl Now {
    /// The deadline that lies `delay_ms` ahead.
    pub fn after_ms(self, delay_ms: i32) -> u64 {
        self.mono_ms + u64::try_from(delay_ms).unwrap_or(0)
    }
}

/// The outcome of each element of a request, or one for all.
pub type Outcomes = Result<Vec<Result<(), ErrorCode>>, ErrorCode>;

/// A record's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// One record of the log while loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed<'r> {
    /// Its offset.
    pub offset: Offset,
    /// The producer in whose transaction it was written; it counts once that transaction's marker says so.
    pub transaction: Option<ProducerId>,
    /// The key.
    pub key: &'r [u8],
    /// The value; `None` is a tombstone.
    pub value: Option<&'r [u8]>,
}

/// The state of one shard: owned by one task, so nothing in it is shared or waits.
pub trait ShardState: Send + Sized + 'static {
    /// Names the coordinator's tasks: "group", "transaction".
    const NAME: &'static str;

    /// What all shards of the coordinator share: settings, and the ways out of it.
    type Context: Send + Sync + Debug + 'static;

    /// The topic whose partitions are the shards.
    fn internal_topic(context: &Self::Context) -> InternalTopic;

    /// How often [`ShardState::upkeep`] runs.
    fn upkeep_interval(context: &Self::Context) -> Duration;

    /// A shard without state, before its log is read.
    fn new(context: &Arc<Self::Context>, journal: Journal) -> Self;

    /// Its appends and the answers that wait for them.
    fn journal(&mut self) -> &mut Journal;

    /// Takes over one record of the log while loading.
    fn replay(&mut self, record: Replayed<'_>, now: Now);

    /// Takes over the end of a producer's transaction while loading.
    fn replay_marker(&mut self, _producer_id: ProducerId, _commit: bool, _now: Now) {}

    /// All of the log is read: deadlines begin.
    fn loaded(&mut self, now: Now);

    /// When time next matters, on the monotonic clock.
    fn next_due(&self) -> Option<u64>;

    /// Does all that is due.
    fn on_time(&mut self, now: Now);

    /// Ends what has outlived its retention.
    fn upkeep(&mut self, now: Now);

    /// Topics are gone: nothing about them is needed any more.
    fn topics_deleted(&mut self, _topics: &[Arc<str>], _now: Now) {}

    /// The compacted state as records that rebuild it, in no order.
    fn snapshot(&self) -> Vec<Encoded>;
}
