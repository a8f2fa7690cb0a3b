//! The open files of all segments: at most so many, whatever the number of partitions (`log.open.files`).
//!
//! A segment opens its files when they are needed and keeps them until the bound is reached and others were used since:
//! a ring with a second chance for what was used, so that a use costs one flag. Whoever reads or writes at that moment
//! holds the file by count, so taking it away from the segment never takes it from them. A file that failed to reach
//! the disk while it was closed says so at the next sync: the kernel keeps that with the file, not with the descriptor.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use terrace_tiering::platform::fs::SharedFile;

use super::segment::{Segment, SegmentFile};

/// What a node's segments may hold open.
#[derive(Debug)]
pub struct OpenFiles {
    max: usize,
    ring: Mutex<VecDeque<(Weak<Segment>, SegmentFile)>>,
}

impl OpenFiles {
    /// At most `max` files, at least a few.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.max(16), ring: Mutex::default() })
    }

    /// Changed by whole entries, so a panic elsewhere leaves it whole.
    fn ring(&self) -> MutexGuard<'_, VecDeque<(Weak<Segment>, SegmentFile)>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment holds this file open now; others are closed for it. Not under any slot's lock.
    pub(super) fn opened(&self, segment: &Arc<Segment>, which: SegmentFile) {
        let mut ring = self.ring();
        ring.push_back((Arc::downgrade(segment), which));
        while ring.len() > self.max {
            let Some((oldest, which)) = ring.pop_front() else { return };
            // One that is gone has closed its files itself.
            if let Some(segment) = oldest.upgrade()
                && segment.slot(which).had_a_use()
            {
                ring.push_back((oldest, which));
            }
        }
    }

    /// How many files are open, those of segments that went lately included.
    pub fn len(&self) -> usize {
        self.ring().len()
    }

    /// Is none open?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a segment keeps one of its files while it is open.
#[derive(Debug, Default)]
pub(super) struct Slot {
    file: Mutex<Option<SharedFile>>,
    used: AtomicBool,
    /// It stays: nobody could open it again by its name.
    pinned: AtomicBool,
}

impl Slot {
    /// Replaced as a whole, so a panic elsewhere leaves it whole.
    fn file(&self) -> MutexGuard<'_, Option<SharedFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, and whether `open` was needed for it: the caller then tells [`OpenFiles::opened`].
    pub(super) fn get(&self, open: impl FnOnce() -> io::Result<SharedFile>) -> io::Result<(SharedFile, bool)> {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let mut slot = self.file();
        if let Some(file) = &*slot {
            return Ok((Arc::clone(file), false));
        }
        let file = slot.insert(open()?);
        Ok((Arc::clone(file), true))
    }

    /// Keeps `file` open until the segment goes.
    pub(super) fn pin(&self, file: SharedFile) {
        *self.file() = Some(file);
        self.pinned.store(true, Ordering::Relaxed);
    }

    /// Closes it unless it is in use elsewhere.
    pub(super) fn close(&self) {
        if !self.pinned.load(Ordering::Relaxed) {
            *self.file() = None;
        }
    }

    /// Was it used since it was asked last? Closes it when not.
    fn had_a_use(&self) -> bool {
        let used = self.used.swap(false, Ordering::Relaxed);
        if !used {
            self.close();
        }
        used
    }
}

#[cfg(test)]
mod tests;
