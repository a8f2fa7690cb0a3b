//! Properties that hold whatever happens to a broker, each a file.

pub mod bucket;
pub mod history;
