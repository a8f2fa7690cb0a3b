//! Small ranges of a log, read when they are found.
//!
//! A look-up needs the first bytes of what it finds anyway, so for a small range one read gives both: the answer's bytes,
//! and where the batch behind them begins. The buffers are shared by all answers and lent for as long as one takes.

use std::mem;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A range up to this size is copied: one read costs less than the two calls that sending it from its file takes.
pub const COPIED_BYTES_MAX: u64 = 16 << 10;
/// What one buffer takes.
const BUFFER_BYTES: usize = 256 << 10;
/// Buffers that wait for the next answer; more are given back to the system.
const SPARE_MAX: usize = 8;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Changed by whole buffers, so a panic elsewhere leaves it whole.
fn spare() -> MutexGuard<'static, Vec<Vec<u8>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copied ranges of one answer. Takes a buffer with the first one, and gives it back when it is dropped.
#[derive(Debug, Default)]
pub struct Copies {
    bytes: Vec<u8>,
    filled: usize,
}

impl Copies {
    /// A place for `len` bytes, to be filled; `None` when there is no room.
    pub fn place(&mut self, len: usize) -> Option<(Range<usize>, &mut [u8])> {
        if self.bytes.is_empty() {
            self.bytes = spare().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        }
        let place = self.filled..self.filled.checked_add(len).filter(|end| *end <= self.bytes.len())?;
        self.filled = place.end;
        Some((place.clone(), &mut self.bytes[place]))
    }

    /// Takes back the last place: nothing was put there.
    pub fn take_back(&mut self, place: Range<usize>) {
        debug_assert_eq!(place.end, self.filled, "it is the last");
        self.filled = place.start;
    }

    /// What was put into a place.
    pub fn bytes(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    /// Forgets all places.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Memory that this holds.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            let mut spare = spare();
            if spare.len() < SPARE_MAX {
                spare.push(mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_side_by_side_until_there_is_no_room() {
        let mut copies = Copies::default();
        assert_eq!(copies.held_bytes(), 0, "a buffer is taken when it is needed");
        let (first, bytes) = copies.place(3).unwrap();
        bytes.copy_from_slice(b"abc");
        let (second, bytes) = copies.place(2).unwrap();
        bytes.copy_from_slice(b"de");
        assert_eq!((copies.bytes(first), copies.bytes(second)), (&b"abc"[..], &b"de"[..]));
        assert!(copies.place(BUFFER_BYTES - 4).is_none() && copies.place(usize::MAX).is_none());
        let (last, _) = copies.place(BUFFER_BYTES - 5).unwrap();
        assert!(copies.place(1).is_none());
        copies.take_back(last.clone());
        assert_eq!(copies.place(last.len()).map(|(place, _)| place), Some(last));
        copies.clear();
        assert_eq!(copies.place(1).map(|(place, _)| place), Some(0..1));
    }
}
