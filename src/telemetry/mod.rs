//! What the broker shows of itself: counters and gauges, health, HTTP, log lines.
//!
//! A leaf: everybody may hold its handles, and it knows nobody. What it cannot know by itself it is told at a scrape by
//! the closures that `broker.rs` registers.

pub mod health;
pub mod http;
pub mod loggers;
pub mod logging;
pub mod metrics;
pub mod partitions;
mod per_worker;
mod process;
pub mod requests;
pub mod scrape;
pub mod status;
pub mod traffic;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use terrace_tiering::platform::task::Tasks;

use health::Health;
use requests::RequestMeters;
use scrape::Scrape;

/// How often the summaries of crate `metrics` are folded, so that they stay small while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(10);

type Collector = Box<dyn Fn(&mut Scrape) + Send + Sync>;

/// Everything that is measured, by one reference.
pub struct Telemetry {
    /// Health.
    pub health: Arc<Health>,
    /// Requests by API.
    pub requests: Arc<RequestMeters>,
    collectors: Mutex<Vec<Collector>>,
    recorder: PrometheusHandle,
    started_ms: i64,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("health", &self.health).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Begins to measure; `now_ms` is when the broker started.
    pub fn start(now_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            health: Arc::default(),
            requests: Arc::default(),
            collectors: Mutex::default(),
            recorder: recorder(),
            started_ms: now_ms,
        })
    }

    /// Keeps the summaries small until the tasks stop.
    pub fn spawn_upkeep(&self, tasks: &Tasks) {
        let (recorder, stopping) = (self.recorder.clone(), tasks.stopping());
        tasks.spawn("telemetry-upkeep", async move {
            let mut tick = tokio::time::interval(UPKEEP);
            while stopping.run_until_cancelled(tick.tick()).await.is_some() {
                recorder.run_upkeep();
            }
        });
    }

    /// `collector` is asked at every scrape; it must be quick and wait for nothing.
    pub fn on_scrape(&self, collector: impl Fn(&mut Scrape) + Send + Sync + 'static) {
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(collector));
    }

    /// A memory budget that is shown: its name, its limit, and what it holds at the moment.
    pub fn show_budget(&self, name: &'static str, limit: u64, held: impl Fn() -> u64 + Send + Sync + 'static) {
        self.on_scrape(move |scrape| {
            scrape.sample(&metrics::BUDGET_HELD, &[("budget", name)], held() as f64);
            scrape.sample(&metrics::BUDGET_LIMIT, &[("budget", name)], limit as f64);
        });
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut scrape = Scrape::default();
        scrape.sample(&metrics::STARTED, &[], self.started_ms as f64 / 1000.0);
        process::collect(&mut scrape);
        self.requests.collect(&mut scrape);
        for collector in self.collectors.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            collector(&mut scrape);
        }
        scrape.render() + &self.recorder.render()
    }
}

/// The one recorder of crate `metrics` in this process.
fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // Fails only if somebody else's recorder is there already; then the macros count for that one.
            if ::metrics::set_global_recorder(recorder).is_ok() {
                metrics::describe_all();
            }
            handle
        })
        .clone()
}

#[cfg(test)]
mod tests;
