//! Partitions as their callers see them, over real files.

mod append;
mod copying;
mod disk;
mod durability;
mod moving;
mod node;
mod offsets;
mod opening;
mod power_loss;
mod recovery;
mod transactions;
mod upkeep;
mod waiting;
