use terrace_tiering::platform::fs::{Open, RealFs};
use uuid::Uuid;

use super::*;
use crate::log::segment::LogDirectory;
use crate::log::segment_index::SegmentIndex;

fn segments(dir: &std::path::Path, files: &Arc<OpenFiles>, count: i64) -> Vec<Arc<Segment>> {
    let fs = RealFs::shared();
    let directory = Arc::new(LogDirectory::new(fs.clone(), Arc::clone(files), dir.to_owned(), Uuid::nil()));
    let make = |base| {
        fs.open(&crate::log::names::segment_file(dir, base, "log"), Open::Create).expect("made");
        Segment::sealed(&directory, base, 0, SegmentIndex::new(base, 1024))
    };
    (0..count).map(make).collect()
}

fn is_open(segment: &Arc<Segment>) -> bool {
    segment.slot(SegmentFile::Log).file().is_some()
}

#[test]
fn the_bound_holds_and_what_is_used_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = OpenFiles::new(16);
    let segments = segments(dir.path(), &files, 100);
    let in_use = segments[0].file().expect("opens");
    for segment in &segments {
        segment.file().expect("opens");
        segments[1].file().expect("opens");
    }
    assert_eq!(files.len(), 16);
    assert!(segments.iter().filter(|segment| is_open(segment)).count() <= 16);
    assert!(is_open(&segments[1]), "used all the time");
    assert!(!is_open(&segments[0]), "used once");
    assert_eq!(in_use.len().expect("still open"), 0, "who holds it reads on");
    segments[0].file().expect("opens again");
}

#[test]
fn a_file_whose_name_is_another_segments_stays_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = OpenFiles::new(16);
    let segments = segments(dir.path(), &files, 100);
    segments[0].retire().expect("pinned");
    for segment in &segments[1..] {
        segment.file().expect("opens");
    }
    assert!(is_open(&segments[0]));
}
