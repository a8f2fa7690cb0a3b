//! What the jobs tell of themselves; the names stand in the table of all metrics.

use metrics::{counter, gauge};

use crate::telemetry::metrics::{
    REMOTE_CLEAN_ERRORS, REMOTE_CLEAN_READ, REMOTE_CLEAN_REMOVED, REMOTE_CLEANS, REMOTE_COPY_BYTES, REMOTE_COPY_ERRORS,
    REMOTE_COPY_LAG_BYTES, REMOTE_COPY_LAG_SEGMENTS, REMOTE_COPY_REQUESTS, REMOTE_DELETE_ERRORS,
    REMOTE_DELETE_REQUESTS, REMOTE_DRAIN_BYTES, REMOTE_DRAIN_SEGMENTS, REMOTE_MERGE_ERRORS, REMOTE_MERGED_BYTES,
    REMOTE_MERGED_SEGMENTS, REMOTE_MERGES, REMOTE_OLDEST_UNCOPIED, REMOTE_ROOTS, REMOTE_SCRUB_DAMAGED,
    REMOTE_SCRUBBED_BYTES, REMOTE_SCRUBBED_SEGMENTS, REMOTE_SNAPSHOTS,
};

pub(super) fn copied(topic: &str, bytes: u64) {
    counter!(REMOTE_COPY_REQUESTS.name, "topic" => topic.to_owned()).increment(1);
    counter!(REMOTE_COPY_BYTES.name, "topic" => topic.to_owned()).increment(bytes);
}

pub(super) fn copy_failed(topic: &str) {
    counter!(REMOTE_COPY_ERRORS.name, "topic" => topic.to_owned()).increment(1);
}

pub(super) fn merged(segments: usize, bytes: u64) {
    counter!(REMOTE_MERGES.name).increment(1);
    counter!(REMOTE_MERGED_SEGMENTS.name).increment(segments as u64);
    counter!(REMOTE_MERGED_BYTES.name).increment(bytes);
}

pub(super) fn merge_failed() {
    counter!(REMOTE_MERGE_ERRORS.name).increment(1);
}

/// A round over a compacted partition has ended.
pub(super) fn cleaned() {
    counter!(REMOTE_CLEANS.name).increment(1);
}

pub(super) fn clean_read(bytes: u64) {
    counter!(REMOTE_CLEAN_READ.name).increment(bytes);
}

pub(super) fn clean_removed(bytes: u64) {
    counter!(REMOTE_CLEAN_REMOVED.name).increment(bytes);
}

pub(super) fn clean_failed() {
    counter!(REMOTE_CLEAN_ERRORS.name).increment(1);
}

pub(super) fn deleted() {
    counter!(REMOTE_DELETE_REQUESTS.name).increment(1);
}

pub(super) fn delete_failed() {
    counter!(REMOTE_DELETE_ERRORS.name).increment(1);
}

pub(super) fn root_written() {
    counter!(REMOTE_ROOTS.name).increment(1);
}

pub(super) fn snapshot_written() {
    counter!(REMOTE_SNAPSHOTS.name).increment(1);
}

pub(super) fn scrubbed_bytes(bytes: u64) {
    counter!(REMOTE_SCRUBBED_BYTES.name).increment(bytes);
}

pub(super) fn scrubbed_segment() {
    counter!(REMOTE_SCRUBBED_SEGMENTS.name).increment(1);
}

pub(super) fn scrub_found_damage() {
    counter!(REMOTE_SCRUB_DAMAGED.name).increment(1);
}

/// What is not in the bucket yet, over all tiered partitions.
pub(super) fn uncopied(oldest_age_ms: i64, bytes: u64, segments: u64) {
    gauge!(REMOTE_OLDEST_UNCOPIED.name).set(oldest_age_ms as f64 / 1000.0);
    gauge!(REMOTE_COPY_LAG_BYTES.name).set(bytes as f64);
    gauge!(REMOTE_COPY_LAG_SEGMENTS.name).set(segments as f64);
}

/// What drains have left to do.
pub(super) fn to_come_back(segments: u64, bytes: u64) {
    gauge!(REMOTE_DRAIN_SEGMENTS.name).set(segments as f64);
    gauge!(REMOTE_DRAIN_BYTES.name).set(bytes as f64);
}
