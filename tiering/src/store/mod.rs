//! The bucket: every request to the object store goes through [`Bucket`], which gives it a deadline, counts it, holds it to
//! the rate limits, retries what may be retried and remembers whether the store answers at all.

pub mod admin;
pub mod bucket;
pub mod directory;
pub mod error;
pub mod faulty;
pub mod health;
pub mod meter;
pub mod open;
pub mod probe;
pub mod retry;
mod threads;
pub mod throttle;

pub use bucket::Bucket;
pub use error::StoreError;
