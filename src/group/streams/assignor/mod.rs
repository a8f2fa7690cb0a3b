//! The assignor "sticky": every task is active once, at the member that had it before as long as that one is not above its
//! share, else at one that kept a copy of its state, else at the process with the least load. Standbys go the same way, never
//! two of a task to one process.
//!
//! The load of a process is its tasks by its members, so that a process with more threads gets more.

mod load;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use self::load::{Load, Processes};
use super::configure::ConfiguredSubtopology;
use super::tasks::{Tasks, each};

/// A member as the assignor sees it.
#[derive(Debug, Clone)]
pub struct AssignedMember {
    /// Its id.
    pub id: Arc<str>,
    /// Where it runs.
    pub process: Arc<str>,
    /// Its target before.
    pub had: Tasks,
}

/// A subtopology, by its place in the order of ids, and a partition.
type Task = (usize, i32);
/// A member, by its place in the list.
type Index = usize;

/// The target of each member, in their order.
pub fn assign(
    members: &[AssignedMember],
    subtopologies: &BTreeMap<Arc<str>, ConfiguredSubtopology>,
    standby_replicas: i32,
) -> Vec<Tasks> {
    if members.is_empty() {
        return Vec::new();
    }
    let mut round = Round::new(members, subtopologies, standby_replicas);
    round.assign_active();
    round.assign_standbys();
    let ids: Vec<_> = subtopologies.keys().collect();
    round.tasks(&ids)
}

/// A share of tasks that falls as members fill up, so that what is left is spread over those who have room.
#[derive(Debug)]
struct Quota {
    tasks: usize,
    members: usize,
    per_member: usize,
}

impl Quota {
    fn new(tasks: usize, members: usize) -> Self {
        Self { tasks, members, per_member: tasks.div_ceil(members) }
    }

    /// A member has `count` tasks now.
    fn filled(&mut self, count: usize) {
        if count == self.per_member && self.members > 0 {
            self.members -= 1;
            self.tasks = self.tasks.saturating_sub(count);
            self.per_member = if self.members == 0 { 0 } else { self.tasks.div_ceil(self.members) };
        }
    }
}

struct Round {
    processes: Processes,
    active: Vec<Vec<Task>>,
    standby: Vec<Vec<Task>>,
    had_active: HashMap<Task, Index>,
    had_standby: HashMap<Task, Vec<Index>>,
    all: Vec<Task>,
    stateful: Vec<Task>,
    replicas: usize,
    active_quota: Quota,
    quota: Quota,
}

impl Round {
    fn new(
        members: &[AssignedMember],
        subtopologies: &BTreeMap<Arc<str>, ConfiguredSubtopology>,
        standby_replicas: i32,
    ) -> Self {
        let places: HashMap<_, _> = subtopologies.keys().zip(0..).collect();
        let (mut had_active, mut had_standby) = (HashMap::new(), HashMap::<Task, Vec<Index>>::new());
        for (index, member) in members.iter().enumerate() {
            let place = |(id, task)| Some((*places.get(id)?, task));
            had_active.extend(each(&member.had.active).filter_map(place).map(|task| (task, index)));
            for task in each(&member.had.standby).filter_map(place) {
                had_standby.entry(task).or_default().push(index);
            }
        }
        let tasks = |keep: fn(&ConfiguredSubtopology) -> bool| -> Vec<Task> {
            let kept = subtopologies.values().zip(0..).filter(|(one, _)| keep(one));
            kept.flat_map(|(one, place)| (0..one.tasks).map(move |task| (place, task))).collect()
        };
        let (all, stateful) = (tasks(|_| true), tasks(|one| one.stateful));
        // More copies than processes find no place.
        let processes = Processes::new(members);
        let replicas = usize::try_from(standby_replicas).unwrap_or(0);
        Self {
            active: vec![Vec::new(); members.len()],
            standby: vec![Vec::new(); members.len()],
            had_active,
            had_standby,
            replicas,
            active_quota: Quota::new(all.len(), members.len()),
            quota: Quota::new(all.len() + stateful.len() * replicas, members.len()),
            processes,
            all,
            stateful,
        }
    }

    fn give_active(&mut self, task: Task, member: Index) {
        self.active[member].push(task);
        let count = self.processes.give(task, member);
        self.active_quota.filled(count);
        self.quota.filled(count);
    }

    fn give_standby(&mut self, task: Task, member: Index) {
        self.standby[member].push(task);
        let count = self.processes.give(task, member);
        self.quota.filled(count);
    }

    fn assign_active(&mut self) {
        let mut left = self.all.clone();
        // By partition first: subtopologies of one partition number tend to stay together.
        left.sort_by_key(|(place, task)| (*task, *place));
        for previous in [Self::previous_owner, Self::previous_standby] {
            let mut still = Vec::new();
            for task in left {
                let member = previous(self, task);
                match member.filter(|member| self.processes.count(*member) < self.active_quota.per_member) {
                    Some(member) => self.give_active(task, member),
                    None => still.push(task),
                }
            }
            left = still;
        }
        left.sort_unstable();
        let mut by_load = self.by_load();
        for task in left {
            let Some(Reverse((_, process))) = by_load.pop() else { break };
            let member = self.processes.least_loaded_member(process);
            self.give_active(task, member);
            by_load.push(Reverse((self.processes.load(process), process)));
        }
    }

    fn previous_owner(&self, task: Task) -> Option<Index> {
        self.had_active.get(&task).copied()
    }

    fn previous_standby(&self, task: Task) -> Option<Index> {
        self.least_loaded(self.had_standby.get(&task)?.iter().copied())
    }

    /// Of members that had a task, the one with the least load of its process, then of its own.
    fn least_loaded(&self, members: impl Iterator<Item = Index>) -> Option<Index> {
        let load = |member: &Index| (self.processes.load(self.processes.of(*member)), self.processes.count(*member));
        members.min_by_key(load)
    }

    fn by_load(&self) -> BinaryHeap<Reverse<(Load, usize)>> {
        (0..self.processes.len()).map(|process| Reverse((self.processes.load(process), process))).collect()
    }

    fn assign_standbys(&mut self) {
        if self.replicas == 0 {
            return;
        }
        let mut tasks = self.stateful.clone();
        tasks.sort_by_key(|(place, task)| Reverse((*task, *place)));
        let mut left = Vec::new();
        for task in tasks {
            let given = (0..self.replicas).take_while(|_| self.give_standby_back(task)).count();
            if given < self.replicas {
                left.push((task, self.replicas - given));
            }
        }
        left.sort_by_key(|(task, _)| Reverse(*task));
        let mut by_load = self.by_load();
        for (task, replicas) in left {
            for _ in 0..replicas {
                if !self.give_standby_anew(task, &mut by_load) {
                    tracing::debug!("there are fewer processes than copies of a task");
                    break;
                }
            }
        }
    }

    /// To whom had the task active, or else as a standby.
    fn give_standby_back(&mut self, task: Task) -> bool {
        let open = |member: &Index| !self.processes.has(self.processes.of(*member), task);
        let roomy = |member: &Index| self.processes.count(*member) < self.quota.per_member;
        let active = self.had_active.get(&task).copied().filter(open).filter(roomy);
        let standby = || {
            let had = self.had_standby.get(&task).into_iter().flatten().copied();
            self.least_loaded(had.filter(open)).filter(roomy)
        };
        let Some(member) = active.or_else(standby) else { return false };
        self.give_standby(task, member);
        true
    }

    /// To the process with the least load that has no copy.
    fn give_standby_anew(&mut self, task: Task, by_load: &mut BinaryHeap<Reverse<(Load, usize)>>) -> bool {
        let mut passed = Vec::new();
        let mut found = false;
        while let Some(Reverse((load, process))) = by_load.pop() {
            if self.processes.has(process, task) {
                passed.push(Reverse((load, process)));
                continue;
            }
            let member = self.processes.least_loaded_member(process);
            self.give_standby(task, member);
            by_load.push(Reverse((self.processes.load(process), process)));
            found = true;
            break;
        }
        by_load.extend(passed);
        found
    }

    fn tasks(&self, ids: &[&Arc<str>]) -> Vec<Tasks> {
        let named = |tasks: &[Task]| super::tasks::collect(tasks.iter().map(|(place, task)| (ids[*place], *task)));
        let each = self.active.iter().zip(&self.standby);
        each.map(|(active, standby)| Tasks {
            active: named(active),
            standby: named(standby),
            warmup: super::tasks::TaskSet::new(),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
