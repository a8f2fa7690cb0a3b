//! Uploads: what counts as done, and what a fault on the way leaves.

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fixture::{Segment, faulty, file_of, machine, options};
use object_store::memory::InMemory;
use object_store::path::Path;
use rstest::rstest;
use terrace_tiering::read::ReadHint;
use terrace_tiering::store::StoreError;
use terrace_tiering::store::faulty::{Fault, Faulty};
use terrace_tiering::store::health::StoreHealth;
use terrace_tiering::store::meter::Op;
use terrace_tiering::store::open::StoreKind;
use terrace_tiering::tier::TierError;
use terrace_tiering::upload::UploadError;
use terrace_tiering::upload::verify::Verify;
use terrace_tiering::{Tier, TierOptions};
use tokio::sync::Semaphore;

const SMALL: usize = 10_000;
const LARGE: usize = 2_500_000;

async fn first_chunk(tier: &Tier, segment: &Segment) -> Bytes {
    let uploaded = tier.upload(segment.upload.clone()).await.unwrap();
    tier.read(&segment.object(&uploaded), 0, 1, ReadHint::default()).await.unwrap().chunks[0].clone()
}

#[rstest]
#[case::nothing_was_sent(Op::Put, Fault::Error, SMALL)]
#[case::the_answer_was_lost(Op::Put, Fault::ErrorAfter, SMALL)]
#[case::no_answer_once(Op::Put, Fault::Hang, SMALL)]
#[case::head_fails_once(Op::Head, Fault::Error, LARGE)]
#[case::reading_the_footer_back_fails_once(Op::Get, Fault::Error, SMALL)]
#[tokio::test(start_paused = true)]
async fn a_fault_that_passes_does_not_fail_the_upload(#[case] op: Op, #[case] fault: Fault, #[case] batch: usize) {
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    store.next(op, fault);
    let segment = Segment::new(0, 10, batch);
    let chunk = first_chunk(&tier, &segment).await;
    assert_eq!(chunk, segment.bytes[..chunk.len()]);
}

/// A merge, or other copies, may hold all memory for as long as a slow store takes.
#[rstest]
#[case::whole(10)]
#[case::in_parts(40)]
#[tokio::test(start_paused = true)]
async fn a_copy_that_waits_for_memory_loses_no_time(#[case] batches: i64) {
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    let segment = Segment::new(0, batches, 500_000);
    let all = tier.copy_memory(u64::MAX).await;
    let let_go = async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        drop(all);
    };
    let (uploaded, ()) = tokio::join!(tier.upload(segment.upload.clone()), let_go);
    uploaded.unwrap();
    assert_eq!(store.count(Op::PutPart) > 0, batches > 30, "above 16 MiB in parts");
}

#[rstest]
#[case::part_fails(Op::PutPart, Fault::Error, LARGE)]
#[case::part_hangs(Op::PutPart, Fault::Hang, LARGE)]
#[case::part_is_damaged(Op::PutPart, Fault::FlipBit, LARGE)]
#[case::object_is_damaged(Op::Put, Fault::FlipBit, SMALL)]
#[tokio::test(start_paused = true)]
async fn an_upload_that_went_wrong_is_an_error_and_a_new_one_works(
    #[case] op: Op,
    #[case] fault: Fault,
    #[case] batch: usize,
) {
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    store.next(op, fault.clone());
    let segment = Segment::new(0, 10, batch);
    let error = tier.upload(segment.upload.clone()).await.unwrap_err();
    match fault {
        Fault::FlipBit => assert!(matches!(error, UploadError::Verification(_)), "{error}"),
        Fault::Hang => assert!(matches!(error, UploadError::Store(StoreError::Timeout(_))), "{error}"),
        _ => assert!(matches!(error, UploadError::Store(StoreError::Unavailable(_))), "{error}"),
    }
    let again = Segment::new(0, 10, batch);
    first_chunk(&tier, &again).await;
}

/// A store that checks checksums (as S3 does) is believed about the bytes, unless full verification is asked for.
#[rstest]
#[case(Verify::Footer, false)]
#[case(Verify::Full, true)]
#[tokio::test]
async fn full_verification_reads_everything_back(#[case] verify: Verify, #[case] noticed: bool) {
    let (tier, store) = faulty(TierOptions { verify, ..options() }, StoreKind::S3).await;
    store.next(Op::Put, Fault::FlipBit);
    let uploaded = tier.upload(Segment::new(0, 10, SMALL).upload).await;
    assert_eq!(uploaded.is_err(), noticed);
}

#[tokio::test]
async fn a_segment_that_changed_on_disk_is_not_uploaded() {
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    let mut segment = Segment::new(0, 10, SMALL);
    segment.bytes[777] ^= 1;
    segment.upload.log = file_of(&segment.bytes);
    let before = store.count(Op::Put);
    let error = tier.upload(segment.upload).await.unwrap_err();
    assert!(matches!(error, UploadError::LocalCorrupt { chunk: 0 }), "{error}");
    assert_eq!(store.count(Op::Put), before);
}

#[tokio::test]
async fn chunks_that_do_not_cover_the_segment_are_refused() {
    let (tier, _) = faulty(options(), StoreKind::Memory).await;
    let mut segment = Segment::new(0, 30, 100_000);
    segment.upload.chunks.remove(1);
    let error = tier.upload(segment.upload).await.unwrap_err();
    assert!(matches!(error, UploadError::Invalid(_)), "{error}");
}

/// Three copies of three parts each, memory for two parts: never more than two are on their way.
#[tokio::test(start_paused = true)]
async fn copies_share_their_memory() {
    let options = TierOptions { copy_memory_bytes: 32 << 20, ..options() };
    let (tier, store) = faulty(options, StoreKind::S3).await;
    let gate = Arc::new(Semaphore::new(0));
    (0..9).for_each(|_| store.next(Op::PutPart, Fault::Wait(gate.clone())));
    let uploads = futures::future::join_all((0..3).map(|i| {
        let tier = tier.clone();
        async move { tier.upload(Segment::new(100 * i, 19, 2_600_000).upload).await }
    }));
    let watch = async {
        for open in 0..8 {
            // Time passes only when nothing else can be done.
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(store.count(Op::PutPart), 2 + open);
            gate.add_permits(1);
        }
        gate.add_permits(9);
    };
    let (uploads, ()) = tokio::join!(uploads, watch);
    assert!(uploads.iter().all(Result::is_ok), "{uploads:?}");
}

#[tokio::test]
async fn what_a_dead_process_left_in_a_directory_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", dir.path().display());
    let tier = Tier::open(TierOptions::new(uri, "cluster"), machine()).await.unwrap();
    tier.upload(Segment::new(0, 10, SMALL).upload).await.unwrap();
    let staged = dir.path().join("cluster/seg/00/segment#1");
    std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
    std::fs::write(&staged, "half").unwrap();
    assert_eq!(tier.remove_stale_uploads(3_600_000).await.unwrap(), 0, "it may be on its way");
    assert_eq!(tier.remove_stale_uploads(-60_000).await.unwrap(), 1);
    assert!(!staged.exists());
    assert_eq!(tier.list_segments(fixture::TOPIC, 0).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_stretches_an_upload() {
    let options = TierOptions { upload_bytes_per_s: Some(100_000), ..options() };
    let (tier, _) = faulty(options, StoreKind::S3).await;
    let start = tokio::time::Instant::now();
    tier.upload(Segment::new(0, 50, SMALL).upload).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_known_to_be_and_comes_back() {
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    assert!(matches!(tier.health(), StoreHealth::Up { .. }));
    store.set_down(true);
    for _ in 0..3 {
        tier.upload(Segment::new(0, 1, SMALL).upload).await.unwrap_err();
    }
    assert!(matches!(tier.health(), StoreHealth::Down { .. }));
    let before = store.count(Op::Put);
    let error = tier.upload(Segment::new(0, 1, SMALL).upload).await.unwrap_err();
    assert!(matches!(error, UploadError::Store(StoreError::Down(_))), "{error}");
    assert_eq!(store.count(Op::Put), before, "nothing is sent");
    store.set_down(false);
    tokio::time::advance(Duration::from_secs(2)).await;
    tier.upload(Segment::new(0, 1, SMALL).upload).await.unwrap();
    assert!(matches!(tier.health(), StoreHealth::Up { .. }));
}

#[tokio::test]
async fn a_store_that_ignores_if_absent_is_refused() {
    let store = Faulty::new(Arc::new(InMemory::new()), 1);
    store.next(Op::Put, Fault::Overwrite);
    store.next(Op::Put, Fault::Overwrite);
    let opened = Tier::over(Arc::new(store), StoreKind::S3, Path::default(), options(), machine()).await;
    assert!(matches!(opened.unwrap_err(), TierError::NotConditional(_)));
}
