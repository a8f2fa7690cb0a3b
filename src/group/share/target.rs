//! The target assignment: partitions that members subscribe to are spread over them, as far as their state is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::assignor::{Readable, Reader, assign};
use super::records::ShareRecord;
use super::{ShareDraft, ShareGroup, Subscription, Surroundings};
use crate::group::consumer::Partitions;
use crate::group::consumer::records::TargetEpoch;
use crate::group::consumer::topic_hash::metadata_hash;
use crate::metadata::image::{Image, Topic};

impl ShareGroup {
    /// Over the metadata of all topics that members subscribe to.
    pub(super) fn metadata_hash(&self, around: &Surroundings<'_>) -> i64 {
        let names: BTreeSet<_> = self.members.values().flat_map(|member| &member.subscription.topics).collect();
        metadata_hash(names.into_iter(), around.image, around.rack)
    }

    /// A member's target without the topics that it doesn't subscribe to now: the target may be older than that.
    pub(super) fn subscribed_target(&self, id: &str, subscription: &Subscription, image: &Image) -> Partitions {
        let subscribed: BTreeSet<_> =
            subscription.topics.iter().filter_map(|name| image.topic(name)).map(|topic| topic.id).collect();
        let target = self.target(id).into_iter().flat_map(|target| target.iter());
        target
            .filter(|(topic, _)| subscribed.contains(*topic))
            .map(|(topic, partitions)| (*topic, partitions.clone()))
            .collect()
    }

    /// Is there a partition that members subscribe to and may read by now, and that no target has?
    pub(super) fn target_lacks_initialized(&mut self, around: &Surroundings<'_>) -> bool {
        // Epochs apart, a new target is due anyway.
        self.epoch.epoch == self.target_epoch.epoch && self.lacks(around.image).reader
    }
}

impl ShareDraft {
    /// Makes the target for the group's epoch, unless there is one or the last is too young (KIP-1263): then members go on
    /// with that, and a later heartbeat makes the next. Partitions that became readable don't wait for that.
    pub(super) fn update_target(&mut self, around: &Surroundings<'_>) {
        let last = self.group.target_epoch;
        let interval_ms = i64::from(around.limits.assignment_interval_ms);
        let old_enough = last.timestamp == 0 || around.now.wall_ms >= last.timestamp.saturating_add(interval_ms);
        let empty = self.group.targets.values().all(|target| target.is_empty());
        if last.epoch >= self.group.epoch.epoch || !(old_enough || empty) {
            return;
        }
        let readable = |topic: &Topic| Readable {
            name: Arc::clone(&topic.name),
            id: topic.id,
            partitions: self.group.readable(topic),
        };
        let topics: Vec<_> = self.group.subscribed(around.image).map(readable).collect();
        let readers = self.group.members.iter().map(|(id, member)| Reader {
            names: &member.subscription.topics,
            before: self.group.target(id).map(|target| &**target),
        });
        let targets = assign(&readers.collect::<Vec<_>>(), &topics);
        let targets: Vec<_> = self.group.members.keys().cloned().zip(targets).collect();
        for (id, target) in targets {
            if self.group.target(&id).is_none_or(|known| **known != target) {
                self.write(ShareRecord::Target(id, Some(target)));
            }
        }
        let epoch = TargetEpoch { epoch: self.group.epoch.epoch, timestamp: around.now.wall_ms };
        self.write(ShareRecord::TargetEpoch(Some(epoch)));
    }
}
