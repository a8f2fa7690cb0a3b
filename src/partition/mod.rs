//! The node's partitions: append, read, offsets, waiters.
