//! Consumer groups: who is a member, who owns what, and how far each group has read.
//!
//! [`coordinator`] is what the API asks; it keeps one task per shard, that is per partition of `__consumer_offsets`
//! ([`shard_task`]). A shard's state ([`shard`]) is the fold of the records ([`records`]) in its partition
//! ([`shard_log`]), plus what Kafka doesn't keep either: rebalances in progress and deadlines ([`classic`]).

pub mod classic;
pub mod coordinator;
mod held;
pub mod internal_topic;
pub mod offsets;
pub mod partitioner;
pub mod records;
pub mod shard;
pub mod shard_log;
mod shard_task;
