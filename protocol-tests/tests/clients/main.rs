//! Real clients, unchanged, against our broker and against Apache Kafka: the same scenario must pass on both.

mod java_client;
mod java_tools;
mod kcat;
mod python;
mod running;
