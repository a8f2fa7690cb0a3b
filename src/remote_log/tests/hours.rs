//! Hours of a tiered topic in seconds, by seed: small segments, constant produce, retention on both tiers, DeleteRecords,
//! clocks that jump, a store of all weathers, deaths at any moment, now and then a lost disk. All the time every record
//! that is read is the one that was sent; afterwards the bucket holds what its manifest names and nothing else.
//!
//! `TERRACE_TIER_HOURS` (default 1) and `TERRACE_TIER_SEED` ask for other runs; a failure names its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStore;
use terrace_tiering::platform::clock::Clock;
use terrace_tiering::platform::random::{Random, SeededRandom};
use terrace_tiering::store::faulty::Fault;
use tokio_util::sync::CancellationToken;

use super::super::copier::Outcome;
use super::super::merge::Merged;
use super::dying::cut;
use super::node::{Machines, Running};
use super::world::P;
use crate::metadata::remote_log::{RemoteLogMetadata, SegmentState};
use crate::partition::append::AppendOrigin;
use crate::partition::read::{Isolation, ReadError, ReadSpec, Records};
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::record_batch::{BatchView, Offset};

const SEED: u64 = 6;
const TICK_MS: i64 = 5_000;
/// Starts that the weather may spoil before it clears up.
const STARTS_MAX: usize = 5;

/// What can happen to any request.
const FAULTS: [Fault; 10] = [
    Fault::Error,
    Fault::ErrorAfter,
    Fault::Hang,
    Fault::HangAfter,
    Fault::Slow(Duration::from_secs(3)),
    Fault::Denied,
    Fault::Conflict,
    Fault::Cut(100),
    Fault::Short(100),
    Fault::FlipBit,
];

/// What happened, so that a run that tests nothing fails.
#[derive(Debug, Default)]
struct Tally {
    appended: usize,
    read_cold: usize,
    read_failed: usize,
    copied: usize,
    /// Segments that went into others, and merges that failed.
    merged: usize,
    merges_failed: usize,
    copies_failed: usize,
    deaths: usize,
    disks_lost: usize,
    starts_refused: usize,
    deleted: usize,
}

struct Run {
    machines: Machines,
    node: Running,
    random: std::sync::Arc<SeededRandom>,
    /// Every batch as it was stored, by its base offset.
    sent: BTreeMap<Offset, Vec<u8>>,
    tally: Tally,
    name: String,
}

impl Run {
    async fn begin(seed: u64) -> Self {
        let mut machines = Machines::of(|config| {
            config.segment_bytes = 2_000;
            config.retention_ms = Some(15 * 60_000);
            config.local_retention_bytes = Some(6_000);
            config.file_delete_delay_ms = 30_000;
        });
        // Some segments together, of which each is a fraction of what is small.
        machines.merge_target_bytes = 20_000;
        machines.clock.set(1_700_000_000_000);
        let node = machines.start().await;
        let (random, sent, tally) = (SeededRandom::new(seed), BTreeMap::new(), Tally::default());
        Self { machines, node, random, sent, tally, name: format!("TERRACE_TIER_SEED={seed}") }
    }

    fn one_in(&self, chances: u64) -> bool {
        self.random.next_u64().is_multiple_of(chances)
    }

    fn below(&self, bound: i64) -> i64 {
        (self.random.next_u64() >> 1) as i64 % bound.max(1)
    }

    fn append(&mut self) {
        let mut builder = BatchBuilder::new(0);
        let now_ms = self.machines.clock.now_ms();
        for delta in 0..=self.below(4) {
            let value = vec![self.random.next_u64() as u8; 20 + self.below(100) as usize];
            builder.push(delta as i32, now_ms, None, Some(&value), [].into_iter());
        }
        let mut bytes = builder.finish();
        let appended = self.node.partition().append(&mut bytes, AppendOrigin::Client, None).expect("it is online");
        self.sent.insert(appended.base_offset, bytes);
        self.tally.appended += 1;
    }

    /// Each answer is made of batches that were sent, and begins with the one that was asked for.
    async fn read_at(&self, offset: Offset) -> Result<(Offset, bool), ReadError> {
        let spec = ReadSpec {
            offset,
            max_bytes: 3_000,
            min_one: true,
            current_leader_epoch: None,
            last_fetched_epoch: None,
            isolation: Isolation::ReadCommitted,
        };
        let (bytes, cold) = match self.node.partition().read(&spec)?.records {
            Records::Empty => (Vec::new(), false),
            Records::File(range) => {
                let mut bytes = vec![0; range.len as usize];
                range.file.read_exact_at(&mut bytes, range.position).expect("it is there");
                (bytes, false)
            }
            Records::Cold(read) => (read.load().await?.chunks.concat(), true),
        };
        let (mut rest, mut next) = (&bytes[..], offset);
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            let base = batch.base_offset();
            assert!(base <= next && next <= batch.last_offset(), "{}: offset {next} got batch {base}", self.name);
            assert_eq!(Some(batch.bytes()), self.sent.get(&base).map(|b| &b[..]), "{}: batch {base}", self.name);
            (next, rest) = (batch.next_offset(), behind);
        }
        Ok((next, cold))
    }

    fn change_weather(&self) {
        self.machines.bucket.set_down(self.one_in(5));
        self.machines.bucket.fail_at_random_with(if self.one_in(2) { 0 } else { 150 }, &FAULTS);
    }

    fn calm(&self) {
        self.machines.bucket.set_down(false);
        self.machines.bucket.fail_at_random(0);
    }

    /// The jobs side by side, as they run in a broker, and a reader with them; cut off after so many moments.
    async fn work(&mut self, moments: usize) -> bool {
        let (log, state) = (&self.node.log, self.node.log.state(P));
        let running = CancellationToken::new();
        let copy = async {
            let (mut copied, mut failed) = (0, 0);
            for _ in 0..3 {
                match log.copy_next(P, &running).await {
                    Ok(Outcome::Copied) => copied += 1,
                    Ok(_) => {}
                    Err(_) => failed += 1,
                }
            }
            (copied, failed)
        };
        let offsets = self.node.partition().offsets();
        let at = offsets.log_start + self.below(offsets.high_watermark - offsets.log_start);
        let jobs = async {
            let others = async {
                let _ = log.expire(&state).await;
                let _ = log.write_root(&state).await;
                let _ = log.delete_orphans().await;
            };
            let merge = log.merge_next(P, &running);
            tokio::join!(copy, others, merge, self.read_at(at))
        };
        let done = cut(jobs, moments).await;
        let Some(((copied, failed), (), merged, read)) = done else { return false };
        match merged {
            Ok(Merged::Segments(segments)) => self.tally.merged += segments,
            Ok(Merged::Other | Merged::Nothing) => {}
            Err(_) => self.tally.merges_failed += 1,
        }
        self.tally.copied += copied;
        self.tally.copies_failed += failed;
        match read {
            Ok((_, cold)) => self.tally.read_cold += usize::from(cold),
            Err(ReadError::Storage(_)) => self.tally.read_failed += 1,
            Err(error) => panic!("{}: offset {at} of {offsets:?}: {error}", self.name),
        }
        true
    }

    /// The process is gone without a word, and with `lost` its log directory too.
    async fn die(mut self, lost: bool) -> Self {
        let end = self.node.partition().offsets().log_end;
        if lost {
            self.calm();
            self.node.lose_disk(&self.machines);
            self.tally.disks_lost += 1;
        } else {
            drop(self.node);
            self.tally.deaths += 1;
        }
        let mut refused = 0;
        let node = loop {
            match self.machines.try_start().await {
                Ok(node) => break node,
                Err(_) if refused < STARTS_MAX => refused += 1,
                Err(error) => panic!("{}: {error}", self.name),
            }
            if refused == STARTS_MAX {
                self.machines.bucket.set_down(false);
                self.machines.bucket.fail_at_random(0);
            }
            tokio::time::advance(Duration::from_secs(2)).await;
        };
        self.tally.starts_refused += refused;
        let again = node.partition().offsets().log_end;
        assert!(again == end || (lost && again < end), "{}: the log ended at {end}, now at {again}", self.name);
        self.sent.retain(|base, _| *base < again);
        Self { node, ..self }
    }

    async fn tick(mut self) -> Self {
        for _ in 0..=self.below(3) {
            self.append();
        }
        let jump_ms = if self.one_in(200) { self.below(1_200_000) - 600_000 } else { 0 };
        self.machines.clock.advance(TICK_MS + jump_ms);
        tokio::time::advance(Duration::from_millis(TICK_MS as u64)).await;
        self.node.partitions.do_due_work();
        if self.one_in(20) {
            self.change_weather();
        }
        if self.one_in(40) {
            let offsets = self.node.partition().offsets();
            let before = offsets.log_start + self.below((offsets.high_watermark - offsets.log_start) / 4);
            assert!(self.node.partition().delete_records(before).await.expect("the disk is well") >= before);
            self.tally.deleted += 1;
        }
        let dies = self.one_in(50);
        self.machines.bucket.set_stepwise(true);
        let moments = if dies { self.below(60) as usize } else { usize::MAX };
        let went_on = self.work(moments).await;
        self.machines.bucket.set_stepwise(false);
        assert!(self.node.log.status().lost.is_none(), "{}: {:?}", self.name, self.node.log.status());
        if dies || !went_on {
            let lost = self.one_in(6) && self.node.partition().remote_chain().end().is_some();
            return self.die(lost).await;
        }
        self
    }

    async fn finish(mut self) -> Self {
        self.calm();
        self.machines.configure(Some(&self.node), |config| config.retention_ms = None);
        tokio::time::advance(Duration::from_secs(60)).await;
        self = self.die(false).await;
        self.node.copy_all().await;
        let state = self.node.log.state(P);
        for _ in 0..2 {
            self.node.log.expire(&state).await.expect("the store is well");
            self.machines.clock.advance(10_000);
        }
        // Old enough for the sweeper: whatever nobody knows would go now.
        self.machines.clock.advance(10 * 86_400_000);
        assert_eq!(
            self.node.log.delete_orphans().await.expect("the store is well"),
            0,
            "{}: every object has a row",
            self.name
        );
        self.node.log.write_root(&state).await.expect("the store is well");
        self
    }

    async fn check(&mut self) {
        let name = self.name.clone();
        let names = self.node.tier.names();
        let prefix = names.all_segments();
        let listed: Vec<_> = self.machines.bucket.list(Some(&prefix)).try_collect().await.expect("memory");
        let objects: BTreeSet<_> =
            listed.iter().filter_map(|meta| names.parse_segment(&meta.location, meta.size)).map(|o| o.uuid).collect();
        let manifest = self.node.tier.load_manifest(P.topic, 0).await.expect("readable").expect("there is one");
        let named: BTreeSet<_> = manifest.entries.iter().map(|entry| entry.uuid).collect();
        assert_eq!(
            (objects.len(), &objects),
            (listed.len(), &named),
            "{name}: the bucket holds what the manifest names"
        );
        let rows = self.node.meta.load(P).await.expect("readable").segments;
        assert!(rows.iter().all(|row| row.state == SegmentState::CopyFinished && named.contains(&row.uuid)), "{name}");

        let offsets = self.node.partition().offsets();
        let (mut at, mut answers) = (offsets.log_start, 0);
        while at < offsets.log_end {
            let (next, cold) = self.read_at(at).await.unwrap_or_else(|error| panic!("{name}: offset {at}: {error}"));
            assert!(next > at, "{name}: nothing at {at} of {offsets:?}");
            at = next;
            answers += usize::from(cold);
        }
        assert!(answers > 0, "{name}: a part of it is in the bucket alone");
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_faults_and_deaths_leave_what_the_manifest_names_and_every_record() {
    let setting =
        |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().expect("a number"));
    let (seed, hours) = (setting("TERRACE_TIER_SEED", SEED), setting("TERRACE_TIER_HOURS", 1));
    let mut run = Run::begin(seed).await;
    for _ in 0..hours as i64 * 3_600_000 / TICK_MS {
        run = run.tick().await;
    }
    run = run.finish().await;
    run.check().await;
    let Tally {
        read_cold,
        read_failed,
        copied,
        copies_failed,
        merged,
        deaths,
        disks_lost,
        starts_refused,
        deleted,
        ..
    } = run.tally;
    println!("{hours} h, {}: {:?}", run.name, run.tally);
    assert!(merged > 20, "{:?}", run.tally);
    assert!(copied > 20 && read_cold > 20 && deaths > 3 && deleted > 3, "{:?}", run.tally);
    assert!(copies_failed + read_failed + starts_refused > 3 && disks_lost > 0, "{:?}", run.tally);
}
