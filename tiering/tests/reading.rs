//! Reading back: one GET for whoever asks, windows that grow, caches within their bounds, nothing served that is wrong.

mod fixture;

use std::sync::Arc;

use bytes::Bytes;
use fixture::{Segment, faulty, options, over};
use object_store::path::Path;
use rstest::rstest;
use terrace_tiering::platform::random::{Random, SeededRandom};
use terrace_tiering::read::{ReadError, ReadHint};
use terrace_tiering::store::faulty::{Fault, Faulty};
use terrace_tiering::store::meter::Op;
use terrace_tiering::store::open::StoreKind;
use terrace_tiering::tier::DiskCacheOptions;
use terrace_tiering::{ObjectRef, Tier, TierOptions};
use tokio::sync::Semaphore;

/// A store with one segment, and a tier that has read nothing of it.
async fn stored(segment: &Segment, options: TierOptions) -> (Arc<Tier>, Faulty, ObjectRef) {
    let (writer, store) = faulty(TierOptions { disk_cache: None, ..options.clone() }, StoreKind::Memory).await;
    let object = segment.object(&writer.upload(segment.upload.clone()).await.unwrap());
    (over(&store, options, StoreKind::Memory).await, store, object)
}

async fn read(tier: &Tier, object: &ObjectRef, offset: i64) -> Result<Bytes, ReadError> {
    tier.read(object, offset, 1, ReadHint::default()).await.map(|read| read.chunks[0].clone())
}

fn chunk_of(segment: &Segment, number: usize) -> Bytes {
    let chunk = &segment.upload.chunks[number];
    let position = chunk.position as usize;
    Bytes::copy_from_slice(&segment.bytes[position..position + chunk.length as usize])
}

#[tokio::test]
async fn many_readers_of_one_chunk_cost_one_get() {
    let segment = Segment::new(0, 10, 100_000);
    let (tier, store, object) = stored(&segment, options()).await;
    tier.footer(&object).await.unwrap();
    let before = store.count(Op::Get);
    let gate = Arc::new(Semaphore::new(0));
    store.next(Op::Get, Fault::Wait(gate.clone()));
    let readers = (0..20).map(|offset| {
        let tier = tier.clone();
        async move { read(&tier, &object, offset % 10).await }
    });
    let readers = futures::future::join_all(readers);
    let open_later = async {
        while store.count(Op::Get) == before {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
    };
    let (all, ()) = tokio::join!(readers, open_later);
    for bytes in all {
        assert_eq!(bytes.unwrap(), chunk_of(&segment, 0));
    }
    assert_eq!(store.count(Op::Get) - before, 1);
}

#[tokio::test]
async fn a_footer_is_fetched_once() {
    let segment = Segment::new(0, 10, 1000);
    let (tier, store, object) = stored(&segment, options()).await;
    let before = store.count(Op::Get);
    let all = futures::future::join_all((0..20).map(|_| tier.footer(&object))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(store.count(Op::Get) - before, 1);
}

#[tokio::test]
async fn a_sequential_reader_costs_few_gets_and_a_random_one_gets_one_chunk_each() {
    let segment = Segment::new(0, 320, 100_000);
    let (tier, store, object) = stored(&segment, options()).await;
    tier.footer(&object).await.unwrap();
    let chunks = &segment.upload.chunks;
    let before = store.count(Op::Get);
    for (number, chunk) in chunks.iter().enumerate() {
        assert_eq!(read(&tier, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
    }
    let sequential = store.count(Op::Get) - before;
    assert!(sequential <= 8, "{sequential} GETs for {} chunks", chunks.len());

    let fresh = over(&store, options(), StoreKind::Memory).await;
    fresh.footer(&object).await.unwrap();
    let before = store.count(Op::Get);
    for number in [3, 20, 9, 14, 26, 1] {
        assert_eq!(read(&fresh, &object, chunks[number].first_offset).await.unwrap(), chunk_of(&segment, number));
    }
    assert_eq!(store.count(Op::Get) - before, 6);
    assert!(fresh.memory_cache_bytes() < 7 << 20, "no chunk came that nobody asked for");
}

#[tokio::test]
async fn a_download_outlives_the_request_that_began_it() {
    let segment = Segment::new(0, 10, 1000);
    let (tier, store, object) = stored(&segment, options()).await;
    tier.footer(&object).await.unwrap();
    let before = store.count(Op::Get);
    let gate = Arc::new(Semaphore::new(0));
    store.next(Op::Get, Fault::Wait(gate.clone()));
    let gone = tokio::time::timeout(std::time::Duration::from_millis(20), read(&tier, &object, 0)).await;
    assert!(gone.is_err());
    gate.add_permits(1);
    assert_eq!(read(&tier, &object, 0).await.unwrap(), chunk_of(&segment, 0));
    assert_eq!(store.count(Op::Get) - before, 1);
}

#[rstest]
#[case::once_is_fetched_again(1, true)]
#[case::twice_is_an_error(2, false)]
#[tokio::test]
async fn wrong_bytes_are_never_served(#[case] times: usize, #[case] served: bool) {
    let segment = Segment::new(0, 10, 1000);
    let (tier, store, object) = stored(&segment, options()).await;
    tier.footer(&object).await.unwrap();
    for _ in 0..times {
        store.next(Op::Get, Fault::FlipBit);
    }
    match read(&tier, &object, 0).await {
        Ok(bytes) => assert!(served && bytes == chunk_of(&segment, 0)),
        Err(error) => assert!(!served && matches!(error, ReadError::Corrupt { chunk: 0, .. }), "{error}"),
    }
    assert_eq!(read(&tier, &object, 0).await.unwrap(), chunk_of(&segment, 0), "the next reader tries anew");
}

#[tokio::test]
async fn a_bad_chunk_does_not_hide_the_good_ones_behind_it() {
    let segment = Segment::new(0, 100, 100_000);
    let mut broken = segment.clone();
    broken.bytes[1_500_000] ^= 1;
    let (tier, store, object) = stored(&segment, options()).await;
    let mut bytes = broken.bytes.clone();
    bytes.extend(tail_of(&store, &object, segment.bytes.len()).await);
    let key = tier.names().segment(&object);
    object_store::ObjectStoreExt::put(&store, &key, bytes.into()).await.unwrap();
    for (number, chunk) in segment.upload.chunks.iter().enumerate() {
        match read(&tier, &object, chunk.first_offset).await {
            Ok(bytes) => assert_eq!(bytes, chunk_of(&segment, number)),
            Err(error) => assert!(number == 1 && matches!(error, ReadError::Corrupt { chunk: 1, .. }), "{error}"),
        }
    }
}

async fn tail_of(store: &Faulty, object: &ObjectRef, from: usize) -> Bytes {
    let names = terrace_tiering::names::Names::new(&Path::default(), "cluster");
    let whole = object_store::ObjectStoreExt::get(store, &names.segment(object)).await.unwrap();
    whole.bytes().await.unwrap().slice(from..)
}

#[tokio::test(start_paused = true)]
async fn failures_that_pass_are_not_seen_and_others_are() {
    let segment = Segment::new(0, 10, 1000);
    let (tier, store, object) = stored(&segment, options()).await;
    store.next(Op::Get, Fault::Error);
    store.next(Op::Get, Fault::ErrorAfter);
    tier.footer(&object).await.unwrap();
    store.next(Op::Get, Fault::Error);
    store.next(Op::Get, Fault::Hang);
    assert_eq!(read(&tier, &object, 0).await.unwrap(), chunk_of(&segment, 0));

    let fresh = over(&store, options(), StoreKind::Memory).await;
    fresh.footer(&object).await.unwrap();
    store.set_down(true);
    let error = read(&fresh, &object, 0).await.unwrap_err();
    assert!(matches!(error, ReadError::Store(_)), "{error}");
    store.set_down(false);
    assert_eq!(read(&fresh, &object, 0).await.unwrap(), chunk_of(&segment, 0));
}

#[tokio::test]
async fn the_disk_tier_survives_a_restart_and_a_bad_file_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk_cache = Some(DiskCacheOptions { dir: dir.path().to_owned(), bytes: 1 << 30 });
    let options = TierOptions { disk_cache, ..options() };
    let segment = Segment::new(0, 40, 100_000);
    let (tier, store, object) = stored(&segment, options.clone()).await;
    let chunks = &segment.upload.chunks;
    for chunk in chunks {
        read(&tier, &object, chunk.first_offset).await.unwrap();
    }
    while tier.disk_cache_bytes() != Some(segment.bytes.len() as u64) {
        tokio::task::yield_now().await;
    }
    let restarted = over(&store, options, StoreKind::Memory).await;
    restarted.footer(&object).await.unwrap();
    let before = store.count(Op::Get);
    for (number, chunk) in chunks.iter().enumerate() {
        assert_eq!(read(&restarted, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
    }
    assert_eq!(store.count(Op::Get), before, "all from disk");

    let files = |dir: &std::path::Path| std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    for file in files(dir.path()).iter().flat_map(|dir| files(dir)) {
        std::fs::write(&file, vec![0; file.metadata().unwrap().len() as usize]).unwrap();
    }
    let disk_cache = Some(DiskCacheOptions { dir: dir.path().to_owned(), bytes: 1 << 30 });
    let again = over(&store, TierOptions { disk_cache, ..fixture::options() }, StoreKind::Memory).await;
    for (number, chunk) in chunks.iter().enumerate() {
        assert_eq!(read(&again, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
    }
}

/// Several readers through caches much smaller than the data: every byte right, memory and disk within their bounds.
#[tokio::test]
async fn small_caches_stay_within_their_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, disk) = (20 << 20, 24 << 20);
    let disk_cache = Some(DiskCacheOptions { dir: dir.path().to_owned(), bytes: disk });
    let options = TierOptions { disk_cache, memory_cache_bytes: memory, ..options() };
    let segment = Segment::new(0, 400, 100_000);
    let (tier, _, object) = stored(&segment, options).await;
    let readers = (0..4).map(|_| async {
        for (number, chunk) in segment.upload.chunks.iter().enumerate() {
            assert_eq!(read(&tier, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
            assert!(tier.memory_cache_bytes() <= memory);
            assert!(tier.disk_cache_bytes().unwrap() <= disk);
        }
    });
    futures::future::join_all(readers).await;
}

/// Requests that always leave before the download is done, and caches that keep nothing: the reader still gets on.
#[tokio::test]
async fn an_impatient_reader_gets_what_came_after_it_left() {
    let options = TierOptions { memory_cache_bytes: 1 << 20, ..options() };
    let segment = Segment::new(0, 3, 2_000_000);
    let (tier, store, object) = stored(&segment, options).await;
    tier.footer(&object).await.unwrap();
    let before = store.count(Op::Get);
    for (number, chunk) in segment.upload.chunks.iter().enumerate() {
        let mut first = Box::pin(read(&tier, &object, chunk.first_offset));
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        while store.count(Op::Get) == before + number as u64 {
            tokio::task::yield_now().await;
        }
        assert_eq!(read(&tier, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
        assert_eq!(store.count(Op::Get) - before, number as u64 + 1, "fetched once");
    }
}

#[tokio::test]
async fn a_chunk_too_large_for_the_caches_is_still_read() {
    let options = TierOptions { memory_cache_bytes: 1 << 20, read_ahead_max_bytes: 1 << 20, ..options() };
    let segment = Segment::new(0, 5, 3_000_000);
    let (tier, _, object) = stored(&segment, options).await;
    for (number, chunk) in segment.upload.chunks.iter().enumerate() {
        assert_eq!(read(&tier, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
    }
    assert_eq!(tier.memory_cache_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_now_and_then_yields_only_right_bytes() {
    let segment = Segment::new(0, 200, 50_000);
    let options = TierOptions { memory_cache_bytes: 32 << 20, ..options() };
    let (tier, store, object) = stored(&segment, options).await;
    tier.footer(&object).await.unwrap();
    store.fail_at_random(100);
    let mut failures = 0;
    for (number, chunk) in segment.upload.chunks.iter().enumerate() {
        match read(&tier, &object, chunk.first_offset).await {
            Ok(bytes) => assert_eq!(bytes, chunk_of(&segment, number)),
            Err(ReadError::Store(_)) => failures += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(failures < 5, "{failures}");
}

/// Many readers at random places, half of whom leave early, through small caches over a store that fails: nobody gets wrong
/// bytes, nobody waits for ever, and all budgets are free again afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_come_and_go_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let disk_cache = Some(DiskCacheOptions { dir: dir.path().to_owned(), bytes: 18 << 20 });
    let read_ahead_max_bytes = 4 << 20;
    let options = TierOptions { disk_cache, memory_cache_bytes: 17 << 20, read_ahead_max_bytes, ..options() };
    let segment = Segment::new(0, 400, 75_000);
    let (tier, store, object) = stored(&segment, options).await;
    tier.footer(&object).await.unwrap();
    store.fail_at_random(20);
    let readers = (0..8u64).map(|reader| {
        let (tier, segment) = (tier.clone(), &segment);
        async move {
            let random = SeededRandom::new(reader);
            let mut number = 0;
            for _ in 0..60 {
                let chunks = &segment.upload.chunks;
                let jump = random.next_u64();
                number = if jump.is_multiple_of(4) {
                    (jump >> 8) as usize % chunks.len()
                } else {
                    (number + 1) % chunks.len()
                };
                let patience = std::time::Duration::from_micros(if jump & 16 == 0 { 200 } else { 60_000_000 });
                let offset = chunks[number].first_offset;
                match tokio::time::timeout(patience, read(&tier, &object, offset)).await {
                    Ok(Ok(bytes)) => assert_eq!(bytes, chunk_of(segment, number)),
                    Ok(Err(ReadError::Store(_))) => {}
                    Ok(Err(other)) => panic!("{other}"),
                    Err(_) => assert!(patience.as_secs() == 0, "a reader waits for ever"),
                }
            }
        }
    });
    futures::future::join_all(readers).await;
    store.fail_at_random(0);
    for (number, chunk) in segment.upload.chunks.iter().enumerate() {
        assert_eq!(read(&tier, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
    }
}
