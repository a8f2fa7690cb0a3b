//! Uploads one segment and verifies it.

use crate::tier::Tier;
use crate::upload::{SegmentUpload, UploadError, Uploaded};

impl Tier {
    /// Copies a segment and verifies the object. When this returns an error, parts of the object may exist under its key.
    pub async fn upload(&self, segment: SegmentUpload) -> Result<Uploaded, UploadError> {
        let _ = segment;
        todo!()
    }
}
