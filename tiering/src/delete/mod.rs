//! Removing objects: those that a partition no longer names, and those that nobody ever named.

pub mod sweeper;

use crate::names::ObjectRef;
use crate::platform::crash_point::{self, CrashPoint};
use crate::store::StoreError;
use crate::store::meter::Purpose;
use crate::tier::Tier;

impl Tier {
    /// Deletes a segment object; fine when it is already gone.
    pub async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        self.bucket.on(Purpose::Delete).delete(&self.names.segment(object)).await?;
        crash_point::reach(CrashPoint::RemoteDeleteAfterDelete);
        Ok(())
    }
}
