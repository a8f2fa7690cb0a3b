//! Requests by API: how many of which version, how long they took. One relaxed addition per number and request, in the
//! worker's own copy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::messages::ApiKey;

use super::metrics;
use super::per_worker::PerWorker;
use super::scrape::Scrape;

/// Api keys of Kafka 4.x end at 92; anything above is counted nowhere.
const API_KEYS: usize = 128;
/// No API has more versions.
const VERSIONS: usize = 32;
/// Four buckets per doubling from 1 µs on reach past an hour: each is at most 25 % wide.
const BUCKETS: usize = 128;
/// Quantiles speak of at least this much time, and of at most twice.
const WINDOW: Duration = Duration::from_secs(60);

/// Counters of all APIs.
#[derive(Debug, Default)]
pub struct RequestMeters {
    workers: PerWorker<Meters>,
    /// The buckets of earlier scrapes, by API.
    seen: Mutex<BTreeMap<i16, Seen>>,
}

/// One worker's; an API's own are made at its first request.
#[derive(Debug)]
struct Meters([OnceLock<Box<Meter>>; API_KEYS]);

#[derive(Debug)]
struct Meter {
    versions: [AtomicU64; VERSIONS],
    errors: AtomicU64,
    times: [AtomicU64; BUCKETS],
}

/// An API's numbers over all workers.
struct Sum {
    versions: [u64; VERSIONS],
    errors: u64,
    times: [u64; BUCKETS],
}

/// The buckets one and two windows ago.
#[derive(Debug)]
struct Seen {
    since: Instant,
    last: [u64; BUCKETS],
    before: [u64; BUCKETS],
}

impl Default for Meters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            versions: std::array::from_fn(|_| AtomicU64::new(0)),
            errors: AtomicU64::new(0),
            times: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl RequestMeters {
    /// A request was answered after `took`.
    pub fn answered(&self, api_key: i16, version: i16, took: Duration) {
        let Some(meter) = self.meter(api_key) else { return };
        if let Some(counter) = usize::try_from(version).ok().and_then(|version| meter.versions.get(version)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        meter.times[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// A request ended its connection.
    pub fn failed(&self, api_key: i16) {
        if let Some(meter) = self.meter(api_key) {
            meter.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn meter(&self, api_key: i16) -> Option<&Meter> {
        let slot = self.workers.here().0.get(usize::try_from(api_key).ok()?)?;
        Some(slot.get_or_init(Box::default))
    }

    fn sum(&self, api_key: i16) -> Option<Sum> {
        let at = usize::try_from(api_key).ok()?;
        let mut sum: Option<Sum> = None;
        for meter in self.workers.all().filter_map(|worker| worker.0.get(at)?.get()) {
            let sum = sum.get_or_insert(Sum { versions: [0; VERSIONS], errors: 0, times: [0; BUCKETS] });
            add(&mut sum.versions, &meter.versions);
            add(&mut sum.times, &meter.times);
            sum.errors += meter.errors.load(Ordering::Relaxed);
        }
        sum
    }

    /// Tells all of it.
    pub fn collect(&self, scrape: &mut Scrape) {
        for api_key in 0..API_KEYS as i16 {
            let Some(sum) = self.sum(api_key) else { continue };
            let name = ApiKey::try_from(api_key).map_or_else(|_| api_key.to_string(), |key| format!("{key:?}"));
            for (version, count) in sum.versions.iter().enumerate().filter(|(_, count)| **count > 0) {
                let labels = [("request", name.as_str()), ("version", &version.to_string())];
                scrape.sample(&metrics::REQUESTS, &labels, *count as f64);
            }
            scrape.sample(&metrics::REQUEST_ERRORS, &[("request", &name)], sum.errors as f64);
            self.collect_times(api_key, &name, &sum.times, scrape);
        }
    }

    fn collect_times(&self, api_key: i16, name: &str, now: &[u64; BUCKETS], scrape: &mut Scrape) {
        let mut all_seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all_seen.entry(api_key).or_insert_with(|| Seen {
            since: Instant::now(),
            last: [0; BUCKETS],
            before: [0; BUCKETS],
        });
        if seen.since.elapsed() >= WINDOW {
            *seen = Seen { since: Instant::now(), last: *now, before: seen.last };
        }
        let recent: [u64; BUCKETS] = std::array::from_fn(|i| now[i].saturating_sub(seen.before[i]));
        drop(all_seen);
        for (quantile, label) in [(0.5, "0.50"), (0.95, "0.95"), (0.99, "0.99"), (0.999, "0.999")] {
            let labels = [("request", name), ("quantile", label)];
            scrape.sample(&metrics::REQUEST_TIME, &labels, quantile_ms(&recent, quantile));
        }
        scrape.count(&metrics::REQUEST_TIME, &[("request", name)], now.iter().sum());
    }
}

fn add<const N: usize>(sums: &mut [u64; N], counters: &[AtomicU64; N]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += counter.load(Ordering::Relaxed);
    }
}

/// Bucket `4 e + q` holds times from `2^e (1 + q/4)` µs on.
fn bucket(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let exponent = us.ilog2();
    let quarter = if exponent >= 2 { (us >> (exponent - 2)) & 3 } else { (us << (2 - exponent)) & 3 };
    // Both are small: exponent is under 64, quarter under 4.
    (4 * exponent as usize + quarter as usize).min(BUCKETS - 1)
}

/// The upper end of the bucket in which the quantile lies; 0 without observations.
fn quantile_ms(buckets: &[u64; BUCKETS], quantile: f64) -> f64 {
    let total: u64 = buckets.iter().sum();
    let rank = ((total as f64) * quantile).ceil() as u64;
    let mut seen = 0;
    for (i, count) in (0u32..).zip(buckets) {
        seen += count;
        if total > 0 && seen >= rank.max(1) {
            let width = f64::from(i % 4 + 1) / 4.0;
            return f64::exp2(f64::from(i / 4)) * (1.0 + width) / 1000.0;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_rise_and_hold_their_times() {
        let mut last = 0;
        for us in 1..200_000u64 {
            let at = bucket(Duration::from_micros(us));
            assert!(at >= last, "{us}");
            last = at;
            let upper = f64::exp2((at / 4) as f64) * (1.0 + (at % 4 + 1) as f64 / 4.0);
            assert!(us as f64 <= upper && upper <= (us as f64) * 2.0 + 1.0, "{us} in {at} up to {upper}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_and_counts_are_told_by_api() {
        let meters = RequestMeters::default();
        for _ in 0..99 {
            meters.answered(0, 11, Duration::from_micros(100));
        }
        meters.answered(0, 12, Duration::from_millis(50));
        meters.answered(i16::MAX, 0, Duration::ZERO);
        meters.failed(-1);
        let mut scrape = Scrape::default();
        meters.collect(&mut scrape);
        let text = scrape.render();
        assert!(text.contains("requests_total{request=\"Produce\",version=\"11\"} 99\n"), "{text}");
        assert!(text.contains("totaltimems{request=\"Produce\",quantile=\"0.50\"} 0.112\n"), "{text}");
        assert!(text.contains("totaltimems_count{request=\"Produce\"} 100\n"), "{text}");
    }
}
