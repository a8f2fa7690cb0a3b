//! The last offset of each key in the part of a log that was never cleaned, within a bounded buffer.
//!
//! A key is known by 128 bits of two keyed hashes (the keys are random per round), so that nobody can make two keys
//! meet: a clash would drop a live record.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

use super::{CleanError, Source, TransactionWalk, walk};
use crate::protocol::control::EndTransaction;
use crate::protocol::record_batch::{BatchView, Offset};
use crate::protocol::records::records;

/// Memory per key: 24 bytes, one of control, and the table's slack while it grows.
const BYTES_PER_KEY: usize = 48;

/// Key to last offset; see the module.
#[derive(Debug)]
pub struct KeyMap {
    hashes: [RandomState; 2],
    offsets: HashMap<[u64; 2], Offset>,
    keys_max: usize,
    from: Offset,
    end: Offset,
}

impl KeyMap {
    /// Maps the keys of `sources` (neighbours, in order) from offset `from` on, in at most `buffer_bytes`. The map ends
    /// where the sources end, or where the buffer is full. Batches that cannot be opened add nothing, nor do aborted ones:
    /// what was never valid supersedes nothing. `proceed` is asked before each batch.
    pub fn build(
        sources: &[Source],
        from: Offset,
        buffer_bytes: usize,
        decompressed_max_bytes: u64,
        mut transactions: TransactionWalk,
        proceed: &dyn Fn() -> bool,
    ) -> Result<Self, CleanError> {
        let mut map = Self::new(from, buffer_bytes);
        for source in sources.iter().filter(|source| source.next > from) {
            let mut full = false;
            walk(source, |batch| {
                if !proceed() {
                    return Err(CleanError::Stopped);
                }
                full = !map.meet(&batch, decompressed_max_bytes, &mut transactions);
                Ok(!full)
            })?;
            if full {
                return Ok(map);
            }
            map.reach(source.next);
        }
        Ok(map)
    }

    /// A map that begins at `from`, of at most `buffer_bytes`.
    pub fn new(from: Offset, buffer_bytes: usize) -> Self {
        Self {
            hashes: [RandomState::new(), RandomState::new()],
            offsets: HashMap::new(),
            keys_max: (buffer_bytes / BYTES_PER_KEY).max(1),
            from,
            end: from,
        }
    }

    /// All below `end` was met.
    pub fn reach(&mut self, end: Offset) {
        self.end = self.end.max(end);
    }

    /// Maps the keys of the next batch. False when the buffer is full: the map then ends where the batch begins that didn't
    /// fit.
    pub fn meet(
        &mut self,
        batch: &BatchView<'_>,
        decompressed_max_bytes: u64,
        transactions: &mut TransactionWalk,
    ) -> bool {
        if batch.check_crc().is_err() {
            return true;
        }
        if batch.is_control() {
            EndTransaction::read(batch).map(|end| transactions.marker(batch, end.commit));
            return true;
        }
        if transactions.data(batch) || batch.next_offset() <= self.from {
            return true;
        }
        let Ok(opened) = records(batch, decompressed_max_bytes) else { return true };
        // A batch that is kept as it is must not supersede anything either: read it whole before its keys count.
        if opened.iter().any(|record| record.is_err()) {
            return true;
        }
        let from = self.from;
        for record in opened.iter().flatten().filter(|record| record.offset >= from) {
            let Some(key) = record.key else { continue };
            let hash = self.hash(key);
            let room = self.offsets.len() < self.keys_max;
            match self.offsets.entry(hash) {
                Entry::Occupied(mut known) => {
                    known.insert(record.offset);
                }
                Entry::Vacant(new) if room => {
                    new.insert(record.offset);
                }
                Entry::Vacant(_) => {
                    // A batch is in the map or not, unless it alone is too much: what it deletes has to be known as a whole.
                    let base = batch.base_offset();
                    self.end = if base > from { base } else { record.offset };
                    return false;
                }
            }
        }
        true
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.hashes.each_ref().map(|hasher| hasher.hash_one(key))
    }

    /// The last offset of a key in the mapped part.
    pub fn last_offset(&self, key: &[u8]) -> Option<Offset> {
        self.offsets.get(&self.hash(key)).copied()
    }

    /// The offset behind the mapped part: the round's end, and where the next round begins.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// No key at all?
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}
