//! The runtime that every coordinator is built on: one task per partition of an internal topic.
//!
//! A coordinator (groups, transactions) gives the state of one partition ([`ShardState`]) and asks its shards through
//! [`Shards`]; the rest is here, once: the task with its mailbox, deadlines and loading (`task`), the log it folds
//! ([`log`]), appends and the answers that wait for their durability ([`journal`]), which partition holds a key
//! ([`partitioner`]), the making of the internal topic on demand ([`internal_topic`]), and the state of all shards in a
//! metadata snapshot ([`section`]).
//!
//! **State is the fold of its records.** A request makes records, the journal appends them, and only then the state
//! changes, by the same function that loading uses. An append that fails changes nothing. A rejected ticket unloads the
//! shard, drops every answer that waited, and loads it again. A crash therefore leaves what the log has, and nobody was
//! told more than that.

mod held;
pub mod internal_topic;
pub mod journal;
pub mod log;
pub mod partitioner;
pub mod section;
mod shards;
mod state;
mod task;

pub use shards::{Shards, ShardsDeps};
pub use state::{Encoded, Now, Outcomes, Replayed, ShardState};

/// What tests of coordinators need of the runtime.
#[cfg(test)]
pub mod testing {
    pub use super::task::replay;
}
