//! Reading back: one GET for whoever asks, windows that grow, caches within their bounds, nothing served that is wrong.

mod fixture;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fixture::{Segment, faulty, options, over};
use object_store::path::Path;
use rstest::rstest;
use terrace_tiering::platform::fs::{Fs, Open, RealFs};
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
    let gone = tokio::time::timeout(Duration::from_millis(20), read(&tier, &object, 0)).await;
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
                let patience = Duration::from_micros(if jump & 16 == 0 { 200 } else { 60_000_000 });
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

/// As many segments as asked, one behind the other, in one store; and a tier that has read nothing of them.
async fn stored_chain(segments: &[Segment], options: TierOptions) -> (Arc<Tier>, Faulty, Vec<ObjectRef>) {
    let (writer, store) = faulty(TierOptions { disk_cache: None, ..options.clone() }, StoreKind::Memory).await;
    let mut objects = Vec::new();
    for segment in segments {
        objects.push(segment.object(&writer.upload(segment.upload.clone()).await.unwrap()));
    }
    (over(&store, options, StoreKind::Memory).await, store, objects)
}

/// Lets everything that can go on go on, on the deterministic clock.
async fn quiet() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What the issue asks: one partition, sequential, the window grown, footers left out.
#[tokio::test(start_paused = true)]
async fn a_replay_of_a_gibibyte_costs_at_most_eighty_gets() {
    let segments: Vec<Segment> = (0..4).map(|number| Segment::new(number * 660, 660, 70_000)).collect();
    let (tier, store, objects) = stored_chain(&segments, options()).await;
    for object in &objects {
        tier.footer(object).await.unwrap();
    }
    let (mut bytes, mut before) = (0, 0);
    for (at, segment) in segments.iter().enumerate() {
        let hint = ReadHint { next: objects.get(at + 1).copied() };
        for chunk in &segment.upload.chunks {
            let read = tier.read(&objects[at], chunk.first_offset, 1, hint).await.unwrap();
            assert_eq!(read.first_offset, chunk.first_offset);
            if at > 0 {
                bytes += u64::from(chunk.length);
            }
            quiet().await;
        }
        if at == 0 {
            before = store.count(Op::Get);
        }
    }
    // What was fetched ahead at the start of the count counts too.
    let (gets, most) = (store.count(Op::Get) - before, (bytes * 80) >> 30);
    assert!(gets <= most, "{gets} GETs for {bytes} bytes, {most} are allowed");
}

/// The reader never waits at the border of two segments: what lies behind it is on its way before he gets there.
#[tokio::test(start_paused = true)]
async fn read_ahead_crosses_the_border_of_segments() {
    let segments = [Segment::new(0, 120, 100_000), Segment::new(120, 120, 100_000)];
    let (tier, store, objects) = stored_chain(&segments, options()).await;
    let hint = ReadHint { next: Some(objects[1]) };
    for chunk in &segments[0].upload.chunks {
        tier.read(&objects[0], chunk.first_offset, 1, hint).await.unwrap();
        quiet().await;
    }
    let before = store.count(Op::Get);
    let first = tier.read(&objects[1], 120, 1, ReadHint::default());
    assert_eq!(
        futures::poll!(std::pin::pin!(first)).map(|read| read.unwrap().chunks[0].clone()),
        Poll::Ready(chunk_of(&segments[1], 0))
    );
    assert_eq!(store.count(Op::Get), before);
}

/// With memory for it, four GETs of one reader are on their way at once, and never a fifth.
#[tokio::test(start_paused = true)]
async fn at_most_four_gets_of_a_reader_are_on_their_way() {
    let segment = Segment::new(0, 900, 100_000);
    let options = TierOptions { read_ahead_stream_bytes: 64 << 20, read_ahead_max_bytes: 512 << 20, ..options() };
    let (tier, store, object) = stored(&segment, options).await;
    let chunks = &segment.upload.chunks;
    read(&tier, &object, chunks[0].first_offset).await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    (0..20).for_each(|_| store.next(Op::Get, Fault::Wait(gate.clone())));
    let before = store.count(Op::Get);
    // One GET for the chunk that is wanted, and three ahead of it.
    let waiting = tokio::time::timeout(Duration::from_secs(1), read(&tier, &object, chunks[1].first_offset)).await;
    assert!(waiting.is_err());
    assert_eq!(store.count(Op::Get) - before, 4);
    gate.add_permits(20);
}

/// What is on its way or waits for one reader stays within `remote.read.ahead.stream.bytes`, that of all of them within
/// `remote.read.ahead.max.bytes`.
#[tokio::test(start_paused = true)]
async fn read_ahead_stays_within_its_two_bounds() {
    let chunk_max = 1_100_000;
    let segments: Vec<Segment> = (0..4).map(|number| Segment::new(number * 500, 500, 100_000)).collect();
    let options = TierOptions { read_ahead_stream_bytes: 8 << 20, read_ahead_max_bytes: 24 << 20, ..options() };
    let (tier, _, objects) = stored_chain(&segments, options).await;
    let held = || tier.budgets()[1].held;
    for number in 0..segments[0].upload.chunks.len() {
        for (at, segment) in segments.iter().enumerate() {
            // The later ones begin later.
            let Some(number) = number.checked_sub(at * 12) else { continue };
            let before = held();
            read(&tier, &objects[at], segment.upload.chunks[number].first_offset).await.unwrap();
            assert!(held() <= before + (8 << 20) + 2 * chunk_max, "one reader has begun {} bytes", held() - before);
            assert!(held() <= 24 << 20, "all of them hold {} bytes", held());
            quiet().await;
        }
    }
}

/// A reader who takes his time finds what was read ahead for him, however much another one replays meanwhile.
#[tokio::test(start_paused = true)]
async fn a_fast_replay_takes_nothing_from_a_slow_one() {
    let segments = [Segment::new(0, 400, 100_000), Segment::new(400, 3000, 100_000)];
    let (tier, store, objects) =
        stored_chain(&segments, TierOptions { memory_cache_bytes: 32 << 20, ..options() }).await;
    let mut fast = segments[1].upload.chunks.iter();
    let mut waits = 0;
    for (number, chunk) in segments[0].upload.chunks.iter().enumerate() {
        let before = store.count(Op::Get);
        let mut slow = Box::pin(read(&tier, &objects[0], chunk.first_offset));
        let bytes = match futures::poll!(&mut slow) {
            Poll::Ready(bytes) => bytes.unwrap(),
            Poll::Pending => {
                waits += 1;
                slow.await.unwrap()
            }
        };
        assert_eq!(bytes, chunk_of(&segments[0], number));
        assert!(store.count(Op::Get) - before <= 4, "nothing is fetched twice");
        // Many times as fast, and more bytes than all caches and budgets hold.
        for chunk in fast.by_ref().take(8) {
            read(&tier, &objects[1], chunk.first_offset).await.unwrap();
            quiet().await;
        }
    }
    assert!(waits <= 2, "the slow reader waited {waits} times");
}

/// Many replays at once: each chunk is fetched once, though all that they would read ahead alone is far more than there is
/// memory for, and each has its turn.
#[tokio::test(start_paused = true)]
async fn many_replays_share_the_memory_and_fetch_nothing_twice() {
    let segments: Vec<Segment> = (0..40).map(|number| Segment::new(number * 60, 60, 100_000)).collect();
    let options = TierOptions { memory_cache_bytes: 24 << 20, read_ahead_max_bytes: 48 << 20, ..options() };
    let (tier, store, objects) = stored_chain(&segments, options).await;
    for object in &objects {
        tier.footer(object).await.unwrap();
    }
    let before = store.count(Op::Get);
    for number in 0..segments[0].upload.chunks.len() {
        for (segment, object) in segments.iter().zip(&objects) {
            // As a consumer whose answers hold less than a chunk.
            for _ in 0..3 {
                let offset = segment.upload.chunks[number].first_offset;
                assert_eq!(read(&tier, object, offset).await.unwrap(), chunk_of(segment, number));
            }
        }
        quiet().await;
    }
    let chunks = segments.iter().map(|segment| segment.upload.chunks.len() as u64).sum::<u64>();
    let gets = store.count(Op::Get) - before;
    assert!(gets <= chunks, "{gets} GETs for {chunks} chunks");
}

/// Memory that readers hold who do not come back is given to those who read.
#[tokio::test(start_paused = true)]
async fn readers_who_stay_away_hold_nobody_up() {
    let segments: Vec<Segment> = (0..3).map(|number| Segment::new(number * 400, 400, 100_000)).collect();
    let options = TierOptions { read_ahead_max_bytes: 8 << 20, ..options() };
    let (tier, _, objects) = stored_chain(&segments, options).await;
    for at in [0, 1] {
        for chunk in &segments[at].upload.chunks[..6] {
            read(&tier, &objects[at], chunk.first_offset).await.unwrap();
            quiet().await;
        }
    }
    let begun = tokio::time::Instant::now();
    for (number, chunk) in segments[2].upload.chunks.iter().enumerate() {
        assert_eq!(read(&tier, &objects[2], chunk.first_offset).await.unwrap(), chunk_of(&segments[2], number));
    }
    assert!(begun.elapsed() <= Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// A directory's objects come in whole chunks, one GET a window, and leave the page cache behind the reader.
#[tokio::test]
async fn a_directory_is_read_in_windows_and_its_pages_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let options = TierOptions::new(format!("file://{}", dir.path().display()), "cluster");
    let tier = Tier::open(options, fixture::machine()).await.unwrap();
    let segment = Segment::new(0, 400, 100_000);
    let object = segment.object(&tier.upload(segment.upload.clone()).await.unwrap());
    let path = dir.path().join(tier.names().segment(&object).as_ref());
    let file = std::fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    for (number, chunk) in segment.upload.chunks.iter().enumerate() {
        assert_eq!(read(&tier, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
    }
    let opened = RealFs.open(&path, Open::Read).unwrap();
    // Long ranges are asked for and not read: a read that must not wait still has the kernel fetch what is missing.
    const RANGE_BYTES: u64 = 1 << 20;
    let ranges = 40_000_000 / RANGE_BYTES;
    let left = || (0..ranges).filter(|at| opened.is_cached(at * RANGE_BYTES, RANGE_BYTES)).count();
    // The last window's pages go just behind the reader, and nothing tells when. At the borders of windows some stay: the
    // kernel holds pages together by up to 4 MiB, and drops only what lies within the range.
    let begun = std::time::Instant::now();
    while left() > ranges as usize / 4 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} of {ranges} MiB are still in the page cache", left());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    std::fs::remove_file(&path).unwrap();
    let fresh = Tier::open(TierOptions::new(tier.uri(), "cluster"), fixture::machine()).await.unwrap();
    assert!(matches!(fresh.footer(&object).await, Err(ReadError::Gone(_))));
}

/// A limit of bytes per second holds for a directory as for a bucket, and for what is copied as for what is read back.
#[tokio::test]
async fn byte_quotas_hold_both_ways() {
    let segment = Segment::new(0, 30, 100_000);
    for local in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let uri = if local { format!("file://{}", dir.path().display()) } else { "memory:".to_owned() };
        let limit = Some(2_000_000);
        let options =
            TierOptions { upload_bytes_per_s: limit, download_bytes_per_s: limit, ..TierOptions::new(uri, "cluster") };
        let tier = Tier::open(options, fixture::machine()).await.unwrap();
        let begun = std::time::Instant::now();
        let object = segment.object(&tier.upload(segment.upload.clone()).await.unwrap());
        // Three megabytes up, and at once three back to be checked; one second's worth passes freely each way.
        assert!(begun.elapsed().as_secs_f64() >= 0.9, "{:?}", begun.elapsed());
        let begun = std::time::Instant::now();
        for (number, chunk) in segment.upload.chunks.iter().enumerate() {
            assert_eq!(read(&tier, &object, chunk.first_offset).await.unwrap(), chunk_of(&segment, number));
        }
        assert!(begun.elapsed().as_secs_f64() >= 0.9, "{:?}", begun.elapsed());
    }
}
