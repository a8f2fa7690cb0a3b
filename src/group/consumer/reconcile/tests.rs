use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::group::consumer::records::at_epoch;

const TOPIC: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

fn of(partitions: &[i32]) -> Partitions {
    if partitions.is_empty() { Partitions::new() } else { [(TOPIC, partitions.iter().copied().collect())].into() }
}

fn member(state: MemberState, epoch: i32, assigned: &[i32], revoking: &[i32]) -> Current {
    Current {
        epoch,
        previous_epoch: epoch - 1,
        state,
        assigned: at_epoch(&of(assigned), epoch),
        revoking: at_epoch(&of(revoking), epoch),
    }
}

/// Target epoch 11, subscribed to the one topic, `free` of all partitions.
fn step(current: &Current, target: &[i32], owned: Option<&[i32]>, taken: &[i32]) -> Current {
    let target = of(target);
    let owned = owned.map(of);
    Step {
        current,
        target_epoch: 11,
        target: &target,
        subscribed: &[TOPIC].into(),
        subscription_changed: false,
        owned: owned.as_ref(),
        is_owned: &|_, partition| taken.contains(&partition),
    }
    .take()
    .unwrap()
}

fn shape(current: &Current) -> (MemberState, i32, Vec<i32>, Vec<i32>) {
    let partitions = |of: &EpochPartitions| of.values().flat_map(|partitions| partitions.keys().copied()).collect();
    (current.state, current.epoch, partitions(&current.assigned), partitions(&current.revoking))
}

use MemberState::{Stable, Unreleased, Unrevoked};

#[rstest]
#[case::nothing_new_but_the_epoch(Stable, &[1, 2], &[], &[1, 2], None, &[], (Stable, 11, vec![1, 2], vec![]))]
#[case::gets_what_is_free(Stable, &[1], &[], &[1, 2], None, &[], (Stable, 11, vec![1, 2], vec![]))]
#[case::waits_for_another(Stable, &[1], &[], &[1, 2], None, &[2], (Unreleased, 11, vec![1], vec![]))]
#[case::gives_back_first(Stable, &[1, 2], &[], &[2, 3], None, &[], (Unrevoked, 10, vec![2], vec![1]))]
#[case::has_given_back_already(Stable, &[1, 2], &[], &[2, 3], Some(&[2][..]), &[], (Stable, 11, vec![2, 3], vec![]))]
#[case::still_has_it(Unrevoked, &[2], &[1], &[2, 3], Some(&[1, 2][..]), &[1, 2], (Unrevoked, 10, vec![2], vec![1]))]
#[case::does_not_say(Unrevoked, &[2], &[1], &[2, 3], None, &[1, 2], (Unrevoked, 10, vec![2], vec![1]))]
#[case::gave_back(Unrevoked, &[2], &[1], &[2, 3], Some(&[2][..]), &[1, 2], (Stable, 11, vec![2, 3], vec![]))]
#[case::gets_its_own_again(Unrevoked, &[2], &[1], &[1, 2], Some(&[2][..]), &[1, 2], (Stable, 11, vec![1, 2], vec![]))]
#[case::another_let_go(Unreleased, &[1], &[], &[1, 2], None, &[], (Stable, 11, vec![1, 2], vec![]))]
#[case::new_target_while_waiting(Unreleased, &[1], &[], &[2], Some(&[1][..]), &[], (Unrevoked, 10, vec![], vec![1]))]
fn steps_as_kafka(
    #[case] state: MemberState,
    #[case] assigned: &[i32],
    #[case] revoking: &[i32],
    #[case] target: &[i32],
    #[case] owned: Option<&[i32]>,
    #[case] taken: &[i32],
    #[case] expected: (MemberState, i32, Vec<i32>, Vec<i32>),
) {
    let next = step(&member(state, 10, assigned, revoking), target, owned, taken);
    assert_eq!(shape(&next), expected);
    assert_eq!(next.previous_epoch, if shape(&next).0 == Unrevoked && state == Unrevoked { 9 } else { 10 });
}

#[test]
fn partitions_keep_the_epoch_at_which_they_came() {
    let next = step(&member(Stable, 10, &[1], &[]), &[1, 2], None, &[]);
    assert_eq!(next.assigned, [(TOPIC, [(1, 10), (2, 11)].into())].into());
}

#[test]
fn a_topic_no_longer_subscribed_goes_before_there_is_a_target() {
    let current = Current {
        assigned: [(TOPIC, [(0, 10)].into()), (OTHER, [(0, 10)].into())].into(),
        ..member(Stable, 11, &[], &[])
    };
    let target = [(TOPIC, [0].into()), (OTHER, [0].into())].into();
    let step = Step {
        current: &current,
        target_epoch: 11,
        target: &target,
        subscribed: &[TOPIC].into(),
        subscription_changed: true,
        owned: None,
        is_owned: &|_, _| true,
    };
    let next = step.take().unwrap();
    assert_eq!((next.state, next.epoch), (Unrevoked, 11));
    assert_eq!(next.revoking, [(OTHER, [(0, 10)].into())].into());
}

#[rstest]
#[case::owns_something(Some(&[1][..]), true)]
#[case::does_not_say(None, true)]
#[case::owns_nothing(Some(&[][..]), false)]
fn a_state_of_a_newer_broker_begins_anew(#[case] owned: Option<&[i32]>, #[case] fenced: bool) {
    let (current, target) = (member(MemberState::Unknown(9), 10, &[], &[]), of(&[1]));
    let owned = owned.map(of);
    let step = Step {
        current: &current,
        target_epoch: 11,
        target: &target,
        subscribed: &[TOPIC].into(),
        subscription_changed: false,
        owned: owned.as_ref(),
        is_owned: &|_, _| false,
    };
    assert_eq!(step.take().is_err(), fenced);
}

proptest! {
    /// Members step in any order towards targets that change under way; what each says it owns follows what it was told.
    #[test]
    fn a_partition_never_has_two_owners(
        targets in proptest::collection::vec(proptest::collection::vec(0..3usize, 6), 1..6),
        order in proptest::collection::vec((0..3usize, any::<bool>()), 1..120),
    ) {
        let mut members: Vec<Current> = vec![Current::default(); 3];
        let mut owned: Vec<Partitions> = vec![Partitions::new(); 3];
        let steps_per_target = order.len().div_ceil(targets.len());
        let target_of = |owners: &[usize], at: usize| {
            let mine = (0..).zip(owners).filter(|(_, owner)| **owner == at).map(|(partition, _)| partition);
            of(&mine.collect::<Vec<i32>>())
        };
        let mut turn = |at: usize, says: bool, epoch: i32, owners: &[usize]| {
            let others: Vec<i32> = members.iter().flat_map(|member| {
                let both = member.assigned.values().chain(member.revoking.values());
                both.flat_map(|partitions| partitions.keys().copied()).collect::<Vec<_>>()
            }).collect();
            let target = target_of(owners, at);
            let next = Step {
                current: &members[at],
                target_epoch: epoch,
                target: &target,
                subscribed: &[TOPIC].into(),
                subscription_changed: false,
                owned: says.then_some(&owned[at]),
                is_owned: &|_, partition| others.contains(&partition),
            }.take().unwrap();
            members[at] = next;
            // The client does as it is told before it says again what it owns.
            if says {
                owned[at] = crate::group::consumer::records::without_epochs(&members[at].assigned);
            }
            let mut seen = BTreeSet::new();
            for member in &members {
                for partitions in member.assigned.values().chain(member.revoking.values()) {
                    for partition in partitions.keys() {
                        assert!(seen.insert(*partition), "{partition} has two owners");
                    }
                }
            }
        };
        for (nth, &(at, says)) in order.iter().enumerate() {
            let which = nth / steps_per_target;
            turn(at, says, which as i32 + 1, &targets[which]);
        }
        // Left alone, all arrive.
        let last = targets.len() - 1;
        for _ in 0..4 {
            for at in 0..3 {
                turn(at, true, last as i32 + 1, &targets[last]);
            }
        }
        for (at, member) in members.iter().enumerate() {
            prop_assert!(member.is_reconciled_to(last as i32 + 1));
            let owned = crate::group::consumer::records::without_epochs(&member.assigned);
            prop_assert_eq!(owned, target_of(&targets[last], at));
        }
    }
}
