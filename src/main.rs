//! The binary: arguments, configuration, role.

fn main() {}
