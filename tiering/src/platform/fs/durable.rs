//! Writes that are durable when they return, past the page cache where the file system lets them.
//!
//! A buffered write and its `fdatasync` copy the bytes, dirty pages and walk them again; a direct write hands the caller's
//! memory to the disk. It asks that memory, place and length are whole blocks: [`Blocks`] is such memory.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::File;

/// What place, length and memory of a durable write are multiples of: no common disk asks for more.
pub const BLOCK_BYTES: usize = 4096;

/// Memory for durable writes: it begins at a multiple of [`BLOCK_BYTES`] and does not grow.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Never reallocated, so that what it begins with stays aligned.
    memory: Vec<u8>,
    /// Bytes before the first aligned one.
    skipped: usize,
    capacity: usize,
}

impl Blocks {
    /// Empty, with room for `capacity` bytes. The system gives the memory as it is written to.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(capacity + BLOCK_BYTES);
        let skipped = memory.as_ptr().addr().wrapping_neg() % BLOCK_BYTES;
        memory.resize(skipped, 0);
        Self { memory, skipped, capacity }
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many it holds.
    pub fn len(&self) -> usize {
        self.memory.len() - self.skipped
    }

    /// Does it hold none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `bytes`, for which there must be room.
    pub fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.capacity - self.len(), "blocks do not grow");
        self.memory.extend_from_slice(bytes);
    }

    /// Fills the last block with zeros. With a capacity of whole blocks there always is room.
    pub fn pad(&mut self) {
        let padded = self.len().next_multiple_of(BLOCK_BYTES).min(self.capacity);
        self.memory.resize(self.skipped + padded, 0);
    }

    /// Forgets what it holds, not the memory.
    pub fn clear(&mut self) {
        self.memory.truncate(self.skipped);
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.skipped..]
    }

    /// What it holds, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.skipped..]
    }
}

/// A file of the machine, open for durable writes of whole blocks.
#[derive(Debug)]
pub(super) struct DurableFile(std::fs::File);

#[cfg(target_os = "linux")]
const DIRECT: OFlags = OFlags::DIRECT;
#[cfg(not(target_os = "linux"))]
const DIRECT: OFlags = OFlags::empty();

impl DurableFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = |flags: OFlags| {
            // Flags of `open` are a C int.
            std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path)
        };
        match open(OFlags::DSYNC | DIRECT) {
            // A file system that has no direct writes: each is buffered, and synced before it returns.
            Err(error) if is_refused(&error) => open(OFlags::DSYNC),
            opened => opened,
        }
        .map(Self)
    }

    /// From now on through the page cache, for a file system that takes the flag and refuses the writes.
    #[cfg(target_os = "linux")]
    fn give_up_direct(&self) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&self.0)?;
        Ok(rustix::fs::fcntl_setfl(&self.0, flags - DIRECT)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn give_up_direct(&self) -> io::Result<()> {
        Ok(())
    }
}

fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
}

impl File for DurableFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        match self.0.write_all_at(bytes, position) {
            Err(error) if is_refused(&error) => {
                // Whoever wrote beside this one may have given it up already: the second try is needed all the same.
                self.give_up_direct()?;
                self.0.write_all_at(bytes, position)
            }
            done => done,
        }
    }

    fn read_at(&self, _buffer: &mut [u8], _position: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{Fs, Open, RealFs};
    use super::*;

    #[test]
    fn blocks_are_aligned_and_padded() {
        for capacity in [BLOCK_BYTES, 3 * BLOCK_BYTES] {
            let mut blocks = Blocks::with_capacity(capacity);
            assert!(blocks.is_empty() && blocks.capacity() == capacity);
            blocks.push(&[7; 100]);
            blocks.push(&[8; 1000]);
            blocks.pad();
            assert_eq!(blocks.bytes().as_ptr().addr() % BLOCK_BYTES, 0);
            assert_eq!((blocks.len(), blocks.bytes()[1099], blocks.bytes()[1100]), (BLOCK_BYTES, 8, 0));
            blocks.clear();
            blocks.push(&vec![9; capacity]);
            blocks.pad();
            assert_eq!((blocks.len(), blocks.bytes().as_ptr().addr() % BLOCK_BYTES), (capacity, 0));
        }
    }

    /// A directory on a disk (most often), and one in memory, whose file system may refuse direct writes.
    #[test]
    fn durable_writes_are_there_for_all_who_read() {
        for place in [std::env::temp_dir(), PathBuf::from("/dev/shm")].into_iter().filter(|place| place.is_dir()) {
            let dir = tempfile::tempdir_in(&place).expect("a directory");
            let path = dir.path().join("f");
            let file = RealFs.open(&path, Open::Create).expect("it is made");
            file.write_all_at(&[1; 3 * BLOCK_BYTES], 0).expect("it is written through the page cache");
            let durable = RealFs.open(&path, Open::Durable).expect("it is there");
            let mut blocks = Blocks::with_capacity(2 * BLOCK_BYTES);
            blocks.push(&[2; BLOCK_BYTES + 1]);
            blocks.pad();
            for position in [1, 3] {
                durable.write_all_at(blocks.bytes(), position * BLOCK_BYTES as u64).expect("it is written");
            }
            let read = RealFs.read(&path).expect("it can be read");
            let of_block = |at: usize| (read[at * BLOCK_BYTES], read[(at + 1) * BLOCK_BYTES - 1]);
            assert_eq!(read.len(), 5 * BLOCK_BYTES);
            assert_eq!([0, 1, 2, 3, 4].map(of_block), [(1, 1), (2, 2), (2, 0), (2, 2), (2, 0)]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_refused_direct_write_goes_through_the_page_cache() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        RealFs.open(&path, Open::Create).expect("it is made");
        let durable = DurableFile::open(&path).expect("it is there");
        // Not at a block's beginning: what a disk of larger blocks would refuse, any disk refuses here.
        durable.write_all_at(&[3; 10], 7).expect("it is written all the same");
        assert_eq!(RealFs.read(&path).expect("it can be read")[7..], [3; 10]);
        let flags = rustix::fs::fcntl_getfl(&durable.0).expect("the flags can be read");
        assert!(!flags.contains(DIRECT));
        durable.give_up_direct().expect("another that wrote beside it gives it up, too");
    }
}
