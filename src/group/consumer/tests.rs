//! A group driven by heartbeats, its records folded again after every one.

use proptest::prelude::*;
use rstest::rstest;

use super::heartbeat::{HeartbeatAnswer, HeartbeatRequest};
use super::leave::Leaves;
use super::member::{JOINS, LEAVES, LEAVES_FOR_NOW};
use super::*;
use crate::config::server::ConsumerGroupSettings;
use crate::metadata::image::Topic;

struct Driven {
    group: ConsumerGroup,
    image: Arc<Image>,
    new_topics: NewTopics,
    settings: ConsumerGroupSettings,
    now: Now,
    size_max: usize,
}

fn id(topic: &str) -> Uuid {
    Uuid::from_u128(topic.bytes().fold(1, |id, byte| id << 8 | u128::from(byte)))
}

impl Driven {
    fn new(topics: &[(&str, i32)]) -> Self {
        let mut driven = Self {
            group: ConsumerGroup::new("g".into()),
            image: Arc::default(),
            new_topics: NewTopics::default(),
            settings: ConsumerGroupSettings::for_tests(),
            now: Now { mono_ms: 0, wall_ms: 1_000_000 },
            size_max: 9,
        };
        for &(topic, count) in topics {
            driven.set_topic(topic, count);
        }
        driven
    }

    fn set_topic(&mut self, name: &str, partition_count: i32) {
        let image = Arc::make_mut(&mut self.image);
        let topic = Topic {
            id: id(name),
            name: name.into(),
            partition_count,
            replication_factor: 1,
            config: Default::default(),
        };
        image.generation += 1;
        image.topics.insert(name.into(), Arc::new(topic.clone()));
        image.topics_by_id.insert(topic.id, Arc::new(topic));
    }

    fn delete_topic(&mut self, name: &str) {
        let image = Arc::make_mut(&mut self.image);
        image.generation += 1;
        image.topics.remove(name);
        image.topics_by_id.remove(&id(name));
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += i64::try_from(ms).unwrap();
    }

    fn with<R>(&mut self, operation: impl FnOnce(&mut Draft, &Surroundings<'_>) -> R) -> R {
        let around = Surroundings {
            image: &self.image,
            new_topics: &self.new_topics,
            limits: GroupLimits::of("g", &self.settings, &self.image),
            rack: None,
            regex_refresh_interval_ms: self.settings.regex_refresh_interval_ms,
            default_assignor: Assignor::Uniform,
            size_max: self.size_max,
            now: self.now,
        };
        let mut draft = Draft::of(&self.group);
        let result = operation(&mut draft, &around);
        // What the log would give is what the draft became.
        for record in draft.records {
            let (key, value) = record.encode("g");
            let read = crate::group::records::Record::decode(&key, value.as_deref());
            let Ok(crate::group::records::Record::Consumer(_, read)) = read else { panic!("{read:?}") };
            self.group.apply(read);
        }
        assert_eq!(self.group.members, draft.group.members);
        assert_eq!(self.group.targets, draft.group.targets);
        assert_eq!(self.group.owner_epochs, draft.group.owner_epochs);
        assert_eq!((self.group.epoch, self.group.target_epoch), (draft.group.epoch, draft.group.target_epoch));
        self.group = draft.group;
        result
    }

    fn send(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatAnswer, Refused> {
        request.check(true, &[Assignor::Uniform, Assignor::Range])?;
        if request.leaves() {
            match self.group.leaving(request)? {
                Leaves::ForNow(member) => self.with(|draft, _| draft.leave_for_now(&member)),
                Leaves::ForGood(member) => self.with(|draft, around| draft.remove_members(&[member].into(), around)),
            }
            return Ok(request.farewell());
        }
        let before = self.group.clone();
        self.with(|draft, around| {
            let outcome = draft.heartbeat(request, around);
            if outcome.is_err() {
                *draft = Draft::of(&before);
            }
            outcome
        })
    }

    fn resolve(&mut self) {
        self.with(|draft, around| {
            assert!(draft.group.must_resolve(around), "nothing asked for it");
            draft.resolve_expressions(around);
        });
    }
}

/// A heartbeat in which nothing has changed.
pub(in crate::group) fn request(member: &str, epoch: i32) -> HeartbeatRequest {
    HeartbeatRequest {
        group: "g".into(),
        member_id: member.into(),
        epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: -1,
        topics: None,
        regex: None,
        assignor: None,
        owned: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
    }
}

fn join(member: &str, topics: &[&str]) -> HeartbeatRequest {
    HeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        topics: Some(topics.iter().map(|&topic| topic.into()).collect()),
        owned: Some(Partitions::new()),
        ..request(member, JOINS)
    }
}

fn fixed(instance_id: &str, request: HeartbeatRequest) -> HeartbeatRequest {
    HeartbeatRequest { instance_id: Some(instance_id.into()), ..request }
}

fn owning(request: HeartbeatRequest, topic: &str, partitions: &[i32]) -> HeartbeatRequest {
    let owned = [(id(topic), partitions.iter().copied().collect())].into();
    HeartbeatRequest { owned: Some(owned), ..request }
}

fn flat(assignment: &Option<Partitions>) -> Vec<i32> {
    assignment.iter().flatten().flat_map(|(_, partitions)| partitions.iter().copied()).collect()
}

fn code(outcome: Result<HeartbeatAnswer, Refused>) -> ErrorCode {
    outcome.unwrap_err().code
}

#[test]
fn two_members_share_what_one_had() {
    let mut driven = Driven::new(&[("t", 4)]);
    let first = driven.send(&join("a", &["t"])).unwrap();
    assert_eq!((first.epoch, flat(&first.assignment)), (2, vec![0, 1, 2, 3]));
    assert_eq!(driven.group.state(), State::Stable);

    // The second gets the new epoch, but nothing that the first still owns.
    let second = driven.send(&join("b", &["t"])).unwrap();
    assert_eq!((second.epoch, flat(&second.assignment)), (3, vec![]));
    assert_eq!(driven.group.state(), State::Reconciling);
    // The first is told what remains, at its old epoch until it has let go.
    let told = driven.send(&owning(request("a", 2), "t", &[0, 1, 2, 3])).unwrap();
    let kept = flat(&told.assignment);
    assert_eq!((told.epoch, kept.len()), (2, 2));
    let waits = driven.send(&request("b", 3)).unwrap();
    assert_eq!((waits.epoch, waits.assignment), (3, None));
    let done = driven.send(&owning(request("a", 2), "t", &kept)).unwrap();
    assert_eq!((done.epoch, done.assignment), (3, None), "it knows what it owns");
    let got = driven.send(&request("b", 3)).unwrap();
    assert_eq!((got.epoch, flat(&got.assignment).len()), (3, 2));
    assert_eq!(driven.group.state(), State::Stable);
}

#[test]
fn an_answer_that_was_lost_comes_again() {
    let mut driven = Driven::new(&[("t", 2)]);
    driven.send(&join("a", &["t"])).unwrap();
    driven.set_topic("t", 3);
    let moved = driven.send(&request("a", 2)).unwrap();
    assert_eq!((moved.epoch, flat(&moved.assignment)), (3, vec![0, 1, 2]));
    // The member still is at epoch 1 with what it had then.
    let full = HeartbeatRequest { owned: None, ..join("a", &["t"]) };
    let again = driven.send(&HeartbeatRequest { epoch: 2, ..owning(full.clone(), "t", &[0, 1]) }).unwrap();
    assert_eq!((again.epoch, flat(&again.assignment)), (3, vec![0, 1, 2]));
    let more = HeartbeatRequest { epoch: 2, ..owning(full, "t", &[0, 7]) };
    assert_eq!(code(driven.send(&more)), ErrorCode::FencedMemberEpoch, "owns what it never had");
}

#[rstest]
#[case::unknown_member(request("x", 4), ErrorCode::UnknownMemberId)]
#[case::greater_epoch(request("a", 3), ErrorCode::FencedMemberEpoch)]
#[case::smaller_epoch_and_silent(request("b", 2), ErrorCode::FencedMemberEpoch)]
#[case::leaves_unknown(request("x", LEAVES), ErrorCode::UnknownMemberId)]
#[case::unknown_instance(fixed("i", request("a", 2)), ErrorCode::UnknownMemberId)]
#[case::full(join("c", &["t"]), ErrorCode::GroupMaxSizeReached)]
#[case::regex(HeartbeatRequest { regex: Some("t[".into()), ..request("a", 2) }, ErrorCode::InvalidRegularExpression)]
#[case::assignor(HeartbeatRequest { assignor: Some("x".into()), ..request("a", 2) }, ErrorCode::UnsupportedAssignor)]
#[case::no_id(request("", 1), ErrorCode::InvalidRequest)]
#[case::blank_group(HeartbeatRequest { group: " ".into(), ..request("a", 2) }, ErrorCode::InvalidRequest)]
#[case::joins_without_timeout(request("c", JOINS), ErrorCode::InvalidRequest)]
#[case::joins_with_partitions(owning(join("c", &["t"]), "t", &[1]), ErrorCode::InvalidRequest)]
#[case::joins_for_nothing(HeartbeatRequest { topics: None, ..join("c", &[]) }, ErrorCode::InvalidRequest)]
#[case::leaves_for_now_unnamed(request("a", LEAVES_FOR_NOW), ErrorCode::InvalidRequest)]
#[case::epoch_of_no_meaning(request("a", -3), ErrorCode::InvalidRequest)]
fn is_refused(#[case] request: HeartbeatRequest, #[case] expected: ErrorCode) {
    let mut driven = Driven::new(&[("t", 4)]);
    driven.size_max = if expected == ErrorCode::GroupMaxSizeReached { 2 } else { 9 };
    driven.send(&join("a", &["t"])).unwrap();
    driven.send(&join("b", &["t"])).unwrap();
    let before = driven.group.logged();
    assert_eq!(code(driven.send(&request)), expected);
    assert_eq!(driven.group.logged(), before, "a refused request changes nothing");
}

#[test]
fn a_static_member_comes_back_under_another_id() {
    let mut driven = Driven::new(&[("t", 2)]);
    driven.send(&fixed("i", join("a", &["t"]))).unwrap();
    let taken = driven.send(&fixed("i", join("b", &["t"])));
    assert_eq!(code(taken), ErrorCode::UnreleasedInstanceId);
    let away = driven.send(&fixed("i", request("a", LEAVES_FOR_NOW))).unwrap();
    assert_eq!((away.epoch, away.interval_ms), (LEAVES_FOR_NOW, 0));
    let back = driven.send(&fixed("i", join("b", &["t"]))).unwrap();
    assert_eq!((back.epoch, flat(&back.assignment)), (2, vec![0, 1]), "no rebalance");
    assert_eq!(driven.group.member_count(), 1);
    let old = driven.send(&fixed("i", request("a", 2)));
    assert_eq!(code(old), ErrorCode::FencedInstanceId);
}

#[test]
fn a_topic_that_appears_grows_or_goes_raises_the_epoch() {
    let mut driven = Driven::new(&[("t", 1)]);
    driven.send(&join("a", &["t", "u"])).unwrap();
    let mut epoch = 2;
    let mut next = |driven: &mut Driven, expected: &[i32]| {
        let answer = driven.send(&owning(request("a", epoch), "t", &[0])).unwrap();
        assert_eq!((answer.epoch, flat(&answer.assignment)), (epoch + 1, expected.to_vec()));
        epoch += 1;
    };
    driven.set_topic("u", 1);
    next(&mut driven, &[0, 0]);
    driven.set_topic("u", 2);
    next(&mut driven, &[0, 0, 1]);
    driven.delete_topic("u");
    next(&mut driven, &[0]);
    driven.set_topic("other", 1);
    let answer = driven.send(&request("a", epoch)).unwrap();
    assert_eq!((answer.epoch, answer.assignment), (epoch, None), "not its topic");
}

#[test]
fn an_expression_is_resolved_behind_the_answer_and_again_when_topics_appear() {
    let mut driven = Driven::new(&[("foo-1", 1), ("bar", 1)]);
    let joins = HeartbeatRequest { topics: None, regex: Some("foo.*".into()), ..join("a", &[]) };
    let first = driven.send(&joins).unwrap();
    assert_eq!((first.epoch, flat(&first.assignment)), (1, vec![]));
    driven.resolve();
    let next = driven.send(&request("a", 1).rejoining(&joins)).unwrap();
    assert_eq!((next.epoch, flat(&next.assignment)), (2, vec![0]));
    assert!(driven.group.is_subscribed_to("foo-1") && !driven.group.is_subscribed_to("bar"));

    driven.set_topic("foo-2", 1);
    assert_eq!(driven.send(&request("a", 2)).unwrap().epoch, 2, "not that soon");
    driven.pass(10_001);
    driven.send(&request("a", 2)).unwrap();
    driven.resolve();
    let next = driven.send(&request("a", 2)).unwrap();
    assert_eq!((next.epoch, flat(&next.assignment)), (3, vec![0, 0]));

    let plain = HeartbeatRequest { regex: Some("".into()), topics: Some(["bar".into()].into()), ..request("a", 3) };
    driven.send(&HeartbeatRequest { owned: Some(Partitions::new()), ..plain }).unwrap();
    assert!(driven.group.is_subscribed_to("bar") && !driven.group.is_subscribed_to("foo-1"));
}

impl HeartbeatRequest {
    /// The same member's whole request once more.
    fn rejoining(self, joins: &Self) -> Self {
        Self { epoch: self.epoch, ..joins.clone() }
    }
}

#[test]
fn a_target_is_not_made_again_too_soon() {
    let mut driven = Driven::new(&[("t", 2)]);
    driven.settings.assignment_interval_ms.default = 1000;
    driven.send(&join("a", &["t"])).unwrap();
    let second = driven.send(&join("b", &["t"])).unwrap();
    assert_eq!((second.epoch, driven.group.state()), (2, State::Assigning));
    driven.pass(1000);
    assert_eq!(driven.send(&request("b", 2)).unwrap().epoch, 3);
}

#[test]
fn members_that_are_silent_or_slow_are_removed() {
    let mut driven = Driven::new(&[("t", 2)]);
    driven.send(&join("a", &["t"])).unwrap();
    driven.send(&join("b", &["t"])).unwrap();
    driven.pass(20_000);
    // It must give back a partition and never does; the other is not heard of.
    driven.send(&owning(request("a", 2), "t", &[0, 1])).unwrap();
    for _ in 0..2 {
        driven.pass(15_000);
        driven.send(&request("a", 2)).unwrap();
    }
    let (image, new_topics) = (Arc::clone(&driven.image), NewTopics::default());
    let around = Surroundings {
        image: &image,
        new_topics: &new_topics,
        limits: GroupLimits::of("g", &driven.settings, &image),
        rack: None,
        regex_refresh_interval_ms: 0,
        default_assignor: Assignor::Uniform,
        size_max: 9,
        now: driven.now,
    };
    assert_eq!(driven.group.overdue(&around), ["a".into(), "b".into()].into());
}

#[derive(Debug, Clone)]
enum Act {
    Join(u8, bool, u8),
    Beat(u8, bool),
    Leave(u8),
    Topic(u8, i32),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..4u8, any::<bool>(), 0..4u8).prop_map(|(member, fixed, topics)| Act::Join(member, fixed, topics)),
        (0..4u8, any::<bool>()).prop_map(|(member, says)| Act::Beat(member, says)),
        (0..4u8).prop_map(Act::Leave),
        (0..2u8, 1..5i32).prop_map(|(topic, count)| Act::Topic(topic, count)),
        (0..20_000u64).prop_map(Act::Pass),
    ]
}

proptest! {
    /// Whatever members do, a partition has one owner, and a fold of the group's own records is the group.
    #[test]
    fn any_history_keeps_the_group_whole(acts in proptest::collection::vec(acts(), 1..40)) {
        let mut driven = Driven::new(&[("t0", 3)]);
        let name = |member: u8| format!("m{member}");
        for act in acts {
            match act {
                Act::Join(member, is_static, topics) => {
                    let topics: Vec<_> = ["t0", "t1"].into_iter().enumerate().filter(|(bit, _)| topics >> bit & 1 == 1).map(|(_, topic)| topic).collect();
                    let joins = join(&name(member), &topics);
                    let joins = if is_static { fixed(&format!("i{}", member % 2), joins) } else { joins };
                    let _ = driven.send(&joins);
                }
                Act::Beat(member, says) => {
                    let id = name(member);
                    let Some(known) = driven.group.member(&id).cloned() else { continue };
                    let owned = says.then(|| records::without_epochs(&known.current.assigned));
                    let beat = HeartbeatRequest { owned, instance_id: known.subscription.instance_id.clone(), ..request(&id, known.current.epoch) };
                    if known.current.epoch > 0 {
                        driven.send(&beat).unwrap();
                    }
                }
                Act::Leave(member) => {
                    let id = name(member);
                    let instance_id = driven.group.member(&id).and_then(|member| member.subscription.instance_id.clone());
                    let epoch = if instance_id.is_some() { LEAVES_FOR_NOW } else { LEAVES };
                    let _ = driven.send(&HeartbeatRequest { instance_id, ..request(&id, epoch) });
                }
                Act::Topic(topic, count) => driven.set_topic(&format!("t{topic}"), count),
                Act::Pass(ms) => driven.pass(ms),
            }
            let mut seen = BTreeSet::new();
            for member in driven.group.members.values() {
                for key in partitions(&member.current.assigned).chain(partitions(&member.current.revoking)) {
                    prop_assert!(seen.insert(key), "{key:?} has two owners");
                }
            }
            let mut folded = ConsumerGroup::new("g".into());
            for record in driven.group.logged() {
                folded.apply(record);
            }
            prop_assert_eq!(&folded.members, &driven.group.members);
            prop_assert_eq!(&folded.owner_epochs, &driven.group.owner_epochs);
            prop_assert_eq!(&folded.static_members, &driven.group.static_members);
        }
        for record in driven.group.tombstones() {
            driven.group.apply(record);
        }
        prop_assert!(driven.group.members.is_empty() && driven.group.targets.is_empty() && driven.group.owner_epochs.is_empty());
    }
}
