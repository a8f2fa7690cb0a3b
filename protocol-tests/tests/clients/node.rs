use std::process::Command;

use rstest::rstest;
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, home, repository, run};

use crate::running::on_both;

/// Each of the scripts in `node/`: topics, produce, transactions, groups, offsets.
#[rstest]
#[case("kafkajs.mjs")]
#[case("platformatic.mjs")]
fn the_node_clients_work(#[case] script: &str) {
    on_both(&[Peer::Node], |bootstrap| {
        // Node looks for packages beside the script.
        let beside = home().join("node").join(script);
        std::fs::copy(repository().join("protocol-tests/tests/clients/node").join(script), &beside).expect("a copy");
        let out = run(Command::new("node").arg(beside).args([bootstrap, &fresh_name("node")]));
        assert!(out.ends_with("all ok\n"), "{out}");
    });
}
