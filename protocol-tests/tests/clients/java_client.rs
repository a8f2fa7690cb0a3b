use std::fmt::Write as _;

use rstest::rstest;
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, have, repository, run, script};

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

/// The program ends the last transaction behind its coordinator's back, as `kafka-transactions abort` does.
#[test]
fn committed_records_and_no_others_are_read_from_both_tiers() {
    let options =
        Options::new().with("log.retention.check.interval.ms", 200).with("remote.log.manager.task.interval.ms", 200);
    on_both_with(&[Peer::Kafka], &options, |bootstrap| {
        let out = java("Transactions.java", &[bootstrap, &fresh_name("java"), "200", "3000"]);
        for line in ["committed ok", "open ok", "aborted by hand ok"] {
            assert!(out.contains(line), "{out}");
        }
    });
}

#[test]
fn kafka_s_own_reader_dumps_markers_aborted_transactions_and_producers() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    let broker = Broker::start(&Options::new());
    java("Transactions.java", &[&broker.kafka.to_string(), "dumped", "6", "0"]);
    let broker = broker.stop();
    let partition = broker.data.join("log").join("dumped-0");
    let dump = |extension: &str| {
        let of_kind = |path: &std::path::PathBuf| path.extension().is_some_and(|found| found == extension);
        let entries = std::fs::read_dir(&partition).expect("the partition's directory").flatten();
        let file = entries.map(|entry| entry.path()).find(of_kind).expect("a file of this kind");
        run(script("kafka").args(["dump-log", "--print-data-log", "--files", &file.display().to_string()]))
    };
    let log = dump("log");
    assert!(!log.contains("isvalid: false"), "{log}");
    assert_eq!((log.matches("endTxnMarker: COMMIT").count(), log.matches("endTxnMarker: ABORT").count()), (3, 4));
    assert_eq!(dump("txnindex").matches("firstOffset: ").count(), 4);
    assert!(dump("snapshot").contains("currentTxnFirstOffset: OptionalLong.empty"));
}

#[test]
fn groups_of_the_consumer_protocol_work() {
    on_both_with(&[Peer::Kafka], &Options::new(), |bootstrap| {
        let out = java("ConsumerProtocol.java", &[bootstrap, &fresh_name("java")]);
        for part in ["share ok", "static ok", "regex ok", "migration ok"] {
            assert!(out.contains(part), "{out}");
        }
    });
}

#[test]
fn members_of_share_groups_get_each_record_from_both_tiers() {
    let options =
        Options::new().with("log.retention.check.interval.ms", 200).with("remote.log.manager.task.interval.ms", 200);
    on_both_with(&[Peer::Kafka], &options, |bootstrap| {
        let out = java("ShareGroups.java", &[bootstrap, &fresh_name("java")]);
        for part in ["many ok", "said ok", "limits ok", "renewed ok", "committed ok", "old ok"] {
            assert!(out.contains(part), "{out}");
        }
    });
}
