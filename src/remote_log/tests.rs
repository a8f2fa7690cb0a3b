//! The jobs over a faulty store and a partition without a log, step by step and over restarts.

mod cases;
mod cleaning;
mod compacted;
mod copying;
mod deleting;
mod draining;
mod dying;
mod hours;
mod many;
mod merging;
mod node;
mod owning;
mod scrubbing;
mod seam;
mod switching;
mod world;
