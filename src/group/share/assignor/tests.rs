use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn names(topics: &[u8]) -> BTreeSet<Arc<str>> {
    topics.iter().map(|topic| topic.to_string().into()).collect()
}

fn topics(counts: &[i32]) -> Vec<Readable> {
    let topic = |(at, count): (u8, &i32)| Readable {
        name: at.to_string().into(),
        id: Uuid::from_u128(u128::from(at)),
        partitions: (0..*count).collect(),
    };
    (0..).zip(counts).map(topic).collect()
}

fn run(subscriptions: &[BTreeSet<Arc<str>>], before: &[Partitions], topics: &[Readable]) -> Vec<Partitions> {
    let reader = |(at, names)| Reader { names, before: before.get(at) };
    assign(&subscriptions.iter().enumerate().map(reader).collect::<Vec<_>>(), topics)
}

fn sizes(assigned: &[Partitions]) -> Vec<usize> {
    assigned.iter().map(|partitions| partitions.values().map(BTreeSet::len).sum()).collect()
}

/// How often each partition was assigned.
fn shares(assigned: &[Partitions], topic: &Readable) -> Vec<usize> {
    let has = |partition, member: &Partitions| member.get(&topic.id).is_some_and(|some| some.contains(partition));
    topic.partitions.iter().map(|one| assigned.iter().filter(|member| has(one, member)).count()).collect()
}

/// As Kafka's `SimpleHomogeneousAssignmentBuilder` counts: partitions times `ceil(members / partitions)` over all members.
#[rstest]
#[case::one_member(1, &[3], &[3], 1)]
#[case::as_many(3, &[3], &[1, 1, 1], 1)]
#[case::more_partitions(2, &[3], &[2, 1], 1)]
#[case::two_topics(2, &[3, 2], &[3, 2], 1)]
#[case::more_members(3, &[2], &[2, 1, 1], 2)]
#[case::one_partition(4, &[1], &[1, 1, 1, 1], 4)]
#[case::many_members(5, &[2], &[2, 1, 1, 1, 1], 3)]
#[case::none(2, &[0], &[0, 0], 0)]
fn members_that_subscribe_alike_differ_by_one(
    #[case] members: usize,
    #[case] counts: &[i32],
    #[case] expected: &[usize],
    #[case] sharing: usize,
) {
    let topics = topics(counts);
    let all = names(&(0..u8::try_from(counts.len()).unwrap()).collect::<Vec<_>>());
    let assigned = run(&vec![all; members], &[], &topics);
    assert_eq!(sizes(&assigned), expected);
    assert!(topics.iter().all(|topic| shares(&assigned, topic).iter().all(|count| *count == sharing)));
}

#[test]
fn each_topic_is_spread_by_itself_when_members_differ() {
    let subscriptions = [names(&[0]), names(&[0, 1]), names(&[1])];
    let topics = topics(&[4, 1]);
    let assigned = run(&subscriptions, &[], &topics);
    assert_eq!(sizes(&assigned), [2, 3, 1]);
    assert_eq!((shares(&assigned, &topics[0]), shares(&assigned, &topics[1])), (vec![1; 4], vec![2]));
}

#[test]
fn who_comes_takes_no_more_than_its_part() {
    let topics = topics(&[6]);
    let before = run(&vec![names(&[0]); 2], &[], &topics);
    let after = run(&vec![names(&[0]); 3], &before, &topics);
    assert_eq!(sizes(&after), [2, 2, 2]);
    let kept = |at: usize| after[at].iter().all(|(topic, some)| some.is_subset(&before[at][topic]));
    assert!(kept(0) && kept(1));
    // It leaves again: nobody loses a partition.
    let back = run(&vec![names(&[0]); 2], &after[..2], &topics);
    assert_eq!(sizes(&back), [3, 3]);
    assert!((0..2).all(|at| after[at].iter().all(|(topic, some)| some.is_subset(&back[at][topic]))));
}

proptest! {
    #[test]
    fn all_is_read_and_nobody_reads_much_more(
        subscriptions in proptest::collection::vec(proptest::collection::btree_set(0u8..4, 0..4), 1..12),
        alike in any::<bool>(),
        counts in proptest::collection::vec(0i32..6, 4),
        before in proptest::collection::vec(proptest::collection::vec((0u8..5, 0i32..8), 0..12), 12),
    ) {
        let topics = topics(&counts);
        let mut subscriptions: Vec<_> =
            subscriptions.into_iter().map(|some| names(&some.into_iter().collect::<Vec<_>>())).collect();
        if alike {
            let first = subscriptions[0].clone();
            subscriptions.iter_mut().for_each(|names| names.clone_from(&first));
        }
        let before: Vec<Partitions> = before.into_iter().map(|slots| {
            let mut partitions = Partitions::new();
            for (topic, partition) in slots {
                partitions.entry(Uuid::from_u128(u128::from(topic))).or_default().insert(partition);
            }
            partitions
        }).collect();
        let assigned = run(&subscriptions, &before, &topics);
        for topic in &topics {
            let shares = shares(&assigned, topic);
            let readers: Vec<usize> =
                (0..subscriptions.len()).filter(|at| subscriptions[*at].contains(&topic.name)).collect();
            prop_assert!(readers.is_empty() || shares.iter().all(|count| *count >= 1));
            prop_assert!(!readers.is_empty() || shares.iter().all(|count| *count == 0));
            if !alike {
                let of: Vec<usize> =
                    readers.iter().map(|at| assigned[*at].get(&topic.id).map_or(0, BTreeSet::len)).collect();
                prop_assert!(of.iter().max().unwrap_or(&0) - of.iter().min().unwrap_or(&0) <= 1);
            }
        }
        if alike {
            let sizes = sizes(&assigned);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
        for (names, partitions) in subscriptions.iter().zip(&assigned) {
            let known = |id: &Uuid| topics.iter().any(|topic| topic.id == *id && names.contains(&topic.name));
            prop_assert!(partitions.keys().all(known));
        }
        // What is right already stays.
        prop_assert_eq!(run(&subscriptions, &assigned, &topics), assigned);
    }
}
