//! Does the store create "if absent"? Everything that keeps two brokers apart rests on it. And does it take writes?

use super::Bucket;
use super::bucket::Created;
use super::error::StoreError;
use crate::names::Names;
use crate::platform::random::SharedRandom;
use crate::tier::TierError;

pub(crate) async fn create_if_absent(
    bucket: &Bucket,
    names: &Names,
    uri: &str,
    random: &SharedRandom,
) -> Result<(), TierError> {
    let key = names.probe(random.uuid());
    match bucket.create(&key, "first").await {
        Ok(_) => {}
        // A key that is to be created cannot be missing; what holds it can.
        Err(StoreError::NotFound(_)) => return Err(TierError::Uri(format!("the bucket of '{uri}' does not exist"))),
        Err(error) => return Err(error.into()),
    }
    let second = bucket.create(&key, "second").await?;
    bucket.delete(&key).await?;
    match second {
        Created::Exists => Ok(()),
        Created::New => Err(TierError::NotConditional(uri.to_owned())),
    }
}

/// Does the store take writes again?
pub(crate) async fn write(bucket: &Bucket, names: &Names, random: &SharedRandom) -> Result<(), StoreError> {
    let key = names.probe(random.uuid());
    bucket.create(&key, "probe").await?;
    bucket.delete(&key).await
}
