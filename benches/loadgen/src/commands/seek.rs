//! The first record after a jump: by offset, or by time, which is a lookup and a fetch.

use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::fetch::next_offset;
use super::{Appetite, Broker, Topic};
use crate::Outcome;
use crate::connection::Connection;
use crate::histogram::Histogram;
use crate::wire::{Reader, Writer};

const FETCH: i16 = 1;
const FETCH_VERSION: i16 = 11;
const LIST_OFFSETS: i16 = 2;
const LIST_OFFSETS_VERSION: i16 = 5;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// So many empty answers in a row are a failure.
const TRIES: u32 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Offset,
    Time,
}

#[derive(Debug, Args)]
pub struct Seek {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    topic: Topic,
    #[command(flatten)]
    appetite: Appetite,
    #[arg(long, value_enum, default_value = "offset")]
    by: By,
    /// How many jumps.
    #[arg(long, default_value_t = 200)]
    seeks: u64,
    /// The earliest and the latest time to jump to, in milliseconds.
    #[arg(long, default_value_t = 0)]
    from_ms: i64,
    #[arg(long, default_value_t = 0)]
    to_ms: i64,
    /// Other jumps for another number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The share of a partition, from its beginning, in which the jumps by offset end.
    #[arg(long, default_value_t = 0.9)]
    share: f64,
}

impl Seek {
    pub fn run(self) -> Outcome<Value> {
        let mut connection = Connection::open(&self.broker.address)?;
        let mut state = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below.max(1)
        };
        let partitions = 0..self.topic.partitions as i32;
        let bounds = partitions.map(|partition| {
            let mut at = |time| self.offset_at(&mut connection, partition, time);
            Ok((at(EARLIEST)?, at(LATEST)?))
        });
        let bounds = bounds.collect::<Outcome<Vec<_>>>()?;
        let latencies = Histogram::new();
        let mut unanswered = 0u64;
        for _ in 0..self.seeks {
            let partition = random(self.topic.partitions as u64) as i32;
            let (start, end) = bounds[partition as usize];
            let target = start + random(((end - start) as f64 * self.share) as u64) as i64;
            let time = self.from_ms + random((self.to_ms - self.from_ms).max(1) as u64) as i64;
            let begun = Instant::now();
            let offset = match self.by {
                By::Offset => target,
                By::Time => self.offset_at(&mut connection, partition, time)?,
            };
            if offset < 0 {
                // Behind the last record of the partition.
                unanswered += 1;
                continue;
            }
            self.first_record(&mut connection, partition, offset)?;
            latencies.add(begun.elapsed());
        }
        let mut result = latencies.summary();
        result["unanswered"] = json!(unanswered);
        Ok(result)
    }

    fn offset_at(&self, connection: &mut Connection, partition: i32, time: i64) -> Outcome<i64> {
        let mut request = Writer::request(LIST_OFFSETS, LIST_OFFSETS_VERSION);
        request.i32(-1);
        request.i8(0);
        request.i32(1);
        request.string(&self.topic.topic);
        request.i32(1);
        request.i32(partition);
        request.i32(-1); // any leader epoch
        request.i64(time);
        let mut answer = Reader::new(connection.call(&request.finish())?);
        answer.i32();
        answer.count();
        answer.string();
        answer.count();
        answer.i32();
        match answer.i16() {
            0 => {}
            error => return Err(format!("lookup in partition {partition}: error {error}").into()),
        }
        answer.i64();
        Ok(answer.i64())
    }

    /// Asks until a batch that holds the offset has come.
    fn first_record(&self, connection: &mut Connection, partition: i32, offset: i64) -> Outcome<()> {
        let mut request = Writer::request(FETCH, FETCH_VERSION);
        request.i32(-1);
        request.i32(self.appetite.wait_ms);
        request.i32(1); // min bytes
        request.i32(self.appetite.max_bytes);
        request.i8(0);
        request.i32(0); // no session
        request.i32(-1);
        request.i32(1);
        request.string(&self.topic.topic);
        request.i32(1);
        request.i32(partition);
        request.i32(-1);
        request.i64(offset);
        request.i64(-1);
        request.i32(self.appetite.partition_bytes);
        request.i32(0); // nothing forgotten
        request.string(""); // rack
        let request = request.finish();
        for _ in 0..TRIES {
            let mut answer = Reader::new(connection.call(&request)?);
            answer.i32();
            answer.i16();
            answer.i32();
            answer.count();
            answer.string();
            answer.count();
            answer.i32();
            match answer.i16() {
                0 => {}
                error => return Err(format!("fetch of partition {partition} at {offset}: error {error}").into()),
            }
            answer.take(24);
            let aborted = answer.count();
            answer.take(16 * aborted);
            answer.i32(); // preferred replica
            let len = answer.count();
            let records = answer.take(len);
            if let Some((batch, _)) = super::fetch::split_batch(records) {
                if next_offset(batch) <= offset {
                    return Err(format!("fetch of partition {partition} at {offset} gave what lies before").into());
                }
                return Ok(());
            }
        }
        Err(format!("fetch of partition {partition} at {offset} gives nothing").into())
    }
}
