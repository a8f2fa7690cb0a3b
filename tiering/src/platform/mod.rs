//! What touches the machine: time, files, random numbers, tasks, and the named places where tests crash.
//!
//! Nothing here decides anything. Everything here can be replaced in a test, so that a failure replays from a seed.
//! It lives in the lowest crate so that the broker and the tier use the same one.

pub mod clock;
pub mod crash_point;
pub mod fs;
pub mod kernel;
pub mod random;
mod sys;
pub mod task;
