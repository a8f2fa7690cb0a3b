//! Terrace: a Kafka-wire-compatible broker whose old data lives in an object store.
//!
//! The modules in reading order; ARCHITECTURE.md draws them.

pub mod config;
pub mod protocol;
pub mod telemetry;

pub mod log;
pub mod metadata;
pub mod partition;
pub mod wal;

pub mod client_metrics;
pub mod remote_log;

pub mod coordinator;
pub mod group;
pub mod share;
pub mod transaction;

pub mod api;
pub mod server;

pub mod adopt;
pub mod broker;
mod cli;
mod restore;

pub use cli::main;
