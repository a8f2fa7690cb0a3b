//! Produce: as fast as answers come, or at a fixed rate.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::{Broker, Content, Topic};
use crate::Outcome;
use crate::batch::Batch;
use crate::connection::{Connection, Producer};
use crate::histogram::Histogram;
use crate::meter::{Meter, Volume};
use crate::produce_request::{ProduceRequest, check};

#[derive(Debug, Args)]
pub struct Produce {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    topic: Topic,
    #[command(flatten)]
    content: Content,
    #[arg(long, default_value_t = 2)]
    conns: usize,
    /// Requests of a connection that wait for answers.
    #[arg(long, default_value_t = 5)]
    inflight: u64,
    /// Partitions in one request, a batch for each.
    #[arg(long, default_value_t = 1)]
    per_request: usize,
    /// Megabytes to send in all.
    #[arg(long, default_value_t = 500)]
    mb: u64,
    /// Requests per second in an open loop, for --secs.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 20.0)]
    secs: f64,
}

/// What the connections share.
struct Run<'a> {
    with: &'a Produce,
    batch: &'a Batch,
    latencies: Histogram,
    requests: AtomicU64,
}

/// One connection's walk over the partitions: round robin from a start of its own.
struct Walk {
    next: usize,
    step: usize,
    partitions: usize,
}

impl Walk {
    fn take(&mut self) -> impl Iterator<Item = i32> + use<> {
        let (start, partitions) = (self.next, self.partitions);
        self.next = (self.next + self.step) % partitions;
        (0..self.step).map(move |at| ((start + at) % partitions) as i32)
    }
}

impl Produce {
    pub fn run(self) -> Outcome<Value> {
        let batch = self.content.batch()?;
        let mut producers = Vec::with_capacity(self.conns);
        for _ in 0..self.conns {
            let idempotent = !self.content.not_idempotent;
            producers.push(if idempotent { Some(Producer::new(&self.broker.address)?) } else { None });
        }
        let run = Run { with: &self, batch: &batch, latencies: Histogram::new(), requests: AtomicU64::new(0) };
        let meter = Meter::start(self.broker.pid);
        thread::scope(|scope| -> Outcome<()> {
            let work = |(number, producer)| run.connection(number, producer);
            let threads: Vec<_> = producers.into_iter().enumerate().map(|one| scope.spawn(move || work(one))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a connection's thread died")?)
        })?;
        let requests = run.requests.load(Relaxed);
        let each = |bytes: usize| requests * (bytes * self.per_request) as u64;
        let volume = Volume {
            requests,
            records: each(batch.records),
            wire_bytes: each(batch.bytes.len()),
            payload_bytes: each(batch.payload_bytes),
        };
        let mut result = meter.finish(None, volume);
        result["latency"] = run.latencies.summary();
        Ok(result)
    }
}

impl Run<'_> {
    fn connection(&self, number: usize, producer: Option<Producer>) -> Outcome<()> {
        let Produce { topic, content, per_request, conns, .. } = self.with;
        let request = ProduceRequest::new(&topic.topic, content.acks, *per_request, self.batch);
        let walk = Walk { next: number * topic.partitions / conns, step: *per_request, partitions: topic.partitions };
        let connection = Connection::open(&self.with.broker.address)?;
        match self.with.rate {
            None => self.closed_loop(connection, request, walk, producer),
            Some(rate) => self.open_loop(connection, request, walk, producer, number, rate),
        }
    }

    fn closed_loop(
        &self,
        mut connection: Connection,
        mut request: ProduceRequest,
        mut walk: Walk,
        producer: Option<Producer>,
    ) -> Outcome<()> {
        let request_bytes = (self.batch.bytes.len() * self.with.per_request) as u64;
        let total = (self.with.mb * 1_000_000 / request_bytes / self.with.conns as u64).max(1);
        let mut sequences = vec![0; self.with.topic.partitions];
        let mut sent_at = VecDeque::new();
        let (mut sent, mut answered) = (0, 0);
        while answered < total {
            if sent < total && sent - answered < self.with.inflight {
                connection.send(request.stamp(sent, walk.take(), producer, &mut sequences))?;
                sent += 1;
                match self.with.content.acks {
                    0 => answered += 1,
                    _ => sent_at.push_back(Instant::now()),
                }
                continue;
            }
            check(connection.receive()?)?;
            if let Some(sent_at) = sent_at.pop_front() {
                self.latencies.add(sent_at.elapsed());
            }
            answered += 1;
        }
        self.requests.fetch_add(answered, Relaxed);
        Ok(())
    }

    /// The first fifth warms up and isn't counted among the latencies.
    fn open_loop(
        &self,
        mut connection: Connection,
        mut request: ProduceRequest,
        mut walk: Walk,
        producer: Option<Producer>,
        number: usize,
        rate: f64,
    ) -> Outcome<()> {
        let conns = self.with.conns as f64;
        let gap = Duration::from_secs_f64(conns / rate);
        let total = ((rate * self.with.secs / conns) as u64).max(1);
        let start = Instant::now() + gap.mul_f64(number as f64 / conns);
        let mut sequences = vec![0; self.with.topic.partitions];
        let intended = Mutex::new(VecDeque::new());
        let mut answers = connection.second()?;
        thread::scope(|scope| {
            let reader = scope.spawn(|| -> Outcome<()> {
                for answered in 0..total {
                    let answer = answers.receive()?;
                    let due: Option<Instant> = intended.lock().map_err(|_| "the writer died")?.pop_front();
                    if answered >= total / 5
                        && let Some(due) = due
                    {
                        self.latencies.add(due.elapsed());
                    }
                    check(answer)?;
                }
                Ok(())
            });
            for at in 0..total {
                let due = start + gap.mul_f64(at as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let bytes = request.stamp(at, walk.take(), producer, &mut sequences);
                intended.lock().map_err(|_| "the reader died")?.push_back(due);
                connection.send(bytes)?;
                self.requests.fetch_add(1, Relaxed);
            }
            reader.join().map_err(|_| "the reader died")?
        })
    }
}
