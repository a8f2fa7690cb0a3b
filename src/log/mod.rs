//! Files of one partition.

pub mod checkpoint;
mod index_bytes;
pub mod kafka_files;
pub mod leader_epochs;
pub mod offset_index;
pub mod retention;
mod text_file;
pub mod time_index;
pub mod view;

pub use text_file::TextFileError;
