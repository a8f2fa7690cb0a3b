//! Copies come back into the local log of a topic that is no longer tiered, and only then go.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use rstest::rstest;

use super::super::drainer::DrainError;
use super::super::partition::PartitionSource;
use super::node::{Machines, Running};
use super::switching::mostly_remote;
use super::world::P;
use crate::metadata::remote_log::RemoteSegment;
use crate::protocol::record_batch::Offset;

impl Running {
    fn give_up(&self, machines: &Machines) {
        machines.configure(Some(self), |config| {
            config.remote_storage_enable = false;
            config.remote_log_drain_on_disable = true;
        });
    }

    async fn drain(&self) -> Result<(), DrainError> {
        let partition = PartitionSource::get(&*self.partitions, P).unwrap();
        self.log.drain(&self.log.state(P), &partition).await
    }

    /// Passes of the expirer until no copy is left; what was local all the time is synced beside them.
    async fn expire_all_copies(&self, machines: &Machines) {
        for _ in 0..1000 {
            self.expire().await;
            if self.bucket_objects(machines).await.is_empty() {
                return;
            }
            // Another thread syncs, and tells nobody.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("copies are left");
    }

    fn first_copy(&self) -> Arc<RemoteSegment> {
        Arc::clone(&self.partition().remote_chain().segments[0])
    }
}

/// Files of the partition with this ending.
fn files(machines: &Machines, ending: &str) -> usize {
    let entries = std::fs::read_dir(machines.log_dir().join("t-0")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(ending)).count()
}

#[tokio::test]
async fn a_drained_topic_has_all_its_records_and_the_bucket_none() {
    let machines = Machines::new();
    let node = mostly_remote(&machines).await;
    let (all, cold) = node.read_all(0).await;
    assert!(cold > 0);
    assert_eq!(node.log.to_come_back().await, (0, 0), "nothing is drained");
    node.give_up(&machines);
    node.expire().await;
    assert_eq!(node.partition().remote_chain().segments[0].base_offset, 0, "no copy goes before all are back");
    let (segments, bytes) = node.log.to_come_back().await;
    assert!(segments > 1 && bytes > 100 * segments as u64, "{segments} {bytes}");
    node.drain().await.unwrap();
    assert_eq!(node.log.to_come_back().await, (0, 0), "all is there");
    let [earliest, local, tiered, pending] = node.listed().await;
    assert_eq!((earliest, local, tiered, pending), (0, 0, -1, -1));
    assert_eq!(node.read_all(0).await, (all.clone(), 0));
    node.expire_all_copies(&machines).await;
    assert_eq!(node.read_all(0).await, (all.clone(), 0));
    assert_eq!(files(&machines, ".pulled"), 0);
    // Retention by local size is no more than a setting of tiered topics.
    node.retain(&machines);
    assert_eq!(node.read_all(0).await, (all.clone(), 0));

    node.stop().await;
    let node = machines.start().await;
    assert_eq!(node.read_all(0).await, (all.clone(), 0));
    // Tiered again it is copied from its beginning.
    machines.configure(Some(&node), |config| config.remote_storage_enable = true);
    node.copy_all().await;
    assert_eq!(node.first_copy().base_offset, 0);
    node.retain(&machines);
    let (again, cold) = node.read_all(0).await;
    assert!(again == all && cold > 0);
}

#[tokio::test]
async fn a_drain_that_died_goes_on_below_what_came_back() {
    let machines = Machines::new();
    let node = mostly_remote(&machines).await;
    let (all, _) = node.read_all(0).await;
    let [_, begins, ..] = node.listed().await;
    // The oldest object cannot be read, so everything but its segment comes back.
    let first = node.first_copy();
    let objects = node.bucket_objects(&machines).await;
    let key = objects.iter().find(|key| key.as_ref().contains(&first.uuid.simple().to_string())).unwrap();
    let good = machines.bucket.get(key).await.unwrap().bytes().await.unwrap();
    let mut bad = good.to_vec();
    bad[70] ^= 1;
    machines.bucket.put(key, bad.into()).await.unwrap();
    node.stop().await;
    let node = machines.start().await;
    node.give_up(&machines);
    let failed = node.drain().await.unwrap_err();
    assert!(matches!(failed, DrainError::Read(_)), "{failed}");
    let [earliest, local, ..] = node.listed().await;
    assert!(earliest == 0 && local == first.last_offset + 1 && local < begins);
    assert_eq!(files(&machines, ".pulled"), 0, "what is not whole goes");
    node.expire().await;
    assert_eq!(node.bucket_objects(&machines).await.len(), objects.len(), "no copy goes before all are back");

    // The process dies while it writes the next segment.
    let half = machines.log_dir().join("t-0").join("00000000000000000000.log.pulled");
    std::fs::write(&half, &good[..100]).unwrap();
    drop(node);
    machines.bucket.put(key, good.into()).await.unwrap();
    let node = machines.start().await;
    assert_eq!(node.listed().await[..2], [0, local], "what came back is a part of the log");
    assert_eq!(files(&machines, ".pulled"), 0);
    node.drain().await.unwrap();
    node.expire_all_copies(&machines).await;
    assert_eq!(node.read_all(0).await, (all, 0));
}

#[tokio::test]
async fn nothing_comes_back_where_there_is_no_room_for_all() {
    let mut machines = Machines::new();
    let node = mostly_remote(&machines).await;
    let [_, begins, ..] = node.listed().await;
    let (all, _) = node.read_all(0).await;
    node.stop().await;
    machines.min_free_bytes = u64::MAX;
    let node = machines.start().await;
    node.give_up(&machines);
    let refused = node.drain().await.unwrap_err();
    assert!(matches!(refused, DrainError::NoRoom { needed, room: 0 } if needed > 0), "{refused}");
    node.expire().await;
    assert_eq!(node.listed().await[..2], [0, begins]);
    assert_eq!(node.read_all(0).await.0, all);
}

#[tokio::test]
async fn a_lost_disk_is_filled_again_with_its_producers() {
    let machines = Machines::new();
    let node = mostly_remote(&machines).await;
    let tier_end = node.partition().remote_chain().end().unwrap();
    let (all, _) = node.read_all(0).await;
    node.lose_disk(&machines);
    let node = machines.start().await;
    node.give_up(&machines);
    node.drain().await.unwrap();
    node.expire_all_copies(&machines).await;
    let (kept, cold) = node.read_all(0).await;
    assert!(cold == 0 && all.starts_with(&kept));
    assert_eq!(node.listed().await[1], 0);
    node.stop().await;
    let node = machines.start().await;
    assert_eq!(node.read_all(0).await, (kept, 0));
    let sequence = i32::try_from(tier_end).unwrap();
    assert_eq!(node.append(sequence - 5).base_offset, tier_end - 5, "a retry of what was in the tier is known");
    assert_eq!(node.append(sequence).base_offset, tier_end);
}

#[tokio::test]
async fn records_deleted_while_copies_come_back_stay_deleted() {
    let machines = Machines::new();
    let node = mostly_remote(&machines).await;
    let [_, begins, ..] = node.listed().await;
    let middle = node.first_copy().last_offset + 2;
    assert!(middle < begins);
    node.partition().raise_log_start(middle).await.unwrap();
    node.give_up(&machines);
    node.drain().await.unwrap();
    assert_eq!(node.listed().await[..2], [middle, middle]);
    node.expire_all_copies(&machines).await;
    let from: Offset = node.partition().view().unwrap().segments()[0].base();
    assert!(from > 0 && from <= middle, "the segment below the log start did not come back");
}

#[tokio::test]
async fn a_drained_partition_tells_readers_of_aborted_transactions() {
    let machines = Machines::new();
    let (node, first, marker) = super::node::with_aborted_transaction(&machines).await;
    node.lose_disk(&machines);
    let node = machines.start().await;
    node.give_up(&machines);
    node.drain().await.unwrap();
    node.expire_all_copies(&machines).await;
    let told = |node: &Running| -> Vec<_> {
        let told = node.partition().view().unwrap().aborted(first, marker + 1).unwrap();
        told.iter().map(|one| (one.producer_id, one.first_offset, one.last_offset)).collect()
    };
    assert_eq!(told(&node), [(50, first, marker)]);
    node.stop().await;
    let node = machines.start().await;
    assert_eq!(told(&node), [(50, first, marker)]);
    let offsets = node.partition().offsets();
    assert_eq!(offsets.last_stable, offsets.log_end);
}

/// Local indexes have no place for a transaction whose marker went with the old disk; the copies' footers tell how it ended.
#[rstest]
#[case::committed(true)]
#[case::aborted(false)]
#[tokio::test]
async fn a_drain_stops_where_the_outcome_of_a_transaction_was_lost(#[case] commit: bool) {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..10).for_each(|n| drop(node.append(5 * n)));
    node.begin_transaction(50);
    (10..20).for_each(|n| drop(node.append(5 * n)));
    let marker = node.end_transaction(50, commit).base_offset;
    node.copy_all().await;
    assert!(node.partition().remote_chain().end().is_some_and(|end| end <= marker), "the marker is only local");
    node.lose_disk(&machines);
    let node = machines.start().await;
    let before = node.read_all(0).await;
    node.give_up(&machines);
    let why = node.drain().await.map_err(|error| error.to_string());
    assert!(why.as_ref().is_err_and(|why| why.contains("outcome was lost")), "{why:?}");
    node.expire().await;
    assert_eq!(node.read_all(0).await, before);
    assert_eq!(files(&machines, ".pulled"), 0);
}
