//! What a broker's settings allow of groups: how many members, and which session timeouts.

use std::time::{Duration, Instant};

use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::raw_client::RawClient;

use crate::consumer_groups::{beat, joins};
use crate::group_members::first_error;
use crate::group_rebalances::leave;
use crate::group_scenario::{find, heartbeat, join_request, stable, subscription, sync_request};
use crate::scenario::{Scenario, scenario_configured, text};

const LIMITS: &[&str] = &[
    "group.max.size=2",
    "group.consumer.max.size=2",
    "group.min.session.timeout.ms=9999",
    "group.max.session.timeout.ms=10001",
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.num.partitions=1",
];

#[test]
fn a_group_takes_no_more_members_and_no_other_sessions_than_allowed() {
    scenario_configured(
        LIMITS,
        |s| {
            full_classic_group(s);
            rejoining_in_a_full_classic_group(s);
            session_timeouts(s);
            full_consumer_group(s);
        },
        r#"no id: 81 ""
           no id, version 3: 81 ""
           an unknown id: 81 ""
           a new static member: 81 ""
           the static member without its id: 81 ""
           the static member with its id: 0 its own
           beats 0 0
           place is free: 79
           while others join again: 79
           a fourth: 81, who joins again late: 81 ""
           in time: 0 0 in 3 3 of 2
           after the rebalance timeout: true
           too late: 81 beat 25
           session 0: 26 with id false static 26
           session 9998: 26 with id false static 26
           session 9999: 79 with id true static 0
           session 10001: 79 with id true static 0
           session 10002: 26 with id false static 26
           of a member: 26 true
           beat 0
           a: 0 None
           b, static: 0 None
           c: 81 Some("The consumer group has reached its maximum capacity of 2 members.")
           a again: 0 None
           classic: 81 ""
           b goes for a while: 0 None
           b under another id: 81 Some("The consumer group has reached its maximum capacity of 2 members.")
           b comes back: 0 None
           a leaves: 0 None
           c then: 0 None"#,
    );
}

fn protocols() -> [(&'static str, bytes::Bytes); 1] {
    [("range", subscription(&["t"]))]
}

fn join_as(name: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    join_request(name, member, instance, &protocols()).with_rebalance_timeout_ms(1500)
}

/// A dynamic leader, on the scenario's connection, and the static member "i" in stable generation 2.
struct Full {
    name: String,
    leader: String,
    other: RawClient,
    follower: String,
}

impl Full {
    fn new(s: &mut Scenario) -> Self {
        let name = fresh_name("g");
        let (generation, leader) = stable(s, &name, &["t"]);
        let mut other = RawClient::connect(s.address);
        let pending = other.send(9, &join_as(&name, "", Some("i")));
        assert_eq!(first_error(&mut s.client, &name, generation, &leader), 27);
        let again = s.client.call(9, &join_as(&name, &leader, None));
        let joined = other.receive::<JoinGroupRequest>(9, pending);
        assert_eq!((again.error_code, joined.error_code, again.members.len()), (0, 0, 2));
        let follower = joined.member_id.to_string();
        let sync = sync_request(&name, 2, &follower, &[]).with_group_instance_id(Some(text("i")));
        let pending = other.send(5, &sync);
        assert_eq!(s.client.call(5, &sync_request(&name, 2, &leader, &[(&leader, b"all")])).error_code, 0);
        assert_eq!(other.receive::<SyncGroupRequest>(5, pending).error_code, 0);
        Self { name, leader, other, follower }
    }
}

fn full_classic_group(s: &mut Scenario) {
    let Full { name, leader, mut other, follower } = Full::new(s);
    let mut third = RawClient::connect(s.address);
    let mut tell = |s: &mut Scenario, what: &str, version: i16, member: &str, instance: Option<&str>| {
        let answer: JoinGroupResponse = third.call(version, &join_as(&name, member, instance));
        let id =
            if *answer.member_id == *follower { "its own".to_owned() } else { format!("{:?}", &*answer.member_id) };
        s.say(format!("{what}: {} {id}", answer.error_code));
    };
    tell(s, "no id", 9, "", None);
    tell(s, "no id, version 3", 3, "", None);
    tell(s, "an unknown id", 9, "somebody", None);
    tell(s, "a new static member", 9, "", Some("j"));
    tell(s, "the static member without its id", 9, "", Some("i"));
    tell(s, "the static member with its id", 9, &follower, Some("i"));
    let beats = (heartbeat(&mut s.client, &name, 2, &leader), heartbeat(&mut other, &name, 2, &follower));
    s.say(format!("beats {} {}", beats.0, beats.1));
    assert_eq!(leave(&mut other, &name, &follower), 0);
    let told = third.call(9, &join_as(&name, "", None)).error_code;
    s.say(format!("place is free: {told}"));
}

/// While a group rebalances, those count that have joined again: a member that comes late finds its place taken.
fn rejoining_in_a_full_classic_group(s: &mut Scenario) {
    let Full { name, leader, mut other, follower } = Full::new(s);
    let news = [("range", subscription(&["t", "u"]))];
    let rejoin = join_request(&name, &leader, None, &news).with_rebalance_timeout_ms(1500);
    let began = Instant::now();
    let first = s.client.send(9, &rejoin);
    assert_eq!(first_error(&mut other, &name, 2, &follower), 27);
    let mut third = RawClient::connect(s.address);
    let told = third.call(9, &join_as(&name, "", None));
    s.say(format!("while others join again: {}", told.error_code));
    let second = third.send(9, &join_as(&name, &told.member_id, None));
    let mut fourth = RawClient::connect(s.address);
    while heartbeat(&mut fourth, &name, 2, &told.member_id) == 25 {}
    let refused = fourth.call(9, &join_as(&name, "", None)).error_code;
    let late = other.call(9, &join_as(&name, &follower, Some("i")));
    s.say(format!("a fourth: {refused}, who joins again late: {} {:?}", late.error_code, &*late.member_id));
    let (first, second) =
        (s.client.receive::<JoinGroupRequest>(9, first), third.receive::<JoinGroupRequest>(9, second));
    s.say(format!(
        "in time: {} {} in {} {} of {}",
        first.error_code,
        second.error_code,
        first.generation_id,
        second.generation_id,
        first.members.len()
    ));
    s.say(format!("after the rebalance timeout: {}", began.elapsed() >= Duration::from_millis(1500)));
    let late = other.call(9, &join_as(&name, &follower, Some("i"))).error_code;
    let beat = heartbeat(&mut other, &name, 3, &follower);
    s.say(format!("too late: {late} beat {beat}"));
}

fn session_timeouts(s: &mut Scenario) {
    let name = fresh_name("g");
    let (generation, member) = stable(s, &name, &["t"]);
    let mut other = RawClient::connect(s.address);
    for timeout in [0, 9998, 9999, 10_001, 10_002] {
        let fresh = fresh_name("g");
        find(s, &fresh);
        let [new, fixed] = ["", "i"].map(|instance| {
            let instance = Some(instance).filter(|instance| !instance.is_empty());
            other.call(9, &join_as(&fresh, "", instance).with_session_timeout_ms(timeout))
        });
        s.say(format!(
            "session {timeout}: {} with id {} static {}",
            new.error_code,
            !new.member_id.is_empty(),
            fixed.error_code
        ));
    }
    let short = other.call(9, &join_as(&name, &member, None).with_session_timeout_ms(9998));
    s.say(format!("of a member: {} {}", short.error_code, *short.member_id == *member));
    let beat = heartbeat(&mut s.client, &name, generation, &member);
    s.say(format!("beat {beat}"));
}

fn full_consumer_group(s: &mut Scenario) {
    let name = fresh_name("g");
    find(s, &name);
    let tell = |s: &mut Scenario, what: &str, request: ConsumerGroupHeartbeatRequest| {
        let answer = s.client.call(1, &request);
        s.say(format!("{what}: {} {:?}", answer.error_code, answer.error_message.as_deref()));
        answer.member_epoch
    };
    tell(s, "a", joins(&name, "a", &["t"]));
    let fixed = |member: &str| joins(&name, member, &["t"]).with_instance_id(Some(text("i")));
    tell(s, "b, static", fixed("b"));
    tell(s, "c", joins(&name, "c", &["t"]));
    tell(s, "a again", joins(&name, "a", &["t"]));
    let classic = s.client.call(9, &join_as(&name, "", None));
    s.say(format!("classic: {} {:?}", classic.error_code, &*classic.member_id));
    tell(s, "b goes for a while", beat(&name, "b", -2).with_instance_id(Some(text("i"))));
    tell(s, "b under another id", fixed("d"));
    tell(s, "b comes back", fixed("b"));
    tell(s, "a leaves", beat(&name, "a", -1));
    tell(s, "c then", joins(&name, "c", &["t"]));
}
