//! What the tier tells: every metric of it is named here.

use metrics::{counter, gauge};

pub(super) fn copied(topic: &str, bytes: u64) {
    let topic = topic.to_owned();
    counter!("kafka_server_brokertopicmetrics_remotecopyrequests_total", "topic" => topic.clone()).increment(1);
    counter!("kafka_server_brokertopicmetrics_remotecopybytes_total", "topic" => topic).increment(bytes);
}

pub(super) fn copy_failed(topic: &str) {
    counter!("kafka_server_brokertopicmetrics_remotecopyerrors_total", "topic" => topic.to_owned()).increment(1);
}

pub(super) fn deleted() {
    counter!("kafka_server_brokertopicmetrics_remotedeleterequests_total").increment(1);
}

pub(super) fn delete_failed() {
    counter!("kafka_server_brokertopicmetrics_remotedeleteerrors_total").increment(1);
}

pub(super) fn root_written() {
    counter!("terrace_remote_manifest_roots_total").increment(1);
}

pub(super) fn snapshot_written() {
    counter!("terrace_remote_metadata_snapshots_total").increment(1);
}

/// What is not in the bucket yet, over all tiered partitions.
pub(super) fn uncopied(oldest_age_ms: i64, bytes: u64, segments: u64) {
    gauge!("terrace_remote_oldest_uncopied_age_seconds").set(oldest_age_ms as f64 / 1000.0);
    gauge!("kafka_server_brokertopicmetrics_remotecopylagbytes").set(bytes as f64);
    gauge!("kafka_server_brokertopicmetrics_remotecopylagsegments").set(segments as f64);
}
