//! Bytes of Kafka's protocol: nothing here waits, nothing here knows the broker.

pub mod batch_builder;
pub mod compression;
pub mod error_code;
pub mod record_batch;
pub mod records;
pub mod varint;
