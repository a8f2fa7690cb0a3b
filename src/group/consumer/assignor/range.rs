//! Ranges: the members in order, each a run of neighbouring partitions of every topic.
//!
//! Members with the same subscriptions get the same partitions of topics of the same size, which makes joins by key work.
//! Static members come first in the order of their static ids, so that a restart moves nothing.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{TopicSizes, Wants};
use crate::group::consumer::Partitions;

/// See the module.
pub(super) fn assign(members: &[Wants<'_>], topics: &TopicSizes) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&at| {
        let member = &members[at];
        (member.instance_id.is_none(), member.instance_id, member.member_id)
    });
    let mut targets = vec![Partitions::new(); members.len()];
    let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for &at in &order {
        for topic in &members[at].topics {
            subscribers.entry(*topic).or_default().push(at);
        }
    }
    for (topic, subscribers) in subscribers {
        let partitions = topics.get(&topic).copied().unwrap_or(0);
        let count = i32::try_from(subscribers.len()).unwrap_or(i32::MAX);
        let (quota, longer) = (partitions / count, partitions % count);
        let mut start = 0;
        for (nth, at) in (0..).zip(subscribers) {
            let end = start + quota + i32::from(nth < longer);
            if start < end {
                targets[at].insert(topic, (start..end).collect());
            }
            start = end;
        }
    }
    targets
}
