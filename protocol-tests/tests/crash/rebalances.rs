//! Groups whose broker is killed while they rebalance: the members are known again, no epoch and no generation goes back,
//! and no partition has two owners.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions as Owned,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, MetadataRequest,
    SyncGroupRequest,
};
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{text, topic_name};
use uuid::Uuid;

use crate::workloads::create_partitions;

const TOPIC: &str = "shared";
const GROUP: &str = "g";
const PARTITIONS: i32 = 12;
const MEMBERS: usize = 4;
/// Kills of each test; `TERRACE_CRASH_ROUNDS` asks for more.
const ROUNDS: u64 = 8;
const WITHIN: Duration = Duration::from_secs(30);
/// How long a member may be gone, and how long a rebalance waits: longer than any restart.
const PATIENCE_MS: i32 = 60_000;

const UNKNOWN_MEMBER_ID: i16 = 25;
const ILLEGAL_GENERATION: i16 = 22;

fn options() -> Options {
    Options::new()
        .with("offsets.topic.num.partitions", 1)
        .with("group.consumer.assignment.interval.ms", 0)
        // The members of the first generation of a classic group come within it.
        .with("group.initial.rebalance.delay.ms", 500)
}

fn rounds() -> u64 {
    std::env::var("TERRACE_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"))
}

/// Lets `work` go on until the broker dies of a kill at some moment, and starts it again.
fn killed_at_work(broker: Broker, round: u64, mut work: impl FnMut(SocketAddr) -> io::Result<()>) -> Broker {
    let address = broker.kafka;
    let killer = std::thread::spawn(move || {
        // Moments differ from run to run with the machine; what must hold does not.
        std::thread::sleep(Duration::from_millis(20 + 61 * round % 190));
        broker.kill()
    });
    while work(address).is_ok() {}
    killer.join().expect("the killer does not panic").restart(&options())
}

/// Waits until the coordinator has loaded.
fn find(address: SocketAddr) {
    let mut client = RawClient::connect(address);
    let find = FindCoordinatorRequest::default().with_key_type(0).with_coordinator_keys(vec![text(GROUP)]);
    while client.call(4, &find).coordinators[0].error_code != 0 {}
    let describe = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(GROUP))]);
    // COORDINATOR_LOAD_IN_PROGRESS and NOT_COORDINATOR.
    while matches!(client.call(0, &describe).groups[0].error_code, 14..=16) {}
}

/// A member of the consumer protocol as it sees itself.
#[derive(Debug, Clone, Default)]
struct Member {
    id: String,
    /// The last that it was told; 0 for one that joins.
    epoch: i32,
    owned: BTreeSet<i32>,
    /// Its last heartbeat got no answer.
    unanswered: bool,
}

struct Consumers {
    topic_id: Uuid,
    members: Vec<Member>,
    /// Left, and maybe not known to have.
    leaving: Option<Member>,
    made: usize,
    /// The group's epoch when it was last seen.
    epoch: i32,
}

impl Consumers {
    fn begin(address: SocketAddr) -> Self {
        let mut client = RawClient::connect(address);
        create_partitions(&mut client, TOPIC, PARTITIONS, &[]);
        let named = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
        let topic_id = client.call(12, &MetadataRequest::default().with_topics(Some(vec![named]))).topics[0].topic_id;
        find(address);
        let mut consumers = Self { topic_id, members: Vec::new(), leaving: None, made: 0, epoch: 0 };
        (0..MEMBERS).for_each(|_| consumers.add());
        consumers.settle(address);
        consumers
    }

    fn add(&mut self) {
        self.made += 1;
        self.members.push(Member { id: format!("member-{}", self.made), ..Member::default() });
    }

    /// Somebody leaves, somebody comes, and everyone sends one heartbeat.
    fn churn(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut client = RawClient::try_connect(address)?;
        self.finish_leaving(&mut client)?;
        let gone = self.members.remove(self.made % MEMBERS);
        self.leaving = Some(gone);
        self.add();
        self.finish_leaving(&mut client)?;
        self.beat_all(&mut client)
    }

    fn beat_all(&mut self, client: &mut RawClient) -> io::Result<()> {
        for at in 0..self.members.len() {
            self.beat(client, at)?;
        }
        Ok(())
    }

    fn finish_leaving(&mut self, client: &mut RawClient) -> io::Result<()> {
        let Some(gone) = &self.leaving else { return Ok(()) };
        let leave = heartbeat(&gone.id, -1);
        let error = client.try_call(1, &leave)?.error_code;
        assert!(matches!(error, 0 | UNKNOWN_MEMBER_ID), "{} leaves: {error}", gone.id);
        self.leaving = None;
        Ok(())
    }

    fn beat(&mut self, client: &mut RawClient, at: usize) -> io::Result<()> {
        let topic_id = self.topic_id;
        let member = &mut self.members[at];
        let mut request = heartbeat(&member.id, member.epoch);
        let owned: Vec<i32> = member.owned.iter().copied().collect();
        let owns = Owned::default().with_topic_id(topic_id).with_partitions(owned.clone());
        request = request.with_topic_partitions(Some(if owned.is_empty() { vec![] } else { vec![owns] }));
        if member.epoch == 0 || member.unanswered {
            // As clients do it: a heartbeat that says everything is told everything, also what the lost answer had.
            request = request
                .with_rebalance_timeout_ms(PATIENCE_MS)
                .with_subscribed_topic_names(Some(vec![topic_name(TOPIC)]));
        }
        member.unanswered = true;
        let answer = client.try_call(1, &request)?;
        member.unanswered = false;
        assert_eq!(answer.error_code, 0, "{member:?}: {:?}", answer.error_message);
        assert!(answer.member_epoch >= member.epoch, "{member:?} goes back to {}", answer.member_epoch);
        member.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            // What it may no longer have it gives up before anyone hears of it.
            member.owned = assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
        }
        self.nothing_is_owned_twice();
        Ok(())
    }

    fn nothing_is_owned_twice(&self) {
        let mut seen = BTreeSet::new();
        for member in &self.members {
            for partition in &member.owned {
                assert!(seen.insert(*partition), "{partition} has two owners: {:?}", self.members);
            }
        }
    }

    /// Heartbeats until everyone is in the group's epoch and every partition is owned.
    fn settle(&mut self, address: SocketAddr) {
        let mut client = RawClient::connect(address);
        let deadline = Instant::now() + WITHIN;
        let describe = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(GROUP))]);
        loop {
            self.finish_leaving(&mut client).expect("the broker is up");
            self.beat_all(&mut client).expect("the broker is up");
            let group = client.call(1, &describe).groups[0].clone();
            assert_eq!(group.error_code, 0);
            assert!(group.group_epoch >= self.epoch, "the group goes from {} to {}", self.epoch, group.group_epoch);
            self.epoch = group.group_epoch;
            let owned: usize = self.members.iter().map(|member| member.owned.len()).sum();
            if owned == PARTITIONS as usize && self.members.iter().all(|member| member.epoch == self.epoch) {
                assert_eq!(group.members.len(), self.members.len());
                return;
            }
            assert!(Instant::now() < deadline, "it settles: {:?} {group:?}", self.members);
        }
    }
}

fn heartbeat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

#[test]
fn a_group_of_the_consumer_protocol_outlives_kills_in_its_rebalances() {
    let mut broker = Broker::start(&options());
    let mut consumers = Consumers::begin(broker.kafka);
    for round in 0..rounds() {
        broker = killed_at_work(broker, round, |address| consumers.churn(address));
        find(broker.kafka);
        consumers.settle(broker.kafka);
    }
    assert!(consumers.made > MEMBERS + rounds() as usize / 2, "members came and went: {}", consumers.made);
}

/// Members of the classic protocol, each on a connection of its own.
struct Classic {
    /// Ids, in the order of the connections; empty for one that never joined.
    ids: Vec<String>,
    /// The last generation that some member was told its assignment in, and who was told what there.
    generation: i32,
    owned: Vec<(i32, Vec<u8>)>,
    /// The highest generation that a leader has sent assignments for.
    tried: i32,
    /// Makes every JoinGroup news, so that it means a rebalance.
    joins: i32,
}

impl Classic {
    fn begin(address: SocketAddr) -> Self {
        find(address);
        let mut classic = Self {
            ids: vec![String::new(); MEMBERS],
            generation: 0,
            owned: vec![(0, vec![]); MEMBERS],
            tried: 0,
            joins: 0,
        };
        classic.rebalance(address).expect("the broker is up");
        classic
    }

    /// Everyone joins anew and gets partitions from the leader.
    fn rebalance(&mut self, address: SocketAddr) -> io::Result<()> {
        self.joins += 1;
        let mut clients: Vec<_> = (0..MEMBERS).map(|_| RawClient::try_connect(address)).collect::<Result<_, _>>()?;
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::copy_from_slice(&self.joins.to_be_bytes()));
        let mut answers = Vec::new();
        for (client, id) in clients.iter_mut().zip(&self.ids) {
            let join = JoinGroupRequest::default()
                .with_group_id(GroupId(text(GROUP)))
                .with_member_id(text(id))
                .with_session_timeout_ms(PATIENCE_MS)
                .with_rebalance_timeout_ms(PATIENCE_MS)
                .with_protocol_type(text("classic"))
                .with_protocols(vec![protocol.clone()]);
            answers.push(client.try_send(3, &join)?);
        }
        let mut joined = Vec::new();
        for (client, sent) in clients.iter_mut().zip(answers) {
            joined.push(client.try_receive::<JoinGroupRequest>(3, sent)?);
        }
        let generation = joined[0].generation_id;
        for (id, answer) in self.ids.iter_mut().zip(&joined) {
            assert_eq!((answer.error_code, answer.generation_id), (0, generation), "{id} joins");
            *id = answer.member_id.to_string();
        }
        assert!(generation > self.generation, "generation {generation} after {}", self.generation);
        self.tried = generation;
        // Three partitions each.
        let assignments: Vec<_> = self
            .ids
            .iter()
            .zip(0u8..)
            .map(|(id, at)| (text(id), vec![3 * at, 3 * at + 1, 3 * at + 2]))
            .map(|(id, bytes)| SyncGroupRequestAssignment::default().with_member_id(id).with_assignment(bytes.into()))
            .collect();
        let mut answers = Vec::new();
        for (client, answer) in clients.iter_mut().zip(&joined) {
            let is_leader = answer.leader == answer.member_id;
            let sync = SyncGroupRequest::default()
                .with_group_id(GroupId(text(GROUP)))
                .with_generation_id(generation)
                .with_member_id(answer.member_id.clone())
                .with_assignments(if is_leader { assignments.clone() } else { vec![] });
            answers.push(client.try_send(3, &sync)?);
        }
        for ((client, sent), owned) in clients.iter_mut().zip(answers).zip(&mut self.owned) {
            let answer = client.try_receive::<SyncGroupRequest>(3, sent)?;
            assert_eq!(answer.error_code, 0);
            self.generation = generation;
            *owned = (generation, answer.assignment.to_vec());
        }
        Ok(())
    }

    /// Who is known in its generation still owns what it was given, alone. Only a generation whose assignments were on
    /// their way when the broker died may have taken the place of the one that all were told of.
    fn check(&self, address: SocketAddr) {
        let mut client = RawClient::connect(address);
        let mut seen = BTreeSet::new();
        for (id, (generation, owned)) in self.ids.iter().zip(&self.owned) {
            let beat = HeartbeatRequest::default()
                .with_group_id(GroupId(text(GROUP)))
                .with_generation_id(*generation)
                .with_member_id(text(id));
            match client.call(3, &beat).error_code {
                0 => assert!(owned.iter().all(|partition| seen.insert(*partition)), "owned twice: {:?}", self.owned),
                ILLEGAL_GENERATION => assert!(self.tried > *generation, "{id} in {generation}"),
                error => panic!("{id} in {generation}: {error}"),
            }
        }
    }
}

#[test]
fn a_classic_group_outlives_kills_in_its_rebalances() {
    let mut broker = Broker::start(&options());
    let mut classic = Classic::begin(broker.kafka);
    for round in 0..rounds() {
        broker = killed_at_work(broker, round, |address| classic.rebalance(address));
        find(broker.kafka);
        classic.check(broker.kafka);
        classic.rebalance(broker.kafka).expect("the broker is up");
        classic.check(broker.kafka);
    }
    assert!(classic.generation > rounds() as i32, "it rebalanced: {}", classic.generation);
}
