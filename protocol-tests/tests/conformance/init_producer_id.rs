use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::both;

use crate::scenario::Scenario;

#[test]
fn every_idempotent_producer_gets_an_id_of_its_own_at_epoch_0() {
    both(
        &Options::new(),
        |address| {
            let mut s = Scenario::on(address);
            let (first, second) = (s.producer_id(), s.producer_id());
            s.say(format!("differ {} epochs {} {}", first.0 != second.0, first.1, second.1));
            s.end()
        },
        "differ true epochs 0 0",
    );
}
