use proptest::prelude::*;
use terrace_tiering::platform::fs::RealFs;
use uuid::Uuid;

use super::*;
use crate::log::open_files::OpenFiles;

fn entry(
    producer_id: i64,
    first_offset: Offset,
    last_offset: Offset,
    last_stable_offset: Offset,
) -> AbortedTransaction {
    AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset }
}

fn directory(path: &std::path::Path) -> Arc<LogDirectory> {
    Arc::new(LogDirectory::new(RealFs::shared(), OpenFiles::new(16), path.into(), Uuid::from_u128(1)))
}

fn segment(directory: &Arc<LogDirectory>, base: Offset, entries: &[AbortedTransaction]) -> Arc<Segment> {
    let segment = Segment::create(directory, base, 1 << 20).expect("a file");
    for entry in entries {
        segment.append_aborted(entry).expect("written");
    }
    segment
}

#[test]
fn entries_are_kafkas_bytes() {
    let bytes = entry(1, 2, 3, 4).to_bytes();
    let expected: Vec<u8> = [&[0, 0][..], &[0; 7], &[1], &[0; 7], &[2], &[0; 7], &[3], &[0; 7], &[4]].concat();
    assert_eq!(bytes[..], expected[..]);
}

#[test]
fn markers_may_lie_in_later_segments() {
    let dir = tempfile::tempdir().expect("a directory");
    let directory = directory(dir.path());
    let segments = vec![
        segment(&directory, 0, &[entry(1, 0, 9, 5)]),
        segment(&directory, 10, &[]),
        segment(&directory, 20, &[entry(2, 5, 25, 12), entry(3, 12, 27, 28)]),
    ];
    let view = LogView { segments: segments.into_iter().collect() };
    let found = |from, upto| -> Vec<i64> {
        view.aborted(from, upto).expect("readable").iter().map(|entry| entry.producer_id).collect()
    };
    assert_eq!(found(0, 5), [1]);
    assert_eq!(found(0, 6), [1, 2]);
    assert_eq!(found(10, 20), [2, 3]);
    assert_eq!(found(10, 12), [2]);
    assert_eq!(found(26, 30), [3]);
    assert_eq!(found(28, 30), [0i64; 0]);
}

#[test]
fn a_retired_segment_keeps_its_entries() {
    let dir = tempfile::tempdir().expect("a directory");
    let directory = directory(dir.path());
    let entries = [entry(1, 0, 9, 10), entry(2, 11, 19, 20)];
    let segment = segment(&directory, 0, &entries);
    segment.retire().expect("retired");
    std::fs::write(segment.path(TXN_INDEX), entry(9, 0, 1, 2).to_bytes()).expect("another's");
    let view = LogView { segments: [segment].into_iter().collect() };
    assert_eq!(view.aborted(0, 30).expect("readable"), entries);
    assert_eq!(view.aborted(0, 10).expect("readable"), entries[..1]);
}

#[test]
fn a_start_keeps_what_it_does_not_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let directory = directory(dir.path());
    let segment = segment(&directory, 10, &[entry(1, 0, 19, 20), entry(2, 11, 29, 30), entry(3, 11, 39, 40)]);
    assert_eq!(entries_below(&directory, 10, 30).expect("readable"), 2);
    assert_eq!(entries_below(&directory, 30, 40).expect("readable"), 0, "markers below the base are another's");
    segment.restore_aborted(1, &[entry(4, 11, 25, 26)]).expect("written");
    assert_eq!(std::fs::read(segment.path(TXN_INDEX)).expect("there").len(), 2 * ENTRY_BYTES);
    segment.restore_aborted(0, &[]).expect("removed");
    assert!(!segment.path(TXN_INDEX).exists());
}

proptest! {
    #[test]
    fn entries_come_back(producer_id: i64, first in 0..i64::MAX / 2, len in 0..1000i64, last_stable_offset: i64) {
        let entry = entry(producer_id, first, first + len, last_stable_offset);
        prop_assert_eq!(AbortedTransaction::from_bytes(&entry.to_bytes()), Some(entry));
    }

    #[test]
    fn any_file_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), upto in 0..100i64) {
        let dir = tempfile::tempdir().expect("a directory");
        let directory = directory(dir.path());
        std::fs::write(names::segment_file(dir.path(), 0, TXN_INDEX), &bytes).expect("written");
        prop_assert!(entries_below(&directory, 0, upto).expect("readable") <= bytes.len() / ENTRY_BYTES);
    }
}
