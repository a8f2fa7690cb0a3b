//! What goes out: one small buffer with places where file ranges and cached bytes are sent in between, never copied
//! into it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::log::copies::Copies;
use crate::log::view::FileRange;

/// Bytes that are sent from where they are.
#[derive(Debug)]
pub enum Piece {
    /// Of a file: by `sendfile` where the connection allows.
    File(FileRange),
    /// In memory, shared with a cache.
    Bytes(Bytes),
    /// Among the copies of the answer.
    Copied(Range<usize>),
    /// Of a file, where the writer has put it.
    Staged(Range<usize>),
}

/// The answers of a connection that are not yet written.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Everything that is small.
    pub buffer: BytesMut,
    /// What is sent when `buffer` is written up to a position; positions never fall.
    pub pieces: Vec<(usize, Piece)>,
    /// What the reads of one answer copied.
    pub copies: Copies,
}

impl Outgoing {
    /// Is there nothing to write?
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.pieces.is_empty()
    }

    /// Bytes that these answers hold in memory.
    pub fn held_bytes(&self) -> usize {
        let shared = |piece: &(usize, Piece)| match &piece.1 {
            Piece::File(_) | Piece::Copied(_) | Piece::Staged(_) => 0,
            Piece::Bytes(bytes) => bytes.len(),
        };
        self.buffer.len() + self.copies.held_bytes() + self.pieces.iter().map(shared).sum::<usize>()
    }
}
