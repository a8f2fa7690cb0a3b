//! Runs a scenario where its peers are installed.

use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::peers::{self, Peer};

/// Runs `scenario`, which is given bootstrap servers, against a fresh broker of ours and then against Apache Kafka.
pub fn on_both(needed: &[Peer], scenario: impl Fn(&str)) {
    on_both_with(needed, &Options::new(), scenario);
}

/// The same with options for our broker.
pub fn on_both_with(needed: &[Peer], options: &Options, scenario: impl Fn(&str)) {
    if !peers::have(needed) {
        return;
    }
    let broker = Broker::start(options);
    scenario(&broker.bootstrap());
    drop(broker);
    if let Some(kafka) = peers::kafka() {
        scenario(&kafka.to_string());
    }
}
