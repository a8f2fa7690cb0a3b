//! The target assignment: what the assignor makes of the group at one epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assignor::{Assignor, TopicSizes, Wants};
use super::records::{ConsumerRecord, TargetEpoch};
use super::{ConsumerGroup, Draft, Partitions, Surroundings};

impl ConsumerGroup {
    /// The assignor that most members ask for; `default` when none asks.
    pub fn assignor(&self, default: Assignor) -> Assignor {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|member| member.subscription.assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        let elected = votes.into_iter().max_by_key(|(_, count)| *count).and_then(|(name, _)| Assignor::named(name));
        elected.unwrap_or(default)
    }
}

impl Draft {
    /// Makes the target for the group's epoch, unless there is one or the last is too young (KIP-1263): then members go on
    /// with that, and a later heartbeat makes the next.
    pub(super) fn update_target(&mut self, around: &Surroundings<'_>) {
        let last = self.group.target_epoch;
        let interval_ms = i64::from(around.limits.assignment_interval_ms);
        let old_enough = last.timestamp == 0 || around.now.wall_ms >= last.timestamp.saturating_add(interval_ms);
        if last.epoch >= self.group.epoch.epoch || !(old_enough || interval_ms == 0) {
            return;
        }
        for (id, target) in self.group.new_targets(around) {
            if self.group.target(&id).is_none_or(|known| **known != target) {
                self.write(ConsumerRecord::Target(id, Some(target)));
            }
        }
        let epoch = TargetEpoch { epoch: self.group.epoch.epoch, timestamp: around.now.wall_ms };
        self.write(ConsumerRecord::TargetEpoch(Some(epoch)));
    }
}

impl ConsumerGroup {
    fn new_targets(&self, around: &Surroundings<'_>) -> Vec<(Arc<str>, Partitions)> {
        let nothing = Partitions::new();
        let wants: Vec<_> = self
            .members
            .iter()
            .map(|(id, member)| Wants {
                member_id: id,
                instance_id: member.subscription.instance_id.as_ref(),
                topics: self.subscribed_ids(&member.subscription, around.image),
                owns: self.target(id).map_or(&nothing, |target| &**target),
            })
            .collect();
        let mut sizes = TopicSizes::new();
        for topic in wants.iter().flat_map(|member| &member.topics) {
            if let Some(known) = around.image.topic_by_id(topic) {
                sizes.insert(*topic, known.partition_count);
            }
        }
        let targets = self.assignor(around.default_assignor).assign(&wants, &sizes);
        wants.iter().map(|member| Arc::clone(member.member_id)).zip(targets).collect()
    }
}
