//! Fetch with an incremental session, as clients do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::{Appetite, Broker, Topic};
use crate::Outcome;
use crate::batch::HEADER_BYTES;
use crate::connection::Connection;
use crate::meter::{Meter, Volume};
use crate::wire::{Reader, Writer};

const FETCH: i16 = 1;
const VERSION: i16 = 11;
/// So many empty answers in a row are the end of the log.
const DRY: u32 = 2;

#[derive(Debug, Args)]
pub struct Fetch {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    topic: Topic,
    #[command(flatten)]
    appetite: Appetite,
    #[arg(long, default_value_t = 1)]
    conns: usize,
    /// Every connection reads every partition.
    #[arg(long)]
    share: bool,
    /// Stop after so many megabytes, without looking for the end.
    #[arg(long)]
    mb: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long)]
    secs: Option<f64>,
}

#[derive(Default)]
struct Totals {
    bytes: AtomicU64,
    requests: AtomicU64,
    records: AtomicU64,
    last_data_us: AtomicU64,
}

impl Fetch {
    pub fn run(self) -> Outcome<Value> {
        let meter = Meter::start(self.broker.pid);
        let (begun, totals) = (Instant::now(), Totals::default());
        thread::scope(|scope| -> Outcome<()> {
            let threads: Vec<_> = (0..self.conns)
                .map(|number| {
                    let (with, totals) = (&self, &totals);
                    scope.spawn(move || with.connection(number, begun, totals))
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a connection's thread died")?)
        })?;
        let bytes = totals.bytes.load(Relaxed);
        let volume = Volume {
            requests: totals.requests.load(Relaxed),
            records: totals.records.load(Relaxed),
            wire_bytes: bytes,
            payload_bytes: bytes,
        };
        Ok(meter.finish(Some(Duration::from_micros(totals.last_data_us.load(Relaxed))), volume))
    }

    fn connection(&self, number: usize, begun: Instant, totals: &Totals) -> Outcome<()> {
        let everything = self.share || self.conns > self.topic.partitions;
        let mine = |partition: &i32| everything || *partition as usize % self.conns == number;
        let partitions: Vec<i32> = (0..self.topic.partitions as i32).filter(mine).collect();
        let mut fetcher = Fetcher::new(&self.broker.address, &self.topic.topic, &partitions, self.appetite.clone())?;
        let enough = self.mb.map_or(u64::MAX, |mb| mb * 1_000_000 / self.conns as u64);
        let until = self.secs.map_or(Duration::MAX, Duration::from_secs_f64);
        let (mut bytes, mut requests, mut dry, mut last) = (0, 0, 0, begun.elapsed());
        while bytes < enough && dry < DRY && begun.elapsed() < until {
            fetcher.ask()?;
            let got = fetcher.take(|_, _| ())?;
            bytes += got;
            requests += 1;
            if got == 0 {
                dry += 1;
            } else {
                (dry, last) = (0, begun.elapsed());
            }
        }
        totals.bytes.fetch_add(bytes, Relaxed);
        totals.requests.fetch_add(requests, Relaxed);
        totals.records.fetch_add(fetcher.records, Relaxed);
        totals.last_data_us.fetch_max(last.as_micros() as u64, Relaxed);
        Ok(())
    }
}

/// A reader of some partitions of a topic.
pub struct Fetcher {
    connection: Connection,
    topic: String,
    /// Partition and the offset to read next.
    positions: Vec<(i32, i64)>,
    index_of: HashMap<i32, usize>,
    /// What the session doesn't know yet.
    changed: Vec<usize>,
    session: i32,
    epoch: i32,
    appetite: Appetite,
    /// Records read.
    pub records: u64,
}

impl Fetcher {
    pub fn new(address: &str, topic: &str, partitions: &[i32], appetite: Appetite) -> Outcome<Self> {
        Ok(Self {
            connection: Connection::open(address)?,
            topic: topic.into(),
            positions: partitions.iter().map(|partition| (*partition, 0)).collect(),
            index_of: partitions.iter().enumerate().map(|(index, partition)| (*partition, index)).collect(),
            changed: (0..partitions.len()).collect(),
            session: 0,
            epoch: 0,
            appetite,
            records: 0,
        })
    }

    pub fn ask(&mut self) -> Outcome<()> {
        let mut request = Writer::request(FETCH, VERSION);
        request.i32(-1);
        request.i32(self.appetite.wait_ms);
        request.i32(1); // min bytes
        request.i32(self.appetite.max_bytes);
        request.i8(0);
        request.i32(self.session);
        request.i32(self.epoch);
        request.i32(i32::from(!self.changed.is_empty()));
        if !self.changed.is_empty() {
            request.string(&self.topic);
            request.count(self.changed.len());
            for (partition, offset) in self.changed.iter().map(|index| self.positions[*index]) {
                request.i32(partition);
                request.i32(-1);
                request.i64(offset);
                request.i64(-1);
                request.i32(self.appetite.partition_bytes);
            }
        }
        request.i32(0); // nothing forgotten
        request.string(""); // rack
        Ok(self.connection.send(&request.finish())?)
    }

    /// Reads the answer: every whole batch goes to `each` with its partition. Bytes of batches read.
    pub fn take(&mut self, mut each: impl FnMut(i32, &[u8])) -> Outcome<u64> {
        let mut answer = Reader::new(self.connection.receive()?);
        answer.i32();
        let error = answer.i16();
        if error != 0 {
            return Err(format!("fetch: error {error}").into());
        }
        let session = answer.i32();
        if session != 0 {
            self.changed.clear();
        }
        self.session = session;
        self.epoch = if session == 0 { 0 } else { self.epoch + 1 };
        let mut bytes = 0;
        for _ in 0..answer.count() {
            answer.string();
            for _ in 0..answer.count() {
                let (partition, error) = (answer.i32(), answer.i16());
                if error != 0 {
                    return Err(format!("fetch of partition {partition}: error {error}").into());
                }
                answer.take(24);
                let aborted = answer.count();
                answer.take(16 * aborted);
                answer.i32(); // preferred replica
                let len = answer.count();
                let mut rest = answer.take(len);
                let mut next = None;
                while let Some((batch, behind)) = split_batch(rest) {
                    next = Some(next_offset(batch));
                    bytes += batch.len() as u64;
                    each(partition, batch);
                    rest = behind;
                }
                if let (Some(next), Some(&index)) = (next, self.index_of.get(&partition)) {
                    let position = &mut self.positions[index].1;
                    self.records += u64::try_from(next - *position).unwrap_or(0);
                    *position = next;
                    if session != 0 {
                        self.changed.push(index);
                    }
                }
            }
        }
        Ok(bytes)
    }
}

/// The first batch of `bytes` if it is whole.
pub fn split_batch(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?) as usize + 12;
    (len >= HEADER_BYTES).then(|| bytes.split_at_checked(len)).flatten()
}

/// Offset of the first record of a whole batch.
pub fn base_offset(batch: &[u8]) -> i64 {
    batch[..8].try_into().map_or(0, i64::from_be_bytes)
}

/// Offset behind a whole batch.
pub fn next_offset(batch: &[u8]) -> i64 {
    let delta = batch[23..27].try_into().map_or(0, i32::from_be_bytes);
    base_offset(batch) + i64::from(delta) + 1
}
