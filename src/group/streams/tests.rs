use proptest::prelude::*;
use rstest::rstest;
use uuid::Uuid;

use super::heartbeat::{HeartbeatAnswer, HeartbeatRequest, Owned};
use super::member::Endpoint;
use super::status::StatusCode;
use super::tasks::{collect, each};
use super::topology::{CopartitionGroup, InternalTopic, Subtopology};
use super::*;
use crate::config::server::StreamsGroupSettings;
use crate::metadata::image::Topic;

fn image(topics: &[(&str, i32)]) -> Arc<Image> {
    let mut image = Image { generation: topics.len() as u64, ..Image::default() };
    for (id, (name, partition_count)) in (1..).zip(topics) {
        let topic = Topic {
            id: Uuid::from_u128(id),
            name: (*name).into(),
            partition_count: *partition_count,
            replication_factor: 1,
            config: Default::default(),
        };
        image.topics.insert(topic.name.clone(), Arc::new(topic));
    }
    Arc::new(image)
}

fn limits(image: &Image) -> StreamsLimits {
    StreamsLimits::of("g", &StreamsGroupSettings::for_tests(), image)
}

fn around(image: &Arc<Image>) -> Surroundings<'_> {
    let now = Now { mono_ms: 0, wall_ms: 1000 };
    Surroundings { image, limits: limits(image), rack: None, size_max: 3, now }
}

fn internal(name: &str, partitions: i32) -> InternalTopic {
    InternalTopic { name: name.into(), partitions, ..InternalTopic::default() }
}

fn names(of: &[&str]) -> Vec<Arc<str>> {
    of.iter().map(|name| Arc::from(*name)).collect()
}

/// A stateful subtopology "0" that reads `sources`.
fn counts(sources: &[&str]) -> Topology {
    let one = Subtopology {
        source_topics: names(sources),
        changelog_topics: vec![internal("changelog", 0)],
        ..Subtopology::default()
    };
    Topology { epoch: 0, subtopologies: [("0".into(), one)].into() }
}

fn beat(member: &str, epoch: i32) -> HeartbeatRequest {
    HeartbeatRequest { group: "g".into(), member_id: member.into(), epoch, ..HeartbeatRequest::default() }
}

fn joins(member: &str, topology: Topology) -> HeartbeatRequest {
    HeartbeatRequest {
        rebalance_timeout_ms: Some(1000),
        topology: Some(topology),
        process_id: Some(format!("p-{member}").into()),
        owned: Owned::All(Tasks::default()),
        ..beat(member, 0)
    }
}

fn owns(member: &str, epoch: i32, active: &[i32]) -> HeartbeatRequest {
    let id = Arc::from("0");
    let active = collect(active.iter().map(|task| (&id, *task)));
    HeartbeatRequest { owned: Owned::All(Tasks { active, ..Tasks::default() }), ..beat(member, epoch) }
}

fn active(answer: &HeartbeatAnswer) -> Option<Vec<i32>> {
    answer.tasks.as_ref().map(|tasks| each(&tasks.active).map(|(_, task)| task).collect())
}

fn codes(answer: &HeartbeatAnswer) -> Vec<StatusCode> {
    answer.statuses.iter().map(|status| status.code).collect()
}

fn empty() -> StreamsDraft {
    StreamsDraft::of(&StreamsGroup::new("g".into()))
}

fn refused(outcome: Result<HeartbeatAnswer, Refused>) -> (ErrorCode, String) {
    outcome.map_err(|refused| (refused.code, refused.message)).unwrap_err()
}

#[test]
fn tasks_move_when_who_has_them_lets_go() {
    let image = image(&[("in", 2), ("changelog", 2)]);
    let around = around(&image);
    let mut draft = empty();
    let first = draft.heartbeat(&joins("a", counts(&["in"])), &around).unwrap();
    assert_eq!((first.epoch, active(&first), codes(&first)), (2, Some(vec![0, 1]), vec![]));
    assert_eq!(draft.group.state(), State::Stable);
    let second = draft.heartbeat(&joins("b", counts(&["in"])), &around).unwrap();
    assert_eq!((second.epoch, active(&second)), (3, Some(vec![])));
    assert_eq!(draft.group.state(), State::Reconciling);
    // It still owns both, and is told to give one back.
    let told = draft.heartbeat(&owns("a", 2, &[0, 1]), &around).unwrap();
    assert_eq!((told.epoch, active(&told)), (2, Some(vec![0])));
    let unchanged = draft.heartbeat(&beat("a", 2), &around).unwrap();
    assert_eq!((unchanged.epoch, active(&unchanged)), (2, None));
    let waits = draft.heartbeat(&beat("b", 3), &around).unwrap();
    assert_eq!(active(&waits), None);
    let gave_back = draft.heartbeat(&owns("a", 2, &[0]), &around).unwrap();
    assert_eq!((gave_back.epoch, active(&gave_back)), (3, None));
    let got = draft.heartbeat(&beat("b", 3), &around).unwrap();
    assert_eq!((got.epoch, active(&got)), (3, Some(vec![1])));
    assert_eq!(draft.group.state(), State::Stable);
    assert!(draft.group.keep_alive(&beat("b", 3), &around).is_some_and(|answer| answer.tasks.is_none()));
    // What the records say is what there is, in both ways.
    let loaded = |records: Vec<StreamsRecord>| {
        let mut group = StreamsGroup::new("g".into());
        records.into_iter().for_each(|record| group.apply(record));
        group.describe()
    };
    let described = StreamsGroup { configured: None, ..draft.group.clone() }.describe();
    assert_eq!(loaded(draft.records.clone()), described);
    assert_eq!(loaded(draft.group.logged()), described);
    draft.remove_members(&["a".into(), "b".into()].into());
    assert_eq!(draft.group.state(), State::Empty);
}

#[test]
fn a_member_that_keeps_tasks_is_removed() {
    let image = image(&[("in", 2), ("changelog", 2)]);
    let around = around(&image);
    let mut draft = empty();
    draft.heartbeat(&joins("a", counts(&["in"])), &around).unwrap();
    draft.heartbeat(&joins("b", counts(&["in"])), &around).unwrap();
    draft.heartbeat(&beat("a", 2), &around).unwrap();
    assert_eq!(draft.group.next_due(), Some(1000));
    assert!(draft.group.overdue(Now { mono_ms: 999, wall_ms: 0 }).is_empty());
    // A load begins the wait anew.
    let mut loaded = StreamsGroup::new("g".into());
    draft.group.logged().into_iter().for_each(|record| loaded.apply(record));
    loaded.loaded(&limits(&image), Now { mono_ms: 500, wall_ms: 0 });
    assert_eq!(loaded.next_due(), Some(1500));
    assert_eq!(draft.group.overdue(Now { mono_ms: 1000, wall_ms: 0 }), ["a".into()].into());
    let all = draft.group.overdue(Now { mono_ms: 45_000, wall_ms: 0 });
    assert_eq!(all, ["a".into(), "b".into()].into());
}

#[test]
fn the_first_assignment_waits_for_members() {
    let image = image(&[("in", 2), ("changelog", 2)]);
    let mut around = around(&image);
    around.limits.initial_rebalance_delay_ms = 3000;
    let mut draft = empty();
    let first = draft.heartbeat(&joins("a", counts(&["in"])), &around).unwrap();
    assert_eq!((first.epoch, active(&first), codes(&first)), (1, Some(vec![]), vec![StatusCode::AssignmentDelayed]));
    around.now.mono_ms = 100;
    let second = draft.heartbeat(&joins("b", counts(&["in"])), &around).unwrap();
    assert_eq!(codes(&second), [StatusCode::AssignmentDelayed]);
    assert_eq!(draft.group.next_due(), Some(3000));
    around.now.mono_ms = 3000;
    draft.end_first_wait(&around);
    assert_eq!(active(&draft.heartbeat(&beat("a", 1), &around).unwrap()), Some(vec![0]));
    assert_eq!(active(&draft.heartbeat(&beat("b", 1), &around).unwrap()), Some(vec![1]));
}

#[test]
fn the_next_assignment_waits_for_its_interval() {
    let image = image(&[("in", 2), ("changelog", 2)]);
    let mut around = around(&image);
    around.limits.assignment_interval_ms = 500;
    let mut draft = empty();
    draft.heartbeat(&joins("a", counts(&["in"])), &around).unwrap();
    let second = draft.heartbeat(&joins("b", counts(&["in"])), &around).unwrap();
    assert_eq!((second.epoch, codes(&second)), (2, vec![StatusCode::AssignmentDelayed]));
    assert_eq!(draft.group.state(), State::Assigning);
    around.now.wall_ms = 1500;
    let later = draft.heartbeat(&beat("b", 2), &around).unwrap();
    assert_eq!((later.epoch, codes(&later)), (3, vec![]));
}

#[test]
fn topics_that_come_and_go_are_followed() {
    let without = image(&[]);
    let mut draft = empty();
    let told = draft.heartbeat(&joins("a", counts(&["in"])), &around(&without)).unwrap();
    assert_eq!(codes(&told), [StatusCode::MissingSourceTopics]);
    assert_eq!(draft.group.state(), State::NotReady);
    let half = image(&[("in", 2)]);
    let told = draft.heartbeat(&beat("a", told.epoch), &around(&half)).unwrap();
    assert_eq!((codes(&told), told.missing.len()), (vec![StatusCode::MissingInternalTopics], 1));
    let all = image(&[("in", 2), ("changelog", 2)]);
    let ready = draft.heartbeat(&beat("a", told.epoch), &around(&all)).unwrap();
    assert_eq!((codes(&ready), active(&ready)), (vec![], Some(vec![0, 1])));
    let gone = image(&[]);
    let told = draft.heartbeat(&beat("a", ready.epoch), &around(&gone)).unwrap();
    assert_eq!((codes(&told), active(&told)), (vec![StatusCode::MissingSourceTopics], Some(vec![])));
}

#[test]
fn standbys_come_with_the_configuration() {
    let image = image(&[("in", 2), ("changelog", 2)]);
    let mut around = around(&image);
    let mut draft = empty();
    let a = draft.heartbeat(&joins("a", counts(&["in"])), &around).unwrap();
    assert!(draft.group.keep_alive(&beat("a", a.epoch), &around).is_some());
    around.limits.standby_replicas = 1;
    assert!(draft.group.keep_alive(&beat("a", a.epoch), &around).is_none());
    let b = draft.heartbeat(&joins("b", counts(&["in"])), &around).unwrap();
    assert_eq!(active(&b), Some(vec![]));
    draft.heartbeat(&owns("a", a.epoch, &[0, 1]), &around).unwrap();
    let a = draft.heartbeat(&owns("a", a.epoch, &[0]), &around).unwrap();
    let b = draft.heartbeat(&beat("b", b.epoch), &around).unwrap();
    let a = draft.heartbeat(&beat("a", a.epoch), &around).unwrap().tasks.or(a.tasks);
    let standby = |tasks: Option<Tasks>| -> Vec<i32> {
        tasks.iter().flat_map(|tasks| each(&tasks.standby).map(|(_, task)| task).collect::<Vec<_>>()).collect()
    };
    assert_eq!((active(&b), standby(a), standby(b.tasks)), (Some(vec![1]), vec![1], vec![0]));
}

#[test]
fn a_shutdown_is_told_until_all_have_gone() {
    let image = image(&[("in", 1), ("changelog", 1)]);
    let around = around(&image);
    let mut draft = empty();
    let a = draft.heartbeat(&joins("a", counts(&["in"])), &around).unwrap();
    draft.heartbeat(&joins("b", counts(&["in"])), &around).unwrap();
    let told = draft.heartbeat(&HeartbeatRequest { shutdown: true, ..beat("a", a.epoch) }, &around).unwrap();
    assert_eq!(codes(&told), [StatusCode::ShutdownApplication]);
    let b = draft.heartbeat(&beat("b", 3), &around).unwrap();
    assert!(b.statuses[0].detail.contains("member a encountered"));
    draft.remove_members(&["a".into(), "b".into()].into());
    assert_eq!(codes(&draft.heartbeat(&joins("c", counts(&["in"])), &around).unwrap()), []);
}

#[test]
fn members_with_endpoints_are_told_of_each_other() {
    let image = image(&[("in", 2), ("changelog", 2)]);
    let around = around(&image);
    let mut draft = empty();
    let endpoint = Endpoint { host: "h".into(), port: 40_000 };
    let with_endpoint = HeartbeatRequest { endpoint: Some(endpoint.clone()), ..joins("a", counts(&["in"])) };
    let a = draft.heartbeat(&with_endpoint, &around).unwrap();
    assert_eq!(a.endpoint_epoch, 1);
    let [told] = &a.endpoints.unwrap()[..] else { panic!("one endpoint") };
    assert_eq!((&told.endpoint, &told.active), (&endpoint, &vec![("in".into(), vec![0, 1])]));
    let known = HeartbeatRequest { endpoint_epoch: 1, ..beat("a", a.epoch) };
    assert_eq!(draft.group.keep_alive(&known, &around).unwrap().endpoints, None);
    assert!(draft.group.keep_alive(&beat("a", a.epoch), &around).unwrap().endpoints.is_some());
}

#[rstest]
#[case::of_a_later_life(owns("a", 9, &[]), ErrorCode::FencedMemberEpoch, "greater")]
#[case::of_an_earlier_life(owns("a", 1, &[]), ErrorCode::FencedMemberEpoch, "smaller")]
#[case::an_answer_behind_with_more_than_its_own(owns("a", 2, &[0, 1]), ErrorCode::FencedMemberEpoch, "smaller")]
#[case::a_stranger(beat("x", 3), ErrorCode::UnknownMemberId, "not a member")]
#[case::no_such_task(owns("a", 3, &[7]), ErrorCode::InvalidRequest, "Number of tasks for this subtopology: 2")]
#[case::another_topology(joins("a", counts(&["other"])), ErrorCode::InvalidRequest, "updates are not supported")]
fn forged_members_and_epochs_are_refused(
    #[case] request: HeartbeatRequest,
    #[case] code: ErrorCode,
    #[case] message: &str,
) {
    let image = image(&[("in", 2), ("changelog", 2)]);
    let around = around(&image);
    let mut draft = empty();
    draft.heartbeat(&joins("a", counts(&["in"])), &around).unwrap();
    draft.heartbeat(&joins("b", counts(&["in"])), &around).unwrap();
    draft.heartbeat(&owns("a", 2, &[0, 1]), &around).unwrap();
    assert_eq!(draft.heartbeat(&owns("a", 2, &[0]), &around).unwrap().epoch, 3);
    let (found, said) = refused(draft.heartbeat(&request, &around));
    assert_eq!(found, code);
    assert!(said.contains(message), "{said}");
    // The answer that raised the epoch may have been lost.
    assert!(draft.heartbeat(&owns("a", 2, &[0]), &around).is_ok());
}

#[test]
fn a_group_has_a_largest_size_and_an_older_topology_is_told_so() {
    let image = image(&[("in", 2), ("changelog", 2)]);
    let around = around(&image);
    let mut draft = empty();
    let newer = Topology { epoch: 2, ..counts(&["in"]) };
    draft.heartbeat(&joins("a", newer.clone()), &around).unwrap();
    let behind = draft.heartbeat(&joins("b", counts(&["in"])), &around).unwrap();
    assert_eq!(codes(&behind), [StatusCode::StaleTopology]);
    draft.heartbeat(&joins("c", newer.clone()), &around).unwrap();
    assert_eq!(refused(draft.heartbeat(&joins("d", newer), &around)).0, ErrorCode::GroupMaxSizeReached);
}

#[rstest]
#[case::static_member(HeartbeatRequest { instance_id: Some("i".into()), ..joins("a", counts(&["in"])) }, "Static membership")]
#[case::no_member(joins(" ", counts(&["in"])), "MemberId can't be empty.")]
#[case::no_topology(HeartbeatRequest { topology: None, ..joins("a", Topology::default()) }, "Topology must be non-null")]
#[case::no_timeout(HeartbeatRequest { rebalance_timeout_ms: None, ..joins("a", counts(&["in"])) }, "RebalanceTimeoutMs")]
#[case::late_topology(HeartbeatRequest { epoch: 1, ..joins("a", counts(&["in"])) }, "Topology can only be provided")]
#[case::owns_when_joining(HeartbeatRequest { owned: owns("a", 0, &[0]).owned, ..joins("a", counts(&["in"])) }, "ActiveTasks must")]
#[case::says_nothing_of_tasks(HeartbeatRequest { owned: Owned::Unchanged, ..joins("a", counts(&["in"])) }, "ActiveTasks must")]
#[case::some_roles(HeartbeatRequest { owned: Owned::Partial([Some(Default::default()), None, None]), ..beat("a", 1) }, "all must be non-null")]
#[case::leaves_for_now(beat("a", -2), "InstanceId can't be null.")]
#[case::no_such_epoch(beat("a", -3), "MemberEpoch is -3")]
fn requests_that_make_no_sense_are_refused(#[case] request: HeartbeatRequest, #[case] message: &str) {
    let refused = request.check().unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    assert!(refused.message.contains(message), "{}", refused.message);
}

fn part(sources: &[&str], sinks: &[&str], repartitions: &[(&str, i32)]) -> Subtopology {
    Subtopology {
        source_topics: names(sources),
        repartition_sinks: names(sinks),
        repartition_sources: repartitions.iter().map(|(name, partitions)| internal(name, *partitions)).collect(),
        changelog_topics: Vec::new(),
        ..Subtopology::default()
    }
}

fn together(one: Subtopology) -> Subtopology {
    let indexes = |count: usize| (0..).take(count).collect();
    let group = CopartitionGroup {
        source_topics: indexes(one.source_topics.len()),
        source_topic_regex: Vec::new(),
        repartition_sources: indexes(one.repartition_sources.len()),
    };
    Subtopology { copartition_groups: vec![group], ..one }
}

/// Partitions of missing internal topics by name, and tasks by subtopology.
type Counts = (Vec<(String, i32)>, Vec<i32>);

/// Those, or status or error with its words.
fn configured(topics: &[(&str, i32)], parts: Vec<Subtopology>) -> Result<Counts, String> {
    let subtopologies = parts.into_iter().zip(["0", "1", "2"]).map(|(one, id)| (Arc::from(id), one)).collect();
    let configured = Configured::of(&Topology { epoch: 0, subtopologies }, &image(topics));
    let configured = configured.map_err(|refused| format!("{:?}: {}", refused.code, refused.message))?;
    match configured.obstacle {
        Some(status) if status.code != StatusCode::MissingInternalTopics => {
            Err(format!("{:?}: {}", status.code, status.detail))
        }
        _ => Ok((
            configured.missing.iter().map(|topic| (topic.name.to_string(), topic.partitions)).collect(),
            configured.subtopologies.values().map(|one| one.tasks).collect(),
        )),
    }
}

#[rstest]
#[case::by_what_the_writer_reads(
    vec![part(&["a", "b"], &["r"], &[]), part(&[], &[], &[("r", 0)])], &[("r", 5)], &[5, 5]
)]
#[case::through_two_topics(
    vec![part(&[], &["s"], &[("r", 0)]), part(&["b"], &["r"], &[]), part(&[], &[], &[("s", 0)])],
    &[("r", 5), ("s", 5)], &[5, 5, 5]
)]
#[case::as_set(vec![part(&["a"], &["r"], &[]), part(&[], &[], &[("r", 2)])], &[("r", 2)], &[3, 2])]
#[case::like_a_source_of_its_group(
    vec![part(&["b"], &["r"], &[]), together(part(&["a"], &[], &[("r", 0)]))], &[("r", 3)], &[5, 3]
)]
#[case::like_the_largest_of_its_group(
    vec![part(&["a"], &["r"], &[]), part(&["b"], &["s"], &[]), together(part(&[], &[], &[("r", 0), ("s", 0)]))],
    &[("r", 5), ("s", 5)], &[3, 5, 5]
)]
#[case::like_one_that_was_set(
    vec![part(&["a"], &["r"], &[]), part(&["b"], &["s"], &[]), together(part(&[], &[], &[("r", 0), ("s", 4)]))],
    &[("r", 4), ("s", 4)], &[3, 5, 4]
)]
fn internal_topics_get_partitions(
    #[case] parts: Vec<Subtopology>,
    #[case] missing: &[(&str, i32)],
    #[case] tasks: &[i32],
) {
    let missing: Vec<_> = missing.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
    assert_eq!(configured(&[("a", 3), ("b", 5)], parts), Ok((missing, tasks.to_vec())));
}

#[rstest]
#[case::missing(
    vec![part(&["z", "y", "x", "w"], &[], &[])],
    "MissingSourceTopics: Source topics w, x, y and 1 additional topics are missing."
)]
#[case::sources_differ(
    vec![together(part(&["a", "b"], &[], &[]))],
    "IncorrectlyPartitionedTopics: Following topics do not have the same number of partitions: [{a=3, b=5}]"
)]
#[case::set_otherwise(
    vec![part(&["b"], &["r"], &[]), together(part(&["a"], &[], &[("r", 4)]))],
    "IncorrectlyPartitionedTopics: Number of partitions [4] of repartition topic [r] doesn't match number of partitions [3] \
     of the source topic."
)]
#[case::there_otherwise(
    vec![part(&["b"], &["a"], &[]), part(&[], &[], &[("a", 0)])],
    "IncorrectlyPartitionedTopics: Existing topic a has different number of partitions: expected 5, found 3"
)]
#[case::loop_of_topics(
    vec![part(&[], &["r"], &[("r", 0)])],
    "StreamsInvalidTopology: Failed to compute number of partitions for all repartition topics. There may be loops in the \
     topology that cannot be resolved."
)]
#[case::written_by_nobody(
    vec![part(&["a"], &[], &[("r", 0)])],
    "StreamsInvalidTopology: Failed to compute number of partitions for all repartition topics, because a repartition source \
     topic is never used as a sink topic."
)]
#[case::nothing_to_read(vec![part(&[], &[], &[])], "StreamsInvalidTopology: No source topics found for subtopology 0")]
#[case::negative(vec![part(&["a"], &[], &[("r", -4)])], "StreamsInvalidTopology: Repartition topic r cannot have -4 partitions.")]
#[case::index_of_nothing(
    vec![Subtopology {
        copartition_groups: vec![CopartitionGroup { source_topics: vec![-1], ..CopartitionGroup::default() }],
        ..part(&["a"], &[], &[])
    }],
    "StreamsInvalidTopology: A copartition group names a topic that is not there."
)]
fn topologies_that_do_not_fit_are_told(#[case] parts: Vec<Subtopology>, #[case] expected: &str) {
    assert_eq!(configured(&[("a", 3), ("b", 5)], parts), Err(expected.to_owned()));
}

#[test]
fn a_topology_has_a_largest_number_of_tasks() {
    let parts = vec![part(&["a"], &[], &[]), part(&["a"], &[], &[])];
    let refused = configured(&[("a", 60_000)], parts).unwrap_err();
    assert!(refused.contains("120000 tasks"), "{refused}");
}

/// What a client does between two heartbeats.
#[derive(Debug, Clone, Copy)]
enum Step {
    Joins,
    /// With all that it was told to own.
    Beats,
    /// It has not seen the last answer and says what it owned before.
    Lags,
    Leaves,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        2 => Just(Step::Joins),
        6 => Just(Step::Beats),
        2 => Just(Step::Lags),
        1 => Just(Step::Leaves),
    ];
    proptest::collection::vec((0usize..4, step), 1..60)
}

/// A member as its client sees it.
#[derive(Debug, Clone, Default)]
struct Client {
    epoch: i32,
    owned: Tasks,
    before: (i32, Tasks),
}

proptest! {
    #[test]
    fn no_task_is_ever_owned_twice(steps in steps(), standby_replicas in 0i32..2) {
        let image = image(&[("in", 5), ("changelog", 5)]);
        let mut around = around(&image);
        around.size_max = 10;
        around.limits.standby_replicas = standby_replicas;
        let mut group = StreamsGroup::new("g".into());
        let mut clients: BTreeMap<usize, Client> = BTreeMap::new();
        let run = |group: &mut StreamsGroup, clients: &mut BTreeMap<usize, Client>, who: usize, step: Step| {
            let id = format!("m{who}");
            let mut draft = StreamsDraft::of(group);
            let request = match (step, clients.get(&who)) {
                (Step::Joins, _) => HeartbeatRequest {
                    // Two members in a process.
                    process_id: Some(format!("p{}", who / 2).into()),
                    ..joins(&id, counts(&["in"]))
                },
                (_, None) => return,
                (Step::Leaves, Some(_)) => {
                    draft.remove_members(&[id.as_str().into()].into());
                    clients.remove(&who);
                    *group = draft.group;
                    return;
                }
                (Step::Beats, Some(client)) => {
                    HeartbeatRequest { owned: Owned::All(client.owned.clone()), ..beat(&id, client.epoch) }
                }
                (Step::Lags, Some(client)) => {
                    HeartbeatRequest { owned: Owned::All(client.before.1.clone()), ..beat(&id, client.before.0) }
                }
            };
            match draft.heartbeat(&request, &around) {
                Ok(answer) => {
                    let client = clients.entry(who).or_default();
                    client.before = (client.epoch, client.owned.clone());
                    client.epoch = answer.epoch;
                    if let Some(tasks) = answer.tasks {
                        client.owned = tasks;
                    }
                    *group = draft.group;
                }
                // It gives up all it has and comes back.
                Err(refused) => assert_eq!(refused.code, ErrorCode::FencedMemberEpoch),
            }
        };
        for (who, step) in steps {
            run(&mut group, &mut clients, who, step);
            check_owners(&group);
            let mut loaded = StreamsGroup::new("g".into());
            group.logged().into_iter().for_each(|record| loaded.apply(record));
            prop_assert_eq!(loaded.state(), group.state());
        }
        // Left to themselves all arrive.
        for _ in 0..12 {
            for who in clients.keys().copied().collect::<Vec<_>>() {
                run(&mut group, &mut clients, who, Step::Beats);
                check_owners(&group);
            }
        }
        if !clients.is_empty() {
            prop_assert_eq!(group.state(), State::Stable);
            let owned: usize = group.members.values().map(|member| each(&member.current.assigned.tasks().active).count()).sum();
            prop_assert_eq!(owned, 5);
        }
    }
}

/// Who owns a task, or has yet to give it back, is alone with it; no process has it in two roles.
fn check_owners(group: &StreamsGroup) {
    let mut active = BTreeSet::new();
    let mut by_process = BTreeSet::new();
    for (id, member) in &group.members {
        for owned in [&member.current.assigned, &member.current.revoking] {
            let tasks = owned.tasks();
            for (_, task) in each(&tasks.active) {
                assert!(active.insert(task), "task {task} is active twice, also at {id}");
            }
            for (_, task) in each(&tasks.active).chain(each(&tasks.standby)) {
                let process = &member.subscription.process_id;
                assert!(by_process.insert((process, task)), "task {task} is twice in {process}");
            }
        }
    }
}
