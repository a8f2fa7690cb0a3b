//! Latencies: log-linear, 64 steps per power of two of microseconds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

const STEPS: usize = 64;

/// Filled by many threads.
pub struct Histogram(Vec<AtomicU64>);

impl Histogram {
    pub fn new() -> Self {
        Self((0..STEPS * 40).map(|_| AtomicU64::new(0)).collect())
    }

    pub fn add(&self, latency: Duration) {
        let micros = latency.as_micros() as u64;
        let bucket = if micros < STEPS as u64 {
            micros as usize
        } else {
            let power = micros.ilog2() as usize;
            (power - 5) * STEPS + ((micros >> (power - 6)) as usize & (STEPS - 1))
        };
        self.0[bucket.min(self.0.len() - 1)].fetch_add(1, Relaxed);
    }

    fn lower_bound_ms(bucket: usize) -> f64 {
        let micros = if bucket < STEPS {
            bucket as u64
        } else {
            let power = bucket / STEPS + 5;
            (1 << power) + (((bucket % STEPS) as u64) << (power - 6))
        };
        micros as f64 / 1e3
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        let count: u64 = self.0.iter().map(|bucket| bucket.load(Relaxed)).sum();
        let mut rank = ((count as f64 * quantile).ceil() as u64).max(1);
        for (index, bucket) in self.0.iter().enumerate() {
            let here = bucket.load(Relaxed);
            if here >= rank {
                return Self::lower_bound_ms(index);
            }
            rank -= here;
        }
        0.0
    }

    /// Quantiles in milliseconds.
    pub fn summary(&self) -> Value {
        json!({
            "p50_ms": self.quantile_ms(0.5), "p99_ms": self.quantile_ms(0.99), "p99.9_ms": self.quantile_ms(0.999),
            "max_ms": self.quantile_ms(1.0),
        })
    }
}
