//! Power goes at any call, on the real log code over a disk that forgets what was not synced. What must hold: every
//! acknowledged record of a synced topic is there, nothing that a reader saw ever changes, and every log opens and goes on.
//!
//! One thread does everything, and chance comes from a seed, so a failure replays:
//! `TERRACE_POWER_LOSS_SEED=<seed> cargo test -p terrace --lib power_loss`. `TERRACE_POWER_LOSS_ROUNDS=200` makes it long.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt;
use rstest::rstest;
use terrace_tiering::platform::clock::ManualClock;
use terrace_tiering::platform::fs::power_loss::PowerLossFs;
use terrace_tiering::platform::fs::{Fs, Open};
use terrace_tiering::platform::random::{SeededRandom, SharedRandom};
use uuid::Uuid;

use super::node::*;
use crate::config::topic::TopicConfig;
use crate::log::names::{LOG, segment_file};
use crate::metadata::image::{Image, PartitionId};
use crate::partition::Partition;
use crate::partition::append::{AppendOrigin, Appended};
use crate::partition::node_dirs::{NodeDir, SyncSettings};
use crate::partition::registry::{LogSettings, PartitionDeps, Partitions};
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::record_batch::{BatchView, Offset};
use crate::wal::group_commit::{Held, Wal};
use crate::wal::partition_sync::Running;
use crate::wal::ticket::Rejected;

/// Losses in a row on one disk.
const LOSSES_PER_DISK: u64 = 5;
/// Rounds of a test run in CI.
const ROUNDS: u64 = 40;

/// An append whose ticket is not settled: partition, offset, CRC, ticket.
type Waiting = (i32, Offset, u32, Pin<Box<dyn Future<Output = Result<(), Rejected>>>>);

/// A node on a disk that loses its power.
struct World {
    disk: PowerLossFs,
    random: SharedRandom,
    clock: Arc<ManualClock>,
    settings: LogSettings,
    config: TopicConfig,
    image: Image,
    partition_count: i32,
    partitions: Arc<Partitions>,
    waiting: Vec<Waiting>,
    /// Groups that are being written.
    held: Vec<(Arc<NodeDir>, Held)>,
    /// By partition and base offset, the CRC of every batch that was acknowledged.
    acknowledged: BTreeMap<(i32, Offset), u32>,
    /// The same of every batch that a reader saw.
    seen: BTreeMap<(i32, Offset), u32>,
    /// DeleteRecords was answered with these.
    log_starts: BTreeMap<i32, Offset>,
    next_value: u64,
}

fn open(
    disk: &PowerLossFs,
    settings: &LogSettings,
    clock: &Arc<ManualClock>,
    config: &TopicConfig,
    image: &Image,
) -> Option<Arc<Partitions>> {
    let config = Arc::new(config.clone());
    let deps = PartitionDeps {
        fs: Arc::new(disk.clone()),
        clock: clock.clone(),
        random: SeededRandom::new(1),
        settings: settings.clone(),
        resolve_config: Arc::new(move |_, _| Arc::clone(&config)),
    };
    Partitions::open(deps, image).inspect_err(|error| println!("not opened: {error}")).ok()
}

impl World {
    fn new(seed: u64, partition_count: i32, config: TopicConfig) -> Self {
        Self::over(1, seed, partition_count, config)
    }

    /// With so many log directories, between which partitions move if there are several.
    fn over(dirs: usize, seed: u64, partition_count: i32, config: TopicConfig) -> Self {
        let settings = LogSettings {
            log_dirs: (0..dirs).map(|at| format!("/data/log{at}").into()).collect(),
            syncs: SyncSettings { running: Running::ByHand, wal_file_bytes: 40_000 },
            ..TestNode::with(|_| {}).settings.clone()
        };
        let (disk, clock) = (PowerLossFs::new(seed), ManualClock::at(NOW_MS));
        let image = image_of(vec![topic("t", 7, partition_count)], 1, 1);
        let partitions = open(&disk, &settings, &clock, &config, &image).expect("power is there");
        Self {
            disk,
            random: SeededRandom::new(seed),
            clock,
            settings,
            config,
            image,
            partition_count,
            partitions,
            waiting: Vec::new(),
            held: Vec::new(),
            acknowledged: BTreeMap::new(),
            seen: BTreeMap::new(),
            log_starts: BTreeMap::new(),
            next_value: 0,
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    fn partition(&self, number: i32) -> Arc<Partition> {
        self.partitions.get(PartitionId { topic: Uuid::from_u128(7), partition: number }).expect("it exists")
    }

    /// Works until power is lost.
    fn live(&mut self) {
        let calls = 1 + self.below(if self.partition_count > 100 { 8_000 } else { 600 });
        self.disk.lose_power_after(calls);
        while !self.disk.has_lost_power() {
            let offline = self.partition(0).dir().sync().is_offline();
            assert!(!offline || self.disk.has_lost_power(), "the directory went offline with its power there");
            self.step();
        }
        self.settle();
        self.waiting.clear();
        self.held.clear();
    }

    fn step(&mut self) {
        let number = self.below(self.partition_count as u64) as i32;
        match self.below(100) {
            0..65 => self.append(number),
            65..72 => self.hold_group(number),
            72..78 => self.write_held_group(),
            78..85 => {
                let _ = self.partition(number).dir().wal().is_ok_and(|wal| wal.sync_group());
            }
            85..90 => {
                let _ = self.partition(number).dir().sync().step();
            }
            90..93 => self.partitions.checkpoint(),
            93..95 => {
                // It waits for what is being written.
                while !self.held.is_empty() {
                    self.write_held_group();
                }
                let _ = self.partition(number).dir().wal().is_ok_and(|wal| wal.recycle());
            }
            95..97 => {
                self.clock.advance(400);
                self.partitions.do_due_work();
            }
            97 => self.delete_records(number),
            98 if self.settings.log_dirs.len() > 1 => self.move_to_another_directory(number),
            _ => self.read(number),
        }
        self.settle();
    }

    /// Begins to write a group, beside others.
    fn hold_group(&mut self, number: i32) {
        let dir = Arc::clone(self.partition(number).dir());
        if let Some(held) = dir.wal().ok().and_then(Wal::hold_group) {
            self.held.push((dir, held));
        }
    }

    /// The write of any of them is over.
    fn write_held_group(&mut self) {
        if !self.held.is_empty() {
            let (dir, held) = self.held.swap_remove(self.below(self.held.len() as u64) as usize);
            dir.wal().expect("it was open").write_held(held);
        }
    }

    fn move_to_another_directory(&mut self, number: i32) {
        let to = self.below(self.settings.log_dirs.len() as u64) as usize;
        let _ = self.partitions.move_partition("t", number, &self.settings.log_dirs[to]);
        if self.below(4) > 0 {
            self.partitions.do_due_work();
        }
    }

    fn append(&mut self, number: i32) {
        let mut builder = BatchBuilder::new(0);
        for delta in 0..1 + self.below(3) as i32 {
            self.next_value += 1;
            let mut value = self.next_value.to_be_bytes().to_vec();
            value.resize(8 + self.below(1500) as usize, b'v');
            builder.push(delta, NOW_MS, Some(b"key"), Some(&value), [].into_iter());
        }
        let mut bytes = builder.finish();
        let appended = self.partition(number).append(&mut bytes, AppendOrigin::Client, None);
        if let Ok(Appended { base_offset, ticket, .. }) = appended {
            let (batch, _) = BatchView::split_first(&bytes).expect("a whole batch");
            self.waiting.push((number, base_offset, batch.crc(), Box::pin(ticket.wait())));
        }
    }

    fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain_mut(|(number, offset, crc, ticket)| match ticket.as_mut().now_or_never() {
            Some(Ok(())) => {
                self.acknowledged.insert((*number, *offset), *crc);
                false
            }
            outcome => outcome.is_none(),
        });
        self.waiting = waiting;
    }

    fn delete_records(&mut self, number: i32) {
        let partition = self.partition(number);
        let to = partition.offsets().high_watermark;
        if let Ok(start) = partition.raise_log_start_blocking(to / 2) {
            self.log_starts.insert(number, start);
        }
    }

    /// Reads a partition whole: nothing that was seen before has other bytes now. Its batches by base offset.
    fn read(&mut self, number: i32) {
        let partition = self.partition(number);
        let mut at = partition.offsets().log_start;
        while let Ok(bytes) = read(&partition, at, u64::MAX)
            && !bytes.is_empty()
        {
            let mut rest = &bytes[..];
            assert!(BatchView::split_first(rest).is_ok(), "partition {number} offset {at}: no batch is there");
            while let Ok((batch, behind)) = BatchView::split_first(rest) {
                batch.check_crc().unwrap_or_else(|error| panic!("partition {number} offset {at}: {error}"));
                let has_gaps = self.config.cleanup_policy.compact;
                assert!(has_gaps || batch.base_offset() <= at, "partition {number} has a hole at {at}");
                at = batch.next_offset();
                let known = self.seen.insert((number, batch.base_offset()), batch.crc());
                // Compaction between two reads may have taken records out of it.
                let is_cleaned = has_gaps && batch.records_count() <= batch.last_offset_delta();
                let is_same = known.is_none_or(|known| known == batch.crc());
                assert!(is_same || is_cleaned, "offset {} changed", batch.base_offset());
                rest = behind;
            }
        }
    }

    /// The next life, on what survived; power may go in the middle of recovery too. How many losses that took.
    fn come_back(&mut self) -> u64 {
        let mut losses = 0;
        loop {
            losses += 1;
            self.disk = self.disk.lose_power();
            self.image.node_epoch += 1;
            if self.below(4) == 0 {
                let calls = 1 + self.below(60);
                self.disk.lose_power_after(calls);
            }
            let Some(partitions) = open(&self.disk, &self.settings, &self.clock, &self.config, &self.image) else {
                assert!(self.disk.has_lost_power(), "a start fails only for want of power");
                continue;
            };
            self.partitions = partitions;
            for number in 0..self.partition_count {
                let _ = self.partition(number).offsets();
            }
            if !self.disk.has_lost_power() {
                self.disk.lose_power_after(u64::MAX >> 1);
                return losses;
            }
        }
    }

    /// Every log is open and goes on. With `synced`, nothing acknowledged or seen is missing.
    fn check(&mut self, synced: bool) {
        if !synced {
            self.seen.clear();
            self.log_starts.clear();
        }
        for number in 0..self.partition_count {
            let partition = self.partition(number);
            assert_eq!(partition.offline_reason(), None, "partition {number}");
            let offsets = partition.offsets();
            let deleted = self.log_starts.get(&number).copied().unwrap_or(0);
            assert!(
                deleted <= offsets.log_start,
                "partition {number}: deletion up to {deleted} came undone: {offsets:?}"
            );
            let before = std::mem::take(&mut self.seen);
            self.seen = before.range((number, 0)..(number + 1, 0)).map(|(key, crc)| (*key, *crc)).collect();
            self.read(number);
            let found = std::mem::replace(&mut self.seen, before);
            let is_lost =
                |(at, _): &(&(i32, Offset), &u32)| at.1 >= offsets.log_start && at.1 >= offsets.high_watermark;
            let lost = self.seen.range((number, 0)..(number + 1, 0)).find(is_lost);
            assert!(!synced || lost.is_none(), "partition {number}: {lost:?} was seen and is gone, {offsets:?}");
            for ((_, offset), crc) in self.acknowledged.range((number, 0)..(number + 1, 0)) {
                if synced && *offset >= offsets.log_start {
                    assert_eq!(
                        found.get(&(number, *offset)),
                        Some(crc),
                        "partition {number} offset {offset} {offsets:?}"
                    );
                }
            }
            self.seen.extend(found);
        }
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Runs lives on disks by seed until enough power was lost, `before` preparing each disk.
fn run(partition_count: i32, config: &TopicConfig, synced: bool, before: fn(&World)) {
    run_over(1, partition_count, config, synced, before);
}

fn run_over(dirs: usize, partition_count: i32, config: &TopicConfig, synced: bool, before: fn(&World)) {
    let one = from_env("TERRACE_POWER_LOSS_SEED");
    let rounds = if one.is_some() { 1 } else { from_env("TERRACE_POWER_LOSS_ROUNDS").unwrap_or(ROUNDS) };
    let (mut losses, mut acknowledged, mut seed) = (0, 0, one.unwrap_or(1));
    while losses < rounds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::over(dirs, seed, partition_count, config.clone());
            let mut losses = 0;
            while losses < LOSSES_PER_DISK {
                before(&world);
                world.live();
                losses += world.come_back();
                world.check(synced);
            }
            (losses, world.acknowledged.len())
        });
        let Ok((more, records)) = result else {
            panic!("seed {seed} failed; TERRACE_POWER_LOSS_SEED={seed} replays it");
        };
        losses += more;
        acknowledged += records;
        seed += 1;
    }
    println!("{losses} losses of power, {partition_count} partitions, {acknowledged} batches acknowledged");
    assert!(acknowledged > 10, "the test writes something");
}

fn config(change: impl FnOnce(&mut TopicConfig)) -> TopicConfig {
    let mut config = plain_config();
    config.segment_bytes = 12_000;
    config.index_interval_bytes = 512;
    change(&mut config);
    config
}

#[rstest]
#[case::sixteen(16)]
#[case::a_thousand(1000)]
fn nothing_acknowledged_is_lost_by_a_loss_of_power(#[case] partition_count: i32) {
    run(partition_count, &config(|config| config.flush_messages = Some(1)), true, |_| {});
}

#[rstest]
#[case::synced(Some(1), true)]
#[case::every_tenth(Some(10), false)]
#[case::page_cache(None, false)]
fn moves_between_directories_lose_nothing_by_a_loss_of_power(
    #[case] flush_messages: Option<u64>,
    #[case] synced: bool,
) {
    let config = config(|config| config.flush_messages = flush_messages);
    run_over(2, 5, &config, synced, |world| world.partitions.checkpoint());
}

#[test]
fn compacted_topics_keep_what_was_acknowledged_last() {
    let config = config(|config| {
        config.flush_messages = Some(1);
        config.cleanup_policy.compact = true;
        config.cleanup_policy.delete = false;
        config.min_cleanable_dirty_ratio = 0.01;
    });
    // Which records compaction keeps is the cleaner's business; here every log opens and goes on.
    run(4, &config, false, |_| {});
}

#[rstest]
#[case::page_cache(None)]
#[case::every_tenth(Some(10))]
fn every_log_opens_after_a_loss_of_power(#[case] flush_messages: Option<u64>) {
    // Of a node that has run before: without any checkpoint nobody knows that a log was never compacted.
    run(16, &config(|config| config.flush_messages = flush_messages), false, |world| world.partitions.checkpoint());
}

#[test]
fn a_disk_that_never_syncs_directories_is_noticed() {
    let lost = std::panic::catch_unwind(|| {
        let config = config(|config| config.flush_messages = Some(1));
        run(16, &config, true, |world| world.disk.skip_dir_syncs());
    });
    assert!(lost.is_err(), "the test above tests something");
}

#[test]
fn a_seed_replays() {
    let trace = |seed| {
        let mut world = World::new(seed, 16, config(|config| config.flush_messages = Some(1)));
        world.live();
        world.come_back();
        world.check(true);
        (world.disk.calls(), world.acknowledged, world.seen)
    };
    assert_eq!(trace(3), trace(3));
}

/// What becomes of the files of a partition between two lives.
type Mishap = fn(&PowerLossFs, &Path);

fn moved_away(disk: &PowerLossFs, directory: &Path) {
    disk.remove_dir_all(directory).unwrap();
    disk.sync_dir(directory.parent().unwrap()).unwrap();
}

fn cut_short(disk: &PowerLossFs, directory: &Path) {
    let file = disk.open(&segment_file(directory, 0, LOG), Open::Write).unwrap();
    file.set_len(file.len().unwrap() / 2).unwrap();
    file.sync_data().unwrap();
}

/// The checkpoint says that more is flushed than there is.
#[rstest]
#[case::its_directory_was_moved_away(moved_away)]
#[case::its_file_was_cut_short(cut_short)]
fn a_log_that_goes_on_below_its_flushed_end_keeps_what_it_acknowledges(#[case] mishap: Mishap) {
    for seed in 0..ROUNDS {
        // All in one segment: without a sealed one that is damaged, which stops the partition.
        let config = config(|config| (config.flush_messages, config.segment_bytes) = (Some(1), 1 << 20));
        let mut world = World::new(seed, 1, config);
        (0..6).for_each(|_| world.append(0));
        world.partitions.close();
        world.waiting.clear();
        mishap(&world.disk, &world.settings.log_dirs[0].join("t-0"));
        world.image.node_epoch += 1;
        world.partitions = open(&world.disk, &world.settings, &world.clock, &world.config, &world.image).unwrap();
        for _ in 0..3 {
            world.append(0);
            let dir = Arc::clone(world.partition(0).dir());
            while dir.sync().step() || dir.wal().is_ok_and(Wal::sync_group) {}
        }
        world.settle();
        assert_eq!(world.acknowledged.len(), 3, "seed {seed}");
        world.come_back();
        world.check(true);
    }
}

#[test]
fn a_partition_that_stops_by_itself_keeps_its_records_and_lets_the_write_ahead_log_go() {
    for seed in 0..ROUNDS {
        let mut world = World::new(seed, 2, config(|config| config.flush_messages = Some(1)));
        let dir = Arc::clone(world.partition(0).dir());
        let sync = || while dir.sync().step() || dir.wal().is_ok_and(Wal::sync_group) {};
        (0..5).for_each(|_| world.append(0));
        sync();
        world.settle();
        world.partition(0).set_offline("bucket and local log differ");
        for _ in 0..60 {
            world.append(1);
            sync();
        }
        world.settle();
        assert_eq!(world.acknowledged.len(), 65, "seed {seed}");
        assert!(dir.wal().is_ok_and(Wal::recycle), "seed {seed}: its files are used again");
        drop(dir);
        world.come_back();
        world.check(true);
    }
}

#[test]
fn a_deleted_topic_leaves_no_directory_to_the_next_of_its_name() {
    for seed in 0..ROUNDS {
        let world = World::new(seed, 3, plain_config());
        for number in 0..3 {
            world.partition(number).append(&mut Batch::of(1).bytes(), AppendOrigin::Client, None).unwrap();
        }
        let log_dir = &world.settings.log_dirs[0];
        world.disk.sync_dir(log_dir).unwrap();
        world.partitions.follow(&image_of(vec![topic("t", 8, 3)], 2, 1));
        let left = world.disk.lose_power().read_dir(log_dir).unwrap();
        assert!(left.iter().all(|entry| !entry.is_dir || entry.name.ends_with("-delete")), "seed {seed}: {left:?}");
    }
}
