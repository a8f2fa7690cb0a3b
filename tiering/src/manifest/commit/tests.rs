use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use rstest::rstest;

use super::*;
use crate::manifest::load::NewestRoot;
use crate::platform::clock::ManualClock;
use crate::platform::fs::RealFs;
use crate::platform::random::SeededRandom;
use crate::platform::task::Tasks;
use crate::store::faulty::{Fault, Faulty};
use crate::store::meter::Op;
use crate::store::open::StoreKind;
use crate::tier::{Machine, TierOptions};

const TOPIC: Uuid = Uuid::from_u128(7);
const US: Uuid = Uuid::from_u128(1);
const OTHERS: Uuid = Uuid::from_u128(2);

async fn tier() -> (Arc<Tier>, Faulty) {
    let faulty = Faulty::new(Arc::new(InMemory::new()), 1);
    let machine =
        Machine { clock: ManualClock::at(5), random: SeededRandom::new(3), fs: RealFs::shared(), tasks: Tasks::new() };
    let options = TierOptions::new("memory:", "cluster");
    let store = Arc::new(faulty.clone());
    let tier = Tier::over(store, StoreKind::Memory, Path::default(), options, machine).await.unwrap();
    (tier, faulty)
}

fn entries(range: std::ops::Range<i64>) -> Vec<ManifestEntry> {
    range
        .map(|i| ManifestEntry {
            uuid: Uuid::from_u128(1000 + i as u128),
            base_offset: i * 10,
            last_offset: i * 10 + 9,
            leader_epoch: 3,
            log_bytes: 100,
            object_bytes: 200,
            first_timestamp: i,
            max_timestamp: i + 1,
            max_timestamp_offset: i * 10,
            epochs: vec![(3, i * 10)],
        })
        .collect()
}

fn content(writer: Uuid, entries: &[ManifestEntry]) -> RootContent<'_> {
    RootContent { topic: TOPIC, partition: 0, leader_epoch: 3, writer, log_start: 0, cleaned_end: 0, entries }
}

#[tokio::test]
async fn what_was_committed_is_loaded() {
    let (tier, _) = tier().await;
    assert!(tier.load_manifest(TOPIC, 0).await.unwrap().is_none());
    let first = tier.commit_root(None, content(US, &entries(0..3))).await.unwrap();
    let second = tier.commit_root(Some(&first), content(US, &entries(1..5))).await.unwrap();
    let loaded = tier.load_manifest(TOPIC, 0).await.unwrap().unwrap();
    assert_eq!(loaded.entries, entries(1..5));
    assert_eq!(loaded.committed.root, second.root);
    assert_eq!((second.root.generation, second.root.previous_crc, second.root.tier_end), (2, first.crc, 50));
    assert_eq!(
        tier.newest_roots().await.unwrap(),
        [NewestRoot { topic: TOPIC, partition: 0, leader_epoch: 3, generation: 2 }]
    );
}

/// Growth by many, then retention at the front: what is loaded is always what was committed, and leaves stay bounded.
#[tokio::test]
async fn leaves_take_the_old_entries_and_let_them_go() {
    let (tier, _) = tier().await;
    let mut committed = None;
    for range in [0..1000, 0..1025, 0..1500, 0..6000, 0..6001, 0..12_000, 100..12_000, 5000..12_001, 11_990..12_001] {
        let wanted = entries(range.clone());
        let next = tier.commit_root(committed.as_ref(), content(US, &wanted)).await.unwrap();
        let loaded = tier.load_manifest(TOPIC, 0).await.unwrap().unwrap();
        assert_eq!(loaded.entries, wanted, "{range:?}");
        assert!(next.root.entries.len() <= ROOT_ENTRIES_MAX);
        assert!(next.root.leaves.iter().all(|leaf| leaf.entry_count as usize <= LEAF_ENTRIES_MAX));
        committed = Some(next);
    }
}

#[tokio::test]
async fn leaves_that_still_hold_are_not_written_again() {
    let (tier, faulty) = tier().await;
    let first = tier.commit_root(None, content(US, &entries(0..6000))).await.unwrap();
    let before = faulty.count(Op::Put);
    let second = tier.commit_root(Some(&first), content(US, &entries(0..6001))).await.unwrap();
    assert_eq!(faulty.count(Op::Put) - before, 1, "the root alone");
    assert_eq!(first.root.leaves, second.root.leaves);
}

#[rstest]
#[case::answer_lost_once(1, 1)]
#[case::answer_lost_for_good(3, 2)]
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_recognised(#[case] lost: usize, #[case] generation: u64) {
    let (tier, faulty) = tier().await;
    faulty.next(Op::Put, Fault::ErrorAfter);
    for _ in 1..lost {
        faulty.next(Op::Put, Fault::Error);
    }
    let first = tier.commit_root(None, content(US, &entries(0..2))).await;
    // All attempts failed, yet the root is there: the next commit finds it and takes the next generation.
    let last = match first {
        Ok(committed) => committed,
        Err(_) => tier.commit_root(None, content(US, &entries(0..3))).await.unwrap(),
    };
    assert_eq!(last.root.generation, generation);
    let loaded = tier.load_manifest(TOPIC, 0).await.unwrap().unwrap();
    assert_eq!(loaded.committed.crc, last.crc);
}

#[tokio::test]
async fn a_generation_that_another_made_fences() {
    let (tier, _) = tier().await;
    let first = tier.commit_root(None, content(US, &entries(0..1))).await.unwrap();
    tier.commit_root(Some(&first), content(OTHERS, &entries(0..2))).await.unwrap();
    let error = tier.commit_root(Some(&first), content(US, &entries(0..3))).await.unwrap_err();
    assert!(matches!(error, ManifestError::Fenced { generation: 2, writer: OTHERS }), "{error}");
    assert_eq!(tier.load_manifest(TOPIC, 0).await.unwrap().unwrap().entries, entries(0..2));
}

#[tokio::test]
async fn inconsistent_entries_are_not_written() {
    let (tier, faulty) = tier().await;
    let before = faulty.count(Op::Put);
    let mut overlapping = entries(0..3);
    overlapping[2].base_offset = 15;
    let error = tier.commit_root(None, content(US, &overlapping)).await.unwrap_err();
    assert!(matches!(error, ManifestError::Invalid(_)), "{error}");
    assert_eq!(faulty.count(Op::Put), before);
}

#[tokio::test]
async fn a_corrupt_root_is_an_error_not_an_empty_chain() {
    let (tier, faulty) = tier().await;
    tier.commit_root(None, content(US, &entries(0..3))).await.unwrap();
    faulty.next(Op::Get, Fault::FlipBit);
    let error = tier.load_manifest(TOPIC, 0).await.unwrap_err();
    assert!(matches!(error, ManifestError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn pruning_keeps_the_newest_roots_with_their_leaves() {
    let (tier, _) = tier().await;
    let mut committed = tier.commit_root(None, content(US, &entries(0..2000))).await.unwrap();
    for i in 1..30 {
        committed = tier.commit_root(Some(&committed), content(US, &entries(i..2000 + i))).await.unwrap();
    }
    // The store's clock is the machine's; ours stands in 1970, so nothing is past its retention by age.
    let removed = tier.prune_manifests(TOPIC, 0).await.unwrap();
    assert!(removed >= 13, "{removed}");
    let left = tier.list_manifests(TOPIC, 0).await.unwrap();
    let roots = left.iter().filter(|(name, _)| matches!(name, crate::names::ManifestName::Root { .. })).count();
    assert!((16..=17).contains(&roots), "{roots}");
    assert_eq!(tier.load_manifest(TOPIC, 0).await.unwrap().unwrap().entries, entries(29..2029));
    for (name, _) in left.iter().filter(|(name, _)| matches!(name, crate::names::ManifestName::Root { .. })) {
        let root = tier.load_root(TOPIC, 0, *name).await.unwrap();
        for leaf in &root.root.leaves {
            tier.load_leaf(TOPIC, 0, leaf).await.unwrap();
        }
    }
}
