//! ShareGroupDescribe 1: state, epochs, members and assignments of share groups (KIP-932). At `share.version` 0 it is
//! answered UNSUPPORTED_VERSION.

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::share_group_describe_request::ShareGroupDescribeRequest;
use kafka_protocol::messages::share_group_describe_response::{
    Assignment, DescribedGroup, Member, ShareGroupDescribeResponse, TopicPartitions,
};

use super::describe_groups::ALL_OPERATIONS;
use super::text::{shared, text};
use super::{Call, Disconnect, Node};
use crate::group::consumer::{Partitions, Refused};
use crate::group::share::describe::Description;
use crate::group::share::{self, ASSIGNOR};
use crate::metadata::features::Feature;
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: ShareGroupDescribeRequest,
) -> Result<ShareGroupDescribeResponse, Disconnect> {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for id in request.group_ids {
        let image = node.metadata.image();
        let described = match image.features.level(Feature::Share) {
            ..1 => Err(ErrorCode::UnsupportedVersion.into()),
            1.. => node.groups.describe_shares(shared(&id.0)).await,
        };
        let operations = match request.include_authorized_operations && described.is_ok() {
            true => ALL_OPERATIONS,
            false => i32::MIN,
        };
        let group = described.map_or_else(refusal, |description| describe(description, &image));
        groups.push(group.with_group_id(id).with_authorized_operations(operations));
    }
    Ok(ShareGroupDescribeResponse::default().with_groups(groups))
}

fn refusal(refused: Refused) -> DescribedGroup {
    let message = Some(&*refused.message).filter(|message| !message.is_empty());
    DescribedGroup::default().with_error_code(refused.code.code()).with_error_message(message.map(text))
}

fn describe(description: Description, image: &Image) -> DescribedGroup {
    let members = description.members.iter().map(|(id, member)| describe_member(id, member, image));
    DescribedGroup::default()
        .with_group_state(text(description.state))
        .with_group_epoch(description.epoch)
        .with_assignment_epoch(description.target_epoch)
        .with_assignor_name(text(ASSIGNOR))
        .with_members(members.collect())
}

fn describe_member(id: &str, member: &share::Member, image: &Image) -> Member {
    let who = &member.subscription;
    Member::default()
        .with_member_id(text(id))
        .with_rack_id(who.rack_id.as_deref().map(text))
        .with_member_epoch(member.current.epoch)
        .with_client_id(text(&who.client_id))
        .with_client_host(text(&who.client_host))
        .with_subscribed_topic_names(who.topics.iter().map(|topic| TopicName(text(topic))).collect())
        .with_assignment(assignment(&member.current.assigned, image))
}

/// Only topics that still exist have a name to show.
fn assignment(partitions: &Partitions, image: &Image) -> Assignment {
    let topics = partitions.iter().filter_map(|(id, partitions)| {
        let topic = image.topic_by_id(id)?;
        let topic = TopicPartitions::default().with_topic_id(*id).with_topic_name(TopicName(text(&topic.name)));
        Some(topic.with_partitions(partitions.iter().copied().collect()))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
