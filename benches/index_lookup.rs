//! How long it takes to find where to begin reading: in the part of an index that is in memory, and in its file.
//!
//! A lookup in a file is a dozen positioned reads of one descriptor; opening the file for each lookup costs more than all
//! of them, which is what the third row shows.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use terrace::log::index::floor_in_file;
use terrace::log::offset_index::{OffsetIndex, OffsetPosition};
use terrace::log::walk::Reach;
use terrace_tiering::platform::fs::{Open, RealFs};

/// Entries of a 1 GiB segment of 16 KiB batches, and of 4 KiB ones.
const ENTRIES: [u32; 2] = [65_536, 262_144];

fn index(entries: u32) -> OffsetIndex {
    let mut index = OffsetIndex::new(0, u32::MAX);
    for n in 1..=entries {
        assert!(index.push(OffsetPosition { offset: i64::from(n) * 10, position: n * 4096 }, false));
    }
    index
}

fn lookups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index lookup");
    let fs = RealFs::shared();
    let dir = tempfile::tempdir().expect("a directory");
    for entries in ENTRIES {
        let index = index(entries);
        let path = dir.path().join(entries.to_string());
        let file = fs.open(&path, Open::Create).expect("made");
        file.write_all_at(index.as_bytes(), 0).expect("written");
        // Offsets all over the segment, without a random number in the loop.
        let mut offset = 0;
        let mut next = move || {
            offset = (offset + 7_919_111) % (i64::from(entries) * 10);
            offset
        };
        group.bench_function(BenchmarkId::new("memory", entries), |bench| {
            bench.iter(|| black_box(index.floor(next())));
        });
        group.bench_function(BenchmarkId::new("open file", entries), |bench| {
            bench.iter(|| {
                floor_in_file::<OffsetPosition>(&*file, 0, index.len(), next(), Reach::PageCache).expect("readable")
            });
        });
        group.bench_function(BenchmarkId::new("file opened each time", entries), |bench| {
            bench.iter(|| {
                let file = fs.open(&path, Open::Read).expect("there");
                floor_in_file::<OffsetPosition>(&*file, 0, index.len(), next(), Reach::PageCache).expect("readable")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookups);
criterion_main!(benches);
