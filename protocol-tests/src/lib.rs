//! Everything that needs a running broker or a second implementation.
