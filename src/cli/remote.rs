//! `terrace remote ls` and `terrace remote dump`: the bucket for people. Both only read, also beside a running broker.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use terrace_tiering::inspect::{Inspector, Line};
use terrace_tiering::platform::clock::SystemClock;
use terrace_tiering::platform::fs::RealFs;
use terrace_tiering::platform::random::SystemRandom;
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::tier::Machine;

use super::settings::SettingsArgs;
use super::{Failure, show};
use crate::broker::tier_options::tier_options;

/// What to show.
#[derive(Debug, Subcommand)]
pub(super) enum RemoteCommand {
    /// The objects of a cluster: kind, bytes, key.
    Ls(LsArgs),
    /// What an object says: a segment's footer, a manifest, a snapshot.
    Dump(DumpArgs),
}

/// Which objects.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// The cluster's id; needed only if there are several below remote.storage.uri.
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Which object.
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// The key, as ls shows it.
    key: String,
    /// Copies the whole object into a new file instead. A segment's copy can be read by Kafka's DumpLogSegments.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Prints it.
pub(super) fn run(command: &RemoteCommand) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Failure::new)?;
    runtime.block_on(async {
        match command {
            RemoteCommand::Ls(arguments) => {
                let inspector = open(&arguments.settings)?;
                let cluster = match &arguments.cluster {
                    Some(cluster) => cluster.clone(),
                    None => only(inspector.clusters().await.map_err(Failure::new)?)?,
                };
                show(&listing(&inspector.list(&cluster).await.map_err(Failure::new)?))
            }
            RemoteCommand::Dump(arguments) => {
                let inspector = open(&arguments.settings)?;
                match &arguments.out {
                    Some(file) => {
                        let bytes = inspector.download(&arguments.key, file).await.map_err(Failure::new)?;
                        show(&format!("{bytes} bytes in {}\n", file.display()))
                    }
                    None => show(&inspector.dump(&arguments.key).await.map_err(Failure::new)?),
                }
            }
        }
    })
}

fn open(settings: &SettingsArgs) -> Result<Inspector, Failure> {
    let (config, _) = settings.read()?;
    let machine = Machine {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        fs: RealFs::shared(),
        tasks: Tasks::new(),
    };
    // The cluster's id is part of the keys that are asked for.
    Inspector::open(&tier_options(&config, ""), &machine).map_err(Failure::new)
}

fn only(mut clusters: Vec<String>) -> Result<String, Failure> {
    match (clusters.pop(), clusters.is_empty()) {
        (Some(cluster), true) => Ok(cluster),
        (Some(last), false) => {
            Err(Failure::wrong([format!("several clusters, name one by --cluster: {} {last}", clusters.join(" "))]))
        }
        (None, _) => Err(Failure::new("nothing is stored there")),
    }
}

fn listing(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        text += &format!("{:<9} {:>12} {}\n", line.kind.name(), line.bytes, line.key);
    }
    let bytes: u64 = lines.iter().map(|line| line.bytes).sum();
    text + &format!("{} objects, {bytes} bytes\n", lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cluster_needs_no_name() {
        assert_eq!(only(vec!["a".to_owned()]).ok().as_deref(), Some("a"));
        assert!(only(vec![]).is_err());
        let failure = only(vec!["a".to_owned(), "b".to_owned()]).expect_err("several");
        assert_eq!(failure.lines, ["several clusters, name one by --cluster: a b"]);
    }
}
