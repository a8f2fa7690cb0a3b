//! What people build on Kafka, unchanged, on our broker: a copy job that is exactly once while everything is killed, Kafka
//! Streams, Kafka Connect, MirrorMaker 2.

mod connect;
mod copy_job;
mod hanging_transactions;
mod java;
mod mirror_maker;
mod streams;
mod streams_group;
