use std::time::Duration;

use terrace_protocol_tests::broker::{Broker, Options, free_port};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, have};

use crate::java::{Running, java};

const LINES: &str = "20000";
const KILLS: u32 = 2;
const RUNNING_WITHIN: Duration = Duration::from_secs(120);

/// `exactly_once_v2` with state stores, changelogs and a repartition topic.
#[test]
fn kafka_streams_counts_right_while_the_broker_is_killed() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    let data = tempfile::tempdir().expect("a temporary directory");
    let state = tempfile::tempdir().expect("a temporary directory");
    let port = free_port();
    let start = || Broker::try_start_in(data.path(), &Options::new(), port).expect("the broker starts");
    let mut broker = start();
    let bootstrap = broker.bootstrap();
    let (input, output) = (fresh_name("lines"), fresh_name("counts"));
    java("WordCount.java", &[&bootstrap, "fill", &input, &output, LINES]);
    let state = state.path().display().to_string();
    let app = Running::java("WordCount.java", &[&bootstrap, "run", &input, &output, &state]);
    assert!(app.says("state RUNNING", RUNNING_WITHIN));
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(1500));
        broker.kill();
        broker = start();
    }
    let checked = java("WordCount.java", &[&bootstrap, "check", &input, &output, LINES]);
    assert!(checked.contains("counts are right"), "{checked}");
}
