use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;

/// A group in short: what each member subscribes to, and the number of partitions of each topic.
#[derive(Debug, Clone)]
struct Group {
    subscriptions: Vec<BTreeSet<u128>>,
    sizes: Vec<i32>,
}

fn topic(nth: u128) -> Uuid {
    Uuid::from_u128(nth + 1)
}

fn assign(assignor: Assignor, group: &Group, owned: &[Partitions]) -> Vec<Partitions> {
    let ids: Vec<Arc<str>> = (0..group.subscriptions.len()).map(|at| format!("m{at:03}").into()).collect();
    let sizes: TopicSizes = (0..).zip(&group.sizes).map(|(nth, count)| (topic(nth), *count)).collect();
    let nothing = Partitions::new();
    let members: Vec<_> = ids
        .iter()
        .zip(&group.subscriptions)
        .enumerate()
        .map(|(at, (member_id, topics))| Wants {
            member_id,
            instance_id: None,
            topics: topics.iter().map(|&nth| topic(nth)).filter(|id| sizes.contains_key(id)).collect(),
            owns: owned.get(at).unwrap_or(&nothing),
        })
        .collect();
    assignor.assign(&members, &sizes)
}

fn loads(targets: &[Partitions]) -> Vec<usize> {
    targets.iter().map(|target| target.values().map(BTreeSet::len).sum()).collect()
}

fn moved(before: &[Partitions], after: &[Partitions]) -> usize {
    let gained = |(before, after): (&Partitions, &Partitions)| {
        let has = |id: &Uuid, one: &i32| before.get(id).is_some_and(|partitions| partitions.contains(one));
        after.iter().flat_map(|(id, partitions)| partitions.iter().filter(move |one| !has(id, one))).count()
    };
    before.iter().zip(after).map(gained).sum()
}

/// Every partition of every subscribed topic has one owner, who subscribes to it.
fn check_whole(group: &Group, targets: &[Partitions]) {
    let mut seen = BTreeSet::new();
    for (target, subscription) in targets.iter().zip(&group.subscriptions) {
        for (id, partitions) in target {
            assert!(subscription.iter().any(|&nth| topic(nth) == *id), "assigned without subscription");
            assert!(!partitions.is_empty());
            for partition in partitions {
                assert!(seen.insert((*id, *partition)), "assigned twice");
            }
        }
    }
    let subscribed: BTreeSet<u128> = group.subscriptions.iter().flatten().copied().collect();
    let sizes = (0u128..).zip(&group.sizes).filter(|(nth, _)| subscribed.contains(nth));
    let all: usize = sizes.map(|(_, count)| usize::try_from(*count).unwrap()).sum();
    assert_eq!(seen.len(), all, "every partition is assigned");
}

fn spread(targets: &[Partitions]) -> usize {
    let loads = loads(targets);
    loads.iter().max().unwrap() - loads.iter().min().unwrap()
}

fn equal(members: usize, sizes: &[i32]) -> Group {
    let all = (0..sizes.len() as u128).collect::<BTreeSet<_>>();
    Group { subscriptions: vec![all; members], sizes: sizes.to_vec() }
}

#[test]
fn range_gives_each_member_the_same_of_every_topic() {
    let targets = assign(Assignor::Range, &equal(2, &[3, 3]), &[]);
    let expected = |partitions: &[i32]| -> Partitions {
        [topic(0), topic(1)].map(|id| (id, partitions.iter().copied().collect())).into_iter().collect()
    };
    assert_eq!(targets, [expected(&[0, 1]), expected(&[2])]);
}

#[test]
fn range_puts_static_members_first() {
    let ids: [Arc<str>; 2] = ["a".into(), "b".into()];
    let instance: Arc<str> = "z".into();
    let (nothing, sizes) = (Partitions::new(), TopicSizes::from([(topic(0), 2)]));
    let wants = |at: usize, instance_id| Wants {
        member_id: &ids[at],
        instance_id,
        topics: BTreeSet::from([topic(0)]),
        owns: &nothing,
    };
    let targets = Assignor::Range.assign(&[wants(0, None), wants(1, Some(&instance))], &sizes);
    assert_eq!(targets[1][&topic(0)], BTreeSet::from([0]));
    assert_eq!(targets[0][&topic(0)], BTreeSet::from([1]));
}

#[test]
fn uniform_takes_from_others_only_what_a_new_member_shall_have() {
    let two = assign(Assignor::Uniform, &equal(2, &[6]), &[]);
    assert_eq!(loads(&two), [3, 3]);
    let mut before = two.clone();
    before.push(Partitions::new());
    let three = assign(Assignor::Uniform, &equal(3, &[6]), &before);
    assert_eq!((loads(&three), moved(&before, &three)), (vec![2, 2, 2], 2));
}

#[test]
fn uniform_levels_different_subscriptions() {
    // The first member reads both topics, the second only the larger one.
    let group = Group { subscriptions: vec![[0, 1].into(), [1].into()], sizes: vec![2, 6] };
    let targets = assign(Assignor::Uniform, &group, &[]);
    check_whole(&group, &targets);
    assert_eq!(loads(&targets), [4, 4]);
}

#[test]
fn what_no_longer_exists_is_not_kept() {
    let ghost: Partitions = [(topic(0), [0, 7, -1].into()), (topic(9), [0].into())].into();
    for assignor in [Assignor::Uniform, Assignor::Range] {
        let group = equal(1, &[2]);
        let targets = assign(assignor, &group, std::slice::from_ref(&ghost));
        check_whole(&group, &targets);
    }
}

fn groups() -> impl Strategy<Value = Group> {
    let sizes = vec(0..12i32, 1..5);
    (vec(btree_set(0..5u128, 0..5), 1..9), sizes, any::<bool>()).prop_map(|(mut subscriptions, sizes, same)| {
        let exists = |nth: &u128| *nth < sizes.len() as u128;
        for subscription in &mut subscriptions {
            subscription.retain(exists);
        }
        if same {
            let first = subscriptions[0].clone();
            subscriptions.fill(first);
        }
        Group { subscriptions, sizes }
    })
}

proptest! {
    #[test]
    fn every_partition_has_one_owner(group in groups(), range in any::<bool>()) {
        let assignor = if range { Assignor::Range } else { Assignor::Uniform };
        check_whole(&group, &assign(assignor, &group, &[]));
    }

    #[test]
    fn uniform_is_even_sticky_and_settles(group in groups(), gone in 0..9usize) {
        let first = assign(Assignor::Uniform, &group, &[]);
        prop_assert_eq!(&assign(Assignor::Uniform, &group, &first), &first, "nothing moves without a reason");
        let same = group.subscriptions.iter().all(|subscription| *subscription == group.subscriptions[0]);
        if same {
            prop_assert!(spread(&first) <= 1);
        }
        // One member leaves: its partitions move and, with equal subscriptions, no others.
        if group.subscriptions.len() > 1 {
            let gone = gone % group.subscriptions.len();
            let (mut left, mut before) = (group.clone(), first.clone());
            left.subscriptions.remove(gone);
            let freed = loads(&[before.remove(gone)])[0];
            let after = assign(Assignor::Uniform, &left, &before);
            check_whole(&left, &after);
            if same {
                prop_assert!(spread(&after) <= 1);
                prop_assert_eq!(moved(&before, &after), freed);
            }
        }
    }

    #[test]
    fn uniform_leaves_no_move_that_would_level(group in groups()) {
        let targets = assign(Assignor::Uniform, &group, &[]);
        let loads = loads(&targets);
        for (from, target) in targets.iter().enumerate() {
            for id in target.keys() {
                for (to, subscription) in group.subscriptions.iter().enumerate() {
                    if subscription.iter().any(|&nth| topic(nth) == *id) {
                        prop_assert!(loads[from] <= loads[to] + 1, "{from} could give {id} to {to}: {loads:?}");
                    }
                }
            }
        }
    }
}
