//! Streams groups in a shard: what the log keeps, and what other requests find.

use super::*;
use crate::group::streams::heartbeat::{HeartbeatAnswer, HeartbeatRequest};
use crate::group::streams::tasks::each;
use crate::group::streams::topology::{Subtopology, Topology};
use crate::metadata::image::{Change, Topic};
use crate::metadata::store::MetadataStore;

/// With topic "t" of two partitions.
async fn with_topic() -> Driven {
    let store = FakeStore::new();
    let topic = Topic {
        id: Uuid::from_u128(7),
        name: "t".into(),
        partition_count: 2,
        replication_factor: 1,
        config: Default::default(),
    };
    store.commit(None, vec![Change::CreateTopic(topic)]).await.unwrap();
    let context = Arc::new(GroupContext { metadata: store, ..GroupContext::clone(&context()) });
    let log = Arc::new(FakeLog::default());
    let shard = Shard::new(&context, Journal::new(Arc::clone(&log) as Arc<dyn ShardLog>));
    Driven { shard, log, now: Now { mono_ms: 0, wall_ms: 5000 } }
}

fn beat(member: &str, epoch: i32) -> HeartbeatRequest {
    HeartbeatRequest { group: "g".into(), member_id: member.into(), epoch, ..HeartbeatRequest::default() }
}

fn joins(member: &str) -> HeartbeatRequest {
    let one = Subtopology { source_topics: vec!["t".into()], ..Subtopology::default() };
    let topology = Topology { epoch: 0, subtopologies: [("0".into(), one)].into() };
    HeartbeatRequest {
        rebalance_timeout_ms: Some(30_000),
        topology: Some(topology),
        process_id: Some(member.into()),
        ..beat(member, 0)
    }
}

impl Driven {
    fn streams_beat(&mut self, request: HeartbeatRequest) -> Result<HeartbeatAnswer, ErrorCode> {
        let answer = self.ask(|shard, to, now| shard.streams_heartbeat(&request, to, now));
        answer.map_err(|refused| refused.code)
    }

    fn described(&mut self) -> crate::group::streams::describe::Description {
        self.ask(|shard, to, _| shard.describe_streams(&"g".into(), to)).unwrap()
    }

    fn commits(&mut self, member: &str, epoch: i32) -> Outcomes {
        let request = CommitRequest { knows_group_id_not_found: true, ..commit(member, epoch, &[("t", 0, 4)]) };
        self.ask(|shard, to, now| shard.commit(&request, to, now))
    }
}

#[tokio::test]
async fn members_keep_epochs_and_tasks_through_a_load() {
    let mut driven = with_topic().await;
    let joined = driven.streams_beat(joins("a")).unwrap();
    assert_eq!(each(&joined.tasks.unwrap().active).count(), 2);
    assert_eq!(driven.commits("a", joined.epoch), Ok(vec![Ok(())]));
    let mut loaded = driven.reload();
    assert_eq!(loaded.described(), driven.described());
    let lives = loaded.streams_beat(beat("a", joined.epoch)).unwrap();
    assert_eq!((lives.epoch, lives.tasks), (joined.epoch, None));
    assert_eq!(loaded.kind(), ("streams", "Stable"));
    // Its session began anew, and ends.
    loaded.pass(44_999);
    assert_eq!(loaded.kind(), ("streams", "Stable"));
    loaded.pass(1);
    assert_eq!(loaded.kind(), ("streams", "Empty"));
}

#[tokio::test]
async fn commits_and_reads_need_the_members_epoch() {
    let mut driven = with_topic().await;
    let joined = driven.streams_beat(joins("a")).unwrap();
    assert_eq!(driven.commits("a", joined.epoch + 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(driven.commits("a", joined.epoch - 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(driven.commits("x", joined.epoch), Err(ErrorCode::UnknownMemberId));
    assert_eq!(driven.commits("", -1), Err(ErrorCode::UnknownMemberId));
    // Its epoch rises, but the task has been its own since before.
    driven.streams_beat(HeartbeatRequest { process_id: Some("other".into()), ..beat("a", joined.epoch) }).unwrap();
    assert_eq!(driven.commits("a", joined.epoch), Ok(vec![Ok(())]));
    let old = CommitRequest { knows_group_id_not_found: false, ..commit("a", joined.epoch, &[("t", 0, 4)]) };
    assert_eq!(driven.ask(|shard, to, now| shard.commit(&old, to, now)), Err(ErrorCode::UnsupportedVersion));
    let read = |member_id: Option<&str>, member_epoch| FetchRequest {
        group: "g".into(),
        member_id: member_id.map(Arc::from),
        member_epoch,
        require_stable: false,
        topics: FetchTopics::All,
    };
    assert!(driven.ask(|shard, to, _| shard.fetch(&read(None, -1), to)).is_ok());
    let stale = driven.ask(|shard, to, _| shard.fetch(&read(Some("a"), joined.epoch), to));
    assert_eq!(stale.unwrap_err(), ErrorCode::StaleMemberEpoch);
}

#[tokio::test]
async fn an_empty_group_changes_its_protocol() {
    let mut driven = with_topic().await;
    // Offsets alone make a classic group.
    assert_eq!(driven.commits("", -1), Ok(vec![Ok(())]));
    let joined = driven.streams_beat(joins("a")).unwrap();
    assert_eq!(driven.kind(), ("streams", "Stable"));
    let refused = driven.ask(|shard, to, now| shard.join(&join(""), to, now));
    assert_eq!(refused.error, ErrorCode::InconsistentGroupProtocol);
    let other = driven.ask(|shard, to, _| shard.describe(&Arc::from("g"), to));
    assert_eq!(other.unwrap_err().code, ErrorCode::GroupIdNotFound);
    let delete = |driven: &mut Driven| driven.ask(|shard, to, now| shard.delete_group(&"g".into(), to, now));
    assert_eq!(delete(&mut driven), Err(ErrorCode::NonEmptyGroup));
    driven.streams_beat(beat("a", -1)).unwrap();
    assert_eq!(driven.kind(), ("streams", "Empty"));
    assert_eq!(driven.streams_beat(beat("a", joined.epoch)), Err(ErrorCode::UnknownMemberId));
    let mut joining = driven.asked(|shard, to, now| shard.join(&join(""), to, now));
    driven.pass(0);
    assert_eq!(joining.try_recv().unwrap().error, ErrorCode::None);
    assert_eq!(driven.streams_beat(joins("a")), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(driven.reload().kind().0, "classic");
}

#[tokio::test]
async fn a_refused_append_changes_nothing() {
    let mut driven = with_topic().await;
    let joined = driven.streams_beat(joins("a")).unwrap();
    let before = driven.described();
    driven.log.fail(Some(AppendError::Storage));
    assert!(driven.streams_beat(joins("b")).is_err());
    assert_eq!(driven.described(), before);
    driven.log.fail(None);
    assert!(driven.streams_beat(beat("a", joined.epoch)).is_ok());
}

#[tokio::test]
async fn a_deleted_group_leaves_nothing() {
    let mut driven = with_topic().await;
    driven.streams_beat(joins("a")).unwrap();
    driven.streams_beat(beat("a", -1)).unwrap();
    let deleted = driven.ask(|shard, to, now| shard.delete_group(&"g".into(), to, now));
    assert_eq!(deleted, Ok(()));
    assert!(driven.shard.groups.is_empty() && driven.reload().shard.groups.is_empty());
    assert_eq!(driven.streams_beat(beat("a", 2)), Err(ErrorCode::GroupIdNotFound));
}
