//! Bytes of Kafka's protocol: nothing here waits, nothing here knows the broker.

pub mod error_code;
pub mod record_batch;
