//! The bytes of each format as this version writes them, and as every later one must read them. A change here is a new
//! format: keep the old file and read both. `TERRACE_GOLDEN=write` writes them anew.

use std::path::PathBuf;

use terrace_tiering::cluster::snapshot::{Snapshot, SnapshotSection};
use terrace_tiering::manifest::{LeafRef, ManifestEntry, Root, format};
use terrace_tiering::object::chunk::ChunkEntry;
use terrace_tiering::object::footer::{AbortedTransaction, Footer, SegmentIdentity};
use uuid::Uuid;

/// The bytes in `testdata`, after it was made sure that `bytes` are the same.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let rows: Vec<String> =
        bytes.chunks(32).map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let text = rows.join("\n") + "\n";
    if std::env::var("TERRACE_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, expected, "{name} is written differently");
    let digits: String = expected.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn footer() -> Footer {
    let chunk = |number: u32| ChunkEntry {
        position: u64::from(number) * 100,
        length: 100,
        first_offset: 5000 + i64::from(number) * 7,
        max_timestamp: 1_700_000_000_000 + i64::from(number),
        crc: 0xC0DE_0000 + number,
    };
    Footer {
        identity: SegmentIdentity {
            cluster_id: "MkU3OEVBNTcwNTJENDM2Qk".to_owned(),
            topic: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            topic_name: "orders".to_owned(),
            partition: 3,
            base_offset: 5000,
            last_offset: 5020,
            leader_epoch: 4,
            uuid: Uuid::from_u128(0xAABB),
            record_count: 21,
            batch_count: 9,
            first_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_002,
            max_timestamp_offset: 5019,
            flags: 0,
        },
        log_bytes: 300,
        chunks: (0..3).map(chunk).collect(),
        epochs: vec![(2, 5000), (4, 5010)],
        producer_snapshot: b"producer state".as_slice().into(),
        aborted: vec![AbortedTransaction {
            producer_id: 9,
            first_offset: 5001,
            last_offset: 5002,
            last_stable_offset: 5003,
        }],
    }
}

fn entries() -> Vec<ManifestEntry> {
    let entry = |number: i64| ManifestEntry {
        uuid: Uuid::from_u128(number as u128 + 1),
        base_offset: number * 1000,
        last_offset: number * 1000 + 999,
        leader_epoch: 4,
        log_bytes: 1 << 20,
        object_bytes: (1 << 20) + 600,
        first_timestamp: 1_700_000_000_000 + number,
        max_timestamp: 1_700_000_000_500 + number,
        max_timestamp_offset: number * 1000 + 998,
        epochs: vec![(4, number * 1000)],
    };
    (0..3).map(entry).collect()
}

#[test]
fn footer_and_trailer() {
    let bytes = golden("footer-v1.hex", &footer().encode());
    let mut object = vec![0; 300];
    object.extend(bytes);
    assert_eq!(Footer::of_object(&object), Ok(footer()));
}

#[test]
fn root_and_leaf() {
    let leaf = golden("leaf-v1.hex", &format::encode_leaf(&entries()));
    assert_eq!(format::parse_leaf(&leaf), Ok(entries()));
    let root = Root {
        topic: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        partition: 3,
        leader_epoch: 4,
        generation: 17,
        writer: Uuid::from_u128(0xEE),
        previous_crc: 0xC0DE_C0DE,
        written_at_ms: 1_700_000_001_000,
        log_start: 100,
        tier_end: 3000,
        cleaned_end: 0,
        leaves: vec![LeafRef {
            first_offset: 0,
            last_offset: 1999,
            uuid: Uuid::from_u128(0xDD),
            entry_count: 2,
            crc: 0xC0DE_0001,
        }],
        entries: entries().split_off(2),
    };
    let bytes = golden("root-v1.hex", &format::encode_root(&root));
    assert_eq!(format::parse_root(&bytes), Ok(root.clone()));
    // Where a round of the cleaner has ended there is a section more, which older readers skip.
    let cleaned = Root { cleaned_end: 2000, ..root };
    let bytes = golden("root-v1-cleaned.hex", &format::encode_root(&cleaned));
    assert_eq!(format::parse_root(&bytes), Ok(cleaned));
}

#[test]
fn snapshot() {
    let section = |kind, bytes: &'static [u8]| SnapshotSection { kind, bytes: bytes.into() };
    let snapshot = Snapshot { number: 12, sections: vec![section(1, b"image"), section(700, b"")] };
    let bytes = golden("snapshot-v1.hex", &snapshot.encode());
    assert_eq!(Snapshot::parse(&bytes), Ok(snapshot));
}
