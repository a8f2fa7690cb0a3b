//! Readers over both tiers of a real partition while segments move, are deleted, or are odd ones.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::Op;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::copier::Outcome;
use super::super::state::object_of;
use super::node::{Machines, Running, keep_local};
use super::world::P;
use crate::log::names::{SNAPSHOT, segment_file};
use crate::partition::append::AppendOrigin;
use crate::partition::list_offsets::OffsetSpec;
use crate::partition::read::{Isolation, ReadError, ReadSpec, Records};
use crate::partition::transactions::EndMarker;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::record_batch::{BatchView, Offset};

const NOW_MS: i64 = 1_000_000;

fn spec(offset: Offset, isolation: Isolation) -> ReadSpec {
    ReadSpec { offset, max_bytes: 300, min_one: true, current_leader_epoch: None, last_fetched_epoch: None, isolation }
}

/// The bytes of one answer, and (producer, first offset) of the aborted transactions in it.
async fn load(records: Records, told: Vec<(i64, Offset)>) -> Result<(Vec<u8>, Vec<(i64, Offset)>), ReadError> {
    match records {
        Records::Empty => Ok((Vec::new(), told)),
        Records::File(range) => {
            let mut bytes = vec![0; range.len as usize];
            range.file.read_exact_at(&mut bytes, range.position).unwrap();
            Ok((bytes, told))
        }
        Records::Cold(cold) => {
            let loaded = cold.load().await?;
            let told = loaded.aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
            Ok((loaded.chunks.concat(), told))
        }
    }
}

async fn read(node: &Running, offset: Offset, isolation: Isolation) -> (Vec<u8>, Vec<(i64, Offset)>) {
    let outcome = node.partition().read(&spec(offset, isolation)).unwrap();
    let told = outcome.aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
    load(outcome.records, told).await.unwrap()
}

fn batches(bytes: &[u8]) -> Vec<(Offset, Offset)> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while let Ok((batch, behind)) = BatchView::split_first(rest) {
        batch.check_crc().unwrap();
        found.push((batch.base_offset(), batch.last_offset()));
        rest = behind;
    }
    found
}

/// Appends a record with this time.
fn append_at(node: &Running, timestamp_ms: i64) -> Offset {
    let mut builder = BatchBuilder::new(0);
    builder.push(0, timestamp_ms, None, Some(b"some value, long enough to fill a segment soon"), [].into_iter());
    node.partition().append(&mut builder.finish(), AppendOrigin::Client, None).unwrap().base_offset
}

fn write_in_transaction(node: &Running, producer_id: i64) -> Offset {
    let mut builder = BatchBuilder::new(0).with_producer(producer_id, 0, 0).transactional();
    builder.push(0, NOW_MS, None, Some(b"maybe"), [].into_iter());
    let guard = node.partition().begin_verification(producer_id, 0, 0, false).unwrap();
    node.partition().append_verified(&mut builder.finish(), AppendOrigin::Client, None, guard).unwrap().base_offset
}

fn end_transaction(node: &Running, producer_id: i64, commit: bool) -> Offset {
    let marker = EndMarker { producer_id, producer_epoch: 0, coordinator_epoch: 0, commit, transaction_version: 1 };
    node.partition().append_marker(&marker).unwrap().base_offset
}

/// The seam moves from one end of the log to the other, one segment at a time: every read gives the same bytes, also one
/// that was begun before a move and is loaded after it.
#[tokio::test]
async fn readers_see_the_same_records_on_both_sides_of_a_seam_that_moves() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..40).for_each(|n| drop(node.append(5 * n)));
    let (all, cold) = node.read_all(0).await;
    assert_eq!(cold, 0);
    let mut starts = Vec::new();
    for kept in (0..12).rev().map(|segments| segments * 600) {
        let copied = node.log.copy_next(P, &CancellationToken::new()).await.unwrap();
        let begun: Vec<_> =
            (0..40).map(|n| node.partition().read(&spec(5 * n, Isolation::ReadUncommitted)).unwrap().records).collect();
        starts.push(keep_local(&machines, &node, kept));
        for (n, records) in begun.into_iter().enumerate() {
            let (bytes, _) = load(records, Vec::new()).await.unwrap();
            assert_eq!(batches(&bytes)[0].0, 5 * n as i64);
        }
        assert_eq!(node.read_all(0).await.0, all, "{starts:?}, {copied:?}");
    }
    node.copy_all().await;
    starts.push(keep_local(&machines, &node, 0));
    let (again, cold) = node.read_all(0).await;
    assert!(again == all && cold > 5);
    starts.dedup();
    assert!(starts.len() > 4, "it moved step by step: {starts:?}");
}

/// A lookup by time asks the bucket, and waits; meanwhile the segment that holds the answer leaves the local log. The
/// answer is the record all the same, not a later one.
#[tokio::test]
async fn a_lookup_by_time_finds_what_moves_to_the_bucket_meanwhile() {
    let machines = Machines::of(|config| config.segment_bytes = 300);
    let node = machines.start().await;
    // The first segment has a late record, below the log start: the bucket has to be asked, and has no answer.
    let late = append_at(&node, NOW_MS + 500);
    for n in 1..30 {
        append_at(&node, NOW_MS + 10 * n);
    }
    while node.partition().remote_chain().segments.len() < 2 {
        assert_eq!(node.log.copy_next(P, &CancellationToken::new()).await.unwrap(), Outcome::Copied);
    }
    let local_start = keep_local(&machines, &node, 0);
    node.partition().raise_log_start(late + 1).await.unwrap();
    assert!(local_start > late + 1 && local_start < 15);
    let wanted = local_start + 1;
    let time = OffsetSpec::Time(NOW_MS + 10 * wanted);
    let expected = node.partition().list_offset(time, Isolation::ReadUncommitted).await.unwrap();
    assert_eq!(expected.offset, wanted);

    let fresh = machines.fresh_tier(node).await;
    let gate = Arc::new(Semaphore::new(0));
    let before = machines.bucket.count(Op::Get);
    machines.bucket.next(Op::Get, Fault::Wait(Arc::clone(&gate)));
    let partition = fresh.partition();
    let move_on = async {
        while machines.bucket.count(Op::Get) == before {
            tokio::task::yield_now().await;
        }
        fresh.copy_all().await;
        assert!(keep_local(&machines, &fresh, 0) > wanted, "the record is in the bucket alone now");
        gate.add_permits(1);
    };
    let (found, ()) = tokio::join!(partition.list_offset(time, Isolation::ReadUncommitted), move_on);
    assert_eq!(found.unwrap().offset, wanted);
    let newest = fresh.partition().list_offset(OffsetSpec::MaxTimestamp, Isolation::ReadUncommitted).await.unwrap();
    assert_eq!(newest.timestamp, NOW_MS + 290);
}

/// The segment with the largest time is deleted while the bucket is asked for its record: the answer is that of what is
/// left, and not an error.
#[tokio::test]
async fn a_lookup_of_the_largest_time_passes_over_what_is_deleted_meanwhile() {
    let machines = Machines::of(|config| config.segment_bytes = 300);
    let node = machines.start().await;
    append_at(&node, NOW_MS + 500);
    for n in 1..30 {
        append_at(&node, NOW_MS + 10 * n);
    }
    node.copy_all().await;
    keep_local(&machines, &node, 0);
    let fresh = machines.fresh_tier(node).await;
    let gate = Arc::new(Semaphore::new(0));
    let before = machines.bucket.count(Op::Get);
    machines.bucket.next(Op::Get, Fault::Wait(Arc::clone(&gate)));
    let partition = fresh.partition();
    let delete = async {
        while machines.bucket.count(Op::Get) == before {
            tokio::task::yield_now().await;
        }
        partition.raise_log_start(10).await.unwrap();
        fresh.log.expire(&fresh.log.state(P)).await.unwrap();
        gate.add_permits(1);
    };
    let (found, ()) = tokio::join!(partition.list_offset(OffsetSpec::MaxTimestamp, Isolation::ReadUncommitted), delete);
    assert_eq!(found.map(|found| (found.offset, found.timestamp)), Ok((29, NOW_MS + 290)));
}

/// The record in the middle of its batch has it, in whichever tier it is.
#[tokio::test]
async fn the_largest_time_is_found_to_the_record_in_both_tiers() {
    let machines = Machines::of(|config| config.segment_bytes = 300);
    let node = machines.start().await;
    append_at(&node, NOW_MS);
    let mut builder = BatchBuilder::new(0);
    for (delta, timestamp) in [(0, NOW_MS), (1, NOW_MS + 700), (2, NOW_MS + 5)] {
        builder.push(delta, timestamp, None, Some(b"value"), [].into_iter());
    }
    let latest = node.partition().append(&mut builder.finish(), AppendOrigin::Client, None).unwrap().base_offset + 1;
    for n in 1..20 {
        append_at(&node, NOW_MS + n);
    }
    let largest = async || {
        let found = node.partition().list_offset(OffsetSpec::MaxTimestamp, Isolation::ReadUncommitted).await.unwrap();
        (found.offset, found.timestamp)
    };
    assert_eq!(largest().await, (latest, NOW_MS + 700));
    node.copy_all().await;
    assert_eq!(largest().await, (latest, NOW_MS + 700), "in both tiers");
    assert!(keep_local(&machines, &node, 0) > latest + 1);
    assert_eq!(largest().await, (latest, NOW_MS + 700), "in the bucket alone");
}

/// A transaction begins in one segment and is aborted three segments later. Where the seam lies between, readers of
/// committed records are told of it by whichever tier they read from.
#[tokio::test]
async fn committed_readers_are_told_of_a_transaction_that_lies_across_the_seam() {
    let machines = Machines::of(|config| config.segment_bytes = 400);
    let node = machines.start().await;
    node.append(0);
    let first = write_in_transaction(&node, 50);
    (1..12).for_each(|n| drop(node.append(5 * n)));
    let marker = end_transaction(&node, 50, false);
    (12..40).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let chain = node.partition().remote_chain();
    let segment_of = |offset: Offset| chain.segments.partition_point(|segment| segment.last_offset < offset);
    assert!(segment_of(marker) >= segment_of(first) + 3, "{first} to {marker}");
    let mut seams = Vec::new();
    for kept in (0..16).rev().map(|segments| segments * 400) {
        let local_start = keep_local(&machines, &node, kept);
        let mut offset = 0;
        while offset <= marker {
            let (bytes, told) = read(&node, offset, Isolation::ReadCommitted).await;
            let found = batches(&bytes);
            let last = found.last().unwrap().1;
            let is_in = first <= last && offset <= marker;
            assert_eq!(told, if is_in { vec![(50, first)] } else { vec![] }, "{offset}..={last}, seam {local_start}");
            offset = last + 1;
        }
        seams.push(local_start);
    }
    assert!(seams.iter().any(|seam| (first + 1..=marker).contains(seam)), "{seams:?}");
}

#[tokio::test]
async fn an_offset_inside_a_batch_gets_the_whole_batch_from_either_tier() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let local_start = keep_local(&machines, &node, 1200);
    assert!((20..80).contains(&local_start), "{local_start}");
    for offset in 0..100 {
        let (bytes, _) = read(&node, offset, Isolation::ReadUncommitted).await;
        assert_eq!(batches(&bytes)[0], (offset / 5 * 5, offset / 5 * 5 + 4));
    }
}

/// The reader waits for the bytes of an object that is deleted under it.
#[tokio::test]
async fn a_reader_whose_object_is_deleted_is_told_where_the_log_starts() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    keep_local(&machines, &node, 0);
    let node = machines.fresh_tier(node).await;
    let gate = Arc::new(Semaphore::new(0));
    machines.bucket.next(Op::Get, Fault::Wait(Arc::clone(&gate)));
    let Records::Cold(cold) = node.partition().read(&spec(10, Isolation::ReadUncommitted)).unwrap().records else {
        panic!("it is local")
    };
    let delete = async {
        node.partition().raise_log_start(60).await.unwrap();
        for _ in 0..2 {
            node.log.expire(&node.log.state(P)).await.unwrap();
            machines.clock.advance(1);
        }
        assert_eq!(node.meta_rows().await.iter().filter(|last_offset| **last_offset < 60).count(), 0);
        gate.add_permits(1);
    };
    let (told, ()) = tokio::join!(cold.load(), delete);
    assert_eq!(told.unwrap_err(), ReadError::OutOfRange { offset: 10, log_start: 60, high_watermark: 100 });
}

/// DeleteRecords, or retention, takes the local segment while it is on its way to the bucket.
#[rstest]
#[case::deleted_by_a_client(true)]
#[case::too_old(false)]
#[tokio::test]
async fn a_local_segment_that_goes_while_it_is_copied_is_no_copy(#[case] by_client: bool) {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    let gate = Arc::new(Semaphore::new(0));
    let before = machines.bucket.count(Op::Put);
    machines.bucket.next(Op::Put, Fault::Wait(Arc::clone(&gate)));
    let go = async {
        while machines.bucket.count(Op::Put) == before {
            tokio::task::yield_now().await;
        }
        if by_client {
            node.partition().delete_records(60).await.unwrap();
        } else {
            machines.configure(Some(&node), |config| config.retention_bytes = Some(1200));
            machines.clock.advance(2_000);
            node.partitions.do_due_work();
        }
        assert!(node.partition().offsets().log_start > 20);
        gate.add_permits(1);
    };
    let running = CancellationToken::new();
    let (outcome, ()) = tokio::join!(node.log.copy_next(P, &running), go);
    assert_eq!(outcome.unwrap(), Outcome::Orphaned);
    node.copy_all().await;
    for _ in 0..2 {
        node.log.expire(&node.log.state(P)).await.unwrap();
    }
    let log_start = node.partition().offsets().log_start;
    assert!(node.meta_rows().await.iter().all(|last_offset| *last_offset >= log_start), "the orphan is gone");
    let (left, _) =
        node.read_all(batches(&read(&node, log_start, Isolation::ReadUncommitted).await.0)[0].0.max(log_start)).await;
    assert_eq!(batches(&left).last().unwrap().1, 99);
}

/// Every batch, and so every marker, is a segment of its own.
#[tokio::test]
async fn segments_of_one_batch_and_of_markers_alone_are_copied_and_read() {
    let machines = Machines::of(|config| config.segment_bytes = 150);
    let node = machines.start().await;
    node.append(0);
    let aborted = write_in_transaction(&node, 50);
    let first_marker = end_transaction(&node, 50, false);
    write_in_transaction(&node, 51);
    let second_marker = end_transaction(&node, 51, true);
    node.append(5);
    node.append(10);
    let (all, _) = node.read_all(0).await;
    node.copy_all().await;
    let chain = node.partition().remote_chain();
    for marker in [first_marker, second_marker] {
        let segment = chain.find(marker).unwrap();
        assert_eq!((segment.base_offset, segment.last_offset), (marker, marker), "a segment of the marker alone");
        let footer = node.tier.footer(&object_of(P, segment)).await.unwrap();
        assert_eq!(footer.identity.batch_count, 1);
    }
    keep_local(&machines, &node, 0);
    let (again, cold) = node.read_all(0).await;
    assert!(again == all && cold >= 5, "{cold}");
    let (_, told) = read(&node, aborted, Isolation::ReadCommitted).await;
    assert_eq!(told, [(50, aborted)]);
    node.lose_disk(&machines);
    let node = machines.start().await;
    let end = node.partition().remote_chain().end().unwrap();
    assert!(all.starts_with(&node.read_all(0).await.0) && node.partition().offsets().log_end == end);
}

#[tokio::test]
async fn a_segment_without_its_producer_snapshot_is_copied_and_a_lost_disk_goes_on_without_it() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    let (all, _) = node.read_all(0).await;
    let mut removed = 0;
    for sealed in node.partition().local_info().sealed {
        let snapshot = segment_file(&machines.log_dir().join("t-0"), sealed.next_offset, SNAPSHOT);
        removed += usize::from(std::fs::remove_file(snapshot).is_ok());
    }
    assert!(removed > 3);
    node.copy_all().await;
    let chain = node.partition().remote_chain();
    let footer = node.tier.footer(&object_of(P, chain.segments.last().unwrap())).await.unwrap();
    assert!(footer.producer_snapshot.is_empty());
    node.lose_disk(&machines);
    let node = machines.start().await;
    let end = node.partition().offsets().log_end;
    assert_eq!(Some(end), chain.end());
    assert!(all.starts_with(&node.read_all(0).await.0));
    assert_eq!(node.append(i32::try_from(end).unwrap()).base_offset, end, "the producer goes on");
}

#[tokio::test]
async fn retention_that_is_shortened_deletes_and_lengthened_brings_nothing_back() {
    let machines = Machines::of(|config| config.segment_bytes = 300);
    let node = machines.start().await;
    for n in 0..40 {
        append_at(&node, NOW_MS + 1000 * n);
    }
    node.copy_all().await;
    keep_local(&machines, &node, 900);
    machines.clock.set(NOW_MS + 60_000);
    let pass = async |retention_ms: Option<i64>| {
        machines.configure(Some(&node), |config| config.retention_ms = retention_ms);
        machines.clock.advance(2_000);
        node.partitions.do_due_work();
        for _ in 0..2 {
            node.log.expire(&node.log.state(P)).await.unwrap();
            machines.clock.advance(1);
        }
        let chain = node.partition().remote_chain();
        assert_eq!(node.meta_rows().await.len(), chain.segments.len(), "what is not readable is gone");
        assert!(chain.segments.iter().all(|segment| segment.last_offset >= node.partition().offsets().log_start));
        node.partition().offsets().log_start
    };
    assert_eq!(pass(None).await, 0);
    let shortened = pass(Some(40_000)).await;
    assert!((10..30).contains(&shortened), "{shortened}");
    assert_eq!(pass(None).await, shortened, "what is deleted stays deleted");
    let error = node.partition().read(&spec(shortened - 1, Isolation::ReadUncommitted)).unwrap_err();
    assert!(matches!(error, ReadError::OutOfRange { .. }));
    let again = pass(Some(30_000)).await;
    assert!(again > shortened);
}

/// A record of a wrong clock, years ahead: its segment stays until then, as in Kafka; it is copied, found and deleted by
/// size like any other.
#[tokio::test]
async fn records_of_the_future_are_copied_and_found_and_go_by_size() {
    let years = 10 * 365 * 86_400_000;
    let machines = Machines::of(|config| {
        config.segment_bytes = 300;
        config.timestamp_after_max_ms = i64::MAX;
        config.retention_ms = Some(1000);
    });
    let node = machines.start().await;
    let future = append_at(&node, NOW_MS + years);
    for n in 1..20 {
        append_at(&node, NOW_MS + n);
    }
    node.copy_all().await;
    machines.clock.advance(60_000);
    node.partitions.do_due_work();
    node.log.expire(&node.log.state(P)).await.unwrap();
    assert_eq!(node.partition().offsets().log_start, 0, "it keeps its segment and what is behind");
    keep_local(&machines, &node, 0);
    let found =
        node.partition().list_offset(OffsetSpec::Time(NOW_MS + years), Isolation::ReadUncommitted).await.unwrap();
    assert_eq!((found.offset, found.timestamp), (future, NOW_MS + years));
    machines.configure(Some(&node), |config| config.retention_bytes = Some(700));
    machines.clock.advance(2_000);
    node.partitions.do_due_work();
    assert!(node.partition().offsets().log_start > 0);
    for _ in 0..2 {
        node.log.expire(&node.log.state(P)).await.unwrap();
    }
    assert!(node.meta_rows().await[0] > 0);
}

/// 200 cold partitions: all of them are begun at once, and none waits for the others (the Fetch loads them like this).
#[tokio::test(start_paused = true)]
async fn many_cold_reads_are_on_their_way_at_once() {
    let machines = Machines::of(|config| config.segment_bytes = 150);
    let node = machines.start().await;
    (0..41).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    assert!(keep_local(&machines, &node, 0) >= 200);
    let node = machines.fresh_tier(node).await;
    machines.bucket.fail_at_random_with(1000, &[Fault::Slow(Duration::from_secs(1))]);
    let begun = tokio::time::Instant::now();
    let reads = (0..200).map(|offset| {
        let records = node.partition().read(&spec(offset, Isolation::ReadUncommitted)).unwrap().records;
        load(records, Vec::new())
    });
    for (offset, loaded) in futures::future::join_all(reads).await.into_iter().enumerate() {
        let base = offset as i64 / 5 * 5;
        assert_eq!(batches(&loaded.unwrap().0)[0].0, base);
    }
    // A footer and a chunk.
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
}
