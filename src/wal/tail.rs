//! Where the write-ahead log ends: the file that takes records, the full ones before it, those that wait to be used.
//!
//! A sync of a file that grows moves metadata too, which costs a journal commit: several times the sync of one whose
//! blocks are written. So the first file is left as soon as there is one with written blocks, and each that is prepared is
//! twice as large as the one before, up to the full size: a busy log is at it in a second, a quiet one stays small.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use terrace_tiering::platform::fs::{SharedFile, SharedFs};

use super::file::WalFile;
use super::group_commit::{Covered, Joined, WalSettings};
use super::record::{self, FileHeader, Place, RECORD_HEADER_BYTES, RECORDS_FROM};
use super::replay::Replayed;

/// The first file that is prepared: milliseconds of writing.
const FIRST_PREPARED_BYTES: u64 = 4 << 20;

/// The file that takes records.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) wal: WalFile,
    generation: u64,
    first_sequence: u64,
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
    /// It is the first of its group, which somebody must now sync.
    pub(super) first: bool,
    /// A file was left, or the next one is soon needed.
    pub(super) turn: bool,
}

/// Records that are synced together.
pub(super) struct Group {
    /// The last one.
    pub(super) upto: u64,
    pub(super) waiting: Vec<Arc<dyn Covered>>,
    pub(super) files: Vec<SharedFile>,
    /// Has one of the files a name that is not durable?
    pub(super) names: bool,
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
    /// The group that records join now, from 1 on.
    group: u64,
    /// Whose records are in it.
    waiting: Vec<Arc<dyn Covered>>,
    /// Files that it wrote to and left.
    left: Vec<SharedFile>,
    /// It has written something.
    pub(super) dirty: bool,
    /// It made a file whose name is not durable.
    names_unsynced: bool,
    pub(super) closed: bool,
}

impl Tail {
    /// As a replay left it, for the life of the node that `node_epoch` counts.
    pub(super) fn behind(replayed: Replayed, node_epoch: i32) -> Self {
        let numbers = replayed.files.iter().map(|file| file.number);
        // Node epochs begin at 1 and fit: the boot counter never goes below zero.
        let epoch = u64::from(node_epoch.unsigned_abs());
        Self {
            next_number: numbers.max().map_or(0, |highest| highest + 1),
            current: None,
            full: VecDeque::new(),
            spare: replayed.files.into(),
            next_sequence: replayed.next_sequence,
            next_generation: (epoch << 32) + 1,
            group: 1,
            waiting: Vec::new(),
            left: Vec::new(),
            dirty: false,
            names_unsynced: false,
            closed: false,
        }
    }

    /// Writes one record into the page cache.
    pub(super) fn append(
        &mut self,
        fs: &SharedFs,
        settings: &WalSettings,
        place: &Place,
        batches: &[u8],
        joined: &mut Joined,
        partition: impl Fn() -> Option<Arc<dyn Covered>>,
    ) -> io::Result<Appending> {
        let bytes = (RECORD_HEADER_BYTES + batches.len()) as u64;
        let mut turn = false;
        if self.must_leave(bytes, settings.file_bytes) {
            self.begin_file(fs, settings)?;
            turn = true;
        }
        let needed_before = self.needs_spare(settings.file_bytes);
        let (sequence, group) = (self.next_sequence, self.group);
        let Some(current) = self.current.as_mut() else { return Err(io::Error::other("no file to append to")) };
        let header = record::encode_header(sequence, current.generation, place, batches);
        current.wal.file.write_vectored_at(&[IoSlice::new(&header), IoSlice::new(batches)], current.position)?;
        current.position += bytes;
        let generation = current.generation;
        let newcomer = if joined.group != group || joined.generation != generation { partition() } else { None };
        if joined.generation != generation {
            current.covered.extend(newcomer.clone());
        }
        if joined.group != group {
            self.waiting.extend(newcomer);
        }
        *joined = Joined { group, generation };
        self.next_sequence += 1;
        turn |= !needed_before && self.needs_spare(settings.file_bytes);
        Ok(Appending { sequence, first: !std::mem::replace(&mut self.dirty, true), turn })
    }

    /// Must a record of so many bytes go to the next file?
    fn must_leave(&self, bytes: u64, file_bytes: u64) -> bool {
        let Some(current) = &self.current else { return true };
        let end = current.position + bytes;
        let grows = end > current.wal.prepared_bytes;
        current.position > RECORDS_FROM && (end > file_bytes || grows && !self.spare.is_empty())
    }

    /// Is the next file soon needed, and not there?
    pub(super) fn needs_spare(&self, file_bytes: u64) -> bool {
        let is_near = |current: &Current| current.position >= current.wal.prepared_bytes.min(file_bytes) / 2;
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
        if let Some(current) = self.current.take() {
            self.left.push(Arc::clone(&current.wal.file));
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
        self.next_generation += 1;
        let begun =
            Current { wal, generation: header.generation, first_sequence, position: RECORDS_FROM, covered: Vec::new() };
        Ok(self.current.insert(begun))
    }

    /// Takes what is to be synced now; records join the next group from here on.
    pub(super) fn close_group(&mut self) -> Group {
        self.dirty = false;
        self.group += 1;
        let mut files = std::mem::take(&mut self.left);
        files.extend(self.current.as_ref().map(|current| Arc::clone(&current.wal.file)));
        Group {
            upto: self.next_sequence - 1,
            waiting: std::mem::take(&mut self.waiting),
            files,
            names: std::mem::take(&mut self.names_unsynced),
        }
    }

    /// Begins a file that leaves nothing to replay, if there is any file. It is to be synced.
    pub(super) fn seal(&mut self, fs: &SharedFs, settings: &WalSettings) -> io::Result<Option<&Current>> {
        let Some(current) = self.current.take() else { return Ok(None) };
        self.spare.extend(self.full.drain(..).map(|full| full.wal));
        self.spare.push_back(current.wal);
        // No header begins with the number of the next.
        self.next_sequence = self.next_sequence.max(current.first_sequence + 1);
        self.begin_file(fs, settings).map(Some)
    }
}
