//! From what a request names to partitions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use uuid::Uuid;

use super::reading::{Outcome, Read};
use crate::api::Node;
use crate::api::fetch_sessions::{TopicRef, Watched};
use crate::metadata::image::{Image, PartitionId};
use crate::partition::Partition;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};

pub(super) fn topic_ref(image: &Image, topic: FetchTopic<'_>) -> TopicRef {
    match topic {
        FetchTopic::Id(id) => TopicRef { name: image.topic_by_id(&id).map(|topic| topic.name.clone()), id },
        FetchTopic::Name(name) => {
            let name = image.topic(name).map_or_else(|| Arc::from(name), |topic| topic.name.clone());
            TopicRef { name: Some(name), id: Uuid::nil() }
        }
    }
}

pub(super) fn watched(image: &Image, from: &FetchPartition<'_>) -> Watched {
    asked(topic_ref(image, from.topic), from)
}

fn asked(topic: TopicRef, from: &FetchPartition<'_>) -> Watched {
    Watched {
        topic,
        partition: from.partition,
        fetch_offset: from.fetch_offset,
        max_bytes: from.max_bytes,
        current_leader_epoch: from.current_leader_epoch,
        last_fetched_epoch: from.last_fetched_epoch,
    }
}

/// The partition, or Kafka's error: 100 for an id that was never known, 3 for a topic or partition that is not there, 103
/// when the name belongs to another id by now.
pub(super) fn find(node: &Node, image: &Image, watched: &Watched) -> Result<Arc<Partition>, ErrorCode> {
    let TopicRef { name, id } = &watched.topic;
    let topic = if id.is_nil() {
        name.as_deref().and_then(|name| image.topic(name)).map(|topic| topic.id)
    } else if image.topic_by_id(id).is_some() {
        Some(*id)
    } else {
        match name {
            None => return Err(ErrorCode::UnknownTopicId),
            Some(name) if image.topic(name).is_some() => return Err(ErrorCode::InconsistentTopicId),
            Some(_) => None,
        }
    };
    topic
        .and_then(|topic| node.partitions.get(PartitionId { topic, partition: watched.partition }))
        .ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Makes `reads` the partitions of a request without a session. A client asks for the same ones again and again, in the
/// same order: where the list of the connection's last such request has the partition in that place, nothing is looked up.
pub(super) fn renew(reads: &mut Vec<Read>, node: &Node, request: &FetchRequest<'_>) {
    let mut count = 0;
    let mut image = None;
    for from in request.partitions() {
        match reads.get_mut(count) {
            Some(read) if read.partition.is_ok() && is_of(read, &from) => {
                read.watched.fetch_offset = from.fetch_offset;
                read.watched.max_bytes = from.max_bytes;
                read.watched.current_leader_epoch = from.current_leader_epoch;
                read.watched.last_fetched_epoch = from.last_fetched_epoch;
            }
            _ => {
                let image = image.get_or_insert_with(|| node.metadata.image());
                // Of a topic's partitions only the first looks for its name.
                let same =
                    reads[..count.min(reads.len())].last().filter(|read| is_topic(&read.watched.topic, from.topic));
                let topic = same.map_or_else(|| topic_ref(image, from.topic), |read| read.watched.topic.clone());
                let watched = asked(topic, &from);
                let partition = find(node, image, &watched);
                let outcome = Outcome::failed(ErrorCode::None);
                let read = Read { watched, slot: count as u32, partition, place: None, outcome };
                match reads.get_mut(count) {
                    Some(place) => *place = read,
                    None => reads.push(read),
                }
            }
        }
        count += 1;
    }
    reads.truncate(count);
    if image.is_some() {
        once_each(reads);
    }
}

/// A partition named twice is read once: where it was first named, as it was last asked.
fn once_each(reads: &mut Vec<Read>) {
    let mut places: HashMap<(TopicRef, i32), usize> = HashMap::with_capacity(reads.len());
    let mut kept: Vec<Read> = Vec::with_capacity(reads.len());
    for read in reads.drain(..) {
        match places.entry((read.watched.topic.clone(), read.watched.partition)) {
            Entry::Occupied(first) => kept[*first.get()].watched = read.watched,
            Entry::Vacant(free) => {
                free.insert(kept.len());
                kept.push(read);
            }
        }
    }
    *reads = kept;
    for (at, read) in reads.iter_mut().enumerate() {
        read.slot = at as u32;
    }
}

fn is_of(read: &Read, from: &FetchPartition<'_>) -> bool {
    read.watched.partition == from.partition && is_topic(&read.watched.topic, from.topic)
}

fn is_topic(known: &TopicRef, topic: FetchTopic<'_>) -> bool {
    match topic {
        FetchTopic::Id(id) => known.id == id && !id.is_nil(),
        FetchTopic::Name(name) => known.id.is_nil() && known.name.as_deref() == Some(name),
    }
}

/// Finds the partition anew, after it vanished or while it isn't there. A request without a session goes by what is known
/// now; a session remembers what an id was called.
pub(super) fn find_again(node: &Node, read: &mut Read, in_session: bool) {
    let image = node.metadata.image();
    if !in_session && !read.watched.topic.id.is_nil() {
        read.watched.topic = topic_ref(&image, FetchTopic::Id(read.watched.topic.id));
    }
    read.partition = find(node, &image, &read.watched);
}
