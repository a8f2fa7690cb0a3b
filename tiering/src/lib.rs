//! Sealed segments in an object store: upload, find, read, delete.
//!
//! This crate knows objects, not requests, topics by id and not by configuration. It also holds [`platform`], because
//! it is the lowest crate.

pub mod platform;
