//! `terrace remote verify`: is everything there that the manifests name, and is it whole?

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use terrace_tiering::inspect::verify::{Depth, Finding, Progress, Report};

use super::topics::{Selection, Stored};
use super::{BucketArgs, Failure, Opened, not_asked, progress};

/// What to look at.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// Only this topic or partition.
    #[arg(value_name = "TOPIC[/PARTITION]", value_parser = Selection::parse)]
    wanted: Option<Selection>,
    /// Reads everything and checks every chunk, not only sizes and footers.
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    bucket: BucketArgs,
}

#[derive(Debug, Serialize)]
struct Verified {
    partitions: usize,
    segments: usize,
    bytes: u64,
    findings: Vec<FindingLine>,
    /// Segments that no retained manifest names: on their way in or out, or left behind.
    unnamed: Vec<UnnamedLine>,
}

#[derive(Debug, Serialize)]
struct FindingLine {
    topic: String,
    partition: i32,
    base_offset: Option<i64>,
    last_offset: Option<i64>,
    key: Option<String>,
    what: String,
}

#[derive(Debug, Serialize)]
struct UnnamedLine {
    key: String,
    bytes: u64,
    modified_ms: i64,
}

pub(super) async fn run(arguments: &VerifyArgs) -> Result<(), Failure> {
    let opened = arguments.bucket.open().await?;
    let stored = match &arguments.wanted {
        Some(wanted) => Stored::find(&opened.tier, Some(wanted)).await?,
        // Names matter for findings only, but those are rare and the look is cheap.
        None => Stored::find(&opened.tier, None).await?,
    };
    let (depth, unit) = if arguments.full { (Depth::Full, "bytes") } else { (Depth::Footers, "segments") };
    let seen = Progress::default();
    let everything = arguments.wanted.is_none();
    let work = opened.tier.verify_stored(|topic, partition| everything || stored.has(topic, partition), depth, &seen);
    let report = progress::shown(unit, &seen, work).await.map_err(not_asked)?;
    let verified = Verified::of(&opened, &stored, report);
    arguments.bucket.show(&verified, text)?;
    match verified.findings.len() {
        0 => Ok(()),
        found => Err(Failure::new(format!(
            "{found} findings; readers get an error where bytes are wrong, never the bytes: see docs/operating/outages.md"
        ))),
    }
}

impl Verified {
    fn of(opened: &Opened, stored: &Stored, report: Report) -> Self {
        let finding = |finding: Finding| match finding {
            Finding::Manifest { topic, partition, reason } => FindingLine {
                topic: stored.name(topic),
                partition,
                base_offset: None,
                last_offset: None,
                key: None,
                what: reason,
            },
            Finding::Segment { object, key, damage } => FindingLine {
                topic: stored.name(object.topic),
                partition: object.partition,
                base_offset: Some(object.base_offset),
                last_offset: Some(object.last_offset),
                key: Some(key),
                what: damage.to_string(),
            },
        };
        let unnamed = report.unnamed.iter().map(|each| UnnamedLine {
            key: opened.tier.names().segment(&each.object).to_string(),
            bytes: each.object.object_bytes,
            modified_ms: each.modified_ms,
        });
        Self {
            partitions: report.partitions,
            segments: report.segments,
            bytes: report.bytes,
            findings: report.findings.into_iter().map(finding).collect(),
            unnamed: unnamed.collect(),
        }
    }
}

fn text(verified: &Verified) -> String {
    let mut text = String::new();
    for finding in &verified.findings {
        let FindingLine { topic, partition, base_offset, last_offset, key, what } = finding;
        // Writing to a string does not fail.
        let _ = match (base_offset, last_offset, key) {
            (Some(base), Some(last), Some(key)) => {
                writeln!(text, "{topic}/{partition} offsets {base}..={last}: {what} ({key})")
            }
            _ => writeln!(text, "{topic}/{partition}: {what}"),
        };
    }
    let Verified { partitions, segments, bytes, findings, unnamed } = verified;
    let _ = writeln!(text, "{partitions} partitions, {segments} segments, {bytes} bytes, {} findings", findings.len());
    for UnnamedLine { key, bytes, .. } in unnamed {
        let _ = writeln!(text, "no manifest names {key} ({bytes} bytes)");
    }
    if !unnamed.is_empty() {
        let _ = writeln!(text, "what no manifest names may be on its way in or out; see terrace remote gc");
    }
    text
}
