//! `terrace remote dump`: what an object says, or a partition's newest manifest.

use std::path::PathBuf;

use clap::Args;
use terrace_tiering::inspect::Inspector;

use super::topics::{Selection, Stored};
use super::{BucketArgs, Failure, not_asked};
use crate::cli::show;

/// Which object.
#[derive(Debug, Args)]
pub(in crate::cli) struct DumpArgs {
    /// A key, as ls --objects shows it, or TOPIC/PARTITION for the newest manifest of a partition.
    #[arg(value_name = "KEY|TOPIC/PARTITION")]
    what: String,
    /// Copies the whole object into a new file instead. A segment's copy can be read by Kafka's DumpLogSegments.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    bucket: BucketArgs,
}

pub(super) async fn run(arguments: &DumpArgs) -> Result<(), Failure> {
    let opened = arguments.bucket.open().await?;
    // A key has more parts, or ends in something else than a number.
    let partition = Selection::parse(&arguments.what).ok().filter(|wanted| wanted.one_partition().is_some());
    let (what, text) = match (&arguments.out, partition) {
        (Some(file), _) => {
            let bytes = opened.inspector.download(&arguments.what, file).await.map_err(not_asked)?;
            return show(&format!("{bytes} bytes in {}\n", file.display()));
        }
        (None, Some(wanted)) => {
            let stored = Stored::find(&opened.tier, Some(&wanted)).await?;
            let mut text = String::new();
            for root in &stored.roots {
                let manifest = opened.tier.load_manifest(root.topic, root.partition).await.map_err(not_asked)?;
                text += &manifest.as_ref().map(Inspector::show_manifest).unwrap_or_default();
            }
            (&arguments.what, text)
        }
        (None, None) => (&arguments.what, opened.inspector.dump(&arguments.what).await.map_err(not_asked)?),
    };
    let lines = serde_json::json!({ "what": what, "lines": text.lines().collect::<Vec<_>>() });
    arguments.bucket.show(&lines, |_| text)
}
