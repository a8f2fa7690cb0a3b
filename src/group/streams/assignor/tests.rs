use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::group::streams::tasks::collect;
use crate::group::streams::topology::Subtopology;

fn parts(of: &[(&str, i32, bool)]) -> BTreeMap<Arc<str>, ConfiguredSubtopology> {
    let one = |tasks, stateful| ConfiguredSubtopology { tasks, stateful, topics: Subtopology::default() };
    of.iter().map(|(id, tasks, stateful)| (Arc::from(*id), one(*tasks, *stateful))).collect()
}

fn member(id: &str, process: &str, had: Tasks) -> AssignedMember {
    AssignedMember { id: id.into(), process: process.into(), had }
}

/// "0_1 1_0" as a set.
fn set(text: &str) -> super::super::tasks::TaskSet {
    let named: Vec<(Arc<str>, i32)> = text
        .split_whitespace()
        .map(|task| task.split_once('_').map(|(id, task)| (Arc::from(id), task.parse().unwrap())).unwrap())
        .collect();
    collect(named.iter().map(|(id, task)| (id, *task)))
}

fn active(text: &str) -> Tasks {
    Tasks { active: set(text), ..Tasks::default() }
}

fn with_standby(active: &str, standby: &str) -> Tasks {
    Tasks { active: set(active), standby: set(standby), ..Tasks::default() }
}

#[rstest]
#[case::spread(
    &[("0", 4, false)], 0, &[("a", "p", active("")), ("b", "q", active(""))],
    &[active("0_0 0_2"), active("0_1 0_3")]
)]
#[case::a_process_with_more_members_gets_more(
    &[("0", 6, false)], 0, &[("a", "p", active("")), ("b", "p", active("")), ("c", "q", active(""))],
    &[active("0_0 0_4"), active("0_2 0_5"), active("0_1 0_3")]
)]
#[case::who_had_it_keeps_it(
    &[("0", 4, false)], 0, &[("a", "p", active("0_1 0_3")), ("b", "q", active("0_0 0_2"))],
    &[active("0_1 0_3"), active("0_0 0_2")]
)]
#[case::not_above_its_share(
    &[("0", 4, false)], 0, &[("a", "p", active("0_0 0_1 0_2 0_3")), ("b", "q", active(""))],
    &[active("0_0 0_1"), active("0_2 0_3")]
)]
#[case::the_copy_takes_over(
    &[("0", 2, true)], 0, &[("a", "p", with_standby("", "0_1")), ("b", "q", with_standby("", "0_0"))],
    &[active("0_1"), active("0_0")]
)]
#[case::standbys_go_elsewhere(
    &[("0", 2, true), ("1", 2, false)], 1, &[("a", "p", active("")), ("b", "q", active(""))],
    &[with_standby("0_0 1_0", "0_1"), with_standby("0_1 1_1", "0_0")]
)]
#[case::no_second_copy_in_a_process(
    &[("0", 2, true)], 2, &[("a", "p", active("")), ("b", "p", active(""))],
    &[active("0_0"), active("0_1")]
)]
#[case::standbys_stay(
    &[("0", 3, true)], 1,
    &[("a", "p", with_standby("0_0", "0_2")), ("b", "q", with_standby("0_1", "0_0")), ("c", "r", with_standby("0_2", "0_1"))],
    &[with_standby("0_0", "0_2"), with_standby("0_1", "0_0"), with_standby("0_2", "0_1")]
)]
#[case::what_is_no_more_is_forgotten(
    &[("0", 1, true)], 0, &[("a", "p", with_standby("0_0 0_7 9_0", "8_0"))], &[active("0_0")]
)]
fn tasks_are_assigned(
    #[case] of: &[(&str, i32, bool)],
    #[case] replicas: i32,
    #[case] members: &[(&str, &str, Tasks)],
    #[case] expected: &[Tasks],
) {
    let members: Vec<_> = members.iter().map(|(id, process, had)| member(id, process, had.clone())).collect();
    assert_eq!(assign(&members, &parts(of), replicas), expected);
}

#[test]
fn a_group_without_members_is_assigned_nothing() {
    assert!(assign(&[], &parts(&[("0", 3, true)]), 1).is_empty());
}

fn check(
    members: &[AssignedMember],
    of: &BTreeMap<Arc<str>, ConfiguredSubtopology>,
    replicas: usize,
    targets: &[Tasks],
) {
    let everyone = || members.iter().zip(targets);
    let mut owned: Vec<_> = everyone().flat_map(|(_, target)| each(&target.active)).collect();
    owned.sort();
    let all: Vec<_> = of.iter().flat_map(|(id, one)| (0..one.tasks).map(move |task| (id, task))).collect();
    assert_eq!(owned, all, "every task is active once");
    let processes: BTreeSet<_> = members.iter().map(|member| &member.process).collect();
    for (id, task) in all {
        let at = |role: fn(&Tasks) -> &super::super::tasks::TaskSet| -> Vec<&Arc<str>> {
            let has = everyone().filter(|(_, target)| super::super::tasks::contains(role(target), (id, task)));
            has.map(|(member, _)| &member.process).collect()
        };
        let (active, standby) = (at(|tasks| &tasks.active), at(|tasks| &tasks.standby));
        let distinct: BTreeSet<_> = active.iter().chain(&standby).collect();
        assert_eq!(distinct.len(), active.len() + standby.len(), "one copy in a process");
        let wanted = if of[id].stateful { replicas.min(processes.len() - 1) } else { 0 };
        assert_eq!(standby.len(), wanted, "as many copies as there is room for");
    }
}

fn counts(targets: &[Tasks]) -> (usize, usize) {
    let counts = targets.iter().map(|target| each(&target.active).count());
    (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0))
}

proptest! {
    #[test]
    fn every_task_is_active_once_balanced_and_stays(
        processes in vec(1usize..4, 1..5),
        sizes in vec((0i32..9, any::<bool>()), 0..4),
        replicas in 0i32..3,
        leaving in any::<prop::sample::Index>(),
    ) {
        let of: Vec<_> = sizes.iter().zip(["0", "1", "2", "3"]).map(|((tasks, stateful), id)| (id, *tasks, *stateful)).collect();
        let of = parts(&of);
        let mut members: Vec<_> = processes
            .iter()
            .enumerate()
            .flat_map(|(process, count)| (0..*count).map(move |of| member(&format!("{process}-{of}"), &format!("p{process}"), Tasks::default())))
            .collect();
        let copies = replicas as usize;
        let first = assign(&members, &of, replicas);
        check(&members, &of, copies, &first);
        // Without a past nobody has more than one above another by process load, so members differ by few.
        let (least, most) = counts(&first);
        prop_assert!(most - least <= 1, "{least} to {most}");
        // Asked again nobody loses what it has.
        members.iter_mut().zip(&first).for_each(|(member, had)| member.had = had.clone());
        let again = assign(&members, &of, replicas);
        prop_assert_eq!(again.iter().map(|tasks| &tasks.active).collect::<Vec<_>>(), first.iter().map(|tasks| &tasks.active).collect::<Vec<_>>());
        check(&members, &of, copies, &again);
        // One goes: those who stay lose at most nothing of what was active at them.
        if members.len() > 1 {
            let gone = leaving.index(members.len());
            members.remove(gone);
            let after = assign(&members, &of, 0);
            check(&members, &of, 0, &after);
            for (member, now) in members.iter().zip(&after) {
                prop_assert!(each(&member.had.active).all(|task| super::super::tasks::contains(&now.active, task)));
            }
        }
    }
}
