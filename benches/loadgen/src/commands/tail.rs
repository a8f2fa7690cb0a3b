//! One producer at a fixed rate and one reader at the end of the log.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::fetch::{Fetcher, base_offset};
use super::{Appetite, Broker, Content, Topic};
use crate::Outcome;
use crate::connection::{Connection, Producer};
use crate::histogram::Histogram;
use crate::meter::{Meter, Volume};
use crate::produce_request::{ProduceRequest, check};

#[derive(Debug, Args)]
pub struct Tail {
    #[command(flatten)]
    broker: Broker,
    /// Must be empty: offsets count the batches.
    #[command(flatten)]
    topic: Topic,
    #[command(flatten)]
    content: Content,
    #[command(flatten)]
    appetite: Appetite,
    /// Requests per second.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    #[arg(long, default_value_t = 20.0)]
    secs: f64,
}

impl Tail {
    /// Batch `k` of partition `p` is request `k * partitions + p`, so its offset tells when it was to be sent.
    pub fn run(self) -> Outcome<Value> {
        let batch = self.content.batch()?;
        let (partitions, records) = (self.topic.partitions, batch.records as i64);
        let total = (self.rate * self.secs) as usize;
        let warm = total / 5;
        let gap = Duration::from_secs_f64(1.0 / self.rate);
        let (acknowledged, end_to_end) = (Histogram::new(), Histogram::new());
        let producer = if self.content.not_idempotent { None } else { Some(Producer::new(&self.broker.address)?) };
        let all: Vec<i32> = (0..partitions as i32).collect();
        let mut fetcher = Fetcher::new(&self.broker.address, &self.topic.topic, &all, self.appetite.clone())?;
        let mut writer = Connection::open(&self.broker.address)?;
        let mut answers = writer.second()?;
        let mut request = ProduceRequest::new(&self.topic.topic, self.content.acks, 1, &batch);
        let meter = Meter::start(self.broker.pid);
        let start = Instant::now() + Duration::from_secs(1);
        let due = |number: usize| start + gap.mul_f64(number as f64);
        thread::scope(|scope| -> Outcome<()> {
            let reader = scope.spawn(|| -> Outcome<()> {
                let mut seen = 0;
                while seen < total {
                    fetcher.ask()?;
                    let mut arrived = Vec::new();
                    fetcher.take(|partition, batch| {
                        arrived.push((base_offset(batch) / records) as usize * partitions + partition as usize);
                    })?;
                    let now = Instant::now();
                    seen += arrived.len();
                    for number in arrived.into_iter().filter(|number| *number >= warm) {
                        end_to_end.add(now.saturating_duration_since(due(number)));
                    }
                }
                Ok(())
            });
            let acks = scope.spawn(|| -> Outcome<()> {
                for number in 0..total {
                    let answer = answers.receive()?;
                    if number >= warm {
                        acknowledged.add(due(number).elapsed());
                    }
                    check(answer)?;
                }
                Ok(())
            });
            let mut sequences = vec![0; partitions];
            for number in 0..total {
                thread::sleep(due(number).saturating_duration_since(Instant::now()));
                let partition = (number % partitions) as i32;
                writer.send(request.stamp(number as u64, std::iter::once(partition), producer, &mut sequences))?;
            }
            acks.join().map_err(|_| "the reader of answers died")??;
            reader.join().map_err(|_| "the reader died")?
        })?;
        let volume = Volume {
            requests: total as u64,
            records: (total * batch.records) as u64,
            wire_bytes: (total * batch.bytes.len()) as u64,
            payload_bytes: (total * batch.payload_bytes) as u64,
        };
        let mut result = meter.finish(None, volume);
        result["latency"] = acknowledged.summary();
        result["end_to_end"] = end_to_end.summary();
        Ok(result)
    }
}
