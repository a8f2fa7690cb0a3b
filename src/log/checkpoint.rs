//! The broker's checkpoint: where every partition of one log directory stands, so that a start scans only what was
//! written since.
//!
//! Each partition has two marks. Below the *checked end* every batch is in the page cache and was checked; that holds
//! only while the same page cache lives. Below the *flushed end* everything was synced. The file names the page cache
//! it was written over ([`PageCacheId`]): when it is still the same one, a start scans from the checked end, otherwise
//! from the flushed end ([`Checkpoint::scan_from`]).
//!
//! One writer per log directory owns the [`CheckpointWriter`]; it keeps each partition's entry encoded, so that a
//! second in which two partitions changed encodes two. The file is replaced as a whole, synced before it gets its
//! name: a crash leaves the old one or the new one, both true, the old one with a longer scan behind it. A file that
//! is missing or damaged costs a scan of everything and nothing else.
//!
//! The layout is in `docs/formats.md`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use terrace_tiering::platform::crash_point::CrashPoint;
use terrace_tiering::platform::fs::SharedFs;
use terrace_tiering::platform::kernel::PageCacheId;
use uuid::Uuid;

use crate::protocol::record_batch::Offset;

/// The name of the file in a log directory.
pub const FILE_NAME: &str = "terrace-checkpoint";

const MAGIC: &[u8; 8] = b"TERRCKPT";
const VERSION: u16 = 1;
const CLEAN_STOP_FLAG: u16 = 1;
const PAGE_CACHE_KNOWN_FLAG: u16 = 2;
const HEADER_BYTES: usize = 48;
const CRC_BYTES: usize = 4;
const ENTRY_FIXED_BYTES: usize = 90;

/// Where one partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMarks {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// The topic's name, which is also its directory's.
    pub topic: Arc<str>,
    /// Everything below is in the page cache and was checked.
    pub checked_end: Offset,
    /// Everything below was synced.
    pub flushed_end: Offset,
    /// First readable offset over both tiers.
    pub log_start: Offset,
    /// First offset of the local log.
    pub local_start: Offset,
    /// Compacted up to here; the log start when nothing was.
    pub cleaned_end: Offset,
    /// Bytes of the local log.
    pub size_bytes: u64,
    /// When something is next due (roll, retention, flush), in milliseconds; `i64::MAX` for never.
    pub next_due_ms: i64,
    /// The offset of the producer snapshot that `producers` goes on top of.
    pub snapshot_offset: Offset,
    /// The producers that changed since, up to `checked_end`: opaque here (`ProducerTable::changes_since`).
    pub producers: Bytes,
}

/// What a checkpoint file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The page cache that it was written over, if the machine could tell.
    pub page_cache: Option<PageCacheId>,
    /// Was it the last act of a clean stop?
    pub clean_stop: bool,
    /// All partitions, sorted by topic id and number.
    pub partitions: Vec<PartitionMarks>,
}

/// Why bytes are not a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The magic is another.
    #[error("not a checkpoint")]
    Magic,
    /// Written by a later release.
    #[error("version {0} is unknown")]
    Version(u16),
    /// The CRC disagrees.
    #[error("crc is {found:08x}, file says {expected:08x}")]
    Crc {
        /// What the file says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// Lengths or counts disagree with the bytes.
    #[error("lengths disagree with the bytes")]
    Length,
}

impl Checkpoint {
    /// Reads the checkpoint of a log directory; `None` when there is none.
    pub fn load(fs: &SharedFs, log_dir: &Path) -> io::Result<Option<Result<Self, CheckpointError>>> {
        match fs.read(&log_dir.join(FILE_NAME)) {
            Ok(bytes) => Ok(Some(Self::decode(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first offset of `marks` that a start has to scan, given the page cache of today.
    pub fn scan_from(&self, marks: &PartitionMarks, page_cache: Option<PageCacheId>) -> Offset {
        if self.page_cache.is_some() && self.page_cache == page_cache { marks.checked_end } else { marks.flushed_end }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let entries: Vec<_> = self.partitions.iter().map(encode_entry).collect();
        assemble(self.page_cache, self.clean_stop, entries.iter())
    }

    /// Reads the bytes of the file. Memory follows the bytes that are there, never a count or length in them.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        if bytes.len() < HEADER_BYTES + CRC_BYTES {
            return Err(CheckpointError::Length);
        }
        let (covered, mut crc) = bytes.split_at(bytes.len() - CRC_BYTES);
        let (magic, mut at) = covered.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(CheckpointError::Magic);
        }
        let version = at.get_u16();
        if version != VERSION {
            return Err(CheckpointError::Version(version));
        }
        let (expected, found) = (crc.get_u32(), crc32c::crc32c(covered));
        if expected != found {
            return Err(CheckpointError::Crc { expected, found });
        }
        let flags = at.get_u16();
        let mut boot = [0; 16];
        at.copy_to_slice(&mut boot);
        let id = PageCacheId { boot, mount: at.get_u64(), device: at.get_u64() };
        let count = at.get_u32();
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(decode_entry(&mut at).ok_or(CheckpointError::Length)?);
        }
        if !at.is_empty() {
            return Err(CheckpointError::Length);
        }
        Ok(Self {
            page_cache: (flags & PAGE_CACHE_KNOWN_FLAG != 0).then_some(id),
            clean_stop: flags & CLEAN_STOP_FLAG != 0,
            partitions,
        })
    }
}

fn assemble<'a>(
    page_cache: Option<PageCacheId>,
    clean_stop: bool,
    entries: impl ExactSizeIterator<Item = &'a Vec<u8>>,
) -> Vec<u8> {
    let id = page_cache.unwrap_or(PageCacheId { boot: [0; 16], mount: 0, device: 0 });
    let known = if page_cache.is_some() { PAGE_CACHE_KNOWN_FLAG } else { 0 };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + entries.len() * (ENTRY_FIXED_BYTES + 32) + CRC_BYTES);
    bytes.put_slice(MAGIC);
    bytes.put_u16(VERSION);
    bytes.put_u16(known | if clean_stop { CLEAN_STOP_FLAG } else { 0 });
    bytes.put_slice(&id.boot);
    bytes.put_u64(id.mount);
    bytes.put_u64(id.device);
    bytes.put_u32(entries.len() as u32);
    for entry in entries {
        bytes.put_slice(entry);
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.put_u32(crc);
    bytes
}

fn encode_entry(marks: &PartitionMarks) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_FIXED_BYTES + marks.topic.len() + marks.producers.len());
    bytes.put_slice(marks.topic_id.as_bytes());
    bytes.put_i32(marks.partition);
    bytes.put_i64(marks.checked_end);
    bytes.put_i64(marks.flushed_end);
    bytes.put_i64(marks.log_start);
    bytes.put_i64(marks.local_start);
    bytes.put_i64(marks.cleaned_end);
    bytes.put_u64(marks.size_bytes);
    bytes.put_i64(marks.next_due_ms);
    bytes.put_i64(marks.snapshot_offset);
    // A topic's name has at most 249 characters.
    bytes.put_u16(marks.topic.len() as u16);
    bytes.put_u32(marks.producers.len() as u32);
    bytes.put_slice(marks.topic.as_bytes());
    bytes.put_slice(&marks.producers);
    bytes
}

fn decode_entry(at: &mut &[u8]) -> Option<PartitionMarks> {
    if at.len() < ENTRY_FIXED_BYTES {
        return None;
    }
    let mut topic_id = [0; 16];
    at.copy_to_slice(&mut topic_id);
    let mut marks = PartitionMarks {
        topic_id: Uuid::from_bytes(topic_id),
        partition: at.get_i32(),
        topic: Arc::from(""),
        checked_end: at.get_i64(),
        flushed_end: at.get_i64(),
        log_start: at.get_i64(),
        local_start: at.get_i64(),
        cleaned_end: at.get_i64(),
        size_bytes: at.get_u64(),
        next_due_ms: at.get_i64(),
        snapshot_offset: at.get_i64(),
        producers: Bytes::new(),
    };
    let (topic_len, producers_len) = (usize::from(at.get_u16()), at.get_u32() as usize);
    let (topic, rest) = at.split_at_checked(topic_len)?;
    let (producers, rest) = rest.split_at_checked(producers_len)?;
    marks.topic = Arc::from(std::str::from_utf8(topic).ok()?);
    marks.producers = Bytes::copy_from_slice(producers);
    *at = rest;
    Some(marks)
}

/// Writes the checkpoint of one log directory.
#[derive(Debug)]
pub struct CheckpointWriter {
    fs: SharedFs,
    path: PathBuf,
    page_cache: Option<PageCacheId>,
    entries: BTreeMap<(Uuid, i32), Vec<u8>>,
    changed: bool,
}

impl CheckpointWriter {
    /// A writer for `log_dir` that goes on from what was loaded: partitions that nobody opens keep their marks. The
    /// page cache is today's; after a change of it, checked ends of old entries fall to their flushed ends.
    pub fn new(fs: SharedFs, log_dir: &Path, page_cache: Option<PageCacheId>, loaded: Option<&Checkpoint>) -> Self {
        let mut writer =
            Self { fs, path: log_dir.join(FILE_NAME), page_cache, entries: BTreeMap::new(), changed: true };
        for (checkpoint, marks) in loaded.iter().flat_map(|c| c.partitions.iter().map(move |marks| (c, marks))) {
            let mut marks = marks.clone();
            let scan_from = checkpoint.scan_from(&marks, page_cache);
            if scan_from != marks.checked_end {
                // The producers were recorded up to the old checked end; a scan from the snapshot brings them back.
                marks.producers = Bytes::new();
                marks.checked_end = scan_from;
            }
            writer.set(&marks);
        }
        writer
    }

    /// Records where a partition stands; written by the next [`CheckpointWriter::write`].
    pub fn set(&mut self, marks: &PartitionMarks) {
        let entry = encode_entry(marks);
        let key = (marks.topic_id, marks.partition);
        if self.entries.get(&key) != Some(&entry) {
            self.entries.insert(key, entry);
            self.changed = true;
        }
    }

    /// Forgets a partition that was deleted.
    pub fn remove(&mut self, topic_id: Uuid, partition: i32) {
        self.changed |= self.entries.remove(&(topic_id, partition)).is_some();
    }

    /// Is there anything that the file doesn't say yet?
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Replaces the file when anything changed. Blocks for two syncs.
    pub fn write(&mut self) -> io::Result<()> {
        if self.changed { self.replace(false) } else { Ok(()) }
    }

    /// Replaces the file as the last act of a clean stop.
    pub fn write_clean_stop(&mut self) -> io::Result<()> {
        self.replace(true)
    }

    fn replace(&mut self, clean_stop: bool) -> io::Result<()> {
        let bytes = assemble(self.page_cache, clean_stop, self.entries.values());
        let at = (CrashPoint::CheckpointBeforeRename, CrashPoint::CheckpointAfterRename);
        self.fs.replace(&self.path, &bytes, Some(at))?;
        self.changed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use terrace_tiering::platform::fs::RealFs;

    use super::*;

    const HERE: PageCacheId = PageCacheId { boot: [7; 16], mount: 8, device: 9 };

    fn marks(partition: i32) -> PartitionMarks {
        PartitionMarks {
            topic_id: Uuid::from_u128(5),
            partition,
            topic: "orders".into(),
            checked_end: 40,
            flushed_end: 30,
            log_start: 3,
            local_start: 10,
            cleaned_end: 15,
            size_bytes: 1 << 33,
            next_due_ms: i64::MAX,
            snapshot_offset: 20,
            producers: Bytes::from_static(b"opaque"),
        }
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { page_cache: Some(HERE), clean_stop: false, partitions: vec![marks(0), marks(1)] }
    }

    #[rstest]
    #[case::same(Some(HERE), Some(HERE), 40)]
    #[case::other_boot(Some(HERE), Some(PageCacheId { boot: [0; 16], ..HERE }), 30)]
    #[case::other_mount(Some(HERE), Some(PageCacheId { mount: 1, ..HERE }), 30)]
    #[case::other_device(Some(HERE), Some(PageCacheId { device: 1, ..HERE }), 30)]
    #[case::unknown_today(Some(HERE), None, 30)]
    #[case::never_known(None, None, 30)]
    fn only_the_same_page_cache_is_trusted(
        #[case] then: Option<PageCacheId>,
        #[case] now: Option<PageCacheId>,
        #[case] from: Offset,
    ) {
        let checkpoint = Checkpoint { page_cache: then, ..checkpoint() };
        assert_eq!(checkpoint.scan_from(&checkpoint.partitions[0], now), from);
    }

    #[test]
    fn the_writer_keeps_what_nobody_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let fs = RealFs::shared();
        let load = || Checkpoint::load(&fs, dir.path()).expect("readable").map(|read| read.expect("whole"));
        assert_eq!(load(), None);

        let mut writer = CheckpointWriter::new(fs.clone(), dir.path(), Some(HERE), Some(&checkpoint()));
        writer.set(&PartitionMarks { checked_end: 50, ..marks(1) });
        writer.write().expect("written");
        let written = load().expect("there");
        assert_eq!(written.partitions, vec![marks(0), PartitionMarks { checked_end: 50, ..marks(1) }]);
        assert!(!written.clean_stop && !writer.is_changed());

        writer.set(&PartitionMarks { checked_end: 50, ..marks(1) });
        assert!(!writer.is_changed(), "the same marks are no change");
        writer.remove(Uuid::from_u128(5), 0);
        writer.write_clean_stop().expect("written");
        let written = load().expect("there");
        assert!(written.clean_stop);
        assert_eq!(written.partitions.len(), 1);
    }

    #[test]
    fn another_page_cache_lowers_the_checked_end_for_good() {
        let dir = tempfile::tempdir().expect("a directory");
        let fs = RealFs::shared();
        let now = PageCacheId { boot: [1; 16], ..HERE };
        let mut writer = CheckpointWriter::new(fs.clone(), dir.path(), Some(now), Some(&checkpoint()));
        writer.write().expect("written");
        let written = Checkpoint::load(&fs, dir.path()).expect("readable").expect("there").expect("whole");
        let lowered = PartitionMarks { checked_end: 30, producers: Bytes::new(), ..marks(0) };
        assert_eq!(written.partitions[0], lowered);
    }

    fn any_marks() -> impl Strategy<Value = PartitionMarks> {
        let numbers = (any::<u128>(), any::<i32>(), any::<[i64; 7]>(), any::<u64>());
        (numbers, "[a-z._]{0,40}", prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(numbers, topic, producers)| {
            let (topic_id, partition, [a, b, c, d, e, f, g], size_bytes) = numbers;
            PartitionMarks {
                topic_id: Uuid::from_u128(topic_id),
                partition,
                topic: topic.into(),
                checked_end: a,
                flushed_end: b,
                log_start: c,
                local_start: d,
                cleaned_end: e,
                size_bytes,
                next_due_ms: f,
                snapshot_offset: g,
                producers: producers.into(),
            }
        })
    }

    fn any_checkpoint() -> impl Strategy<Value = Checkpoint> {
        (prop::collection::vec(any_marks(), 0..8), any::<bool>(), any::<Option<u64>>()).prop_map(
            |(partitions, clean_stop, mount)| {
                let page_cache = mount.map(|mount| PageCacheId { mount, ..HERE });
                Checkpoint { page_cache, clean_stop, partitions }
            },
        )
    }

    proptest! {
        #[test]
        fn a_checkpoint_comes_back(checkpoint in any_checkpoint()) {
            prop_assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }

        #[test]
        fn damage_is_noticed(checkpoint in any_checkpoint(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let mut bytes = checkpoint.encode();
            let at = at.index(bytes.len());
            prop_assert!(Checkpoint::decode(&bytes[..at]).is_err());
            bytes[at] ^= flip;
            prop_assert!(Checkpoint::decode(&bytes).is_err());
        }

        #[test]
        fn any_body_under_a_right_crc_is_read_or_refused(
            checkpoint in any_checkpoint(),
            body in prop::collection::vec(any::<u8>(), 0..300),
            count in any::<u32>(),
        ) {
            let mut bytes = checkpoint.encode();
            bytes.truncate(HEADER_BYTES);
            bytes[HEADER_BYTES - 4..].copy_from_slice(&count.to_be_bytes());
            bytes.extend_from_slice(&body);
            let crc = crc32c::crc32c(&bytes);
            bytes.put_u32(crc);
            let _ = Checkpoint::decode(&bytes);
        }
    }
}
