//! A topology held against the topics that there are: how many partitions internal topics have, which are missing, how many
//! tasks each subtopology has.
//!
//! ```text
//!  repartition topics   what was set, else the most partitions of what the writing subtopology reads    (repartition.rs)
//!  copartition groups   all alike: source topics decide, else those that were set, else the largest      (repartition.rs)
//!  changelog topics     the most partitions of what the subtopology reads
//!  tasks                the same number
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::consumer::Refused;
use super::repartition::{copartition, repartition_counts};
use super::status::{Status, StatusCode};
use super::topology::{InternalTopic, Subtopology, Topology, invalid};
use crate::metadata::image::Image;

/// Tasks of one topology: no application has as many, and a topology that claims more must not fill the memory.
const TASKS_MAX: i64 = 100_000;
/// Names that a status lists.
const NAMES_MAX: usize = 3;

/// A topology as it lies on the topics of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// By id; empty where not even the numbers are known.
    pub subtopologies: BTreeMap<Arc<str>, ConfiguredSubtopology>,
    /// Internal topics to be made.
    pub missing: Vec<InternalTopic>,
    /// Why tasks cannot be assigned yet.
    pub obstacle: Option<Status>,
}

/// One part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredSubtopology {
    /// Partitions 0 up to here are tasks.
    pub tasks: i32,
    /// Has it state that a standby could keep?
    pub stateful: bool,
    /// As the application says, with all numbers of partitions.
    pub topics: Subtopology,
}

/// Partitions of topics by name.
pub(super) type Counts = BTreeMap<Arc<str>, i32>;

/// Why a topology does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The members are told and go on asking.
    Told(Status),
    /// It never can: the request is refused.
    Refused(Refused),
}

impl From<Refused> for Misfit {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Misfit {
    pub(super) fn incorrectly_partitioned(detail: String) -> Self {
        Self::Told(Status { code: StatusCode::IncorrectlyPartitionedTopics, detail })
    }
}

impl Configured {
    /// Can tasks be assigned?
    pub fn is_ready(&self) -> bool {
        self.obstacle.is_none()
    }

    /// Holds a topology against the topics of `image`. STREAMS_INVALID_TOPOLOGY if it can never work.
    pub fn of(topology: &Topology, image: &Image) -> Result<Self, Refused> {
        match configure(topology, image) {
            Ok(configured) => Ok(configured),
            Err(Misfit::Refused(refused)) => Err(refused),
            Err(Misfit::Told(status)) => {
                Ok(Self { subtopologies: BTreeMap::new(), missing: Vec::new(), obstacle: Some(status) })
            }
        }
    }
}

fn configure(topology: &Topology, image: &Image) -> Result<Configured, Misfit> {
    let sources = topology.subtopologies.values().flat_map(|one| &one.source_topics);
    let absent: BTreeSet<_> = sources.filter(|name| image.topic(name).is_none()).collect();
    if !absent.is_empty() {
        let detail = format!("Source topics {} are missing.", summary(absent.iter().copied()));
        return Err(Misfit::Told(Status { code: StatusCode::MissingSourceTopics, detail }));
    }
    let counts = decide(topology, image)?;
    let mut subtopologies = BTreeMap::new();
    let mut all = 0;
    for (id, one) in &topology.subtopologies {
        let tasks = most(one, &counts, image).filter(|tasks| *tasks > 0);
        let tasks = tasks.ok_or_else(|| invalid(format!("No source topics found for subtopology {id}")))?;
        all += i64::from(tasks);
        let with_count = |topic: &InternalTopic| InternalTopic {
            partitions: if topic.partitions == 0 { counts[&topic.name] } else { topic.partitions },
            ..topic.clone()
        };
        let topics = Subtopology {
            changelog_topics: one.changelog_topics.iter().map(with_count).collect(),
            repartition_sources: one.repartition_sources.iter().map(with_count).collect(),
            ..one.clone()
        };
        let stateful = !one.changelog_topics.is_empty();
        subtopologies.insert(Arc::clone(id), ConfiguredSubtopology { tasks, stateful, topics });
    }
    let missing = missing(&subtopologies, image)?;
    let obstacle = match missing.is_empty() {
        // Topics that are there have a bounded number of partitions; a topology names them as often as it likes.
        true if all > TASKS_MAX => {
            return Err(invalid(format!("The topology has {all} tasks, more than {TASKS_MAX}.")).into());
        }
        true => None,
        false => {
            let detail = format!("Internal topics are missing: {}", summary(missing.iter().map(|topic| &topic.name)));
            Some(Status { code: StatusCode::MissingInternalTopics, detail })
        }
    };
    Ok(Configured { subtopologies, missing, obstacle })
}

/// Partitions of all internal topics.
fn decide(topology: &Topology, image: &Image) -> Result<Counts, Misfit> {
    let mut counts = repartition_counts(topology, image)?;
    copartition(topology, image, &mut counts)?;
    let mut changelogs = Counts::new();
    for (id, one) in &topology.subtopologies {
        let most = most(one, &counts, image);
        let most = most.ok_or_else(|| invalid(format!("No source topics found for subtopology {id}")))?;
        changelogs.extend(one.changelog_topics.iter().map(|topic| (Arc::clone(&topic.name), most)));
    }
    counts.extend(changelogs);
    Ok(counts)
}

/// The most partitions of what a subtopology reads.
fn most(one: &Subtopology, counts: &Counts, image: &Image) -> Option<i32> {
    one.sources().filter_map(|name| count(name, counts, image)).max()
}

/// A topic that is there counts as it is.
pub(super) fn count(name: &str, counts: &Counts, image: &Image) -> Option<i32> {
    image.topic(name).map(|topic| topic.partition_count).or_else(|| counts.get(name).copied())
}

/// Internal topics that are not there; those that are must be as they would be made.
fn missing(
    subtopologies: &BTreeMap<Arc<str>, ConfiguredSubtopology>,
    image: &Image,
) -> Result<Vec<InternalTopic>, Misfit> {
    let internal = subtopologies.values().flat_map(|one| one.topics.internal_topics());
    let expected: BTreeMap<_, _> = internal.map(|topic| (&topic.name, topic)).collect();
    let mut missing = Vec::new();
    for (name, topic) in expected {
        match image.topic(name) {
            None => missing.push(topic.clone()),
            Some(known) if known.partition_count == topic.partitions => {}
            Some(known) => {
                return Err(Misfit::incorrectly_partitioned(format!(
                    "Existing topic {name} has different number of partitions: expected {}, found {}",
                    topic.partitions, known.partition_count
                )));
            }
        }
    }
    Ok(missing)
}

fn summary<'n>(names: impl Iterator<Item = &'n Arc<str>> + Clone) -> String {
    let shown: Vec<_> = names.clone().take(NAMES_MAX).map(|name| &**name).collect();
    let rest = names.count() - shown.len();
    match rest {
        0 => shown.join(", "),
        _ => format!("{} and {rest} additional topics", shown.join(", ")),
    }
}
