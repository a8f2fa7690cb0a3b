//! Durability of the node: what makes an appended offset as safe as its topic's mode asks.

pub mod partition_sync;
pub mod ticket;
