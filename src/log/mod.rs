//! The files of one partition.
