//! Consumer groups: who is a member, who owns what, and how far each group has read.
//!
//! [`coordinator`] is what the API asks. It keeps one shard per partition of `__consumer_offsets`, on the runtime of
//! [`crate::coordinator`]. A shard's state ([`shard`]) is the fold of the records ([`records`]) in its partition, plus
//! what Kafka doesn't keep either: rebalances in progress and deadlines. Groups follow one of two protocols, [`classic`]
//! (JoinGroup, SyncGroup, Heartbeat, LeaveGroup) and [`consumer`] (KIP-848), and may change from one to the other; beside
//! them are [`share`] groups (KIP-932) and [`streams`] groups (KIP-1071).

pub mod classic;
pub mod consumer;
mod consumer_protocol;
pub mod coordinator;
pub mod internal_topic;
pub mod new_topics;
pub mod offsets;
mod pending;
mod record_fields;
pub mod records;
pub mod shard;
pub mod share;
pub mod streams;
