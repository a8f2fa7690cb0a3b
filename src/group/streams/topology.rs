//! What a Streams application is made of, as its members tell the group: subtopologies, the topics they read and write, and
//! the internal topics between and behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::consumer::Refused;
use crate::protocol::error_code::ErrorCode;

/// A topology at one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// Rises when the application changes.
    pub epoch: i32,
    /// By id.
    pub subtopologies: BTreeMap<Arc<str>, Subtopology>,
}

/// A part of a topology that has topics alone in common with the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subtopology {
    /// What it reads that somebody else makes.
    pub source_topics: Vec<Arc<str>>,
    /// Expressions for the same; Kafka 4.3.1 refuses them.
    pub source_topic_regex: Vec<Arc<str>>,
    /// Where its state is kept.
    pub changelog_topics: Vec<InternalTopic>,
    /// What it writes for other subtopologies.
    pub repartition_sinks: Vec<Arc<str>>,
    /// What it reads of other subtopologies.
    pub repartition_sources: Vec<InternalTopic>,
    /// Topics that must have the same number of partitions.
    pub copartition_groups: Vec<CopartitionGroup>,
}

/// Key and value.
pub type Pair = (Arc<str>, Arc<str>);

/// A topic that the broker makes for the application.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InternalTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions, 0 where they follow from others.
    pub partitions: i32,
    /// Its replicas, 0 for the broker's default.
    pub replication_factor: i16,
    /// Its configuration, in the order given.
    pub configs: Vec<Pair>,
}

/// Indexes into the lists of the subtopology.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopartitionGroup {
    /// Of `source_topics`.
    pub source_topics: Vec<i16>,
    /// Of `source_topic_regex`.
    pub source_topic_regex: Vec<i16>,
    /// Of `repartition_sources`.
    pub repartition_sources: Vec<i16>,
}

impl Subtopology {
    /// The names of all topics it reads.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<str>> {
        self.source_topics.iter().chain(self.repartition_sources.iter().map(|topic| &topic.name))
    }

    /// Internal topics that it has.
    pub fn internal_topics(&self) -> impl Iterator<Item = &InternalTopic> {
        self.repartition_sources.iter().chain(&self.changelog_topics)
    }

    /// The names that a copartition group means; `None` if an index points nowhere.
    pub fn copartitioned(&self, group: &CopartitionGroup) -> Option<BTreeSet<&Arc<str>>> {
        let at = |index: &i16| usize::try_from(*index).ok();
        let sources = group.source_topics.iter().map(|index| self.source_topics.get(at(index)?));
        let repartitions =
            group.repartition_sources.iter().map(|index| Some(&self.repartition_sources.get(at(index)?)?.name));
        sources.chain(repartitions).collect()
    }
}

impl Topology {
    /// All topics that must be there before tasks can be assigned.
    pub fn required_topics(&self) -> BTreeSet<&Arc<str>> {
        let each = self.subtopologies.values();
        each.flat_map(|one| one.sources().chain(one.changelog_topics.iter().map(|topic| &topic.name))).collect()
    }

    /// The subtopology that reads a topic.
    pub fn reader_of(&self, topic: &str) -> Option<&Arc<str>> {
        let mut reading = self.subtopologies.iter().filter(|(_, one)| one.sources().any(|name| **name == *topic));
        reading.next().map(|(id, _)| id)
    }

    /// Every name of a topic that it has, in its order.
    pub fn topic_names(&self) -> Vec<&Arc<str>> {
        let mut seen = BTreeSet::new();
        let each = self.subtopologies.values().flat_map(|one| {
            let internal = one.internal_topics().map(|topic| &topic.name);
            one.source_topics.iter().chain(&one.repartition_sinks).chain(internal)
        });
        each.filter(|name| seen.insert(Arc::clone(name))).collect()
    }

    /// Can it be configured at all, whatever topics there are?
    pub fn check(&self) -> Result<(), Refused> {
        for one in self.subtopologies.values() {
            if let Some(topic) = one.changelog_topics.iter().find(|topic| topic.partitions != 0) {
                return Err(invalid(format!(
                    "Changelog topic {} must have an undefined partition count, but it is set to {}.",
                    topic.name, topic.partitions
                )));
            }
        }
        Ok(())
    }
}

/// STREAMS_INVALID_TOPOLOGY.
pub fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::StreamsInvalidTopology, message)
}
