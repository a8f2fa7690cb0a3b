//! Groups of the consumer protocol in a shard: what the log keeps, and the change from one protocol to the other.

use super::*;
use crate::group::classic::HeartbeatRequest as ClassicHeartbeat;
use crate::group::consumer::Partitions;
use crate::group::consumer::heartbeat::{HeartbeatAnswer, HeartbeatRequest};
use crate::group::consumer::tests::request as beat;
use crate::group::consumer_protocol::{NamedPartitions, decode_assignment, encode_assignment};
use crate::metadata::image::{Change, Topic};
use crate::metadata::store::MetadataStore;

const TOPIC: Uuid = Uuid::from_u128(7);

/// With topic "t" of four partitions.
async fn with_topic() -> Driven {
    let store = FakeStore::new();
    let topic =
        Topic { id: TOPIC, name: "t".into(), partition_count: 4, replication_factor: 1, config: Default::default() };
    store.commit(None, vec![Change::CreateTopic(topic)]).await.unwrap();
    let context = Arc::new(GroupContext { metadata: store, ..GroupContext::clone(&context()) });
    let log = Arc::new(FakeLog::default());
    let shard = Shard::new(&context, Journal::new(Arc::clone(&log) as Arc<dyn ShardLog>));
    Driven { shard, log, now: Now { mono_ms: 0, wall_ms: 5000 } }
}

fn joins(member: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        topics: Some(["t".into()].into()),
        owned: Some(Partitions::new()),
        ..beat(member, 0)
    }
}

impl Driven {
    fn beat(&mut self, request: HeartbeatRequest) -> Result<HeartbeatAnswer, ErrorCode> {
        let answer = self.ask(|shard, to, now| shard.consumer_heartbeat(request, to, now));
        answer.map_err(|refused| refused.code)
    }

    /// Another shard over the same log and topics.
    pub(super) fn reload(&self) -> Driven {
        let journal = Journal::new(Arc::clone(&self.log) as Arc<dyn ShardLog>);
        let mut shard = Shard::new(&self.shard.context, journal);
        let mut at = 0;
        loop {
            let bytes = self.log.read(at).unwrap();
            let next = replay(&mut shard, &bytes, at, self.now);
            if next == at {
                break;
            }
            at = next;
        }
        shard.loaded(self.now);
        Driven { shard, log: Arc::clone(&self.log), now: self.now }
    }

    pub(super) fn kind(&self) -> (&'static str, &'static str) {
        let entry = &self.shard.groups["g"];
        (entry.type_name(), entry.state_name())
    }

    fn classic_beat(&mut self, member_id: &Arc<str>, generation: i32) -> Result<(), ErrorCode> {
        let request =
            ClassicHeartbeat { group: "g".into(), member_id: Arc::clone(member_id), instance_id: None, generation };
        self.ask(|shard, to, now| shard.heartbeat(&request, to, now))
    }

    /// A stable classic group of one that owns all of "t".
    fn with_classic_owner(&mut self) -> (Arc<str>, i32) {
        let mut joining = self.asked(|shard, to, now| shard.join(&join(""), to, now));
        self.pass(0);
        let joined = joining.try_recv().unwrap();
        let all = encode_assignment(0, &NamedPartitions::from([("t".into(), (0..4).collect())]));
        let assignments = [(Arc::clone(&joined.member_id), all)].into();
        let request = SyncRequest { assignments, ..self.sync_of(&joined.member_id, joined.generation) };
        assert_eq!(self.ask(|shard, to, now| shard.sync(&request, to, now)).error, ErrorCode::None);
        (joined.member_id, joined.generation)
    }
}

fn partitions(answer: &HeartbeatAnswer) -> Vec<i32> {
    answer.assignment.iter().flatten().flat_map(|(_, partitions)| partitions.iter().copied()).collect()
}

#[tokio::test]
async fn members_keep_epochs_and_partitions_through_a_load() {
    let mut driven = with_topic().await;
    assert_eq!(partitions(&driven.beat(joins("a")).unwrap()), [0, 1, 2, 3]);
    driven.beat(joins("b")).unwrap();
    let owned = Some([(TOPIC, (0..4).collect())].into());
    let told = driven.beat(HeartbeatRequest { owned, ..beat("a", 2) }).unwrap();
    assert_eq!((told.epoch, partitions(&told).len()), (2, 2));

    let mut loaded = driven.reload();
    let kept = Some([(TOPIC, partitions(&told).into_iter().collect())].into());
    let done = loaded.beat(HeartbeatRequest { owned: kept, ..beat("a", 2) }).unwrap();
    assert_eq!((done.epoch, done.assignment), (3, None));
    let got = loaded.beat(beat("b", 3)).unwrap();
    assert_eq!((got.epoch, partitions(&got).len()), (3, 2));
    assert_eq!(loaded.kind(), ("consumer", "Stable"));
    // Who is not heard of after a load goes when its session would.
    loaded.pass(45_000);
    assert_eq!(loaded.kind(), ("consumer", "Empty"));
}

#[tokio::test]
async fn a_refused_append_changes_nothing() {
    let mut driven = with_topic().await;
    driven.beat(joins("a")).unwrap();
    let before = Driven::snapshot(&driven.shard);
    driven.log.fail(Some(AppendError::Storage));
    assert_eq!(driven.beat(joins("b")), Err(ErrorCode::NotCoordinator));
    assert_eq!(Driven::snapshot(&driven.shard), before);
    assert!(driven.beat(beat("a", 2)).is_ok(), "a heartbeat without news needs no log");
    driven.log.fail(None);
    assert_eq!(driven.beat(joins("b")).unwrap().epoch, 3);
}

#[tokio::test]
async fn a_classic_group_goes_over_and_comes_back() {
    let mut driven = with_topic().await;
    let (classic, generation) = driven.with_classic_owner();
    let came = driven.beat(joins("new")).unwrap();
    assert_eq!((came.epoch, partitions(&came)), (generation + 1, vec![]), "the classic member owns all");
    assert_eq!(driven.kind(), ("consumer", "Reconciling"));

    // The classic member is told to rejoin, gives half back, and learns what it keeps.
    assert_eq!(driven.classic_beat(&classic, generation), Err(ErrorCode::RebalanceInProgress));
    // Version 1: also owns t-0 to t-3.
    let metadata = [
        &b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x04"[..],
        &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
    ];
    let owning_all = Bytes::from(metadata.concat());
    let rejoin = |protocols: Bytes| JoinRequest { protocols: vec![("range".into(), protocols)], ..join(&classic) };
    let joined = driven.ask(|shard, to, now| shard.join(&rejoin(owning_all), to, now));
    assert_eq!((joined.error, joined.generation, &*joined.leader), (ErrorCode::None, generation, ""));
    let request = SyncRequest { assignments: Default::default(), ..driven.sync_of(&classic, generation) };
    let synced = driven.ask(|shard, to, now| shard.sync(&request, to, now));
    let (kept, _) = decode_assignment(&synced.assignment).unwrap();
    assert_eq!((synced.error, kept["t"].len()), (ErrorCode::None, 2));
    // Version 0 says nothing of what it owns, so it owns nothing that was taken.
    let joined = driven.ask(|shard, to, now| shard.join(&join(&classic), to, now));
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, generation + 1));
    let got = driven.beat(beat("new", generation + 1)).unwrap();
    assert_eq!(partitions(&got).len(), 2);
    assert_eq!(driven.reload().kind(), ("consumer", "Stable"));

    // The last of the consumer protocol leaves: the classic member rejoins a classic group.
    driven.beat(beat("new", -1)).unwrap();
    assert_eq!(driven.kind(), ("classic", "PreparingRebalance"));
    let mut rejoined = driven.asked(|shard, to, now| shard.join(&join(&classic), to, now));
    let rejoined = rejoined.try_recv().unwrap();
    assert_eq!((rejoined.error, &rejoined.leader), (ErrorCode::None, &classic));
    assert!(rejoined.generation > generation + 1);
    assert_eq!(driven.reload().kind().0, "classic");
}

#[tokio::test]
async fn an_empty_group_takes_either_protocol() {
    let mut driven = with_topic().await;
    driven.commit(&commit("", -1, &[("t", 0, 5)])).unwrap();
    driven.beat(joins("a")).unwrap();
    assert_eq!((driven.kind(), driven.offset("t", 0)), (("consumer", "Stable"), Some(5)));
    driven.beat(beat("a", -1)).unwrap();
    let (member, _) = driven.with_classic_owner();
    assert_eq!((driven.kind(), driven.offset("t", 0)), (("classic", "Stable"), Some(5)));
    let leaving = [Leaving { member_id: member, instance_id: None }];
    driven.ask(|shard, to, now| shard.leave(&"g".into(), &leaving, to, now)).unwrap();
    driven.beat(joins("b")).unwrap();
    assert_eq!(driven.kind(), ("consumer", "Stable"));
    assert_eq!(driven.reload().kind(), ("consumer", "Stable"));
    assert_eq!(driven.reload().offset("t", 0), Some(5));
}

#[tokio::test]
async fn a_group_that_is_deleted_leaves_nothing_in_the_log() {
    let mut driven = with_topic().await;
    driven.beat(joins("a")).unwrap();
    driven.commit(&commit("a", 2, &[("t", 0, 5)])).unwrap();
    let delete = |driven: &mut Driven| driven.ask(|shard, to, now| shard.delete_group(&"g".into(), to, now));
    assert_eq!(delete(&mut driven), Err(ErrorCode::NonEmptyGroup));
    driven.beat(beat("a", -1)).unwrap();
    assert_eq!(delete(&mut driven), Ok(()));
    assert!(Driven::snapshot(&driven.reload().shard).is_empty());
}

#[rstest]
#[case::of_the_member("a", 2, Ok(()))]
#[case::from_outside("", -1, Err(ErrorCode::UnknownMemberId))]
#[case::ahead("a", 3, Err(ErrorCode::StaleMemberEpoch))]
#[case::behind_what_it_got("a", 1, Err(ErrorCode::StaleMemberEpoch))]
#[tokio::test]
async fn commits_are_checked_by_epoch(
    #[case] member: &str,
    #[case] epoch: i32,
    #[case] expected: Result<(), ErrorCode>,
) {
    let mut driven = with_topic().await;
    driven.beat(joins("a")).unwrap();
    assert_eq!(driven.commit(&commit(member, epoch, &[("t", 0, 5)])).map(|_| ()), expected);
    let old = CommitRequest { knows_group_id_not_found: false, ..commit("a", 2, &[("t", 0, 5)]) };
    assert_eq!(driven.commit(&old), Err(ErrorCode::UnsupportedVersion));
}

#[tokio::test]
async fn an_epoch_behind_may_commit_what_it_already_owned() {
    let mut driven = with_topic().await;
    driven.beat(joins("a")).unwrap();
    driven.beat(joins("b")).unwrap();
    let owned: Partitions = [(TOPIC, (0..4).collect())].into();
    let told = driven.beat(HeartbeatRequest { owned: Some(owned), ..beat("a", 2) }).unwrap();
    let kept = Some([(TOPIC, partitions(&told).into_iter().collect())].into());
    assert_eq!(driven.beat(HeartbeatRequest { owned: kept, ..beat("a", 2) }).unwrap().epoch, 3);
    let (own, gone) = (partitions(&told)[0], (0..4).find(|one| !partitions(&told).contains(one)).unwrap());
    assert_eq!(driven.commit(&commit("a", 2, &[("t", own, 5)])), Ok(vec![Ok(())]));
    let stale = Err(ErrorCode::StaleMemberEpoch);
    assert_eq!(driven.commit(&commit("a", 2, &[("t", own, 6), ("t", gone, 6)])), stale);
    assert_eq!(driven.offset("t", own), Some(5));
}

fn id() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just(" "), Just("é\u{0}")].prop_map(Arc::from)
}

fn hostile() -> impl Strategy<Value = HeartbeatRequest> {
    let partition = prop_oneof![Just(i32::MIN), Just(-1), 0..5i32, Just(i32::MAX)];
    let topic = prop_oneof![Just(Uuid::nil()), Just(TOPIC), any::<u128>().prop_map(Uuid::from_u128)];
    let owned = proptest::collection::btree_map(topic, proptest::collection::btree_set(partition, 0..4), 0..3);
    let regex =
        prop_oneof![Just(".*"), Just("("), Just(""), Just("t|(?i)U"), Just("a{1000}{1000}")].prop_map(Arc::from);
    let optional = proptest::option::of::<BoxedStrategy<Arc<str>>>;
    let said = (
        optional(id().boxed()),
        prop_oneof![Just(-1), Just(0), Just(i32::MIN), Just(i32::MAX)],
        proptest::option::of(proptest::collection::btree_set(id(), 0..3)),
        optional(regex.boxed()),
        optional(prop_oneof![Just("uniform"), Just("range"), Just("no")].prop_map(Arc::from).boxed()),
    );
    let epoch = prop_oneof![Just(i32::MIN), -3..4i32, Just(i32::MAX)];
    (id(), epoch, said, proptest::option::of(owned)).prop_map(|(member_id, epoch, said, owned)| {
        let (instance_id, rebalance_timeout_ms, topics, regex, assignor) = said;
        HeartbeatRequest {
            group: "g".into(),
            member_id,
            epoch,
            rack_id: instance_id.clone(),
            instance_id,
            rebalance_timeout_ms,
            topics,
            regex,
            assignor,
            owned,
            client_id: "".into(),
            client_host: "".into(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is asked is answered, and a load has what the shard has.
    #[test]
    fn hostile_heartbeats_are_answered(
        requests in proptest::collection::vec((hostile(), 0..50_000u64), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut driven = runtime.block_on(with_topic());
        let context = Arc::clone(&driven.shard.context);
        for (request, passed_ms) in requests {
            // As the coordinator does before it asks the shard.
            if request.check(false, &context.assignors()).is_ok() {
                let _ = driven.beat(request);
            }
            driven.pass(passed_ms);
        }
        prop_assert_eq!(Driven::snapshot(&driven.reload().shard), Driven::snapshot(&driven.shard));
    }
}
