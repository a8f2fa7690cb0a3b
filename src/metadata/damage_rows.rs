//! Rows of `meta.redb` that tell which segments of the tier were found damaged, so that a restart does not forget it.

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use uuid::Uuid;

use super::image::PartitionId;
use super::records::BadRow;
use super::remote_log::KnownDamage;
use super::remote_records::{self, PARTITION_KEY_BYTES};
use super::tables::REMOTE_DAMAGE;

/// Why is kept in so many bytes of text.
const WHAT_BYTES_MAX: usize = 1024;
const KEY_BYTES: usize = PARTITION_KEY_BYTES + 16;

fn key(partition: PartitionId, segment: Uuid) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..PARTITION_KEY_BYTES].copy_from_slice(&remote_records::partition_key(partition));
    key[PARTITION_KEY_BYTES..].copy_from_slice(segment.as_bytes());
    key
}

/// Notes what is wrong with a segment, or with `None` that nothing is any more.
pub(super) fn note(
    transaction: &WriteTransaction,
    partition: PartitionId,
    segment: Uuid,
    what: Option<&str>,
) -> Result<(), redb::Error> {
    let mut rows = transaction.open_table(REMOTE_DAMAGE)?;
    let key = key(partition, segment);
    match what {
        Some(what) => drop(rows.insert(key.as_slice(), &what[..what.floor_char_boundary(WHAT_BYTES_MAX)])?),
        None => drop(rows.remove(key.as_slice())?),
    }
    Ok(())
}

/// Forgets all of a partition.
pub(super) fn forget(transaction: &WriteTransaction, partition: PartitionId) -> Result<(), redb::Error> {
    let (first, last) = (key(partition, Uuid::nil()), key(partition, Uuid::max()));
    transaction.open_table(REMOTE_DAMAGE)?.retain_in(first.as_slice()..=last.as_slice(), |_, _| false)?;
    Ok(())
}

/// All that is known.
pub(super) fn read(database: &Database) -> Result<Result<Vec<KnownDamage>, BadRow>, redb::Error> {
    let rows = database.begin_read()?.open_table(REMOTE_DAMAGE)?;
    let mut found = Vec::new();
    for entry in rows.iter()? {
        let (key, what) = entry?;
        let (partition, segment) = key.value().split_at_checked(PARTITION_KEY_BYTES).unwrap_or_default();
        let partition = remote_records::decode_partition_key(partition);
        let segment = Uuid::from_slice(segment).map_err(|error| BadRow::Damaged(error.to_string()));
        match partition.and_then(|partition| segment.map(|segment| (partition, segment))) {
            Ok((partition, segment)) => {
                found.push(KnownDamage { partition, segment, what: what.value().to_owned() });
            }
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(found))
}
