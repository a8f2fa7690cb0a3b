//! Sealed segments go to the store, local copies go away, old data comes back by offset and by time: with the default
//! local directory and with a real S3 server.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::peers::{self, Minio, Peer};
use terrace_protocol_tests::raw_client::RawClient;

const SEGMENT: u64 = 1 << 20;

fn tiered_topic() -> Vec<(&'static str, String)> {
    vec![
        ("segment.bytes", SEGMENT.to_string()),
        // The history's records are years old.
        ("retention.ms", "-1".to_owned()),
        ("local.retention.bytes", SEGMENT.to_string()),
        ("file.delete.delay.ms", "0".to_owned()),
    ]
}

fn options() -> Options {
    Options::new().with("log.retention.check.interval.ms", 200).with("remote.log.manager.task.interval.ms", 500)
}

fn on_minio(minio: &Minio) -> Options {
    let mut options =
        options().with("remote.storage.uri", "s3://terrace/data").with("remote.storage.endpoint", minio.endpoint());
    for (key, value) in minio.env() {
        options = options.env(key, value);
    }
    options
}

fn local_bytes(data: &Path, topic: &str) -> u64 {
    logs(data, topic).iter().map(|file| std::fs::metadata(file).map_or(0, |m| m.len())).sum()
}

/// The `.log` files of partition 0.
fn logs(data: &Path, topic: &str) -> Vec<PathBuf> {
    let folder = data.join("log").join(format!("{topic}-0"));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "log")).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} within 30 s");
        // The file system of another process tells no event.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn list(client: &mut RawClient, topic: &str, timestamp: i64) -> (i16, i64) {
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
        ListOffsetsTopic::default().with_name(TopicName(StrBytes::from_string(topic.to_owned()))).with_partitions(
            vec![
                ListOffsetsPartition::default()
                    .with_partition_index(0)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(timestamp),
            ],
        ),
    ]);
    // Version 11, which knows -6, has the bytes of version 10, the crate's newest.
    let answer = client.call_as::<ListOffsetsRequest>(11, 10, &request);
    (answer.topics[0].partitions[0].error_code, answer.topics[0].partitions[0].offset)
}

/// The whole story on one store; `cache` is a folder that is emptied on the way, when there is one.
fn old_data_comes_back(options: &Options, cache: bool) {
    let broker = Broker::start(options);
    let mut history = History::begin(broker.kafka, "old", 1, &tiered_topic());
    history.write(broker.kafka, 200, 50).expect("the broker is up");
    let written = history.acknowledged();
    wait_until("local bytes fall to retention plus one segment", || local_bytes(broker.data(), "old") <= 2 * SEGMENT);
    assert_eq!(history.check(broker.kafka), written, "all is read back");

    let mut client = RawClient::connect(broker.kafka);
    let latest = list(&mut client, "old", -1);
    let local = list(&mut client, "old", -4);
    let tiered = list(&mut client, "old", -5);
    assert_eq!((list(&mut client, "old", -2), latest), ((0, 0), (0, written as i64)));
    assert!(local.1 > 0 && local.1 < latest.1, "the local part starts later: {local:?}");
    assert!(tiered.1 >= local.1 - 1 && tiered.1 < latest.1, "the tier ends at or behind it: {tiered:?} {local:?}");
    assert_eq!(list(&mut client, "old", -6), (0, tiered.1 + 1), "the next to copy follows the last copied");
    // Each record is one millisecond later than the one before, from History's start on.
    for offset in [0, 49, 50, 1234, local.1 - 1, local.1, latest.1 - 1] {
        assert_eq!(list(&mut client, "old", 1_700_000_000_000 + offset), (0, offset), "by time");
    }
    drop(client);

    let stopped = broker.stop();
    assert!(stopped.status.success(), "a drain ends with exit code 0:\n{}", stopped.output.join("\n"));
    if cache {
        let folder = stopped.data.join("cache");
        assert!(folder.is_dir(), "the second cache tier lies in the data directory");
        std::fs::remove_dir_all(&folder).expect("the cache can be thrown away");
    }
    let broker = stopped.restart(options);
    assert_eq!(history.check(broker.kafka), written, "all is read back after a restart");
    history.write(broker.kafka, 20, 50).expect("the broker is up");
    let broker = broker.kill().restart(options);
    assert_eq!(history.check(broker.kafka), history.acknowledged(), "and after kill -9");
}

#[test]
fn a_start_with_the_tier_switched_off_forgets_nothing_of_it() {
    let broker = Broker::start(&options());
    let mut history = History::begin(broker.kafka, "old", 1, &tiered_topic());
    history.write(broker.kafka, 200, 50).expect("the broker is up");
    wait_until("local bytes fall to retention plus one segment", || local_bytes(broker.data(), "old") <= 2 * SEGMENT);
    let off = options().with("remote.log.storage.system.enable", "false");
    let broker = broker.stop().restart(&off);
    assert_eq!(list(&mut RawClient::connect(broker.kafka), "old", -2), (0, 0), "the log begins where it did");
    history.write(broker.kafka, 20, 50).expect("the broker is up");
    let broker = broker.stop().restart(&options());
    assert_eq!(list(&mut RawClient::connect(broker.kafka), "old", -2), (0, 0));
    assert_eq!(history.check(broker.kafka), history.acknowledged(), "all is read back");
}

#[test]
fn old_data_comes_back_from_the_local_directory() {
    old_data_comes_back(&options(), false);
}

#[test]
fn old_data_comes_back_from_s3() {
    let Some(minio) = Minio::start() else { return };
    old_data_comes_back(&on_minio(&minio), true);
}

#[test]
fn kafka_s_own_reader_dumps_segments_and_whole_objects() {
    if !peers::have(&[Peer::Kafka]) {
        return;
    }
    let broker = Broker::start(&options());
    let mut history = History::begin(broker.kafka, "dumped", 1, &tiered_topic());
    history.write(broker.kafka, 120, 50).expect("the broker is up");
    wait_until("objects appear", || objects(&broker.data().join("remote")).len() >= 2);
    let broker = broker.stop();
    let mut files = logs(&broker.data, "dumped");
    for (i, object) in objects(&broker.data.join("remote")).iter().enumerate() {
        let (base, _) = object.file_name().and_then(|n| n.to_str()).and_then(|n| n.split_once('-')).expect("<base>-…");
        let copy =
            broker.data.join(format!("object{i}")).join(format!("{:020}.log", base.parse::<u64>().expect("digits")));
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        std::fs::copy(object, &copy).expect("a copy");
        files.push(copy);
    }
    let mut records = 0;
    for file in files {
        let dump = peers::run(peers::script("kafka").args([
            "dump-log",
            "--deep-iteration",
            "--files",
            &file.display().to_string(),
        ]));
        assert!(!dump.contains("isvalid: false"), "{dump}");
        records += dump.matches("| offset:").count();
    }
    assert!(records >= history.acknowledged(), "every record is in a segment or an object: {records}");
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(objects(&path));
        } else if path.components().any(|part| part.as_os_str() == "seg") {
            found.push(path);
        }
    }
    found
}

#[test]
fn total_retention_moves_the_log_start_and_empties_the_store() {
    let options = options().with("remote.delete.grace.ms", 0);
    let broker = Broker::start(&options);
    let mut topic = tiered_topic();
    topic.push(("retention.bytes", (4 * SEGMENT).to_string()));
    let mut history = History::begin(broker.kafka, "short", 1, &topic);
    history.write(broker.kafka, 200, 50).expect("the broker is up");
    let mut client = RawClient::connect(broker.kafka);
    wait_until("the log start moves", || list(&mut client, "short", -2).1 > 0);
    let stored = || -> u64 {
        objects(&broker.data().join("remote")).iter().map(|o| std::fs::metadata(o).map_or(0, |m| m.len())).sum()
    };
    wait_until("the store shrinks to the retention", || stored() <= 6 * SEGMENT);
    let start = list(&mut client, "short", -2).1;
    let broker = broker.kill().restart(&options);
    let mut client = RawClient::connect(broker.kafka);
    let (error, again) = list(&mut client, "short", -2);
    assert!(error == 0 && again >= start, "error {error}; a log start never goes back: {start}, then {again}");
}

fn kcat(address: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", &address.to_string(), "-q", "-t", "keys", "-p", "0"]).args(args);
    command
}

/// What a client reads that begins at `from`: offsets, and the last number of each key.
fn keys_from(address: SocketAddr, from: &str) -> (Vec<u64>, BTreeMap<String, u64>) {
    let read = peers::run(&mut kcat(address, &["-C", "-e", "-o", from, "-f", "%o %k %s\n"]));
    let (mut offsets, mut last) = (Vec::new(), BTreeMap::new());
    for line in read.lines() {
        let mut parts = line.split(' ');
        let (offset, key, number) = (parts.next(), parts.next().expect("a key"), parts.next());
        offsets.push(offset.and_then(|text| text.parse().ok()).expect("an offset"));
        last.insert(key.to_owned(), number.and_then(|text| text.parse().ok()).expect("a number"));
    }
    (offsets, last)
}

/// Ten keys again and again, most of it in the tier only: clients find the last value of each, from wherever they begin.
#[test]
fn clients_read_a_compacted_topic_from_both_tiers() {
    if !peers::have(&[Peer::Kcat]) {
        return;
    }
    let options = options().with("log.cleaner.backoff.ms", 100);
    let broker = Broker::start(&options);
    let settings = [
        ("cleanup.policy", "compact".to_owned()),
        ("remote.storage.enable", "true".to_owned()),
        ("remote.copy.lag.ms", "0".to_owned()),
        ("segment.bytes", SEGMENT.to_string()),
        ("local.retention.bytes", "1".to_owned()),
        ("file.delete.delay.ms", "0".to_owned()),
    ];
    let history = History::begin(broker.kafka, "keys", 1, &settings);
    drop(history);
    let mut written = 0_u64;
    let mut write = |address: SocketAddr, rounds: u64| {
        let mut producer = kcat(address, &["-P", "-K", ":"]).stdin(Stdio::piped()).spawn().expect("kcat is there");
        let mut input = producer.stdin.take().expect("piped");
        for number in written..written + 10 * rounds {
            writeln!(input, "k{}:{number} {}", number % 10, "v".repeat(20_000)).expect("kcat reads");
        }
        written += 10 * rounds;
        drop(input);
        assert!(producer.wait().expect("kcat ends").success());
        (written - 10..written).map(|number| (format!("k{}", number % 10), number)).collect::<BTreeMap<_, _>>()
    };
    let mut client = RawClient::connect(broker.kafka);
    for _ in 0..3 {
        let expected = write(broker.kafka, 10);
        let before = list(&mut client, "keys", -4).1;
        wait_until("the local log begins later", || list(&mut client, "keys", -4).1 > before);
        assert_eq!(keys_from(broker.kafka, "beginning").1, expected);
    }
    let broker = broker.kill().restart(&options);
    let expected = write(broker.kafka, 1);
    let (offsets, last) = keys_from(broker.kafka, "beginning");
    assert!(last == expected && offsets.len() < 200, "{} of 310 records are left", offsets.len());
    for from in (0..310).step_by(31) {
        let (rest, last) = keys_from(broker.kafka, &from.to_string());
        // The cleaner may have been over more of it meanwhile.
        assert!(rest.iter().all(|offset| *offset >= from && offsets.contains(offset)), "from {from}: {rest:?}");
        assert_eq!(last, expected, "from {from}");
    }
}
