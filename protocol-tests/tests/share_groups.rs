//! Share groups by the hundred: many members on one partition, many groups that do nothing, many records given out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest, ProduceRequest,
};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{text, topic_name};
use terrace_protocol_tests::share_member::{ACCEPT, ShareMember};

const TOPIC: &str = "shared";
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the topic, and has groups begin at its start.
fn begin(address: SocketAddr, partitions: i32, groups: &[String]) {
    let mut client = RawClient::connect(address);
    let topic = CreatableTopic::default()
        .with_name(topic_name(TOPIC))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let made = client.call(5, &CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000));
    assert_eq!(made.topics[0].error_code, 0, "{:?}", made.topics[0].error_message);
    let earliest =
        AlterableConfig::default().with_name(text("share.auto.offset.reset")).with_value(Some(text("earliest")));
    let resources = groups.iter().map(|group| {
        AlterConfigsResource::default()
            .with_resource_type(32)
            .with_resource_name(text(group))
            .with_configs(vec![earliest.clone()])
    });
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources.collect());
    assert!(client.call(1, &request).responses.iter().all(|one| one.error_code == 0));
    client.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&groups[0])]));
}

fn write(client: &mut RawClient, partition: i32, records: usize) {
    let batch = Batch::of(&vec!["a record"; records]).build();
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![
        TopicProduceData::default()
            .with_name(topic_name(TOPIC))
            .with_partition_data(vec![PartitionProduceData::default().with_index(partition).with_records(Some(batch))]),
    ]);
    assert_eq!(client.call(9, &request).responses[0].partition_responses[0].error_code, 0);
}

/// Milliseconds of the processor that the broker has used.
fn processor_ms(broker: &Broker) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", broker.pid())).expect("the broker runs");
    let fields: Vec<_> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    (fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")) * 10
}

fn resident_bytes(broker: &Broker) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", broker.pid())).expect("the broker runs");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}

#[test]
fn a_hundred_members_of_one_partition_get_each_record_once_and_wait_their_turn() {
    const MEMBERS: usize = 100;
    const BATCHES: usize = 200;
    let broker = Broker::start(&Options::new());
    let group = "many".to_owned();
    begin(broker.kafka, 1, std::slice::from_ref(&group));
    let seen: Mutex<BTreeMap<i64, usize>> = Mutex::default();
    let all = BATCHES as i64 * 50;
    let deadline = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        for number in 0..MEMBERS {
            let (seen, group) = (&seen, &group);
            scope.spawn(move || {
                let mut client = RawClient::connect(broker.kafka);
                let mut member =
                    ShareMember::join(&mut client, group, &format!("m{number}"), TOPIC).expect("the broker runs");
                let count = || seen.lock().expect("no panic").values().map(|count| *count as i64).sum::<i64>();
                while count() < all {
                    assert!(Instant::now() < deadline, "{} of {all} records", count());
                    let given = member.fetch(&mut client, 200, 50).expect("the broker runs");
                    if !given.is_empty() {
                        member.acknowledge(&mut client, &given, ACCEPT).expect("they are its own");
                    }
                    let mut seen = seen.lock().expect("no panic");
                    for at in given.iter().flat_map(|(_, (first, last, _))| *first..=*last) {
                        *seen.entry(at).or_default() += 1;
                    }
                }
            });
        }
        let mut client = RawClient::connect(broker.kafka);
        for _ in 0..BATCHES {
            write(&mut client, 0, 50);
        }
    });
    let seen = seen.into_inner().expect("no panic");
    assert!((0..all).all(|at| seen.get(&at) == Some(&1)), "{seen:?}");
    let used = processor_ms(&broker);
    println!("{MEMBERS} members, {all} records: {used} ms of the broker's processors");
}

#[test]
fn a_thousand_groups_that_do_nothing_cost_little() {
    const GROUPS: usize = 1_000;
    let broker = Broker::start(&Options::new().with("group.share.max.share.sessions", GROUPS));
    let groups: Vec<_> = (0..GROUPS).map(|number| format!("idle-{number}")).collect();
    begin(broker.kafka, 1, &groups);
    let mut client = RawClient::connect(broker.kafka);
    write(&mut client, 0, 1);
    let before = resident_bytes(&broker);
    let mut members = Vec::new();
    for group in &groups {
        let mut member = ShareMember::join(&mut client, group, "m", TOPIC).expect("the broker runs");
        let given = member.fetch(&mut client, 0, 1).expect("the broker runs");
        member.acknowledge(&mut client, &given, ACCEPT).expect("it is its own");
        members.push(member);
    }
    let grown = resident_bytes(&broker).saturating_sub(before);
    let used = processor_ms(&broker);
    // What costs while nothing happens does so in any second.
    std::thread::sleep(Duration::from_secs(2));
    let idle = processor_ms(&broker) - used;
    println!("{GROUPS} groups: {} KiB, {idle} ms of processors in 2 s", grown >> 10);
    assert!(grown < 64 << 20, "{grown} bytes");
    assert!(idle < 200, "{idle} ms");
}

#[test]
fn a_million_records_given_out_cost_what_their_ranges_cost() {
    const PARTITIONS: i32 = 100;
    let options = Options::new()
        .with("group.share.max.partition.max.record.locks", 10_000)
        .with("group.share.partition.max.record.locks", 10_000);
    let broker = Broker::start(&options);
    let group = "holding".to_owned();
    begin(broker.kafka, PARTITIONS, std::slice::from_ref(&group));
    let mut client = RawClient::connect(broker.kafka);
    for partition in 0..PARTITIONS {
        for _ in 0..10 {
            write(&mut client, partition, 1_000);
        }
    }
    let mut member = ShareMember::join(&mut client, &group, "m", TOPIC).expect("the broker runs");
    let before = resident_bytes(&broker);
    let mut held = Vec::new();
    let mut records = 0;
    while records < 1_000_000 {
        let given = member.fetch(&mut client, 5_000, 1_000_000).expect("the broker runs");
        assert!(!given.is_empty(), "{records} records");
        records += given.iter().map(|(_, (first, last, _))| last - first + 1).sum::<i64>();
        held.extend(given);
    }
    let grown = resident_bytes(&broker).saturating_sub(before);
    println!("{records} records given out: {} KiB", grown >> 10);
    assert!(grown < 64 << 20, "{grown} bytes");
    member.acknowledge(&mut client, &held, ACCEPT).expect("they are its own");
}
