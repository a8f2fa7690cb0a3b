//! Frames: a 32-bit length, then that many bytes.

use bytes::{BufMut, BytesMut};

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// A frame being written at the end of a buffer; its length comes last.
#[derive(Debug)]
#[must_use = "a frame without its length is garbage"]
pub struct FrameStart(usize);

impl FrameStart {
    /// Leaves room for the length.
    pub fn new(out: &mut BytesMut) -> Self {
        let at = out.len();
        out.put_i32(0);
        Self(at)
    }

    /// Where in the buffer the frame begins.
    pub fn position(&self) -> usize {
        self.0
    }

    /// Writes the length: what was written since, and `elsewhere` bytes that are sent between (file ranges).
    pub fn finish(self, out: &mut BytesMut, elsewhere: u64) {
        let bytes = (out.len() - self.0 - LENGTH_BYTES) as u64 + elsewhere;
        let length = i32::try_from(bytes).expect("answers are limited to below 2 GiB");
        out[self.0..self.0 + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }
}
