//! Sockets in, requests to `api`, answers out: frames, order, memory and limits of connections. Decides nothing about Kafka.

pub mod admission;
pub mod bell;
pub mod connection;
mod inbox;
pub mod listener;
mod write;
