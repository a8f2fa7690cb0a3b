use std::process::Command;

use rstest::rstest;
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, home, run};

use crate::running::on_both;

/// Each library of the program in `go/`: topics, produce, transactions, groups, offsets.
#[rstest]
#[case("franz-go")]
#[case("sarama")]
#[case("kafka-go")]
fn the_go_clients_work(#[case] library: &str) {
    on_both(&[Peer::Go], |bootstrap| {
        let out = run(Command::new(home().join("bin/go-clients")).args([library, bootstrap, &fresh_name("go")]));
        assert!(out.ends_with("all ok\n"), "{out}");
    });
}
