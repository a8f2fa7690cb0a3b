//! What belongs to the whole cluster: its file, who may write, what the broker knew, and which topics are gone.

pub mod file;
pub mod owner;
pub mod snapshot;
pub mod tombstone;
