//! The task that owns one shard: loads it, serves its mailbox and its deadlines, settles its appends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use terrace_tiering::platform::clock::SharedClock;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::log::ShardLog;
use super::state::{Now, Replayed, ShardState};
use crate::partition::read::ReadError;
use crate::protocol::control::EndTransaction;
use crate::protocol::record_batch::{BatchView, Offset};
use crate::protocol::records::records;

/// Requests that wait for one shard; more wait at their connections.
pub const MAILBOX_REQUESTS: usize = 256;
/// Our own batches are not compressed; this bounds what a foreign one may become.
const DECOMPRESSED_BYTES_MAX: u64 = 64 << 20;
const LOAD_RETRY: Duration = Duration::from_secs(1);
const DURABILITY_POLL: Duration = Duration::from_millis(5);
/// A request that keeps the shard longer is one whose append hung.
const HUNG: Duration = Duration::from_millis(100);
/// How long after such a request deadlines wait: what clients sent meanwhile is served first, so that nobody is counted
/// as silent because the disk was.
const AFTER_HANG: Duration = Duration::from_secs(1);

/// One request: what to do with the shard.
pub type Ask<S> = Box<dyn FnOnce(&mut S, Now) + Send>;

/// What a shard's task is made with.
pub struct ShardDeps<S: ShardState> {
    /// Its log.
    pub log: Arc<dyn ShardLog>,
    /// What all shards share.
    pub context: Arc<S::Context>,
    /// Wall time.
    pub clock: SharedClock,
    /// True while requests are served.
    pub loaded: Arc<AtomicBool>,
    /// Behind the last record that the state has.
    pub next_offset: Arc<AtomicI64>,
}

/// Runs until the broker stops or nobody can ask any more.
pub async fn run<S: ShardState>(deps: ShardDeps<S>, mut mailbox: mpsc::Receiver<Ask<S>>, stop: CancellationToken) {
    let clock = Clocks { wall: Arc::clone(&deps.clock), started: Instant::now() };
    let until_stopped = async {
        loop {
            deps.loaded.store(false, Ordering::Release);
            let shard = load(&deps, &clock).await;
            deps.loaded.store(true, Ordering::Release);
            if serve(shard, &deps, &clock, &mut mailbox).await == Served::NobodyAsks {
                break;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = until_stopped => {}
    }
    deps.loaded.store(false, Ordering::Release);
}

#[derive(Debug, PartialEq, Eq)]
enum Served {
    NobodyAsks,
    /// An append was not what it promised: what we know may be more than what the log has.
    Unload,
}

struct Clocks {
    wall: SharedClock,
    started: Instant,
}

impl Clocks {
    fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono_ms, wall_ms: self.wall.now_ms() }
    }

    fn instant(&self, mono_ms: u64) -> Instant {
        self.started + Duration::from_millis(mono_ms)
    }
}

async fn serve<S: ShardState>(
    mut shard: S,
    deps: &ShardDeps<S>,
    clock: &Clocks,
    mailbox: &mut mpsc::Receiver<Ask<S>>,
) -> Served {
    let upkeep_interval = S::upkeep_interval(&deps.context).max(Duration::from_millis(1));
    let mut upkeep = tokio::time::interval_at(Instant::now() + upkeep_interval, upkeep_interval);
    upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut not_before = clock.started;
    loop {
        deps.next_offset.store(shard.journal().next_offset(), Ordering::Release);
        let due = shard.next_due();
        let deadline = clock.instant(due.unwrap_or_default()).max(not_before);
        tokio::select! {
            biased;
            settled = shard.journal().settle() => if let Err(rejected) = settled {
                tracing::warn!(%rejected, "a coordinator's append was rejected; its shard loads again");
                // Whoever still waits finds its answer dropped and looks for the coordinator again.
                return Served::Unload;
            },
            () = tokio::time::sleep_until(deadline), if due.is_some() => shard.on_time(clock.now()),
            ask = mailbox.recv() => match ask {
                Some(ask) => {
                    let begun = Instant::now();
                    ask(&mut shard, clock.now());
                    if begun.elapsed() > HUNG {
                        not_before = Instant::now() + AFTER_HANG;
                    }
                }
                None => return Served::NobodyAsks,
            },
            _ = upkeep.tick() => shard.upkeep(clock.now()),
        }
    }
}

async fn load<S: ShardState>(deps: &ShardDeps<S>, clock: &Clocks) -> S {
    let mut told = None;
    loop {
        match try_load(deps, clock).await {
            Ok(shard) => return shard,
            Err(error) => {
                // Once: that of a log directory that failed is tried until the next start.
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    tracing::error!(%error, log = ?deps.log, "a coordinator's log cannot be read; trying again");
                    told = Some(why);
                }
                tokio::time::sleep(LOAD_RETRY).await;
            }
        }
    }
}

/// Reads up to the log end as it is at the beginning, waiting for what is not durable yet.
async fn try_load<S: ShardState>(deps: &ShardDeps<S>, clock: &Clocks) -> Result<S, ReadError> {
    // The first who asks a partition opens it, which may mean a scan.
    let log = Arc::clone(&deps.log);
    let bounds = tokio::task::spawn_blocking(move || log.bounds()).await;
    let (mut at, end) = bounds.map_err(|error| ReadError::Storage(error.to_string()))??;
    let mut shard = S::new(&deps.context, Journal::new(Arc::clone(&deps.log)));
    while at < end {
        let log = Arc::clone(&deps.log);
        let read = tokio::task::spawn_blocking(move || log.read(at)).await;
        let bytes = read.map_err(|error| ReadError::Storage(error.to_string()))??;
        let next = replay(&mut shard, &bytes, at, clock.now());
        if next == at {
            tokio::time::sleep(DURABILITY_POLL).await;
        }
        at = next;
    }
    shard.journal().read_to(at);
    shard.loaded(clock.now());
    Ok(shard)
}

/// Takes over all whole batches in `bytes`; returns the offset behind them.
pub fn replay<S: ShardState>(shard: &mut S, mut bytes: &[u8], from: Offset, now: Now) -> Offset {
    let mut at = from;
    // A batch that is cut at the limit of the read comes whole with the next.
    while let Ok((batch, rest)) = BatchView::split_first(bytes) {
        bytes = rest;
        if batch.next_offset() <= from {
            continue;
        }
        at = batch.next_offset();
        if !batch.is_control() {
            replay_records(shard, &batch, from, now);
        } else if let Some(end) = EndTransaction::read(&batch) {
            shard.replay_marker(batch.producer_id(), end.commit, now);
        }
        shard.journal().read_to(at);
    }
    at
}

fn replay_records<S: ShardState>(shard: &mut S, batch: &BatchView<'_>, from: Offset, now: Now) {
    let transaction = batch.is_transactional().then(|| batch.producer_id());
    match records(batch, DECOMPRESSED_BYTES_MAX) {
        Ok(records) => {
            for record in records.iter().map_while(Result::ok).filter(|record| record.offset >= from) {
                if let Some(key) = record.key {
                    shard.replay(Replayed { offset: record.offset, transaction, key, value: record.value }, now);
                }
            }
        }
        Err(error) => tracing::error!(offset = batch.base_offset(), %error, "batch of a coordinator is skipped"),
    }
}
