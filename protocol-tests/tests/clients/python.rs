use rstest::rstest;
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, python, repository, run};

use crate::running::on_both;

/// Each of the scripts beside this file: produce, consume, groups with rebalance, commit, seek to offset and time,
/// headers, null keys and tombstones, idempotence, admin.
#[rstest]
#[case("confluent.py")]
#[case("kafka_python.py")]
#[case("aiokafka_client.py")]
fn the_python_clients_work(#[case] script: &str) {
    on_both(&[Peer::Python], |bootstrap| {
        let file = repository().join("protocol-tests/tests/clients").join(script);
        let out = run(python().arg(file).args([bootstrap, &fresh_name("python")]));
        assert!(out.ends_with("all ok\n"), "{out}");
    });
}
