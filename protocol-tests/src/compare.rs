//! One scenario, one transcript, two brokers.
//!
//! A scenario talks to a broker and writes down what it saw, free of ids and times that differ between runs. The
//! transcript that the test expects holds for Apache Kafka too, and is checked there when the peer is installed: so an
//! expectation is never only our own idea.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::broker::{Broker, Options};
use crate::peers;

/// Runs `scenario` against a fresh broker of ours and against Apache Kafka; both must give `expected`. Lines are
/// compared without the white space around them.
pub fn both(options: &Options, scenario: impl Fn(SocketAddr) -> String, expected: &str) {
    if std::env::var_os("TERRACE_TEST_KAFKA_ONLY").is_none() {
        let broker = Broker::start(options);
        same("terrace", &scenario(broker.kafka), expected);
    }
    if let Some(kafka) = peers::kafka() {
        same("Apache Kafka", &scenario(kafka), expected);
    }
}

/// As [`both`], with a broker of its own on either side and `lines` in its server.properties, where `{folder}` is an empty
/// folder.
pub fn both_configured(lines: &[&str], scenario: impl Fn(SocketAddr) -> String, expected: &str) {
    apart_configured(lines, scenario, expected, expected);
}

/// As [`both_configured`] where the two differ, which is explained where it is called: `ours` is what our broker must give,
/// `kafkas` what Apache Kafka must, so that a difference which ends is noticed.
pub fn apart_configured(lines: &[&str], scenario: impl Fn(SocketAddr) -> String, ours: &str, kafkas: &str) {
    let in_folder = |folder: &TempDir| -> Vec<String> {
        lines.iter().map(|line| line.replace("{folder}", &folder.path().display().to_string())).collect()
    };
    let folder = || TempDir::new().expect("a temporary directory");
    if std::env::var_os("TERRACE_TEST_KAFKA_ONLY").is_none() {
        let folder = folder();
        let properties = in_folder(&folder);
        let options = properties
            .iter()
            .filter_map(|line| line.split_once('='))
            .fold(Options::new(), |options, (key, value)| options.with(key, value));
        let broker = Broker::start(&options);
        same("terrace", &scenario(broker.kafka), ours);
    }
    let folder = folder();
    if let Some(kafka) = peers::Kafka::start(&in_folder(&folder)) {
        same("Apache Kafka", &scenario(kafka.address), kafkas);
    }
}

/// Runs `scenario` against ours only: where we differ on purpose, or Kafka cannot be configured the same way.
pub fn ours(options: &Options, scenario: impl Fn(SocketAddr) -> String, expected: &str) {
    let broker = Broker::start(options);
    same("terrace", &scenario(broker.kafka), expected);
}

fn same(who: &str, transcript: &str, expected: &str) {
    let lines =
        |text: &str| text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (transcript, expected) = (lines(transcript), lines(expected));
    assert!(
        transcript == expected,
        "{who} answers otherwise\n--- expected\n{}\n--- answered\n{}",
        expected.join("\n"),
        transcript.join("\n")
    );
}

/// A topic name that no other scenario of this or an earlier run uses.
pub fn fresh_name(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}
