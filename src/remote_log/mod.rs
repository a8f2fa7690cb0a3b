//! The policy of the tier, in KIP-405's words: what is copied, what expires, what the bucket says about itself.
//!
//! A job over partitions, started by the broker, seen by nobody below. The rows of
//! [`RemoteLogMetadata`](crate::metadata::remote_log::RemoteLogMetadata) are the truth; the bucket's manifests follow
//! them; a partition's [`RemoteChain`](crate::metadata::remote_log::RemoteChain) is what readers and local deletion may
//! rely on. Each step that can crash, and what it leaves, stands in docs/crash-safety.md.
//!
//! - [`partition`]: what the jobs need of a partition.
//! - [`start`]: whose bucket it is, and what it knows; runs before the first partition opens.
//! - [`attach`]: where each partition's local log begins, given what is in the tier.
//! - [`copier`], [`lag`], [`walk`]: sealed segments go into the bucket.
//! - [`expirer`]: objects below the log start go away.
//! - [`drainer`]: copies come back into the local log of a topic that is no longer tiered.
//! - [`orphans`]: what nobody knows goes away too.
//! - [`merge`]: small objects become one.
//! - [`clean`]: of what is compacted, the last value of each key stays.
//! - [`cost`]: what all that costs.
//! - [`scrubber`], [`damage`]: what stays is read back now and then, and copied again if it must be.
//! - [`manifests`], [`snapshots`]: what the bucket itself can tell a broker that has nothing else.
//! - [`ownership`]: whether all this may be done at all.

pub mod attach;
mod clean;
pub mod copier;
pub mod cost;
mod damage;
mod drainer;
pub mod due;
pub mod expirer;
mod job;
mod lag;
pub mod manifests;
pub(crate) mod merge;
mod observe;
mod orphans;
pub mod ownership;
pub mod partition;
mod scrubber;
pub mod snapshots;
pub mod start;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use state::manifest_entry;

pub use job::{RemoteLog, RemoteLogParts, RemoteLogSettings, RemoteLogStatus};
