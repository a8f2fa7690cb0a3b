//! One shard: all transactional ids whose records lie in one partition of `__transaction_state`.
//!
//! Every change is one record: appended by the journal, then applied by [`TransactionShard::apply`], the function that
//! loading uses. What a request changes is decided in [`super::transition`]. Once the record of a prepared transaction is
//! durable the transaction goes out to [`super::markers`], which comes back with [`TransactionShard::complete`].

mod list;
mod requests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use tokio::sync::mpsc;

pub use list::{Described, ListFilter, ListedTransaction};
pub use requests::{Asked, InitRequest};

use super::internal_topic::transaction_topic;
use super::markers::Completion;
use super::records::{self, Record};
use super::state::{Live, NO_EPOCH, State};
use super::transition;
use crate::config::server::TransactionSettings;
use crate::coordinator::internal_topic::InternalTopic;
use crate::coordinator::journal::{Journal, client_error};
use crate::coordinator::{Encoded, Now, Replayed, ShardState};
use crate::metadata::features::Feature;
use crate::metadata::store::SharedMetadata;
use crate::protocol::error_code::ErrorCode;

/// Tombstones of one batch; together well below any `max.message.bytes`.
const TOMBSTONES_PER_BATCH: usize = 500;

/// What all shards share.
#[derive(Clone)]
pub struct TransactionContext {
    /// `transaction.*`.
    pub settings: TransactionSettings,
    /// The finalized `transaction.version`.
    pub metadata: SharedMetadata,
    /// Where prepared transactions go. Not bounded, because its content is: one entry per transactional id.
    pub completions: mpsc::UnboundedSender<Completion>,
}

impl std::fmt::Debug for TransactionContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionContext").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl TransactionContext {
    /// The finalized level of `transaction.version`.
    pub fn server_version(&self) -> i16 {
        self.metadata.image().features.level(Feature::Transaction)
    }
}

/// One shard's state.
#[derive(Debug)]
pub struct TransactionShard {
    context: Arc<TransactionContext>,
    journal: Journal,
    transactions: HashMap<Arc<str>, Live>,
    /// How many of them are ongoing.
    ongoing: usize,
    /// Records of types we don't know, by key: part of the fold, so that a snapshot has them.
    unknown: HashMap<Vec<u8>, Vec<u8>>,
    /// When timeouts are looked at next, on the monotonic clock.
    timeouts_due: u64,
}

impl ShardState for TransactionShard {
    const NAME: &'static str = "transaction";

    type Context = TransactionContext;

    fn internal_topic(context: &TransactionContext) -> InternalTopic {
        transaction_topic(&context.settings)
    }

    fn upkeep_interval(context: &TransactionContext) -> Duration {
        Duration::from_millis(context.settings.expiration_check_ms)
    }

    fn new(context: &Arc<TransactionContext>, journal: Journal) -> Self {
        Self {
            context: Arc::clone(context),
            journal,
            transactions: HashMap::new(),
            ongoing: 0,
            unknown: HashMap::new(),
            timeouts_due: 0,
        }
    }

    fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    fn replay(&mut self, replayed: Replayed<'_>, _: Now) {
        let Replayed { offset, key, value, .. } = replayed;
        match (records::decode(key, value), value) {
            (Ok(Record::Transaction(id, logged)), _) => {
                self.apply(&id, logged.map(|logged| Live { logged, last_epoch: NO_EPOCH }));
            }
            (Ok(Record::Unknown { .. }), Some(value)) => {
                self.unknown.insert(key.to_vec(), value.to_vec());
            }
            (Ok(Record::Unknown { .. }), None) => {
                self.unknown.remove(key);
            }
            // One bad record must not hide all transactions of the shard.
            (Err(error), _) => tracing::error!(offset, %error, "record of a coordinator cannot be read and is skipped"),
        }
    }

    fn loaded(&mut self, now: Now) {
        self.timeouts_due = now.mono_ms + self.context.settings.timeout_check_ms;
        let prepared = self.transactions.iter().filter(|(_, live)| live.logged.state.is_prepared());
        let prepared: Vec<_> = prepared.map(|(id, _)| Arc::clone(id)).collect();
        prepared.iter().for_each(|id| self.send_markers(id));
    }

    fn next_due(&self) -> Option<u64> {
        // A shard without open transactions has no timer; its next one is looked at at once, and again in turn.
        (self.ongoing > 0).then_some(self.timeouts_due)
    }

    fn on_time(&mut self, now: Now) {
        self.timeouts_due = now.mono_ms + self.context.settings.timeout_check_ms;
        let timed_out = self.transactions.iter().filter(|(_, live)| live.logged.is_timed_out(now.wall_ms));
        let timed_out: Vec<_> = timed_out.map(|(id, live)| (Arc::clone(id), live.clone())).collect();
        for (id, live) in timed_out {
            tracing::info!(transactional_id = &*id, "a transaction is aborted after its timeout");
            let aborted = transition::fence(&live, self.context.server_version(), now.wall_ms);
            // When the log refuses, the next look finds it again.
            let _ = self.change(&id, aborted, now);
        }
    }

    fn upkeep(&mut self, now: Now) {
        let expiration_ms = self.context.settings.id_expiration_ms;
        let expired = self.transactions.iter().filter(|(_, live)| live.logged.is_expired(now.wall_ms, expiration_ms));
        let expired: Vec<_> = expired.map(|(id, _)| Arc::clone(id)).collect();
        for some in expired.chunks(TOMBSTONES_PER_BATCH) {
            let tombstones = some.iter().map(|id| records::encode(id, None, 0));
            if self.journal.append(tombstones, now.wall_ms).is_err() {
                tracing::warn!("expired transactional ids stay until the next check");
                return;
            }
            some.iter().for_each(|id| self.apply(id, None));
        }
    }

    fn snapshot(&self) -> Vec<Encoded> {
        let version = self.context.server_version();
        let transactions = self.transactions.iter().map(|(id, live)| records::encode(id, Some(&live.logged), version));
        let unknown = self.unknown.iter().map(|(key, value)| Encoded { key: key.clone(), value: Some(value.clone()) });
        transactions.chain(unknown).collect()
    }
}

impl TransactionShard {
    /// The only way by which the state changes.
    fn apply(&mut self, id: &Arc<str>, live: Option<Live>) {
        let is_ongoing = |live: &Live| live.logged.state == State::Ongoing;
        self.ongoing += usize::from(live.as_ref().is_some_and(is_ongoing));
        let before = match live {
            Some(live) => self.transactions.insert(Arc::clone(id), live),
            None => self.transactions.remove(id),
        };
        self.ongoing -= usize::from(before.as_ref().is_some_and(is_ongoing));
    }

    /// Writes what a transactional id has become; a prepared transaction goes out to its partitions once that is durable.
    fn change(&mut self, id: &Arc<str>, live: Live, now: Now) -> Result<(), ErrorCode> {
        let record = records::encode(id, Some(&live.logged), self.context.server_version());
        self.journal.append([record], now.wall_ms).map_err(|error| client_error(&error))?;
        crash_point::reach(match live.logged.state {
            State::PrepareCommit | State::PrepareAbort => CrashPoint::TransactionAfterPrepare,
            State::CompleteCommit | State::CompleteAbort => CrashPoint::TransactionAfterComplete,
            State::Empty | State::Ongoing => CrashPoint::TransactionAfterAppend,
        });
        let prepared = live.logged.state.is_prepared();
        self.apply(id, Some(live));
        if prepared {
            self.send_markers(id);
        }
        Ok(())
    }

    fn send_markers(&mut self, id: &Arc<str>) {
        let Some(Live { logged, .. }) = self.transactions.get(id) else { return };
        let completion = Completion::new(id, logged, self.journal.leader_epoch());
        let completions = self.context.completions.clone();
        self.journal.when_durable(move || {
            crash_point::reach(CrashPoint::TransactionBeforeMarkers);
            // Nobody takes it when the broker stops; the next start finds it.
            let _ = completions.send(completion);
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
