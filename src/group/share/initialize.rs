//! Which partitions the share coordinator is to begin to keep for a group, and to forget.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::records::{ShareRecord, StatePartitions, TopicPartitions};
use super::{ShareDraft, ShareGroup};
use crate::group::consumer::Partitions;
use crate::metadata::image::{Image, Topic};

/// What the partitions that members subscribe to lack. It holds until a topic, a member, a target or a state changes, so a
/// heartbeat in a group where nothing moves costs nothing by them.
#[derive(Debug, Clone)]
pub(super) struct Lacks {
    /// Of the image that this was found in.
    generation: u64,
    /// Partitions whose state nobody keeps yet.
    pub(super) state: Arc<Partitions>,
    /// Is there one with a state, and no member has it in its target?
    pub(super) reader: bool,
}

impl ShareGroup {
    /// Partitions that members subscribe to and whose state nobody keeps yet.
    pub fn uninitialized(&mut self, image: &Image) -> Arc<Partitions> {
        self.lacks(image).state
    }

    /// What partitions lack now.
    pub(super) fn lacks(&mut self, image: &Image) -> Lacks {
        if let Some(known) = self.lacks.as_ref().filter(|known| known.generation == image.generation) {
            return known.clone();
        }
        let (mut state, mut reader) = (Partitions::new(), false);
        for topic in self.subscribed(image) {
            let kept = self.readable(topic);
            let lacking: BTreeSet<_> = (0..topic.partition_count).filter(|one| !kept.contains(one)).collect();
            if !lacking.is_empty() {
                state.insert(topic.id, lacking);
            }
            let read = self.targets.values().filter_map(|target| target.get(&topic.id));
            let read: HashSet<_> = read.flatten().collect();
            reader |= kept.iter().any(|one| !read.contains(one));
        }
        let found = Lacks { generation: image.generation, state: Arc::new(state), reader };
        self.lacks = Some(found.clone());
        found
    }

    /// The topics that members subscribe to and that there are.
    pub(super) fn subscribed<'i>(&self, image: &'i Image) -> impl Iterator<Item = &'i Topic> {
        let names: BTreeSet<_> = self.members.values().flat_map(|member| &member.subscription.topics).collect();
        names.into_iter().filter_map(|name| image.topic(name)).map(|topic| &**topic)
    }

    /// The partitions of a topic whose state is kept.
    pub(super) fn readable(&self, topic: &Topic) -> BTreeSet<i32> {
        let kept = self.states.initialized.get(&topic.id).into_iter().flat_map(|kept| kept.partitions.iter().copied());
        kept.filter(|partition| (0..topic.partition_count).contains(partition)).collect()
    }
}

impl ShareDraft {
    /// The share coordinator is asked for these from now on: a crash in between asks again. What is to be forgotten is
    /// forgotten first.
    pub fn initializing(&mut self, partitions: &Partitions, image: &Image) {
        let mut states = StatePartitions::clone(&self.group.states);
        let partitions = without_deleted(partitions, &states);
        add(&mut states.initializing, &partitions, image);
        self.set_states(states);
    }

    /// It has them.
    pub fn initialized(&mut self, partitions: &Partitions, image: &Image) {
        let mut states = StatePartitions::clone(&self.group.states);
        remove(&mut states.initializing, partitions);
        let partitions = without_deleted(partitions, &states);
        add(&mut states.initialized, &partitions, image);
        self.set_states(states);
    }

    /// It was told to have them as they are now, whatever they were.
    pub fn set(&mut self, partitions: &Partitions, image: &Image) {
        let mut states = StatePartitions::clone(&self.group.states);
        remove(&mut states.initializing, partitions);
        add(&mut states.initialized, partitions, image);
        states.deleting.retain(|topic, _| !partitions.contains_key(topic));
        self.set_states(states);
    }

    /// It does not have them, though it should: they are begun anew.
    pub fn missing(&mut self, partitions: &Partitions) {
        let mut states = StatePartitions::clone(&self.group.states);
        remove(&mut states.initialized, partitions);
        self.set_states(states);
    }

    /// These topics are to be forgotten: asked by an administrator, or they are gone.
    pub fn deleting(&mut self, topics: &[Uuid]) {
        let mut states = StatePartitions::clone(&self.group.states);
        for topic in topics {
            let was = (states.initialized.remove(topic), states.initializing.remove(topic));
            if let (Some(TopicPartitions { name, .. }), _) | (None, Some(TopicPartitions { name, .. })) = was {
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

fn without_deleted(partitions: &Partitions, states: &StatePartitions) -> Partitions {
    let kept = partitions.iter().filter(|(topic, _)| !states.deleting.contains_key(*topic));
    kept.map(|(topic, partitions)| (*topic, partitions.clone())).collect()
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
