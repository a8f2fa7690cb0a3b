//! `terrace adopt`: takes over the data of a stopped Apache Kafka broker.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::settings::SettingsArgs;
use super::{Failure, show};
use crate::adopt;
use crate::broker::locks::Locks;

/// What to take over.
#[derive(Debug, Args)]
pub(super) struct AdoptArgs {
    /// All log.dirs of the broker.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Take a broker that did not stop cleanly: what it had not synced is scanned.
    #[arg(long)]
    recover: bool,
    /// Say what would be taken over, and stop there.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Looks, says what it means, does it.
pub(super) fn run(arguments: &AdoptArgs) -> Result<(), Failure> {
    let named: Vec<String> = arguments.directories.iter().map(|path| path.display().to_string()).collect();
    let log_dirs = format!("log.dirs={}", named.join(","));
    let (config, _) = arguments.settings.read_with(&log_dirs)?;
    if let Some(directory) = arguments.directories.iter().find(|directory| !directory.is_dir()) {
        return Err(Failure::wrong([format!("{} is no directory", directory.display())]));
    }
    // A Kafka that still runs holds these, too.
    let _locks = Locks::take(&config.dirs).map_err(Failure::new)?;
    let plan = adopt::look(&config.dirs, arguments.recover).map_err(Failure::new)?;
    show(&format!("{plan}This is one way: Apache Kafka cannot start on these directories afterwards.\n"))?;
    if arguments.dry_run {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Failure::new)?;
    runtime.block_on(adopt::take_over(&plan, &config.dirs)).map_err(Failure::new)?;
    let mut next = format!("Done. Start it with:\n  terrace start --override {log_dirs}");
    if plan.node_id != config.node_id {
        // Writing into a string cannot fail.
        let _ = write!(next, " --override node.id={}", plan.node_id);
    }
    show(&format!("{next}\n"))
}
