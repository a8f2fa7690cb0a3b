//! The one object layout: the segment's bytes unchanged, a footer, a fixed trailer.
//!
//! ```text
//! 0                segment .log bytes
//! log_bytes        footer magic (8 bytes), 7F FF FF FF, then sections
//! end - 40         trailer
//! ```
//!
//! Read as a record batch the footer's first twelve bytes announce an impossible size, so Kafka's own reader dumps a whole
//! object and stops there. `docs/formats.md` has every field.

pub mod chunk;
pub mod footer;
pub mod trailer;
