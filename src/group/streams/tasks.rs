//! Tasks: a subtopology and a partition of what it reads, and in which role a member has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions by subtopology.
pub type TaskSet = BTreeMap<Arc<str>, BTreeSet<i32>>;
/// Partitions by subtopology, each with the member epoch at which the task was assigned.
pub type EpochTasks = BTreeMap<Arc<str>, BTreeMap<i32, i32>>;

/// Tasks by role: as a target, as a member names what it owns, as an answer gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tasks {
    /// It processes records and writes state.
    pub active: TaskSet,
    /// It keeps a copy of the state.
    pub standby: TaskSet,
    /// It builds up state to take over. Kafka 4.3.1 assigns none; the log and the protocol have a place for them.
    pub warmup: TaskSet,
}

/// What a member owns or gives back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnedTasks {
    /// With epochs, by which commits of a zombie are told.
    pub active: EpochTasks,
    /// See [`Tasks`].
    pub standby: TaskSet,
    /// See [`Tasks`].
    pub warmup: TaskSet,
}

impl OwnedTasks {
    /// Without the epochs.
    pub fn tasks(&self) -> Tasks {
        let active = self.active.iter().map(|(id, tasks)| (Arc::clone(id), tasks.keys().copied().collect()));
        Tasks { active: active.collect(), standby: self.standby.clone(), warmup: self.warmup.clone() }
    }

    /// Nothing at all?
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }
}

impl Tasks {
    /// Nothing at all?
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// Each role.
    pub fn roles(&self) -> [&TaskSet; 3] {
        [&self.active, &self.standby, &self.warmup]
    }

    /// Has it a task of `other` in the same role?
    pub fn overlaps(&self, other: &Tasks) -> bool {
        self.roles().into_iter().zip(other.roles()).any(|(own, other)| each(own).any(|task| contains(other, task)))
    }

    /// Has `other` every task of this one in the same role?
    pub fn is_within(&self, other: &Tasks) -> bool {
        self.roles().into_iter().zip(other.roles()).all(|(own, other)| {
            own.keys().all(|id| other.contains_key(id)) && each(own).all(|task| contains(other, task))
        })
    }
}

/// Every task of a set.
pub fn each(tasks: &TaskSet) -> impl Iterator<Item = (&Arc<str>, i32)> {
    tasks.iter().flat_map(|(id, partitions)| partitions.iter().map(move |partition| (id, *partition)))
}

/// Is a task in a set?
pub fn contains(tasks: &TaskSet, (id, partition): (&Arc<str>, i32)) -> bool {
    tasks.get(id).is_some_and(|partitions| partitions.contains(&partition))
}

/// A set of these tasks.
pub fn collect<'t>(tasks: impl IntoIterator<Item = (&'t Arc<str>, i32)>) -> TaskSet {
    let mut set = TaskSet::new();
    for (id, partition) in tasks {
        set.entry(Arc::clone(id)).or_default().insert(partition);
    }
    set
}
