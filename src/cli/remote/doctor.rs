//! `terrace remote doctor`: does the store do what a tier needs?

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use terrace_tiering::inspect::Inspector;
use terrace_tiering::inspect::doctor::{Diagnosis, Verdict};

use super::{BucketArgs, Failure, machine, not_asked};
use crate::broker::tier_options::tier_options;

const DAY_MS: u64 = 86_400_000;

/// What to do beside looking.
#[derive(Debug, Args)]
pub(in crate::cli) struct DoctorArgs {
    /// Also gives the bucket a lifecycle rule that aborts uploads that nobody finished, beside the rules it has.
    #[arg(long)]
    put_abort_rule: bool,
    #[command(flatten)]
    bucket: BucketArgs,
}

#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    verdict: &'static str,
    seen: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    todo: &'static str,
}

pub(super) async fn run(arguments: &DoctorArgs) -> Result<(), Failure> {
    let (config, _) = arguments.bucket.settings.read()?;
    let inspector = Inspector::open(&tier_options(&config, ""), &machine()).map_err(not_asked)?;
    // A bucket without a cluster, or that cannot be asked, has its doctor too.
    let cluster = match &arguments.bucket.cluster {
        Some(cluster) => Some(cluster.clone()),
        None => inspector.clusters().await.ok().and_then(|mut clusters| clusters.pop().filter(|_| clusters.is_empty())),
    };
    let orphan_age_ms = config.remote.orphan_age_ms;
    let age_ms = i64::try_from(orphan_age_ms).unwrap_or(i64::MAX);
    let mut found = inspector.examine(cluster.as_deref(), age_ms).await;
    let answers = found.first().is_some_and(|bucket| bucket.verdict != Verdict::Fail);
    if arguments.put_abort_rule && answers {
        let days = u32::try_from(orphan_age_ms.div_ceil(DAY_MS)).unwrap_or(u32::MAX).max(1);
        found.push(inspector.put_abort_rule(days).await);
    }
    let failed = found.iter().filter(|diagnosis| diagnosis.verdict == Verdict::Fail).count();
    let lines: Vec<Line> = found.into_iter().map(Line::of).collect();
    arguments.bucket.show(&lines, |lines| text(lines))?;
    match failed {
        0 => Ok(()),
        _ if !answers => Err(not_asked("the store cannot be asked")),
        failed => Err(Failure::new(format!("{failed} checks failed"))),
    }
}

impl Line {
    fn of(diagnosis: Diagnosis) -> Self {
        let Diagnosis { check, verdict, seen, todo } = diagnosis;
        Self { check, verdict: verdict.name(), seen, todo }
    }
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { check, verdict, seen, todo } in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{verdict:<5} {check:<17} {seen}");
        if !todo.is_empty() {
            let _ = writeln!(text, "{:<23} {todo}", "");
        }
    }
    text
}
