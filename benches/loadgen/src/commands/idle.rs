//! Readers at the end of the log, for whom nothing comes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::fetch::Fetcher;
use super::{Appetite, Broker, Topic};
use crate::Outcome;
use crate::meter::Reading;

/// A reader's thread needs little.
const STACK_BYTES: usize = 256 << 10;
/// Until all of them poll evenly.
const SETTLING: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub struct Idle {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    topic: Topic,
    #[command(flatten)]
    appetite: Appetite,
    #[arg(long, default_value_t = 1000)]
    conns: usize,
    #[arg(long, default_value_t = 15.0)]
    secs: f64,
}

impl Idle {
    pub fn run(self) -> Outcome<Value> {
        let (stop, polls) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let mut threads = Vec::with_capacity(self.conns);
            for number in 0..self.conns {
                let partition = (number % self.topic.partitions) as i32;
                let mut fetcher =
                    Fetcher::new(&self.broker.address, &self.topic.topic, &[partition], self.appetite.clone())?;
                let (stop, polls) = (&stop, &polls);
                let poll = move || -> Outcome<()> {
                    while !stop.load(Relaxed) {
                        fetcher.ask()?;
                        fetcher.take(|_, _| ())?;
                        polls.fetch_add(1, Relaxed);
                    }
                    Ok(())
                };
                threads.push(thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, poll)?);
            }
            thread::sleep(SETTLING);
            let (before, polls_before, begun) = (Reading::of(self.broker.pid), polls.load(Relaxed), Instant::now());
            thread::sleep(Duration::from_secs_f64(self.secs));
            let (after, seconds) = (Reading::of(self.broker.pid), begun.elapsed().as_secs_f64());
            let count = (polls.load(Relaxed) - polls_before) as f64;
            let cpu_s = after.cpu_s() - before.cpu_s();
            stop.store(true, Relaxed);
            for thread in threads {
                thread.join().map_err(|_| "a reader died")??;
            }
            Ok(json!({
                "polls_per_s": count / seconds, "cores": cpu_s / seconds, "cpu_us_per_poll": cpu_s * 1e6 / count,
                "rss_mib": after.rss_kib as f64 / 1024.0,
            }))
        })
    }
}
