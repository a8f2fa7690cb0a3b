//! Who is in a group and for how long: ids, generations, sessions, rebalances.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    DescribeGroupsRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::{both, fresh_name, ours};
use terrace_protocol_tests::raw_client::RawClient;

use crate::group_scenario::{
    commit, find, group, heartbeat, join, join_request, stable, subscription, sync_request, two_members,
};
use crate::scenario::{Scenario, scenario, scenario_with, text};

/// Sends the JoinGroup of a new dynamic member without waiting: correlation id and member id.
pub fn begin_join(client: &mut RawClient, name: &str) -> (i32, String) {
    let protocols = [("range", subscription(&["t"]))];
    let told = client.call(9, &join_request(name, "", None, &protocols));
    assert_eq!(told.error_code, 79);
    let pending = client.send(9, &join_request(name, &told.member_id, None, &protocols));
    (pending, told.member_id.to_string())
}

/// Waits until a heartbeat of the member no longer says 0; what it says then.
pub fn first_error(client: &mut RawClient, name: &str, generation: i32, member: &str) -> i16 {
    loop {
        match heartbeat(client, name, generation, member) {
            0 => {}
            error => return error,
        }
    }
}

/// Two members have joined generation 2, nobody has synced: the scenario's member leads.
pub fn completing(address: SocketAddr) -> (Scenario, RawClient, String, String, String) {
    let (mut s, mut other, name) = two_members(address);
    let (generation, first) = stable(&mut s, &name, &["t"]);
    let (pending, second) = begin_join(&mut other, &name);
    assert_eq!(first_error(&mut s.client, &name, generation, &first), 27);
    let rejoined = s.client.call(9, &join_request(&name, &first, None, &[("range", subscription(&["t"]))]));
    let joined = other.receive::<JoinGroupRequest>(9, pending);
    assert_eq!((rejoined.error_code, joined.error_code, joined.generation_id), (0, 0, 2));
    (s, other, name, first, second)
}

/// The state of a group that is there.
fn state(s: &mut Scenario, name: &str) -> String {
    let request = DescribeGroupsRequest::default().with_groups(vec![group(name)]);
    let found = loop {
        let found = s.client.call(5, &request).groups.remove(0);
        // Apache Kafka tells of what its log holds; behind another group's record that is on its way, a new group is not
        // there yet.
        if &*found.group_state != "Dead" {
            break found;
        }
    };
    format!("{} with {}", &*found.group_state, found.members.len())
}

#[test]
fn a_member_id_is_required_from_version_4_and_given_back_unused() {
    scenario(
        |s| {
            let protocols = [("range", subscription(&["t"]))];
            for version in [0, 3, 4, 5, 9] {
                let name = fresh_name("g");
                find(s, &name);
                let answer: JoinGroupResponse = s.client.call(version, &join_request(&name, "", None, &protocols));
                s.say(format!(
                    "v{version}: {} generation {} id given {} leader {:?} protocol {:?}",
                    answer.error_code,
                    answer.generation_id,
                    answer.member_id.starts_with("raw-client-"),
                    answer.leader.is_empty(),
                    answer.protocol_name.as_deref(),
                ));
                // Who was told an id and does not come back is no member.
                let found = state(s, &name);
                s.say(found);
            }
            let name = fresh_name("g");
            find(s, &name);
            let answer = s.client.call(9, &join_request(&name, "", Some("i"), &protocols));
            s.say(format!("static: {} generation {}", answer.error_code, answer.generation_id));
        },
        r#"v0: 0 generation 1 id given true leader false protocol Some("range")
           CompletingRebalance with 1
           v3: 0 generation 1 id given true leader false protocol Some("range")
           CompletingRebalance with 1
           v4: 79 generation -1 id given true leader true protocol Some("")
           Empty with 0
           v5: 79 generation -1 id given true leader true protocol Some("")
           Empty with 0
           v9: 79 generation -1 id given true leader true protocol None
           Empty with 0
           static: 0 generation 1"#,
    );
}

#[test]
fn joining_again_while_the_leader_assigns_gives_the_same_answer() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name, first, second) = completing(address);
            let protocols = [("range", subscription(&["t"]))];
            // Neither the leader nor a follower begins a rebalance by asking again.
            for (client, member) in [(&mut other, &second), (&mut s.client, &first)] {
                let again = client.call(9, &join_request(&name, member, None, &protocols));
                assert_eq!(again.error_code, 0);
                assert_eq!(again.generation_id, 2);
                assert_eq!(again.members.len(), if *member == first { 2 } else { 0 });
            }
            let found = state(&mut s, &name);
            s.say(found);
            for what in ["beat", "commit"] {
                let error = match what {
                    "beat" => heartbeat(&mut s.client, &name, 2, &first),
                    _ => {
                        let t = s.topic(1, &[]);
                        commit(&mut s.client, &name, 2, &first, &t, 1)
                    }
                };
                s.say(format!("{what} while completing: {error}"));
            }
            // With another subscription it does.
            let news = [("range", subscription(&["t", "u"]))];
            let pending = other.send(9, &join_request(&name, &second, None, &news));
            let error = first_error(&mut s.client, &name, 2, &first);
            s.say(format!("beat then: {error}"));
            let rejoined = s.client.call(9, &join_request(&name, &first, None, &protocols));
            let joined = other.receive::<JoinGroupRequest>(9, pending);
            s.say(format!(
                "{} generation {}; {} generation {}",
                rejoined.error_code, rejoined.generation_id, joined.error_code, joined.generation_id
            ));
            s.end()
        },
        "CompletingRebalance with 2
         beat while completing: 0
         commit while completing: 27
         beat then: 27
         0 generation 3; 0 generation 3",
    );
}

#[test]
fn a_third_member_while_the_leader_assigns_sends_waiting_followers_back() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name, first, second) = completing(address);
            let waiting = other.send(5, &sync_request(&name, 2, &second, &[]));
            let mut third = RawClient::connect(address);
            let (pending, third_id) = begin_join(&mut third, &name);
            let sent_back = other.receive::<SyncGroupRequest>(5, waiting);
            s.say(format!("follower's sync: {}", sent_back.error_code));
            let late = s.client.call(5, &sync_request(&name, 2, &first, &[(&first, b"1"), (&second, b"2")]));
            s.say(format!("leader's sync: {} {:?}", late.error_code, late.assignment));
            let protocols = [("range", subscription(&["t"]))];
            let again = other.send(9, &join_request(&name, &second, None, &protocols));
            let leader = s.client.call(9, &join_request(&name, &first, None, &protocols));
            let follower = other.receive::<JoinGroupRequest>(9, again);
            let new = third.receive::<JoinGroupRequest>(9, pending);
            s.say(format!(
                "generations {} {} {}, {} members, all follow one leader {}",
                leader.generation_id,
                follower.generation_id,
                new.generation_id,
                leader.members.len(),
                new.leader.as_str() == first && follower.leader.as_str() == first
            ));
            // Those whom the leader forgets get nothing.
            let waiting = third.send(5, &sync_request(&name, 3, &third_id, &[]));
            let synced = s.client.call(5, &sync_request(&name, 3, &first, &[(&first, b"all")]));
            let got = third.receive::<SyncGroupRequest>(5, waiting);
            s.say(format!("{:?}; {} {:?}", synced.assignment, got.error_code, got.assignment));
            // Who syncs after the leader gets what is stored.
            let late = other.call(5, &sync_request(&name, 3, &second, &[(&second, b"mine")]));
            s.say(format!("late: {} {:?}", late.error_code, late.assignment));
            s.end()
        },
        r#"follower's sync: 27
           leader's sync: 27 b""
           generations 3 3 3, 3 members, all follow one leader true
           b"all"; 0 b""
           late: 0 b"""#,
    );
}

#[test]
fn unknown_member_comes_before_wrong_generation_before_rebalance() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let (generation, first) = stable(&mut s, &name, &["t"]);
            let t = s.topic(1, &[]);
            let look = |s: &mut Scenario, when: &str| {
                for (who, member) in [("member", first.as_str()), ("stranger", "who"), ("nobody", "")] {
                    for generation in [generation, generation + 5, -1] {
                        let beat = heartbeat(&mut s.client, &name, generation, member);
                        let sync = s.client.call(5, &sync_request(&name, generation, member, &[])).error_code;
                        let commit = commit(&mut s.client, &name, generation, member, &t, 1);
                        s.say(format!("{when} {who} {generation}: beat {beat} sync {sync} commit {commit}"));
                    }
                }
            };
            look(&mut s, "stable");
            let (pending, second) = begin_join(&mut other, &name);
            assert_eq!(first_error(&mut s.client, &name, generation, &first), 27);
            look(&mut s, "rebalancing");
            let beat = heartbeat(&mut s.client, &name, generation, &second);
            s.say(format!("who joins beats: {beat}"));
            let beat = heartbeat(&mut s.client, &fresh_name("g"), generation, &first);
            s.say(format!("no such group: {beat}"));
            let rejoined = s.client.call(9, &join_request(&name, &first, None, &[("range", subscription(&["t"]))]));
            other.receive::<JoinGroupRequest>(9, pending);
            let beat = heartbeat(&mut s.client, &name, generation, &first);
            s.say(format!("generation {} beat of the last: {beat}", rejoined.generation_id));
            s.end()
        },
        "stable member 1: beat 0 sync 0 commit 0
         stable member 6: beat 22 sync 22 commit 22
         stable member -1: beat 22 sync 22 commit 22
         stable stranger 1: beat 25 sync 25 commit 25
         stable stranger 6: beat 25 sync 25 commit 25
         stable stranger -1: beat 25 sync 25 commit 25
         stable nobody 1: beat 25 sync 25 commit 25
         stable nobody 6: beat 25 sync 25 commit 25
         stable nobody -1: beat 25 sync 25 commit 25
         rebalancing member 1: beat 27 sync 27 commit 0
         rebalancing member 6: beat 22 sync 22 commit 22
         rebalancing member -1: beat 22 sync 22 commit 22
         rebalancing stranger 1: beat 25 sync 25 commit 25
         rebalancing stranger 6: beat 25 sync 25 commit 25
         rebalancing stranger -1: beat 25 sync 25 commit 25
         rebalancing nobody 1: beat 25 sync 25 commit 25
         rebalancing nobody 6: beat 25 sync 25 commit 25
         rebalancing nobody -1: beat 25 sync 25 commit 25
         who joins beats: 27
         no such group: 25
         generation 2 beat of the last: 22",
    );
}

#[test]
fn a_sync_names_the_group_s_protocol_or_is_refused() {
    scenario(
        |s| {
            let name = fresh_name("g");
            find(s, &name);
            let joined = join(&mut s.client, &name, &["t"]);
            let member = joined.member_id.to_string();
            let sync = || sync_request(&name, 1, &member, &[(&member, b"all")]);
            for (what, request) in [
                ("other type", sync().with_protocol_type(Some(text("connect")))),
                ("other name", sync().with_protocol_name(Some(text("sticky")))),
                ("no type", sync().with_protocol_type(None)),
                ("right", sync()),
            ] {
                let answer = s.client.call(5, &request);
                s.say(format!(
                    "{what}: {} {:?} {:?} {:?}",
                    answer.error_code,
                    answer.protocol_type.as_deref(),
                    answer.protocol_name.as_deref(),
                    answer.assignment
                ));
            }
            let answer = s.client.call(4, &sync().with_protocol_type(None).with_protocol_name(None));
            s.say(format!("v4: {} {:?}", answer.error_code, answer.assignment));
        },
        r#"other type: 23 None None b""
           other name: 23 None None b""
           no type: 23 None None b""
           right: 0 Some("consumer") Some("range") b"all"
           v4: 0 b"all""#,
    );
}

#[test]
fn a_silent_member_is_removed_when_its_session_ends() {
    both(
        &Options::new().with("group.min.session.timeout.ms", 500),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let protocols = [("range", subscription(&["t"]))];
            let short = |member: &str| join_request(&name, member, None, &protocols).with_session_timeout_ms(1500);
            let told = other.call(9, &short(""));
            let joined = other.call(9, &short(&told.member_id));
            let silent = joined.member_id.to_string();
            other.call(5, &sync_request(&name, 1, &silent, &[(&silent, b"all")]));
            let began = Instant::now();
            let found = state(&mut s, &name);
            s.say(found);
            // The newcomer's rebalance waits for the silent one's session, not for its rebalance timeout.
            let joined = join(&mut s.client, &name, &["t"]);
            s.say(format!(
                "generation {} members {} after its session {} before its rebalance timeout {}",
                joined.generation_id,
                joined.members.len(),
                began.elapsed() > Duration::from_millis(1000),
                began.elapsed() < Duration::from_secs(6)
            ));
            let beat = heartbeat(&mut other, &name, 1, &silent);
            s.say(format!("the silent one's beat: {beat}"));
            s.end()
        },
        "Stable with 1
         generation 2 members 1 after its session true before its rebalance timeout true
         the silent one's beat: 25",
    );
}

#[test]
fn a_static_member_s_session_ends_without_leaving_and_its_place_is_free() {
    scenario_with(
        &Options::new().with("group.min.session.timeout.ms", 500),
        |s| {
            let name = fresh_name("g");
            find(s, &name);
            let protocols = [("range", subscription(&["t"]))];
            let request = join_request(&name, "", Some("i1"), &protocols).with_session_timeout_ms(1000);
            let joined = s.client.call(9, &request);
            let member = joined.member_id.to_string();
            let sync = sync_request(&name, 1, &member, &[(&member, b"all")]).with_group_instance_id(Some(text("i1")));
            s.client.call(5, &sync);
            while !state(s, &name).ends_with("with 0") {}
            let back = s.client.call(9, &request);
            s.say(format!("back: {} generation {}", back.error_code, back.generation_id));
        },
        "back: 0 generation 3",
    );
}

#[test]
fn a_static_follower_that_returns_keeps_its_assignment_in_a_stable_group() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let protocols = [("range", subscription(&["t"]))];
            let leader = s.client.call(9, &join_request(&name, "", Some("a"), &protocols));
            let first = leader.member_id.to_string();
            let of = |instance: &str, generation: i32, member: &str, given: &[(&str, &'static [u8])]| {
                sync_request(&name, generation, member, given).with_group_instance_id(Some(text(instance)))
            };
            s.client.call(5, &of("a", 1, &first, &[(&first, b"all")]));
            let pending = other.send(9, &join_request(&name, "", Some("b"), &protocols));
            assert_eq!(first_error(&mut s.client, &name, 1, &first), 27);
            s.client.call(9, &join_request(&name, &first, Some("a"), &protocols));
            let second = other.receive::<JoinGroupRequest>(9, pending).member_id.to_string();
            let waiting = other.send(5, &of("b", 2, &second, &[]));
            s.client.call(5, &of("a", 2, &first, &[(&first, b"1"), (&second, b"2")]));
            other.receive::<SyncGroupRequest>(5, waiting);
            let back = other.call(9, &join_request(&name, "", Some("b"), &protocols));
            let again = other.call(5, &of("b", 2, &back.member_id, &[]));
            s.say(format!(
                "back: {} generation {} skip {} members {} gets {} {:?}",
                back.error_code,
                back.generation_id,
                back.skip_assignment,
                back.members.len(),
                again.error_code,
                again.assignment
            ));
            for error in [
                other.call(5, &of("b", 2, &second, &[])).error_code,
                other.call(5, &of("c", 2, &second, &[])).error_code,
                other.call(5, &of("a", 2, &back.member_id, &[])).error_code,
            ] {
                s.say(format!("sync: {error}"));
            }
            // Not even another subscription means a rebalance, as long as the group's protocol stays.
            let news = [("range", subscription(&["t", "u"]))];
            let back = other.call(9, &join_request(&name, "", Some("b"), &news));
            s.say(format!("news: {} generation {}", back.error_code, back.generation_id));
            s.end()
        },
        r#"back: 0 generation 2 skip false members 0 gets 0 b"2"
           sync: 82
           sync: 25
           sync: 82
           news: 0 generation 2"#,
    );
}

#[test]
fn two_members_that_come_within_the_initial_delay_share_the_first_generation() {
    ours(
        &Options::new().with("group.initial.rebalance.delay.ms", 1000),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let began = Instant::now();
            let (pending, _) = begin_join(&mut other, &name);
            let joined = join(&mut s.client, &name, &["t"]);
            let first = other.receive::<JoinGroupRequest>(9, pending);
            s.say(format!(
                "generations {} {} waited {}",
                first.generation_id,
                joined.generation_id,
                began.elapsed() >= Duration::from_millis(1000)
            ));
            s.say(format!("members {}", joined.members.len() + first.members.len()));
            s.end()
        },
        "generations 1 1 waited true
         members 2",
    );
}

#[test]
fn the_protocol_that_all_support_and_most_prefer_is_chosen() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let protocols = |names: [&'static str; 2]| names.map(|name| (name, subscription(&["t"])));
            let told = s.client.call(9, &join_request(&name, "", None, &protocols(["range", "sticky"])));
            let first = told.member_id.to_string();
            let joined = s.client.call(9, &join_request(&name, &first, None, &protocols(["range", "sticky"])));
            s.say(format!("alone: {:?}", joined.protocol_name.as_deref()));
            let told = other.call(9, &join_request(&name, "", None, &protocols(["sticky", "roundrobin"])));
            let pending =
                other.send(9, &join_request(&name, &told.member_id, None, &protocols(["sticky", "roundrobin"])));
            assert_eq!(first_error(&mut s.client, &name, 1, &first), 27);
            let rejoined = s.client.call(9, &join_request(&name, &first, None, &protocols(["range", "sticky"])));
            other.receive::<JoinGroupRequest>(9, pending);
            s.say(format!("together: {:?}", rejoined.protocol_name.as_deref()));
            s.end()
        },
        r#"alone: Some("range")
           together: Some("sticky")"#,
    );
}

#[test]
fn members_leave_one_by_one_in_old_versions_and_pending_ids_too() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let (_, member) = stable(&mut s, &name, &["t"]);
            let protocols = [("range", subscription(&["t"]))];
            let told = other.call(9, &join_request(&name, "", None, &protocols)).member_id.to_string();
            let leave = |client: &mut RawClient, version: i16, member: &str| {
                let request = match version {
                    0..=2 => LeaveGroupRequest::default().with_member_id(text(member)),
                    _ => LeaveGroupRequest::default()
                        .with_members(vec![MemberIdentity::default().with_member_id(text(member))]),
                };
                let answer = client.call(version, &request.with_group_id(group(&name)));
                format!("{} {:?}", answer.error_code, answer.members.iter().map(|m| m.error_code).collect::<Vec<_>>())
            };
            for (what, version, member) in [
                ("pending id", 3, told.as_str()),
                ("again", 3, &told),
                ("stranger", 0, "who"),
                ("member", 2, &member),
                ("again", 1, &member),
            ] {
                let left = leave(&mut s.client, version, member);
                s.say(format!("{what}: {left}"));
            }
            let rejoin = s.client.call(9, &join_request(&name, &member, None, &protocols));
            s.say(format!("joins with its old id: {}", rejoin.error_code));
            let request = LeaveGroupRequest::default()
                .with_group_id(group(&fresh_name("g")))
                .with_members(vec![MemberIdentity::default().with_member_id(text("m"))]);
            let answer = s.client.call(4, &request);
            s.say(format!("no group: {} {}", answer.error_code, answer.members.len()));
            s.end()
        },
        "pending id: 0 [0]
         again: 0 [25]
         stranger: 25 []
         member: 0 []
         again: 25 []
         joins with its old id: 25
         no group: 0 1",
    );
}
