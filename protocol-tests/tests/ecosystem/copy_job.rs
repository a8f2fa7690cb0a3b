use std::time::Duration;

use terrace_protocol_tests::broker::{Broker, Options, free_port};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, have};

use crate::java::{Running, java};

/// Kills of the job; every third takes the broker along. `TERRACE_COPY_KILLS` for a long run.
const KILLS: u64 = 4;
const STARTED_WITHIN: Duration = Duration::from_secs(120);
/// What a job waits behind each of its transactions while it is to be killed: whoever kills it finds it at work.
const PACE_MS: &str = "10";

/// Output equals input as multisets, whatever was killed when.
#[test]
fn a_copy_job_is_exactly_once_while_it_and_the_broker_are_killed() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    let kills = std::env::var("TERRACE_COPY_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let data = tempfile::tempdir().expect("a temporary directory");
    let port = free_port();
    let start = || Broker::try_start_in(data.path(), &Options::new(), port).expect("the broker starts");
    let mut broker = start();
    let bootstrap = broker.bootstrap();
    let (input, output) = (fresh_name("input"), fresh_name("output"));
    // More than the job copies in the longest time between two kills.
    let count = 8000 * kills;
    // Of what is left at the end; a busy machine copies some thousands a second.
    let copied_within = STARTED_WITHIN + Duration::from_secs(count / 1000);
    let count = count.to_string();
    java("CopyJob.java", &[&bootstrap, "fill", &input, &output, &count]);
    for kill in 0..kills {
        let job = Running::java("CopyJob.java", &[&bootstrap, "copy", &input, &output, PACE_MS]);
        if !job.says("copying", STARTED_WITHIN) {
            continue;
        }
        // Somewhere in the work: the times differ from kill to kill and run to run.
        std::thread::sleep(Duration::from_millis(100 + kill * 137 % 900));
        if kill % 3 == 2 {
            broker.kill();
            broker = start();
            std::thread::sleep(Duration::from_millis(kill * 71 % 500));
        }
        job.kill();
    }
    let last = (0..3).find_map(|_| {
        Running::java("CopyJob.java", &[&bootstrap, "copy", &input, &output, "0"])
            .line_with("copied all", copied_within)
    });
    let last = last.expect("the job comes to its end when nobody disturbs it");
    assert!(!last.ends_with(" 0"), "the kills came while there was work: {last}");
    let checked = java("CopyJob.java", &[&bootstrap, "check", &input, &output]);
    assert!(checked.contains(&format!("equal: {count}")), "{checked}");
}
