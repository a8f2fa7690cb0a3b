//! Sealed segments in an object store: upload, find, read, delete.
//!
//! This crate knows objects, not requests; topics by id, not by configuration. It also holds [`platform`], because it is
//! the lowest crate. The modules in reading order:
//!
//! - [`tier`]: the crate's face. One [`tier::Tier`] per broker owns the bucket, the caches and the budgets.
//! - [`names`]: every object key is built and parsed there.
//! - [`object`]: the layout of a segment object. [`sections`] and [`cursor`] are the bytes under it.
//! - [`upload`], [`read`], [`delete`]: the three things done to a segment object.
//! - [`whole`]: segments in order and as a whole, past the caches.
//! - [`manifest`]: what the bucket itself knows of a partition.
//! - [`cluster`]: who owns a prefix, what the broker knew (metadata snapshots), which topics are gone.
//! - [`check`]: is what is stored still whole? For the scrubber and for people.
//! - [`restore`]: a broker's state from the bucket alone.
//! - [`cache`]: chunks in memory, then on a local disk.
//! - [`store`]: the bucket, metered, throttled, with deadlines and a circuit breaker.
//! - [`retention`]: which of many dated things are kept.
//! - [`inspect`]: the same bytes for people.

pub mod cache;
pub mod check;
pub mod cluster;
pub mod cursor;
pub mod delete;
pub mod inspect;
pub mod manifest;
pub mod names;
pub mod object;
pub mod platform;
pub mod read;
pub mod restore;
pub mod retention;
pub mod sections;
pub mod store;
pub mod tier;
pub mod upload;
pub mod whole;

pub use names::ObjectRef;
pub use tier::{Tier, TierOptions};
