//! An upload counts only when the bucket has shown that it holds it.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;

use crate::object::footer::Footer;
use crate::object::trailer::{TRAILER_LEN, Trailer};
use crate::store::Bucket;
use crate::tier::Tier;
use crate::upload::UploadError;
use crate::upload::parts::ChunkCheck;

/// `remote.copy.verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Size, trailer and footer are read back; the bytes rest on the checksums that the store checked. A store that checks
    /// none is read back in full all the same.
    #[default]
    Footer,
    /// Everything is read back, chunk CRCs compared.
    Full,
}

/// What must be in the bucket.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) footer: Footer,
    /// Footer and trailer as they were sent.
    pub(super) tail: Bytes,
    pub(super) object_bytes: u64,
}

impl Tier {
    pub(super) async fn verify(&self, bucket: &Bucket, key: &Path, expected: &Expected) -> Result<(), UploadError> {
        let failed = |what: String| Err(UploadError::Verification(what));
        let size = bucket.head(key).await?.size;
        if size != expected.object_bytes {
            return failed(format!("it has {size} bytes of {}", expected.object_bytes));
        }
        let tail = bucket.get_range(key, expected.footer.log_bytes..size).await?;
        match read_tail(&tail, size) {
            Err(error) => return failed(error.to_string()),
            Ok(footer) if footer.identity.uuid != expected.footer.identity.uuid => {
                return failed(format!("it is copy {}", footer.identity.uuid));
            }
            Ok(_) if tail != expected.tail => return failed("its footer is another".to_owned()),
            Ok(_) => {}
        }
        if self.options.verify == Verify::Full || !self.kind.checks_checksums() {
            self.read_back(bucket, key, &expected.footer).await?;
        }
        Ok(())
    }

    async fn read_back(&self, bucket: &Bucket, key: &Path, footer: &Footer) -> Result<(), UploadError> {
        let mut check = ChunkCheck::new(footer.chunks.clone());
        let mut pieces = bucket.get_stream(key, 0..footer.log_bytes).await?;
        while let Some(piece) = pieces.try_next().await? {
            check.feed(&piece).map_err(|chunk| UploadError::Verification(format!("chunk {chunk} fails its CRC")))?;
        }
        if !check.is_complete() {
            return Err(UploadError::Verification("it ends too early".to_owned()));
        }
        Ok(())
    }
}

fn read_tail(tail: &[u8], object_bytes: u64) -> Result<Footer, crate::object::footer::FooterError> {
    let short = crate::object::footer::FooterError::Malformed("length");
    let (footer, trailer) = tail.split_last_chunk::<TRAILER_LEN>().ok_or(short)?;
    Footer::parse(footer, &Trailer::parse(trailer, object_bytes)?)
}
