//! Going through the batches of a `.log` file by their headers.

use std::io;

use terrace_tiering::platform::fs::{File, SharedFile};

use crate::protocol::record_batch::{BatchError, BatchView, HEADER_BYTES};

/// Bytes per read: small batches come many at a time, and for large ones little is read in vain.
const READ_BYTES: usize = 4096;

/// Why a walk cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes at this position are no batch that ends within the walk's range.
    #[error("no batch at position {position}: {error}")]
    Bad {
        /// Where.
        position: u64,
        /// What is wrong.
        error: BatchError,
    },
}

/// One batch that the walk stands at.
#[derive(Debug, Clone, Copy)]
pub struct Stop<'a> {
    /// Where the batch begins.
    pub position: u64,
    /// Its size.
    pub bytes: u64,
    /// Its header, without records.
    pub header: BatchView<'a>,
}

impl Stop<'_> {
    /// Where the next batch begins.
    pub fn next_position(&self) -> u64 {
        self.position + self.bytes
    }
}

/// What a look-up may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing: what is not in the page cache ends it with `WouldBlock`.
    PageCache,
    /// The disk.
    Disk,
}

impl Reach {
    /// Fills `buffer` from `position` of `file`.
    pub(super) fn read_exact(self, file: &dyn File, buffer: &mut [u8], position: u64) -> io::Result<()> {
        match self {
            Self::PageCache => file.read_exact_cached_at(buffer, position),
            Self::Disk => file.read_exact_at(buffer, position),
        }
    }
}

/// Reads headers between two positions of a file, in order.
#[derive(Debug)]
pub struct HeaderWalk {
    file: SharedFile,
    reach: Reach,
    position: u64,
    end: u64,
    buffer: [u8; READ_BYTES],
    /// The file position of the buffer's first byte, and how much of the buffer is filled.
    buffered: (u64, usize),
}

impl HeaderWalk {
    /// From the batch at `position` to `end`, where a batch must end.
    pub fn new(file: SharedFile, position: u64, end: u64) -> Self {
        Self { file, reach: Reach::Disk, position, end, buffer: [0; READ_BYTES], buffered: (0, 0) }
    }

    /// The same walk, waiting for `reach` alone.
    pub fn within(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// The next batch; `None` at the end. After an error the walk stays where it is.
    pub fn step(&mut self) -> Result<Option<Stop<'_>>, WalkError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        let bad = |error| WalkError::Bad { position, error };
        if position + HEADER_BYTES as u64 > self.end {
            return Err(bad(BatchError::Truncated));
        }
        let at = self.fill(position)?;
        let (header, bytes) = BatchView::header_only(&self.buffer[at..]).map_err(bad)?;
        let bytes = bytes as u64;
        if bytes > self.end - position {
            return Err(bad(BatchError::Truncated));
        }
        self.position = position + bytes;
        Ok(Some(Stop { position, bytes, header }))
    }

    /// Makes the buffer hold the header at `position`; where in the buffer it begins.
    fn fill(&mut self, position: u64) -> io::Result<usize> {
        let (start, filled) = self.buffered;
        if position >= start && position + HEADER_BYTES as u64 <= start + filled as u64 {
            return Ok((position - start) as usize);
        }
        let wanted = READ_BYTES.min((self.end - position) as usize);
        self.buffered = (0, 0);
        let buffer = &mut self.buffer[..wanted];
        self.reach.read_exact(&*self.file, buffer, position)?;
        self.buffered = (position, wanted);
        Ok(0)
    }
}
