//! The OffsetCommit request, v2 to v10: the crate ends at v9, v10 names topics by id (KIP-848). The answer is the crate's.
//!
//! v2 to v4 carry a retention time, which Kafka ignores since it expires offsets by group; v6 leader epoch, v7 instance id,
//! v8 flexible, v9 the epoch of a consumer group's member in place of the generation.

use std::ops::RangeInclusive;

use uuid::Uuid;

use crate::protocol::api_key::ApiKey;
use crate::protocol::cursor::{Cursor, ReadError};

/// Versions read here.
pub const VERSIONS: RangeInclusive<i16> = 2..=10;
const TOPIC_IDS_FROM: i16 = 10;

/// Offsets that a group wants to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group_id: String,
    /// Generation of a classic group, member epoch of a consumer group; -1 outside of both.
    pub generation_id_or_member_epoch: i32,
    /// Empty outside of a group.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
    /// In milliseconds, -1 for none; without effect.
    pub retention_time_ms: i64,
    /// What to commit.
    pub topics: Vec<OffsetCommitTopic>,
}

/// The offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitTopic {
    /// To v9; empty from v10.
    pub name: String,
    /// From v10; nil before.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<OffsetCommitPartition>,
}

/// The offset of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitPartition {
    /// Its number.
    pub partition_index: i32,
    /// Where to go on.
    pub committed_offset: i64,
    /// Epoch of the record before, or -1.
    pub committed_leader_epoch: i32,
    /// Whatever the client wants kept with it.
    pub committed_metadata: Option<String>,
}

impl OffsetCommitRequest {
    /// Reads a request body.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, ReadError> {
        if !VERSIONS.contains(&version) {
            return Err(ReadError::Version(version));
        }
        let mut fields = Cursor::new(body, ApiKey::OffsetCommit.is_flexible(version));
        let mut request = Self {
            group_id: fields.string()?.to_owned(),
            generation_id_or_member_epoch: fields.i32()?,
            member_id: fields.string()?.to_owned(),
            group_instance_id: if version >= 7 { fields.nullable_string()?.map(str::to_owned) } else { None },
            retention_time_ms: if version <= 4 { fields.i64()? } else { -1 },
            topics: Vec::new(),
        };
        for _ in 0..fields.array(1)?.ok_or(ReadError::Null)? {
            let by_id = version >= TOPIC_IDS_FROM;
            let mut topic = OffsetCommitTopic {
                name: if by_id { String::new() } else { fields.string()?.to_owned() },
                topic_id: if by_id { fields.uuid()? } else { Uuid::nil() },
                partitions: Vec::new(),
            };
            for _ in 0..fields.array(1)?.ok_or(ReadError::Null)? {
                topic.partitions.push(OffsetCommitPartition {
                    partition_index: fields.i32()?,
                    committed_offset: fields.i64()?,
                    committed_leader_epoch: if version >= 6 { fields.i32()? } else { -1 },
                    committed_metadata: fields.nullable_string()?.map(str::to_owned),
                });
                fields.skip_tags()?;
            }
            fields.skip_tags()?;
            request.topics.push(topic);
        }
        fields.skip_tags()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::offset_commit_request as crate_message;
    use kafka_protocol::messages::{GroupId, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn request()(
            version in 2..=9i16,
            texts in ("[a-z]{0,9}", "[a-z]{0,9}", option::of("[a-z]{0,9}")),
            generation: i32,
            retention: i64,
            topics in vec(("[a-z]{0,9}", vec((any::<(i32, i64, i32)>(), option::of("[a-z]{0,9}")), 0..4)), 0..4),
        ) -> (i16, OffsetCommitRequest) {
            (version, OffsetCommitRequest {
                group_id: texts.0,
                generation_id_or_member_epoch: generation,
                member_id: texts.1,
                group_instance_id: texts.2.filter(|_| version >= 7),
                retention_time_ms: if version <= 4 { retention } else { -1 },
                topics: topics.into_iter().map(|(name, partitions)| OffsetCommitTopic {
                    name,
                    topic_id: Uuid::nil(),
                    partitions: partitions.into_iter().map(|((index, offset, epoch), metadata)| OffsetCommitPartition {
                        partition_index: index,
                        committed_offset: offset,
                        committed_leader_epoch: if version >= 6 { epoch } else { -1 },
                        committed_metadata: metadata,
                    }).collect(),
                }).collect(),
            })
        }
    }

    fn by_crate(request: &OffsetCommitRequest) -> crate_message::OffsetCommitRequest {
        let text = |value: &str| StrBytes::from_string(value.to_owned());
        let partition = |partition: &OffsetCommitPartition| {
            crate_message::OffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_committed_metadata(partition.committed_metadata.as_deref().map(text))
        };
        let topic = |topic: &OffsetCommitTopic| {
            crate_message::OffsetCommitRequestTopic::default()
                .with_name(TopicName(text(&topic.name)))
                .with_partitions(topic.partitions.iter().map(partition).collect())
        };
        crate_message::OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&request.group_id)))
            .with_generation_id_or_member_epoch(request.generation_id_or_member_epoch)
            .with_member_id(text(&request.member_id))
            .with_group_instance_id(request.group_instance_id.as_deref().map(text))
            .with_retention_time_ms(request.retention_time_ms)
            .with_topics(request.topics.iter().map(topic).collect())
    }

    proptest! {
        #[test]
        fn what_the_crate_encodes_is_read((version, request) in request()) {
            let mut body = BytesMut::new();
            by_crate(&request).encode(&mut body, version).expect("encodes");
            for end in 0..body.len() {
                prop_assert!(OffsetCommitRequest::decode(version, &body[..end]).is_err());
            }
            prop_assert_eq!(OffsetCommitRequest::decode(version, &body), Ok(request));
        }
    }

    /// Bytes written by `OffsetCommitRequestData` of Kafka 4.3.1.
    #[test]
    fn version_10_names_topics_by_id() {
        let bytes = b"\x06group\0\0\0\x07\x07member\x09instance\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\x02\0\0\0\x03\0\0\0\0\0\0\0*\0\0\0\x05\x05meta\0\0\0";
        let expected = OffsetCommitRequest {
            group_id: "group".to_owned(),
            generation_id_or_member_epoch: 7,
            member_id: "member".to_owned(),
            group_instance_id: Some("instance".to_owned()),
            retention_time_ms: -1,
            topics: vec![OffsetCommitTopic {
                name: String::new(),
                topic_id: Uuid::from_u64_pair(1, 2),
                partitions: vec![OffsetCommitPartition {
                    partition_index: 3,
                    committed_offset: 42,
                    committed_leader_epoch: 5,
                    committed_metadata: Some("meta".to_owned()),
                }],
            }],
        };
        assert_eq!(OffsetCommitRequest::decode(10, bytes), Ok(expected));
    }
}
