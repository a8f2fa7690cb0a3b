//! Tiering switched on, to read-only and off for a topic that has data (KIP-950), over real partitions.

use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::Op;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::copier::Outcome;
use super::node::{Machines, Running};
use super::world::P;
use crate::partition::list_offsets::OffsetSpec;
use crate::partition::read::{Isolation, ReadError};
use crate::protocol::record_batch::Offset;

impl Running {
    /// What ListOffsets answers for earliest, earliest local, latest tiered and earliest pending upload.
    pub async fn listed(&self) -> [Offset; 4] {
        let mut listed = [0; 4];
        let specs = [
            OffsetSpec::Earliest,
            OffsetSpec::EarliestLocal,
            OffsetSpec::LatestTiered,
            OffsetSpec::EarliestPendingUpload,
        ];
        for (answer, spec) in listed.iter_mut().zip(specs) {
            *answer = self.partition().list_offset(spec, Isolation::ReadUncommitted).await.unwrap().offset;
        }
        listed
    }

    /// One pass of the expirer.
    pub async fn expire(&self) {
        self.log.expire(&self.log.state(P)).await.unwrap();
    }

    /// Local retention of a tiered topic, down to the active segment.
    pub fn retain(&self, machines: &Machines) {
        machines.clock.advance(2000);
        self.partitions.do_due_work();
    }
}

/// All but the active segment is copied, and only the last two segments are local still.
pub(super) async fn mostly_remote(machines: &Machines) -> Running {
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    machines.configure(Some(&node), |config| config.local_retention_bytes = Some(600));
    node.retain(machines);
    node
}

#[tokio::test]
async fn a_topic_that_gives_up_its_tier_begins_at_its_local_log() {
    let machines = Machines::new();
    let node = mostly_remote(&machines).await;
    let [earliest, local, tiered, pending] = node.listed().await;
    assert!(earliest == 0 && local > 0 && tiered >= local && pending == tiered + 1, "{:?}", node.listed().await);
    let (all, cold) = node.read_all(0).await;
    assert!(cold > 0);
    machines.configure(Some(&node), |config| {
        config.remote_storage_enable = false;
        config.remote_log_delete_on_disable = true;
    });
    node.expire().await;
    assert_eq!(node.listed().await, [local, local, -1, -1]);
    assert!(node.bucket_objects(&machines).await.is_empty(), "there is no grace time in this test");
    let read = node.partition().read(&Machines::spec(0)).map(drop);
    assert!(matches!(read, Err(ReadError::OutOfRange { offset: 0, log_start, .. }) if log_start == local));
    let (kept, cold) = node.read_all(local).await;
    assert!(cold == 0 && all.ends_with(&kept));

    // Another life, in which the topic is tiered anew: only what it still has is copied.
    node.stop().await;
    let node = machines.start().await;
    assert_eq!(node.listed().await, [local, local, -1, -1]);
    machines.configure(Some(&node), |config| config.remote_storage_enable = true);
    assert_eq!(node.listed().await, [local, local, -1, local]);
    node.copy_all().await;
    assert_eq!(node.listed().await[2], tiered);
    assert_eq!(node.partition().remote_chain().segments[0].base_offset, local);
    assert_eq!(node.read_all(local).await.0, kept);
}

/// Alone in the tier it would pass for a copy of all that lies below it, and that would be deleted.
#[tokio::test]
async fn a_copy_that_ends_after_its_tier_was_given_up_counts_for_nothing() {
    let machines = Machines::new();
    let node = mostly_remote(&machines).await;
    (20..40).for_each(|n| drop(node.append(5 * n)));
    let (may_end, running) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
    let before = machines.bucket.count(Op::Put);
    machines.bucket.next(Op::Put, Fault::Wait(Arc::clone(&may_end)));
    let switched = async {
        while machines.bucket.count(Op::Put) == before {
            tokio::task::yield_now().await;
        }
        machines.configure(Some(&node), |config| {
            config.remote_storage_enable = false;
            config.remote_log_delete_on_disable = true;
        });
        node.expire().await;
        machines.configure(Some(&node), |config| config.remote_storage_enable = true);
        may_end.add_permits(1);
    };
    let (copied, ()) = tokio::join!(node.log.copy_next(P, &running), switched);
    assert!(matches!(copied, Ok(Outcome::Orphaned)), "{copied:?}");
    assert!(node.partition().remote_chain().segments.is_empty());
    let [_, local, ..] = node.listed().await;
    node.copy_all().await;
    assert_eq!(node.partition().remote_chain().segments[0].base_offset, local, "copies begin anew where the log does");
}

#[tokio::test]
async fn a_topic_that_was_not_tiered_is_copied_from_its_log_start() {
    let machines = Machines::new();
    machines.config.lock().unwrap().remote_storage_enable = false;
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    assert_eq!(node.listed().await, [0, 0, -1, -1]);
    while tokio::time::timeout(Duration::from_millis(1), node.rolls.next()).await.is_ok() {
        node.rolls.done(P, None);
    }
    machines.configure(Some(&node), |config| config.remote_storage_enable = true);
    assert_eq!(node.listed().await, [0, 0, -1, 0]);
    let woken = tokio::time::timeout(Duration::from_secs(5), node.rolls.next()).await;
    assert_eq!(woken, Ok(P), "nobody waits for the next look at all partitions");
    node.copy_all().await;
    let [_, _, tiered, pending] = node.listed().await;
    assert!(tiered > 50 && pending == tiered + 1);
}

#[tokio::test]
async fn without_copies_the_local_log_is_kept_as_long_as_the_whole() {
    let machines = Machines::new();
    let node = mostly_remote(&machines).await;
    let [_, local, tiered, _] = node.listed().await;
    machines.configure(Some(&node), |config| config.remote_log_copy_disable = true);
    (20..40).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    node.retain(&machines);
    assert_eq!(node.listed().await, [0, local, tiered, tiered + 1], "nothing is copied, nothing local goes");
    let (all, cold) = node.read_all(0).await;
    assert!(cold > 0, "what was copied is readable");
    // Total retention goes on over both tiers.
    machines.configure(Some(&node), |config| config.retention_bytes = Some(all.len() as u64 / 4));
    node.retain(&machines);
    node.expire().await;
    let [earliest, local, tiered, pending] = node.listed().await;
    assert!(earliest == local && local > 100, "{earliest} {local}");
    // As Kafka has it: without copies nothing above the log start was ever left to copy.
    assert_eq!((tiered, pending), (-1, earliest));
    machines.configure(Some(&node), |config| config.remote_log_copy_disable = false);
    node.copy_all().await;
    assert_eq!(node.partition().remote_chain().segments[0].base_offset, local, "copies go on where the log begins");
}

#[tokio::test]
async fn the_expirer_hears_at_once_of_a_topic_that_gives_up_its_tier() {
    let machines = Machines::new();
    let node = mostly_remote(&machines).await;
    machines.configure(Some(&node), |config| {
        config.remote_storage_enable = false;
        config.remote_log_delete_on_disable = true;
    });
    assert_eq!(node.rolls.next().await, P);
    node.copy_all().await;
    tokio::time::timeout(Duration::from_secs(5), node.log.given_up.notified()).await.expect("it hears of it");
}
