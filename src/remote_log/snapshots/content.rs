//! The sections of a metadata snapshot that this broker writes and a restore reads: the image as JSON, the tiered partitions,
//! and what metadata holds beside the image. docs/formats.md has the layout.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::metadata::features::Feature;
use crate::metadata::image::{Change, ConfigOverrides, Image, PartitionId, Topic};
use crate::metadata::quotas::{QuotaEntity, Quotas};
use crate::protocol::record_batch::{LeaderEpoch, Offset, ProducerId};

/// A section that is not what its type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the section of the {section} cannot be read: {why}")]
pub struct BadSection {
    section: &'static str,
    why: String,
}

impl BadSection {
    /// It is not there.
    pub fn missing(section: &'static str) -> Self {
        Self { section, why: "the snapshot has none".to_owned() }
    }
}

fn bad(section: &'static str) -> impl Fn(&dyn std::fmt::Display) -> BadSection {
    move |why| BadSection { section, why: why.to_string() }
}

/// The metadata image as a snapshot has it.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotImage {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Boot counter of the broker that wrote it.
    pub node_epoch: LeaderEpoch,
    /// All topics.
    pub topics: Vec<Topic>,
    /// Everything else, as it is committed to an empty store.
    pub settings: Vec<Change>,
    /// Features that this program doesn't know, with their levels.
    pub unknown_features: Vec<(String, i16)>,
}

/// The JSON; a field that a reader does not know is skipped.
#[derive(Serialize, Deserialize)]
struct ImageJson<'a> {
    generation: u64,
    cluster_id: Cow<'a, str>,
    node_epoch: i32,
    topics: Vec<TopicJson<'a>>,
    broker_configs: Cow<'a, BTreeMap<String, ConfigOverrides>>,
    group_configs: Cow<'a, BTreeMap<String, ConfigOverrides>>,
    client_metrics: Cow<'a, BTreeMap<String, ConfigOverrides>>,
    client_quotas: Vec<QuotaJson<'a>>,
    features: BTreeMap<Cow<'a, str>, i16>,
}

#[derive(Serialize, Deserialize)]
struct TopicJson<'a> {
    id: String,
    name: Cow<'a, str>,
    partitions: i32,
    replication_factor: i16,
    config: Cow<'a, ConfigOverrides>,
}

#[derive(Serialize, Deserialize)]
struct QuotaJson<'a> {
    entity: Cow<'a, QuotaEntity>,
    quotas: Cow<'a, Quotas>,
}

/// The section of the image.
pub fn encode_image(image: &Image) -> Bytes {
    let json = ImageJson {
        generation: image.generation,
        cluster_id: Cow::Borrowed(&image.cluster_id),
        node_epoch: image.node_epoch,
        topics: image
            .topics
            .values()
            .map(|each| TopicJson {
                id: each.id.simple().to_string(),
                name: Cow::Borrowed(&each.name),
                partitions: each.partition_count,
                replication_factor: each.replication_factor,
                config: Cow::Borrowed(&each.config),
            })
            .collect(),
        broker_configs: Cow::Borrowed(&image.broker_configs),
        group_configs: Cow::Borrowed(&image.group_configs),
        client_metrics: Cow::Borrowed(&image.client_metrics),
        client_quotas: image
            .client_quotas
            .iter()
            .map(|(entity, quotas)| QuotaJson { entity: Cow::Borrowed(entity), quotas: Cow::Borrowed(quotas) })
            .collect(),
        features: Feature::ALL
            .map(|feature| (Cow::Borrowed(feature.name()), image.features.level(feature)))
            .into_iter()
            .collect(),
    };
    serde_json::to_vec(&json).expect("all keys are strings").into()
}

/// The image of a section.
pub fn decode_image(bytes: &[u8]) -> Result<SnapshotImage, BadSection> {
    let bad = bad("metadata image");
    let json: ImageJson<'_> = serde_json::from_slice(bytes).map_err(|error| bad(&error))?;
    let topic = |each: TopicJson<'_>| {
        let id = Uuid::try_parse(&each.id).map_err(|error| bad(&error))?;
        if each.partitions < 1 {
            return Err(bad(&format_args!("topic {} has {} partitions", each.name, each.partitions)));
        }
        Ok(Topic {
            id,
            name: each.name.into(),
            partition_count: each.partitions,
            replication_factor: each.replication_factor,
            config: each.config.into_owned(),
        })
    };
    let topics = json.topics.into_iter().map(topic).collect::<Result<_, _>>()?;
    let mut settings = Vec::new();
    settings.extend(
        json.broker_configs.into_owned().into_iter().map(|(broker, config)| Change::SetBrokerConfig { broker, config }),
    );
    settings.extend(
        json.group_configs.into_owned().into_iter().map(|(group, config)| Change::SetGroupConfig { group, config }),
    );
    settings.extend(
        json.client_metrics
            .into_owned()
            .into_iter()
            .map(|(subscription, config)| Change::SetClientMetrics { subscription, config }),
    );
    settings.extend(
        json.client_quotas
            .into_iter()
            .map(|QuotaJson { entity, quotas }| (entity.into_owned(), quotas.into_owned()))
            .map(|(entity, quotas)| Change::SetClientQuotas { entity, quotas }),
    );
    let mut unknown_features = Vec::new();
    for (name, level) in json.features {
        match Feature::named(&name) {
            Some(feature) if (feature.supported().0..=feature.supported().1).contains(&level) || level == 0 => {
                settings.push(Change::SetFeature { feature, level });
            }
            _ => unknown_features.push((name.into_owned(), level)),
        }
    }
    Ok(SnapshotImage {
        cluster_id: json.cluster_id.into_owned(),
        node_epoch: json.node_epoch,
        topics,
        settings,
        unknown_features,
    })
}

/// A partition with remote state: its id, its log start, and its tier end or -1.
pub type TieredPartition = (PartitionId, Offset, Offset);

const TIERED_BYTES: usize = 36;

/// The section of the tiered partitions.
pub fn encode_tiered(tiered: &[TieredPartition]) -> Bytes {
    let mut out = Vec::with_capacity(4 + tiered.len() * TIERED_BYTES);
    out.put_u32(u32::try_from(tiered.len()).unwrap_or(u32::MAX));
    for (id, log_start, tier_end) in tiered {
        out.put_slice(id.topic.as_bytes());
        out.put_i32(id.partition);
        out.put_i64(*log_start);
        out.put_i64(*tier_end);
    }
    out.into()
}

/// The tiered partitions of a section.
pub fn decode_tiered(bytes: &[u8]) -> Result<Vec<TieredPartition>, BadSection> {
    let bad = bad("tiered partitions");
    let mut at = bytes;
    let count = at.try_get_u32().map_err(|error| bad(&error))? as usize;
    let (entries, rest) = at.as_chunks::<TIERED_BYTES>();
    if entries.len() != count || !rest.is_empty() {
        return Err(bad(&format_args!("{count} entries in {} bytes", at.len())));
    }
    let entry = |entry: &[u8; TIERED_BYTES]| {
        let mut at = &entry[..];
        let topic = Uuid::from_u128(at.get_u128());
        let id = PartitionId { topic, partition: at.get_i32() };
        (id, at.get_i64(), at.get_i64())
    };
    Ok(entries.iter().map(entry).collect())
}

/// The section of ACLs, SCRAM credentials and delegation tokens.
pub fn encode_security(records: &BTreeMap<String, Vec<u8>>) -> Bytes {
    let mut out = Vec::new();
    for (key, record) in records {
        for bytes in [key.as_bytes(), record] {
            out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            out.put_slice(bytes);
        }
    }
    out.into()
}

/// The records of such a section.
pub fn decode_security(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, BadSection> {
    let bad = bad("security records");
    let mut at = bytes;
    let mut records = BTreeMap::new();
    let take = |at: &mut &[u8]| -> Result<Vec<u8>, BadSection> {
        let length = at.try_get_u32().map_err(|error| bad(&error))? as usize;
        let (taken, rest) = at.split_at_checked(length).ok_or_else(|| bad(&"it is cut short"))?;
        *at = rest;
        Ok(taken.to_vec())
    };
    while !at.is_empty() {
        let key = String::from_utf8(take(&mut at)?).map_err(|error| bad(&error))?;
        records.insert(key, take(&mut at)?);
    }
    Ok(records)
}

/// The section of the producer ids.
pub fn encode_producer_ids(next: ProducerId) -> Bytes {
    Bytes::copy_from_slice(&next.to_be_bytes())
}

/// The first producer id that nobody was given.
pub fn decode_producer_ids(bytes: &[u8]) -> Result<ProducerId, BadSection> {
    let bytes = bytes.try_into().map_err(|error: std::array::TryFromSliceError| bad("producer ids")(&error))?;
    Ok(ProducerId::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_image_comes_back_as_the_changes_that_made_it() {
        let topic = Topic {
            id: Uuid::from_u128(7),
            name: "a\"b".into(),
            partition_count: 3,
            replication_factor: 1,
            config: [("retention.ms".to_owned(), "5".to_owned())].into(),
        };
        let config = ConfigOverrides::from([("k".to_owned(), "v".to_owned())]);
        let entity = QuotaEntity::from([("user".to_owned(), Some("u".to_owned())), ("client-id".to_owned(), None)]);
        let settings = vec![
            Change::SetBrokerConfig { broker: String::new(), config: config.clone() },
            Change::SetGroupConfig { group: "g".to_owned(), config: config.clone() },
            Change::SetClientMetrics { subscription: "s".to_owned(), config },
            Change::SetClientQuotas { entity, quotas: [("producer_byte_rate".to_owned(), 0.1)].into() },
            Change::SetFeature { feature: Feature::Group, level: 0 },
        ];
        let mut image = Image { cluster_id: "c".into(), node_epoch: 4, generation: 9, ..Image::default() };
        for change in std::iter::once(&Change::CreateTopic(topic.clone())).chain(&settings) {
            image.apply(change).expect("fits");
        }
        let read = decode_image(&encode_image(&image)).expect("our own");
        assert_eq!((read.cluster_id.as_str(), read.node_epoch, &read.topics), ("c", 4, &vec![topic.clone()]));
        let mut again = Image::default();
        for change in std::iter::once(&Change::CreateTopic(topic)).chain(&read.settings) {
            again.apply(change).expect("fits");
        }
        assert_eq!(
            encode_image(&Image { cluster_id: "c".into(), node_epoch: 4, generation: 9, ..again }),
            encode_image(&image)
        );
    }

    #[test]
    fn a_feature_of_a_newer_program_is_named() {
        let text = String::from_utf8(encode_image(&Image::default()).to_vec()).expect("text");
        let read = decode_image(text.replace("share.version", "newer.version").as_bytes()).expect("readable");
        assert_eq!(read.unknown_features, [("newer.version".to_owned(), 1)]);
    }

    proptest! {
        #[test]
        fn sections_come_back_as_written(
            tiered in proptest::collection::vec((any::<u128>(), any::<i32>(), any::<i64>(), any::<i64>()), 0..5),
            records in proptest::collection::btree_map(".{0,9}", proptest::collection::vec(any::<u8>(), 0..9), 0..5),
            next: i64, cut in 1usize..40,
        ) {
            let id = |topic, partition| PartitionId { topic: Uuid::from_u128(topic), partition };
            let tiered: Vec<_> = tiered.into_iter().map(|(t, p, start, end)| (id(t, p), start, end)).collect();
            let bytes = encode_tiered(&tiered);
            prop_assert_eq!(decode_tiered(&bytes), Ok(tiered));
            prop_assert!(decode_tiered(&bytes[..bytes.len().saturating_sub(cut)]).is_err());
            prop_assert_eq!(decode_security(&encode_security(&records)), Ok(records));
            prop_assert_eq!(decode_producer_ids(&encode_producer_ids(next)), Ok(next));
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let _ = decode_image(&bytes);
            let _ = decode_tiered(&bytes);
            let _ = decode_security(&bytes);
            let _ = decode_producer_ids(&bytes);
        }
    }
}
