use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, have, kafka, run};

use crate::java::Running;

const RECORDS: usize = 500;

fn produce(bootstrap: &str, topic: &str, whose: &str) {
    let lines: String = (0..RECORDS).map(|i| format!("k{i}:{whose} {i}\n")).collect();
    let mut child = Command::new("kcat")
        .args(["-b", bootstrap, "-P", "-t", topic, "-K", ":"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat is there");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("kcat reads");
    assert!(child.wait().expect("kcat ends").success());
}

/// Reads as many records as were sent, however long the mirror needs to make the topic and fill it.
fn mirrored(bootstrap: &str, topic: &str, whose: &str) {
    let read = || {
        let out =
            run(Command::new("timeout").args(["150", "kcat", "-b", bootstrap, "-C", "-t", topic, "-q", "-o"]).args([
                "beginning",
                "-c",
                &RECORDS.to_string(),
                "-X",
                "topic.metadata.refresh.interval.ms=500",
                "-X",
                "allow.auto.create.topics=false",
            ]));
        let mut values: Vec<_> = out.lines().map(str::to_owned).collect();
        values.sort_unstable();
        values
    };
    let mut wanted: Vec<_> = (0..RECORDS).map(|i| format!("{whose} {i}")).collect();
    wanted.sort_unstable();
    assert_eq!(read(), wanted);
}

fn wait_for_topic(bootstrap: &str, topic: &str) {
    let begun = std::time::Instant::now();
    loop {
        let listed = run(Command::new("kcat").args(["-b", bootstrap, "-L"]));
        if listed.contains(&format!("topic \"{topic}\" with")) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(180), "{topic} is made within 3 minutes");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Both directions at once between Apache Kafka and ours.
#[test]
fn mirror_maker_copies_both_ways() {
    if !have(&[Peer::Kafka, Peer::Kcat]) {
        return;
    }
    let ours = Broker::start(&Options::new());
    let theirs = kafka().expect("it is there").to_string();
    let (from_ours, from_theirs) = (fresh_name("ours"), fresh_name("theirs"));
    produce(&ours.bootstrap(), &from_ours, "ours");
    produce(&theirs, &from_theirs, "theirs");
    let properties = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "clusters=ours,theirs\nours.bootstrap.servers={}\ntheirs.bootstrap.servers={theirs}\n\
         ours->theirs.enabled=true\nours->theirs.topics={from_ours}\ntheirs->ours.enabled=true\n\
         theirs->ours.topics={from_theirs}\nreplication.factor=1\noffset-syncs.topic.replication.factor=1\n\
         checkpoints.topic.replication.factor=1\nheartbeats.topic.replication.factor=1\n\
         offset.storage.replication.factor=1\nstatus.storage.replication.factor=1\nconfig.storage.replication.factor=1\n\
         refresh.topics.interval.seconds=2\n",
        ours.bootstrap()
    );
    std::fs::write(properties.path(), text).expect("a file");
    let path = properties.path().display().to_string();
    let _mirror = Running::class("org.apache.kafka.connect.mirror.MirrorMaker", &[&path]);
    for (bootstrap, source, topic, whose) in
        [(theirs.as_str(), "ours", &from_ours, "ours"), (&ours.bootstrap(), "theirs", &from_theirs, "theirs")]
    {
        let copy = format!("{source}.{topic}");
        wait_for_topic(bootstrap, &copy);
        mirrored(bootstrap, &copy, whose);
    }
}
