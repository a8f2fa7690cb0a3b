//! What the operator says, parsed and checked before the first port is bound.

pub mod topic;
