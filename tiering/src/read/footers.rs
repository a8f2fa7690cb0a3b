//! Footers in memory, with their own budget; each is fetched once, whoever asks.

use std::sync::Arc;

use moka::future::Cache;
use moka::policy::EvictionPolicy;
use object_store::path::Path;
use uuid::Uuid;

use super::ReadError;
use crate::names::{Names, ObjectRef};
use crate::object::footer::{Footer, FooterError};
use crate::object::trailer::{TRAILER_LEN, Trailer};
use crate::store::Bucket;

/// Bytes read from the end of an object at first: the footer of a 1 GiB segment is about 33 KiB.
const TAIL_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Footers {
    cache: Cache<Uuid, Arc<Footer>>,
    bucket: Bucket,
    names: Names,
}

impl Footers {
    pub(super) fn new(bytes: u64, bucket: Bucket, names: Names) -> Self {
        let weigh = |_: &Uuid, footer: &Arc<Footer>| u32::try_from(footer.memory_bytes()).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(bytes).weigher(weigh).eviction_policy(EvictionPolicy::lru()).build();
        Self { cache, bucket, names }
    }

    pub(super) async fn get(&self, object: &ObjectRef) -> Result<Arc<Footer>, ReadError> {
        let fetched = self.cache.try_get_with(object.uuid, self.fetch(object)).await;
        fetched.map_err(|error: Arc<ReadError>| ReadError::clone(&error))
    }

    /// The footer, if it is in memory.
    pub(super) async fn at_hand(&self, object: &ObjectRef) -> Option<Arc<Footer>> {
        self.cache.get(&object.uuid).await
    }

    async fn fetch(&self, object: &ObjectRef) -> Result<Arc<Footer>, ReadError> {
        fetch(&self.bucket, &self.names.segment(object), object).await.map(Arc::new)
    }
}

/// The footer as it lies in the bucket; one GET, two where it is long.
pub(crate) async fn fetch(bucket: &Bucket, key: &Path, object: &ObjectRef) -> Result<Footer, ReadError> {
    let wrong = |error: FooterError| ReadError::Footer { key: key.to_string(), error };
    let end = object.object_bytes;
    let tail = bucket.get_range(key, end.saturating_sub(TAIL_BYTES)..end).await?;
    let (before, trailer) = tail.split_last_chunk::<TRAILER_LEN>().ok_or(wrong(FooterError::Malformed("length")))?;
    let trailer = Trailer::parse(trailer, end).map_err(wrong)?;
    let len = trailer.footer_len as usize;
    let footer = match before.len().checked_sub(len) {
        Some(at) => Footer::parse(&before[at..], &trailer),
        None => {
            let range = trailer.footer_position..trailer.footer_position + trailer.footer_len;
            Footer::parse(&bucket.get_range(key, range).await?, &trailer)
        }
    }
    .map_err(wrong)?;
    check_identity(&footer, object).map_err(wrong)?;
    Ok(footer)
}

/// Fine when the footer is that of `object`.
pub(crate) fn check_identity(footer: &Footer, object: &ObjectRef) -> Result<(), FooterError> {
    let identity = &footer.identity;
    let told = (identity.uuid, identity.topic, identity.partition, identity.base_offset, identity.last_offset);
    match told == (object.uuid, object.topic, object.partition, object.base_offset, object.last_offset) {
        true => Ok(()),
        false => Err(FooterError::Malformed("it describes another segment")),
    }
}
