//! Real clients, unchanged, against our broker and against Apache Kafka: the same scenario must pass on both.

mod distribution;
mod go;
mod java_client;
mod java_tools;
mod kcat;
mod node;
mod python;
mod running;
