//! The same bytes for people: `terrace remote ls` and `terrace remote dump`.
