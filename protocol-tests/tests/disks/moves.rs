//! Partitions move between two log directories while clients write and read them: these lose nothing, see nothing twice, and
//! notice nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{AlterReplicaLogDirsRequest, DescribeLogDirsRequest};
use rstest::rstest;
use tempfile::TempDir;
use terrace::protocol::record_batch::BatchView;
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{fetch, move_to};

const PARTITIONS: i32 = 3;
/// Turns of each partition while the broker lives.
const TURNS: usize = 6;
/// Times that it is killed on the way.
const DEATHS: u64 = 4;

/// Asks for every partition to be where it is not. True when all of them have come to rest before.
fn turn(address: SocketAddr) -> io::Result<bool> {
    let mut client = RawClient::try_connect(address)?;
    let dirs = client.try_call(1, &DescribeLogDirsRequest::default().with_topics(None))?.results;
    let mut asked = Vec::new();
    for dir in &dirs {
        let others = dirs.iter().filter(|other| other.log_dir != dir.log_dir).flat_map(|other| &other.topics);
        let others = others.filter(|topic| &**topic.name == "history").flat_map(|topic| &topic.partitions);
        if others.clone().any(|partition| partition.is_future_key) {
            return Ok(false);
        }
        let partitions = others.map(|partition| partition.partition_index).collect();
        asked.push(move_to(&dir.log_dir, "history", partitions));
    }
    let answer = client.try_call(1, &AlterReplicaLogDirsRequest::default().with_dirs(asked))?;
    let codes: Vec<_> = answer.results.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code).collect();
    assert_eq!(codes, [0; PARTITIONS as usize]);
    Ok(true)
}

/// Reads a partition on from `at` for as long as the broker answers; each offset comes once, in order.
fn follow(address: SocketAddr, partition: i32, mut at: i64, stop: &AtomicBool) -> io::Result<i64> {
    let mut client = RawClient::try_connect(address)?;
    while !stop.load(Ordering::Relaxed) {
        let request = fetch("history", partition, at).with_max_wait_ms(20).with_min_bytes(1).with_max_bytes(1 << 20);
        let Ok(answer) = client.try_call(11, &request) else { break };
        let answer = &answer.responses[0].partitions[0];
        assert_eq!(answer.error_code, 0, "partition {partition} offset {at}");
        let records = answer.records.clone().unwrap_or_default();
        let mut rest = &records[..];
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            batch.check_crc().expect("whole");
            assert!(batch.base_offset() <= at && at <= batch.last_offset(), "partition {partition}: hole at {at}");
            at = batch.next_offset();
            rest = behind;
        }
    }
    Ok(at)
}

#[rstest]
#[case::page_cache("9223372036854775807")]
#[case::synced("1")]
fn partitions_that_move_are_written_and_read_all_the_time(#[case] flush_messages: &str) {
    let folder = TempDir::new().expect("a temporary directory");
    let dirs = ["a", "b"].map(|name| folder.path().join(name).display().to_string()).join(",");
    let options = Options::new()
        .with("log.dirs", dirs)
        .with("remote.log.storage.system.enable", false)
        .with("offsets.topic.num.partitions", 1);
    let mut broker = Broker::start(&options);
    let configs = [
        ("flush.messages", flush_messages.to_owned()),
        ("segment.bytes", (1 << 20).to_string()),
        ("retention.ms", "-1".to_owned()),
    ];
    let mut history = History::begin(broker.kafka, "history", PARTITIONS, &configs);
    history.write(broker.kafka, 2, 20).expect("the broker is up");

    for death in 0..=DEATHS {
        let (address, stop) = (broker.kafka, AtomicBool::new(false));
        broker = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..PARTITIONS)
                .map(|partition| {
                    scope.spawn({
                        let stop = &stop;
                        move || follow(address, partition, 0, stop)
                    })
                })
                .collect();
            let writer = scope.spawn(|| {
                let mut is_up = true;
                while is_up && !stop.load(Ordering::Relaxed) {
                    is_up = history.write(address, 1, 5).is_ok();
                }
            });
            let broker = if death == DEATHS {
                let (mut turns, begun) = (0, Instant::now());
                while turns < TURNS {
                    assert!(begun.elapsed() < Duration::from_secs(60), "partitions arrive");
                    turns += usize::from(turn(address).expect("the broker is up"));
                }
                stop.store(true, Ordering::Relaxed);
                broker
            } else {
                let killer = scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(200 + 171 * death));
                    broker.kill()
                });
                while turn(address).is_ok() {}
                killer.join().expect("the killer does not panic").restart(&options)
            };
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("nothing is refused");
            for reader in readers {
                let _ = reader.join().expect("nothing is read twice");
            }
            broker
        });
        history.check(broker.kafka);
    }
    assert!(history.acknowledged() > 100, "the test writes something: {}", history.acknowledged());
    let broker = broker.stop().restart(&options);
    history.check(broker.kafka);
}
