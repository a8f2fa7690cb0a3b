//! The receive buffer of one connection: frames are served where they lie, and memory grows only as bytes arrive.
//!
//! Sizes go 0 (idle), 4 KiB (a client of small requests stays there), 64 KiB, then up to 1 MiB a step to the size of the
//! frame in hand. Every byte of it is taken from the node's budget first.

use std::ops::Range;

use super::admission::{Evicted, Share};
use super::bell::Bell;

const FIRST_BYTES: usize = 4 << 10;
const SECOND_BYTES: usize = 64 << 10;
const STEP_BYTES: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;
/// Key, version and correlation id.
const FRAME_BYTES_MIN: usize = 8;

/// A frame length that no request has; the connection is closed, as in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame of {0} bytes is outside the accepted sizes")]
pub struct BadFrame(i32);

#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// Everything before is served.
    served: usize,
}

impl Inbox {
    /// The bytes received and the place to read more into.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Is no byte of a request here?
    pub(super) fn is_empty(&self) -> bool {
        self.served == self.bytes.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Where the next whole frame lies, without its length. It counts as served from then on.
    pub(super) fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Range<usize>>, BadFrame> {
        let Some(length) = self.announced(bytes_max)? else { return Ok(None) };
        let begin = self.served + LENGTH_BYTES;
        if self.bytes.len() < begin + length {
            return Ok(None);
        }
        self.served = begin + length;
        Ok(Some(begin..begin + length))
    }

    /// Length of the frame in hand, when that much of it is here.
    fn announced(&self, bytes_max: usize) -> Result<Option<usize>, BadFrame> {
        let Some(prefix) = self.bytes[self.served..].first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = i32::from_be_bytes(*prefix);
        match usize::try_from(length) {
            Ok(bytes) if (FRAME_BYTES_MIN..=bytes_max).contains(&bytes) => Ok(Some(bytes)),
            _ => Err(BadFrame(length)),
        }
    }

    /// Moves what is not served to the front.
    pub(super) fn compact(&mut self) {
        if self.served > 0 {
            self.bytes.drain(..self.served);
            self.served = 0;
        }
    }

    /// Bytes to take from the budget before anything can be read; 0 when there is room. Call after [`Inbox::compact`].
    pub(super) fn growth(&self, bytes_max: usize) -> Result<usize, BadFrame> {
        let capacity = self.bytes.capacity();
        if self.bytes.len() < capacity {
            return Ok(0);
        }
        Ok(match capacity {
            0 => FIRST_BYTES,
            small if small < SECOND_BYTES => SECOND_BYTES - small,
            // A full buffer holds less than one frame here: whole ones were served.
            large => {
                let frame = self.announced(bytes_max)?.map_or(large + SECOND_BYTES, |length| length + LENGTH_BYTES);
                (frame.saturating_sub(large)).clamp(SECOND_BYTES, STEP_BYTES)
            }
        })
    }

    /// Grows by `bytes`, taken from the budget before.
    pub(super) async fn grow(&mut self, bytes: usize, share: &mut Share, bell: &Bell) -> Result<(), Evicted> {
        share.take(bytes, !self.is_empty(), bell).await?;
        let before = self.bytes.capacity();
        self.bytes.reserve_exact(before + bytes - self.bytes.len());
        // The allocator may have given more than was asked.
        share.charge((self.bytes.capacity() - before).saturating_sub(bytes));
        Ok(())
    }

    /// Gives all memory back; nothing may be in it.
    pub(super) fn release(&mut self, share: &mut Share) {
        debug_assert!(self.is_empty(), "only an empty buffer is given back");
        share.give_back(self.bytes.capacity());
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::super::admission::Budget;
    use super::*;

    #[rstest]
    #[case::negative(-1)]
    #[case::below_a_header(7)]
    #[case::over_the_limit(1001)]
    #[case::largest(i32::MAX)]
    fn impossible_lengths_are_refused(#[case] length: i32) {
        let mut inbox = Inbox { bytes: length.to_be_bytes().to_vec(), served: 0 };
        assert_eq!(inbox.next_frame(1000), Err(BadFrame(length)));
    }

    #[test]
    fn whole_frames_are_handed_out_in_order() {
        let mut inbox = Inbox::default();
        for byte in [1u8, 2] {
            inbox.bytes.extend_from_slice(&8i32.to_be_bytes());
            inbox.bytes.extend_from_slice(&[byte; 8]);
        }
        inbox.bytes.extend_from_slice(&[0, 0]);
        let first = inbox.next_frame(100).unwrap().unwrap();
        assert_eq!(inbox.bytes[first], [1; 8]);
        let second = inbox.next_frame(100).unwrap().unwrap();
        assert_eq!(inbox.bytes[second], [2; 8]);
        assert_eq!(inbox.next_frame(100).unwrap(), None);
        inbox.compact();
        assert_eq!(inbox.bytes, [0, 0]);
    }

    #[tokio::test]
    async fn memory_grows_as_bytes_arrive_not_as_they_are_announced() {
        let budget = Budget::new(64 << 20);
        let bell = Arc::new(Bell::default());
        let mut share = budget.share(bell.clone());
        let mut inbox = Inbox::default();
        let frame = 10 << 20;
        let mut sizes = Vec::new();
        for _ in 0..4 {
            let growth = inbox.growth(100 << 20).unwrap();
            inbox.grow(growth, &mut share, &bell).await.unwrap();
            assert_eq!(budget.used(), inbox.capacity());
            sizes.push(growth);
            if inbox.bytes.is_empty() {
                inbox.bytes.extend_from_slice(&i32::to_be_bytes(frame));
            }
            let full = inbox.capacity();
            inbox.bytes.resize(full, 0);
        }
        assert_eq!(sizes, [4 << 10, 60 << 10, 1 << 20, 1 << 20]);
        inbox.bytes.clear();
        inbox.release(&mut share);
        assert_eq!(budget.used(), 0);
    }
}
