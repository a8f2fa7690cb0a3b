//! Messages read and written by hand: where the crate `kafka-protocol` would allocate on the hot path, and versions that
//! it lacks. All other messages are the crate's.
