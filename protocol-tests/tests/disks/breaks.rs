//! One of several `log.dirs` breaks, at a start or while the broker runs: the others serve, as in Apache Kafka, and nothing
//! acknowledged is gone when it comes back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    DescribeLogDirsRequest, FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
};
use tempfile::TempDir;
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::{Broker, Options, free_port};
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{self, text, topic_name};

use super::{Disks, await_line};

const STORAGE_ERROR: i16 = 56;
const PARTITIONS: i32 = 6;
const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// A broker with two log directories.
struct Setup {
    disks: Disks,
    root: TempDir,
}

impl Setup {
    fn new() -> Self {
        Self { disks: Disks::new(), root: TempDir::new().expect("a temporary directory") }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn options(&self) -> Options {
        let dirs = format!("{},{}", self.dir("a").display(), self.dir("b").display());
        self.disks.options().with("log.dirs", dirs)
    }

    fn start(&self) -> Broker {
        Broker::start_in(&self.dir("data"), &self.options())
    }
}

/// By log directory, its error code and the partitions of `topic` in it.
fn log_dirs(address: SocketAddr, topic: &str) -> BTreeMap<String, (i16, Vec<i32>)> {
    let answer = RawClient::connect(address).call(1, &DescribeLogDirsRequest::default().with_topics(None));
    let described = answer.results.into_iter().map(|dir| {
        let of_topic = dir.topics.iter().filter(|described| *described.name.0 == *topic);
        let partitions = of_topic.flat_map(|topic| topic.partitions.iter().map(|partition| partition.partition_index));
        let name = Path::new(&*dir.log_dir).file_name().expect("a name").to_string_lossy().into_owned();
        (name, (dir.error_code, partitions.collect()))
    });
    described.collect()
}

/// What a record for the partition is answered with.
fn produce(address: SocketAddr, topic: &str, partition: i32) -> i16 {
    let records = Batch::of(&["not of the history"]).build();
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    RawClient::connect(address).call(9, &request).responses[0].partition_responses[0].error_code
}

fn fetch(address: SocketAddr, topic: &str, partition: i32) -> i16 {
    let request = requests::fetch(topic, partition, 0);
    RawClient::connect(address).call(11, &request).responses[0].partitions[0].error_code
}

/// A topic that is not the history's, whose partitions lie in both directories.
fn other_topic(address: SocketAddr) -> BTreeMap<String, (i16, Vec<i32>)> {
    History::begin(address, "other", PARTITIONS, &[]).write(address, 1, 1).expect("the broker is up");
    let dirs = log_dirs(address, "other");
    assert!(dirs.values().all(|(error, partitions)| *error == 0 && !partitions.is_empty()), "{dirs:?}");
    dirs
}

#[test]
fn a_directory_that_breaks_takes_only_its_partitions_with_it_and_comes_back_whole() {
    let setup = Setup::new();
    let broker = setup.start();
    let mut history = History::begin(broker.kafka, "history", PARTITIONS, &[]);
    history.write(broker.kafka, 3, 10).expect("the broker is up");
    let mut synced = History::begin(broker.kafka, "synced", PARTITIONS, &[("flush.messages", "1".to_owned())]);
    synced.write(broker.kafka, 3, 10).expect("the broker is up");
    let homes = other_topic(broker.kafka);
    let (in_a, in_b) = (&homes["a"].1, &homes["b"].1);

    setup.disks.fail(&[&setup.dir("a")]);
    let check_halves = |broker: &Broker| {
        for partition in in_a {
            assert_eq!(produce(broker.kafka, "other", *partition), STORAGE_ERROR, "partition {partition}");
            assert_eq!(fetch(broker.kafka, "other", *partition), STORAGE_ERROR, "partition {partition}");
        }
        for partition in in_b {
            assert_eq!(produce(broker.kafka, "other", *partition), 0, "partition {partition}");
            assert_eq!(fetch(broker.kafka, "other", *partition), 0, "partition {partition}");
        }
        let dirs = log_dirs(broker.kafka, "other");
        assert_eq!((dirs["a"].0, dirs["b"].0), (STORAGE_ERROR, 0));
    };
    check_halves(&broker);
    await_line(&broker, "log directory is offline");

    // A start finds it still broken: its partitions are not begun anew in the other.
    let broker = broker.kill().restart(&setup.options());
    check_halves(&broker);
    let mut new = History::begin(broker.kafka, "new", PARTITIONS, &[]);
    new.write(broker.kafka, 2, 10).expect("new topics go where there is a disk");
    assert_eq!(log_dirs(broker.kafka, "new")["b"].1.len(), PARTITIONS as usize);

    // Without a last one there is no broker.
    setup.disks.fail(&[&setup.dir("a"), &setup.dir("b")]);
    assert_eq!(produce(broker.kafka, "other", in_b[0]), STORAGE_ERROR);
    let ended = broker.wait(ENDS_WITHIN);
    assert_eq!(ended.status.code(), Some(1), "{:?}", ended.output);
    assert!(ended.output.iter().any(|line| line.contains("all log directories have failed")), "{:?}", ended.output);
    let (status, output) = match Broker::try_start_in(&setup.dir("data"), &setup.options(), free_port()) {
        // Its port is open before it looks at the directories.
        Ok(broker) => {
            let ended = broker.wait(ENDS_WITHIN);
            (ended.status, ended.output)
        }
        Err(ended) => ended,
    };
    assert!(!status.success() && output.iter().any(|line| line.contains("no log directory works")), "{output:?}");

    setup.disks.mend();
    let broker = setup.start();
    for history in [&mut history, &mut synced, &mut new] {
        history.check(broker.kafka);
        history.write(broker.kafka, 1, 10).expect("it goes on");
        history.check(broker.kafka);
    }
    assert!(log_dirs(broker.kafka, "other").values().all(|(error, _)| *error == 0));
}

const GROUP: &str = "group";

/// Commits one offset; the error that it is answered with.
fn commit(address: SocketAddr, offset: i64) -> i16 {
    let mut client = RawClient::connect(address);
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]);
    client.call(4, &find);
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("read"))
        .with_partitions(vec![partition.with_committed_metadata(Some(text("")))]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    client.call(8, &request).topics[0].partitions[0].error_code
}

/// The committed offset, or why it is not told.
fn committed(address: SocketAddr) -> Result<i64, i16> {
    let topic = OffsetFetchRequestTopics::default().with_name(topic_name("read")).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(GROUP))).with_topics(Some(vec![topic]));
    let answer = RawClient::connect(address).call(8, &OffsetFetchRequest::default().with_groups(vec![group]));
    match answer.groups[0].error_code {
        0 => Ok(answer.groups[0].topics[0].partitions[0].committed_offset),
        error => Err(error),
    }
}

/// As long as the coordinator loads.
fn once_loaded<T>(ask: impl Fn() -> Result<T, i16>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline && (14..=16).contains(&error), "error {error}"),
        }
        // Nothing tells a client when the coordinator has loaded.
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_shard_of_a_broken_directory_never_loads_as_empty() {
    let setup = Setup::new();
    let broker = setup.start();
    History::begin(broker.kafka, "read", 1, &[]).write(broker.kafka, 1, 1).expect("the broker is up");
    once_loaded(|| match commit(broker.kafka, 7) {
        0 => Ok(()),
        error => Err(error),
    });
    let homes = log_dirs(broker.kafka, "__consumer_offsets");
    let home = homes.iter().find(|(_, (_, partitions))| !partitions.is_empty()).expect("it is somewhere").0;
    setup.disks.fail(&[&setup.dir(home)]);
    assert_ne!(commit(broker.kafka, 8), 0);
    // It may still know, and must not forget.
    assert!(matches!(committed(broker.kafka), Ok(7) | Err(_)));
    let broker = broker.kill().restart(&setup.options());
    for _ in 0..20 {
        assert!(committed(broker.kafka).is_err(), "nobody knows what was committed");
    }
    assert_ne!(commit(broker.kafka, 8), 0);
    let dead = broker.kill();
    setup.disks.mend();
    let broker = dead.restart(&setup.options());
    assert_eq!(once_loaded(|| committed(broker.kafka)), 7);
}

#[test]
fn a_path_that_is_no_directory_leaves_the_others() {
    let setup = Setup::new();
    std::fs::create_dir_all(setup.root.path()).expect("it is there");
    std::fs::write(setup.dir("a"), "no directory").expect("written");
    let broker = setup.start();
    let mut history = History::begin(broker.kafka, "history", PARTITIONS, &[]);
    history.write(broker.kafka, 1, 10).expect("the other directory serves");
    history.check(broker.kafka);
    let dirs = log_dirs(broker.kafka, "history");
    assert_eq!((dirs["a"].0, dirs["b"].0, dirs["b"].1.len()), (STORAGE_ERROR, 0, PARTITIONS as usize));
    let stopped = broker.stop();
    assert!(stopped.status.success(), "{:?}", stopped.output);
}
