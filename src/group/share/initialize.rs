//! Which partitions the share coordinator is to begin to keep for a group, and to forget.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::records::{ShareRecord, StatePartitions, TopicPartitions};
use super::{ShareDraft, ShareGroup};
use crate::group::consumer::Partitions;
use crate::metadata::image::Image;

impl ShareGroup {
    /// Partitions that members subscribe to and whose state nobody keeps yet.
    pub fn uninitialized(&self, image: &Image) -> Partitions {
        let mut missing = Partitions::new();
        let names = self.members.values().flat_map(|member| &member.subscription.topics);
        for topic in names.filter_map(|name| image.topic(name)) {
            let kept = self.states.initialized.get(&topic.id).map_or(&[][..], |kept| &kept.partitions[..]);
            let lacking = (0..topic.partition_count).filter(|partition| !kept.contains(partition));
            let lacking: std::collections::BTreeSet<_> = lacking.collect();
            if !lacking.is_empty() {
                missing.insert(topic.id, lacking);
            }
        }
        missing
    }
}

impl ShareDraft {
    /// The share coordinator is asked for these from now on: a crash in between asks again.
    pub fn initializing(&mut self, partitions: &Partitions, image: &Image) {
        let mut states = StatePartitions::clone(&self.group.states);
        add(&mut states.initializing, partitions, image);
        for topic in partitions.keys() {
            states.deleting.remove(topic);
        }
        self.set_states(states);
    }

    /// It has them.
    pub fn initialized(&mut self, partitions: &Partitions, image: &Image) {
        let mut states = StatePartitions::clone(&self.group.states);
        remove(&mut states.initializing, partitions);
        add(&mut states.initialized, partitions, image);
        self.set_states(states);
    }

    /// These topics are to be forgotten: asked by an administrator, or they are gone.
    pub fn deleting(&mut self, topics: &[Uuid]) {
        let mut states = StatePartitions::clone(&self.group.states);
        for topic in topics {
            let was = states.initialized.remove(topic).or_else(|| states.initializing.remove(topic));
            if let Some(TopicPartitions { name, .. }) = was {
                states.deleting.insert(*topic, name);
            }
        }
        self.set_states(states);
    }

    /// They are forgotten.
    pub fn deleted(&mut self, topics: &[Uuid]) {
        let mut states = StatePartitions::clone(&self.group.states);
        for topic in topics {
            states.deleting.remove(topic);
        }
        self.set_states(states);
    }

    fn set_states(&mut self, states: StatePartitions) {
        if states != *self.group.states {
            self.write(ShareRecord::States(Some(states)));
        }
    }
}

fn add(to: &mut BTreeMap<Uuid, TopicPartitions>, partitions: &Partitions, image: &Image) {
    for (id, some) in partitions {
        let Some(topic) = image.topic_by_id(id) else { continue };
        let known =
            to.entry(*id).or_insert_with(|| TopicPartitions { name: Arc::clone(&topic.name), partitions: Vec::new() });
        known.partitions.extend(some);
        known.partitions.sort_unstable();
        known.partitions.dedup();
    }
}

fn remove(from: &mut BTreeMap<Uuid, TopicPartitions>, partitions: &Partitions) {
    for (id, some) in partitions {
        if let Some(topic) = from.get_mut(id) {
            topic.partitions.retain(|partition| !some.contains(partition));
            if topic.partitions.is_empty() {
                from.remove(id);
            }
        }
    }
}
