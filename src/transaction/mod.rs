//! Transactions: who may write under a transactional id, which partitions a transaction has, and how it ends everywhere.
//!
//! [`coordinator`] is what the API asks. It keeps one shard per partition of `__transaction_state`, on the runtime of
//! [`crate::coordinator`]; a shard's state ([`shard`]) is the fold of the records ([`records`]) in its partition. What a
//! request may do in which state is decided in [`state`] and [`transition`], without I/O or clock. [`markers`] tells every
//! partition of a transaction how it ended.
//!
//! The life of a transaction, with what is durable before the next step:
//!
//! ```text
//!  add partitions      EndTxn                    a marker in every partition     all markers durable
//!  Ongoing record ───▶ PrepareCommit record ───▶ (retried until it is there) ───▶ CompleteCommit record
//!                      the client is answered
//! ```
//! A crash before the Prepare record leaves an ongoing transaction, which its timeout aborts. From the Prepare record on
//! the outcome is fixed: the next start finds it while loading and writes all markers again. A marker that a partition has
//! already ends nothing a second time.

pub mod coordinator;
pub mod internal_topic;
pub mod markers;
pub mod permit;
pub mod producer_ids;
pub mod records;
pub mod shard;
pub mod state;
pub mod transition;
