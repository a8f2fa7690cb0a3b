//! Where the write-ahead log ends: the file that takes records, the full ones before it, those that wait to be used.
//!
//! A durable write that lengthens a file moves metadata too, which costs a journal commit: several times a write of blocks
//! that were written before. So the first file is left as soon as there is one with written blocks, and each that is prepared is
//! twice as large as the one before, up to the full size: a busy log is at it in a second, a quiet one stays small.
//!
//! Records gather in the open [`Bundle`], which belongs to the current file and to the open group. When it is full, or its
//! file is, the group is closed and waits for a writer ([`Groups`]). Only a record that is larger than a bundle, and a file's
//! header, go through the page cache; the group syncs that file as well.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use terrace_tiering::platform::fs::durable::BLOCK_BYTES;
use terrace_tiering::platform::fs::{SharedFile, SharedFs};

use super::bundle::Bundle;
use super::file::WalFile;
use super::group_commit::{Covered, Joined, WalSettings};
use super::groups::{Group, Groups, Settled};
use super::record::{self, BUNDLE_HEADER_BYTES, BUNDLES_FROM, BundleHeader, FileHeader, Place, RECORD_HEADER_BYTES};
use super::replay::Replayed;

/// The first file that is prepared: milliseconds of writing.
const FIRST_PREPARED_BYTES: u64 = 4 << 20;

/// The file that takes records.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) wal: WalFile,
    generation: u64,
    first_sequence: u64,
    /// Where the open bundle goes: a multiple of the block size.
    position: u64,
    covered: Vec<Arc<dyn Covered>>,
}

/// A full one.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) wal: WalFile,
    first_sequence: u64,
    /// Whose records are in it.
    pub(super) covered: Vec<Arc<dyn Covered>>,
}

/// What an append did.
pub(super) struct Appending {
    pub(super) sequence: u64,
    /// A writer has something to do that it had not before.
    pub(super) work: bool,
    /// A file was left, or the next one is soon needed.
    pub(super) turn: bool,
}

/// Where the log ends.
#[derive(Debug)]
pub(super) struct Tail {
    current: Option<Current>,
    pub(super) full: VecDeque<Full>,
    /// Ready to be used, oldest use first.
    pub(super) spare: VecDeque<WalFile>,
    next_number: u32,
    next_sequence: u64,
    next_generation: u64,
    /// The closed groups.
    pub(super) groups: Groups,
    /// The recycling thread waits until more of them are settled.
    pub(super) is_settling_awaited: bool,
    /// Whose records are in the open group.
    waiting: Vec<Arc<dyn Covered>>,
    /// Its records that go to the current file by the next durable write.
    bundle: Bundle,
    /// Files that it wrote to through the page cache.
    unsynced: Vec<SharedFile>,
    /// It has something.
    dirty: bool,
    /// It made a file whose name is not durable.
    names_unsynced: bool,
    pub(super) closed: bool,
}

impl Tail {
    /// As a replay left it.
    pub(super) fn behind(replayed: Replayed, settings: &WalSettings) -> Self {
        let numbers = replayed.files.iter().map(|file| file.number);
        // Node epochs begin at 1 and fit: the boot counter never goes below zero.
        let epoch = u64::from(settings.node_epoch.unsigned_abs());
        let (groups, bundle) = Groups::new(settings.file_bytes);
        Self {
            next_number: numbers.max().map_or(0, |highest| highest + 1),
            current: None,
            full: VecDeque::new(),
            spare: replayed.files.into(),
            next_sequence: replayed.next_sequence,
            next_generation: (epoch << 32) + 1,
            groups,
            is_settling_awaited: false,
            waiting: Vec::new(),
            bundle,
            unsynced: Vec::new(),
            dirty: false,
            names_unsynced: false,
            closed: false,
        }
    }

    /// Will a record of so many bytes close the open group?
    pub(super) fn must_close(&self, record_bytes: usize, file_bytes: u64) -> bool {
        !self.bundle.is_empty() && (!self.bundle.has_room(record_bytes) || self.must_leave(record_bytes, file_bytes))
    }

    /// Has a writer anything to do?
    pub(super) fn has_work(&self) -> bool {
        self.groups.has_written() || self.groups.has_queued() || self.has_time_for_open()
    }

    fn has_time_for_open(&self) -> bool {
        self.dirty && self.groups.has_time_for(self.bundle.bytes_with(0))
    }

    /// Takes one record into the open group.
    pub(super) fn append(
        &mut self,
        fs: &SharedFs,
        settings: &WalSettings,
        place: &Place,
        batches: &[u8],
        joined: &mut Joined,
        partition: impl Fn() -> Option<Arc<dyn Covered>>,
    ) -> io::Result<Appending> {
        let bytes = record_bytes(batches);
        let (had_work, needed_before) = (self.has_work(), self.needs_spare(settings.file_bytes));
        let mut turn = false;
        if self.must_leave(bytes, settings.file_bytes) {
            self.begin_file(fs, settings)?;
            turn = true;
        } else if !self.bundle.is_empty() && !self.bundle.has_room(bytes) {
            self.close_group();
        }
        let (sequence, group) = (self.next_sequence, self.groups.open_number());
        let Some(generation) = self.current.as_ref().map(|current| current.generation) else {
            return Err(io::Error::other("no file to append to"));
        };
        let header = record::encode_header(sequence, generation, place, batches);
        if self.bundle.has_room(bytes) {
            self.bundle.push(sequence, &header, batches);
        } else {
            self.write_alone(sequence, &header, batches)?;
        }
        let newcomer = if joined.group != group || joined.generation != generation { partition() } else { None };
        if joined.generation != generation
            && let Some(current) = &mut self.current
        {
            current.covered.extend(newcomer.clone());
        }
        if joined.group != group {
            self.waiting.extend(newcomer);
        }
        *joined = Joined { group, generation };
        self.next_sequence += 1;
        self.dirty = true;
        turn |= !needed_before && self.needs_spare(settings.file_bytes);
        Ok(Appending { sequence, work: !had_work && self.has_work(), turn })
    }

    /// Writes a record that no bundle has room for into the page cache, as a bundle of its own.
    fn write_alone(&mut self, sequence: u64, header: &[u8], batches: &[u8]) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Err(io::Error::other("no file to append to")) };
        // A record is far below 4 GiB: it came in one request.
        let bundle = BundleHeader { first_sequence: sequence, len: (header.len() + batches.len()) as u32 };
        let begin = bundle.encode(current.generation);
        let parts = [IoSlice::new(&begin), IoSlice::new(header), IoSlice::new(batches)];
        current.wal.file.write_vectored_at(&parts, current.position)?;
        let bytes = BUNDLE_HEADER_BYTES + header.len() + batches.len();
        current.position += bytes.next_multiple_of(BLOCK_BYTES) as u64;
        sync_later(&mut self.unsynced, &current.wal.file);
        Ok(())
    }

    /// Must a record of so many bytes go to the next file?
    fn must_leave(&self, record_bytes: usize, file_bytes: u64) -> bool {
        let Some(current) = &self.current else { return true };
        let end = current.position + self.bundle.bytes_with(record_bytes) as u64;
        let grows = end > current.wal.prepared_bytes;
        let has_any = current.position > BUNDLES_FROM || !self.bundle.is_empty();
        has_any && (end > file_bytes || grows && !self.spare.is_empty())
    }

    /// Is the next file soon needed, and not there?
    pub(super) fn needs_spare(&self, file_bytes: u64) -> bool {
        let gathered = self.bundle.bytes_with(0) as u64;
        let is_near = |current: &Current| current.position + gathered >= current.wal.prepared_bytes.min(file_bytes) / 2;
        !self.closed && self.spare.is_empty() && self.current.as_ref().is_some_and(is_near)
    }

    /// Number and size of the file that is to be prepared.
    pub(super) fn next_prepared(&mut self, file_bytes: u64) -> (u32, u64) {
        let number = self.next_number;
        self.next_number += 1;
        let before = self.current.as_ref().map_or(0, |current| current.wal.prepared_bytes);
        (number, (2 * before).max(FIRST_PREPARED_BYTES).min(file_bytes))
    }

    /// Leaves the current file for the next.
    pub(super) fn begin_file(&mut self, fs: &SharedFs, settings: &WalSettings) -> io::Result<&Current> {
        let wal = match self.spare.pop_front() {
            Some(wal) => wal,
            None => {
                let made = WalFile::create(fs, &settings.log_dir, self.next_number)?;
                self.next_number += 1;
                self.names_unsynced = true;
                made
            }
        };
        if !self.bundle.is_empty() {
            self.close_group();
        }
        if let Some(current) = self.current.take() {
            let Current { mut wal, first_sequence, position, covered, .. } = current;
            wal.prepared_bytes = wal.prepared_bytes.max(position);
            self.full.push_back(Full { wal, first_sequence, covered });
        }
        let first_sequence = self.next_sequence;
        let header = FileHeader {
            generation: self.next_generation,
            first_sequence,
            replay_from: self.full.front().map_or(first_sequence, |oldest| oldest.first_sequence),
        };
        wal.file.write_all_at(&header.encode(), 0)?;
        sync_later(&mut self.unsynced, &wal.file);
        self.next_generation += 1;
        let begun =
            Current { wal, generation: header.generation, first_sequence, position: BUNDLES_FROM, covered: Vec::new() };
        Ok(self.current.insert(begun))
    }

    /// Closes the open group: what it has is to become durable, and records join the next from here on.
    fn close_group(&mut self) {
        let bundle_to = self.current.as_mut().filter(|_| !self.bundle.is_empty()).map(|current| {
            self.bundle.finish(current.generation);
            let position = current.position;
            current.position += self.bundle.bytes().len() as u64;
            (Arc::clone(&current.wal.durable), position)
        });
        let settled = Settled { upto: self.next_sequence - 1, waiting: std::mem::take(&mut self.waiting) };
        let (unsynced, names) = (std::mem::take(&mut self.unsynced), std::mem::take(&mut self.names_unsynced));
        self.dirty = false;
        // Its successor takes its place below.
        let bundle = std::mem::take(&mut self.bundle);
        self.bundle = self.groups.close(bundle, bundle_to, unsynced, names, settled);
    }

    /// What is next to be written, if it is time for that: the oldest group that waits, else the open one.
    pub(super) fn take_group(&mut self) -> Option<Group> {
        if !self.groups.has_queued() && self.has_time_for_open() {
            self.close_group();
        }
        self.groups.take()
    }

    /// The same, however many are being written.
    #[cfg(test)]
    pub(super) fn take_one_more_group(&mut self) -> Option<Group> {
        if !self.groups.has_queued() && self.dirty {
            self.close_group();
        }
        self.groups.take()
    }

    /// Begins a file that leaves nothing to replay, if there is any file. It is to be synced.
    pub(super) fn seal(&mut self, fs: &SharedFs, settings: &WalSettings) -> io::Result<Option<&Current>> {
        let Some(current) = self.current.take() else { return Ok(None) };
        self.bundle.clear();
        self.spare.extend(self.full.drain(..).map(|full| full.wal));
        self.spare.push_back(current.wal);
        // No header begins with the number of the next.
        self.next_sequence = self.next_sequence.max(current.first_sequence + 1);
        self.begin_file(fs, settings).map(Some)
    }
}

/// Bytes of the record that carries `batches`.
pub(super) fn record_bytes(batches: &[u8]) -> usize {
    RECORD_HEADER_BYTES + batches.len()
}

/// Notes that a file has something in the page cache.
fn sync_later(unsynced: &mut Vec<SharedFile>, file: &SharedFile) {
    if !unsynced.iter().any(|noted| Arc::ptr_eq(noted, file)) {
        unsynced.push(Arc::clone(file));
    }
}
