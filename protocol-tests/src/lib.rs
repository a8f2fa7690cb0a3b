//! Everything that needs a running broker or a second implementation.
//!
//! * [`broker`] starts the broker under test as a process of its own, with crash points.
//! * [`peers`] finds and starts real clients and servers, and says what was skipped.
//! * [`batch`] makes record batches by hand.
//! * [`requests`] makes those that many tests send.
//! * [`share_member`] is a member of a share group.
//! * [`raw_client`] speaks the protocol byte by byte, also wrongly.
//! * [`checkers`] hold properties over crashes.
//! * [`compare`] runs one scenario against our broker and against Apache Kafka and holds both to one transcript.

pub mod batch;
pub mod broker;
pub mod checkers;
pub mod compare;
pub mod peers;
pub mod raw_client;
pub mod requests;
pub mod share_member;
