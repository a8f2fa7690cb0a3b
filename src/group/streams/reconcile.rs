//! How a member gets from what it owns to its target: what it shall not have it gives back first; what it shall have and
//! another owns it gets when that one has let go. A process is the owner of its state directory, so two members of one process
//! never have one task in two roles.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::StreamsGroup;
use super::member::{Current, Member, MemberState};
use super::tasks::{EpochTasks, OwnedTasks, TaskSet, Tasks, collect, contains, each};
use crate::group::consumer::Refused;
use crate::protocol::error_code::ErrorCode;

type Task<'g> = (&'g Arc<str>, i32);

/// The processes that own, or give back, each task.
#[derive(Debug, Default)]
struct Owners<'g> {
    active: HashMap<Task<'g>, &'g Arc<str>>,
    /// Of standbys and warm-ups.
    copies: HashSet<(Task<'g>, &'g Arc<str>)>,
}

impl<'g> Owners<'g> {
    fn of(group: &'g StreamsGroup) -> Self {
        let mut owners = Self::default();
        for member in group.members.values() {
            let process = &member.subscription.process_id;
            for owned in [&member.current.assigned, &member.current.revoking] {
                for (id, tasks) in &owned.active {
                    owners.active.extend(tasks.keys().map(|task| ((id, *task), process)));
                }
                let copies = each(&owned.standby).chain(each(&owned.warmup));
                owners.copies.extend(copies.map(|task| (task, process)));
            }
        }
        owners
    }

    fn has_copy(&self, task: Task<'_>, process: &Arc<str>) -> bool {
        self.copies.contains(&(task, process))
    }

    /// Nobody may process a task twice, and its process must have closed the copy.
    fn blocks_active(&self, task: Task<'_>, process: &Arc<str>) -> bool {
        self.active.contains_key(&task) || self.has_copy(task, process)
    }

    fn blocks_copy(&self, task: Task<'_>, process: &Arc<str>) -> bool {
        self.active.get(&task).is_some_and(|owner| **owner == *process) || self.has_copy(task, process)
    }
}

/// One role of a member, held against its target.
#[derive(Debug)]
struct Difference {
    kept: TaskSet,
    revoking: TaskSet,
    /// To be had at once.
    free: TaskSet,
    /// Are there more that others own?
    unreleased: bool,
}

impl Difference {
    fn of(current: &TaskSet, target: &TaskSet, blocked: impl Fn(Task<'_>) -> bool) -> Self {
        let wanted = || each(target).filter(|task| !contains(current, *task));
        Self {
            kept: collect(each(current).filter(|task| contains(target, *task))),
            revoking: collect(each(current).filter(|task| !contains(target, *task))),
            free: collect(wanted().filter(|task| !blocked(*task))),
            unreleased: wanted().any(&blocked),
        }
    }

    fn assigned(&self) -> TaskSet {
        collect(each(&self.kept).chain(each(&self.free)))
    }
}

impl StreamsGroup {
    /// What a member is at next. `owned` is what it says that it owns, where it said.
    pub(super) fn next_of(
        &self,
        member: &Member,
        target_epoch: i32,
        target: &Tasks,
        owned: Option<&Tasks>,
    ) -> Result<Current, Refused> {
        let current = &member.current;
        let epoch = match current.state {
            MemberState::Stable if current.epoch == target_epoch => return Ok(current.clone()),
            MemberState::Stable | MemberState::Unreleased => current.epoch,
            MemberState::Unrevoked => {
                if owned.is_none_or(|owned| owned.overlaps(&current.revoking.tasks())) {
                    return Ok(current.clone());
                }
                current.epoch.saturating_add(1)
            }
            MemberState::Unknown(_) if owned.is_some_and(Tasks::is_empty) => target_epoch,
            MemberState::Unknown(_) => {
                let message = "The streams group member is in a unknown state. The member must abandon all its tasks and \
                               rejoin.";
                return Err(Refused::new(ErrorCode::FencedMemberEpoch, message));
            }
        };
        let owners = Owners::of(self);
        let process = &member.subscription.process_id;
        let assigned = current.assigned.tasks();
        let active = Difference::of(&assigned.active, &target.active, |task| owners.blocks_active(task, process));
        let standby = Difference::of(&assigned.standby, &target.standby, |task| owners.blocks_copy(task, process));
        let warmup = Difference::of(&assigned.warmup, &target.warmup, |task| owners.blocks_copy(task, process));

        let revoking = Tasks {
            active: active.revoking.clone(),
            standby: standby.revoking.clone(),
            warmup: warmup.revoking.clone(),
        };
        if !revoking.is_empty() && owned.is_none_or(|owned| owned.overlaps(&revoking)) {
            let had = |tasks: &TaskSet| with_epochs(tasks, &current.assigned.active, target_epoch);
            return Ok(Current {
                epoch,
                previous_epoch: current.epoch,
                state: MemberState::Unrevoked,
                assigned: OwnedTasks { active: had(&active.kept), standby: standby.kept, warmup: warmup.kept },
                revoking: OwnedTasks {
                    active: had(&revoking.active),
                    standby: revoking.standby,
                    warmup: revoking.warmup,
                },
            });
        }
        let waits = active.unreleased || standby.unreleased || warmup.unreleased;
        Ok(Current {
            epoch: target_epoch,
            previous_epoch: current.epoch,
            state: if waits { MemberState::Unreleased } else { MemberState::Stable },
            assigned: OwnedTasks {
                active: with_epochs(&active.assigned(), &current.assigned.active, target_epoch),
                standby: standby.assigned(),
                warmup: warmup.assigned(),
            },
            revoking: OwnedTasks::default(),
        })
    }
}

/// Tasks with the epochs at which they were got: those of `had`, else now.
fn with_epochs(tasks: &TaskSet, had: &EpochTasks, now: i32) -> EpochTasks {
    let of = |id: &Arc<str>, task: i32| had.get(id).and_then(|tasks| tasks.get(&task)).copied().unwrap_or(now);
    tasks.iter().map(|(id, tasks)| (Arc::clone(id), tasks.iter().map(|&task| (task, of(id, task))).collect())).collect()
}
