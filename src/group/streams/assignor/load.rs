//! Processes, their members, and how much each has got.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use super::{AssignedMember, Index, Task};

/// Tasks by members of a process; compared as fractions, so that no rounding decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    tasks: usize,
    members: usize,
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tasks * other.members).cmp(&(other.tasks * self.members)).then(self.tasks.cmp(&other.tasks))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct Process {
    members: Vec<Index>,
    tasks: HashSet<Task>,
}

/// All processes of a group.
#[derive(Debug)]
pub(super) struct Processes {
    all: Vec<Process>,
    of_member: Vec<usize>,
    counts: Vec<usize>,
}

impl Processes {
    pub(super) fn new(members: &[AssignedMember]) -> Self {
        let mut by_id = BTreeMap::new();
        for member in members {
            by_id.insert(&member.process, 0);
        }
        for (place, (_, at)) in by_id.iter_mut().enumerate() {
            *at = place;
        }
        let of_member: Vec<usize> = members.iter().map(|member| by_id[&member.process]).collect();
        let mut all: Vec<Process> = by_id.iter().map(|_| Process::default()).collect();
        for (index, process) in of_member.iter().enumerate() {
            all[*process].members.push(index);
        }
        Self { all, of_member, counts: vec![0; members.len()] }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The process of a member.
    pub(super) fn of(&self, member: Index) -> usize {
        self.of_member[member]
    }

    /// Tasks of a member.
    pub(super) fn count(&self, member: Index) -> usize {
        self.counts[member]
    }

    pub(super) fn load(&self, process: usize) -> Load {
        let process = &self.all[process];
        Load { tasks: process.members.iter().map(|member| self.counts[*member]).sum(), members: process.members.len() }
    }

    /// Has a process a task in any role?
    pub(super) fn has(&self, process: usize, task: Task) -> bool {
        self.all[process].tasks.contains(&task)
    }

    /// The first by order of those with the fewest tasks; a process has a member.
    pub(super) fn least_loaded_member(&self, process: usize) -> Index {
        let members = &self.all[process].members;
        members.iter().copied().min_by_key(|member| self.counts[*member]).unwrap_or_default()
    }

    /// Gives a task to a member; returns how many it has then.
    pub(super) fn give(&mut self, task: Task, member: Index) -> usize {
        self.all[self.of_member[member]].tasks.insert(task);
        self.counts[member] += 1;
        self.counts[member]
    }
}
