//! Segments in order and as a whole, for those who bring them back or write them anew. Nothing of it goes through the
//! caches, and what is on its way counts as memory of copies.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::names::ObjectRef;
use crate::object::footer::Footer;
use crate::read::ReadError;
use crate::tier::{Tier, kib};

/// Bytes of one GET, unless a chunk alone is larger.
const WINDOW_BYTES: u64 = 8 << 20;

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
        let Some(first) = footer.chunks.get(first_chunk) else { return Ok(None) };
        let (mut end, mut next_chunk) = (first.position, first_chunk);
        for chunk in &footer.chunks[first_chunk..] {
            let behind = chunk.position + u64::from(chunk.length);
            if next_chunk > first_chunk && behind - first.position > WINDOW_BYTES {
                break;
            }
            (end, next_chunk) = (behind, next_chunk + 1);
        }
        let wanted = kib(end - first.position).min(kib(self.options.copy_memory_bytes));
        // The semaphore is never closed.
        let memory = self.copy_memory.clone().acquire_many_owned(wanted).await.ok();
        let key = self.names.segment(object);
        let mut is_second = false;
        loop {
            let bytes = self.bucket.get_range(&key, first.position..end).await?;
            let is_good = |chunk: &&crate::object::chunk::ChunkEntry| {
                let from = (chunk.position - first.position) as usize;
                crc32c::crc32c(&bytes[from..from + chunk.length as usize]) == chunk.crc
            };
            match footer.chunks[first_chunk..next_chunk].iter().position(|chunk| !is_good(&chunk)) {
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
