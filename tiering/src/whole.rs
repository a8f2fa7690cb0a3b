//! Segments in order and as a whole, for those who bring them back or write them anew. Nothing of it goes through the
//! caches, and what is on its way counts as memory of copies.

use bytes::Bytes;

use crate::names::ObjectRef;
use crate::object::chunk::ChunkEntry;
use crate::object::footer::{Footer, FooterError};
use crate::object::trailer::{TRAILER_LEN, Trailer};
use crate::read::{ReadError, footers};
use crate::store::meter::Purpose;
use crate::tier::{CopyMemory, Tier};

/// Bytes of one GET, unless a chunk alone is larger: few requests, and little memory.
const WINDOW_BYTES: u64 = 8 << 20;

/// The chunks that one GET brings from the one with this number on; none behind the last.
pub(crate) fn chunks_from(footer: &Footer, first: usize) -> &[ChunkEntry] {
    let rest = footer.chunks.get(first..).unwrap_or_default();
    let mut bytes = 0;
    let fits = |chunk: &&ChunkEntry| {
        bytes += u64::from(chunk.length);
        bytes <= WINDOW_BYTES
    };
    let count = rest.iter().take_while(fits).count().max(1);
    &rest[..count.min(rest.len())]
}

/// Consecutive chunks, checked.
#[derive(Debug)]
pub struct Window {
    /// Where they lie in the segment.
    pub position: u64,
    /// They themselves.
    pub bytes: Bytes,
    /// The number of the chunk behind them.
    pub next_chunk: usize,
    _memory: CopyMemory,
}

/// A small segment, checked.
#[derive(Debug)]
pub struct Whole {
    /// What describes it.
    pub footer: Footer,
    /// Its records.
    pub log: Bytes,
}

impl Tier {
    /// The chunks of `object`, which `footer` describes, from the one with this number on; `None` behind the last.
    pub async fn window(
        &self,
        object: &ObjectRef,
        footer: &Footer,
        first_chunk: usize,
    ) -> Result<Option<Window>, ReadError> {
        let chunks = chunks_from(footer, first_chunk);
        let [Some(first), Some(last)] = [chunks.first(), chunks.last()] else { return Ok(None) };
        let (end, next_chunk) = (last.end(), first_chunk + chunks.len());
        let memory = self.copy_memory(end - first.position).await;
        let key = self.names.segment(object);
        let mut is_second = false;
        loop {
            let bytes = self.bucket.get_range(&key, first.position..end).await?;
            match chunks.iter().position(|chunk| !chunk.holds(chunk.part_of(&bytes, first.position))) {
                None => return Ok(Some(Window { position: first.position, bytes, next_chunk, _memory: memory })),
                // Bytes may have been damaged on the way, once. What is wrong twice is wrong in the store.
                Some(bad) if is_second => {
                    let (key, chunk) = (key.to_string(), first_chunk + bad);
                    return Err(ReadError::Corrupt { key, chunk });
                }
                Some(_) => is_second = true,
            }
        }
    }

    /// All of `object` by one GET, for merging. The caller has the memory for it.
    pub async fn whole(&self, object: &ObjectRef) -> Result<Whole, ReadError> {
        let (bucket, key) = (self.bucket.on(Purpose::Merge), self.names.segment(object));
        let mut is_second = false;
        loop {
            let bytes = bucket.get_range(&key, 0..object.object_bytes).await?;
            match take_apart(key.as_ref(), object, &bytes) {
                Ok(whole) => return Ok(whole),
                // As above.
                Err(error) if is_second => return Err(error),
                Err(_) => is_second = true,
            }
        }
    }
}

/// Footer and records of an object's bytes.
fn take_apart(key: &str, object: &ObjectRef, bytes: &Bytes) -> Result<Whole, ReadError> {
    let wrong = |error: FooterError| ReadError::Footer { key: key.to_owned(), error };
    let (before, trailer) = bytes.split_last_chunk::<TRAILER_LEN>().ok_or(wrong(FooterError::Malformed("length")))?;
    let trailer = Trailer::parse(trailer, object.object_bytes).map_err(wrong)?;
    let end = usize::try_from(trailer.footer_position).unwrap_or(usize::MAX);
    let footer = before.get(end..).ok_or(wrong(FooterError::Malformed("length")))?;
    let footer = Footer::parse(footer, &trailer).map_err(wrong)?;
    footers::check_identity(&footer, object).map_err(wrong)?;
    let log = bytes.slice(..end);
    match footer.chunks.iter().position(|chunk| !chunk.holds(chunk.part_of(&log, 0))) {
        None => Ok(Whole { footer, log }),
        Some(chunk) => Err(ReadError::Corrupt { key: key.to_owned(), chunk }),
    }
}
