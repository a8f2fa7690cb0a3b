//! ShareFetch and ShareAcknowledge requests, v1 and v2, and the ShareAcknowledge answer at v2: the crate ends at v1. v2 has
//! the acquire mode (KIP-1206) and renewed locks (KIP-1222).

use std::ops::RangeInclusive;

use bytes::BytesMut;
use uuid::Uuid;

use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

/// Versions read here; all of them are flexible.
pub const VERSIONS: RangeInclusive<i16> = 1..=2;
const RENEWS_FROM: i16 = 2;

/// What is said of a range of records; the numbers are checked by whoever acts on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgementBatch {
    /// First offset.
    pub first_offset: i64,
    /// Last offset, inclusive.
    pub last_offset: i64,
    /// One type for all, or one for each.
    pub types: Vec<i8>,
}

/// A partition of a topic, and what is said of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPartition {
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub partition: i32,
    /// What is said of its records.
    pub batches: Vec<AcknowledgementBatch>,
}

/// A member asks for records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareFetchRequest {
    /// The group.
    pub group_id: Option<String>,
    /// The member.
    pub member_id: Option<String>,
    /// Of its share session.
    pub session_epoch: i32,
    /// How long it waits.
    pub max_wait_ms: i32,
    /// Bytes that end the wait.
    pub min_bytes: i32,
    /// Bytes that it takes.
    pub max_bytes: i32,
    /// Records that it takes.
    pub max_records: i32,
    /// 1: not one record more; from v2.
    pub acquire_mode: i8,
    /// It renews locks; from v2.
    pub is_renew: bool,
    /// What it names, in order.
    pub partitions: Vec<SharedPartition>,
    /// What leaves its session.
    pub forgotten: Vec<(Uuid, i32)>,
}

/// A member says what became of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareAcknowledgeRequest {
    /// The group.
    pub group_id: Option<String>,
    /// The member.
    pub member_id: Option<String>,
    /// Of its share session.
    pub session_epoch: i32,
    /// It renews locks; from v2.
    pub is_renew: bool,
    /// What it names, in order.
    pub partitions: Vec<SharedPartition>,
}

fn begin(version: i16, body: &[u8]) -> Result<Cursor<'_>, ReadError> {
    if !VERSIONS.contains(&version) {
        return Err(ReadError::Version(version));
    }
    Ok(Cursor::new(body, true))
}

fn partitions(fields: &mut Cursor<'_>) -> Result<Vec<SharedPartition>, ReadError> {
    let mut all = Vec::new();
    for _ in 0..fields.array(18)?.ok_or(ReadError::Null)? {
        let topic = fields.uuid()?;
        for _ in 0..fields.array(6)?.ok_or(ReadError::Null)? {
            let partition = fields.i32()?;
            let mut batches = Vec::new();
            for _ in 0..fields.array(18)?.ok_or(ReadError::Null)? {
                let (first_offset, last_offset) = (fields.i64()?, fields.i64()?);
                let count = fields.array(1)?.ok_or(ReadError::Null)?;
                let types = (0..count).map(|_| fields.i8()).collect::<Result<_, _>>()?;
                fields.skip_tags()?;
                batches.push(AcknowledgementBatch { first_offset, last_offset, types });
            }
            fields.skip_tags()?;
            all.push(SharedPartition { topic, partition, batches });
        }
        fields.skip_tags()?;
    }
    Ok(all)
}

impl ShareFetchRequest {
    /// Reads a request body.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, ReadError> {
        let mut fields = begin(version, body)?;
        let mut request = Self {
            group_id: fields.nullable_string()?.map(str::to_owned),
            member_id: fields.nullable_string()?.map(str::to_owned),
            session_epoch: fields.i32()?,
            max_wait_ms: fields.i32()?,
            min_bytes: fields.i32()?,
            max_bytes: fields.i32()?,
            max_records: fields.i32()?,
            acquire_mode: 0,
            is_renew: false,
            partitions: Vec::new(),
            forgotten: Vec::new(),
        };
        // How the acquired records are cut into ranges is ours.
        let _batch_size = fields.i32()?;
        if version >= RENEWS_FROM {
            (request.acquire_mode, request.is_renew) = (fields.i8()?, fields.i8()? != 0);
        }
        request.partitions = partitions(&mut fields)?;
        for _ in 0..fields.array(18)?.ok_or(ReadError::Null)? {
            let topic = fields.uuid()?;
            for _ in 0..fields.array(4)?.ok_or(ReadError::Null)? {
                request.forgotten.push((topic, fields.i32()?));
            }
            fields.skip_tags()?;
        }
        fields.skip_tags()?;
        Ok(request)
    }
}

impl ShareAcknowledgeRequest {
    /// Reads a request body.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, ReadError> {
        let mut fields = begin(version, body)?;
        let request = Self {
            group_id: fields.nullable_string()?.map(str::to_owned),
            member_id: fields.nullable_string()?.map(str::to_owned),
            session_epoch: fields.i32()?,
            is_renew: version >= RENEWS_FROM && fields.i8()? != 0,
            partitions: partitions(&mut fields)?,
        };
        fields.skip_tags()?;
        Ok(request)
    }
}

/// What became of what a member said, for each partition in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareAcknowledgeResponse {
    /// Of the request as a whole.
    pub error_code: i16,
    /// How long renewed locks hold; from v2.
    pub lock_timeout_ms: i32,
    /// Topic, partition, error code.
    pub partitions: Vec<(Uuid, i32, i16)>,
}

impl ShareAcknowledgeResponse {
    /// Writes the body behind what `out` has.
    pub fn encode(&self, version: i16, out: &mut BytesMut) {
        use bytes::BufMut;
        let mut put = Put { out, flexible: true };
        put.out.put_i32(0); // throttle time
        put.out.put_i16(self.error_code);
        put.nullable_string(None);
        if version >= RENEWS_FROM {
            put.out.put_i32(self.lock_timeout_ms);
        }
        let topics: Vec<_> = self.partitions.chunk_by(|a, b| a.0 == b.0).collect();
        put.len(Some(topics.len()));
        for partitions in topics {
            put.uuid(partitions[0].0);
            put.len(Some(partitions.len()));
            for (_, partition, error_code) in partitions {
                put.out.put_i32(*partition);
                put.out.put_i16(*error_code);
                put.nullable_string(None);
                put.out.put_i32(0); // current leader: none is named
                put.out.put_i32(0);
                put.tags(0);
                put.tags(0);
            }
            put.tags(0);
        }
        put.len(Some(0)); // node endpoints
        put.tags(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::share_fetch_request as crate_fetch;
    use kafka_protocol::messages::{GroupId, share_acknowledge_request as crate_acknowledge};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    type Named = Vec<(u128, Vec<(i32, Vec<(i64, i64, Vec<i8>)>)>)>;

    fn named() -> impl Strategy<Value = Named> {
        use proptest::collection::vec;
        let batch = (any::<i64>(), any::<i64>(), vec(any::<i8>(), 0..3));
        vec((any::<u128>(), vec((any::<i32>(), vec(batch, 0..3)), 0..3)), 0..3)
    }

    fn ours(named: &Named) -> Vec<SharedPartition> {
        let each = named.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |one| (*topic, one)));
        each.map(|(topic, (partition, batches))| SharedPartition {
            topic: Uuid::from_u128(topic),
            partition: *partition,
            batches: batches
                .iter()
                .map(|(first_offset, last_offset, types)| AcknowledgementBatch {
                    first_offset: *first_offset,
                    last_offset: *last_offset,
                    types: types.clone(),
                })
                .collect(),
        })
        .collect()
    }

    proptest! {
        #[test]
        fn version_1_is_the_crates(named in named(), numbers: [i32; 6], forgotten: Vec<(u128, Vec<i32>)>) {
            let group = Some(GroupId(StrBytes::from_static_str("g")));
            let member = Some(StrBytes::from_static_str("m"));
            let topics = named.iter().map(|(topic, partitions)| {
                let partitions = partitions.iter().map(|(index, batches)| {
                    let batches = batches.iter().map(|(first, last, types)| {
                        crate_fetch::AcknowledgementBatch::default()
                            .with_first_offset(*first)
                            .with_last_offset(*last)
                            .with_acknowledge_types(types.clone())
                    });
                    crate_fetch::FetchPartition::default()
                        .with_partition_index(*index)
                        .with_acknowledgement_batches(batches.collect())
                });
                crate_fetch::FetchTopic::default()
                    .with_topic_id(Uuid::from_u128(*topic))
                    .with_partitions(partitions.collect())
            });
            let theirs = crate_fetch::ShareFetchRequest::default()
                .with_group_id(group.clone())
                .with_member_id(member.clone())
                .with_share_session_epoch(numbers[0])
                .with_max_wait_ms(numbers[1])
                .with_min_bytes(numbers[2])
                .with_max_bytes(numbers[3])
                .with_max_records(numbers[4])
                .with_batch_size(numbers[5])
                .with_topics(topics.collect())
                .with_forgotten_topics_data(forgotten.iter().map(|(topic, partitions)| {
                    crate_fetch::ForgottenTopic::default()
                        .with_topic_id(Uuid::from_u128(*topic))
                        .with_partitions(partitions.clone())
                }).collect());
            let mut bytes = BytesMut::new();
            theirs.encode(&mut bytes, 1).unwrap();
            let expected = ShareFetchRequest {
                group_id: Some("g".into()),
                member_id: Some("m".into()),
                session_epoch: numbers[0],
                max_wait_ms: numbers[1],
                min_bytes: numbers[2],
                max_bytes: numbers[3],
                max_records: numbers[4],
                acquire_mode: 0,
                is_renew: false,
                partitions: ours(&named),
                forgotten: forgotten
                    .iter()
                    .flat_map(|(topic, partitions)| partitions.iter().map(|one| (Uuid::from_u128(*topic), *one)))
                    .collect(),
            };
            prop_assert_eq!(ShareFetchRequest::decode(1, &bytes), Ok(expected));

            let topics = named.iter().map(|(topic, partitions)| {
                let partitions = partitions.iter().map(|(index, batches)| {
                    let batches = batches.iter().map(|(first, last, types)| {
                        crate_acknowledge::AcknowledgementBatch::default()
                            .with_first_offset(*first)
                            .with_last_offset(*last)
                            .with_acknowledge_types(types.clone())
                    });
                    crate_acknowledge::AcknowledgePartition::default()
                        .with_partition_index(*index)
                        .with_acknowledgement_batches(batches.collect())
                });
                crate_acknowledge::AcknowledgeTopic::default()
                    .with_topic_id(Uuid::from_u128(*topic))
                    .with_partitions(partitions.collect())
            });
            let theirs = crate_acknowledge::ShareAcknowledgeRequest::default()
                .with_group_id(group)
                .with_member_id(member)
                .with_share_session_epoch(numbers[0])
                .with_topics(topics.collect());
            let mut bytes = BytesMut::new();
            theirs.encode(&mut bytes, 1).unwrap();
            let expected = ShareAcknowledgeRequest {
                group_id: Some("g".into()),
                member_id: Some("m".into()),
                session_epoch: numbers[0],
                is_renew: false,
                partitions: ours(&named),
            };
            prop_assert_eq!(ShareAcknowledgeRequest::decode(1, &bytes), Ok(expected));
        }

        #[test]
        fn the_answer_at_version_1_is_the_crates(partitions: Vec<(u8, i32, i16)>, error_code: i16) {
            let partitions: Vec<_> =
                partitions.into_iter().map(|(topic, one, code)| (Uuid::from_u128(topic.into()), one, code)).collect();
            let ours = ShareAcknowledgeResponse { error_code, lock_timeout_ms: 5, partitions };
            let mut bytes = BytesMut::new();
            ours.encode(1, &mut bytes);
            let mut left: Bytes = bytes.freeze();
            let theirs = kafka_protocol::messages::ShareAcknowledgeResponse::decode(&mut left, 1).unwrap();
            prop_assert!(left.is_empty());
            prop_assert_eq!(theirs.error_code, error_code);
            let read = theirs.responses.iter().flat_map(|topic| {
                topic.partitions.iter().map(|one| (topic.topic_id, one.partition_index, one.error_code))
            });
            prop_assert_eq!(read.collect::<Vec<_>>(), ours.partitions);
        }

        #[test]
        fn any_bytes_are_refused_or_read(version in 0i16..4, bytes: Vec<u8>) {
            let _ = ShareFetchRequest::decode(version, &bytes);
            let _ = ShareAcknowledgeRequest::decode(version, &bytes);
        }
    }
}
