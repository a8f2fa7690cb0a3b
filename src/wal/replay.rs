//! What a start does with the write-ahead log: puts back into partition files what a loss of power took from them.
//!
//! ```text
//!  headers -> the newest says from which record on -> files, bundles, records in order, until one does not follow
//!          -> bytes that differ are written -> what was touched is synced -> a new header says: nothing left to replay
//! ```
//! It runs before any scan of a partition and may run again, whole or in part: a record names its place, so writing it
//! twice changes nothing. A record whose file ends before its place was never acknowledged (its partition's files were
//! not synced up to there, or the segment is gone) and is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::durable::BLOCK_BYTES;
use terrace_tiering::platform::fs::{Open, SharedFile, SharedFs};
use uuid::Uuid;

use super::file::{self, FoundFile, WalFile};
use super::record::{
    BUNDLE_HEADER_BYTES, BUNDLES_FROM, BundleHeader, FileHeader, Place, RECORD_HEADER_BYTES, RecordHeader,
};

/// Files that are open at once; beyond it all are synced and closed.
const OPEN_FILES_MAX: usize = 200;

/// Where records go.
pub trait Destination {
    /// The file that `place` names, if it is still wanted: its topic exists, and it does not lie below the durable flushed
    /// end.
    fn wanted(&self, place: &Place) -> Option<PathBuf>;

    /// Makes the directory of that file, with what says whose it is.
    fn make_directory(&self, place: &Place) -> io::Result<()>;

    /// Makes durable that the partition's directory is there, whose it is, and which files it has.
    fn sync_names(&self, place: &Place) -> io::Result<()>;
}

/// What a replay found and did.
#[derive(Debug)]
pub struct Replayed {
    /// All files, in the order in which they may be used again.
    pub files: Vec<WalFile>,
    /// The sequence number of the next record.
    pub next_sequence: u64,
    /// Some file has a header: a new one must say that nothing is left to replay.
    pub had_records: bool,
    /// Partitions whose files are there now and synced.
    pub partitions: BTreeSet<(Uuid, i32)>,
    /// Records that were wanted.
    pub records: u64,
    /// Bytes that differed and were written.
    pub written_bytes: u64,
}

/// Replays the log in `log_dir`. Blocks.
pub fn replay(fs: &SharedFs, log_dir: &Path, destination: &dyn Destination) -> io::Result<Replayed> {
    let found = file::find(fs, log_dir)?;
    let headers: Vec<FileHeader> = found.iter().filter_map(|file| file.header).collect();
    let newest = headers.iter().max_by_key(|header| header.generation);
    let from = newest.map_or(0, |newest| newest.replay_from);
    // Beyond every number that a header begins with, so that the next header leaves all these files behind.
    let mut next_sequence = headers.iter().map(|header| header.first_sequence + 1).max().unwrap_or(1);
    let mut rebuild = Rebuild::new(fs, destination);
    let mut expected = None;
    for file in &found {
        let Some(header) = file.header.filter(|header| header.first_sequence >= from) else { continue };
        // Where the chain broke, nothing behind it was acknowledged.
        if expected.is_some_and(|expected| expected != header.first_sequence) {
            break;
        }
        let next = read_file(file, &header, &mut |place, batches| rebuild.apply(place, batches))?;
        expected = Some(next);
        next_sequence = next_sequence.max(next);
    }
    crash_point::reach(CrashPoint::WalReplayBeforeSync);
    rebuild.sync()?;
    crash_point::reach(CrashPoint::WalReplayAfterSync);
    Ok(Replayed {
        had_records: !headers.is_empty(),
        next_sequence,
        files: found.into_iter().map(|file| file.wal).collect(),
        partitions: rebuild.partitions,
        records: rebuild.records,
        written_bytes: rebuild.written_bytes,
    })
}

/// Calls `each` with every record of the file that follows on; the sequence number behind the last.
fn read_file(
    found: &FoundFile,
    header: &FileHeader,
    each: &mut dyn FnMut(&Place, &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut position, mut sequence) = (BUNDLES_FROM, header.first_sequence);
    let mut batches = Vec::new();
    while let Some((begin, end)) = bundle_at(found, header, position, sequence)? {
        position = begin;
        while position < end {
            let Some(record) = record_at(found, header, position, end, sequence, &mut batches)? else {
                return Ok(sequence);
            };
            each(&record.place, &batches)?;
            (position, sequence) = (position + record.bytes(), sequence + 1);
        }
        position = end.next_multiple_of(BLOCK_BYTES as u64);
    }
    Ok(sequence)
}

/// Where the records of the bundle at `position` begin and end, if it is the one that begins with record `sequence`.
fn bundle_at(found: &FoundFile, header: &FileHeader, position: u64, sequence: u64) -> io::Result<Option<(u64, u64)>> {
    let begin = position + BUNDLE_HEADER_BYTES as u64;
    if begin > found.len {
        return Ok(None);
    }
    let mut bytes = [0; BUNDLE_HEADER_BYTES];
    found.wal.file.read_exact_at(&mut bytes, position)?;
    let bundle = BundleHeader::decode(&bytes, header.generation).filter(|bundle| bundle.first_sequence == sequence);
    Ok(bundle.map(|bundle| (begin, begin + u64::from(bundle.len))))
}

/// The record at `position` of a bundle that ends at `end`, with what it carries in `batches`, if it is record `sequence`
/// and whole.
fn record_at(
    found: &FoundFile,
    header: &FileHeader,
    position: u64,
    end: u64,
    sequence: u64,
    batches: &mut Vec<u8>,
) -> io::Result<Option<RecordHeader>> {
    let behind_header = position + RECORD_HEADER_BYTES as u64;
    let end = end.min(found.len);
    if behind_header > end {
        return Ok(None);
    }
    let mut head = [0; RECORD_HEADER_BYTES];
    found.wal.file.read_exact_at(&mut head, position)?;
    let Some(record) = RecordHeader::decode(&head) else { return Ok(None) };
    let is_next = record.sequence == sequence && record.generation == header.generation;
    if !is_next || position + record.bytes() > end {
        return Ok(None);
    }
    batches.resize(record.len as usize, 0);
    found.wal.file.read_exact_at(batches, behind_header)?;
    Ok(record.holds(&head, batches).then_some(record))
}

/// A partition file that records go to.
struct Target {
    file: SharedFile,
    len: u64,
}

struct Rebuild<'a> {
    fs: &'a SharedFs,
    destination: &'a dyn Destination,
    open: BTreeMap<PathBuf, Target>,
    /// Of each partition that was touched since the last sync, a place in it.
    touched: BTreeMap<(Uuid, i32), Place>,
    partitions: BTreeSet<(Uuid, i32)>,
    buffer: Vec<u8>,
    records: u64,
    written_bytes: u64,
}

impl<'a> Rebuild<'a> {
    fn new(fs: &'a SharedFs, destination: &'a dyn Destination) -> Self {
        Self {
            fs,
            destination,
            open: BTreeMap::new(),
            touched: BTreeMap::new(),
            partitions: BTreeSet::new(),
            buffer: Vec::new(),
            records: 0,
            written_bytes: 0,
        }
    }

    fn apply(&mut self, place: &Place, batches: &[u8]) -> io::Result<()> {
        let Some(path) = self.destination.wanted(place) else { return Ok(()) };
        if !self.open.contains_key(&path) {
            let Some(target) = self.open_target(&path, place)? else { return Ok(()) };
            if self.open.len() >= OPEN_FILES_MAX {
                self.sync()?;
            }
            self.open.insert(path.clone(), target);
        }
        let Some(target) = self.open.get_mut(&path) else { return Ok(()) };
        if place.position > target.len {
            return Ok(());
        }
        self.records += 1;
        self.partitions.insert((place.topic, place.partition));
        self.touched.insert((place.topic, place.partition), *place);
        let there = (target.len - place.position).min(batches.len() as u64) as usize;
        self.buffer.resize(there, 0);
        target.file.read_exact_at(&mut self.buffer, place.position)?;
        if self.buffer[..] != *batches {
            target.file.write_all_at(batches, place.position)?;
            self.written_bytes += batches.len() as u64;
            target.len = target.len.max(place.position + batches.len() as u64);
        }
        Ok(())
    }

    /// Opens the file; makes it when the record is its first.
    fn open_target(&mut self, path: &Path, place: &Place) -> io::Result<Option<Target>> {
        let opened = self.fs.open(path, Open::Write);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && place.position == 0 => {
                self.destination.make_directory(place)?;
                self.fs.open(path, Open::Create)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.len()?;
        Ok(Some(Target { file, len }))
    }

    /// Makes all that was touched durable, and closes it.
    fn sync(&mut self) -> io::Result<()> {
        for target in std::mem::take(&mut self.open).into_values() {
            target.file.sync_data()?;
        }
        for place in std::mem::take(&mut self.touched).into_values() {
            self.destination.sync_names(&place)?;
        }
        Ok(())
    }
}
