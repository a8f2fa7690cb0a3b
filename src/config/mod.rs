//! What the operator says, parsed and checked before the first port is bound.
//!
//! [`keys`] declares every key once. [`given`] collects what was set and where, [`server`] makes the broker's typed
//! values of it, [`topic`] those of a topic; [`alter`] judges what clients want to set, [`describe`] tells them what
//! counts. Nothing here opens or creates anything, and nothing here knows another module of the broker.

pub mod alter;
pub mod describe;
pub mod document;
pub mod given;
pub mod key;
pub mod keys;
pub mod layers;
pub mod listeners;
pub mod machine;
pub mod properties;
mod reader;
pub mod rules;
pub mod server;
pub mod topic;
pub mod value;

#[cfg(test)]
mod tests;
