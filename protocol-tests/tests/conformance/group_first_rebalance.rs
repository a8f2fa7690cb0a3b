//! `group.initial.rebalance.delay.ms`: how long the first rebalance of a group waits for more members.
//!
//! Nothing here looks at a clock to see that something is early: of groups that begin together, one is answered while a
//! heartbeat shows that another still waits.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::JoinGroupRequest;
use terrace_protocol_tests::compare::{both_configured, fresh_name};
use terrace_protocol_tests::raw_client::RawClient;

use crate::group_rebalances::leave;
use crate::group_scenario::{find, heartbeat, join_request, subscription, sync_request};
use crate::scenario::Scenario;

const DELAY: Duration = Duration::from_millis(1200);

/// A member whose JoinGroup has been sent and not been answered.
struct Joining {
    client: RawClient,
    correlation_id: i32,
    name: String,
    member: String,
}

impl Joining {
    /// Sends it and waits until it is seen.
    fn send(address: SocketAddr, name: &str, rebalance_timeout_ms: i32) -> Self {
        let mut client = RawClient::connect(address);
        let request = |member: &str| {
            join_request(name, member, None, &[("range", subscription(&["t"]))])
                .with_rebalance_timeout_ms(rebalance_timeout_ms)
        };
        let told = client.call(9, &request(""));
        assert_eq!(told.error_code, 79);
        let correlation_id = client.send(9, &request(&told.member_id));
        let mut other = RawClient::connect(address);
        while heartbeat(&mut other, name, 0, &told.member_id) == 25 {}
        Self { client, correlation_id, name: name.to_owned(), member: told.member_id.to_string() }
    }

    /// Does the first rebalance of its group still wait?
    fn waits(&self, s: &mut Scenario) -> bool {
        match heartbeat(&mut s.client, &self.name, 0, &self.member) {
            27 => true,
            22 => false,
            other => panic!("error {other}"),
        }
    }

    /// Waits for the answer: its error, generation and number of members.
    fn joined(&mut self) -> String {
        let answer = self.client.receive::<JoinGroupRequest>(9, self.correlation_id);
        format!("{} in {} of {}", answer.error_code, answer.generation_id, answer.members.len())
    }
}

#[test]
fn the_first_rebalance_waits_for_members_and_longer_while_they_come() {
    let delay = format!("group.initial.rebalance.delay.ms={}", DELAY.as_millis());
    both_configured(
        &[&delay, "offsets.topic.num.partitions=1"],
        |address| {
            let mut s = Scenario::on(address);
            let new_group = |s: &mut Scenario| {
                let name = fresh_name("g");
                find(s, &name);
                name
            };
            let names: Vec<_> = (0..5).map(|_| new_group(&mut s)).collect();
            let began = Instant::now();
            let [mut three, mut two, mut hasty] =
                [(0, 10_000), (1, 10_000), (2, 1)].map(|(name, timeout): (usize, i32)| {
                    let leader = Joining::send(address, &names[name], timeout);
                    (leader, Joining::send(address, &names[name], timeout))
                });
            let mut alone = Joining::send(address, &names[3], 10_000);

            let joined = alone.joined();
            s.say(format!("alone: {joined}, not before the delay {}", began.elapsed() >= DELAY));
            let joined = hasty.0.joined();
            s.say(format!("two with a rebalance timeout below the delay: {joined}, {}", hasty.1.joined()));
            let waits = (two.0.waits(&mut s), two.1.waits(&mut s));
            s.say(format!("two wait for more: {waits:?}"));
            let mut third = Joining::send(address, &names[0], 10_000);
            let joined = two.0.joined();
            s.say(format!("two: {joined}, {}", two.1.joined()));
            let waits = three.0.waits(&mut s);
            s.say(format!("three wait for more: {waits}"));
            let joined = three.0.joined();
            s.say(format!("three: {joined}, {}, {}", three.1.joined(), third.joined()));

            let (client, name, member) = (&mut alone.client, &alone.name, &alone.member);
            client.call(5, &sync_request(name, 1, member, &[(member, b"all")]));
            let mut newer = Joining::send(address, &names[4], 10_000);
            let news = [("range", subscription(&["t", "u"]))];
            let again = client.call(9, &join_request(name, member, None, &news));
            let early = newer.waits(&mut s);
            s.say(format!("again: {} in {} within the delay {early}", again.error_code, again.generation_id));
            newer.joined();

            assert_eq!(leave(client, name, member), 0);
            let began = Instant::now();
            let joined = Joining::send(address, name, 10_000).joined();
            s.say(format!("after all had left: {joined}, not before the delay {}", began.elapsed() >= DELAY));
            s.end()
        },
        "alone: 0 in 1 of 1, not before the delay true
         two with a rebalance timeout below the delay: 0 in 1 of 2, 0 in 1 of 0
         two wait for more: (true, true)
         two: 0 in 1 of 2, 0 in 1 of 0
         three wait for more: true
         three: 0 in 1 of 3, 0 in 1 of 0, 0 in 1 of 0
         again: 0 in 2 within the delay true
         after all had left: 0 in 4 of 1, not before the delay true",
    );
}
