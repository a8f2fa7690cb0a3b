//! Segments in order and as a whole, for those who bring them back or write them anew. Nothing of it goes through the
//! caches, and what is on its way counts as memory of copies.

use bytes::Bytes;
use object_store::path::Path;

use crate::names::ObjectRef;
use crate::object::chunk::ChunkEntry;
use crate::object::footer::{Footer, FooterError};
use crate::object::trailer::{TRAILER_LEN, Trailer};
use crate::read::{ReadError, footers};
use crate::store::Bucket;
use crate::store::meter::Purpose;
use crate::tier::{CopyMemory, Tier};

/// Bytes of one GET, unless a chunk alone is larger: few requests, and little memory.
pub const WINDOW_BYTES: u64 = 8 << 20;

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
        let bytes = get_chunks(&self.bucket, &self.names.segment(object), first_chunk, chunks).await?;
        Ok(Some(Window { position: first.position, bytes, next_chunk, _memory: memory }))
    }

    /// All of `object` by one GET, for merging. The caller has the memory for it.
    pub async fn whole(&self, object: &ObjectRef) -> Result<Whole, ReadError> {
        get_whole(&self.bucket.on(Purpose::Merge), &self.names.segment(object), object).await
    }

    /// Reads `object` from its first record to its last, for the cleaner: what is small by one GET, else its footer and
    /// then window by window. The caller has memory for [`WINDOW_BYTES`], or for one chunk where that is larger.
    pub async fn pass_over(&self, object: &ObjectRef) -> Result<Pass, ReadError> {
        let (bucket, key) = (self.bucket.on(Purpose::Clean), self.names.segment(object));
        if object.object_bytes <= WINDOW_BYTES {
            let Whole { footer, log } = get_whole(&bucket, &key, object).await?;
            let next = footer.chunks.len();
            return Ok(Pass { bucket, key, footer, whole: Some(log), next });
        }
        let footer = footers::fetch(&bucket, &key, object).await?;
        Ok(Pass { bucket, key, footer, whole: None, next: 0 })
    }
}

/// A segment that is read once, past the caches.
#[derive(Debug)]
pub struct Pass {
    bucket: Bucket,
    key: Path,
    footer: Footer,
    /// Its records, if they came with the footer and were not taken yet.
    whole: Option<Bytes>,
    /// The next chunk to ask for.
    next: usize,
}

impl Pass {
    /// What describes the segment.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The next records, whole batches; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if let Some(all) = self.whole.take() {
            return Ok(Some(all));
        }
        let chunks = chunks_from(&self.footer, self.next);
        if chunks.is_empty() {
            return Ok(None);
        }
        let bytes = get_chunks(&self.bucket, &self.key, self.next, chunks).await?;
        self.next += chunks.len();
        Ok(Some(bytes))
    }
}

/// Neighbouring chunks by one GET, checked; `number` is that of the first.
async fn get_chunks(bucket: &Bucket, key: &Path, number: usize, chunks: &[ChunkEntry]) -> Result<Bytes, ReadError> {
    let [Some(first), Some(last)] = [chunks.first(), chunks.last()] else { return Ok(Bytes::new()) };
    let mut is_second = false;
    loop {
        let bytes = bucket.get_range(key, first.position..last.end()).await?;
        match chunks.iter().position(|chunk| !chunk.holds(chunk.part_of(&bytes, first.position))) {
            None => return Ok(bytes),
            // Bytes may have been damaged on the way, once. What is wrong twice is wrong in the store.
            Some(bad) if is_second => return Err(ReadError::Corrupt { key: key.to_string(), chunk: number + bad }),
            Some(_) => is_second = true,
        }
    }
}

async fn get_whole(bucket: &Bucket, key: &Path, object: &ObjectRef) -> Result<Whole, ReadError> {
    let mut is_second = false;
    loop {
        let bytes = bucket.get_range(key, 0..object.object_bytes).await?;
        match take_apart(key.as_ref(), object, &bytes) {
            Ok(whole) => return Ok(whole),
            // As above.
            Err(error) if is_second => return Err(error),
            Err(_) => is_second = true,
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
