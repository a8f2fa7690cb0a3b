use rstest::rstest;

use super::*;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::compression::Compression;

fn batch(base: Offset, key: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base).with_compression(Compression::Gzip).with_producer(7, 1, 40);
    builder.push(0, 5_000, Some(key), None, [(&b"h"[..], Some(&b"v"[..]))].into_iter());
    builder.push(1, 5_001, None, Some(b"\xff value"), [].into_iter());
    builder.finish()
}

/// What is shown of a file of this name and content, and how it ends.
fn shown(name: &str, content: &[u8]) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(name);
    fs::write(&path, content).expect("written");
    let arguments = DumpArgs { files: vec![path], records: true, print_data: true, decompressed_max_bytes: 1 << 20 };
    let mut out = Vec::new();
    let failed = dump_all(&arguments, &mut out);
    let text = String::from_utf8(out).expect("text");
    (text.split_once('\n').expect("the file's line").1.to_owned(), failed)
}

#[test]
fn a_segment_shows_its_batches_and_records() {
    let content = [batch(10, b"k"), batch(12, b"l")].concat();
    let (text, failed) = shown("00000000000000000010.log", &content);
    assert_eq!(failed, [""; 0]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    let expected = "baseOffset: 12 lastOffset: 13 count: 2 baseSequence: 40 lastSequence: 41 producerId: 7 \
                    producerEpoch: 1 partitionLeaderEpoch: -1 isTransactional: false isControl: false position: ";
    assert!(lines[3].starts_with(expected), "{}", lines[3]);
    assert!(lines[3].ends_with("isvalid: true") && lines[3].contains("compresscodec: gzip"), "{}", lines[3]);
    let expected =
        "| offset: 10 CreateTime: 5000 keySize: 1 valueSize: -1 sequence: 40 key: k payload: null header: h=v";
    assert_eq!(lines[1], expected);
    let expected = "| offset: 11 CreateTime: 5001 keySize: -1 valueSize: 7 sequence: 41 key: null payload: \\xff value";
    assert_eq!(lines[2], expected);
}

#[test]
fn a_damaged_segment_is_shown_up_to_there() {
    let mut content = [batch(10, b"k"), batch(12, b"l")].concat();
    content.truncate(content.len() - 1);
    let (text, failed) = shown("00000000000000000010.log", &content);
    assert_eq!(text.lines().count(), 3);
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0].ends_with(&format!("no batch at position {}: batch is cut short", batch(10, b"k").len())),
        "{failed:?}"
    );
}

#[rstest]
#[case::offsets("00000000000000000100.index", &[0, 0, 0, 9, 0, 0, 1, 0], "offset: 109 position: 256\n")]
#[case::preallocated("00000000000000000100.index", &[0; 64], "")]
#[case::times("00000000000000000100.timeindex", &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1], "timestamp: 7 offset: 101\n")]
#[case::epochs("leader-epoch-checkpoint", b"0\n1\n3 40\n", "leaderEpoch: 3 startOffset: 40\n")]
#[case::offset_checkpoint("recovery-point-offset-checkpoint", b"0\n1\na 0 7\n", "a 0 offset: 7\n")]
fn other_files_show_their_entries(#[case] name: &str, #[case] content: &[u8], #[case] expected: &str) {
    assert_eq!(shown(name, content), (expected.to_owned(), vec![]));
}

#[rstest]
#[case("00000000000000000100.index")]
#[case("00000000000000000100.timeindex")]
#[case("00000000000000000100.snapshot")]
#[case("leader-epoch-checkpoint")]
#[case("terrace-checkpoint")]
#[case("replication-offset-checkpoint")]
#[case("anything")]
fn garbage_fails_and_never_panics(#[case] name: &str) {
    assert_eq!(shown(name, &[0xff; 99]).1.len(), 1);
}
