//! What the node knows of topics, configurations and remote segments, and where that is kept.

pub mod adopted;
mod apply;
pub mod at_rest;
mod backend;
pub mod cluster_id;
mod damage_rows;
pub mod embedded;
mod embedded_remote;
mod embedded_writer;
#[cfg(test)]
pub mod fake;
pub mod features;
pub mod image;
pub mod quotas;
mod records;
pub mod remote_log;
mod remote_records;
pub mod remote_replacement;
pub mod store;
mod tables;
pub mod topic_name;
