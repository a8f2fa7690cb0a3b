use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use rstest::rstest;
use terrace_tiering::platform::fs::{RealFs, with_suffix};

use super::*;
use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;
use crate::config::topic::TopicConfig;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::compression::Compression;
use crate::protocol::control::EndTransaction;
use crate::protocol::record_batch::{CRC_FROM, sequence_after};
use crate::protocol::records::records;

const LAYOUT: Layout = Layout { index_interval_bytes: 100, segment_index_bytes: 4096 };
const RETENTION_MS: i64 = 1_000;

type Pair = (Option<&'static str>, Option<&'static str>);

/// A batch at `base` of producer 7, one offset and one millisecond a record.
fn batch(base: Offset, codec: Compression, pairs: &[Pair]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base).with_compression(codec).with_producer(7, 0, base as i32);
    for (delta, (key, value)) in pairs.iter().enumerate() {
        let headers = [(&b"h"[..], None)];
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        builder.push(delta as i32, 5_000 + base + delta as i64, key, value, headers.into_iter());
    }
    builder.finish()
}

struct Dir {
    fs: SharedFs,
    dir: tempfile::TempDir,
}

impl Dir {
    fn new() -> Self {
        Self { fs: RealFs::shared(), dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a segment of these batches; it ends where the last one does.
    fn segment(&self, batches: &[Vec<u8>]) -> Source {
        let bytes = batches.concat();
        let (first, _) = BatchView::split_first(&bytes).expect("a batch");
        let base = first.base_offset();
        let next = BatchView::split_first(&batches[batches.len() - 1]).expect("a batch").0.next_offset();
        let path = self.path().join(format!("{base:020}.log"));
        let file = self.fs.open(&path, Open::Create).expect("a file");
        file.write_all_at(&bytes, 0).expect("written");
        for extension in ["index", "timeindex"] {
            self.fs.open(&path.with_extension(extension), Open::Create).expect("a file");
        }
        Source { base, next, file, len: bytes.len() as u64 }
    }

    fn clean(&self, sources: &[Source], from: Offset, now_ms: i64) -> Result<Cleaned, CleanError> {
        let map = KeyMap::build(sources, from, 1 << 20, 1 << 20, TransactionWalk::default(), &|| true)?;
        clean_group(
            &self.fs,
            self.path(),
            sources,
            &rules(&map, now_ms),
            &mut TransactionWalk::default(),
            &LAYOUT,
            &|| true,
        )
    }

    fn names(&self) -> Vec<String> {
        let entries = self.fs.read_dir(self.path()).expect("readable");
        let mut names: Vec<_> =
            entries.into_iter().map(|entry| entry.name.trim_start_matches('0').to_owned()).collect();
        names.sort();
        names
    }
}

fn rules(map: &KeyMap, now_ms: i64) -> Rules<'_> {
    Rules {
        map,
        now_ms,
        delete_retention_ms: RETENTION_MS,
        decompressed_max_bytes: 1 << 20,
        sees_all: true,
        ends: Ends::OfRound,
    }
}

fn source_of(cleaned: &Cleaned) -> Source {
    Source { base: cleaned.base, next: cleaned.next, file: cleaned.file.clone(), len: cleaned.len }
}

/// Offset, key and value of every record; also holds each batch to what every clean must leave.
fn content(source: &Source) -> Vec<(Offset, Option<String>, Option<String>)> {
    let mut content = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    walk(source, |batch| {
        batch.check_crc().expect("a right crc");
        assert!(batch.records_count() > 0, "clients hang on empty batches");
        assert_eq!(batch.base_sequence(), batch.base_offset() as i32);
        assert_eq!(batch.last_sequence(), sequence_after(batch.base_sequence(), batch.last_offset_delta()));
        for record in &records(&batch, 1 << 20).expect("readable") {
            let record = record.expect("whole");
            assert_eq!(record.timestamp, 5_000 + record.offset, "timestamps stay");
            assert_eq!(record.headers.len(), 1, "headers stay");
            content.push((record.offset, record.key.map(text), record.value.map(text)));
        }
        Ok(true)
    })
    .expect("walkable");
    content
}

fn offsets(cleaned: &Cleaned) -> Vec<Offset> {
    content(&source_of(cleaned)).into_iter().map(|(offset, ..)| offset).collect()
}

#[rstest]
#[case(Compression::None)]
#[case(Compression::Gzip)]
#[case(Compression::Snappy)]
#[case(Compression::Lz4)]
#[case(Compression::Zstd)]
fn the_last_record_of_each_key_stays(#[case] codec: Compression) {
    let dir = Dir::new();
    let (a, b, c) = (Some("a"), Some("b"), Some("c"));
    let sources = [
        dir.segment(&[
            batch(0, codec, &[(a, Some("1")), (b, Some("1")), (a, Some("2"))]),
            batch(3, codec, &[(b, Some("2"))]),
        ]),
        dir.segment(&[batch(4, codec, &[(c, Some("1")), (a, Some("3")), (None, Some("no key"))])]),
        dir.segment(&[batch(7, codec, &[(c, Some("2"))])]),
    ];
    let cleaned = dir.clean(&sources, 0, 0).expect("cleaned");
    assert_eq!(offsets(&cleaned), [3, 5, 7]);
    assert_eq!((cleaned.base, cleaned.next, &cleaned.replaced[..]), (0, 8, &[0, 4, 7][..]));
    assert_eq!(cleaned.stats.dropped_records, 5);
    assert_eq!(cleaned.newest, TimestampOffset { timestamp: 5_007, offset: 7 });
    assert_eq!(cleaned.times.last(), Some(cleaned.newest));
}

#[test]
fn a_partly_cleaned_batch_keeps_its_place_and_sequences() {
    let dir = Dir::new();
    let (a, b) = (Some("a"), Some("b"));
    let pairs = [(a, Some("1")), (b, Some("1")), (a, Some("2")), (b, Some("2"))];
    let original = batch(10, Compression::Zstd, &pairs[..3]);
    let source = dir.segment(&[original.clone(), batch(13, Compression::None, &pairs[3..])]);
    let cleaned = dir.clean(&[source], 0, 0).expect("cleaned");
    let bytes = dir.fs.read(&swap::cleaned_path(dir.path(), 10)).expect("there");
    let (left, _) = BatchView::split_first(&bytes).expect("a batch");
    let (original, _) = BatchView::split_first(&original).expect("a batch");
    assert_eq!(offsets(&cleaned), [12, 13]);
    assert_eq!(left.records_count(), 1);
    for field in [BatchView::base_offset, BatchView::last_offset, BatchView::producer_id] {
        assert_eq!(field(&left), field(&original));
    }
    assert_eq!(left.compression_id(), original.compression_id());
    assert_eq!(left.base_sequence(), original.base_sequence());
}

#[test]
fn a_tombstone_stays_until_its_horizon() {
    let dir = Dir::new();
    let (a, b) = (Some("a"), Some("b"));
    let pairs = [(a, Some("1")), (a, None), (b, Some("1"))];
    let batches: Vec<_> = (0..3).map(|i| batch(i, Compression::None, &pairs[i as usize..][..1])).collect();
    let first = dir.clean(&[dir.segment(&batches)], 0, 10_000).expect("cleaned");
    assert_eq!(offsets(&first), [1, 2]);
    assert_eq!((first.stats.dropped_records, first.stats.changed_batches), (1, 2), "the horizon is a change");
    // Later rounds of nothing new: the horizon was set by the first one and does not move.
    let again = |before: &Cleaned, now_ms| {
        let dir = Dir::new();
        dir.clean(&[source_of(before)], 3, now_ms).expect("cleaned")
    };
    let second = again(&first, 10_000 + RETENTION_MS - 1);
    assert_eq!(offsets(&second), [1, 2]);
    assert_eq!(second.stats.changed_batches, 0);
    let third = again(&second, 10_000 + RETENTION_MS);
    assert_eq!(offsets(&third), [2]);
}

#[test]
fn the_last_record_of_a_round_carries_readers_to_its_end() {
    let dir = Dir::new();
    let source = dir.segment(&[
        batch(0, Compression::None, &[(Some("a"), Some("1"))]),
        batch(1, Compression::None, &[(Some("a"), None)]),
    ]);
    let first = dir.clean(&[source], 0, 0).expect("cleaned");
    assert_eq!(offsets(&first), [1]);
    let later = Dir::new();
    let second = later.clean(&[source_of(&first)], 0, 2 * RETENTION_MS).expect("cleaned");
    assert_eq!(offsets(&second), [1], "it is the end of this round too");
    let more = later.segment(&[batch(2, Compression::None, &[(Some("b"), Some("1"))])]);
    let third = Dir::new().clean(&[source_of(&first), more], 2, 2 * RETENTION_MS).expect("cleaned");
    assert_eq!(offsets(&third), [2]);
}

#[test]
fn a_full_buffer_ends_the_round_early() {
    let dir = Dir::new();
    let pairs = [(Some("a"), Some("1")), (Some("b"), Some("1")), (Some("c"), Some("1")), (Some("a"), Some("2"))];
    let sources = [
        dir.segment(&[batch(0, Compression::None, &pairs[..2])]),
        dir.segment(&[batch(2, Compression::None, &pairs[2..])]),
    ];
    let map = KeyMap::build(&sources, 0, 100, 1 << 20, TransactionWalk::default(), &|| true).expect("built");
    assert_eq!((map.len(), map.end()), (2, 2));
    let cleaned =
        clean_group(&dir.fs, dir.path(), &sources, &rules(&map, 0), &mut TransactionWalk::default(), &LAYOUT, &|| true)
            .expect("cleaned");
    assert_eq!(offsets(&cleaned), [0, 1, 2, 3], "what lies above the round is not judged");
}

#[rstest]
#[case::crc(|bytes: &mut Vec<u8>| bytes[CRC_FROM + 40] ^= 1)]
#[case::records(|bytes: &mut Vec<u8>| { bytes[61] = 0x7f; recrc(bytes) })]
fn a_batch_that_cannot_be_opened_stays_as_it_is(#[case] damage: impl Fn(&mut Vec<u8>)) {
    let dir = Dir::new();
    let a = |value| [(Some("a"), Some(value))];
    let mut bad = batch(1, Compression::None, &a("2"));
    damage(&mut bad);
    let source =
        dir.segment(&[batch(0, Compression::None, &a("1")), bad.clone(), batch(2, Compression::None, &a("3"))]);
    let cleaned = dir.clean(&[source], 0, 0).expect("cleaned");
    let written = dir.fs.read(&swap::cleaned_path(dir.path(), 0)).expect("there");
    assert_eq!(written, [bad, batch(2, Compression::None, &a("3"))].concat());
    assert_eq!(cleaned.len, written.len() as u64);
}

fn recrc(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn a_bomb_is_kept_and_counted() {
    let dir = Dir::new();
    let long: &'static str = Box::leak("x".repeat(1 << 21).into_boxed_str());
    let pairs = [(Some("a"), Some(long)), (Some("a"), Some("2"))];
    let source = dir.segment(&[batch(0, Compression::Zstd, &pairs[..1]), batch(1, Compression::None, &pairs[1..])]);
    let cleaned = dir.clean(&[source], 0, 0).expect("cleaned");
    assert_eq!(
        cleaned.stats,
        Stats {
            bad_batches: 1,
            dropped_records: 0,
            changed_batches: 0,
            written_bytes: cleaned.len,
            read_bytes: cleaned.len
        }
    );
}

/// A batch of one record at `base` in producer 9's transaction.
fn written(base: Offset, key: &'static str, value: &'static str) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base).with_producer(9, 0, base as i32).transactional();
    builder.push(0, 5_000 + base, Some(key.as_bytes()), Some(value.as_bytes()), [(&b"h"[..], None)].into_iter());
    builder.finish()
}

fn marker(base: Offset, commit: bool) -> Vec<u8> {
    let mut bytes = EndTransaction { commit, coordinator_epoch: 0 }.batch(9, 0, 5_000 + base);
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes
}

fn aborted(first_offset: Offset, last_offset: Offset) -> AbortedTransaction {
    AbortedTransaction { producer_id: 9, first_offset, last_offset, last_stable_offset: last_offset + 1 }
}

/// One pass over a log: first offsets of the batches that stay, whether they have a horizon, and the index.
fn pass(
    sources: &[Source],
    from: Offset,
    now_ms: i64,
    index: Vec<AbortedTransaction>,
) -> (Source, Vec<(Offset, bool)>, Vec<AbortedTransaction>) {
    let dir = Dir::new();
    let build = TransactionWalk::new(index.clone());
    let map = KeyMap::build(sources, from, 1 << 20, 1 << 20, build, &|| true).expect("built");
    let mut met = TransactionWalk::new(index);
    let cleaned =
        clean_group(&dir.fs, dir.path(), sources, &rules(&map, now_ms), &mut met, &LAYOUT, &|| true).expect("cleaned");
    let source = source_of(&cleaned);
    let mut stays = Vec::new();
    walk(&source, |batch| {
        batch.check_crc().expect("a right crc");
        assert!(batch.records_count() > 0, "clients hang on empty batches");
        stays.push((batch.base_offset(), batch.has_delete_horizon()));
        Ok(true)
    })
    .expect("walkable");
    (source, stays, cleaned.aborted)
}

#[test]
fn an_aborted_transaction_goes_record_by_record_and_its_marker_after_them() {
    let dir = Dir::new();
    let kept = |base, value| batch(base, Compression::None, &[(Some("a"), Some(value))]);
    let first = dir.segment(&[kept(0, "1"), written(1, "a", "never"), written(2, "b", "never")]);
    let second = dir.segment(&[marker(3, false), batch(4, Compression::None, &[(Some("z"), Some("1"))])]);
    let (log, stays, index) = pass(&[first, second], 0, 0, vec![aborted(1, 3)]);
    assert_eq!(stays, [(0, false), (3, false), (4, false)], "what was aborted supersedes nothing");
    assert_eq!(index, [aborted(1, 3)], "somebody may still read the old files");
    let (log, stays, index) = pass(&[log], 0, 0, index);
    assert_eq!((stays, index), (vec![(0, false), (3, true), (4, false)], vec![]));
    let (log, stays, _) = pass(&[log], 0, RETENTION_MS - 1, vec![]);
    assert_eq!(stays, [(0, false), (3, true), (4, false)]);
    let (_, stays, _) = pass(&[log], 0, RETENTION_MS, vec![]);
    assert_eq!(stays, [(0, false), (4, false)]);
}

#[test]
fn a_commit_marker_stays_as_long_as_a_record_of_its_transaction() {
    let dir = Dir::new();
    let log = dir.segment(&[
        batch(0, Compression::None, &[(Some("a"), Some("1"))]),
        written(1, "a", "2"),
        marker(2, true),
        batch(3, Compression::None, &[(Some("z"), Some("1"))]),
    ]);
    let (log, stays, _) = pass(&[log], 0, 0, vec![]);
    assert_eq!(stays, [(1, false), (2, false), (3, false)], "what was committed counts");
    let (log, stays, _) = pass(&[log], 0, 9 * RETENTION_MS, vec![]);
    assert_eq!(stays, [(1, false), (2, false), (3, false)]);
    let newer = dir.segment(&[batch(4, Compression::None, &[(Some("a"), Some("3"))])]);
    let (log, stays, _) = pass(&[log, newer], 4, 0, vec![]);
    assert_eq!(stays, [(2, false), (3, false), (4, false)]);
    let (_, stays, _) = pass(&[log], 4, 0, vec![]);
    assert_eq!(stays, [(2, true), (3, false), (4, false)]);
}

#[test]
fn the_end_of_a_round_is_never_an_aborted_gap() {
    let dir = Dir::new();
    let log = dir.segment(&[batch(0, Compression::None, &[(Some("a"), Some("1"))]), written(1, "a", "never")]);
    // The marker lies behind the round.
    let (_, stays, index) = pass(&[log], 0, 0, vec![aborted(1, 2)]);
    assert_eq!((stays, index), (vec![(0, false), (1, false)], vec![]));
    let log = dir.segment(&[batch(0, Compression::None, &[(Some("a"), Some("1"))]), marker(1, true)]);
    let (log, stays, _) = pass(&[log], 0, 0, vec![]);
    assert_eq!(stays, [(0, false), (1, true)]);
    let (_, stays, _) = pass(&[log], 0, RETENTION_MS, vec![]);
    assert_eq!(stays, [(0, false), (1, true)]);
}

#[test]
fn a_crash_never_leaves_the_index_of_another_log() {
    for installed in [false, true] {
        let dir = Dir::new();
        let source = dir.segment(&[
            written(0, "b", "never"),
            marker(1, false),
            written(2, "b", "never"),
            marker(3, false),
            batch(4, Compression::None, &[(Some("a"), Some("1"))]),
        ]);
        let index = dir.path().join(format!("{:020}.txnindex", 0));
        dir.fs.replace(&index, &aborted(7, 9).to_bytes(), None).expect("written");
        let entries = vec![aborted(0, 1), aborted(2, 3)];
        let map = KeyMap::build(
            std::slice::from_ref(&source),
            0,
            1 << 20,
            1 << 20,
            TransactionWalk::new(entries.clone()),
            &|| true,
        )
        .expect("built");
        let mut met = TransactionWalk::new(entries.clone());
        let mut cleaned =
            clean_group(&dir.fs, dir.path(), &[source], &rules(&map, 0), &mut met, &LAYOUT, &|| true).expect("cleaned");
        cleaned.commit(&dir.fs, dir.path()).expect("committed");
        if installed {
            cleaned.install(&dir.fs, dir.path()).expect("installed");
        }
        recover(&dir.fs, dir.path()).expect("recovered");
        let expected: Vec<u8> = entries.iter().flat_map(AbortedTransaction::to_bytes).collect();
        assert_eq!(dir.fs.read(&index).expect("there"), expected);
        assert!(!recover(&dir.fs, dir.path()).expect("recovered"), "a second start finds nothing");
    }
}

#[rstest]
#[case::cut(|bytes: &mut Vec<u8>| { bytes.pop(); })]
#[case::magic(|bytes: &mut Vec<u8>| bytes[16] = 1)]
#[case::endless(|bytes: &mut Vec<u8>| bytes[8] = 0x7f)]
fn a_segment_that_cannot_be_walked_is_left_alone(#[case] damage: impl Fn(&mut Vec<u8>)) {
    let dir = Dir::new();
    let mut bytes = batch(0, Compression::None, &[(Some("a"), Some("1"))]);
    let mut source = dir.segment(&[bytes.clone()]);
    damage(&mut bytes);
    source.len = bytes.len() as u64;
    source.file.set_len(source.len).and_then(|()| source.file.write_all_at(&bytes, 0)).expect("written");
    assert!(matches!(dir.clean(&[source], 0, 0), Err(CleanError::Unreadable { base: 0, position: 0, .. })));
}

#[test]
fn a_round_stops_when_it_is_told() {
    let dir = Dir::new();
    let source = dir.segment(&[batch(0, Compression::None, &[(Some("a"), Some("1"))])]);
    assert!(matches!(
        KeyMap::build(&[source], 0, 1 << 20, 1 << 20, TransactionWalk::default(), &|| false),
        Err(CleanError::Stopped)
    ));
}

/// Where the process dies, as what is on disk then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Died {
    Written,
    Listed,
    Committed,
    Installed,
    Swept,
}

#[rstest]
fn a_crash_leaves_the_old_segments_or_the_new_one(
    #[values(Died::Written, Died::Listed, Died::Committed, Died::Installed, Died::Swept)] died: Died,
) {
    let dir = Dir::new();
    let a = |value| [(Some("a"), Some(value))];
    // Nothing of the second segment stays, so the cleaned one can't tell that it replaces it.
    let sources = [
        dir.segment(&[batch(0, Compression::None, &[(Some("b"), Some("1"))])]),
        dir.segment(&[batch(1, Compression::None, &a("1"))]),
    ];
    let rest = dir.segment(&[batch(2, Compression::None, &a("2"))]);
    let map =
        KeyMap::build(&[&sources[..], &[rest]].concat(), 0, 1 << 20, 1 << 20, TransactionWalk::default(), &|| true)
            .expect("built");
    let mut cleaned =
        clean_group(&dir.fs, dir.path(), &sources, &rules(&map, 0), &mut TransactionWalk::default(), &LAYOUT, &|| true)
            .expect("cleaned");
    if died == Died::Listed {
        dir.fs.replace(&dir.path().join(format!("{:020}.replaces", 0)), b"0\n2\n0\n1\n", None).expect("written");
    }
    if matches!(died, Died::Committed | Died::Installed | Died::Swept) {
        cleaned.commit(&dir.fs, dir.path()).expect("committed");
    }
    if matches!(died, Died::Installed | Died::Swept) {
        cleaned.install(&dir.fs, dir.path()).expect("installed");
    }
    if died == Died::Swept {
        cleaned.sweep(&dir.fs, dir.path()).expect("swept");
    }
    assert_eq!(recover(&dir.fs, dir.path()).expect("recovered"), died != Died::Swept);
    let expected: &[&str] = match died {
        Died::Written | Died::Listed => {
            &[".index", ".log", ".timeindex", "1.index", "1.log", "1.timeindex", "2.index", "2.log", "2.timeindex"]
        }
        Died::Committed => &[".log", "2.index", "2.log", "2.timeindex"],
        Died::Installed | Died::Swept => &[".index", ".log", ".timeindex", "2.index", "2.log", "2.timeindex"],
    };
    assert_eq!(dir.names(), expected);
    let log = dir.fs.read(&dir.path().join(format!("{:020}.log", 0))).expect("there");
    assert_eq!(log, batch(0, Compression::None, &[(Some("b"), Some("1"))]));
    assert!(!recover(&dir.fs, dir.path()).expect("recovered"), "a second start finds nothing");
}

#[test]
fn a_swap_of_kafkas_replaces_what_it_spans() {
    let dir = Dir::new();
    let a = |value| [(Some("a"), Some(value))];
    let batches: Vec<_> = (0..4).map(|i| batch(i, Compression::None, &a("x"))).collect();
    for batch in &batches {
        dir.segment(std::slice::from_ref(batch));
    }
    let log = dir.path().join(format!("{:020}.log", 0));
    dir.fs.replace(&with_suffix(&log, ".swap"), &[&batches[0][..], &batches[2]].concat(), None).expect("written");
    dir.fs.replace(&dir.path().join(format!("{:020}.index.swap", 0)), b"", None).expect("written");
    assert!(recover(&dir.fs, dir.path()).expect("recovered"));
    assert_eq!(dir.names(), [".log", "3.index", "3.log", "3.timeindex"]);
    assert_eq!(dir.fs.read(&log).expect("there"), [&batches[0][..], &batches[2]].concat());
}

#[test]
fn a_damaged_list_is_an_error_and_nothing_is_lost() {
    let dir = Dir::new();
    let source = dir.segment(&[batch(0, Compression::None, &[(Some("a"), Some("1"))])]);
    let cleaned = dir.clean(&[source], 0, 0).expect("cleaned");
    cleaned.commit(&dir.fs, dir.path()).expect("committed");
    let list = dir.path().join(format!("{:020}.replaces", 0));
    dir.fs.replace(&list, b"0\n7\n", None).expect("written");
    assert_eq!(recover(&dir.fs, dir.path()).expect_err("damaged").kind(), io::ErrorKind::InvalidData);
    assert!(dir.names().contains(&".log".to_owned()) && dir.names().contains(&".log.swap".to_owned()));
}

fn config() -> TopicConfig {
    let mut config = TopicConfig::resolve(&BrokerConfig::defaults(), Dynamic::none(), "t", &BTreeMap::new());
    (config.min_compaction_lag_ms, config.max_compaction_lag_ms) = (0, i64::MAX);
    config.min_cleanable_dirty_ratio = 0.5;
    (config.segment_bytes, config.segment_index_bytes) = (250, 1000);
    config
}

/// Four segments of 100 bytes and 10 offsets; the first record of the one at `base` is at `1000 + base`.
fn sealed() -> Vec<SealedSegment> {
    let segment = |base| SealedSegment {
        base,
        next: base + 10,
        size_bytes: 100,
        index_bytes: 10,
        first_ms: Some(1000 + base),
        newest_ms: 1009 + base,
    };
    [0, 10, 20, 30].map(segment).into()
}

/// As in the tier, where no share of dirty bytes is enough.
fn copied_at_once(config: &mut TopicConfig) {
    (config.remote_storage_enable, config.remote_log_copy_disable) = (true, false);
    (config.remote_copy_lag_ms, config.min_cleanable_dirty_ratio) = (0, 1.0);
}

#[rstest]
#[case::never_cleaned(|_: &mut TopicConfig| (), 0, 40, Some((0, 40)))]
#[case::half_is_not_enough(|_: &mut TopicConfig| (), 20, 40, None)]
#[case::more_than_half(|_: &mut TopicConfig| (), 10, 40, Some((10, 40)))]
#[case::all_clean(|_: &mut TopicConfig| (), 40, 40, None)]
#[case::below_the_high_watermark(|_: &mut TopicConfig| (), 0, 35, Some((0, 30)))]
#[case::cleaned_end_above_the_log(|_: &mut TopicConfig| (), 99, 40, Some((0, 40)))]
#[case::min_lag(|config: &mut TopicConfig| config.min_compaction_lag_ms = 1981, 0, 40, Some((0, 20)))]
#[case::min_lag_holds_all(|config: &mut TopicConfig| config.min_compaction_lag_ms = 5000, 0, 40, None)]
#[case::overdue(|config: &mut TopicConfig| config.max_compaction_lag_ms = 1969, 30, 40, Some((30, 40)))]
#[case::not_yet_overdue(|config: &mut TopicConfig| config.max_compaction_lag_ms = 1970, 30, 40, None)]
#[case::next_to_copy(|config: &mut TopicConfig| copied_at_once(config), 0, 40, Some((0, 40)))]
#[case::behind_what_waits_for_the_copier(|config: &mut TopicConfig| copied_at_once(config), 10, 40, None)]
fn a_round_is_planned_as_kafka_does(
    #[case] change: impl Fn(&mut TopicConfig),
    #[case] cleaned_end: Offset,
    #[case] upto: Offset,
    #[case] expected: Option<(Offset, Offset)>,
) {
    let mut config = config();
    change(&mut config);
    let plan = plan(&config, 3_000, cleaned_end, upto, &sealed(), 0);
    assert_eq!(plan.map(|plan| (plan.from, plan.upto)), expected);
}

#[rstest]
#[case::by_size(250, 1000, vec![0..2, 2..4])]
#[case::by_index(1000, 30, vec![0..3, 3..4])]
#[case::none_fits(50, 1000, vec![0..1, 1..2, 2..3, 3..4])]
fn neighbours_become_one(
    #[case] segment_bytes: u32,
    #[case] index_bytes: u32,
    #[case] expected: Vec<std::ops::Range<usize>>,
) {
    let config = TopicConfig { segment_bytes, segment_index_bytes: index_bytes, ..config() };
    assert_eq!(groups(&config, &sealed()), expected);
}

#[test]
fn offsets_too_far_apart_do_not_share_a_segment() {
    let mut far = sealed();
    far[1].next = 1 + i64::from(i32::MAX);
    assert_eq!(groups(&config(), &far[..2]), [0..1, 1..2]);
}

type Records = Vec<(u8, Option<u16>)>;

proptest! {
    #[test]
    fn a_reader_learns_the_same_from_a_cleaned_log(
        segments in prop::collection::vec(prop::collection::vec(prop::collection::vec((0..6u8, any::<Option<u16>>()), 1..5), 1..6), 1..5),
        codec in 0..5i16,
        from in 0..10i64,
    ) {
        let dir = Dir::new();
        let codec = Compression::from_id(codec).expect("a codec");
        let mut next = 0;
        let mut make = |records: &Records| {
            let base = next;
            let pairs: Vec<Pair> = records.iter().map(|(key, value)| {
                let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
                (Some(leak(key.to_string())), value.map(|value| leak(value.to_string())))
            }).collect();
            next += records.len() as i64;
            batch(base, codec, &pairs)
        };
        let sources: Vec<_> = segments.iter().map(|batches| dir.segment(&batches.iter().map(&mut make).collect::<Vec<_>>())).collect();
        let before: Vec<_> = sources.iter().flat_map(content).collect();
        let cleaned = dir.clean(&sources, from, 0).expect("cleaned");
        let after = content(&source_of(&cleaned));

        let learn = |log: &[(Offset, Option<String>, Option<String>)]| {
            log.iter().map(|(_, key, value)| (key.clone(), value.clone())).collect::<HashMap<_, _>>()
        };
        prop_assert_eq!(learn(&before), learn(&after));
        prop_assert!(after.iter().all(|record| before.contains(record)));
        prop_assert!(after.windows(2).all(|w| w[0].0 < w[1].0));
        prop_assert_eq!(after.last().map(|last| last.0), Some(next - 1));
        if from == 0 {
            prop_assert_eq!(after.len(), learn(&after).len(), "one record a key");
        }
        for entry in cleaned.offsets.entries() {
            let mut header = [0; HEADER_BYTES];
            cleaned.file.read_exact_at(&mut header, entry.position.into()).expect("readable");
            let base = i64::from_be_bytes(header[..8].try_into().expect("eight bytes"));
            prop_assert!(base <= entry.offset);
        }
    }
}
