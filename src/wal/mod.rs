//! Durability of the node: what makes an appended offset as safe as its topic's mode asks.
//!
//! | File | What it does |
//! |---|---|
//! | [`ticket`] | what an append hands back |
//! | [`partition_sync`] | a thread per log directory that syncs partition files |
//! | [`group_commit`] | the write-ahead log of a log directory: one sync for the appends of all its synced topics |
//! | [`tail`], [`recycling`] | where it ends; where its next file comes from |
//! | [`groups`], [`bundle`] | groups on their way to the disk; records that leave by one write |
//! | [`record`], [`file`] | its bytes; its files and which of them may be reused |
//! | [`replay`] | what a start does with it |
//!
//! Nothing here knows a partition: files and tickets, and calls back through [`group_commit::Covered`].

mod bundle;
pub mod file;
pub mod group_commit;
mod groups;
pub mod partition_sync;
pub mod record;
mod recycling;
pub mod replay;
mod tail;
pub mod ticket;

#[cfg(test)]
mod tests;
