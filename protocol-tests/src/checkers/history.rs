//! What was acknowledged is there, once, in order, and no offset is ever seen with two contents.
//!
//! A [`History`] writes numbered records as an idempotent producer does, remembers what was acknowledged, goes on after a
//! crash by sending the unanswered batch again, and in the end reads everything back.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteRecordsRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest,
};

use crate::batch::{self, Batch};
use crate::raw_client::RawClient;
use crate::requests::{fetch, text, topic_name};

/// An offset below the high watermark that gives nothing for this long cannot be read.
const UNREADABLE: Duration = Duration::from_secs(20);

/// One topic, one producer, and all that was seen of them.
#[derive(Debug)]
pub struct History {
    topic: String,
    producer_id: i64,
    /// By partition.
    partitions: Vec<Lane>,
    /// Bytes of padding in each value.
    padding: usize,
    timestamp: i64,
}

#[derive(Debug, Default)]
struct Lane {
    /// Number of the next record, which is its sequence too.
    next: i32,
    /// Sent and not answered: first number and how many.
    in_doubt: Option<(i32, i32)>,
    /// Number of the first record of each acknowledged batch, by its base offset.
    acknowledged: BTreeMap<i64, (i32, i32)>,
    /// What was read at each offset.
    seen: BTreeMap<i64, String>,
    /// Where the log starts at least: by an answer to DeleteRecords, or as it was seen.
    log_start: i64,
    /// Where it starts at most: the highest offset that DeleteRecords was sent for.
    delete_sent: i64,
}

impl Lane {
    /// Behind the last acknowledged record.
    fn end(&self) -> i64 {
        self.acknowledged.last_key_value().map_or(0, |(base, (_, count))| base + i64::from(*count))
    }
}

impl History {
    /// Makes the topic and a producer.
    pub fn begin(address: SocketAddr, topic: &str, partitions: i32, configs: &[(&str, String)]) -> Self {
        let mut client = RawClient::connect(address);
        let configs = configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))))
            .collect();
        let answer = client.call(
            7,
            &CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![
                CreatableTopic::default()
                    .with_name(topic_name(topic))
                    .with_num_partitions(partitions)
                    .with_replication_factor(1)
                    .with_configs(configs),
            ]),
        );
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
        let producer = client.call(
            4,
            &InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(60_000)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1),
        );
        assert_eq!(producer.error_code, 0);
        Self {
            topic: topic.to_owned(),
            producer_id: producer.producer_id.0,
            partitions: (0..partitions).map(|_| Lane::default()).collect(),
            padding: 1000,
            timestamp: 1_700_000_000_000,
        }
    }

    /// Bytes of padding in each value; 1 000 if not said.
    #[must_use]
    pub fn with_padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    fn value(&self, partition: usize, number: i32) -> String {
        let stamp = format!("{partition}/{number}/");
        let fill = char::from(b'a' + (number % 26) as u8);
        stamp + &fill.to_string().repeat(self.padding)
    }

    /// Sends `batches` batches of `records` records to every partition in turn and waits for each answer. An error of the
    /// connection ends it: what was sent last is in doubt and is sent again by the next call.
    pub fn write(&mut self, address: SocketAddr, batches: usize, records: i32) -> io::Result<()> {
        let mut client = RawClient::try_connect(address)?;
        for _ in 0..batches {
            for partition in 0..self.partitions.len() {
                let lane = &mut self.partitions[partition];
                let (first, count) = *lane.in_doubt.get_or_insert((lane.next, records));
                let values: Vec<String> = (first..first + count).map(|n| self.value(partition, n)).collect();
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                let batch =
                    Batch::of(&values).from_producer(self.producer_id, 0, first).at(self.timestamp + i64::from(first));
                let base = self.produce(&mut client, partition, batch.build())?;
                let lane = &mut self.partitions[partition];
                lane.in_doubt = None;
                lane.next = first + count;
                lane.acknowledged.insert(base, (first, count));
            }
        }
        Ok(())
    }

    fn produce(&self, client: &mut RawClient, partition: usize, records: Bytes) -> io::Result<i64> {
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![
            TopicProduceData::default().with_name(topic_name(&self.topic)).with_partition_data(vec![
                PartitionProduceData::default().with_index(partition as i32).with_records(Some(records)),
            ]),
        ]);
        let answer = client.try_call(9, &request)?;
        let result = &answer.responses[0].partition_responses[0];
        match result.error_code {
            0 => Ok(result.base_offset),
            // The broker is on its way down, or not yet up: like a lost connection.
            3 | 6 | 56 => Err(io::Error::other(format!("error {}", result.error_code))),
            code => panic!("partition {partition}: error {code} {:?}", result.error_message),
        }
    }

    /// Deletes all but about the last `keep` acknowledged records of every partition. An error of the connection leaves it
    /// open whether that was done.
    pub fn delete_all_but(&mut self, address: SocketAddr, keep: i64) -> io::Result<()> {
        let mut client = RawClient::try_connect(address)?;
        for partition in 0..self.partitions.len() {
            let lane = &mut self.partitions[partition];
            let before = lane.end() - keep;
            if before <= lane.log_start {
                continue;
            }
            lane.delete_sent = lane.delete_sent.max(before);
            let request = DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![
                DeleteRecordsTopic::default().with_name(topic_name(&self.topic)).with_partitions(vec![
                    DeleteRecordsPartition::default().with_partition_index(partition as i32).with_offset(before),
                ]),
            ]);
            let answer = client.try_call(2, &request)?;
            let result = &answer.topics[0].partitions[0];
            match result.error_code {
                0 => lane.log_start = lane.log_start.max(result.low_watermark),
                code => return Err(io::Error::other(format!("error {code}"))),
            }
        }
        Ok(())
    }

    /// Reads every partition from its log start to its high watermark and checks all that must hold. The number of
    /// records read.
    pub fn check(&mut self, address: SocketAddr) -> usize {
        let mut client = RawClient::connect(address);
        let mut total = 0;
        for partition in 0..self.partitions.len() {
            let (log_start, values) = self.read(&mut client, partition);
            total += values.len();
            let lane = &mut self.partitions[partition];
            assert!(
                (lane.log_start..=lane.delete_sent.max(lane.log_start)).contains(&log_start),
                "partition {partition} begins at {log_start}; it began at {} and was deleted below {} at most",
                lane.log_start,
                lane.delete_sent
            );
            lane.log_start = log_start;
            lane.seen = lane.seen.split_off(&log_start);
            for (offset, value) in &values {
                let before = lane.seen.entry(*offset).or_insert_with(|| value.clone());
                assert!(before == value, "partition {partition} offset {offset} was seen with two contents");
            }
            for (base, (first, count)) in &lane.acknowledged {
                for i in 0..*count {
                    let offset = base + i64::from(i);
                    let stamp = format!("{partition}/{}/", first + i);
                    match values.get(&offset) {
                        Some(value) => assert!(
                            value.starts_with(&stamp),
                            "partition {partition} offset {offset}: acknowledged {stamp}, found {}",
                            &value[..value.len().min(20)]
                        ),
                        None if offset < log_start => {}
                        None => panic!("partition {partition} offset {offset}: acknowledged {stamp} is missing"),
                    }
                }
            }
            // Record n is at offset n: none is missing, none is there twice.
            for ((offset, value), expected) in values.iter().zip(log_start..) {
                assert_eq!(*offset, expected, "partition {partition}: offsets follow each other");
                assert!(
                    value.starts_with(&format!("{partition}/{expected}/")),
                    "partition {partition} offset {offset}: not record {expected} but {}",
                    &value[..value.len().min(20)]
                );
            }
        }
        total
    }

    fn earliest(&self, client: &mut RawClient, partition: usize) -> i64 {
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
            ListOffsetsTopic::default().with_name(topic_name(&self.topic)).with_partitions(vec![
                ListOffsetsPartition::default()
                    .with_partition_index(partition as i32)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(-2),
            ]),
        ]);
        let answer = client.call(7, &request);
        let found = &answer.topics[0].partitions[0];
        assert_eq!(found.error_code, 0, "partition {partition} says where it begins");
        found.offset
    }

    /// The log start, and all from there to the high watermark.
    fn read(&self, client: &mut RawClient, partition: usize) -> (i64, BTreeMap<i64, String>) {
        let log_start = self.earliest(client, partition);
        let mut found = BTreeMap::new();
        let mut offset = log_start;
        let mut progress = Instant::now();
        loop {
            let min_bytes = i32::from(found.is_empty());
            let request = fetch(&self.topic, partition as i32, offset).with_max_wait_ms(500).with_min_bytes(min_bytes);
            let answer = client.call(11, &request);
            let result = &answer.responses[0].partitions[0];
            assert_eq!(result.error_code, 0, "partition {partition} offset {offset} cannot be read");
            assert!(offset <= result.high_watermark, "reads end at the high watermark");
            if offset == result.high_watermark {
                return (log_start, found);
            }
            let records = result.records.clone().unwrap_or_default();
            for (base, values) in batch::by_base_offset(&records) {
                for (at, value) in (base..).zip(values) {
                    if at >= offset {
                        found.insert(at, value);
                    }
                }
            }
            let next = found.last_key_value().map_or(offset, |(last, _)| last + 1);
            if next > offset {
                progress = Instant::now();
            }
            assert!(
                progress.elapsed() < UNREADABLE,
                "partition {partition} offset {offset}, below the high watermark {}, gives nothing",
                result.high_watermark
            );
            offset = next;
        }
    }

    /// Number of records acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.partitions.iter().flat_map(|lane| lane.acknowledged.values()).map(|(_, count)| *count as usize).sum()
    }
}
