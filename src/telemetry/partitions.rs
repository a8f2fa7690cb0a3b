//! Gauges of partitions. Telemetry knows no partition, so the broker hands over plain numbers.

use super::metrics;
use super::scrape::Scrape;

/// One partition at the moment of the scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSample<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Number.
    pub partition: i32,
    /// First offset over both tiers.
    pub log_start: i64,
    /// First local offset.
    pub local_start: i64,
    /// High watermark.
    pub high_watermark: i64,
    /// Next offset.
    pub log_end: i64,
    /// Local bytes.
    pub local_bytes: u64,
    /// It cannot serve.
    pub offline: bool,
}

/// Tells the gauges of all partitions and their sums.
pub fn collect<'a>(scrape: &mut Scrape, partitions: impl Iterator<Item = PartitionSample<'a>>) {
    let (mut count, mut offline) = (0u32, 0u32);
    for sample in partitions {
        count += 1;
        offline += u32::from(sample.offline);
        let number = sample.partition.to_string();
        let labels = [("topic", sample.topic), ("partition", number.as_str())];
        scrape.sample(&metrics::LOG_SIZE, &labels, sample.local_bytes as f64);
        scrape.sample(&metrics::LOG_START_OFFSET, &labels, sample.log_start as f64);
        scrape.sample(&metrics::LOG_END_OFFSET, &labels, sample.log_end as f64);
        scrape.sample(&metrics::LOCAL_START_OFFSET, &labels, sample.local_start as f64);
        scrape.sample(&metrics::OFFSET_CURRENT, &labels, sample.high_watermark as f64);
        scrape.sample(&metrics::OFFSET_OLDEST, &labels, sample.log_start as f64);
    }
    scrape.sample(&metrics::PARTITION_COUNT, &[], f64::from(count));
    scrape.sample(&metrics::LEADER_COUNT, &[], f64::from(count));
    scrape.sample(&metrics::OFFLINE_PARTITIONS, &[], f64::from(offline));
    // One broker holds every replica there is and decides everything.
    scrape.sample(&metrics::UNDER_REPLICATED, &[], 0.0);
    scrape.sample(&metrics::ACTIVE_CONTROLLERS, &[], 1.0);
}
