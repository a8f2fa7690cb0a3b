//! Chunks that were read: in memory, then on a local disk.

pub mod disk;
pub mod memory;
pub mod policy;
