//! What passes through each topic: a shared look at the table and one atomic addition per number; sums and text are made
//! at the scrape.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::metrics::{self, Metric};
use super::scrape::Scrape;

/// Counters of one topic. They order nothing, so every access is relaxed.
#[derive(Debug, Default)]
#[repr(align(128))] // A line of its own: two busy topics must not share one.
pub struct TopicTraffic {
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_rejected: AtomicU64,
    produce_requests: AtomicU64,
    produce_failed: AtomicU64,
    fetch_requests: AtomicU64,
    fetch_failed: AtomicU64,
}

impl TopicTraffic {
    /// A partition took batches of `bytes` with `records`.
    pub fn produced(&self, records: u64, bytes: u64) {
        self.messages_in.fetch_add(records, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        self.produce_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A partition refused `bytes`.
    pub fn produce_refused(&self, bytes: u64) {
        self.bytes_rejected.fetch_add(bytes, Ordering::Relaxed);
        self.produce_requests.fetch_add(1, Ordering::Relaxed);
        self.produce_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A partition gave `bytes` to a Fetch, or nothing.
    pub fn fetched(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        self.fetch_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A partition refused a Fetch.
    pub fn fetch_refused(&self) {
        self.fetch_requests.fetch_add(1, Ordering::Relaxed);
        self.fetch_failed.fetch_add(1, Ordering::Relaxed);
    }

    fn counters(&self) -> [(&'static Metric, &AtomicU64); COUNTERS] {
        [
            (&metrics::MESSAGES_IN, &self.messages_in),
            (&metrics::BYTES_IN, &self.bytes_in),
            (&metrics::BYTES_OUT, &self.bytes_out),
            (&metrics::BYTES_REJECTED, &self.bytes_rejected),
            (&metrics::PRODUCE_REQUESTS, &self.produce_requests),
            (&metrics::PRODUCE_FAILED, &self.produce_failed),
            (&metrics::FETCH_REQUESTS, &self.fetch_requests),
            (&metrics::FETCH_FAILED, &self.fetch_failed),
        ]
    }
}

const COUNTERS: usize = 8;

/// The counters of all topics.
#[derive(Debug, Default)]
pub struct Traffic {
    topics: RwLock<HashMap<Arc<str>, Arc<TopicTraffic>>>,
    /// What forgotten topics had counted, so that the broker's own counters never fall.
    gone: TopicTraffic,
}

impl Traffic {
    /// Counts for one topic.
    pub fn count(&self, topic: &str, count: impl FnOnce(&TopicTraffic)) {
        // Plain counters: whole after any panic.
        if let Some(known) = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return count(known);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        count(topics.entry(Arc::from(topic)).or_default());
    }

    /// Drops the topics that are no more.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).retain(|name, topic| {
            let keep = exists(name);
            if !keep {
                for ((_, sum), (_, counter)) in self.gone.counters().iter().zip(topic.counters()) {
                    sum.fetch_add(counter.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
            keep
        });
    }

    /// Each counter by topic, and over all topics without a label, as Kafka has them.
    pub fn collect(&self, scrape: &mut Scrape) {
        let topics: Vec<_> = {
            let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
            topics.iter().map(|(name, topic)| (Arc::clone(name), Arc::clone(topic))).collect()
        };
        let mut sums = self.gone.counters().map(|(_, counter)| counter.load(Ordering::Relaxed));
        for (name, topic) in &topics {
            for ((metric, counter), sum) in topic.counters().into_iter().zip(&mut sums) {
                let value = counter.load(Ordering::Relaxed);
                *sum += value;
                scrape.sample(metric, &[("topic", name)], value as f64);
            }
        }
        for ((metric, _), sum) in self.gone.counters().into_iter().zip(sums) {
            scrape.sample(metric, &[], sum as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_over_all_topics_outlives_a_deleted_topic() {
        let traffic = Traffic::default();
        traffic.count("a", |topic| topic.produced(2, 200));
        traffic.count("b", |topic| topic.produced(3, 300));
        traffic.retain(|name| name != "a");
        let mut scrape = Scrape::default();
        traffic.collect(&mut scrape);
        let text = scrape.render();
        assert!(text.contains("messagesin_total{topic=\"b\"} 3\n") && !text.contains("topic=\"a\""), "{text}");
        assert!(text.contains("messagesin_total 5\n") && text.contains("bytesin_total 500\n"), "{text}");
    }
}
