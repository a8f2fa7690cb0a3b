//! Reads that copy what they find, by a reader who goes on where it was.

use std::sync::atomic::Ordering::SeqCst;

use rstest::rstest;

use super::node::*;
use super::transactions::Writers;
use crate::log::copies::{COPIED_BYTES_MAX, Copies};
use crate::log::view::Place;
use crate::partition::read::{Isolation, ReadSpec, Records};
use crate::protocol::record_batch::BatchView;
use crate::wal::partition_sync::SyncTarget;

/// First and last offset of every whole batch.
fn batches_in(mut bytes: &[u8]) -> Vec<(i64, i64)> {
    let mut batches = Vec::new();
    while let Ok((batch, behind)) = BatchView::split_first(bytes) {
        batch.check_crc().unwrap();
        batches.push((batch.base_offset(), batch.last_offset()));
        bytes = behind;
    }
    batches
}

/// A reader as a fetch session is one.
#[derive(Default)]
struct Reader {
    offset: i64,
    place: Option<Place>,
    copies: Copies,
}

impl Reader {
    /// What it is given next; it goes on behind the last whole batch.
    fn next(&mut self, node: &TestNode, max_bytes: u64) -> Vec<u8> {
        let asked = ReadSpec { max_bytes, ..spec(self.offset) };
        let mut outcome = node.partition().read_copying(&asked, self.place, &mut self.copies).unwrap();
        let found = bytes_of(&outcome);
        if let Some(copied) = outcome.copied.take() {
            assert_eq!(self.copies.bytes(copied.at), found, "the copy is of the range");
            self.place = Some(copied.next);
        }
        self.offset = batches_in(&found).last().map_or(self.offset, |(_, last)| last + 1);
        self.copies.clear();
        found
    }
}

#[rstest]
#[case::one_batch_a_read(300)]
#[case::some_and_a_part_of_one(2500)]
#[case::all_of_a_segment(u64::MAX)]
fn a_reader_that_goes_on_where_it_was_sees_what_any_reader_sees(#[case] max_bytes: u64) {
    let node = TestNode::with(|config| {
        config.segment_bytes = 4096;
        config.index_interval_bytes = 512;
    });
    node.fill(60, 50);
    let mut reader = Reader::default();
    while reader.offset < 600 {
        let offset = reader.offset;
        let plain = read(&node.partition(), offset, max_bytes).unwrap();
        assert_eq!(reader.next(&node, max_bytes), plain, "from {offset}");
        assert!(reader.offset > offset);
    }
    assert!(reader.next(&node, max_bytes).is_empty());
    node.fill(1, 50);
    assert_eq!(
        reader.next(&node, max_bytes),
        read(&node.partition(), 600, max_bytes).unwrap(),
        "the place outlives a wait"
    );
}

#[test]
fn who_goes_on_reads_the_file_once() {
    let node = TestNode::with(|config| config.index_interval_bytes = 256);
    node.fill(40, 100);
    let mut reader = Reader::default();
    reader.next(&node, 1300);
    let asked = ReadSpec { max_bytes: 1300, ..spec(reader.offset) };
    let reads = |place| {
        let before = node.faults.reads.load(SeqCst);
        let outcome = node.partition().read_copying(&asked, place, &mut Copies::default()).unwrap();
        assert!(outcome.copied.is_some());
        node.faults.reads.load(SeqCst) - before
    };
    assert_eq!(reads(reader.place), 1);
    assert!(reads(None) > 1, "a look-up reads too");
}

#[test]
fn a_place_in_a_segment_that_was_cleaned_counts_no_more() {
    let node = TestNode::with(|config| {
        config.cleanup_policy.compact = true;
        config.segment_bytes = 4096;
        config.index_interval_bytes = 256;
    });
    // The first batch goes, and those of the same size behind it move up: at the place lies another batch then.
    let keys: [&[u8]; 12] = [b"a", b"b", b"c", b"d", b"e", b"a", b"f", b"g", b"h", b"i", b"j", b"k"];
    for key in keys {
        node.append(Batch { key: Some(key), value_bytes: 900, ..Batch::of(1) }).unwrap();
    }
    let mut reader = Reader::default();
    reader.next(&node, 2100);
    assert_eq!((reader.offset, reader.place.is_some()), (2, true));
    SyncTarget::sync(&*node.partition()).unwrap();
    node.clock.advance(1_000);
    node.partitions.do_due_work();
    assert_eq!(node.read_all(0)[0].0, 1, "the first is gone");
    assert_eq!(batches_in(&reader.next(&node, 2100))[0].0, 2);
}

#[test]
fn a_place_elsewhere_is_no_harm() {
    let node = TestNode::with(|_| {});
    node.fill(10, 100);
    let mut reader = Reader::default();
    reader.next(&node, 1300);
    reader.offset = 50;
    assert_eq!(reader.next(&node, 1300), read(&node.partition(), 50, 1300).unwrap());
}

#[test]
fn what_is_large_or_finds_no_room_is_not_copied() {
    let node = TestNode::with(|_| {});
    node.fill(40, 100);
    let copied = |max_bytes, copies: &mut Copies| {
        let asked = ReadSpec { max_bytes, ..spec(0) };
        let outcome = node.partition().read_copying(&asked, None, copies).unwrap();
        assert!(matches!(outcome.records, Records::File(_)));
        outcome.copied.is_some()
    };
    let mut copies = Copies::default();
    assert!(!copied(COPIED_BYTES_MAX + 1, &mut copies));
    let times = (0..).take_while(|_| copied(COPIED_BYTES_MAX, &mut copies)).count();
    assert_eq!(times as u64 * COPIED_BYTES_MAX, copies.held_bytes() as u64);
    copies.clear();
    assert!(copied(COPIED_BYTES_MAX, &mut copies));
}

#[test]
fn the_first_batch_is_whole_or_not_there() {
    let node = TestNode::with(|_| {});
    node.fill(3, 100);
    let mut copies = Copies::default();
    let mut reader = Reader::default();
    reader.next(&node, 1300);
    for place in [None, reader.place] {
        let mut ask = |min_one| {
            let asked = ReadSpec { max_bytes: 100, min_one, ..spec(reader.offset) };
            bytes_of(&node.partition().read_copying(&asked, place, &mut copies).unwrap())
        };
        assert!(ask(false).is_empty());
        assert_eq!(batches_in(&ask(true)), [(reader.offset, reader.offset + 9)]);
    }
}

#[tokio::test]
async fn what_is_not_in_the_page_cache_is_copied_by_nobody() {
    let node = TestNode::with(|_| {});
    node.fill(10, 100);
    let mut reader = Reader::default();
    reader.next(&node, 1300);
    for place in [None, reader.place] {
        node.faults.cold.store(true, SeqCst);
        let asked = ReadSpec { max_bytes: 1300, ..spec(reader.offset) };
        let mut copies = Copies::default();
        let outcome = node.partition().read_copying(&asked, place, &mut copies).unwrap();
        assert!(matches!(outcome.records, Records::Cold(_)) && outcome.copied.is_none());
    }
}

#[tokio::test]
async fn the_list_of_aborted_transactions_waits_for_no_disk_on_a_worker() {
    let mut writers = Writers::on(TestNode::with(|_| {}));
    writers.write(7);
    writers.end(7, false);
    let node = &writers.node;
    node.faults.cold_aborted.store(true, SeqCst);
    let asked = ReadSpec { isolation: Isolation::ReadCommitted, ..spec(0) };
    let outcome = node.partition().read(&asked).unwrap();
    let Records::Cold(cold) = outcome.records else { panic!("it waits for the disk") };
    let loaded = cold.load().await.unwrap();
    assert_eq!(loaded.aborted.len(), 1);
    assert!(loaded.range.is_some());
}
