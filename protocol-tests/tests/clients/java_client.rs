use std::fmt::Write as _;

use rstest::rstest;
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, repository, run, script};

use crate::running::on_both_with;

/// Runs one of the Java programs beside this file.
fn java(program: &str, args: &[&str]) -> String {
    let file = repository().join("protocol-tests/tests/clients").join(program);
    run(script("kafka").arg("java").arg(file).args(args))
}

/// Keys, values, headers, timestamps, nulls and large records come back as they were sent; the program compares a digest
/// over (partition, offset, key, value, headers, timestamp) of what was sent with that of what a group read.
#[rstest]
#[case("none")]
#[case("gzip")]
#[case("snappy")]
#[case("lz4")]
#[case("zstd")]
fn what_was_sent_is_what_a_group_reads(#[case] codec: &str) {
    let input = tempfile::NamedTempFile::new().expect("a file");
    let mut lines = String::new();
    for i in 0..20_000 {
        writeln!(lines, "key-{}\tvalue {i} {}", i % 777, "text ".repeat(i % 60)).expect("a string");
    }
    std::fs::write(input.path(), lines).expect("a file");
    let path = input.path().display().to_string();
    // Small segments, so that most of it comes back from the object store on our side.
    let options = Options::new().with("log.retention.check.interval.ms", 500);
    on_both_with(&[Peer::Kafka], &options, |bootstrap| {
        let topic = fresh_name("java");
        let out = java("RealInput.java", &[bootstrap, &topic, codec, &path, "3", "1048576", "1048576"]);
        assert!(out.contains("same digest"), "{out}");
        assert!(out.contains("time reset ok"), "{out}");
    });
}

#[test]
fn a_group_rebalances_and_no_record_is_lost() {
    on_both_with(&[Peer::Kafka], &Options::new(), |bootstrap| {
        let out = java("Rebalance.java", &[bootstrap, &fresh_name("java")]);
        assert!(out.contains("range ok") && out.contains("cooperative ok") && out.contains("static ok"), "{out}");
    });
}
