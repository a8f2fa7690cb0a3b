//! Keys of a subscription to metrics of clients (KIP-714). No broker key stands behind them.

use crate::config::key::{Key, int, list};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    int("interval.ms").default("300000").says("Milliseconds between two pushes of a client: 100 to 3600000."),
    list("match").default("").says(
        "Which clients push: pairs of attribute and regular expression, all of which have to fit. Empty: all clients.",
    ),
    list("metrics")
        .default("")
        .says("Which metrics a client pushes: prefixes of their names, or * for all. Empty: none."),
];
