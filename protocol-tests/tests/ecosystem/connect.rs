use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use terrace_protocol_tests::broker::{Broker, Options, free_port};
use terrace_protocol_tests::peers::{Peer, have, run};

use crate::java::Running;

const READY_WITHIN: Duration = Duration::from_secs(180);
const COPIED_WITHIN: Duration = Duration::from_secs(60);

fn connector(rest: u16, name: &str, class: &str, more: &str) {
    let body = format!(
        r#"{{"name":"{name}","config":{{"connector.class":"org.apache.kafka.connect.file.{class}","tasks.max":"1",{more}}}}}"#
    );
    let url = format!("http://127.0.0.1:{rest}/connectors");
    run(Command::new("curl").args(["-sSf", "-H", "Content-Type: application/json", "-d", &body, &url]));
}

/// Waits until the file holds `wanted`.
fn wait_for(path: &Path, wanted: &str) {
    let begun = Instant::now();
    loop {
        let found = std::fs::read_to_string(path).unwrap_or_default();
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < COPIED_WITHIN, "{} of {} bytes arrived", found.len(), wanted.len());
        // Another process writes the file; nothing tells when.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A distributed worker keeps configuration, offsets and status in topics of its own.
#[test]
fn connect_copies_a_file_through_a_topic() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    let broker = Broker::start(&Options::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| folder.path().join(name);
    let rest = free_port();
    let mut properties = format!(
        "bootstrap.servers={}\ngroup.id=connect\nlisteners=http://127.0.0.1:{rest}\noffset.flush.interval.ms=500\n",
        broker.bootstrap()
    );
    for part in ["config", "offset", "status"] {
        writeln!(properties, "{part}.storage.topic=connect-{part}\n{part}.storage.replication.factor=1")
            .expect("a string");
    }
    for part in ["key", "value"] {
        writeln!(properties, "{part}.converter=org.apache.kafka.connect.storage.StringConverter").expect("a string");
    }
    std::fs::write(at("worker.properties"), properties).expect("a file");
    let worker = at("worker.properties").display().to_string();
    let _worker = Running::class("org.apache.kafka.connect.cli.ConnectDistributed", &[&worker]);
    let begun = Instant::now();
    let url = format!("http://127.0.0.1:{rest}/connectors");
    while !Command::new("curl").args(["-sf", "-o", "/dev/null", &url]).status().expect("curl is there").success() {
        assert!(begun.elapsed() < READY_WITHIN, "the worker is ready within {READY_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(200));
    }

    let lines: String = (0..2000).map(|i| format!("line {i}\n")).collect();
    std::fs::write(at("in"), &lines).expect("a file");
    let (from, to) = (at("in").display().to_string(), at("out").display().to_string());
    connector(rest, "source", "FileStreamSourceConnector", &format!(r#""file":"{from}","topic":"lines""#));
    connector(rest, "sink", "FileStreamSinkConnector", &format!(r#""file":"{to}","topics":"lines""#));
    wait_for(&at("out"), &lines);
}
