//! Server-side assignors: who of a group's members shall own which partitions.
//!
//! Both are pure functions of what the members subscribe to and what they own by the last target. Neither looks at racks:
//! those of Kafka 4.3.1 don't.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::Partitions;

/// The assignors that `group.consumer.assignors` may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// As even as can be over all topics, moving as little as that allows.
    Uniform,
    /// Neighbouring partitions of each topic, the same of each topic to the same member.
    Range,
}

impl Assignor {
    /// By Kafka's name for it, or the class that implements it there.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "uniform" | "org.apache.kafka.coordinator.group.assignor.UniformAssignor" => Some(Self::Uniform),
            "range" | "org.apache.kafka.coordinator.group.assignor.RangeAssignor" => Some(Self::Range),
            _ => None,
        }
    }

    /// As clients call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The new target of each member, in the order of `members`.
    pub fn assign(self, members: &[Wants<'_>], topics: &TopicSizes) -> Vec<Partitions> {
        match self {
            Self::Uniform => uniform::assign(members, topics),
            Self::Range => range::assign(members, topics),
        }
    }
}

/// Number of partitions of each topic that any member subscribes to.
pub type TopicSizes = BTreeMap<Uuid, i32>;

/// What one member brings into an assignment.
#[derive(Debug, Clone)]
pub struct Wants<'a> {
    /// Its id.
    pub member_id: &'a Arc<str>,
    /// Its static id.
    pub instance_id: Option<&'a Arc<str>>,
    /// The topics it subscribes to; only such as [`TopicSizes`] has.
    pub topics: BTreeSet<Uuid>,
    /// What the last target gave it.
    pub owns: &'a Partitions,
}

impl Wants<'_> {
    /// What it owns of the topics that it still subscribes to, as far as those partitions exist.
    fn kept(&self, topics: &TopicSizes) -> Partitions {
        let exists =
            |topic: &Uuid, partition: &i32| topics.get(topic).is_some_and(|count| (0..*count).contains(partition));
        let subscribed = self.owns.iter().filter(|(topic, _)| self.topics.contains(topic));
        let kept = subscribed.map(|(topic, partitions)| {
            (*topic, partitions.iter().copied().filter(|partition| exists(topic, partition)).collect())
        });
        kept.filter(|(_, partitions): &(Uuid, BTreeSet<i32>)| !partitions.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
