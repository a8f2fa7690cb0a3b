//! A share group with one member: what it accepted never comes again, what it didn't comes until it does, and its count of
//! deliveries never falls below what was told of an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest, MetadataRequest, ProduceRequest,
    ShareAcknowledgeRequest, ShareFetchRequest, ShareGroupHeartbeatRequest,
};
use terrace::protocol::record_batch::BatchView;
use terrace::protocol::records::records;
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{fetch, text, topic_name};
use uuid::Uuid;

use crate::workloads::{Workload, create};

const TOPIC: &str = "shared";
const GROUP: &str = "sharing";
const MEMBER: &str = "member";
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const DEAD: &str = "dlq.shared";
const WITHIN: Duration = Duration::from_secs(20);

pub struct Shares {
    topic: Uuid,
    /// Offsets whose records the broker has for sure.
    written: BTreeSet<i64>,
    /// Rejected, and told so: each has a dead letter, sooner or later.
    rejected: BTreeSet<i64>,
    /// Accepted, and told so.
    accepted: BTreeSet<i64>,
    /// Something was said of them, and no answer came.
    in_doubt: BTreeSet<i64>,
    /// Deliveries that a release was told of: the next one counts more.
    released: BTreeMap<i64, i16>,
}

impl Shares {
    pub fn begin(address: SocketAddr) -> Self {
        let mut client = RawClient::connect(address);
        create(&mut client, TOPIC, &[]);
        create(&mut client, DEAD, &[("errors.deadletterqueue.group.enable", "true")]);
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
        let metadata = client.call(12, &MetadataRequest::default().with_topics(Some(vec![topic])));
        client.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]));
        let set = |key, value| AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
        let group =
            AlterConfigsResource::default().with_resource_type(32).with_resource_name(text(GROUP)).with_configs(vec![
                set("share.auto.offset.reset", "earliest"),
                set("errors.deadletterqueue.topic.name", DEAD),
            ]);
        let altered = client.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![group]));
        assert_eq!(altered.responses[0].error_code, 0, "{:?}", altered.responses[0].error_message);
        let mut shares = Self {
            topic: metadata.topics[0].topic_id,
            written: BTreeSet::new(),
            rejected: BTreeSet::new(),
            accepted: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            released: BTreeMap::new(),
        };
        let deadline = Instant::now() + WITHIN;
        while shares.accepted.is_empty() {
            // The coordinators may still be loading.
            let _ = shares.step(address);
            assert!(Instant::now() < deadline, "a record within 20 s");
        }
        shares
    }

    fn join(&self, client: &mut RawClient) -> io::Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let request = ShareGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text(GROUP)))
                .with_member_id(text(MEMBER))
                .with_member_epoch(0)
                .with_subscribed_topic_names(Some(vec![topic_name(TOPIC)]));
            let answer = client.try_call(1, &request)?;
            let assigned = answer.assignment.is_some_and(|assigned| !assigned.topic_partitions.is_empty());
            if answer.error_code == 0 && assigned {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "an assignment within 20 s: {}", answer.error_code);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Offsets with their counts of deliveries. None of what was accepted is among them.
    fn fetch(&mut self, client: &mut RawClient, epoch: i32) -> io::Result<Vec<(i64, i16)>> {
        let topics = match epoch {
            0 => vec![
                FetchTopic::default()
                    .with_topic_id(self.topic)
                    .with_partitions(vec![FetchPartition::default().with_partition_index(0)]),
            ],
            _ => Vec::new(),
        };
        let request = ShareFetchRequest::default()
            .with_group_id(Some(GroupId(text(GROUP))))
            .with_member_id(Some(text(MEMBER)))
            .with_share_session_epoch(epoch)
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(500)
            .with_batch_size(500)
            .with_topics(topics);
        let answer = client.try_call(1, &request)?;
        if answer.error_code != 0 {
            return Err(io::Error::other(format!("error {}", answer.error_code)));
        }
        let mut got = Vec::new();
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 {
                return Err(io::Error::other(format!("error {}", partition.error_code)));
            }
            for acquired in &partition.acquired_records {
                got.extend((acquired.first_offset..=acquired.last_offset).map(|at| (at, acquired.delivery_count)));
            }
        }
        for (at, count) in &got {
            assert!(!self.accepted.contains(at), "offset {at} was accepted and comes again");
            assert!(!self.rejected.contains(at), "offset {at} was rejected and comes again");
            let told = self.released.get(at).copied().unwrap_or(0);
            assert!(*count > told, "offset {at} comes for the {count}th time; {told} times it was given back");
        }
        Ok(got)
    }

    /// Says the same of some offsets; true when the broker has taken it.
    fn say(&mut self, client: &mut RawClient, epoch: i32, offsets: &[(i64, i16)], what: i8) -> io::Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let batches = offsets.iter().map(|(at, _)| {
            AcknowledgementBatch::default()
                .with_first_offset(*at)
                .with_last_offset(*at)
                .with_acknowledge_types(vec![what])
        });
        let partition =
            AcknowledgePartition::default().with_partition_index(0).with_acknowledgement_batches(batches.collect());
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(GROUP))))
            .with_member_id(Some(text(MEMBER)))
            .with_share_session_epoch(epoch)
            .with_topics(vec![topic]);
        self.in_doubt.extend(offsets.iter().map(|(at, _)| *at));
        let answer = client.try_call(1, &request)?;
        let code = match answer.responses.first().and_then(|topic| topic.partitions.first()) {
            Some(partition) => partition.error_code,
            None => answer.error_code,
        };
        if code != 0 {
            return Err(io::Error::other(format!("error {code}")));
        }
        for (at, count) in offsets {
            self.in_doubt.remove(at);
            match what {
                ACCEPT => drop(self.accepted.insert(*at)),
                REJECT => drop(self.rejected.insert(*at)),
                _ => drop(self.released.insert(*at, *count)),
            }
        }
        Ok(())
    }

    fn write(&mut self, client: &mut RawClient) -> io::Result<()> {
        let batch = Batch::of(&["a", "b", "c", "d", "e"]).build();
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic_name(TOPIC))
                .with_partition_data(vec![PartitionProduceData::default().with_index(0).with_records(Some(batch))]),
        ]);
        let answer = client.try_call(9, &request)?;
        let result = &answer.responses[0].partition_responses[0];
        assert_eq!(result.error_code, 0);
        self.written.extend(result.base_offset..result.base_offset + 5);
        Ok(())
    }
}

impl Workload for Shares {
    fn step(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut client = RawClient::try_connect(address)?;
        self.write(&mut client)?;
        self.join(&mut client)?;
        let got = self.fetch(&mut client, 0)?;
        // Every other one goes back once, and some of these are rejected then.
        let (back, got): (Vec<_>, Vec<_>) = got.into_iter().partition(|(at, count)| at % 2 == 0 && *count == 1);
        let (bad, done): (Vec<_>, Vec<_>) = got.into_iter().partition(|(at, _)| at % 4 == 0);
        let mut epoch = 1;
        for (offsets, what) in [(done, ACCEPT), (bad, REJECT), (back, RELEASE)] {
            self.say(&mut client, epoch, &offsets, what)?;
            epoch += i32::from(!offsets.is_empty());
        }
        Ok(())
    }

    fn check(&mut self, address: SocketAddr) {
        let mut client = RawClient::connect(address);
        let deadline = Instant::now() + WITHIN;
        self.join(&mut client).expect("the broker is up");
        let mut epoch = 0;
        loop {
            let known =
                |at: &&i64| self.accepted.contains(*at) || self.rejected.contains(*at) || self.in_doubt.contains(*at);
            let Some(missing) = self.written.iter().find(|at| !known(at)) else { break };
            assert!(Instant::now() < deadline, "offset {missing} was never accepted and does not come");
            // The coordinator may still be loading.
            let Ok(got) = self.fetch(&mut client, epoch) else {
                std::thread::sleep(Duration::from_millis(20));
                (client, epoch) = (RawClient::connect(address), 0);
                continue;
            };
            self.say(&mut client, epoch + 1, &got, ACCEPT).expect("the broker is up");
            epoch += if got.is_empty() { 1 } else { 2 };
        }
        loop {
            let dead = dead(&mut client);
            let Some(missing) = self.rejected.difference(&dead).next() else { return };
            assert!(Instant::now() < deadline, "offset {missing} was rejected and is in no dead letter");
            // Who fetches makes the broker look for what waits.
            if self.fetch(&mut client, epoch).is_ok() {
                epoch += 1;
            }
        }
    }
}

/// Offsets of the records whose dead letters there are.
fn dead(client: &mut RawClient) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    let mut next = 0;
    loop {
        let answer = client.call(11, &fetch(DEAD, 0, next).with_max_wait_ms(50));
        let bytes = answer.responses[0].partitions[0].records.clone().unwrap_or_default();
        let mut rest = &bytes[..];
        let before = next;
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            for record in records(&batch, u64::MAX).expect("sound").iter() {
                let mut headers = record.expect("sound").headers;
                let (_, offset) =
                    headers.find(|(key, _)| *key == b"__dlq.errors.offset").expect("it says which it is of");
                let offset = std::str::from_utf8(offset.expect("a value")).expect("text");
                found.insert(offset.parse().expect("a number"));
            }
            (rest, next) = (behind, batch.next_offset());
        }
        if next == before {
            return found;
        }
    }
}
