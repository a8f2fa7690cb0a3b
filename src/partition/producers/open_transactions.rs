//! Where the partition's open transactions begin: below the first of them everything is decided.
//!
//! ```text
//!  offsets  0 ......... 10 A ..... 14 B .......... 20 A's marker ... 26 log end
//!  open                 A         A, B             B
//!  decided above the high watermark (18 say)       10..=20, until the high watermark passes 20
//! ```
//! A transaction is undecided for readers until its marker is below the high watermark: what a reader was told must
//! survive. Derived from the producers, never stored: after a start everything in the log is below the high watermark.

use std::collections::BTreeMap;

use crate::protocol::record_batch::Offset;

#[derive(Debug, Default)]
pub(super) struct OpenTransactions {
    /// First offset of each open transaction, and how many begin there (always one but in a damaged snapshot).
    open: BTreeMap<Offset, usize>,
    /// First offset of decided ones, to the offset of their marker at or above the high watermark.
    deciding: BTreeMap<Offset, Offset>,
}

impl OpenTransactions {
    pub(super) fn begin(&mut self, first: Offset) {
        *self.open.entry(first).or_default() += 1;
    }

    /// The transaction that began at `first` ended with the marker at `marker`. Returns where the next open one begins.
    pub(super) fn end(&mut self, first: Offset, marker: Offset) -> Option<Offset> {
        if let Some(count) = self.open.get_mut(&first) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&first);
            }
        }
        self.deciding.insert(first, marker);
        self.open.keys().next().copied()
    }

    /// What ended below the high watermark is decided for everybody.
    pub(super) fn reached(&mut self, high_watermark: Offset) {
        if !self.deciding.is_empty() {
            self.deciding.retain(|_, marker| *marker >= high_watermark);
        }
    }

    /// The first offset that is not decided.
    pub(super) fn first(&self) -> Option<Offset> {
        let (open, deciding) = (self.open.keys().next(), self.deciding.keys().next());
        open.into_iter().chain(deciding).min().copied()
    }
}
