//! What the node knows of topics, configurations and remote segments, and where that is kept.

pub mod image;
pub mod remote_log;
pub mod store;
