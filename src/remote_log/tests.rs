//! The jobs over a faulty store and a partition without a log, step by step and over restarts.

mod copying;
mod deleting;
mod node;
mod owning;
mod scrubbing;
mod world;
