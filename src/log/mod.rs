//! Files of one partition.

mod index_bytes;
pub mod leader_epochs;
pub mod offset_index;
mod text_file;
pub mod time_index;
pub mod view;

pub use text_file::TextFileError;
