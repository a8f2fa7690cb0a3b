//! Segments in order and as a whole, for those who bring them back or write them anew. Nothing of it goes through the
//! caches, and what is on its way counts as memory of copies.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::names::ObjectRef;
use crate::object::chunk::ChunkEntry;
use crate::object::footer::Footer;
use crate::read::ReadError;
use crate::tier::{Tier, kib};

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
    _memory: Option<OwnedSemaphorePermit>,
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
        let wanted = kib(end - first.position).min(kib(self.options.copy_memory_bytes));
        // The semaphore is never closed.
        let memory = self.copy_memory.clone().acquire_many_owned(wanted).await.ok();
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
}
