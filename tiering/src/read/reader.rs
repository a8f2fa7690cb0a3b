//! Reads chunks.

use std::sync::Arc;

use crate::names::{Names, ObjectRef};
use crate::object::footer::Footer;
use crate::read::{ChunkRead, ReadError, ReadHint};
use crate::store::bucket::Bucket;
use crate::store::open::StoreKind;
use crate::tier::{Machine, Tier, TierError, TierOptions};

/// Everything that reads share.
#[derive(Debug)]
pub struct Reader;

impl Reader {
    pub(crate) async fn open(
        _bucket: Bucket,
        _names: Names,
        _options: &TierOptions,
        _kind: StoreKind,
        _machine: &Machine,
    ) -> Result<Arc<Self>, TierError> {
        Ok(Arc::new(Self))
    }
}

impl Tier {
    /// Chunks of `object` from the one that holds `offset` on: at least one, more while they are at hand and
    /// `max_bytes` is not reached.
    pub async fn read(
        &self,
        object: &ObjectRef,
        offset: i64,
        max_bytes: u64,
        hint: ReadHint,
    ) -> Result<ChunkRead, ReadError> {
        let _ = (object, offset, max_bytes, hint);
        todo!()
    }

    /// The footer of `object`, from memory if it was read before.
    pub async fn footer(&self, object: &ObjectRef) -> Result<Arc<Footer>, ReadError> {
        let _ = object;
        todo!()
    }
}
