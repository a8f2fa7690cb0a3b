//! Kafka Streams with `group.protocol=streams` (KIP-1071).

use std::path::Path;
use std::time::Duration;

use terrace_protocol_tests::broker::{Broker, Options, free_port};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, have};

use crate::java::{Running, java};

const PROGRAM: &str = "StreamsGroup.java";
/// Rounds of kills; `TERRACE_STREAMS_ROUNDS` asks for more than fit into CI.
const ROUNDS: u32 = 1;
const LINES: &str = "10000";
const RUNNING_WITHIN: Duration = Duration::from_secs(120);

/// Members that are killed are missed soon.
fn options() -> Options {
    Options::new()
        .with("group.streams.initial.rebalance.delay.ms", 0)
        .with("group.streams.min.heartbeat.interval.ms", 300)
        .with("group.streams.heartbeat.interval.ms", 300)
        .with("group.streams.min.session.timeout.ms", 3000)
        .with("group.streams.session.timeout.ms", 3000)
        .with("group.streams.num.standby.replicas", 1)
}

fn rounds() -> u32 {
    std::env::var("TERRACE_STREAMS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

/// A count and a stateful join, `exactly_once_v2`, two processes of two threads with standbys.
#[test]
fn kafka_streams_counts_right_as_a_streams_group_while_members_and_the_broker_are_killed() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    let data = tempfile::tempdir().expect("a temporary directory");
    let states =
        [tempfile::tempdir().expect("a temporary directory"), tempfile::tempdir().expect("a temporary directory")];
    let port = free_port();
    let start = || Broker::try_start_in(data.path(), &options(), port).expect("the broker starts");
    let mut broker = start();
    let bootstrap = broker.bootstrap();
    let name = fresh_name("app");
    java(PROGRAM, &[&bootstrap, "fill", &name, LINES]);
    let run = |state: &Path| Running::java(PROGRAM, &[&bootstrap, "run", &name, &state.display().to_string()]);
    let mut members = [run(states[0].path()), run(states[1].path())];
    assert!(members.iter().all(|member| member.says("state RUNNING", RUNNING_WITHIN)));
    for round in 0..rounds() {
        let killed = round as usize % 2;
        let fresh = run(states[killed].path());
        std::mem::replace(&mut members[killed], fresh).kill();
        broker.kill();
        broker = start();
        assert!(members[killed].says("state RUNNING", RUNNING_WITHIN));
    }
    let checked = java(PROGRAM, &[&bootstrap, "check", &name, LINES]);
    assert!(checked.contains("counts are right"), "{checked}");
}
