use bytes::Bytes;
use proptest::prelude::*;
use rstest::rstest;
use terrace_tiering::platform::random::SeededRandom;
use uuid::Uuid;

use super::*;
use crate::config::server::{ConsumerGroupSettings, ShareGroupSettings, StreamsGroupSettings};
use crate::coordinator::Outcomes;
use crate::coordinator::journal::OpenTransaction;
use crate::coordinator::log::ShardLog;
use crate::coordinator::log::fake::FakeLog;
use crate::coordinator::testing::replay;
use crate::group::classic::{JoinRequest, Leaving, SyncRequest};
use crate::group::offsets::{CommitOffset, CommitRequest, FetchRequest, FetchTopics};
use crate::group::records::{Committed, OffsetKey};
use crate::metadata::fake::FakeStore;
use crate::partition::append::AppendError;
use crate::partition::producers::ProducerError;
use crate::partition::transactions::EndMarker;
use crate::protocol::record_batch::BatchView;

mod consumers;
mod shares;
mod streams;

const RETENTION_MS: i64 = 1000;

struct Driven {
    shard: Shard,
    log: Arc<FakeLog>,
    now: Now,
}

fn context() -> Arc<GroupContext> {
    let group = GroupSettings {
        initial_rebalance_delay_ms: 0,
        session_timeout_ms_min: 6000,
        session_timeout_ms_max: 1_800_000,
        size_max: usize::MAX,
        consumer: ConsumerGroupSettings::for_tests(),
        share: ShareGroupSettings::for_tests(),
        streams: StreamsGroupSettings::for_tests(),
    };
    let offsets = OffsetsSettings {
        partitions: 1,
        replication_factor: 3,
        compression_codec: 0,
        segment_bytes: 1 << 20,
        retention_ms: RETENTION_MS,
        retention_check_interval_ms: 600_000,
        metadata_bytes_max: 8,
        commit_timeout_ms: 5000,
    };
    Arc::new(GroupContext {
        group,
        offsets,
        rack: None,
        random: SeededRandom::new(1),
        metadata: FakeStore::new(),
        new_topics: Arc::default(),
    })
}

fn shard(log: &Arc<FakeLog>) -> Shard {
    Shard::new(&context(), Journal::new(Arc::clone(log) as Arc<dyn ShardLog>))
}

fn driven() -> Driven {
    let log = Arc::new(FakeLog::default());
    Driven { shard: shard(&log), log, now: Now { mono_ms: 0, wall_ms: 5000 } }
}

fn commit(member_id: &str, generation: i32, offsets: &[(&str, i32, i64)]) -> CommitRequest {
    let offsets = offsets.iter().map(|&(topic, partition, offset)| CommitOffset {
        topic: topic.into(),
        topic_id: Uuid::from_u128(7),
        partition,
        offset,
        leader_epoch: 2,
        metadata: Some("m".into()),
    });
    CommitRequest {
        group: "g".into(),
        member_id: member_id.into(),
        instance_id: None,
        generation,
        retention_ms: None,
        knows_group_id_not_found: true,
        offsets: offsets.collect(),
    }
}

fn fetch_all() -> FetchRequest {
    FetchRequest {
        group: "g".into(),
        member_id: None,
        member_epoch: -1,
        require_stable: false,
        topics: FetchTopics::All,
    }
}

fn join(member_id: &str) -> JoinRequest {
    JoinRequest {
        group: "g".into(),
        member_id: member_id.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        // Version 0, one topic: "t".
        protocols: vec![("range".into(), Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"))],
        needs_known_member_id: false,
        understands_skip_assignment: false,
    }
}

impl Driven {
    fn ask<T>(&mut self, ask: impl FnOnce(&mut Shard, oneshot::Sender<T>, Now)) -> T {
        self.asked(ask).try_recv().expect("answered at once")
    }

    fn asked<T>(&mut self, ask: impl FnOnce(&mut Shard, oneshot::Sender<T>, Now)) -> oneshot::Receiver<T> {
        let (to, answer) = oneshot::channel();
        ask(&mut self.shard, to, self.now);
        answer
    }

    fn commit(&mut self, request: &CommitRequest) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        self.ask(|shard, to, now| shard.commit(request, to, now))
    }

    fn offset(&mut self, topic: &str, partition: i32) -> Option<i64> {
        self.shard.offsets.get("g", topic, partition).map(|committed| committed.offset)
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += i64::try_from(ms).unwrap();
        self.shard.on_time(self.now);
    }

    /// A stable group of one, of which the log knows.
    fn with_member(&mut self) -> Arc<str> {
        let mut joining = self.asked(|shard, to, now| shard.join(&join(""), to, now));
        self.pass(0);
        let joined = joining.try_recv().unwrap();
        assert_eq!(joined.error, ErrorCode::None);
        let request = self.sync_of(&joined.member_id, joined.generation);
        let synced = self.ask(|shard, to, now| shard.sync(&request, to, now));
        assert_eq!((synced.error, &synced.assignment[..]), (ErrorCode::None, &b"all"[..]));
        joined.member_id
    }

    fn sync_of(&self, member_id: &Arc<str>, generation: i32) -> SyncRequest {
        SyncRequest {
            group: "g".into(),
            member_id: Arc::clone(member_id),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: [(Arc::clone(member_id), Bytes::from_static(b"all"))].into(),
        }
    }

    fn leave(&mut self, member_id: &Arc<str>) {
        let leaving = [Leaving { member_id: Arc::clone(member_id), instance_id: None }];
        let left = self.ask(|shard, to, now| shard.leave(&"g".into(), &leaving, to, now));
        assert_eq!(left, Ok(vec![Ok(())]));
    }

    /// The shard that a load of the log builds.
    fn reloaded(&self) -> Shard {
        let mut loaded = shard(&self.log);
        replay(&mut loaded, &self.log.bytes(), 0, self.now);
        loaded
    }

    fn snapshot(shard: &Shard) -> Vec<Encoded> {
        let mut records = shard.snapshot();
        records.sort_by(|a, b| a.key.cmp(&b.key));
        records
    }
}

#[test]
fn a_commit_from_outside_makes_a_simple_group() {
    let mut driven = driven();
    assert_eq!(driven.commit(&commit("", -1, &[("t", 0, 5), ("u", 1, 6)])), Ok(vec![Ok(()), Ok(())]));
    let fetched = driven.ask(|shard, to, _| shard.fetch(&fetch_all(), to)).unwrap();
    assert_eq!(fetched.iter().map(|(topic, _)| &**topic).collect::<Vec<_>>(), ["t", "u"]);
    let listed = driven.ask(|shard, to, _| shard.list(to));
    assert_eq!((&*listed[0].protocol_type, listed[0].state), ("", "Empty"));
    assert_eq!(driven.log.batches(), 1, "one batch for one request");
}

#[test]
fn a_commit_of_an_unknown_generation_is_refused_by_the_version_it_speaks() {
    let mut driven = driven();
    assert_eq!(driven.commit(&commit("m", 1, &[("t", 0, 5)])), Err(ErrorCode::GroupIdNotFound));
    let older = CommitRequest { knows_group_id_not_found: false, ..commit("m", 1, &[("t", 0, 5)]) };
    assert_eq!(driven.commit(&older), Err(ErrorCode::IllegalGeneration));
}

#[test]
fn long_notes_are_refused_one_by_one() {
    let mut driven = driven();
    let mut request = commit("", -1, &[("t", 0, 5), ("t", 1, 6)]);
    request.offsets[0].metadata = Some("ninebytes".into());
    // Eight letters of two bytes each: Kafka counts letters.
    request.offsets[1].metadata = Some("ääääääää".into());
    assert_eq!(driven.commit(&request), Ok(vec![Err(ErrorCode::OffsetMetadataTooLarge), Ok(())]));
    assert_eq!((driven.offset("t", 0), driven.offset("t", 1)), (None, Some(6)));
}

#[test]
fn an_append_that_fails_changes_nothing() {
    let mut driven = driven();
    driven.commit(&commit("", -1, &[("t", 0, 5)])).unwrap();
    driven.log.fail(Some(AppendError::Gone));
    assert_eq!(driven.commit(&commit("", -1, &[("t", 0, 9)])), Err(ErrorCode::NotCoordinator));
    assert_eq!(driven.offset("t", 0), Some(5));
    let deleted = driven.ask(|shard, to, now| shard.delete_group(&"g".into(), to, now));
    assert_eq!((deleted, driven.offset("t", 0)), (Err(ErrorCode::NotCoordinator), Some(5)));
    driven.log.fail(Some(AppendError::TooLarge { size: 2, limit: 1 }));
    assert_eq!(driven.commit(&commit("", -1, &[("t", 0, 9)])), Err(ErrorCode::UnknownServerError));
}

#[test]
fn a_group_that_the_log_refuses_is_not_born() {
    let mut driven = driven();
    driven.log.fail(Some(AppendError::Storage));
    let joined = driven.ask(|shard, to, now| shard.join(&join(""), to, now));
    assert_eq!(joined.error, ErrorCode::NotCoordinator);
    assert!(driven.ask(|shard, to, _| shard.describe("g", to)).is_err());
    assert!(driven.shard.parked.is_empty());
}

#[test]
fn an_assignment_that_the_log_refuses_does_not_count() {
    let mut driven = driven();
    let mut joining = driven.asked(|shard, to, now| shard.join(&join(""), to, now));
    driven.pass(0);
    let joined = joining.try_recv().unwrap();
    driven.log.fail(Some(AppendError::Storage));
    let request = driven.sync_of(&joined.member_id, 1);
    let refused = driven.ask(|shard, to, now| shard.sync(&request, to, now));
    assert_eq!(refused.error, ErrorCode::NotCoordinator);
    let described = driven.ask(|shard, to, _| shard.describe("g", to)).unwrap();
    assert_eq!(described.state, "CompletingRebalance");
    driven.log.fail(None);
    let synced = driven.ask(|shard, to, now| shard.sync(&request, to, now));
    assert_eq!(synced.error, ErrorCode::None);
}

#[test]
fn an_expiry_that_the_log_refuses_is_tried_again() {
    let mut driven = driven();
    driven.with_member();
    driven.log.fail(Some(AppendError::Storage));
    driven.pass(10_000);
    assert_eq!(driven.ask(|shard, to, _| shard.describe("g", to)).unwrap().state, "Stable");
    driven.log.fail(None);
    driven.pass(RETRY_MS);
    assert_eq!(driven.ask(|shard, to, _| shard.describe("g", to)).unwrap().state, "Empty");
}

#[tokio::test]
async fn answers_wait_for_the_appends_they_read() {
    let mut driven = driven();
    driven.log.hold();
    let mut committed = driven.asked(|shard, to, now| shard.commit(&commit("", -1, &[("t", 0, 5)]), to, now));
    let mut fetched = driven.asked(|shard, to, _| shard.fetch(&fetch_all(), to));
    assert!(committed.try_recv().is_err() && fetched.try_recv().is_err());
    driven.log.accept();
    driven.shard.journal.settle().await.unwrap();
    assert_eq!(committed.try_recv().unwrap(), Ok(vec![Ok(())]));
    assert_eq!(fetched.try_recv().unwrap().unwrap().len(), 1);
}

#[rstest]
#[case::just_kept(RETENTION_MS - 1, true)]
#[case::just_over(RETENTION_MS, false)]
fn offsets_of_a_simple_group_expire_after_their_commit(#[case] passed_ms: i64, #[case] kept: bool) {
    let mut driven = driven();
    driven.commit(&commit("", -1, &[("t", 0, 5)])).unwrap();
    driven.now.wall_ms += passed_ms;
    driven.shard.upkeep(driven.now);
    assert_eq!(driven.offset("t", 0).is_some(), kept);
    assert_eq!(driven.ask(|shard, to, _| shard.describe("g", to)).is_ok(), kept, "the group goes with its offsets");
    assert_eq!(Driven::snapshot(&driven.reloaded()), Driven::snapshot(&driven.shard));
}

#[test]
fn offsets_expire_only_when_the_group_is_empty_or_the_topic_unsubscribed() {
    let mut driven = driven();
    let member = driven.with_member();
    driven.commit(&commit(&member, 1, &[("t", 0, 5), ("u", 0, 6)])).unwrap();
    driven.now.wall_ms += RETENTION_MS;
    driven.shard.upkeep(driven.now);
    assert_eq!((driven.offset("t", 0), driven.offset("u", 0)), (Some(5), None), "u is not read by anyone");

    driven.leave(&member);
    driven.now.wall_ms += RETENTION_MS - 1;
    driven.shard.upkeep(driven.now);
    assert_eq!(driven.offset("t", 0), Some(5), "counted from when the group became empty");
    driven.now.wall_ms += 1;
    driven.shard.upkeep(driven.now);
    assert_eq!(driven.offset("t", 0), None);
    assert!(driven.shard.groups.is_empty());
    assert!(Driven::snapshot(&driven.reloaded()).is_empty());
}

#[test]
fn nothing_expires_during_a_rebalance() {
    let mut driven = driven();
    let member = driven.with_member();
    driven.commit(&commit(&member, 1, &[("u", 0, 6)])).unwrap();
    let _joining = driven.asked(|shard, to, now| shard.join(&join(""), to, now));
    driven.now.wall_ms += RETENTION_MS;
    driven.shard.upkeep(driven.now);
    assert_eq!(driven.offset("u", 0), Some(6));
}

#[test]
fn a_retention_time_that_the_client_named_counts_whatever_the_group_does() {
    let mut driven = driven();
    let request = CommitRequest { retention_ms: Some(10), ..commit("", -1, &[("t", 0, 5)]) };
    driven.commit(&request).unwrap();
    driven.now.wall_ms += 9;
    driven.shard.upkeep(driven.now);
    assert_eq!(driven.offset("t", 0), Some(5));
    driven.now.wall_ms += 1;
    driven.shard.upkeep(driven.now);
    assert_eq!(driven.offset("t", 0), None);
}

#[test]
fn an_empty_group_without_offsets_goes_at_the_next_check() {
    let mut driven = driven();
    let member = driven.with_member();
    driven.leave(&member);
    driven.shard.upkeep(driven.now);
    assert!(driven.shard.groups.is_empty());
    assert!(Driven::snapshot(&driven.reloaded()).is_empty());
}

#[test]
fn only_empty_groups_are_deleted() {
    let mut driven = driven();
    let delete = |driven: &mut Driven| driven.ask(|shard, to, now| shard.delete_group(&"g".into(), to, now));
    assert_eq!(delete(&mut driven), Err(ErrorCode::GroupIdNotFound));
    let member = driven.with_member();
    driven.commit(&commit(&member, 1, &[("t", 0, 5)])).unwrap();
    assert_eq!(delete(&mut driven), Err(ErrorCode::NonEmptyGroup));
    driven.leave(&member);
    assert_eq!(delete(&mut driven), Ok(()));
    assert_eq!(driven.offset("t", 0), None);
    assert!(Driven::snapshot(&driven.reloaded()).is_empty());
}

#[test]
fn offsets_of_a_subscribed_topic_are_not_deleted() {
    let mut driven = driven();
    let delete = |driven: &mut Driven, partitions: &[(&str, i32)]| {
        let partitions: Vec<_> = partitions.iter().map(|&(topic, partition)| (topic.into(), partition)).collect();
        driven.ask(|shard, to, now| shard.delete_offsets(&"g".into(), &partitions, to, now))
    };
    assert_eq!(delete(&mut driven, &[("t", 0)]), Err(ErrorCode::GroupIdNotFound));
    let member = driven.with_member();
    driven.commit(&commit(&member, 1, &[("t", 0, 5), ("u", 0, 6)])).unwrap();
    let subscribed = Err(ErrorCode::GroupSubscribedToTopic);
    assert_eq!(delete(&mut driven, &[("t", 0), ("u", 0), ("u", 1)]), Ok(vec![subscribed, Ok(()), Ok(())]));
    assert_eq!((driven.offset("t", 0), driven.offset("u", 0)), (Some(5), None));
}

#[test]
fn offsets_of_a_group_that_is_not_of_consumers_stay_while_it_has_members() {
    let mut driven = driven();
    let request = JoinRequest { protocol_type: "connect".into(), ..join("") };
    let _joining = driven.asked(|shard, to, now| shard.join(&request, to, now));
    let deleted = driven.ask(|shard, to, now| shard.delete_offsets(&"g".into(), &[("t".into(), 0)], to, now));
    assert_eq!(deleted, Err(ErrorCode::NonEmptyGroup));
}

#[test]
fn offsets_go_with_their_topic() {
    let mut driven = driven();
    driven.commit(&commit("", -1, &[("t", 0, 5), ("u", 0, 6)])).unwrap();
    driven.shard.topics_deleted(&["t".into()], driven.now);
    assert_eq!((driven.offset("t", 0), driven.offset("u", 0)), (None, Some(6)));
}

#[test]
fn a_topic_made_again_under_its_name_has_no_offsets() {
    let mut driven = driven();
    driven.commit(&commit("", -1, &[("t", 0, 5)])).unwrap();
    for (topic_id, expected) in [(7, Some(5)), (0, Some(5)), (8, None)] {
        let topic_id = Uuid::from_u128(topic_id);
        let wanted = crate::group::offsets::FetchTopic { topic: "t".into(), topic_id, partitions: vec![0] };
        let fetched = driven
            .ask(|shard, to, _| {
                shard.fetch(&FetchRequest { topics: FetchTopics::These(vec![wanted]), ..fetch_all() }, to)
            })
            .unwrap();
        assert_eq!(fetched[0].1[0].1.clone().unwrap().map(|committed| committed.offset), expected);
    }
}

#[test]
fn records_of_unknown_types_stay() {
    let mut driven = driven();
    let records: [(&[u8], Option<&[u8]>); 4] = [
        (b"\0\x18\0\x01g", Some(b"\0\0x")),
        (b"\0\x19\0\x01g", Some(b"\0\0y")),
        (b"\0\x19\0\x01g", None),
        (b"", Some(b"")),
    ];
    for (offset, (key, value)) in (0..).zip(records) {
        driven.shard.replay(Replayed { offset, transaction: None, key, value }, driven.now);
    }
    let kept = Encoded { key: b"\0\x18\0\x01g".to_vec(), value: Some(b"\0\0x".to_vec()) };
    assert_eq!(Driven::snapshot(&driven.shard), [kept]);
}

#[test]
fn a_loaded_group_over_the_limit_lets_its_members_join_anew() {
    let mut driven = driven();
    driven.with_member();
    let mut loaded = driven.reloaded();
    let mut lowered = GroupContext::clone(&context());
    lowered.group.size_max = 0;
    loaded.context = Arc::new(lowered);
    loaded.loaded(driven.now);
    assert_eq!(loaded.groups["g"].state_name(), "PreparingRebalance");
}

const PRODUCER: ProducerId = 77;

impl Driven {
    fn commit_in(&mut self, producer_id: ProducerId, request: &CommitRequest) -> Outcomes {
        let transaction = OpenTransaction { producer_id, producer_epoch: 0, guard: None };
        self.ask(|shard, to, now| shard.commit_transactional(request, &transaction, to, now))
    }

    fn end(&mut self, producer_id: ProducerId, commit: bool) {
        let marker = EndMarker { producer_id, producer_epoch: 0, coordinator_epoch: 0, commit, transaction_version: 0 };
        assert_eq!(self.ask(|shard, to, _| shard.end_transaction(&marker, to)), Ok(()));
    }

    fn is_unstable(&self, topic: &str) -> bool {
        self.shard.offsets.is_unstable(&OffsetKey { group: "g".into(), topic: topic.into(), partition: 0 })
    }
}

#[rstest]
#[case::committed(true, Some(9))]
#[case::aborted(false, Some(5))]
fn an_offset_of_a_transaction_counts_once_it_is_committed(#[case] commits: bool, #[case] expected: Option<i64>) {
    let mut driven = driven();
    driven.commit(&commit("", -1, &[("t", 0, 5)])).unwrap();
    assert_eq!(driven.commit_in(PRODUCER, &commit("", -1, &[("t", 0, 9)])), Ok(vec![Ok(())]));
    assert_eq!((driven.offset("t", 0), driven.is_unstable("t")), (Some(5), true));
    let loaded = driven.reloaded();
    assert_eq!(loaded.offsets.get("g", "t", 0).unwrap().offset, 5, "open after a load too");
    driven.shard = loaded;
    assert!(driven.is_unstable("t"));
    driven.end(PRODUCER, commits);
    assert_eq!((driven.offset("t", 0), driven.is_unstable("t")), (expected, false));
    assert_eq!(Driven::snapshot(&driven.reloaded()), Driven::snapshot(&driven.shard));
}

#[test]
fn the_order_of_the_records_decides_and_not_that_of_the_markers() {
    let mut driven = driven();
    driven.commit_in(PRODUCER, &commit("", -1, &[("t", 0, 9)])).unwrap();
    driven.commit(&commit("", -1, &[("t", 0, 12)])).unwrap();
    driven.end(PRODUCER, true);
    assert_eq!(driven.offset("t", 0), Some(12));
    assert_eq!(Driven::snapshot(&driven.reloaded()), Driven::snapshot(&driven.shard));
}

#[test]
fn a_transaction_that_is_fenced_or_unknown_commits_nothing() {
    let mut driven = driven();
    let error = ProducerError::NotVerified;
    driven.log.fail(Some(AppendError::Producer(error)));
    assert_eq!(driven.commit_in(PRODUCER, &commit("", -1, &[("t", 0, 9)])), Err(ErrorCode::InvalidTxnState));
    driven.log.fail(Some(AppendError::Gone));
    assert_eq!(driven.commit_in(PRODUCER, &commit("", -1, &[("t", 0, 9)])), Err(ErrorCode::NotCoordinator));
    assert!(!driven.is_unstable("t") && driven.shard.groups.is_empty());
}

#[test]
fn members_are_checked_by_the_rules_of_transactions() {
    let mut driven = driven();
    let refused = driven.commit_in(PRODUCER, &commit("m", 1, &[("t", 0, 9)]));
    assert_eq!(refused, Err(ErrorCode::IllegalGeneration), "no such group");
    let member = driven.with_member();
    let mut check = |member: &str, generation| driven.commit_in(PRODUCER, &commit(member, generation, &[("t", 0, 9)]));
    assert_eq!(check(&member, 1), Ok(vec![Ok(())]));
    assert_eq!(check(&member, 2), Err(ErrorCode::IllegalGeneration));
    assert_eq!(check("stranger", 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(check("", -1), Ok(vec![Ok(())]), "a producer from before KIP-447");
    // A commit of a group that rebalances is the last one of the old generation, unless it is of a transaction.
    let _joining = driven.asked(|shard, to, now| shard.join(&join(""), to, now));
    driven.pass(0);
    assert_eq!(driven.commit_in(PRODUCER, &commit(&member, 1, &[("t", 0, 9)])), Ok(vec![Ok(())]));
}

#[test]
fn long_notes_are_refused_in_transactions_too() {
    let mut driven = driven();
    let mut request = commit("", -1, &[("t", 0, 5), ("t", 1, 6)]);
    request.offsets[0].metadata = Some("ninebytes".into());
    let outcomes = driven.commit_in(PRODUCER, &request);
    assert_eq!(outcomes, Ok(vec![Err(ErrorCode::OffsetMetadataTooLarge), Ok(())]));
    let before = driven.log.batches();
    request.offsets.truncate(1);
    assert_eq!(driven.commit_in(PRODUCER, &request), Ok(vec![Err(ErrorCode::OffsetMetadataTooLarge)]));
    assert_eq!(driven.log.batches(), before, "nothing to write");
}

#[test]
fn offsets_of_an_open_transaction_do_not_expire() {
    let mut driven = driven();
    driven.commit(&commit("", -1, &[("t", 0, 5), ("u", 0, 6)])).unwrap();
    driven.commit_in(PRODUCER, &commit("", -1, &[("t", 0, 9), ("v", 0, 9)])).unwrap();
    driven.now.wall_ms += RETENTION_MS;
    driven.shard.upkeep(driven.now);
    assert_eq!((driven.offset("t", 0), driven.offset("u", 0)), (Some(5), None));
    assert_eq!(driven.shard.groups.len(), 1);
    driven.end(PRODUCER, false);
    driven.shard.upkeep(driven.now);
    assert!(driven.shard.groups.is_empty());
}

#[test]
fn what_is_deleted_does_not_come_back_with_a_marker() {
    let mut driven = driven();
    driven.commit_in(PRODUCER, &commit("", -1, &[("t", 0, 9), ("u", 0, 9), ("v", 0, 9)])).unwrap();
    driven.shard.topics_deleted(&["t".into()], driven.now);
    let deleted = driven.ask(|shard, to, now| shard.delete_offsets(&"g".into(), &[("u".into(), 0)], to, now));
    assert_eq!(deleted, Ok(vec![Ok(())]));
    assert_eq!((driven.is_unstable("t"), driven.is_unstable("u"), driven.is_unstable("v")), (false, false, true));
    assert_eq!(driven.ask(|shard, to, now| shard.delete_group(&"g".into(), to, now)), Ok(()));
    driven.end(PRODUCER, true);
    assert!(Driven::snapshot(&driven.shard).is_empty());
    assert!(Driven::snapshot(&driven.reloaded()).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    CommitIn(u8, u8, i64),
    End(u8, bool),
    Commit(u8, i64),
    Member,
    Join,
    Leave,
    Delete,
    DeleteOffsets(u8),
    TopicDeleted(u8),
    Expire,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8, 0..100i64).prop_map(|(topic, offset)| Step::Commit(topic, offset)),
        (0..2u8, 0..3u8, 0..100i64).prop_map(|(producer, topic, offset)| Step::CommitIn(producer, topic, offset)),
        (0..2u8, any::<bool>()).prop_map(|(producer, commit)| Step::End(producer, commit)),
        Just(Step::Member),
        Just(Step::Join),
        Just(Step::Leave),
        Just(Step::Delete),
        (0..3u8).prop_map(Step::DeleteOffsets),
        (0..3u8).prop_map(Step::TopicDeleted),
        Just(Step::Expire),
        (0..12_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happened, a load builds what the log's owner has, and the snapshot says the same.
    #[test]
    fn the_state_is_the_fold_of_the_records(steps in proptest::collection::vec(step(), 0..40)) {
        let mut driven = driven();
        let mut waiting = Vec::new();
        let topic = |topic: u8| Arc::from(["t", "u", "v"][usize::from(topic)]);
        for step in steps {
            let member = driven.shard.groups.get("g").and_then(|entry| {
                entry.classic()?.describe().members.first().map(|member| Arc::clone(&member.member_id))
            });
            match step {
                Step::Commit(name, offset) => {
                    let _ = driven.commit(&commit("", -1, &[(&topic(name), 0, offset)]));
                }
                Step::CommitIn(producer, name, offset) => {
                    let _ = driven.commit_in(producer.into(), &commit("", -1, &[(&topic(name), 0, offset)]));
                }
                Step::End(producer, commit) => driven.end(producer.into(), commit),
                Step::Member if member.is_none() => drop(driven.with_member()),
                Step::Join => waiting.push(driven.asked(|shard, to, now| shard.join(&join(""), to, now))),
                Step::Leave if member.is_some() => driven.leave(&member.unwrap()),
                Step::Member | Step::Leave => {}
                Step::Delete => drop(driven.asked(|shard, to, now| shard.delete_group(&"g".into(), to, now))),
                Step::DeleteOffsets(name) => {
                    let partitions = [(topic(name), 0)];
                    drop(driven.asked(|shard, to, now| shard.delete_offsets(&"g".into(), &partitions, to, now)));
                }
                Step::TopicDeleted(name) => driven.shard.topics_deleted(&[topic(name)], driven.now),
                Step::Expire => driven.shard.upkeep(driven.now),
                Step::Pass(ms) => driven.pass(ms),
            }
        }
        let loaded = driven.reloaded();
        prop_assert_eq!(Driven::snapshot(&loaded), Driven::snapshot(&driven.shard));
        prop_assert_eq!(loaded.groups.len(), driven.shard.groups.len());
        prop_assert_eq!(loaded.journal.next_offset(), driven.shard.journal.next_offset());
    }

    #[test]
    fn any_record_can_be_replayed(key in any::<Vec<u8>>(), value: Option<Vec<u8>>) {
        let replayed = Replayed { offset: 0, transaction: None, key: &key, value: value.as_deref() };
        driven().shard.replay(replayed, Now { mono_ms: 0, wall_ms: 0 });
    }
}

#[test]
fn a_snapshot_carries_what_rebuilds_an_offset() {
    let mut driven = driven();
    driven.commit(&commit("", -1, &[("t", 3, 5)])).unwrap();
    let records = Driven::snapshot(&driven.shard);
    let key = OffsetKey { group: "g".into(), topic: "t".into(), partition: 3 };
    let committed = Committed {
        offset: 5,
        leader_epoch: 2,
        metadata: "m".into(),
        commit_timestamp: 5000,
        expire_timestamp: None,
        topic_id: Uuid::from_u128(7),
    };
    assert_eq!(Record::decode(&records[0].key, records[0].value.as_deref()), Ok(Record::Offset(key, Some(committed))));
}

#[test]
fn appends_are_compressed_as_configured_and_read_again() {
    let mut context = GroupContext::clone(&context());
    context.offsets.compression_codec = 4;
    let log = Arc::new(FakeLog::default());
    let journal = || Journal::new(Arc::clone(&log) as Arc<dyn ShardLog>);
    let context = Arc::new(context);
    let mut driven = Driven { shard: Shard::new(&context, journal()), log: Arc::clone(&log), now: driven().now };
    driven.commit(&commit("", -1, &[("t", 0, 5)])).unwrap();
    let bytes = log.read(0).unwrap();
    assert_eq!(BatchView::split_first(&bytes).unwrap().0.compression_id(), 4);
    let mut loaded = Shard::new(&context, journal());
    replay(&mut loaded, &bytes, 0, driven.now);
    assert_eq!(Driven::snapshot(&loaded), Driven::snapshot(&driven.shard));
}
