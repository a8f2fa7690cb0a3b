//! What happens to a rebalance of the classic protocol when members leave, are replaced, or never come back.

use std::time::{Duration, Instant};

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::{both, fresh_name};
use terrace_protocol_tests::raw_client::RawClient;

use crate::group_members::{begin_join, completing, first_error};
use crate::group_scenario::{find, group, heartbeat, join_request, stable, subscription, sync_request, two_members};
use crate::scenario::{Scenario, text};

pub fn leave(client: &mut RawClient, name: &str, member: &str) -> i16 {
    let request = LeaveGroupRequest::default()
        .with_group_id(group(name))
        .with_members(vec![MemberIdentity::default().with_member_id(text(member))]);
    client.call(4, &request).members[0].error_code
}

fn join_as(name: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    join_request(name, member, instance, &[("range", subscription(&["t"]))])
}

fn sync_as(name: &str, generation: i32, member: &str, instance: &str) -> SyncGroupRequest {
    sync_request(name, generation, member, &[(member, b"all")]).with_group_instance_id(Some(text(instance)))
}

#[test]
fn who_does_not_sync_is_removed_after_the_rebalance_timeout() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let hasty = |member: &str| join_as(&name, member, None).with_rebalance_timeout_ms(1500);
            let told = s.client.call(9, &hasty("")).member_id;
            let first = s.client.call(9, &hasty(&told)).member_id.to_string();
            s.client.call(5, &sync_request(&name, 1, &first, &[(&first, b"all")]));
            let told = other.call(9, &hasty("")).member_id;
            let pending = other.send(9, &hasty(&told));
            assert_eq!(first_error(&mut s.client, &name, 1, &first), 27);
            s.client.call(9, &hasty(&first));
            let second = other.receive::<JoinGroupRequest>(9, pending).member_id.to_string();
            let began = Instant::now();
            let synced = s.client.call(5, &sync_request(&name, 2, &first, &[(&first, b"all")]));
            let beats = (heartbeat(&mut s.client, &name, 2, &first), heartbeat(&mut other, &name, 2, &second));
            s.say(format!("leader's sync: {} beats {beats:?}", synced.error_code));
            let beat = first_error(&mut s.client, &name, 2, &first);
            s.say(format!("leader's beat: {beat} after the timeout {}", began.elapsed() > Duration::from_millis(1200)));
            let beat = heartbeat(&mut other, &name, 2, &second);
            let sync = other.call(5, &sync_request(&name, 2, &second, &[])).error_code;
            s.say(format!("who did not sync: beat {beat} sync {sync}"));
            let again = s.client.call(9, &hasty(&first));
            s.say(format!("alone: {} in {} of {}", again.error_code, again.generation_id, again.members.len()));
            s.end()
        },
        "leader's sync: 0 beats (0, 0)
         leader's beat: 27 after the timeout true
         who did not sync: beat 25 sync 25
         alone: 0 in 3 of 1",
    );
}

#[test]
fn a_member_leaves_while_it_joins_and_before_it_syncs() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let (generation, first) = stable(&mut s, &name, &["t"]);
            let (pending, second) = begin_join(&mut other, &name);
            assert_eq!(first_error(&mut s.client, &name, generation, &first), 27);
            let left = leave(&mut s.client, &name, &second);
            let joined = other.receive::<JoinGroupRequest>(9, pending);
            s.say(format!("left: {left}, its join: {} {:?}", joined.error_code, &*joined.member_id));
            let beat = heartbeat(&mut s.client, &name, generation, &first);
            let again = s.client.call(9, &join_as(&name, &first, None));
            s.say(format!(
                "other: beat {beat} {} in {} of {}",
                again.error_code,
                again.generation_id,
                again.members.len()
            ));

            let (mut s2, mut other, name, first, second) = completing(address);
            let left = leave(&mut other, &name, &second);
            let sync = s2.client.call(5, &sync_request(&name, 2, &first, &[(&first, b"all")])).error_code;
            s.say(format!("left: {left}, the leader's sync: {sync}"));
            let again = s2.client.call(9, &join_as(&name, &first, None));
            s.say(format!("alone: {} in {} of {}", again.error_code, again.generation_id, again.members.len()));

            let (mut s2, mut other, name, first, second) = completing(address);
            let waiting = other.send(5, &sync_request(&name, 2, &second, &[]));
            let mut third = RawClient::connect(address);
            while heartbeat(&mut third, &name, 2, &second) != 0 {}
            let left = leave(&mut third, &name, &first);
            let synced = other.receive::<SyncGroupRequest>(5, waiting).error_code;
            let sync = s2.client.call(5, &sync_request(&name, 2, &first, &[(&first, b"all")])).error_code;
            s.say(format!("leader left: {left}, the follower's sync: {synced}, its own: {sync}"));
            let again = other.call(9, &join_as(&name, &second, None));
            let leads = again.leader == again.member_id;
            s.say(format!("heir: {} in {} leads {leads}", again.error_code, again.generation_id));
            s.end()
        },
        r#"left: 0, its join: 25 ""
           other: beat 27 0 in 2 of 1
           left: 0, the leader's sync: 27
           alone: 0 in 3 of 1
           leader left: 0, the follower's sync: 27, its own: 25
           heir: 0 in 3 leads true"#,
    );
}

#[test]
fn a_static_member_returns_in_the_middle_of_a_rebalance() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let old = s.client.call(9, &join_as(&name, "", Some("a"))).member_id.to_string();
            s.client.call(5, &sync_as(&name, 1, &old, "a"));
            let pending = other.send(9, &join_as(&name, "", Some("b")));
            let beat = |s: &mut Scenario, generation, member: &str| heartbeat(&mut s.client, &name, generation, member);
            while beat(&mut s, 1, &old) != 27 {}
            let back = s.client.call(9, &join_as(&name, "", Some("a")));
            let follower = other.receive::<JoinGroupRequest>(9, pending).member_id.to_string();
            let leads = back.leader == back.member_id;
            s.say(format!(
                "while they join: {} in {} of {} leads {leads}",
                back.error_code,
                back.generation_id,
                back.members.len()
            ));
            let old_sync = other.call(5, &sync_as(&name, 2, &old, "a")).error_code;
            s.say(format!("its old self syncs: {old_sync}"));

            let waiting = other.send(5, &sync_request(&name, 2, &follower, &[]));
            let mut third = RawClient::connect(address);
            while heartbeat(&mut third, &name, 2, &follower) != 0 {}
            let pending = third.send(9, &join_as(&name, "", Some("b")));
            let fenced = other.receive::<SyncGroupRequest>(5, waiting).error_code;
            let leader = back.member_id.to_string();
            let sync = s.client.call(5, &sync_as(&name, 2, &leader, "a")).error_code;
            s.say(format!("before they sync: its old self's sync {fenced}, the leader's {sync}"));
            let again = s.client.call(9, &join_as(&name, &leader, Some("a")));
            let third = third.receive::<JoinGroupRequest>(9, pending);
            s.say(format!(
                "{} {} in {} {}",
                again.error_code, third.error_code, again.generation_id, third.generation_id
            ));
            s.end()
        },
        "while they join: 0 in 2 of 2 leads true
         its old self syncs: 82
         before they sync: its old self's sync 82, the leader's 27
         0 0 in 3 3",
    );
}

#[test]
fn a_static_member_that_returns_with_other_protocols_may_change_the_choice() {
    both(
        &Options::new(),
        |address| {
            let mut s = Scenario::on(address);
            let name = fresh_name("g");
            find(&mut s, &name);
            let with = |names: &[&'static str]| {
                let protocols: Vec<_> = names.iter().map(|protocol| (*protocol, subscription(&["t"]))).collect();
                join_request(&name, "", Some("a"), &protocols)
            };
            let first = s.client.call(9, &with(&["range", "sticky"]));
            let member = first.member_id.to_string();
            s.client.call(5, &sync_as(&name, 1, &member, "a"));
            for protocols in [&["sticky", "range"][..], &["roundrobin"], &["range"]] {
                let back = s.client.call(9, &with(protocols));
                s.say(format!(
                    "{protocols:?}: {} in {} by {:?} skips {}",
                    back.error_code,
                    back.generation_id,
                    back.protocol_name.as_deref(),
                    back.skip_assignment
                ));
            }
            s.end()
        },
        r#"["sticky", "range"]: 0 in 2 by Some("sticky") skips false
           ["roundrobin"]: 23 in -1 by None skips false
           ["range"]: 0 in 3 by Some("range") skips false"#,
    );
}

#[test]
fn an_id_that_nobody_joins_with_holds_a_rebalance_up_until_it_lapses() {
    both(
        &Options::new().with("group.min.session.timeout.ms", 500),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let (generation, first) = stable(&mut s, &name, &["t"]);
            let mut third = RawClient::connect(address);
            let began = Instant::now();
            let told = third.call(9, &join_as(&name, "", None).with_session_timeout_ms(1500));
            let (pending, _) = begin_join(&mut other, &name);
            let beat = first_error(&mut s.client, &name, generation, &first);
            let joined = s.client.call(9, &join_as(&name, &first, None));
            let lapsed = began.elapsed() > Duration::from_millis(1200);
            other.receive::<JoinGroupRequest>(9, pending);
            s.say(format!(
                "beat {beat}: {} in {} of {} lapsed {lapsed}",
                joined.error_code,
                joined.generation_id,
                joined.members.len()
            ));
            let late = third.call(9, &join_as(&name, &told.member_id, None));
            s.say(format!("too late: {}", late.error_code));
            s.end()
        },
        "beat 27: 0 in 2 of 2 lapsed true
         too late: 25",
    );
}
