//! Byte-level rate limits: a token bucket that holds one second's worth.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_s: Option<u64>,
    state: Mutex<State>,
    /// What all waited together; the counter has whole seconds.
    waited_us: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Bytes that may pass; negative while somebody waits for what already was promised to him.
    tokens: f64,
    at: Instant,
}

impl Throttle {
    pub(super) fn new(bytes_per_s: Option<u64>) -> Self {
        let tokens = bytes_per_s.unwrap_or(0) as f64;
        Self {
            bytes_per_s: bytes_per_s.filter(|rate| *rate > 0),
            state: Mutex::new(State { tokens, at: Instant::now() }),
            waited_us: AtomicU64::new(0),
        }
    }

    /// Waits until `bytes` may pass. Whoever asks later waits behind.
    pub(super) async fn take(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_s else { return };
        let wait = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let gained = now.duration_since(state.at).as_secs_f64() * rate as f64;
            state.tokens = (state.tokens + gained).min(rate as f64) - bytes as f64;
            state.at = now;
            -state.tokens / rate as f64
        };
        if wait > 0.0 {
            let wait = Duration::from_secs_f64(wait);
            let wait_us = u64::try_from(wait.as_micros()).unwrap_or(0);
            let before_us = self.waited_us.fetch_add(wait_us, Ordering::Relaxed);
            let seconds = (before_us.saturating_add(wait_us)) / 1_000_000 - before_us / 1_000_000;
            metrics::counter!("terrace_remote_throttled_seconds_total").increment(seconds);
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_after_one_second_of_burst() {
        let throttle = Throttle::new(Some(1000));
        let start = Instant::now();
        throttle.take(1000).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        throttle.take(2000).await;
        throttle.take(1000).await;
        assert!((start.elapsed().as_secs_f64() - 3.0).abs() < 0.01, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let start = Instant::now();
        Throttle::new(None).take(u64::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
