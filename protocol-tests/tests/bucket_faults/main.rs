//! MinIO behind Toxiproxy and a front of our own: a network that hangs, resets and crawls, a store that says 503, loses
//! its replies and is restarted. Produce goes on, cold reads answer in their time, and afterwards everything is copied and
//! read back. The other faults, and these in every order, are tests of one process (docs/crash-safety.md).

mod front;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use front::{Front, Weather};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::peers::{Minio, Toxiproxy};
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests;

const SEGMENT: usize = 1 << 20;
const TOPIC: &str = "faults";
/// Of the breaker's probe, the copier's waits and the owner check together.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// `remote.fetch.max.wait.ms` is half a second.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

struct Stage {
    minio: Minio,
    toxiproxy: Toxiproxy,
    front: Front,
    broker: Broker,
    history: History,
}

impl Stage {
    fn begin() -> Option<Self> {
        let minio = Minio::start()?;
        let toxiproxy = Toxiproxy::start()?;
        let front = Front::start(minio.address());
        let address = toxiproxy.proxy("s3", front.address);
        let mut options = Options::new()
            .with("remote.storage.uri", "s3://terrace/data")
            .with("remote.storage.endpoint", format!("http://{address}"))
            .with("remote.log.manager.task.interval.ms", 200)
            .with("log.retention.check.interval.ms", 200)
            // Every cold read asks the bucket.
            .with("remote.cache.disk.bytes", 0)
            .with("remote.cache.memory.bytes", 0);
        for (key, value) in minio.env() {
            options = options.env(key, value);
        }
        let broker = Broker::start(&options);
        let config = [
            ("segment.bytes", SEGMENT.to_string()),
            ("retention.ms", "-1".to_owned()),
            ("local.retention.bytes", SEGMENT.to_string()),
            ("file.delete.delay.ms", "0".to_owned()),
        ];
        let history = History::begin(broker.kafka, TOPIC, 1, &config);
        let mut stage = Self { minio, toxiproxy, front, broker, history };
        stage.write();
        stage.wait_copied();
        Some(stage)
    }

    /// Some segments.
    fn write(&mut self) {
        self.history.write(self.broker.kafka, 60, 50).expect("produce needs no bucket");
    }

    /// (last offset in the bucket, high watermark).
    fn tiered(&self) -> (i64, i64) {
        let mut client = RawClient::connect(self.broker.kafka);
        let mut ask = |timestamp| {
            let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
            let topic =
                ListOffsetsTopic::default().with_name(requests::topic_name(TOPIC)).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            client.call(9, &request).topics[0].partitions[0].offset
        };
        (ask(-5), ask(-1))
    }

    /// All but the active segment is in the bucket: a record has a little more than 1 000 bytes.
    fn wait_copied(&self) {
        let deadline = Instant::now() + BACK_WITHIN;
        loop {
            let (tiered, end) = self.tiered();
            if end - tiered <= SEGMENT as i64 / 1000 {
                return;
            }
            assert!(Instant::now() < deadline, "{tiered} of {end} are copied: {:#?}", self.broker.output());
            // Another process tells no event.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A Fetch of the first record, which is in the bucket alone. (error, bytes)
    fn fetch_cold(&self) -> (i16, usize) {
        let mut client = RawClient::connect(self.broker.kafka);
        let request = requests::fetch(TOPIC, 0, 0).with_max_wait_ms(100).with_min_bytes(1);
        let begun = Instant::now();
        let answer = client.call(11, &request);
        assert!(begun.elapsed() < ANSWERED_WITHIN, "a cold Fetch has its time: {:?}", begun.elapsed());
        let partition = &answer.responses[0].partitions[0];
        (partition.error_code, partition.records.as_ref().map_or(0, |records| records.len()))
    }

    /// How many requests to the store ended with this result.
    fn ended(&self, result: &str) -> u64 {
        let mut stream = TcpStream::connect(self.broker.http).expect("the admin port is open");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let result = format!("\"{result}\"");
        let counts = |line: &&str| line.starts_with("terrace_remote_requests_total{") && line.contains(&result);
        text.lines().filter(counts).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// Waits until the broker has met the fault: until then it may be that nothing was asked.
    fn until_met(&self, met: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + BACK_WITHIN;
        while !met(self) {
            assert!(Instant::now() < deadline, "the fault is met: {:#?}", self.broker.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A fault lasts while some segments are written; then everything is copied and read back.
    fn survives(&mut self, fault: &str, begin: impl Fn(&Self), met: impl Fn(&Self) -> bool, end: impl Fn(&Self)) {
        let begun = Instant::now();
        begin(self);
        self.write();
        let (error, bytes) = self.fetch_cold();
        // No records yet, some, or an error that clients try again at: KAFKA_STORAGE_ERROR.
        assert!(error == 0 || (error == 56 && bytes == 0), "{fault}: error {error} with {bytes} bytes");
        self.until_met(met);
        end(self);
        self.wait_copied();
        assert_eq!(self.history.check(self.broker.kafka), self.history.acknowledged(), "{fault}");
        println!("{fault}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_bucket_that_hangs_resets_crawls_refuses_loses_replies_or_restarts_costs_nothing_but_time() {
    let Some(mut stage) = Stage::begin() else { return };
    assert!(stage.fetch_cold().1 > 0);
    let at_once = |_: &Stage| true;

    stage.survives(
        "slow",
        |stage| stage.toxiproxy.poison("s3", "bandwidth", r#""rate":400"#),
        |stage| stage.tiered().0 > 0,
        |stage| stage.toxiproxy.heal(),
    );
    let before = stage.ended("error");
    stage.survives(
        "reset",
        |stage| stage.toxiproxy.poison("s3", "reset_peer", r#""timeout":0"#),
        // What came too late for its reader is kept for him, so a Fetch need not ask.
        |stage| stage.ended("error") > before,
        |stage| stage.toxiproxy.heal(),
    );
    let before = stage.front.spoiled();
    stage.survives(
        "503",
        |stage| stage.front.set(Weather::Unavailable),
        |stage| stage.front.spoiled() >= before + 5,
        |stage| stage.front.set(Weather::Fine),
    );
    let before = stage.front.spoiled();
    stage.survives(
        "lost reply",
        |stage| stage.front.set(Weather::RepliesLost),
        |stage| stage.front.spoiled() >= before + 3,
        |stage| stage.front.set(Weather::Fine),
    );
    stage.survives("restart", |stage| stage.minio.kill(), at_once, |stage| stage.minio.start_again());
    // The connections stay, and nothing comes until a deadline of 15 s is over.
    stage.survives(
        "hang",
        |stage| stage.toxiproxy.poison("s3", "timeout", r#""timeout":0"#),
        |stage| stage.ended("timeout") > 0,
        |stage| stage.toxiproxy.heal(),
    );
    let stopped = stage.broker.stop();
    assert!(stopped.status.success(), "a drain ends with exit code 0:\n{}", stopped.output.join("\n"));
}
