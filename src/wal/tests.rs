//! The write-ahead log by itself, over a disk that forgets: what a replay gives back is what was written, from the first
//! record that is needed up to one that was acknowledged or later.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use proptest::prelude::*;
use terrace_tiering::platform::fs::durable::BLOCK_BYTES;
use terrace_tiering::platform::fs::power_loss::PowerLossFs;
use terrace_tiering::platform::fs::{Fs, Open, RealFs, SharedFs};
use uuid::Uuid;

use super::file;
use super::group_commit::{self, Covered, Held, Joined, Recycler, Wal, WalSettings};
use super::partition_sync::{DirectorySync, Running};
use super::record::{BUNDLES_FROM, BundleHeader, FileHeader, Place};
use super::replay::{self, Destination, Replayed};

const LOG_DIR: &str = "/log";
/// The header's block, and those of some groups.
const FILE_BYTES: u64 = 8 * 4096;

/// A partition that only listens.
#[derive(Debug, Default)]
struct Listener {
    synced: Mutex<u64>,
    failed: Mutex<bool>,
    file_syncs: Mutex<u32>,
}

impl Covered for Listener {
    fn group_synced(&self, _log_dir: &Path, sequence: u64) {
        *self.synced.lock().unwrap() = sequence;
    }
    fn fail(&self) {
        *self.failed.lock().unwrap() = true;
    }
    fn sync_files(&self) -> io::Result<bool> {
        *self.file_syncs.lock().unwrap() += 1;
        Ok(true)
    }
}

#[derive(Debug)]
struct NoCheckpoint;

impl Recycler for NoCheckpoint {
    fn commit(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes every record into `/log/<segment>`.
struct Everything<'a> {
    fs: &'a SharedFs,
    seen: Mutex<Vec<i64>>,
}

impl Destination for Everything<'_> {
    fn wanted(&self, place: &Place) -> Option<PathBuf> {
        self.seen.lock().unwrap().push(place.base_offset);
        Some(segment(place.segment))
    }
    fn make_directory(&self, _: &Place) -> io::Result<()> {
        Ok(())
    }
    fn sync_names(&self, _: &Place) -> io::Result<()> {
        self.fs.sync_dir(Path::new(LOG_DIR))
    }
}

/// The log of one life of a node.
struct Life {
    disk: PowerLossFs,
    wal: Arc<Wal>,
    listener: Arc<Listener>,
    joined: Joined,
    /// What the replay at its beginning gave.
    replayed: Vec<(i64, Vec<u8>)>,
    /// Where the next record goes in segment 0; `None`: each to the beginning of a segment of its own.
    position: Option<u64>,
    /// Groups that are being written.
    held: Vec<Held>,
    /// Of the records of this life, the number and the sequence.
    appended: Vec<(i64, u64)>,
}

fn segment(base: i64) -> PathBuf {
    Path::new(LOG_DIR).join(base.to_string())
}

/// Replays; the records that were given back, each with what the file of its name then holds.
fn replay_on(disk: &PowerLossFs) -> (Replayed, Vec<(i64, Vec<u8>)>) {
    let fs: SharedFs = Arc::new(disk.clone());
    let destination = Everything { fs: &fs, seen: Mutex::default() };
    let replayed = replay::replay(&fs, Path::new(LOG_DIR), &destination).unwrap();
    let seen = destination.seen.into_inner().unwrap().into_iter();
    (replayed, seen.map(|number| (number, disk.read(&segment(number)).unwrap_or_default())).collect())
}

impl Life {
    fn begin(disk: PowerLossFs, epoch: i32) -> Self {
        disk.create_dir_all(Path::new(LOG_DIR)).unwrap();
        let (found, replayed) = replay_on(&disk);
        let fs: SharedFs = Arc::new(disk.clone());
        let settings = WalSettings {
            log_dir: LOG_DIR.into(),
            node_epoch: epoch,
            file_bytes: FILE_BYTES,
            running: Running::ByHand,
        };
        let directory = DirectorySync::start(LOG_DIR.into(), Running::ByHand).unwrap();
        let wal = Wal::open(fs, settings, directory, Arc::new(NoCheckpoint), found).unwrap();
        Self {
            disk,
            wal,
            listener: Arc::default(),
            joined: Joined::default(),
            replayed,
            position: None,
            held: Vec::new(),
            appended: Vec::new(),
        }
    }

    /// Appends the record of `number`; its content follows from the number.
    fn append(&mut self, number: i64) -> io::Result<u64> {
        let batches = content(number);
        let place = Place {
            topic: Uuid::from_u128(7),
            partition: 0,
            leader_epoch: 1,
            base_offset: number,
            segment: if self.position.is_some() { 0 } else { number },
            position: self.position.unwrap_or(0),
        };
        self.position = self.position.map(|position| position + batches.len() as u64);
        let listener = Arc::clone(&self.listener);
        let sequence = self.wal.append(&place, &batches, &mut self.joined, || Some(Arc::clone(&listener) as _))?;
        self.appended.push((number, sequence));
        Ok(sequence)
    }

    /// Appends them, and begins to write the group that they are.
    fn hold(&mut self, numbers: Range<i64>) {
        for number in numbers {
            self.append(number).unwrap();
        }
        self.held.extend(self.wal.hold_group());
    }

    /// Ends the write of the group at `at`.
    fn write_held(&mut self, at: usize) {
        let held = self.held.remove(at);
        self.wal.write_held(held);
    }

    fn synced(&self) -> u64 {
        *self.listener.synced.lock().unwrap()
    }

    /// The number behind the last that was acknowledged in this life.
    fn acknowledged(&self) -> Option<i64> {
        let synced = self.synced();
        self.appended.iter().rev().find(|(_, sequence)| *sequence <= synced).map(|(number, _)| number + 1)
    }

    fn files(&self) -> usize {
        self.disk
            .read_dir(Path::new(LOG_DIR))
            .unwrap()
            .iter()
            .filter(|entry| entry.name.starts_with("terrace-wal"))
            .count()
    }
}

fn content(number: i64) -> Vec<u8> {
    // One in thirteen is larger than a bundle.
    let len = if number % 13 == 12 { 9_000 } else { 20 + (number * 37 % 700) as usize };
    (0..len).map(|at| (number as usize + at) as u8).collect()
}

/// Where the bundles of a file lie, padding left out.
fn bundles(file: &[u8]) -> Vec<Range<usize>> {
    let generation = FileHeader::decode(file.first_chunk().unwrap()).unwrap().generation;
    let (mut at, mut found) = (BUNDLES_FROM as usize, Vec::new());
    while let Some(header) = file.get(at..).and_then(|rest| rest.first_chunk())
        && let Some(bundle) = BundleHeader::decode(header, generation)
    {
        let end = at + header.len() + bundle.len as usize;
        found.push(at..end);
        at = end.next_multiple_of(BLOCK_BYTES);
    }
    found
}

#[derive(Debug)]
struct Teller(mpsc::Sender<u64>);

impl Covered for Teller {
    fn group_synced(&self, _log_dir: &Path, sequence: u64) {
        self.0.send(sequence).unwrap();
    }
    fn fail(&self) {}
    fn sync_files(&self) -> io::Result<bool> {
        Ok(true)
    }
}

#[test]
fn the_first_record_behind_a_replay_is_synced_by_the_thread() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    life.append(0).unwrap();
    let (replayed, _) = replay_on(&life.disk);
    assert!(replayed.had_records);
    let fs: SharedFs = Arc::new(life.disk.clone());
    let settings =
        WalSettings { log_dir: LOG_DIR.into(), node_epoch: 2, file_bytes: FILE_BYTES, running: Running::Threads };
    let directory = DirectorySync::start(LOG_DIR.into(), Running::Threads).unwrap();
    let wal = Wal::open(fs, settings, directory, Arc::new(NoCheckpoint), replayed).unwrap();
    let (tell, told) = mpsc::channel();
    let teller = Arc::new(Teller(tell));
    let place =
        Place { topic: Uuid::from_u128(7), partition: 0, leader_epoch: 1, base_offset: 1, segment: 1, position: 0 };
    let sequence = wal.append(&place, &content(1), &mut Joined::default(), || Some(Arc::clone(&teller) as _)).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(sequence));
    wal.close();
}

#[test]
fn a_machine_that_refuses_threads_takes_the_directory_offline_and_acknowledges_nothing() {
    let disk = PowerLossFs::new(1);
    disk.create_dir_all(Path::new(LOG_DIR)).unwrap();
    let settings =
        WalSettings { log_dir: LOG_DIR.into(), node_epoch: 1, file_bytes: FILE_BYTES, running: Running::Refused };
    let directory = DirectorySync::start(LOG_DIR.into(), Running::ByHand).unwrap();
    let (found, _) = replay_on(&disk);
    let wal = Wal::open(Arc::new(disk), settings, Arc::clone(&directory), Arc::new(NoCheckpoint), found).unwrap();
    let place = Place { topic: Uuid::nil(), partition: 0, leader_epoch: 1, base_offset: 0, segment: 0, position: 0 };
    for _ in 0..2 {
        assert!(wal.append(&place, b"batch", &mut Joined::default(), || None).is_err());
    }
    assert!(directory.is_offline());
}

/// Tells of its group only once the other partition is told of its own.
#[derive(Debug)]
struct Patient {
    other: Mutex<mpsc::Receiver<u64>>,
    told: Mutex<mpsc::Sender<bool>>,
}

impl Covered for Patient {
    fn group_synced(&self, _log_dir: &Path, _sequence: u64) {
        let in_time = self.other.lock().unwrap().recv_timeout(Duration::from_secs(5)).is_ok();
        self.told.lock().unwrap().send(in_time).unwrap();
    }
    fn fail(&self) {}
    fn sync_files(&self) -> io::Result<bool> {
        Ok(true)
    }
}

#[test]
fn what_came_during_a_write_is_written_while_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().to_owned();
    let fs = RealFs::shared();
    let destination = Everything { fs: &fs, seen: Mutex::default() };
    let found = replay::replay(&fs, &log_dir, &destination).unwrap();
    let settings = WalSettings {
        log_dir: log_dir.clone(),
        node_epoch: 1,
        file_bytes: group_commit::FILE_BYTES,
        running: Running::Threads,
    };
    let directory = DirectorySync::start(log_dir, Running::ByHand).unwrap();
    let wal = Wal::open(Arc::clone(&fs), settings, directory, Arc::new(NoCheckpoint), found).unwrap();
    let place = Place { topic: Uuid::nil(), partition: 0, leader_epoch: 1, base_offset: 0, segment: 0, position: 0 };
    for n in 1..=20 {
        let (tell, other) = mpsc::channel();
        let (told, first_told) = mpsc::channel();
        let patient: Arc<dyn Covered> = Arc::new(Patient { other: Mutex::new(other), told: Mutex::new(told) });
        let second: Arc<dyn Covered> = Arc::new(Teller(tell));
        wal.append(&place, b"first", &mut Joined::default(), || Some(Arc::clone(&patient))).unwrap();
        // The second record belongs to the next group, and comes while the first is written, most of the time.
        while wal.closed_groups() < 2 * n - 1 {
            std::hint::spin_loop();
        }
        wal.append(&place, b"second", &mut Joined::default(), || Some(Arc::clone(&second))).unwrap();
        assert_eq!(first_told.recv(), Ok(true), "round {n}");
    }
    wal.close();
}

#[test]
fn a_group_is_acknowledged_by_one_sync_and_only_by_it() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    let sequences: Vec<_> = (0..10).map(|number| life.append(number).unwrap()).collect();
    assert_eq!(sequences, (1..=10).collect::<Vec<_>>());
    assert_eq!(*life.listener.synced.lock().unwrap(), 0);
    assert!(life.wal.sync_group());
    assert_eq!(*life.listener.synced.lock().unwrap(), 10);
    assert!(!life.wal.sync_group(), "nothing is left");
    life.append(10).unwrap();
    assert!(life.wal.sync_group());
    assert_eq!(*life.listener.synced.lock().unwrap(), 11);
}

#[test]
fn what_has_no_room_in_a_bundle_is_acknowledged_like_the_rest() {
    for seed in 0..20 {
        let mut life = Life::begin(PowerLossFs::new(seed), 1);
        life.append(0).unwrap();
        life.wal.sync_group();
        let calls = life.disk.calls();
        life.append(1).unwrap();
        assert_eq!(life.disk.calls(), calls, "it waits in memory");
        for number in 2..40 {
            life.append(number).unwrap();
        }
        assert!(life.disk.calls() > calls, "memory has its bound");
        assert_eq!(*life.listener.synced.lock().unwrap(), 1);
        assert!(life.wal.sync_group());
        assert_eq!(*life.listener.synced.lock().unwrap(), 40);
        let replayed = Life::begin(life.disk.lose_power(), 2).replayed;
        assert_eq!(replayed, (0..40).map(|number| (number, content(number))).collect::<Vec<_>>());
    }
}

#[test]
fn groups_are_acknowledged_in_order_whichever_is_written_first() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    for group in 0..4 {
        life.hold(3 * group..3 * group + 3);
    }
    assert_eq!(life.held.len(), 4);
    for (at, synced) in [(3, 0), (1, 0), (0, 6), (0, 12)] {
        life.write_held(at);
        assert_eq!(life.synced(), synced);
    }
    assert!(!life.wal.sync_group(), "nothing is left");
    let replayed = Life::begin(life.disk.lose_power(), 2).replayed;
    assert_eq!(replayed, (0..12).map(|number| (number, content(number))).collect::<Vec<_>>());
}

/// What is written into the hole in the next life has the place, the length and the sequence numbers of what is missing.
#[test]
fn a_group_behind_a_hole_never_counts() {
    for seed in 0..20 {
        let mut life = Life::begin(PowerLossFs::new(seed), 1);
        life.append(0).unwrap();
        assert!(life.wal.sync_group());
        life.hold(1..4);
        life.hold(4..7);
        life.hold(7..10);
        life.write_held(2);
        life.write_held(1);
        assert_eq!(life.synced(), 1);
        let disk = life.disk.lose_power();
        let path = file::path_of(Path::new(LOG_DIR), 0);
        let block =
            |disk: &PowerLossFs, at: usize| disk.read(&path).unwrap()[at * BLOCK_BYTES..][..BLOCK_BYTES].to_vec();
        // Behind the header, the first group and the hole.
        let behind = [3, 4].map(|at| block(&disk, at));
        assert!(behind.iter().all(|block| block.iter().any(|byte| *byte != 0)), "they are on the disk");
        let mut next = Life::begin(disk, 2);
        assert_eq!(next.replayed, [(0, content(0))]);
        let sequences: Vec<_> = [100..101, 101..103]
            .into_iter()
            .map(|group| {
                let last = group.map(|number| next.append(number).unwrap()).last();
                assert!(next.wal.sync_group());
                last
            })
            .collect();
        assert_eq!(sequences, [Some(2), Some(4)], "what lies behind them begins with 5");
        let disk = next.disk.lose_power();
        assert_eq!([3, 4].map(|at| block(&disk, at)), behind, "it is what it was");
        let expected: Vec<_> = (100..103).map(|number| (number, content(number))).collect();
        assert_eq!(Life::begin(disk, 3).replayed, expected);
    }
}

#[test]
fn a_failed_group_takes_those_behind_it_along() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    life.hold(0..3);
    life.hold(3..6);
    life.write_held(1);
    life.append(6).unwrap();
    life.disk.lose_power_after(1);
    life.write_held(0);
    assert_eq!((life.synced(), *life.listener.failed.lock().unwrap()), (0, true));
    life.wal.sync_group();
    assert_eq!(life.synced(), 0);
    assert!(life.append(7).is_err());
}

#[test]
fn appends_that_outrun_the_disk_write_what_waits_longest() {
    for seed in 0..5 {
        let mut life = Life::begin(PowerLossFs::new(seed), 1);
        life.hold(0..1);
        let calls = life.disk.calls();
        let mut number = 1;
        while life.disk.calls() == calls || number < 200 {
            life.append(number).unwrap();
            // A bundle is a quarter of a file.
            assert!(life.wal.memory_bytes() <= 6 * FILE_BYTES / 4, "{} bytes", life.wal.memory_bytes());
            number += 1;
        }
        assert_eq!(life.synced(), 0, "the first group is still being written");
        life.write_held(0);
        life.wal.sync_group();
        assert_eq!(life.acknowledged(), Some(number));
        let replayed = Life::begin(life.disk.lose_power(), 2).replayed;
        assert_eq!(replayed, (0..number).map(|number| (number, content(number))).collect::<Vec<_>>());
    }
}

#[test]
fn a_directory_without_records_has_no_files() {
    let life = Life::begin(PowerLossFs::new(1), 1);
    life.wal.close();
    life.wal.seal().unwrap();
    assert_eq!(life.files(), 0);
}

#[test]
fn files_are_used_again_once_their_partitions_are_synced() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    for number in 0..400 {
        life.append(number).unwrap();
        life.wal.sync_group();
        if number % 40 == 0 {
            life.wal.recycle();
        }
    }
    assert!(life.files() < 15, "{} files for 400 records", life.files());
    let syncs = *life.listener.file_syncs.lock().unwrap();
    assert!(syncs > 0 && syncs <= 10, "one for each time files were freed: {syncs}");
    let last = Life::begin(life.disk.lose_power(), 2).replayed;
    assert!(last.len() < 100 && last.last() == Some(&(399, content(399))), "{} records", last.len());
}

#[test]
fn a_growing_file_is_left_for_a_prepared_one() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    let bytes_of = |life: &Life, number| life.disk.read(&file::path_of(Path::new(LOG_DIR), number)).unwrap().len();
    life.wal.prepare().unwrap();
    assert_eq!(life.files(), 0, "nobody writes");
    life.append(0).unwrap();
    life.wal.sync_group();
    life.wal.prepare().unwrap();
    assert_eq!((life.files(), bytes_of(&life, 1)), (2, FILE_BYTES as usize));
    let grown = bytes_of(&life, 0);
    for number in 1..5 {
        life.append(number).unwrap();
    }
    assert_eq!((bytes_of(&life, 0), bytes_of(&life, 1)), (grown, FILE_BYTES as usize), "records go where blocks are");
    assert_eq!(life.files(), 2);
    life.wal.sync_group();
    // What had grown has all its blocks when it is used again.
    assert!(life.wal.recycle());
    assert_eq!(bytes_of(&life, 0), FILE_BYTES as usize);
    let replayed = Life::begin(life.disk.lose_power(), 2).replayed;
    assert_eq!(replayed, (1..5).map(|number| (number, content(number))).collect::<Vec<_>>());
}

#[test]
fn a_bundle_that_is_missing_ends_the_replay_before_it() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    for number in 0..6 {
        life.append(number).unwrap();
        life.wal.sync_group();
    }
    let disk = life.disk.lose_power();
    let path = file::path_of(Path::new(LOG_DIR), 0);
    let all = bundles(&disk.read(&path).unwrap());
    assert_eq!(all.len(), 6, "one for each group");
    let file = disk.open(&path, Open::Write).unwrap();
    file.write_all_at(&vec![0; all[3].len()], all[3].start as u64).unwrap();
    assert_eq!(replay_on(&disk).1.len(), 3);
    // What a client sent lies where a bundle may begin; what is missing is the bundle before.
    let forged = BundleHeader { first_sequence: 4, len: 100 }.encode(1 << 32);
    file.write_all_at(&forged, all[4].start as u64).unwrap();
    assert_eq!(replay_on(&disk).1.len(), 3);
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    for number in 0..50 {
        life.append(number).unwrap();
    }
    life.wal.close();
    life.wal.seal().unwrap();
    assert!(life.append(50).is_err(), "it is closed");
    let mut next = Life::begin(life.disk.lose_power(), 2);
    assert_eq!(next.replayed, []);
    next.append(60).unwrap();
    next.wal.sync_group();
    assert_eq!(Life::begin(next.disk.lose_power(), 3).replayed, [(60, content(60))]);
}

#[test]
fn a_failed_sync_fails_the_group_and_everything_after_it() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    life.append(0).unwrap();
    life.disk.lose_power_after(1);
    life.wal.sync_group();
    assert!(*life.listener.failed.lock().unwrap());
    assert_eq!(*life.listener.synced.lock().unwrap(), 0);
    assert!(life.append(1).is_err());
}

#[test]
fn a_replay_can_be_repeated() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    life.position = Some(0);
    for number in 0..30 {
        life.append(number).unwrap();
    }
    life.wal.sync_group();
    let disk = life.disk.lose_power();
    let (first, records) = replay_on(&disk);
    let file = disk.read(&segment(0)).unwrap();
    assert_eq!(file, (0..30).flat_map(content).collect::<Vec<_>>());
    assert_eq!((first.records, first.written_bytes), (30, file.len() as u64));
    let (second, again) = replay_on(&disk);
    assert_eq!((second.records, second.written_bytes), (30, 0), "only bytes that differ are written");
    assert_eq!(records, again);
}

#[test]
fn what_does_not_continue_a_file_is_left_out() {
    let mut life = Life::begin(PowerLossFs::new(1), 1);
    life.position = Some(10);
    for number in 0..5 {
        life.append(number).unwrap();
    }
    life.wal.sync_group();
    let disk = life.disk.lose_power();
    let (replayed, _) = replay_on(&disk);
    assert_eq!((replayed.records, replayed.partitions.len()), (0, 0));
    assert!(!disk.exists(&segment(0)), "a segment that is gone does not come back in part");
}

/// What happens to a log.
#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    SyncGroup,
    /// Begins to write a group.
    Hold,
    /// One of these writes is over.
    WriteHeld(prop::sample::Index),
    Recycle,
    PowerLoss,
    /// Power goes in the middle of one of these writes.
    TornWrite(prop::sample::Index),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..20u8).prop_map(Step::Append),
        4 => Just(Step::SyncGroup),
        4 => Just(Step::Hold),
        3 => any::<prop::sample::Index>().prop_map(Step::WriteHeld),
        2 => Just(Step::Recycle),
        1 => Just(Step::PowerLoss),
        1 => any::<prop::sample::Index>().prop_map(Step::TornWrite),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Torn records, stale generations and sectors in any order come from the disk and from files used again.
    #[test]
    fn a_replay_gives_what_was_acknowledged_and_nothing_else(steps in steps(), seed in any::<u64>()) {
        let mut life = Life::begin(PowerLossFs::new(seed), 1);
        let (mut next, mut epoch) = (0, 1);
        // The numbers that a replay may leave out at the front, and must not leave out at the end.
        let (mut settled, mut acknowledged) = (0, 0);
        for step in steps {
            let disk = match step {
                Step::Append(count) => {
                    for _ in 0..count {
                        life.append(next).unwrap();
                        next += 1;
                    }
                    continue;
                }
                Step::SyncGroup => {
                    life.wal.sync_group();
                    acknowledged = life.acknowledged().unwrap_or(acknowledged);
                    prop_assert!(acknowledged == next || !life.held.is_empty());
                    continue;
                }
                Step::Hold => {
                    life.hold(0..0);
                    continue;
                }
                Step::WriteHeld(at) => {
                    if !life.held.is_empty() {
                        life.write_held(at.index(life.held.len()));
                        acknowledged = life.acknowledged().unwrap_or(acknowledged);
                    }
                    continue;
                }
                Step::Recycle => {
                    // It waits for what is being written.
                    while !life.held.is_empty() {
                        life.write_held(0);
                    }
                    acknowledged = life.acknowledged().unwrap_or(acknowledged);
                    // The listener's "files" hold whatever was appended.
                    if life.wal.recycle() {
                        settled = next;
                    }
                    continue;
                }
                Step::PowerLoss => life.disk.lose_power(),
                Step::TornWrite(at) => {
                    if !life.held.is_empty() {
                        life.disk.lose_power_after(1);
                        life.write_held(at.index(life.held.len()));
                    }
                    life.disk.lose_power()
                }
                Step::Restart => life.disk.clone(),
            };
            epoch += 1;
            life = Life::begin(disk, epoch);
            let numbers: Vec<_> = life.replayed.iter().map(|(number, _)| *number).collect();
            for (number, bytes) in &life.replayed {
                prop_assert_eq!(bytes, &content(*number));
            }
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", numbers);
            let first = numbers.first().copied().unwrap_or(next);
            prop_assert!(first <= settled || settled >= acknowledged || numbers.is_empty(), "{first} {settled}");
            let end = numbers.last().map_or(0, |last| last + 1);
            prop_assert!(end >= acknowledged || settled >= acknowledged, "{end} {acknowledged}");
            // A replay ends with everything in the partitions' files: numbers go on behind it.
            next = next.max(end);
            (settled, acknowledged) = (next, next);
        }
    }

    #[test]
    fn any_damage_ends_the_replay_at_an_acknowledged_record(
        count in 1..40i64,
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let mut life = Life::begin(PowerLossFs::new(0), 1);
        for number in 0..count {
            life.append(number).unwrap();
        }
        life.wal.sync_group();
        let disk = life.disk.lose_power();
        let path = file::path_of(Path::new(LOG_DIR), 0);
        let mut bytes = disk.read(&path).unwrap();
        let places: Vec<usize> = bundles(&bytes).into_iter().flatten().collect();
        let at = places[at.index(places.len())];
        bytes[at] ^= flip;
        disk.open(&path, Open::Write).unwrap().write_all_at(&bytes, 0).unwrap();
        let (_, records) = replay_on(&disk);
        prop_assert!(records.len() < count as usize);
        for (number, (offset, bytes)) in (0..).zip(&records) {
            prop_assert_eq!((number, &content(number)), (*offset, bytes));
        }
    }

    #[test]
    fn any_bytes_are_replayed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..9000), header in any::<bool>()) {
        let disk = PowerLossFs::new(0);
        disk.create_dir_all(Path::new(LOG_DIR)).unwrap();
        let file = disk.open(&file::path_of(Path::new(LOG_DIR), 0), Open::Create).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        if header {
            let header = FileHeader { generation: 1, first_sequence: 1, replay_from: 1 };
            file.write_all_at(&header.encode(), 0).unwrap();
        }
        prop_assert_eq!(replay_on(&disk).1, []);
    }
}
