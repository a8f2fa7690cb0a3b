//! `terrace remote`: the bucket for people, from the bucket alone. Everything here also works beside a running broker and
//! without one; nothing but `gc --delete` and `doctor` writes.
//!
//! | Exit code | Meaning |
//! |---|---|
//! | 0 | done, and nothing is wrong |
//! | 1 | something was found: damage, orphans, a store that does not do what it must |
//! | 2 | wrong arguments or settings |
//! | 3 | the store could not be asked, or the broker must not be passed over |

mod cost;
mod doctor;
mod dump;
mod gc;
mod ls;
mod progress;
mod topics;
mod verify;

use std::fmt::Display;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use terrace_tiering::Tier;
use terrace_tiering::inspect::Inspector;
use terrace_tiering::platform::clock::SystemClock;
use terrace_tiering::platform::fs::RealFs;
use terrace_tiering::platform::random::SystemRandom;
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::tier::Machine;

use super::settings::SettingsArgs;
use super::{Failure, show};
use crate::broker::tier_options::tier_options;
use crate::config::server::BrokerConfig;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum RemoteCommand {
    /// What is stored: topics and partitions, their segments, or plain objects.
    Ls(ls::LsArgs),
    /// What an object or a partition's manifest says.
    Dump(dump::DumpArgs),
    /// Compare the bucket with its manifests; exit code 1 if something is missing or damaged.
    Verify(verify::VerifyArgs),
    /// Find segments that nothing names; with --delete remove them.
    Gc(gc::GcArgs),
    /// Check that the store does what a tier needs; exit code 1 if it does not.
    Doctor(doctor::DoctorArgs),
    /// What the tier costs: what is stored, and what a running broker asked for.
    Cost(cost::CostArgs),
}

/// Where the bucket is, and how to show what is in it.
#[derive(Debug, Args)]
struct BucketArgs {
    /// The cluster's id; needed only if there are several below remote.storage.uri.
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// A bucket that can be asked.
struct Opened {
    config: BrokerConfig,
    inspector: Inspector,
    /// Of one cluster in it.
    tier: Arc<Tier>,
}

/// Exit code for what could not be asked.
const NOT_ASKED: u8 = 3;

/// Does it.
pub(super) fn run(command: &RemoteCommand) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Failure::new)?;
    runtime.block_on(async {
        match command {
            RemoteCommand::Ls(arguments) => ls::run(arguments).await,
            RemoteCommand::Dump(arguments) => dump::run(arguments).await,
            RemoteCommand::Verify(arguments) => verify::run(arguments).await,
            RemoteCommand::Gc(arguments) => gc::run(arguments).await,
            RemoteCommand::Doctor(arguments) => doctor::run(arguments).await,
            RemoteCommand::Cost(arguments) => cost::run(arguments).await,
        }
    })
}

impl BucketArgs {
    async fn open(&self) -> Result<Opened, Failure> {
        let (config, _) = self.settings.read()?;
        // The cluster's id is part of the keys that are asked for.
        let inspector = Inspector::open(&tier_options(&config, ""), &machine()).map_err(not_asked)?;
        let cluster = match &self.cluster {
            Some(cluster) => cluster.clone(),
            None => only(inspector.clusters().await.map_err(not_asked)?, &config.remote.uri)?,
        };
        let tier = inspector.tier(&cluster).await.map_err(not_asked)?;
        Ok(Opened { config, inspector, tier })
    }

    /// Shows a result as JSON, or as the text that `text` makes of it.
    fn show<T: Serialize>(&self, result: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.json {
            let json = serde_json::to_string_pretty(result).map_err(Failure::new)?;
            return show(&(json + "\n"));
        }
        show(&text(result))
    }
}

fn machine() -> Machine {
    Machine { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), fs: RealFs::shared(), tasks: Tasks::new() }
}

fn not_asked(why: impl Display) -> Failure {
    Failure { code: NOT_ASKED, lines: vec![why.to_string()] }
}

fn only(mut clusters: Vec<String>, uri: &str) -> Result<String, Failure> {
    match (clusters.pop(), clusters.is_empty()) {
        (Some(cluster), true) => Ok(cluster),
        (Some(last), false) => {
            Err(Failure::wrong([format!("several clusters, name one by --cluster: {} {last}", clusters.join(" "))]))
        }
        (None, _) => Err(not_asked(format!("nothing is stored at {uri}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cluster_needs_no_name() {
        assert_eq!(only(vec!["a".to_owned()], "u").ok().as_deref(), Some("a"));
        assert_eq!(only(vec![], "u").expect_err("none").code, NOT_ASKED);
        let failure = only(vec!["a".to_owned(), "b".to_owned()], "u").expect_err("several");
        assert_eq!(failure.lines, ["several clusters, name one by --cluster: a b"]);
    }
}
