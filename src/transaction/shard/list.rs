//! DescribeTransactions and ListTransactions.

use std::collections::HashSet;
use std::sync::Arc;

use regex::Regex;
use tokio::sync::oneshot;

use super::TransactionShard;
use crate::coordinator::Now;
use crate::protocol::record_batch::ProducerId;
use crate::transaction::state::{State, Transaction};

/// One transaction as DescribeTransactions shows it.
pub type Described = Transaction;

/// Which transactional ids ListTransactions shows. An empty part lets all through.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Of these producers.
    pub producer_ids: HashSet<ProducerId>,
    /// In one of these states; with `Some` of an empty set, in none.
    pub states: Option<HashSet<State>>,
    /// Whose transaction began longer ago than this, in milliseconds.
    pub longer_than_ms: Option<i64>,
    /// Whose name it matches as a whole.
    pub pattern: Option<Regex>,
}

impl ListFilter {
    fn lets_through(&self, id: &str, transaction: &Transaction, now_ms: i64) -> bool {
        (self.producer_ids.is_empty() || self.producer_ids.contains(&transaction.producer_id))
            && self.states.as_ref().is_none_or(|states| states.contains(&transaction.state))
            && self.longer_than_ms.is_none_or(|ms| now_ms.saturating_sub(transaction.start_ms) > ms)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

/// One transactional id as ListTransactions shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTransaction {
    /// Its name.
    pub transactional_id: Arc<str>,
    /// The producer id in use.
    pub producer_id: ProducerId,
    /// Where it stands.
    pub state: State,
}

impl TransactionShard {
    /// DescribeTransactions of one transactional id.
    pub fn describe(&mut self, id: &str, to: oneshot::Sender<Option<Described>>) {
        let described = self.transactions.get(id).map(|live| live.logged.clone());
        self.journal.tell(to, described);
    }

    /// ListTransactions.
    pub fn list(&mut self, filter: &ListFilter, to: oneshot::Sender<Vec<ListedTransaction>>, now: Now) {
        let shown = self.transactions.iter().filter(|(id, live)| filter.lets_through(id, &live.logged, now.wall_ms));
        let listed = shown.map(|(id, live)| ListedTransaction {
            transactional_id: Arc::clone(id),
            producer_id: live.logged.producer_id,
            state: live.logged.state,
        });
        let listed = listed.collect();
        self.journal.tell(to, listed);
    }
}
