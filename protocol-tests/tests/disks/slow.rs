//! A throttled disk: appends slow down, no group session expires, no connection is lost, nothing acknowledged is missing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    OffsetCommitRequest, SyncGroupRequest,
};
use terrace_protocol_tests::broker::Broker;
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{text, topic_name};

use super::{Disks, await_line};

/// What each write and each sync takes on the slow disk.
const DELAY: Duration = Duration::from_millis(1000);
/// The sessions of both groups.
const SESSION: Duration = Duration::from_secs(6);
/// A heartbeat waits for a commit or two that came before it to the same shard, and for nobody else's append.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);
/// How long the disk is slow.
const SLOW_FOR: Duration = Duration::from_secs(15);
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// More than the broker has workers: if appends held those, nobody else would be served.
const PRODUCERS: usize = 12;

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// The only member of a group of the classic protocol.
struct Classic {
    client: RawClient,
    member: String,
    generation: i32,
}

impl Classic {
    fn join(address: SocketAddr) -> Self {
        let mut client = RawClient::connect(address);
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("classic")]);
        while client.call(4, &find).coordinators[0].error_code != 0 {}
        let join = JoinGroupRequest::default()
            .with_group_id(group("classic"))
            .with_session_timeout_ms(SESSION.as_millis() as i32)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("range"))]);
        let joined = loop {
            let answer = client.call(3, &join);
            // The coordinator may still be loading.
            if answer.error_code == 0 {
                break answer;
            }
            assert!((14..=16).contains(&answer.error_code), "error {}", answer.error_code);
        };
        let assignment = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
        let sync = SyncGroupRequest::default()
            .with_group_id(group("classic"))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assignment]);
        assert_eq!(client.call(2, &sync).error_code, 0);
        Self { client, member: joined.member_id.to_string(), generation: joined.generation_id }
    }

    fn beat(&mut self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group("classic"))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member));
        self.client.call(2, &request).error_code
    }
}

/// The only member of a group of the consumer protocol.
struct Modern {
    client: RawClient,
    epoch: i32,
}

impl Modern {
    fn join(address: SocketAddr) -> Self {
        let mut client = RawClient::connect(address);
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group("modern"))
            .with_member_id(text("member"))
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(vec![topic_name("synced")]))
            .with_topic_partitions(Some(Vec::new()));
        let answer = client.call(1, &request);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        Self { client, epoch: answer.member_epoch }
    }

    fn beat(&mut self) -> i16 {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group("modern"))
            .with_member_id(text("member"))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(-1);
        let answer = self.client.call(1, &request);
        self.epoch = answer.member_epoch;
        answer.error_code
    }
}

/// Sends heartbeats until `done`; the longest that one took.
fn keep_alive(mut beat: impl FnMut() -> i16, done: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        assert_eq!(beat(), 0, "the session lives");
        longest = longest.max(begun.elapsed());
        // The interval at which a client sends them.
        std::thread::sleep(BEAT_EVERY);
    }
    longest
}

/// Commits without a member of its own, one after another, to the shard that answers the heartbeats: how many.
fn commit(address: SocketAddr, done: &AtomicBool) -> usize {
    let mut client = RawClient::connect(address);
    let mut committed = 0;
    while !done.load(Ordering::Relaxed) {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(committed as i64);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name("synced"))
            .with_partitions(vec![partition.with_committed_metadata(Some(text("")))]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group("commits"))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        assert_eq!(client.call(8, &request).topics[0].partitions[0].error_code, 0);
        committed += 1;
    }
    committed
}

#[test]
fn a_slow_disk_slows_appends_down_and_nothing_else() {
    let disks = Disks::new();
    let options = disks
        .options()
        .with("group.consumer.min.session.timeout.ms", SESSION.as_millis())
        .with("group.consumer.session.timeout.ms", SESSION.as_millis())
        .with("log.dir.min.free.bytes", 0);
    let broker = Broker::start(&options);
    let address = broker.kafka;
    let histories = (0..PRODUCERS).map(|number| match number {
        0 => History::begin(address, "synced", 1, &[("flush.messages", "1".to_owned())]),
        _ => History::begin(address, &format!("page-cache-{number}"), 1, &[]),
    });
    let mut histories: Vec<History> = histories.collect();
    let mut classic = Classic::join(address);
    let mut modern = Modern::join(address);

    let (done, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let log = broker.data().join("log");
    std::thread::scope(|scope| {
        let (done, written) = (&done, &written);
        let producers: Vec<_> = histories
            .iter_mut()
            .map(|history| {
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        history.write(address, 1, 3).expect("no connection is lost and no append refused");
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let beats =
            [scope.spawn(|| keep_alive(|| classic.beat(), done)), scope.spawn(|| keep_alive(|| modern.beat(), done))];
        let commits = scope.spawn(|| commit(address, done));
        // Everybody is at it, and then the disk slows down.
        std::thread::sleep(Duration::from_secs(1));
        disks.slow(&log, DELAY.as_millis() as u64);
        let before = written.load(Ordering::Relaxed);
        std::thread::sleep(SLOW_FOR);
        let during = written.load(Ordering::Relaxed) - before;
        disks.mend();
        done.store(true, Ordering::Relaxed);
        for producer in producers {
            producer.join().expect("no producer failed");
        }
        let longest = beats.map(|beat| beat.join().expect("no member was expired"));
        let commits = commits.join().expect("no commit failed");
        println!("{during} appends in {SLOW_FOR:?}, {commits} commits in all, heartbeats took at most {longest:?}");
        let unhindered = SLOW_FOR.as_millis() as usize / 5;
        assert!((2..unhindered).contains(&during), "{during} appends: the disk is slow and does not stand still");
        assert!(
            longest.iter().all(|longest| *longest < ANSWERED_WITHIN),
            "heartbeats were answered meanwhile: {longest:?}"
        );
    });
    await_line(&broker, "log directory is slow");
    assert_eq!((classic.beat(), modern.beat()), (0, 0));
    // And what was acknowledged is still there, after a crash too.
    let broker = broker.kill().restart(&options);
    for history in &mut histories {
        history.check(broker.kafka);
    }
    let mut client = RawClient::connect(broker.kafka);
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("classic")]);
    assert_eq!(client.call(4, &find).coordinators[0].error_code, 0);
}
