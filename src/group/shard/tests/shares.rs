//! Share groups in a shard: what the log keeps of the states of their partitions.

use super::*;
use crate::group::consumer::Partitions;
use crate::group::share::heartbeat::HeartbeatRequest;
use crate::metadata::image::{Change, Topic};
use crate::metadata::store::MetadataStore;

fn topic(id: u128) -> Topic {
    let id = Uuid::from_u128(id);
    Topic { id, name: "t".into(), partition_count: 2, replication_factor: 1, config: Default::default() }
}

/// With topic "t" of two partitions.
async fn with_topic() -> (Driven, Arc<FakeStore>) {
    let store = FakeStore::new();
    store.commit(None, vec![Change::CreateTopic(topic(7))]).await.unwrap();
    let context = Arc::new(GroupContext { metadata: Arc::clone(&store) as _, ..GroupContext::clone(&context()) });
    let log = Arc::new(FakeLog::default());
    let shard = Shard::new(&context, Journal::new(Arc::clone(&log) as Arc<dyn ShardLog>));
    (Driven { shard, log, now: Now { mono_ms: 0, wall_ms: 5000 } }, store)
}

impl Driven {
    fn share_beat(&mut self, epoch: i32) -> Lives {
        let request = HeartbeatRequest {
            group: "g".into(),
            member_id: "m".into(),
            epoch,
            rack_id: None,
            topics: (epoch == 0).then(|| ["t".into()].into()),
            client_id: "c".into(),
            client_host: "/1".into(),
        };
        self.ask(|shard, to, now| shard.share_heartbeat(&request, to, now)).unwrap()
    }

    fn change(&mut self, change: StatesChange) -> Result<(), ErrorCode> {
        self.ask(|shard, to, now| shard.change_share_states(&"g".into(), change, to, now))
    }

    fn states(&mut self) -> crate::group::share::records::StatePartitions {
        self.ask(|shard, to, _| shard.share_states(&"g".into(), false, to)).unwrap()
    }
}

fn wanted(id: u128) -> Partitions {
    [(Uuid::from_u128(id), [0, 1].into())].into()
}

#[tokio::test]
async fn states_of_a_group_with_members_are_not_forgotten() {
    let (mut driven, _store) = with_topic().await;
    assert_eq!(*driven.share_beat(0).uninitialized, wanted(7));
    assert_eq!(driven.change(StatesChange::Initialized(wanted(7))), Ok(()));
    let kept = driven.states();
    assert!(!kept.initialized.is_empty());
    // Who joined behind the question whether there are members.
    let deleting = StatesChange::Deleting(kept.topics());
    assert_eq!(driven.change(deleting.clone()), Err(ErrorCode::NonEmptyGroup));
    assert_eq!(driven.states(), kept);
    driven.share_beat(-1);
    assert_eq!(driven.change(deleting), Ok(()));
    // A crash here leaves that it is under deletion, and who joins then is not told to read.
    let mut loaded = driven.reload();
    assert!(loaded.states().initialized.is_empty() && loaded.states().topics() == kept.topics());
    let joined = loaded.share_beat(0);
    assert_eq!((&*joined.uninitialized, joined.answer.assignment), (&wanted(7), Some(Partitions::new())));
    assert_eq!(loaded.change(StatesChange::Deleted(kept.topics())), Ok(()));
    assert_eq!(loaded.change(StatesChange::Initialized(wanted(7))), Ok(()));
    assert!(loaded.share_beat(joined.answer.epoch).uninitialized.is_empty());
}

#[tokio::test]
async fn a_state_that_is_missing_is_asked_for_again() {
    let (mut driven, _store) = with_topic().await;
    let joined = driven.share_beat(0).answer;
    assert_eq!(driven.change(StatesChange::Initialized(wanted(7))), Ok(()));
    let reads = driven.share_beat(joined.epoch);
    assert_eq!((reads.answer.assignment, reads.uninitialized.is_empty()), (Some(wanted(7)), true));
    let missing: Partitions = [(Uuid::from_u128(7), [1].into())].into();
    assert_eq!(driven.change(StatesChange::Missing(missing.clone())), Ok(()));
    let next = driven.share_beat(reads.answer.epoch);
    assert_eq!(
        (&*next.uninitialized, next.answer.epoch),
        (&missing, reads.answer.epoch),
        "its member keeps what it has"
    );
    assert_eq!(driven.change(StatesChange::Initialized(missing)), Ok(()));
    assert!(driven.share_beat(reads.answer.epoch).uninitialized.is_empty());
}

#[tokio::test]
async fn states_of_a_topic_that_is_another_now_go() {
    let (mut driven, store) = with_topic().await;
    let joined = driven.share_beat(0).answer;
    assert_eq!(driven.change(StatesChange::Initialized(wanted(7))), Ok(()));
    store.commit(None, vec![Change::DeleteTopic(topic(7).id)]).await.unwrap();
    store.commit(None, vec![Change::CreateTopic(topic(8))]).await.unwrap();
    let lives = driven.share_beat(joined.epoch);
    assert_eq!(*lives.uninitialized, wanted(8));
    assert_eq!(driven.change(StatesChange::Initialized(wanted(8))), Ok(()));
    driven.shard.topics_deleted(&["t".into()], driven.now);
    assert_eq!(driven.states().topics(), [Uuid::from_u128(8)]);
    assert_eq!(driven.reload().states(), driven.states());
}
