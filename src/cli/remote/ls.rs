//! `terrace remote ls`: partitions, their segments, or plain objects.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use terrace_tiering::inspect::Line;
use terrace_tiering::inspect::verify::Surveyed;
use terrace_tiering::manifest::ManifestEntry;

use super::topics::{Selection, Stored};
use super::{BucketArgs, Failure, Opened, not_asked};
use crate::restore::report::utc;

/// Which of it.
#[derive(Debug, Args)]
pub(in crate::cli) struct LsArgs {
    /// Only this topic or partition.
    #[arg(value_name = "TOPIC[/PARTITION]", value_parser = Selection::parse, conflicts_with = "objects")]
    wanted: Option<Selection>,
    /// Every segment, with its offsets, times and copy.
    #[arg(long, conflicts_with = "objects")]
    segments: bool,
    /// Every object of the cluster by key: kind, bytes, key.
    #[arg(long)]
    objects: bool,
    #[command(flatten)]
    bucket: BucketArgs,
}

#[derive(Debug, Serialize)]
struct PartitionLine {
    topic: String,
    topic_id: String,
    partition: i32,
    segments: usize,
    bytes: u64,
    log_start: i64,
    /// Offset behind the last segment; -1 without one.
    tier_end: i64,
    first_timestamp_ms: Option<i64>,
    max_timestamp_ms: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stored: Vec<SegmentLine>,
    /// Why the manifest cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct SegmentLine {
    base_offset: i64,
    last_offset: i64,
    bytes: u64,
    first_timestamp_ms: i64,
    max_timestamp_ms: i64,
    leader_epoch: i32,
    key: String,
}

#[derive(Debug, Serialize)]
struct ObjectLine {
    kind: &'static str,
    bytes: u64,
    modified_ms: i64,
    key: String,
}

pub(super) async fn run(arguments: &LsArgs) -> Result<(), Failure> {
    let opened = arguments.bucket.open().await?;
    if arguments.objects {
        let lines = opened.inspector.list(opened.tier.cluster_id()).await.map_err(not_asked)?;
        let lines: Vec<ObjectLine> = lines.into_iter().map(ObjectLine::of).collect();
        return arguments.bucket.show(&lines, |lines| objects(lines));
    }
    let stored = Stored::find(&opened.tier, arguments.wanted.as_ref()).await?;
    let surveyed = opened.tier.survey(|root| stored.has(root.topic, root.partition)).await.map_err(not_asked)?;
    let line = |surveyed| PartitionLine::of(&opened, &stored, surveyed, arguments.segments);
    let mut lines: Vec<PartitionLine> = surveyed.into_iter().map(line).collect();
    lines.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    arguments.bucket.show(&lines, |lines| partitions(lines))?;
    match lines.iter().filter(|line| line.error.is_some()).count() {
        0 => Ok(()),
        unreadable => Err(Failure::new(format!("{unreadable} manifests cannot be read; see terrace remote verify"))),
    }
}

impl PartitionLine {
    fn of(opened: &Opened, stored: &Stored, (root, manifest): Surveyed, segments: bool) -> Self {
        let (entries, log_start, tier_end, error) = match manifest {
            Ok(manifest) => {
                let root = &manifest.committed.root;
                (manifest.entries, root.log_start, root.tier_end, None)
            }
            Err(error) => (Vec::new(), -1, -1, Some(error)),
        };
        let segment = |entry: &ManifestEntry| SegmentLine {
            base_offset: entry.base_offset,
            last_offset: entry.last_offset,
            bytes: entry.object_bytes,
            first_timestamp_ms: entry.first_timestamp,
            max_timestamp_ms: entry.max_timestamp,
            leader_epoch: entry.leader_epoch,
            key: opened.tier.names().segment(&entry.object(root.topic, root.partition)).to_string(),
        };
        Self {
            topic: stored.name(root.topic),
            topic_id: root.topic.simple().to_string(),
            partition: root.partition,
            segments: entries.len(),
            bytes: entries.iter().map(|entry| entry.object_bytes).sum(),
            log_start,
            tier_end,
            first_timestamp_ms: entries.first().map(|entry| entry.first_timestamp),
            max_timestamp_ms: entries.iter().map(|entry| entry.max_timestamp).max(),
            stored: if segments { entries.iter().map(segment).collect() } else { Vec::new() },
            error,
        }
    }
}

impl ObjectLine {
    fn of(line: Line) -> Self {
        Self { kind: line.kind.name(), bytes: line.bytes, modified_ms: line.modified_ms, key: line.key }
    }
}

fn partitions(lines: &[PartitionLine]) -> String {
    let mut text = String::new();
    for line in lines {
        let time = |ms: Option<i64>| ms.map_or("-".to_owned(), utc);
        // Writing to a string does not fail.
        let _ = match &line.error {
            Some(error) => writeln!(text, "{}/{} {error}", line.topic, line.partition),
            None => writeln!(
                text,
                "{}/{} {} segments {} bytes offsets {}..{} times {} to {}",
                line.topic,
                line.partition,
                line.segments,
                line.bytes,
                line.log_start,
                line.tier_end,
                time(line.first_timestamp_ms),
                time(line.max_timestamp_ms)
            ),
        };
        for segment in &line.stored {
            let _ = writeln!(
                text,
                "  offsets {}..={} {} bytes epoch {} times {} to {} {}",
                segment.base_offset,
                segment.last_offset,
                segment.bytes,
                segment.leader_epoch,
                utc(segment.first_timestamp_ms),
                utc(segment.max_timestamp_ms),
                segment.key
            );
        }
    }
    let (segments, bytes) = lines.iter().fold((0, 0), |(n, bytes), line| (n + line.segments, bytes + line.bytes));
    text + &format!("{} partitions, {segments} segments, {bytes} bytes\n", lines.len())
}

fn objects(lines: &[ObjectLine]) -> String {
    let mut text = String::new();
    for line in lines {
        text += &format!("{:<9} {:>12} {} {}\n", line.kind, line.bytes, utc(line.modified_ms), line.key);
    }
    let bytes: u64 = lines.iter().map(|line| line.bytes).sum();
    text + &format!("{} objects, {bytes} bytes\n", lines.len())
}
