//! What the operator is told of a restore.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, NaiveDateTime, SecondsFormat};
use terrace_tiering::restore::WrittenSnapshot;

use super::coordinators::Counts;
use super::cut::{Cut, PartitionCut};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// Objects of one partition that are named one by one when they are gone.
const SHOWN: usize = 5;

/// What was restored.
#[derive(Debug)]
pub struct Report {
    /// Where from.
    pub uri: String,
    /// The snapshot of the cut.
    pub chosen: WrittenSnapshot,
    /// The epoch that owns the bucket.
    pub node_epoch: LeaderEpoch,
    /// All of it.
    pub cut: Cut,
    /// Groups and transactions.
    pub counts: Counts,
}

#[derive(Default)]
struct OfTopic {
    segments: usize,
    bytes: u64,
    offsets: Vec<(i32, Offset, Offset)>,
}

impl Report {
    /// What the operator should look into, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let cut = &self.cut;
        for partition in cut.partitions.iter().filter(|each| !each.chain.missing.is_empty()) {
            let missing = &partition.chain.missing;
            let shown: Vec<String> = missing
                .iter()
                .take(SHOWN)
                .map(|entry| format!("{}-{}", entry.base_offset, entry.last_offset))
                .collect();
            lines.push(format!(
                "{}-{}: {} segments are named in the bucket and not there (offsets {}{})",
                self.name(partition),
                partition.id.partition,
                missing.len(),
                shown.join(", "),
                if missing.len() > SHOWN { ", …" } else { "" }
            ));
        }
        for topic in &cut.found {
            lines.push(format!(
                "{} was made after the snapshot: it comes back with {} partitions and without its settings",
                topic.name, topic.partition_count
            ));
        }
        for topic in &cut.deleted {
            lines.push(format!("{} was deleted after the snapshot and stays so", topic.name));
        }
        for topic in &cut.undeleted {
            lines.push(format!("{} was deleted after the cut and comes back with what is left of it", topic.name));
        }
        for (topic, (objects, bytes)) in &cut.left {
            lines.push(format!(
                "topic {} does not belong to the cut: its {objects} objects ({bytes} bytes) stay in the bucket until \
                 remote.orphan.age.ms has passed",
                topic.simple()
            ));
        }
        for (feature, level) in &cut.unknown_features {
            lines.push(format!("feature {feature} at level {level} is not known here"));
        }
        lines
    }

    fn name(&self, partition: &PartitionCut) -> &str {
        let topic = self.cut.topics.iter().find(|topic| topic.id == partition.id.topic);
        topic.map_or("", |topic| &topic.name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = &self.cut;
        writeln!(
            f,
            "restored cluster {} from {}\n  snapshot {} of {}, owner from now on is node epoch {}",
            cut.cluster_id,
            self.uri,
            self.chosen.number,
            utc(self.chosen.written_ms),
            self.node_epoch
        )?;
        let mut topics: BTreeMap<&str, OfTopic> =
            cut.topics.iter().map(|topic| (&*topic.name, OfTopic::default())).collect();
        for partition in &cut.partitions {
            let of_topic = topics.entry(self.name(partition)).or_default();
            of_topic.segments += partition.chain.entries.len();
            of_topic.bytes += partition.chain.entries.iter().map(|entry| entry.log_bytes).sum::<u64>();
            of_topic.offsets.push((partition.id.partition, partition.log_start, partition.end));
        }
        for (name, OfTopic { segments, bytes, offsets }) in topics {
            let offsets: Vec<String> =
                offsets.iter().map(|(partition, start, end)| format!("{partition}:{start}..{end}")).collect();
            writeln!(f, "  {name:<30} {segments:>7} segments {bytes:>14} bytes  {}", offsets.join(" "))?;
        }
        let Counts { offsets, offsets_set_back, offsets_dropped, transactional_ids, transactions_aborted } =
            self.counts;
        writeln!(
            f,
            "  {offsets} group offsets, {offsets_set_back} of them set back to the end of their log; {offsets_dropped} of \
             partitions that are not there left out"
        )?;
        writeln!(f, "  {transactional_ids} transactional ids, {transactions_aborted} open transactions aborted")
    }
}

/// A wall time for people: `2026-11-21T22:00:00.000Z`.
pub fn utc(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms);
    time.map_or_else(|| ms.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The time that a text names: as [`utc`] writes it, seconds and their fraction may be left out, or milliseconds since 1970.
pub fn parse_utc(text: &str) -> Option<i64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    // What is finer than milliseconds would be dropped without a word.
    if text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > "999Z".len()) {
        return None;
    }
    ["%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%dT%H:%MZ"].into_iter().find_map(|written| {
        let time = NaiveDateTime::parse_from_str(text, written).ok()?;
        Some(time.and_utc().timestamp_millis())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(1_709_210_096_789), "2024-02-29T12:34:56.789Z");
        for (text, ms) in [
            ("2024-02-29T12:34:56.789Z", Some(1_709_210_096_789)),
            ("2024-02-29T12:34:56Z", Some(1_709_210_096_000)),
            ("2024-02-29T12:34Z", Some(1_709_210_040_000)),
            ("1709210096789", Some(1_709_210_096_789)),
            ("2023-02-29T12:34Z", None),
            ("2024-02-29 12:34Z", None),
            ("2024-02-29T24:00Z", None),
            ("2024-02-29T12:34:56.7890Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_utc(text), ms, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back(ms in 0i64..253_402_300_799_999) {
            prop_assert_eq!(parse_utc(&utc(ms)), Some(ms));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = parse_utc(&text);
        }
    }
}
