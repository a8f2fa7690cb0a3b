//! The OffsetFetch request, v1 to v10: the crate ends at v9, v10 names topics by id (KIP-848). The answer is the crate's.
//!
//! v2 null topics for all, v6 flexible, v7 require stable (KIP-447), v8 several groups (KIP-709), v9 member id and epoch
//! (KIP-848). Versions before 8 are read as a list of one group.

use std::ops::RangeInclusive;

use uuid::Uuid;

use crate::protocol::api_key::ApiKey;
use crate::protocol::cursor::{Cursor, ReadError};

/// Versions read here.
pub const VERSIONS: RangeInclusive<i16> = 1..=10;
const TOPIC_IDS_FROM: i16 = 10;

/// Which offsets a client wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchRequest {
    /// Exactly one before v8.
    pub groups: Vec<OffsetFetchGroup>,
    /// Answer with an error where a transaction that commits offsets is open.
    pub require_stable: bool,
}

/// What is asked of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchGroup {
    /// The group.
    pub group_id: String,
    /// Of a member of a consumer group.
    pub member_id: Option<String>,
    /// Of a member of a consumer group, else -1.
    pub member_epoch: i32,
    /// `None`: all topics.
    pub topics: Option<Vec<OffsetFetchTopic>>,
}

/// What is asked of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchTopic {
    /// To v9; empty from v10.
    pub name: String,
    /// From v10; nil before.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partition_indexes: Vec<i32>,
}

impl OffsetFetchRequest {
    /// Reads a request body.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, ReadError> {
        if !VERSIONS.contains(&version) {
            return Err(ReadError::Version(version));
        }
        let mut fields = Cursor::new(body, ApiKey::OffsetFetch.is_flexible(version));
        let mut groups = Vec::new();
        if version >= 8 {
            for _ in 0..fields.array(1)?.ok_or(ReadError::Null)? {
                groups.push(OffsetFetchGroup {
                    group_id: fields.string()?.to_owned(),
                    member_id: if version >= 9 { fields.nullable_string()?.map(str::to_owned) } else { None },
                    member_epoch: if version >= 9 { fields.i32()? } else { -1 },
                    topics: read_topics(&mut fields, version)?,
                });
                fields.skip_tags()?;
            }
        } else {
            let group_id = fields.string()?.to_owned();
            let topics = read_topics(&mut fields, version)?;
            groups.push(OffsetFetchGroup { group_id, member_id: None, member_epoch: -1, topics });
        }
        let require_stable = version >= 7 && fields.i8()? != 0;
        fields.skip_tags()?;
        Ok(Self { groups, require_stable })
    }
}

fn read_topics(fields: &mut Cursor<'_>, version: i16) -> Result<Option<Vec<OffsetFetchTopic>>, ReadError> {
    let Some(count) = fields.array(1)? else {
        return if version >= 2 { Ok(None) } else { Err(ReadError::Null) };
    };
    let mut topics = Vec::new();
    for _ in 0..count {
        let by_id = version >= TOPIC_IDS_FROM;
        let name = if by_id { String::new() } else { fields.string()?.to_owned() };
        let topic_id = if by_id { fields.uuid()? } else { Uuid::nil() };
        let partitions = fields.array(4)?.ok_or(ReadError::Null)?;
        let partition_indexes = (0..partitions).map(|_| fields.i32()).collect::<Result<_, _>>()?;
        fields.skip_tags()?;
        topics.push(OffsetFetchTopic { name, topic_id, partition_indexes });
    }
    Ok(Some(topics))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::offset_fetch_request as crate_message;
    use kafka_protocol::messages::{GroupId, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn group(version: i16) -> impl Strategy<Value = OffsetFetchGroup> {
        let topic = ("[a-z]{0,9}", vec(any::<i32>(), 0..4)).prop_map(|(name, partition_indexes)| OffsetFetchTopic {
            name,
            topic_id: Uuid::nil(),
            partition_indexes,
        });
        let topics = option::of(vec(topic, 0..4))
            .prop_map(move |topics| if version >= 2 { topics } else { Some(topics.unwrap_or_default()) });
        ("[a-z]{0,9}", option::of("[a-z]{0,9}"), any::<i32>(), topics).prop_map(
            move |(group_id, member_id, epoch, topics)| OffsetFetchGroup {
                group_id,
                member_id: member_id.filter(|_| version >= 9),
                member_epoch: if version >= 9 { epoch } else { -1 },
                topics,
            },
        )
    }

    fn request() -> impl Strategy<Value = (i16, OffsetFetchRequest)> {
        (1..=9i16).prop_flat_map(|version| {
            let groups = if version >= 8 { vec(group(version), 0..3) } else { vec(group(version), 1) };
            (groups, any::<bool>()).prop_map(move |(groups, stable)| {
                (version, OffsetFetchRequest { groups, require_stable: stable && version >= 7 })
            })
        })
    }

    fn by_crate(version: i16, request: &OffsetFetchRequest) -> crate_message::OffsetFetchRequest {
        let text = |value: &str| StrBytes::from_string(value.to_owned());
        let made = crate_message::OffsetFetchRequest::default().with_require_stable(request.require_stable);
        if version < 8 {
            let topic = |topic: &OffsetFetchTopic| {
                crate_message::OffsetFetchRequestTopic::default()
                    .with_name(TopicName(text(&topic.name)))
                    .with_partition_indexes(topic.partition_indexes.clone())
            };
            let group = &request.groups[0];
            return made
                .with_group_id(GroupId(text(&group.group_id)))
                .with_topics(group.topics.as_ref().map(|topics| topics.iter().map(topic).collect()));
        }
        let topic = |topic: &OffsetFetchTopic| {
            crate_message::OffsetFetchRequestTopics::default()
                .with_name(TopicName(text(&topic.name)))
                .with_partition_indexes(topic.partition_indexes.clone())
        };
        let group = |group: &OffsetFetchGroup| {
            crate_message::OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text(&group.group_id)))
                .with_member_id(group.member_id.as_deref().map(text))
                .with_member_epoch(group.member_epoch)
                .with_topics(group.topics.as_ref().map(|topics| topics.iter().map(topic).collect()))
        };
        made.with_groups(request.groups.iter().map(group).collect())
    }

    proptest! {
        #[test]
        fn what_the_crate_encodes_is_read((version, request) in request()) {
            let mut body = BytesMut::new();
            by_crate(version, &request).encode(&mut body, version).expect("encodes");
            for end in 0..body.len() {
                prop_assert!(OffsetFetchRequest::decode(version, &body[..end]).is_err());
            }
            prop_assert_eq!(OffsetFetchRequest::decode(version, &body), Ok(request));
        }
    }

    /// Bytes written by `OffsetFetchRequestData` of Kafka 4.3.1.
    #[test]
    fn version_10_names_topics_by_id() {
        let bytes = b"\x03\x04one\x07member\0\0\0\x07\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\x03\0\0\0\0\0\0\0\x09\0\0\x04all\x07member\0\0\0\x07\0\0\x01\0";
        let group = |group_id: &str, topics| OffsetFetchGroup {
            group_id: group_id.to_owned(),
            member_id: Some("member".to_owned()),
            member_epoch: 7,
            topics,
        };
        let topic = OffsetFetchTopic {
            name: String::new(),
            topic_id: Uuid::from_u64_pair(1, 2),
            partition_indexes: vec![0, 9],
        };
        let groups = vec![group("one", Some(vec![topic])), group("all", None)];
        assert_eq!(OffsetFetchRequest::decode(10, bytes), Ok(OffsetFetchRequest { groups, require_stable: true }));
    }
}
