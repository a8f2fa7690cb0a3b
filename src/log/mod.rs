//! Files of one partition.

pub mod view;
