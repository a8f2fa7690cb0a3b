//! What passes through each partition: plain numbers beside the partition they belong to, which its appender and its
//! readers have in their cache anyway; nothing is looked up when a batch passes. Sums by topic are made at the scrape.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::metrics::{self, Metric};
use super::scrape::Scrape;

const METRICS: [&Metric; 8] = [
    &metrics::MESSAGES_IN,
    &metrics::BYTES_IN,
    &metrics::BYTES_OUT,
    &metrics::BYTES_REJECTED,
    &metrics::PRODUCE_REQUESTS,
    &metrics::PRODUCE_FAILED,
    &metrics::FETCH_REQUESTS,
    &metrics::FETCH_FAILED,
];

/// The values of [`METRICS`] at one moment.
pub type Counts = [u64; METRICS.len()];

/// Counters of one partition, or of what belongs to none. They order nothing, so every access is relaxed.
#[derive(Debug, Default)]
pub struct Traffic {
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_rejected: AtomicU64,
    produce_requests: AtomicU64,
    produce_failed: AtomicU64,
    fetch_requests: AtomicU64,
    fetch_failed: AtomicU64,
}

impl Traffic {
    /// Batches of `bytes` with `records` were taken.
    pub fn produced(&self, records: u64, bytes: u64) {
        self.messages_in.fetch_add(records, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        self.produce_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Batches of `bytes` were refused.
    pub fn produce_refused(&self, bytes: u64) {
        self.bytes_rejected.fetch_add(bytes, Ordering::Relaxed);
        self.produce_requests.fetch_add(1, Ordering::Relaxed);
        self.produce_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A Fetch got `bytes`, or nothing.
    pub fn fetched(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        self.fetch_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A Fetch was refused.
    pub fn fetch_refused(&self) {
        self.fetch_requests.fetch_add(1, Ordering::Relaxed);
        self.fetch_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The numbers now.
    pub fn counts(&self) -> Counts {
        self.counters().map(|counter| counter.load(Ordering::Relaxed))
    }

    /// Takes over what `other` has counted.
    pub fn add(&self, other: &Self) {
        for (sum, count) in self.counters().into_iter().zip(other.counts()) {
            sum.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn counters(&self) -> [&AtomicU64; METRICS.len()] {
        [
            &self.messages_in,
            &self.bytes_in,
            &self.bytes_out,
            &self.bytes_rejected,
            &self.produce_requests,
            &self.produce_failed,
            &self.fetch_requests,
            &self.fetch_failed,
        ]
    }
}

/// The sums over all partitions of the node, told so that they never fall.
#[derive(Debug, Default)]
pub struct NodeTraffic {
    /// What partitions had counted that are no more, and what was asked of partitions that never were.
    pub elsewhere: Traffic,
    told: Mutex<Counts>,
}

impl NodeTraffic {
    /// Each counter by topic, and over all topics without a label, as Kafka has them.
    pub fn collect<'a>(&self, scrape: &mut Scrape, partitions: impl Iterator<Item = (&'a Arc<str>, Counts)>) {
        let mut topics: BTreeMap<&str, Counts> = BTreeMap::new();
        // Topics that nobody used show nothing.
        for (topic, counts) in partitions.filter(|(_, counts)| counts.iter().any(|count| *count > 0)) {
            add(topics.entry(topic).or_default(), &counts);
        }
        let mut sums = self.elsewhere.counts();
        for (topic, counts) in &topics {
            add(&mut sums, counts);
            for (metric, count) in METRICS.iter().zip(counts) {
                scrape.sample(metric, &[("topic", topic)], *count as f64);
            }
        }
        // A partition that is just being deleted is for a moment neither there nor elsewhere.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for ((metric, sum), told) in METRICS.iter().zip(sums).zip(&mut *told) {
            *told = sum.max(*told);
            scrape.sample(metric, &[], *told as f64);
        }
    }
}

fn add(sums: &mut Counts, counts: &Counts) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_over_all_topics_outlives_a_deleted_topic() {
        let node = NodeTraffic::default();
        let topics: [Arc<str>; 2] = ["a".into(), "b".into()];
        let (one, two) = (Traffic::default(), Traffic::default());
        one.produced(2, 200);
        two.produced(3, 300);
        let told = |partitions: &[(&Arc<str>, Counts)]| {
            let mut scrape = Scrape::default();
            node.collect(&mut scrape, partitions.iter().copied());
            scrape.render()
        };
        let text = told(&[(&topics[0], one.counts()), (&topics[0], one.counts()), (&topics[1], two.counts())]);
        assert!(text.contains("messagesin_total{topic=\"a\"} 4\n"), "{text}");
        node.elsewhere.add(&one);
        let text = told(&[(&topics[1], two.counts())]);
        assert!(text.contains("messagesin_total{topic=\"b\"} 3\n") && !text.contains("topic=\"a\""), "{text}");
        assert!(text.contains("messagesin_total 7\n") && text.contains("bytesin_total 700\n"), "{text}");
    }
}
