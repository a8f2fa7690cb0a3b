//! DescribeShareGroupOffsets 0-1: where share groups are, and how much is left for them (KIP-932).
//!
//! Versions: 1 the lag (KIP-1226), which the crate does not know: the answer is ours.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequest;
use uuid::Uuid;

use super::text::shared;
use super::{Call, Disconnect, Frame, Node, decode};
use crate::group::consumer::Refused;
use crate::metadata::image::PartitionId;
use crate::partition::list_offsets::OffsetSpec;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::FrameStart;
use crate::protocol::header::put_response_header;
use crate::protocol::put::Put;
use crate::share::state::records::ShareKey;

/// The newest version that the crate reads; later ones have the same bytes.
const REQUEST_VERSION: i16 = 0;
const LAG_FROM: i16 = 1;

struct Group {
    id: Arc<str>,
    topics: Vec<Topic>,
    refused: Option<Refused>,
}

struct Topic {
    name: Arc<str>,
    id: Uuid,
    partitions: Vec<Partition>,
}

struct Partition {
    index: i32,
    start_offset: i64,
    leader_epoch: i32,
    lag: i64,
    error: ErrorCode,
}

/// Reads and answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request: DescribeShareGroupOffsetsRequest = decode(REQUEST_VERSION, body)?;
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let id = shared(&group.group_id.0);
        let named = group.topics.map(|topics| {
            topics.into_iter().map(|topic| (shared(&topic.topic_name.0), topic.partitions)).collect::<Vec<_>>()
        });
        let (topics, refused) = match describe(node, &id, named).await {
            Ok(topics) => (topics, None),
            Err(refused) => (Vec::new(), Some(refused)),
        };
        groups.push(Group { id, topics, refused });
    }
    Ok(write(call, &groups))
}

/// The partitions that are named, or all that are kept.
async fn describe(
    node: &Node,
    group: &Arc<str>,
    named: Option<Vec<(Arc<str>, Vec<i32>)>>,
) -> Result<Vec<Topic>, Refused> {
    let image = node.metadata.image();
    let asked: Vec<(Arc<str>, Uuid, Vec<i32>)> = match named {
        Some(named) => named
            .into_iter()
            .map(|(name, partitions)| {
                let id = image.topic(&name).map_or(Uuid::nil(), |topic| topic.id);
                (name, id, partitions)
            })
            .collect(),
        // Only who asks for all has to name a group that is there, as with Kafka.
        None => {
            let states = node.groups.share_states(Arc::clone(group), false).await?;
            let kept = states.initialized.iter();
            kept.map(|(id, topic)| (Arc::clone(&topic.name), *id, topic.partitions.clone())).collect()
        }
    };
    let mut topics = Vec::with_capacity(asked.len());
    for (name, id, indexes) in asked {
        let mut partitions = Vec::with_capacity(indexes.len());
        for index in indexes {
            partitions.push(partition(node, ShareKey { group: Arc::clone(group), topic: id, partition: index }).await);
        }
        topics.push(Topic { name, id, partitions });
    }
    Ok(topics)
}

async fn partition(node: &Node, key: ShareKey) -> Partition {
    let (id, index) = (PartitionId { topic: key.topic, partition: key.partition }, key.partition);
    let unread = Partition { index, start_offset: -1, leader_epoch: 0, lag: -1, error: ErrorCode::None };
    let isolation = node.shares.limits(&key.group).isolation;
    let kept = match node.shares.states().read(key).await {
        // Nobody keeps a state before the first group joins.
        Ok(None) | Err(ErrorCode::NotCoordinator) => return unread,
        Err(error) => return Partition { error, ..unread },
        Ok(Some(kept)) => kept,
    };
    let mut described = Partition { start_offset: kept.start_offset, leader_epoch: kept.leader_epoch.max(0), ..unread };
    if let Some(partition) = node.partitions.get(id)
        && kept.start_offset >= 0
        && kept.complete_count >= 0
        && let Ok(end) = partition.list_offset(OffsetSpec::Latest, isolation).await
    {
        described.lag = (end.offset - kept.start_offset - i64::from(kept.complete_count)).max(0);
    }
    described
}

fn write(call: &Call, groups: &[Group]) -> Frame {
    let mut out = BytesMut::new();
    let frame = FrameStart::new(&mut out);
    put_response_header(&mut out, call.key, call.version, call.correlation_id);
    let mut put = Put { out: &mut out, flexible: true };
    put.out.put_i32(0); // throttle time
    put.len(Some(groups.len()));
    for group in groups {
        put.string(&group.id);
        put.len(Some(group.topics.len()));
        for topic in &group.topics {
            put.string(&topic.name);
            put.uuid(topic.id);
            put.len(Some(topic.partitions.len()));
            for partition in &topic.partitions {
                put.out.put_i32(partition.index);
                put.out.put_i64(partition.start_offset);
                put.out.put_i32(partition.leader_epoch);
                if call.version >= LAG_FROM {
                    put.out.put_i64(partition.lag);
                }
                put.out.put_i16(partition.error.code());
                put.nullable_string(None);
                put.tags(0);
            }
            put.tags(0);
        }
        let code = group.refused.as_ref().map_or(ErrorCode::None, |refused| refused.code);
        put.out.put_i16(code.code());
        put.nullable_string(group.refused.as_ref().map(|refused| &*refused.message));
        put.tags(0);
    }
    put.tags(0);
    frame.finish(&mut out, 0);
    out.freeze()
}
