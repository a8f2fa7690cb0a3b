//! Bytes of Kafka's protocol: nothing here waits, nothing here knows the broker.

pub mod api_key;
pub mod batch_builder;
pub mod compression;
pub mod control;
pub mod cursor;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod messages;
pub mod put;
pub mod record_batch;
pub mod records;
pub mod shape;
pub mod uuid_text;
pub mod varint;
