//! How a cleaned segment takes the place of others, so that a crash leaves the old ones or the new one.
//!
//! ```text
//! <base>.log.cleaned   written and synced, <base>.txnindex.cleaned beside it (empty without an aborted transaction)
//!                                                                 a crash: removed, nothing happened
//! <base>.replaces      the base offsets that go, synced           a crash: removed with it
//! <base>.log.swap      renamed, durable: the clean has happened   a crash: the steps below are taken at the start
//! <base>.txnindex      renamed over the old one                   a crash: it stays; only its `.cleaned` replaces it
//! <base>.log           renamed over the old one                   a crash: the list says what still has to go
//! the others' files    removed; then <base>.replaces              a crash: as above
//! ```
//! The list is needed because the cleaned segment can't tell how far it reaches: its last records may have been dropped
//! together with the segments that held them. A `.swap` of Kafka's own has no list; it replaces what its batches span.

use std::io;
use std::path::{Path, PathBuf};

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::{Open, SharedFs};

use super::{Cleaned, Source, walk};
use crate::log::names::{
    self, CLEANED, INDEX, LOG, REPLACES, SNAPSHOT, SWAP, TIME_INDEX, TXN_CLEANED, TXN_INDEX, TXN_SWAP, segment_file,
};
use crate::log::text_file;
use crate::log::txn_index::AbortedTransaction;
use crate::protocol::record_batch::Offset;

/// Made from a `.log`: worthless next to another one, and made anew where they are missing.
const INDEXES: [&str; 2] = [INDEX, TIME_INDEX];

pub(super) fn cleaned_path(dir: &Path, base: Offset) -> PathBuf {
    segment_file(dir, base, CLEANED)
}

impl Cleaned {
    /// Makes the clean happen: from here on a crash completes it. Blocks for syncs; needs no lock.
    pub fn commit(&self, fs: &SharedFs, dir: &Path) -> io::Result<()> {
        // The list must not outlive a `.cleaned` file that never got its name.
        fs.sync_dir(dir)?;
        let list = text_file::write(self.replaced.iter().map(Offset::to_string));
        fs.replace(&segment_file(dir, self.base, REPLACES), list.as_bytes(), None)?;
        crash_point::reach(CrashPoint::CleanBeforeSwap);
        fs.rename(&cleaned_path(dir, self.base), &segment_file(dir, self.base, SWAP))?;
        crash_point::reach(CrashPoint::CleanAfterSwap);
        Ok(())
    }

    /// Gives the segment its name and its indexes. The caller holds the partition's lock, marks the replaced segments so
    /// that whoever opens their files from now on looks again, and publishes the new segment when this returns. After
    /// an error the partition goes offline: its files say something else than its memory.
    pub fn install(&mut self, fs: &SharedFs, dir: &Path) -> io::Result<()> {
        name_it(fs, dir, self.base)?;
        let (offsets, times) = (segment_file(dir, self.base, INDEX), segment_file(dir, self.base, TIME_INDEX));
        fs.open(&offsets, Open::Create)?.write_all_at(self.offsets.as_bytes(), 0)?;
        fs.open(&times, Open::Create)?.write_all_at(self.times.as_bytes(), 0)?;
        Ok(())
    }

    /// Removes the files of the segments that were replaced. Needs no lock.
    pub fn sweep(&self, fs: &SharedFs, dir: &Path) -> io::Result<()> {
        sweep(fs, dir, self.base, &self.replaced)
    }
}

/// `<base>.log.swap` becomes `<base>.log`; the old one's indexes go first, so that none is ever beside a log that it
/// doesn't describe.
fn name_it(fs: &SharedFs, dir: &Path, base: Offset) -> io::Result<()> {
    for extension in INDEXES {
        fs.remove_file(&segment_file(dir, base, extension))?;
    }
    fs.sync_dir(dir)?;
    for prepared in [TXN_CLEANED, TXN_SWAP] {
        let path = segment_file(dir, base, prepared);
        if fs.exists(&path) {
            fs.rename(&path, &segment_file(dir, base, TXN_INDEX))?;
        }
    }
    fs.rename(&segment_file(dir, base, SWAP), &segment_file(dir, base, LOG))?;
    let aborted = segment_file(dir, base, TXN_INDEX);
    // Without entries it has done its work: the old one is gone.
    let is_empty = fs.exists(&aborted) && fs.open(&aborted, Open::Read)?.len()? == 0;
    if is_empty { fs.remove_file(&aborted) } else { Ok(()) }
}

/// Writes the cleaned segment's index of aborted transactions under its temporary name, synced. It is written without
/// entries too: that the old index goes must survive a crash.
pub(super) fn write_aborted(fs: &SharedFs, dir: &Path, base: Offset, aborted: &[AbortedTransaction]) -> io::Result<()> {
    let file = fs.open(&segment_file(dir, base, TXN_CLEANED), Open::Create)?;
    let bytes: Vec<u8> = aborted.iter().flat_map(AbortedTransaction::to_bytes).collect();
    file.write_all_at(&bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_data()
}

fn sweep(fs: &SharedFs, dir: &Path, base: Offset, replaced: &[Offset]) -> io::Result<()> {
    for &gone in replaced.iter().filter(|gone| **gone != base) {
        for extension in INDEXES.into_iter().chain([TXN_INDEX, LOG, SNAPSHOT]) {
            fs.remove_file(&segment_file(dir, gone, extension))?;
        }
    }
    fs.sync_dir(dir)?;
    fs.remove_file(&segment_file(dir, base, REPLACES))
}

/// Completes or undoes what a crash interrupted in a partition's directory; to be called before its segments are
/// listed. True if it found anything.
pub fn recover(fs: &SharedFs, dir: &Path) -> io::Result<bool> {
    let mut found = Leftovers::default();
    for entry in fs.read_dir(dir)? {
        let Some((base, extension)) = names::parse_segment_file(&entry.name) else { continue };
        match extension {
            LOG => found.logs.push(base),
            CLEANED => found.cleaned.push(base),
            SWAP => found.swaps.push(base),
            TXN_CLEANED | TXN_SWAP => found.transactions.push((base, dir.join(&entry.name))),
            REPLACES => found.lists.push(base),
            // Kafka names index files on their way like the log's.
            other if other.ends_with(".cleaned") || other.ends_with(".swap") => {
                found.others.push(dir.join(&entry.name));
            }
            _ => {}
        }
    }
    found.resolve(fs, dir)
}

/// Does a file of this name belong to a clean that has not ended, so that [`recover`] has to look?
pub fn is_on_its_way(name: &str) -> bool {
    names::parse_segment_file(name).is_some_and(|(_, extension)| {
        extension == REPLACES || extension.ends_with(".cleaned") || extension.ends_with(".swap")
    })
}

#[derive(Default)]
struct Leftovers {
    logs: Vec<Offset>,
    cleaned: Vec<Offset>,
    swaps: Vec<Offset>,
    lists: Vec<Offset>,
    /// Indexes of aborted transactions on their way: part of a clean that has happened, or worth nothing.
    transactions: Vec<(Offset, PathBuf)>,
    others: Vec<PathBuf>,
}

impl Leftovers {
    fn resolve(self, fs: &SharedFs, dir: &Path) -> io::Result<bool> {
        // A list beside a `.cleaned` belongs to a clean that never happened; the list goes first, because a list alone
        // means the opposite.
        for &base in &self.cleaned {
            fs.remove_file(&segment_file(dir, base, REPLACES))?;
            fs.sync_dir(dir)?;
            fs.remove_file(&cleaned_path(dir, base))?;
        }
        let worthless = self.transactions.iter().filter(|(base, _)| !self.swaps.contains(base)).map(|(_, path)| path);
        for path in self.others.iter().chain(worthless) {
            fs.remove_file(path)?;
        }
        for &base in &self.swaps {
            let replaced = match self.lists.contains(&base) {
                true => read_list(fs, dir, base)?,
                false => self.spanned(fs, dir, base)?,
            };
            name_it(fs, dir, base)?;
            sweep(fs, dir, base, &replaced)?;
        }
        let installed = |base: &&Offset| !self.swaps.contains(base) && !self.cleaned.contains(base);
        for &base in self.lists.iter().filter(installed) {
            sweep(fs, dir, base, &read_list(fs, dir, base)?)?;
        }
        Ok(!(self.cleaned.is_empty() && self.swaps.is_empty() && self.lists.is_empty() && self.others.is_empty()))
    }

    /// The segments that begin within the batches of a `.swap` that has no list.
    fn spanned(&self, fs: &SharedFs, dir: &Path, base: Offset) -> io::Result<Vec<Offset>> {
        let file = fs.open(&segment_file(dir, base, SWAP), Open::Read)?;
        let len = file.len()?;
        let mut next = base;
        // Bytes that are no batch end the span, as they will end the scan that follows.
        let _ = walk(&Source { base, next: base, file, len }, |batch| {
            next = batch.next_offset();
            Ok(true)
        });
        Ok(self.logs.iter().copied().filter(|&log| log >= base && log < next).collect())
    }
}

/// The list was synced before the file that it stands beside got its name, so one that can't be read was damaged later:
/// an error, because guessing would bring dropped records back.
fn read_list(fs: &SharedFs, dir: &Path, base: Offset) -> io::Result<Vec<Offset>> {
    let bytes = fs.read(&segment_file(dir, base, REPLACES))?;
    text_file::read(&bytes, |line| line.parse().ok()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
