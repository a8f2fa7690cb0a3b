//! What clients do while the broker dies, and what they must find afterwards.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AlterReplicaLogDirsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeLogDirsRequest,
    FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest, OffsetCommitRequest, OffsetFetchRequest,
    ProduceRequest,
};
use terrace_protocol_tests::batch::{self, Batch};
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{fetch, move_to, text, topic_name};

/// Some clients, over the deaths of their broker.
pub trait Workload {
    /// One step; an error when the broker went away in it.
    fn step(&mut self, address: SocketAddr) -> io::Result<()>;
    /// Panics when something acknowledged is not there.
    fn check(&mut self, address: SocketAddr);
}

/// A topic whose segments roll and whose local copies go as fast as they may, so that every step is reached soon.
pub fn busy_topic(flush: bool) -> Vec<(&'static str, String)> {
    let mut configs = vec![
        ("segment.bytes", (1 << 20).to_string()),
        // The history's records are years old.
        ("retention.ms", "-1".to_owned()),
        ("local.retention.bytes", (1 << 20).to_string()),
        ("file.delete.delay.ms", "0".to_owned()),
        ("remote.copy.lag.ms", "0".to_owned()),
    ];
    if flush {
        configs.push(("flush.messages", "1".to_owned()));
    }
    configs
}

/// An idempotent producer to one tiered partition.
pub struct Busy {
    history: History,
    deleting: bool,
}

impl Busy {
    pub fn begin(address: SocketAddr, configs: &[(&str, String)], padding: usize) -> Self {
        let mut distinct: Vec<(&str, String)> = Vec::new();
        for (key, value) in configs {
            distinct.retain(|(known, _)| known != key);
            distinct.push((key, value.clone()));
        }
        let mut history = History::begin(address, "history", 1, &distinct).with_padding(padding);
        history.write(address, 3, 40).expect("the broker is up");
        Self { history, deleting: false }
    }

    /// Deletes the old records as it goes.
    pub fn deleting(mut self) -> Self {
        self.deleting = true;
        self
    }
}

impl Workload for Busy {
    fn step(&mut self, address: SocketAddr) -> io::Result<()> {
        self.history.write(address, 5, 40)?;
        if self.deleting { self.history.delete_all_but(address, 600) } else { Ok(()) }
    }

    fn check(&mut self, address: SocketAddr) {
        self.history.check(address);
    }
}

/// An idempotent producer to a synced partition that moves between two log directories all the time.
pub struct Moving {
    history: History,
}

impl Moving {
    pub fn begin(address: SocketAddr) -> Self {
        let mut history = History::begin(address, "history", 1, &busy_topic(true));
        history.write(address, 10, 40).expect("the broker is up");
        Self { history }
    }
}

impl Workload for Moving {
    fn step(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut client = RawClient::try_connect(address)?;
        let dirs = client.try_call(1, &DescribeLogDirsRequest::default().with_topics(None))?.results;
        let has_it = |dir: &DescribeLogDirsResult| dir.topics.iter().any(|topic| &**topic.name == "history");
        if let Some(target) = dirs.iter().find(|dir| !has_it(dir)) {
            let dirs = vec![move_to(&target.log_dir, "history", vec![0])];
            let answer = client.try_call(1, &AlterReplicaLogDirsRequest::default().with_dirs(dirs))?;
            assert_eq!(answer.results[0].partitions[0].error_code, 0);
        }
        self.history.write(address, 3, 40)
    }

    fn check(&mut self, address: SocketAddr) {
        self.history.check(address);
    }
}

/// An idempotent producer to a tiered partition that is drained and tiered again all the time.
pub struct Draining {
    history: History,
    steps: u32,
}

impl Draining {
    pub fn begin(address: SocketAddr) -> Self {
        let mut configs = busy_topic(false);
        configs.push(("remote.storage.enable", "true".to_owned()));
        configs.push(("remote.log.drain.on.disable", "true".to_owned()));
        let mut history = History::begin(address, "history", 1, &configs).with_padding(4000);
        history.write(address, 20, 40).expect("the broker is up");
        Self { history, steps: 0 }
    }
}

impl Workload for Draining {
    fn step(&mut self, address: SocketAddr) -> io::Result<()> {
        // Some steps of each, so that there is something that only the store has.
        self.steps += 1;
        let tiered = AlterableConfig::default()
            .with_name(text("remote.storage.enable"))
            .with_value(Some(text(if self.steps % 8 < 4 { "true" } else { "false" })));
        let topic = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("history"))
            .with_configs(vec![tiered]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![topic]);
        let answer = RawClient::try_connect(address)?.try_call(1, &request)?;
        assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
        self.history.write(address, 5, 40)
    }

    fn check(&mut self, address: SocketAddr) {
        self.history.check(address);
    }
}

pub fn create(client: &mut RawClient, topic: &str, configs: &[(&str, &str)]) {
    create_partitions(client, topic, 1, configs);
}

pub fn create_partitions(client: &mut RawClient, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    let configs = configs
        .iter()
        .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let answer = client.call(7, &CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]));
    assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
}

/// Ten keys that are written again and again to a compacted topic.
pub struct Compacted {
    next: u64,
    /// The newest acknowledged number of each key.
    acknowledged: BTreeMap<u64, u64>,
    /// What was read at each offset.
    seen: BTreeMap<i64, String>,
}

const KEYS: u64 = 10;

impl Compacted {
    /// The topic has `more` settings.
    pub fn begin(address: SocketAddr, more: &[(&str, &str)]) -> Self {
        let mut configs = vec![
            ("cleanup.policy", "compact"),
            ("segment.bytes", "1048576"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("file.delete.delay.ms", "0"),
        ];
        configs.extend(more);
        create(&mut RawClient::connect(address), "keys", &configs);
        Self { next: 0, acknowledged: BTreeMap::new(), seen: BTreeMap::new() }
    }
}

impl Workload for Compacted {
    fn step(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut client = RawClient::try_connect(address)?;
        for _ in 0..5 {
            let numbers = self.next..self.next + 40;
            self.next += 40;
            let record = |number: u64| {
                let value = format!("{}/{number}/{}", number % KEYS, "v".repeat(5000));
                (Some((number % KEYS).to_string().into_bytes()), Some(value.into_bytes()))
            };
            let batch = Batch { records: numbers.clone().map(record).collect(), ..Batch::default() };
            let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![
                TopicProduceData::default().with_name(topic_name("keys")).with_partition_data(vec![
                    PartitionProduceData::default().with_index(0).with_records(Some(batch.build())),
                ]),
            ]);
            let answer = client.try_call(9, &request)?;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            self.acknowledged.extend(numbers.map(|number| (number % KEYS, number)));
        }
        Ok(())
    }

    fn check(&mut self, address: SocketAddr) {
        let mut client = RawClient::connect(address);
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        let mut offset = 0;
        loop {
            let answer = client.call(11, &fetch("keys", 0, offset));
            let result = &answer.responses[0].partitions[0];
            assert_eq!(result.error_code, 0, "offset {offset} cannot be read");
            if offset >= result.high_watermark {
                break;
            }
            let records = batch::by_offset(&result.records.clone().unwrap_or_default());
            assert!(records.iter().any(|(at, _)| *at >= offset), "offset {offset} gives nothing");
            for (at, value) in records.into_iter().filter(|(at, _)| *at >= offset).collect::<Vec<_>>() {
                let mut parts = value.split('/').map(|part| part.parse::<u64>());
                let (Some(Ok(key)), Some(Ok(number))) = (parts.next(), parts.next()) else {
                    panic!("offset {at} holds {}", &value[..value.len().min(20)])
                };
                let before = newest.insert(key, number);
                assert!(before.is_none_or(|before| before < number), "key {key}: {number} behind {before:?}");
                let stamp = format!("{key}/{number}");
                let seen = self.seen.entry(at).or_insert_with(|| stamp.clone());
                assert_eq!(*seen, stamp, "offset {at} was seen with two contents");
                offset = at + 1;
            }
        }
        for (key, number) in &self.acknowledged {
            let found = newest.get(key);
            assert!(
                found.is_some_and(|found| found >= number),
                "key {key}: {number} was acknowledged, found {found:?}"
            );
        }
    }
}

/// One topic that is deleted beside one that stays.
pub struct DeletedTopic {
    stays: Busy,
    deleted: bool,
}

impl DeletedTopic {
    pub fn begin(address: SocketAddr) -> Self {
        let stays = Busy::begin(address, &busy_topic(false), 4000);
        let mut goes = History::begin(address, "goes", 1, &busy_topic(false)).with_padding(4000);
        goes.write(address, 20, 40).expect("the broker is up");
        Self { stays, deleted: false }
    }
}

impl Workload for DeletedTopic {
    fn step(&mut self, address: SocketAddr) -> io::Result<()> {
        self.stays.step(address)?;
        if self.deleted {
            return Ok(());
        }
        self.deleted = true;
        let request = DeleteTopicsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name("goes")))]);
        let answer = RawClient::try_connect(address)?.try_call(6, &request)?;
        assert_eq!(answer.responses[0].error_code, 0);
        Ok(())
    }

    fn check(&mut self, address: SocketAddr) {
        self.stays.check(address);
        // The point lies behind the commit: the name is free, and what takes it begins empty.
        let mut anew = History::begin(address, "goes", 1, &busy_topic(false));
        anew.write(address, 1, 10).expect("the broker is up");
        assert_eq!(anew.check(address), 10);
        let request = DeleteTopicsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name("goes")))]);
        assert_eq!(RawClient::connect(address).call(6, &request).responses[0].error_code, 0);
    }
}

/// A group without members that commits a rising offset.
pub struct CommittedOffsets {
    sent: i64,
    acknowledged: i64,
}

impl CommittedOffsets {
    pub fn begin(address: SocketAddr) -> Self {
        create(&mut RawClient::connect(address), "read", &[]);
        let mut commits = Self { sent: 0, acknowledged: 0 };
        let deadline = Instant::now() + Duration::from_secs(20);
        while commits.acknowledged == 0 {
            let coordinator = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]);
            RawClient::connect(address).call(4, &coordinator);
            // The coordinator may still be loading.
            let _ = commits.step(address);
            assert!(Instant::now() < deadline, "a commit within 20 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        commits
    }
}

impl Workload for CommittedOffsets {
    fn step(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut client = RawClient::try_connect(address)?;
        self.sent += 1;
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text("group")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![OffsetCommitRequestTopic::default().with_name(topic_name("read")).with_partitions(
                vec![
                    OffsetCommitRequestPartition::default()
                        .with_committed_offset(self.sent)
                        .with_committed_leader_epoch(-1)
                        .with_committed_metadata(Some(text("m"))),
                ],
            )]);
        match client.try_call(8, &request)?.topics[0].partitions[0].error_code {
            0 => self.acknowledged = self.sent,
            14..=16 => return Err(io::Error::other("the coordinator is not there yet")),
            code => panic!("commit: error {code}"),
        }
        Ok(())
    }

    fn check(&mut self, address: SocketAddr) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let topics =
                OffsetFetchRequestTopics::default().with_name(topic_name("read")).with_partition_indexes(vec![0]);
            let request = OffsetFetchRequest::default().with_groups(vec![
                OffsetFetchRequestGroup::default()
                    .with_group_id(GroupId(text("group")))
                    .with_topics(Some(vec![topics])),
            ]);
            let answer = RawClient::connect(address).call(8, &request);
            let group = &answer.groups[0];
            if (14..=16).contains(&group.error_code) {
                assert!(Instant::now() < deadline, "the coordinator is there within 20 s");
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            assert_eq!(group.error_code, 0);
            let found = group.topics[0].partitions[0].committed_offset;
            assert!(
                (self.acknowledged..=self.sent).contains(&found),
                "committed {found}; {} was acknowledged, {} sent",
                self.acknowledged,
                self.sent
            );
            return;
        }
    }
}
