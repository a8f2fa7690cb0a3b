//! The bytes of an object in the order in which they are sent: the local segment, read part by part and checked against
//! its chunks, then the footer.

use std::io;

use bytes::Bytes;

use crate::object::chunk::ChunkEntry;
use crate::platform::fs::SharedFile;
use crate::upload::UploadError;

/// Objects up to this size go in one request; parts of larger ones have this size.
pub const PART_BYTES: u64 = 16 << 20;

/// Reads an object's bytes once, from the front.
#[derive(Debug)]
pub(super) struct Parts {
    log: SharedFile,
    log_bytes: u64,
    tail: Bytes,
    position: u64,
    check: ChunkCheck,
}

impl Parts {
    pub(super) fn new(log: SharedFile, log_bytes: u64, chunks: Vec<ChunkEntry>, tail: Bytes) -> Self {
        Self { log, log_bytes, tail, position: 0, check: ChunkCheck::new(chunks) }
    }

    pub(super) fn object_bytes(&self) -> u64 {
        self.log_bytes + self.tail.len() as u64
    }

    /// Bytes of the part that comes next; 0 at the end.
    pub(super) fn next_len(&self) -> u64 {
        (self.object_bytes() - self.position).min(PART_BYTES)
    }

    /// The next part, read off the async workers.
    pub(super) async fn next(mut self) -> Result<(Self, Bytes), UploadError> {
        tokio::task::spawn_blocking(move || {
            let part = self.read()?;
            Ok((self, part))
        })
        .await
        .map_err(|error| UploadError::Local(io::Error::other(error)))?
    }

    fn read(&mut self) -> Result<Bytes, UploadError> {
        let end = self.position + self.next_len();
        let mut part = vec![0; (end - self.position) as usize];
        let from_log = self.log_bytes.saturating_sub(self.position).min(end - self.position) as usize;
        let (log, tail) = part.split_at_mut(from_log);
        self.log.read_exact_at(log, self.position)?;
        self.check.feed(log).map_err(|chunk| UploadError::LocalCorrupt { chunk })?;
        if !tail.is_empty() {
            let from = (self.position + from_log as u64 - self.log_bytes) as usize;
            tail.copy_from_slice(&self.tail[from..from + tail.len()]);
        }
        self.position = end;
        Ok(part.into())
    }
}

/// Compares a segment's bytes, fed in pieces of any size, with the CRCs of its chunks.
#[derive(Debug)]
pub(super) struct ChunkCheck {
    chunks: Vec<ChunkEntry>,
    number: usize,
    left: usize,
    crc: u32,
}

impl ChunkCheck {
    pub(super) fn new(chunks: Vec<ChunkEntry>) -> Self {
        let left = chunks.first().map_or(0, |chunk| chunk.length as usize);
        Self { chunks, number: 0, left, crc: 0 }
    }

    /// The number of the chunk that fails, if one does. Bytes behind the last chunk fail too.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), usize> {
        while !bytes.is_empty() {
            let Some(chunk) = self.chunks.get(self.number) else { return Err(self.number) };
            let (of_chunk, rest) = bytes.split_at(bytes.len().min(self.left));
            self.crc = crc32c::crc32c_append(self.crc, of_chunk);
            self.left -= of_chunk.len();
            if self.left == 0 {
                if self.crc != chunk.crc {
                    return Err(self.number);
                }
                self.number += 1;
                self.crc = 0;
                self.left = self.chunks.get(self.number).map_or(0, |next| next.length as usize);
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Was every chunk seen?
    pub(super) fn is_complete(&self) -> bool {
        self.number == self.chunks.len()
    }
}
