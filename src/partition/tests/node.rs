//! A node without a broker: partitions over a directory, with a clock, a file system and a crash in the test's hands.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use terrace_tiering::platform::clock::ManualClock;
use terrace_tiering::platform::fs::{Entry, File, Fs, Open, RealFs, SharedFile};
use terrace_tiering::platform::random::SeededRandom;
use uuid::Uuid;

use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;
use crate::config::topic::TopicConfig;
use crate::metadata::image::{Image, PartitionId, Topic};
use crate::partition::Partition;
use crate::partition::append::{AppendError, AppendOrigin, Appended};
use crate::partition::read::{Isolation, ReadError, ReadOutcome, ReadSpec, Records};
use crate::partition::registry::{LogSettings, PartitionDeps, Partitions};
use crate::partition::tuning::{Tuned, Tuning};
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::compression::Compression;
use crate::protocol::record_batch::{BatchView, Offset};

pub(super) const NOW_MS: i64 = 1_700_000_000_000;

/// The machine's file system with switches.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) sync_fails: AtomicBool,
    pub(super) write_fails: AtomicBool,
    pub(super) cut_fails: AtomicBool,
    /// Nothing is in the page cache until somebody waited for it.
    pub(super) cold: AtomicBool,
    /// Nothing of the lists of aborted transactions is.
    pub(super) cold_aborted: AtomicBool,
    /// How often files were read.
    pub(super) reads: AtomicUsize,
    /// Writes to the write-ahead log alone.
    pub(super) wal_writes_fail: AtomicBool,
}

#[derive(Debug)]
struct FaultyFs(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile {
    file: SharedFile,
    is_wal: bool,
    /// Its writes are syncs too.
    is_durable: bool,
    is_aborted: bool,
    faults: Arc<Faults>,
}

fn check(switch: &AtomicBool) -> io::Result<()> {
    if switch.load(Ordering::SeqCst) { Err(io::Error::other("injected")) } else { Ok(()) }
}

impl Fs for FaultyFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<SharedFile> {
        let file = RealFs.open(path, how)?;
        let is_aborted = path.extension().is_some_and(|extension| extension == "txnindex");
        let is_wal = path.to_string_lossy().contains("terrace-wal-");
        let is_durable = how == Open::Durable;
        Ok(Arc::new(FaultyFile { file, is_wal, is_durable, is_aborted, faults: Arc::clone(&self.0) }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealFs.read(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir_all(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        RealFs.read_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        RealFs.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir_all(path)
    }
    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        check(&self.0.sync_fails)?;
        RealFs.sync_file_system(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.sync_dir(path)
    }
}

impl File for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if self.is_wal {
            check(&self.faults.wal_writes_fail)?;
        }
        if self.is_durable {
            check(&self.faults.sync_fails)?;
        }
        if check(&self.faults.write_fails).is_err() {
            // Half of it is there, as after a full disk.
            self.file.write_all_at(&bytes[..bytes.len() / 2], position)?;
            return Err(io::Error::other("injected"));
        }
        self.file.write_all_at(bytes, position)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
        self.file.read_at(buffer, position)
    }
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let cold = if self.is_aborted { &self.faults.cold_aborted } else { &self.faults.cold };
        if cold.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_at(buffer, position)
    }
    fn bring_to_cache(&self, position: u64, len: u64, ahead: u64) -> io::Result<()> {
        self.faults.cold.store(false, Ordering::SeqCst);
        self.file.bring_to_cache(position, len, ahead)
    }
    fn sync_data(&self) -> io::Result<()> {
        check(&self.faults.sync_fails)?;
        self.file.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        check(&self.faults.cut_fails)?;
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }
}

pub(super) struct TestNode {
    _dir: tempfile::TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) faults: Arc<Faults>,
    pub(super) settings: LogSettings,
    pub(super) config: Arc<Mutex<TopicConfig>>,
    pub(super) image: Image,
    pub(super) partitions: Arc<Partitions>,
}

pub(super) fn plain_config() -> TopicConfig {
    let mut config = TopicConfig::resolve(&BrokerConfig::defaults(), Dynamic::none(), "t", &BTreeMap::new());
    config.remote_storage_enable = false;
    config.retention_ms = None;
    config
}

pub(super) fn topic(name: &str, id: u128, partition_count: i32) -> Topic {
    Topic {
        id: Uuid::from_u128(id),
        name: name.into(),
        partition_count,
        replication_factor: 1,
        config: BTreeMap::new(),
    }
}

pub(super) fn image_of(topics: Vec<Topic>, generation: u64, node_epoch: i32) -> Image {
    let topics: Vec<_> = topics.into_iter().map(Arc::new).collect();
    Image {
        generation,
        node_epoch,
        topics: topics.iter().map(|topic| (Arc::clone(&topic.name), Arc::clone(topic))).collect(),
        topics_by_id: topics.iter().map(|topic| (topic.id, Arc::clone(topic))).collect::<HashMap<_, _>>(),
        ..Image::default()
    }
}

impl TestNode {
    /// A node with the topic "t" of one partition, whose configuration `change` makes of the defaults.
    pub(super) fn with(change: impl Fn(&mut TopicConfig)) -> Self {
        Self::over(1, change)
    }

    /// As [`TestNode::with`], with so many log directories.
    pub(super) fn over(dirs: usize, change: impl Fn(&mut TopicConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = plain_config();
        change(&mut config);
        let settings = LogSettings {
            node_id: 1,
            log_dirs: (0..dirs).map(|at| dir.path().join(format!("log{at}"))).collect(),
            failed_dirs: Vec::new(),
            min_free_bytes: vec![1_000],
            tuning: Tuning::new(Tuned {
                producer_id_expiration_ms: 86_400_000,
                cleaner_backoff_ms: 1_000,
                cleaner_map_bytes: 1 << 20,
                move_bytes_per_second: u64::MAX,
                transaction_verification: true,
            }),
            retention_check_interval_ms: 1_000,
            remote_segment_roll_ms: Some(3_600_000),
            open_files_max: 100,
            checkpoint_interval_ms: 1_000,
            syncs: Default::default(),
        };
        let config = Arc::new(Mutex::new(config));
        let (clock, faults) = (ManualClock::at(NOW_MS), Arc::new(Faults::default()));
        let image = image_of(vec![topic("t", 7, 1)], 1, 3);
        let partitions = open(&settings, &config, &clock, &faults, &image);
        Self { _dir: dir, clock, faults, settings, config, image, partitions }
    }

    pub(super) fn partition(&self) -> Arc<Partition> {
        self.partitions.get(PartitionId { topic: Uuid::from_u128(7), partition: 0 }).unwrap()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.settings.log_dirs[0].join("t-0")
    }

    /// The names in the partition's directory, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = RealFs.read_dir(&self.path()).unwrap_or_default().into_iter().map(|e| e.name).collect();
        names.sort();
        names
    }

    /// The process is gone without a word, the next one starts.
    pub(super) fn crash(&mut self) {
        self.image.node_epoch += 1;
        self.partitions = open(&self.settings, &self.config, &self.clock, &self.faults, &self.image);
    }

    /// As [`TestNode::crash`], and another kernel's page cache is behind the directory.
    pub(super) fn power_loss(&mut self) {
        let path = self.settings.log_dirs[0].join(crate::log::checkpoint::FILE_NAME);
        if let Ok(bytes) = std::fs::read(&path) {
            let mut checkpoint = crate::log::checkpoint::Checkpoint::decode(&bytes).unwrap();
            if let Some(id) = &mut checkpoint.page_cache {
                id.boot = [0; 16];
            }
            std::fs::write(&path, checkpoint.encode()).unwrap();
        }
        self.crash();
    }

    pub(super) fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.partition().append(&mut batch.bytes(), AppendOrigin::Client, None)
    }

    /// Appends `batches` batches of ten records each, their values of `value_bytes`.
    pub(super) fn fill(&self, batches: usize, value_bytes: usize) {
        for _ in 0..batches {
            self.append(Batch { value_bytes, ..Batch::of(10) }).unwrap();
        }
    }

    /// All offsets that readers see, from `from` on, batch by batch.
    pub(super) fn read_all(&self, from: Offset) -> Vec<(Offset, Offset, i32)> {
        let mut at = from;
        let mut seen = Vec::new();
        loop {
            let bytes = read(&self.partition(), at, u64::MAX).unwrap();
            let mut rest = &bytes[..];
            if rest.is_empty() {
                return seen;
            }
            while let Ok((batch, behind)) = BatchView::split_first(rest) {
                batch.check_crc().unwrap();
                seen.push((batch.base_offset(), batch.last_offset(), batch.leader_epoch()));
                at = batch.next_offset();
                rest = behind;
            }
        }
    }
}

fn open(
    settings: &LogSettings,
    config: &Arc<Mutex<TopicConfig>>,
    clock: &Arc<ManualClock>,
    faults: &Arc<Faults>,
    image: &Image,
) -> Arc<Partitions> {
    let config = Arc::clone(config);
    let deps = PartitionDeps {
        fs: Arc::new(FaultyFs(Arc::clone(faults))),
        clock: clock.clone(),
        random: SeededRandom::new(1),
        settings: settings.clone(),
        resolve_config: Arc::new(move |_, _| Arc::new(config.lock().unwrap().clone())),
    };
    Partitions::open(deps, image).unwrap()
}

pub(super) fn spec(offset: Offset) -> ReadSpec {
    ReadSpec {
        offset,
        max_bytes: u64::MAX,
        min_one: true,
        current_leader_epoch: None,
        last_fetched_epoch: None,
        isolation: Isolation::ReadUncommitted,
    }
}

pub(super) fn bytes_of(outcome: &ReadOutcome) -> Vec<u8> {
    match &outcome.records {
        Records::Empty => Vec::new(),
        Records::File(range) => {
            let mut bytes = vec![0; range.len as usize];
            range.file.read_exact_at(&mut bytes, range.position).unwrap();
            bytes
        }
        Records::Cold(_) => panic!("a local read was expected"),
    }
}

pub(super) fn read(partition: &Partition, offset: Offset, max_bytes: u64) -> Result<Vec<u8>, ReadError> {
    Ok(bytes_of(&partition.read(&ReadSpec { max_bytes, ..spec(offset) })?))
}

/// One batch as a client sends it.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    pub(super) records: i32,
    pub(super) timestamp: i64,
    pub(super) value_bytes: usize,
    pub(super) producer: Option<(i64, i16, i32)>,
    pub(super) compression: Compression,
    /// Of every record.
    pub(super) key: Option<&'static [u8]>,
    pub(super) transactional: bool,
}

impl Batch {
    pub(super) fn of(records: i32) -> Self {
        Self {
            records,
            timestamp: NOW_MS,
            value_bytes: 10,
            producer: None,
            compression: Compression::None,
            key: Some(b"key"),
            transactional: false,
        }
    }

    pub(super) fn by(records: i32, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: Some((id, epoch, sequence)), ..Self::of(records) }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut builder = BatchBuilder::new(0).with_compression(self.compression);
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.with_producer(id, epoch, sequence);
        }
        if self.transactional {
            builder = builder.transactional();
        }
        let value = vec![b'v'; self.value_bytes];
        for delta in 0..self.records {
            builder.push(delta, self.timestamp + i64::from(delta), self.key, Some(&value), [].into_iter());
        }
        builder.finish()
    }
}
