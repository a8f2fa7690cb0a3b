//! Bodies of requests that mean no good: the same ones from the same seed.

use crate::protocol::api_key::ApiKey;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::shape::sample::{self, Values};

/// What is done to the body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// The shape is sound, the values are not.
    Values,
    /// Its end is missing.
    Cut,
    /// Some bits are turned.
    Bits,
    /// A few bytes are what lengths and counts are at their worst.
    Lengths,
    /// A part of another request lies in the middle of it.
    Spliced,
    /// Bytes follow it.
    Longer,
    /// Nothing but noise.
    Noise,
}

impl Way {
    pub(super) const ALL: [Self; 7] =
        [Self::Values, Self::Cut, Self::Bits, Self::Lengths, Self::Spliced, Self::Longer, Self::Noise];
}

/// Lengths and counts as no client means them: fixed and compact.
const LENGTHS: [&[u8]; 12] = [
    &[0],
    &[0xff, 0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0, 0, 0, 0],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0x80, 0x80, 0x80, 0x80, 0x80],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
];

/// Topics, groups, configurations and their values; the first is there.
const TEXTS: [&str; 14] = [
    "t",
    "",
    "a b",
    ".",
    "\0\u{fffd}\u{10ffff}",
    "__consumer_offsets",
    "group",
    "consumer",
    "range",
    "uniform",
    "retention.ms",
    "-1",
    "9223372036854775808",
    "*[(",
];

/// The generator.
pub(super) struct Hostile {
    random: u64,
    topic: [u8; 16],
}

impl Hostile {
    pub(super) fn new(seed: u64, topic: [u8; 16]) -> Self {
        Self { random: seed, topic }
    }

    /// A body that was sound but for its values, and then suffered `way`.
    pub(super) fn body(&mut self, key: ApiKey, version: i16, way: Way) -> Vec<u8> {
        // Produce 0 to 2 have no shape any more: they are refused whatever they hold.
        let mut body = sample::request(self, key, version).unwrap_or_default();
        match way {
            Way::Values => {}
            Way::Cut => body.truncate(self.below(body.len())),
            Way::Bits if body.is_empty() => {}
            Way::Bits => {
                for _ in 0..=self.below(8) {
                    let at = self.below(body.len());
                    body[at] ^= 1 << self.below(8);
                }
            }
            Way::Lengths => {
                for _ in 0..=self.below(2) {
                    let length = LENGTHS[self.below(LENGTHS.len())];
                    let at = self.below(body.len() + 1);
                    let end = body.len().min(at + length.len());
                    body.splice(at..end, length.iter().copied());
                }
            }
            Way::Spliced => {
                let other = ApiKey::ALL[self.below(ApiKey::ALL.len())];
                let part = sample::request(self, other, 1).unwrap_or_else(|| vec![0xff; 9]);
                let at = self.below(body.len() + 1);
                body.splice(at..at, part);
            }
            Way::Longer => {
                let size = 1 + self.below(40);
                body.extend(self.noise(size));
            }
            Way::Noise => {
                let size = self.below(200);
                body = self.noise(size);
            }
        }
        body
    }

    fn noise(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.below(256) as u8).collect()
    }

    /// A batch as a producer sends it, often damaged.
    fn batch(&mut self) -> Vec<u8> {
        let mut batch = BatchBuilder::new(0);
        for delta in 0..=self.below(3) as i32 {
            batch.push(delta, 1_700_000_000_000, None, Some(b"value"), std::iter::empty());
        }
        let mut bytes = batch.finish();
        if self.below(2) == 0 {
            let at = self.below(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)];
        }
        if self.below(3) == 0 {
            // Damage that the checksum does not give away.
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        bytes
    }
}

impl Values for Hostile {
    fn below(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % end.max(1)
    }

    fn fixed(&mut self, size: usize) -> Vec<u8> {
        if size == 16 && self.below(2) == 0 {
            return self.topic.to_vec();
        }
        let mut bytes = vec![0; size];
        match (self.below(8), size) {
            // Most often what is sound, so that the other fields come to be looked at.
            (0..=2, 1..) => bytes[size - 1] = self.below(4) as u8,
            (3, _) => bytes.fill(0xff),
            (4, 1..) => {
                bytes.fill(0xff);
                bytes[size - 1] = 0xfe;
            }
            (5, 1..) => {
                bytes.fill(0xff);
                bytes[0] = 0x7f;
            }
            (6, 1..) => bytes[0] = 0x80,
            _ => bytes = self.noise(size),
        }
        bytes
    }

    fn text(&mut self) -> String {
        match self.below(12) {
            0 => "x".repeat([249, 250, 32_767][self.below(3)]),
            1..=4 => TEXTS[0].to_owned(),
            _ => TEXTS[self.below(TEXTS.len())].to_owned(),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        match self.below(4) {
            0 => Vec::new(),
            1 => {
                let size = self.below(60);
                self.noise(size)
            }
            _ => self.batch(),
        }
    }
}
