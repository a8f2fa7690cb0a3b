use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use terrace_tiering::platform::clock::ManualClock;
use terrace_tiering::platform::random::SeededRandom;
use terrace_tiering::platform::task::Tasks;
use uuid::Uuid;

use super::*;
use crate::config::server::{
    ConsumerGroupSettings, GroupSettings, OffsetsSettings, ShareGroupSettings, StreamsGroupSettings,
};
use crate::coordinator::log::ShardLog;
use crate::coordinator::log::fake::{FakeLog, FakeLogs};
use crate::group::internal_topic::OFFSETS_TOPIC;
use crate::group::offsets::{CommitOffset, FetchTopics};
use crate::metadata::fake::FakeStore;
use crate::metadata::image::{Change, Topic};
use crate::metadata::store::{CommitError, MetadataStore, SharedMetadata};

struct Node {
    groups: Arc<GroupCoordinator>,
    deps: ShardsDeps,
    context: GroupContext,
    log: Arc<FakeLog>,
    store: Arc<FakeStore>,
    tasks: Tasks,
}

/// One partition, so that one fake log serves all groups.
fn node() -> Node {
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
        retention_ms: 1000,
        retention_check_interval_ms: 600_000,
        metadata_bytes_max: 4096,
        commit_timeout_ms: 5000,
    };
    let (log, store, tasks) = (Arc::new(FakeLog::default()), FakeStore::new(), Tasks::new());
    let deps = ShardsDeps {
        metadata: Arc::clone(&store) as SharedMetadata,
        logs: Arc::new(FakeLogs(Arc::clone(&log))),
        clock: ManualClock::at(5000),
        random: SeededRandom::new(2),
        tasks: tasks.clone(),
    };
    let context = GroupContext {
        group,
        offsets,
        rack: None,
        random: SeededRandom::new(2),
        metadata: deps.metadata.clone(),
        new_topics: Arc::default(),
    };
    let groups = GroupCoordinator::new(deps.clone(), context.clone());
    groups.start();
    Node { groups, deps, context, log, store, tasks }
}

fn commit(offset: i64) -> CommitRequest {
    CommitRequest {
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        generation: -1,
        retention_ms: None,
        knows_group_id_not_found: true,
        offsets: vec![CommitOffset {
            topic: "t".into(),
            topic_id: Uuid::nil(),
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: None,
        }],
    }
}

impl Node {
    async fn loaded(&self) {
        self.groups.find().await.unwrap();
        while !self.groups.is_loaded() {
            tokio::task::yield_now().await;
        }
    }

    async fn offset(&self) -> Result<Option<i64>, ErrorCode> {
        let request = FetchRequest {
            group: "g".into(),
            member_id: None,
            member_epoch: -1,
            require_stable: false,
            topics: FetchTopics::All,
        };
        let fetched = self.groups.fetch(request).await?;
        let first = fetched.into_iter().next().and_then(|(_, mut partitions)| partitions.remove(0).1.unwrap());
        Ok(first.map(|committed| committed.offset))
    }
}

#[tokio::test]
async fn who_looks_for_the_coordinator_first_makes_its_topic() {
    let node = node();
    assert_eq!(node.groups.commit(commit(1)).await, Err(ErrorCode::NotCoordinator));
    assert_eq!(node.groups.list().await, Ok(Vec::new()));
    assert!(node.groups.is_loaded(), "nothing to load");
    node.loaded().await;
    let image = node.store.image();
    let topic = image.topic(OFFSETS_TOPIC).unwrap();
    assert_eq!((topic.partition_count, topic.replication_factor), (1, 1), "at most the live brokers");
    assert_eq!(topic.config["cleanup.policy"], "compact");
    assert_eq!(topic.config["compression.type"], "producer");
    assert_eq!(topic.config["segment.bytes"], (1 << 20).to_string());
    node.groups.find().await.unwrap();
    assert_eq!(node.store.image().generation, image.generation, "made once");
}

#[tokio::test]
async fn without_its_topic_there_is_no_coordinator() {
    let node = node();
    node.store.fail_commit(CommitError::Store("full".to_owned()));
    assert_eq!(node.groups.find().await, Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(node.groups.find().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn while_a_shard_loads_it_says_so() {
    let node = node();
    node.log.unreadable(true);
    // Something to load.
    let mut batch = crate::protocol::batch_builder::BatchBuilder::new(0);
    batch.push(0, 0, Some(b"\0\x09"), None, [].into_iter());
    let _ = node.log.append(&mut batch.finish(), None).unwrap();
    node.groups.find().await.unwrap();
    assert!(!node.groups.is_loaded());
    let loading = ErrorCode::CoordinatorLoadInProgress;
    assert_eq!(node.groups.commit(commit(1)).await, Err(loading));
    assert_eq!(node.groups.list().await, Err(loading));
    assert_eq!(node.groups.shards().write_section(&mut BytesMut::new()).await, None);
    let heartbeat = HeartbeatRequest { group: "g".into(), member_id: "m".into(), instance_id: None, generation: 1 };
    assert_eq!(node.groups.heartbeat(heartbeat).await, Ok(()), "a member must not join anew for that");
    node.log.unreadable(false);
    while !node.groups.is_loaded() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node.groups.commit(commit(1)).await, Ok(vec![Ok(())]));
}

#[tokio::test]
async fn a_rejected_append_unloads_and_loads_what_the_log_has() {
    let node = node();
    node.loaded().await;
    node.groups.commit(commit(1)).await.unwrap();
    node.log.hold();
    let (committed, ()) = tokio::join!(node.groups.commit(commit(2)), async {
        while node.log.batches() < 2 {
            tokio::task::yield_now().await;
        }
        node.log.reject_all();
    });
    assert_eq!(committed, Err(ErrorCode::NotCoordinator));
    let offset = loop {
        match node.offset().await {
            Err(ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator) => tokio::task::yield_now().await,
            offset => break offset,
        }
    };
    assert_eq!(offset, Ok(Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_does_not_become_durable_in_time_is_refused() {
    let node = node();
    node.loaded().await;
    node.log.hold();
    assert_eq!(node.groups.commit(commit(1)).await, Err(ErrorCode::CoordinatorNotAvailable));
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let before = node();
    before.loaded().await;
    for offset in 1..5 {
        before.groups.commit(commit(offset)).await.unwrap();
    }
    assert!(before.tasks.stop(Duration::from_secs(5)).await);
    assert_eq!(before.groups.commit(commit(9)).await, Err(ErrorCode::NotCoordinator));
    // Another coordinator on the same log and store.
    let deps = ShardsDeps { tasks: Tasks::new(), ..before.deps };
    let groups = GroupCoordinator::new(deps.clone(), before.context.clone());
    groups.start();
    let after = Node { groups, tasks: deps.tasks.clone(), deps, ..before };
    after.loaded().await;
    assert_eq!(after.offset().await, Ok(Some(4)));
}

#[tokio::test]
async fn a_topic_that_is_deleted_takes_its_offsets_along() {
    let node = node();
    node.loaded().await;
    let id = Uuid::from_u128(3);
    let topic = Topic { id, name: "t".into(), partition_count: 1, replication_factor: 1, config: Default::default() };
    node.store.commit(None, vec![Change::CreateTopic(topic)]).await.unwrap();
    node.groups.commit(commit(1)).await.unwrap();
    // The follower has seen the topic once it is idle again.
    tokio::time::sleep(Duration::from_millis(1)).await;
    node.store.commit(None, vec![Change::DeleteTopic(id)]).await.unwrap();
    while node.offset().await != Ok(None) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn deadlines_come_without_a_request() {
    let node = node();
    node.loaded().await;
    let request = JoinRequest {
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/::1".into(),
        session_timeout_ms: 6000,
        rebalance_timeout_ms: 6000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::new())],
        needs_known_member_id: false,
        understands_skip_assignment: false,
    };
    let joined = node.groups.join(request.clone()).await;
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
    tokio::time::sleep(Duration::from_millis(6001)).await;
    assert_eq!(node.groups.describe("g".into()).await.unwrap().state, "Empty");

    let short = node.groups.join(JoinRequest { session_timeout_ms: 5999, ..request.clone() }).await;
    assert_eq!(short.error, ErrorCode::InvalidSessionTimeout);
    let nameless = node.groups.join(JoinRequest { group: "".into(), ..request }).await;
    assert_eq!(nameless.error, ErrorCode::InvalidGroupId);
}

#[tokio::test]
async fn the_section_of_a_snapshot_has_all_records_of_all_shards() {
    let node = node();
    node.loaded().await;
    let before = node.groups.shards().version();
    node.groups.commit(commit(1)).await.unwrap();
    let mut section = BytesMut::new();
    node.groups.shards().write_section(&mut section).await.unwrap();
    assert!(node.groups.shards().version() > before);
    assert_eq!((section.get_i32(), section.get_i64(), section.get_u32()), (0, 1, 1));
    let key = section.get_u32() as usize;
    assert_eq!(&section.split_to(key)[..], b"\0\x01\0\x01g\0\x01t\0\0\0\0");
    let value = section.get_u32() as usize;
    assert_eq!(section.len(), value);
}
