//! OffsetFetch 1-10: how far groups have read.
//!
//! Versions: 2 all topics, error of the group; 5 leader epoch (KIP-320); 6 flexible; 7 require stable (KIP-447); 8 several groups (KIP-709); 9 members of consumer groups (KIP-848); 10 topics by id.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, TopicName};
use uuid::Uuid;

use super::text::text;
use super::{Call, Disconnect, Frame, Node, encode};
use crate::group::offsets::{FetchRequest, FetchTopic, FetchTopics, FetchedOffset};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest, OffsetFetchTopic};

const GROUP_ERROR_FROM: i16 = 2;
const GROUPS_FROM: i16 = 8;
const TOPIC_IDS_FROM: i16 = 10;

/// One topic of an answer.
struct Found {
    name: Arc<str>,
    id: Uuid,
    partitions: Vec<(i32, FetchedOffset)>,
}

/// Reads and answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request =
        OffsetFetchRequest::decode(call.version, &body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in &request.groups {
        groups.push((group, fetch(node, call.version, group, request.require_stable).await));
    }
    let response = match call.version {
        GROUPS_FROM.. => OffsetFetchResponse::default()
            .with_groups(groups.into_iter().map(|(group, found)| of_group(group, found)).collect()),
        version => of_one_group(version, groups.pop()),
    };
    encode(call, call.version, &response)
}

async fn fetch(
    node: &Node,
    version: i16,
    group: &OffsetFetchGroup,
    require_stable: bool,
) -> Result<Vec<Found>, ErrorCode> {
    let image = node.metadata.image();
    let request = |topics| FetchRequest {
        group: group.group_id.as_str().into(),
        member_id: group.member_id.as_deref().map(Arc::from),
        member_epoch: group.member_epoch,
        require_stable,
        topics,
    };
    let Some(asked) = &group.topics else {
        let all = node.groups.fetch(request(FetchTopics::All)).await?;
        let found = all.into_iter().map(|(name, partitions)| Found {
            id: image.topic(&name).map(|topic| topic.id).unwrap_or_default(),
            name,
            partitions,
        });
        // By id nothing can be said of a topic that is gone.
        return Ok(found.filter(|found| version < TOPIC_IDS_FROM || !found.id.is_nil()).collect());
    };
    let names: Vec<_> = asked.iter().map(|topic| name_of(&image, version, topic)).collect();
    let known = asked.iter().zip(&names).filter_map(|(topic, name)| {
        let topic_id = topic.topic_id;
        name.as_ref().map(|name| FetchTopic {
            topic: Arc::clone(name),
            topic_id,
            partitions: topic.partition_indexes.clone(),
        })
    });
    let mut fetched = node.groups.fetch(request(FetchTopics::These(known.collect()))).await?.into_iter();
    let found = asked.iter().zip(names).map(|(topic, name)| {
        let partitions = match name.as_ref().and_then(|_| fetched.next()) {
            Some((_, partitions)) => partitions,
            None => topic.partition_indexes.iter().map(|&index| (index, Err(ErrorCode::UnknownTopicId))).collect(),
        };
        Found { name: name.unwrap_or_default(), id: topic.topic_id, partitions }
    });
    Ok(found.collect())
}

/// A topic that is named need not exist: its offsets may outlive it for a moment.
fn name_of(image: &Image, version: i16, topic: &OffsetFetchTopic) -> Option<Arc<str>> {
    match version {
        TOPIC_IDS_FROM.. => image.topic_by_id(&topic.topic_id).map(|topic| Arc::clone(&topic.name)),
        _ => Some(topic.name.as_str().into()),
    }
}

fn of_group(group: &OffsetFetchGroup, found: Result<Vec<Found>, ErrorCode>) -> OffsetFetchResponseGroup {
    let answer = OffsetFetchResponseGroup::default().with_group_id(GroupId(text(&group.group_id)));
    match found {
        Err(error) => answer.with_error_code(error.code()),
        Ok(found) => answer.with_topics(
            found
                .into_iter()
                .map(|found| {
                    let partitions = found.partitions.iter().map(|(index, committed)| {
                        let (offset, epoch, metadata, error) = fields(committed);
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(*index)
                            .with_committed_offset(offset)
                            .with_committed_leader_epoch(epoch)
                            .with_metadata(Some(text(metadata)))
                            .with_error_code(error.code())
                    });
                    OffsetFetchResponseTopics::default()
                        .with_name(TopicName(text(&found.name)))
                        .with_topic_id(found.id)
                        .with_partitions(partitions.collect())
                })
                .collect(),
        ),
    }
}

/// Versions before 8 have one group, and the first of them no place for its error.
fn of_one_group(
    version: i16,
    group: Option<(&OffsetFetchGroup, Result<Vec<Found>, ErrorCode>)>,
) -> OffsetFetchResponse {
    let Some((group, found)) = group else { return OffsetFetchResponse::default() };
    let found = match found {
        Ok(found) => found,
        Err(error) if version >= GROUP_ERROR_FROM => {
            return OffsetFetchResponse::default().with_error_code(error.code());
        }
        Err(error) => group.topics.iter().flatten().map(|topic| all_failed(topic, error)).collect(),
    };
    let topics = found.into_iter().map(|found| {
        let partitions = found.partitions.iter().map(|(index, committed)| {
            let (offset, epoch, metadata, error) = fields(committed);
            OffsetFetchResponsePartition::default()
                .with_partition_index(*index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(text(metadata)))
                .with_error_code(error.code())
        });
        OffsetFetchResponseTopic::default()
            .with_name(TopicName(text(&found.name)))
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn all_failed(topic: &OffsetFetchTopic, error: ErrorCode) -> Found {
    Found {
        name: topic.name.as_str().into(),
        id: Uuid::nil(),
        partitions: topic.partition_indexes.iter().map(|&index| (index, Err(error))).collect(),
    }
}

/// No offset is -1, which is no error.
fn fields(committed: &FetchedOffset) -> (i64, i32, &str, ErrorCode) {
    match committed {
        Ok(Some(committed)) => (committed.offset, committed.leader_epoch, &committed.metadata, ErrorCode::None),
        Ok(None) => (-1, -1, "", ErrorCode::None),
        Err(error) => (-1, -1, "", *error),
    }
}
