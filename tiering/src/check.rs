//! Is a stored segment still what it was when it was copied? Asked of the bucket itself: no cache is looked into, and
//! none is filled. The scrubber asks it of a share of all segments each day, `terrace remote verify` of as many as wanted.

use std::fmt;

use object_store::path::Path;

use crate::names::ObjectRef;
use crate::object::footer::{Footer, FooterError};
use crate::read::{ReadError, footers};
use crate::store::meter::Purpose;
use crate::store::{Bucket, StoreError};
use crate::tier::Tier;
use crate::whole::chunks_from;

/// What is wrong with a stored segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is not there.
    Missing,
    /// It is not as long as it was.
    Size {
        /// Bytes that it has.
        stored: u64,
        /// Bytes that it had.
        expected: u64,
    },
    /// Its footer cannot be read, so none of it can.
    Footer(FooterError),
    /// A chunk is not what the footer says.
    Chunk {
        /// Its number.
        number: usize,
        /// Where it begins.
        position: u64,
        /// Its first offset.
        first_offset: i64,
        /// The offset behind it.
        next_offset: i64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::Size { stored, expected } => write!(f, "it has {stored} bytes of {expected}"),
            Self::Footer(error) => write!(f, "{error}"),
            Self::Chunk { number, position, first_offset, next_offset } => {
                let last_offset = next_offset - 1;
                write!(f, "chunk {number} at {position} fails its CRC (offsets {first_offset}..={last_offset})")
            }
        }
    }
}

/// A segment that is being checked: its size and footer at once, its chunks window by window, as fast as the caller wants.
#[derive(Debug)]
pub struct Check {
    bucket: Bucket,
    key: Path,
    footer: Option<Footer>,
    next: usize,
    damage: Vec<Damage>,
}

impl Tier {
    /// Looks at size and footer of `object`. An error means that the store could not be asked.
    pub async fn check(&self, object: &ObjectRef) -> Result<Check, StoreError> {
        let (bucket, key) = (self.bucket.on(Purpose::Scrub), self.names.segment(object));
        let (footer, damage) = match bucket.head(&key).await {
            Err(StoreError::NotFound(_)) => (None, Some(Damage::Missing)),
            Err(error) => return Err(error),
            Ok(found) if found.size != object.object_bytes => {
                (None, Some(Damage::Size { stored: found.size, expected: object.object_bytes }))
            }
            Ok(_) => match footers::fetch(&bucket, &key, object).await {
                Ok(footer) => (Some(footer), None),
                Err(ReadError::Gone(_)) => (None, Some(Damage::Missing)),
                Err(ReadError::Store(error)) => return Err(error),
                Err(ReadError::Footer { error, .. }) => (None, Some(Damage::Footer(error))),
                // Neither is an answer about a footer.
                Err(ReadError::Corrupt { .. } | ReadError::OffsetOutOfRange(_)) => {
                    (None, Some(Damage::Footer(FooterError::Crc)))
                }
            },
        };
        Ok(Check { bucket, key, footer, next: 0, damage: Vec::from_iter(damage) })
    }
}

impl Check {
    /// Reads the next chunks; how many bytes that were, or `None` at the end.
    pub async fn read_on(&mut self) -> Result<Option<u64>, StoreError> {
        let Some(footer) = &self.footer else { return Ok(None) };
        let window = chunks_from(footer, self.next);
        let [Some(first), Some(last)] = [window.first(), window.last()] else { return Ok(None) };
        let read = match self.bucket.get_range(&self.key, first.position..last.end()).await {
            Ok(read) => read,
            Err(StoreError::NotFound(_)) => {
                self.damage.push(Damage::Missing);
                self.footer = None;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        for (at, chunk) in window.iter().enumerate() {
            if chunk.holds(chunk.part_of(&read, first.position)) {
                continue;
            }
            // Bytes may have been damaged on the way, once. What is wrong twice is wrong in the store.
            if !chunk.holds(&self.bucket.get_range(&self.key, chunk.position..chunk.end()).await?) {
                let number = self.next + at;
                let behind = footer.chunks.get(number + 1).map(|next| next.first_offset);
                self.damage.push(Damage::Chunk {
                    number,
                    position: chunk.position,
                    first_offset: chunk.first_offset,
                    next_offset: behind.unwrap_or(footer.identity.last_offset + 1),
                });
            }
        }
        self.next += window.len();
        Ok(Some(read.len() as u64))
    }

    /// Reads all of it.
    pub async fn read_all(&mut self) -> Result<(), StoreError> {
        while self.read_on().await?.is_some() {}
        Ok(())
    }

    /// What was found to be wrong so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Its key in the bucket.
    pub fn key(&self) -> &str {
        self.key.as_ref()
    }
}
