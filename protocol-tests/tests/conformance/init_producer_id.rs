use crate::scenario::scenario;

#[test]
fn every_idempotent_producer_gets_an_id_of_its_own_at_epoch_0() {
    scenario(
        |s| {
            let (first, second) = (s.producer_id(), s.producer_id());
            s.say(format!("differ {} epochs {} {}", first.0 != second.0, first.1, second.1));
        },
        "differ true epochs 0 0",
    );
}
