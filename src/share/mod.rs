//! Share groups' records (KIP-932): which record is at which member, how often it was given out, and what became of it.
//!
//! ```text
//!  ShareFetch ──> session ──> share partition ──reads──> partition (hot or cold)
//!                                   │ acquires: in_flight
//!  ShareAcknowledge ────────────────┤ settles
//!  lock over, member gone ──────────┘    └──writes──> share coordinator (state), then it counts
//! ```
//! A [`partition::SharePartition`] is made when a member first fetches, from the state that the share coordinator keeps
//! ([`state`]). What is acquired is in memory only: after a crash it is given out again, with the count it had before. What is
//! acknowledged counts, and is told, once the share coordinator has it.

mod acknowledge;
mod breaker;
pub mod dead_letters;
mod fetch;
pub mod in_flight;
pub mod partition;
pub mod partitions;
pub mod sessions;
pub mod settings;
pub mod state;
mod suspects;

pub use acknowledge::AcknowledgedBatch;
pub use fetch::{Acquire, Given, Reader};
