//! The target assignment: every member reads every partition of what it subscribes to, as far as its state is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::records::ShareRecord;
use super::{ShareDraft, ShareGroup, Subscription, Surroundings};
use crate::group::consumer::Partitions;
use crate::group::consumer::records::TargetEpoch;
use crate::group::consumer::topic_hash::metadata_hash;
use crate::metadata::image::Image;

impl ShareGroup {
    /// Over the metadata of all topics that members subscribe to.
    pub(super) fn metadata_hash(&self, around: &Surroundings<'_>) -> i64 {
        let names: BTreeSet<_> = self.members.values().flat_map(|member| &member.subscription.topics).collect();
        metadata_hash(names.into_iter(), around.image, around.rack)
    }

    /// What a member with this subscription may read.
    fn readable(&self, subscription: &Subscription, image: &Image) -> Partitions {
        let topics = subscription.topics.iter().filter_map(|name| image.topic(name));
        let initialized = topics.filter_map(|topic| {
            let partitions = &self.states.initialized.get(&topic.id)?.partitions;
            let there = partitions.iter().copied().filter(|partition| *partition < topic.partition_count);
            Some((topic.id, there.collect()))
        });
        initialized.collect()
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
    pub(super) fn target_lacks_initialized(&self, around: &Surroundings<'_>) -> bool {
        let lacks = |(id, member): (&Arc<str>, &Arc<super::Member>)| {
            let readable = self.readable(&member.subscription, around.image);
            let count = |partitions: &Partitions| partitions.values().map(BTreeSet::len).sum::<usize>();
            count(&readable) > self.target(id).map_or(0, |target| count(target))
        };
        // Epochs apart, a new target is due anyway.
        self.epoch.epoch == self.target_epoch.epoch && self.members.iter().any(lacks)
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
        let readable = |(id, member): (&Arc<str>, &Arc<super::Member>)| {
            (Arc::clone(id), self.group.readable(&member.subscription, around.image))
        };
        let targets: Vec<_> = self.group.members.iter().map(readable).collect();
        for (id, target) in targets {
            if self.group.target(&id).is_none_or(|known| **known != target) {
                self.write(ShareRecord::Target(id, Some(target)));
            }
        }
        let epoch = TargetEpoch { epoch: self.group.epoch.epoch, timestamp: around.now.wall_ms };
        self.write(ShareRecord::TargetEpoch(Some(epoch)));
    }
}
