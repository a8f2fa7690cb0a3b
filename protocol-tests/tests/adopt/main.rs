//! A directory that Apache Kafka filled, taken over by `terrace adopt`: everything a client can see of it is as before,
//! and producers, consumers and groups go on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use terrace_protocol_tests::broker::{Broker, Options, binary, free_port};
use terrace_protocol_tests::peers::{Peer, have, repository, run, script};

/// Apache Kafka with its data below `home`, from its start until it left.
struct Filled {
    home: tempfile::TempDir,
}

impl Filled {
    fn kafka(&self, port: u16, args: &[&str]) -> Command {
        let mut command = script("kafka");
        command.args(args).env("KAFKA_PEER_HOME", self.home.path()).env("KAFKA_PEER_PORT", port.to_string());
        command
    }

    /// Starts it, lets the Java program fill it and say what is there, and stops it in order.
    fn fill() -> (Self, String) {
        let filled = Self { home: tempfile::tempdir().expect("a temporary directory") };
        let port = free_port();
        run(&mut filled.kafka(port, &["start", "log.cleaner.backoff.ms=500"]));
        let seen = client(&format!("127.0.0.1:{port}"), &["fill"]);
        run(&mut filled.kafka(port, &["leave"]));
        (filled, seen)
    }

    fn log_dir(&self) -> std::path::PathBuf {
        self.home.path().join("data")
    }
}

/// What the program beside this file says of a broker.
fn client(bootstrap: &str, args: &[&str]) -> String {
    let file = repository().join("protocol-tests/tests/adopt/Adopted.java");
    run(script("kafka").arg("java").arg(file).arg(bootstrap).args(args))
}

fn adopt(directory: &Path, more: &[&str]) -> Output {
    Command::new(binary()).arg("adopt").arg(directory).args(more).output().expect("the binary is built by cargo test")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A broker on the adopted directory, whose own files are in it.
fn start(directory: &Path) -> Broker {
    let options = Options { properties: BTreeMap::new(), ..Options::new() }
        .with("log.dirs", directory.display())
        .with("log.cleaner.backoff.ms", 500);
    Broker::start_in(&directory.join(".terrace"), &options)
}

#[test]
fn a_directory_of_apache_kafka_is_taken_over_whole() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    let (filled, before) = Filled::fill();
    let directory = filled.log_dir();

    let looked = adopt(&directory, &["--dry-run"]);
    assert!(looked.status.success() && text(&looked).contains("one way"), "{}", text(&looked));
    let adopted = adopt(&directory, &[]);
    assert!(adopted.status.success(), "{}", text(&adopted));
    let again = adopt(&directory, &[]);
    assert!(!again.status.success() && text(&again).contains("belongs to a Terrace broker"), "{}", text(&again));

    let broker = start(&directory);
    let after = client(&broker.bootstrap(), &["show"]);
    assert_eq!(after, before);
    let went_on = client(&broker.bootstrap(), &["go-on"]);
    assert!(went_on.contains("went on"), "{went_on}");
}

#[test]
fn a_broker_that_runs_or_died_is_refused() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    let filled = Filled { home: tempfile::tempdir().expect("a temporary directory") };
    let port = free_port();
    run(&mut filled.kafka(port, &["start"]));
    let running = adopt(&filled.log_dir(), &[]);
    assert!(!running.status.success() && text(&running).contains("in use"), "{}", text(&running));

    let bootstrap = format!("127.0.0.1:{port}");
    let before = client(&bootstrap, &["fill"]);
    let pid = std::fs::read_to_string(filled.home.path().join("pid")).expect("a pid file");
    let pid = pid.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    run(&mut filled.kafka(port, &["leave"]));

    let died = adopt(&filled.log_dir(), &[]);
    assert!(!died.status.success() && text(&died).contains("--recover"), "{}", text(&died));
    let recovered = adopt(&filled.log_dir(), &["--recover"]);
    assert!(recovered.status.success(), "{}", text(&recovered));
    let broker = start(&filled.log_dir());
    assert_eq!(client(&broker.bootstrap(), &["show"]), before);
}
