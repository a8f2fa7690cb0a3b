//! What the parts of the broker say of themselves when they are asked: at a scrape, and by health checks.

use std::sync::Arc;

use crate::api::Node;
use crate::server::listener::Connections;
use crate::telemetry::health::Condition;
use crate::telemetry::metrics;
use crate::telemetry::partitions::{self, PartitionSample};

/// Has partitions and connections told at every scrape of the node's telemetry.
///
/// The telemetry is part of the node, so what is kept here must not keep the node.
pub(super) fn register(node: &Arc<Node>, connections: &Arc<Connections>) {
    let telemetry = &node.telemetry;
    let all = node.partitions.clone();
    telemetry.on_scrape(move |scrape| {
        let opened = all.all();
        let counted = opened.iter().map(|partition| (partition.topic_name(), partition.traffic.counts()));
        all.traffic().collect(scrape, counted);
        partitions::collect(
            scrape,
            opened.iter().map(|partition| {
                let offsets = partition.known_offsets();
                PartitionSample {
                    topic: partition.topic_name(),
                    partition: partition.id().partition,
                    log_start: offsets.log_start,
                    local_start: offsets.local_start,
                    high_watermark: offsets.high_watermark,
                    log_end: offsets.log_end,
                    local_bytes: partition.size_bytes(),
                    offline: partition.offline_reason().is_some(),
                }
            }),
        );
    });
    let (clients, clock) = (node.client_metrics.clone(), node.clock.clone());
    telemetry.on_scrape(move |scrape| clients.collect(scrape, clock.now_ms()));
    let connections = connections.clone();
    telemetry.on_scrape(move |scrape| scrape.sample(&metrics::CONNECTIONS, &[], connections.count() as f64));
}

/// Has the log directories watched by the node's health.
pub(super) fn watch(node: &Node) {
    let health = &node.telemetry.health;
    let partitions = node.partitions.clone();
    health.watch(Condition::LogDirOffline, move || {
        let failed = partitions.log_dirs().filter(|(_, works)| !works);
        let paths: Vec<String> = failed.map(|(path, _)| path.display().to_string()).collect();
        (!paths.is_empty()).then(|| paths.join(", "))
    });
    let partitions = node.partitions.clone();
    health.watch(Condition::DiskFull, move || {
        let paths: Vec<String> = partitions.full_dirs().map(|path| path.display().to_string()).collect();
        (!paths.is_empty()).then(|| paths.join(", "))
    });
}
