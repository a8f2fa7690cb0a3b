use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::InMemoryBackend;
use terrace_tiering::platform::fs::RealFs;
use terrace_tiering::platform::random::SeededRandom;

use super::super::at_rest::AtRest;
use super::super::image::{PartitionId, Topic};
use super::super::remote_log::{RemoteLogError, RemoteLogMetadata, RemotePartition, RemoteSegment, SegmentState};
use super::super::remote_replacement::Replacement;
use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open_as(&self, cluster_id: Option<&str>) -> Result<Arc<EmbeddedStore>, OpenError> {
        EmbeddedStore::open(&RealFs, &self.0.path().join("meta.redb"), cluster_id, &*SeededRandom::new(3))
    }

    fn open(&self) -> Arc<EmbeddedStore> {
        self.open_as(None).unwrap()
    }
}

fn topic(n: u128) -> Topic {
    Topic {
        id: Uuid::from_u128(n),
        name: format!("t{n}").into(),
        partition_count: 3,
        replication_factor: 1,
        config: BTreeMap::from([("segment.bytes".to_owned(), n.to_string())]),
    }
}

fn names(image: &Image) -> Vec<&str> {
    image.topics.keys().map(|name| &**name).collect()
}

#[tokio::test]
async fn a_reopened_store_knows_what_was_committed() {
    let place = Place::new();
    let store = place.open();
    let cluster_id = store.image().cluster_id.clone();
    let config = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let entity = BTreeMap::from([("user".to_owned(), None), ("client-id".to_owned(), Some("c".to_owned()))]);
    let quotas = BTreeMap::from([("request_percentage".to_owned(), 12.5)]);
    let changes = vec![
        Change::CreateTopic(topic(1)),
        Change::CreateTopic(topic(2)),
        Change::SetBrokerConfig { broker: String::new(), config: config.clone() },
        Change::SetGroupConfig { group: "g".to_owned(), config: config.clone() },
        Change::SetClientMetrics { subscription: "s".to_owned(), config: config.clone() },
        Change::SetClientMetrics { subscription: "gone".to_owned(), config: BTreeMap::new() },
        Change::SetClientQuotas { entity: entity.clone(), quotas: quotas.clone() },
        Change::SetFeature { feature: Feature::Share, level: 0 },
    ];
    store.commit(None, changes).await.unwrap();
    let changes = vec![
        Change::DeleteTopic(topic(1).id),
        Change::SetPartitionCount { topic: topic(2).id, count: 9 },
        Change::SetTopicConfig { topic: topic(2).id, config: config.clone() },
    ];
    let last = store.commit(None, changes).await.unwrap();
    drop(store);

    let image = place.open().image();
    assert_eq!(image.cluster_id, cluster_id);
    assert_eq!(image.generation, last.generation);
    assert_eq!(names(&image), ["t2"]);
    let expected = Topic { partition_count: 9, config: config.clone(), ..topic(2) };
    assert_eq!(**image.topic_by_id(&topic(2).id).unwrap(), expected);
    assert_eq!(image.broker_configs, BTreeMap::from([(String::new(), config.clone())]));
    assert_eq!(image.group_configs, BTreeMap::from([("g".to_owned(), config.clone())]));
    assert_eq!(image.client_metrics, BTreeMap::from([("s".to_owned(), config)]));
    assert_eq!(image.client_quotas, BTreeMap::from([(entity, quotas)]));
    assert_eq!(image.features.level(Feature::Share), 0);
    assert_eq!(image.features.level(Feature::Transaction), 2);
}

#[tokio::test]
async fn every_open_raises_the_boot_counter() {
    let place = Place::new();
    let epochs: Vec<_> = (0..3).map(|_| place.open().image().node_epoch).collect();
    assert_eq!(epochs, [0, 1, 2]);
}

#[tokio::test]
async fn the_cluster_id_is_the_one_given_at_first() {
    let place = Place::new();
    assert_eq!(&*place.open_as(Some("one")).unwrap().image().cluster_id, "one");
    assert_eq!(&*place.open().image().cluster_id, "one");
    assert!(matches!(place.open_as(Some("two")), Err(OpenError::OtherCluster { .. })));
    // A refused open must not have counted as a boot.
    assert_eq!(place.open().image().node_epoch, 2);
}

#[tokio::test]
async fn producer_ids_are_never_given_twice_over_a_restart() {
    let place = Place::new();
    let store = place.open();
    assert_eq!(store.allocate_producer_ids(1000).await.unwrap(), 0..1000);
    assert_eq!(store.allocate_producer_ids(10).await.unwrap(), 1000..1010);
    assert!(store.allocate_producer_ids(0).await.is_err());
    drop(store);
    assert_eq!(place.open().allocate_producer_ids(1).await.unwrap(), 1010..1011);
}

#[tokio::test]
async fn a_refused_step_undoes_its_whole_commit_and_no_other() {
    let place = Place::new();
    let store = place.open();
    let commits = [
        vec![Change::CreateTopic(topic(1))],
        vec![Change::CreateTopic(topic(2)), Change::CreateTopic(topic(1))],
        vec![Change::CreateTopic(topic(3))],
        vec![Change::DeleteTopic(topic(9).id)],
    ];
    let outcomes = futures::future::join_all(commits.into_iter().map(|changes| store.commit(None, changes))).await;
    assert!(matches!(
        &outcomes[..],
        [Ok(_), Err(CommitError::TopicExists(_)), Ok(_), Err(CommitError::NoSuchTopic(_))]
    ));
    assert_eq!(names(&store.image()), ["t1", "t3"]);
    assert_eq!(store.image().generation, 2);
    drop(store);
    assert_eq!(names(&place.open().image()), ["t1", "t3"]);
}

#[tokio::test]
async fn one_of_two_commits_on_the_same_generation_conflicts() {
    let store = Place::new().open();
    let seen = store.image().generation;
    let commits = (1..=2).map(|n| store.commit(Some(seen), vec![Change::CreateTopic(topic(n))]));
    let outcomes = futures::future::join_all(commits).await;
    assert!(matches!(&outcomes[..], [Ok(_), Err(CommitError::Conflict)]));
}

#[tokio::test]
async fn watchers_see_the_new_image() {
    let store = Place::new().open();
    let mut watch = store.watch();
    store.commit(None, vec![Change::CreateTopic(topic(1))]).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(names(&watch.borrow()), ["t1"]);
}

#[tokio::test]
async fn ten_thousand_topics_come_in_one_by_one_and_are_read_back() {
    let place = Place::new();
    let store = place.open();
    let commits = (0..10_000).map(|n| store.commit(None, vec![Change::CreateTopic(topic(n))]));
    let outcomes = futures::future::join_all(commits).await;
    assert!(outcomes.iter().all(Result::is_ok));
    drop((outcomes, store));
    assert_eq!(place.open().image().topics.len(), 10_000);
}

const P: PartitionId = PartitionId { topic: Uuid::from_u128(5), partition: 2 };

fn segment(base_offset: i64) -> RemoteSegment {
    RemoteSegment { state: SegmentState::CopyStarted, ..RemoteSegment::covering(base_offset, base_offset + 9) }
}

#[tokio::test]
async fn a_segment_goes_through_its_states_and_survives_reopening() {
    let place = Place::new();
    let store = place.open();
    assert_eq!(store.begin_copy(P, 0, 0, segment(0)).await.unwrap(), 1);
    assert_eq!(store.begin_copy(P, 0, 1, segment(10)).await.unwrap(), 2);
    assert!(store.load(P).await.unwrap().chain().segments.is_empty(), "a started copy is never read");
    assert_eq!(store.finish_copy(P, 0, 2, segment(0)).await.unwrap(), 3);
    drop(store);

    let store = place.open();
    let known = store.load(P).await.unwrap();
    assert_eq!((known.generation, known.leader_epoch, known.log_start), (3, 0, -1));
    assert_eq!(known.segments[0].state, SegmentState::CopyFinished);
    assert_eq!(known.chain().end(), Some(10));
    assert_eq!(store.partitions().await.unwrap(), [P]);

    let uuids = [segment(0).uuid];
    assert_eq!(store.mark_deleted(P, 1, 3, &uuids, 10, 77).await.unwrap(), 4);
    assert_eq!(store.mark_deleted(P, 1, 4, &uuids, 5, 99).await.unwrap(), 5);
    let known = store.load(P).await.unwrap();
    assert_eq!(known.segments[0].state, SegmentState::DeleteStarted { at_ms: 77 }, "the first mark counts");
    assert_eq!(known.log_start, 10, "the log start never falls");
    assert_eq!(store.finish_delete(P, 1, 5, &uuids).await.unwrap(), 6);
    assert_eq!(store.finish_delete(P, 1, 6, &uuids).await.unwrap(), 7);
    assert_eq!(store.load(P).await.unwrap().segments.len(), 1);
    store.forget(P).await.unwrap();
    assert!(store.partitions().await.unwrap().is_empty());
    assert!(store.load(P).await.unwrap().segments.is_empty());
}

#[tokio::test]
async fn remote_changes_are_refused_to_whoever_is_behind() {
    let store = Place::new().open();
    store.begin_copy(P, 3, 0, segment(0)).await.unwrap();
    let fenced = [
        store.finish_copy(P, 3, 0, segment(0)).await, // older generation
        store.finish_copy(P, 2, 1, segment(0)).await, // older epoch
        store.begin_copy(P, 3, 9, segment(10)).await, // a generation that never was
    ];
    assert!(fenced.iter().all(|outcome| matches!(outcome, Err(RemoteLogError::Fenced))), "{fenced:?}");
    let uuid = segment(0).uuid;
    let wrong_state = [
        store.begin_copy(P, 3, 1, segment(0)).await,
        store.finish_copy(P, 3, 1, segment(10)).await,
        store.mark_deleted(P, 3, 1, &[Uuid::from_u128(1)], 0, 0).await,
    ];
    assert!(wrong_state.iter().all(|outcome| matches!(outcome, Err(RemoteLogError::BadState(_)))), "{wrong_state:?}");
    store.finish_copy(P, 3, 1, segment(0)).await.unwrap();
    assert!(
        matches!(store.finish_delete(P, 3, 2, &[uuid]).await, Err(RemoteLogError::BadState(_))),
        "a readable segment is not forgotten"
    );
}

#[tokio::test]
async fn a_run_is_replaced_at_once_or_not_at_all_and_survives_reopening() {
    let place = Place::new();
    let store = place.open();
    let mut generation = 0;
    for base in [0, 10, 20, 30] {
        store.begin_copy(P, 0, generation, segment(base)).await.unwrap();
        generation = store.finish_copy(P, 0, generation + 1, segment(base)).await.unwrap();
    }
    let new = RemoteSegment { uuid: Uuid::from_u128(99), base_offset: 10, last_offset: 29, ..segment(10) };
    let replaced = vec![segment(10).uuid, segment(20).uuid];
    let replacement = Replacement { replaced, by: vec![new.clone()], now_ms: 77 };
    let unannounced = store.replace(P, 0, generation, &replacement).await;
    assert!(matches!(unannounced, Err(RemoteLogError::BadState(_))), "{unannounced:?}");
    generation = store.begin_copy(P, 0, generation, new.clone()).await.unwrap();
    let too_few = Replacement { replaced: vec![segment(10).uuid], ..replacement.clone() };
    assert!(matches!(store.replace(P, 0, generation, &too_few).await, Err(RemoteLogError::BadState(_))));
    assert!(matches!(store.replace(P, 0, generation - 1, &replacement).await, Err(RemoteLogError::Fenced)));
    let bases = |known: &RemotePartition| known.chain().segments.iter().map(|s| s.base_offset).collect::<Vec<_>>();
    assert_eq!(bases(&store.load(P).await.unwrap()), [0, 10, 20, 30], "nothing of a refused one is there");
    generation = store.replace(P, 0, generation, &replacement).await.unwrap();
    drop(store);

    let known = place.open().load(P).await.unwrap();
    assert_eq!((known.generation, known.log_start), (generation, -1), "the log start stays");
    assert_eq!(bases(&known), [0, 10, 30]);
    assert_eq!(*known.chain().segments[1], RemoteSegment { state: SegmentState::CopyFinished, ..new });
    let marked = known.segments.iter().filter(|s| s.state == SegmentState::DeleteStarted { at_ms: 77 });
    assert!(marked.map(|s| s.uuid).eq(replacement.replaced), "the old ones wait out their grace time");
}

#[tokio::test]
async fn partitions_do_not_see_each_others_segments() {
    let store = Place::new().open();
    let other = PartitionId { partition: 3, ..P };
    store.begin_copy(P, 0, 0, segment(0)).await.unwrap();
    store.begin_copy(other, 0, 0, segment(0)).await.unwrap();
    store.forget(P).await.unwrap();
    assert_eq!(store.load(other).await.unwrap().segments.len(), 1);
    assert_eq!(store.partitions().await.unwrap(), [other]);
}

/// A disk whose syncs fail from some moment on.
#[derive(Debug)]
struct FailingDisk {
    inner: InMemoryBackend,
    broken: Arc<AtomicBool>,
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) { Err(io::Error::other("disk is gone")) } else { self.inner.sync_data() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
}

#[tokio::test]
async fn a_failed_sync_commits_nothing_that_was_answered() {
    let broken = Arc::new(AtomicBool::new(false));
    let disk = FailingDisk { inner: InMemoryBackend::new(), broken: Arc::clone(&broken) };
    let store = EmbeddedStore::open_backend(disk, None, &*SeededRandom::new(3)).unwrap();
    store.commit(None, vec![Change::CreateTopic(topic(1))]).await.unwrap();
    broken.store(true, Ordering::SeqCst);
    let refused = store.commit(None, vec![Change::CreateTopic(topic(2))]).await;
    assert!(matches!(refused, Err(CommitError::Store(_))), "{refused:?}");
    assert!(store.allocate_producer_ids(1).await.is_err());
    assert!(matches!(store.begin_copy(P, 0, 0, segment(0)).await, Err(RemoteLogError::Store(_))));
    assert_eq!(names(&store.image()), ["t1"], "nobody sees what is not durable");
    assert_eq!(store.image().generation, 1);
}

#[tokio::test]
async fn a_look_at_a_stopped_store_changes_nothing() {
    let place = Place::new();
    let store = place.open_as(Some("c")).unwrap();
    let id = PartitionId { topic: Uuid::from_u128(1), partition: 0 };
    store.begin_copy(id, 0, 0, segment(7)).await.unwrap();
    drop(store);
    let path = place.0.path().join("meta.redb");
    for _ in 0..3 {
        let found = AtRest::read(&RealFs, &path, "c").unwrap();
        assert_eq!((found.node_epoch, found.segments), (0, [segment(7).uuid].into()));
    }
    assert!(matches!(AtRest::read(&RealFs, &path, "d"), Err(OpenError::OtherCluster { .. })));
    assert_eq!(place.open().image().node_epoch, 1);
}
