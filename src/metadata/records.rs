//! The rows of `meta.redb` for the metadata image: one JSON object each, with its version in it. They are few and
//! rarely written, so that reading them with an editor is worth more than their size. docs/formats.md lists them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::image::{ConfigOverrides, Topic};
use super::quotas::{QuotaEntity, Quotas};

const VERSION: u32 = 1;

/// Bytes of a row that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// Written by a newer version.
    #[error("row of version {0} is newer than this program")]
    Newer(u32),
    /// Not what any version writes.
    #[error("row is damaged: {0}")]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct TopicRow {
    v: u32,
    name: String,
    partitions: i32,
    replication_factor: i16,
    config: ConfigOverrides,
}

#[derive(Serialize, Deserialize)]
struct ConfigRow {
    v: u32,
    config: ConfigOverrides,
}

#[derive(Serialize, Deserialize)]
struct QuotaRow {
    v: u32,
    quotas: Quotas,
}

#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

/// The row of one topic; its id is the key.
pub(super) fn encode_topic(topic: &Topic) -> Vec<u8> {
    encode(&TopicRow {
        v: VERSION,
        name: topic.name.to_string(),
        partitions: topic.partition_count,
        replication_factor: topic.replication_factor,
        config: topic.config.clone(),
    })
}

/// The topic of a row.
pub(super) fn decode_topic(id: Uuid, bytes: &[u8]) -> Result<Topic, BadRow> {
    let row: TopicRow = decode(bytes)?;
    Ok(Topic {
        id,
        name: row.name.into(),
        partition_count: row.partitions,
        replication_factor: row.replication_factor,
        config: row.config,
    })
}

/// The row of the overrides of a broker or group.
pub(super) fn encode_config(config: &ConfigOverrides) -> Vec<u8> {
    encode(&ConfigRow { v: VERSION, config: config.clone() })
}

/// The overrides of a row.
pub(super) fn decode_config(bytes: &[u8]) -> Result<ConfigOverrides, BadRow> {
    Ok(decode::<ConfigRow>(bytes)?.config)
}

/// The key of the row of one entity's quotas.
pub(super) fn encode_entity(entity: &QuotaEntity) -> String {
    serde_json::to_string(entity).expect("entities have string keys and no floats")
}

/// The entity of a row's key.
pub(super) fn decode_entity(key: &str) -> Result<QuotaEntity, BadRow> {
    serde_json::from_str(key).map_err(|error| BadRow::Damaged(error.to_string()))
}

/// The row of one entity's quotas, which are finite numbers.
pub(super) fn encode_quotas(quotas: &Quotas) -> Vec<u8> {
    encode(&QuotaRow { v: VERSION, quotas: quotas.clone() })
}

/// The quotas of a row.
pub(super) fn decode_quotas(bytes: &[u8]) -> Result<Quotas, BadRow> {
    Ok(decode::<QuotaRow>(bytes)?.quotas)
}

fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows have string keys")
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadRow> {
    let damaged = |error: serde_json::Error| BadRow::Damaged(error.to_string());
    // The version first: what a newer program wrote is not damage.
    let found = serde_json::from_slice::<Versioned>(bytes).map_err(damaged)?.v;
    if found > VERSION {
        return Err(BadRow::Newer(found));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_topic(Uuid::nil(), &bytes);
            let _ = decode_config(&bytes);
            let _ = decode_quotas(&bytes);
            let _ = decode_entity(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn topics_come_back_as_written(
            name in "[a-zA-Z0-9._-]{1,40}", partition_count: i32, replication_factor: i16,
            config in proptest::collection::btree_map(".{0,20}", ".{0,20}", 0..5),
        ) {
            let topic = Topic { id: Uuid::from_u128(9), name: name.into(), partition_count, replication_factor, config };
            prop_assert_eq!(decode_topic(topic.id, &encode_topic(&topic)), Ok(topic));
        }
    }

    #[test]
    fn quotas_come_back_as_written() {
        let entity = QuotaEntity::from([("user".to_owned(), Some("a\"b".to_owned())), ("client-id".to_owned(), None)]);
        assert_eq!(decode_entity(&encode_entity(&entity)), Ok(entity));
        let quotas = Quotas::from([("producer_byte_rate".to_owned(), 0.1), ("request_percentage".to_owned(), 1e300)]);
        assert_eq!(decode_quotas(&encode_quotas(&quotas)), Ok(quotas));
    }

    #[test]
    fn a_row_of_a_newer_program_is_told_from_damage() {
        assert_eq!(decode_config(br#"{"v":2,"more":[]}"#), Err(BadRow::Newer(2)));
        assert!(matches!(decode_config(br#"{"v":1}"#), Err(BadRow::Damaged(_))));
    }
}
