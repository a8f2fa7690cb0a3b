//! `terrace dlq`: what to do with the dead letters of share groups.

mod connection;
mod moved;
mod redrive;
mod transaction;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// Send the records of a topic of dead letters back to the topics that they came from, each once.
    Redrive(RedriveArgs),
}

/// Which dead letters, and where.
#[derive(Debug, Args)]
pub(super) struct RedriveArgs {
    /// The topic of dead letters.
    topic: String,
    /// The broker's Kafka address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    bootstrap_server: String,
    /// Only those of this share group.
    #[arg(long)]
    group: Option<String>,
    /// Only records of this topic.
    #[arg(long, value_name = "TOPIC")]
    source_topic: Option<String>,
    /// Only dead letters that were written at this time or later, as 2026-11-21T22:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Only dead letters that were written before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    /// Say what would go back, and send nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
pub(super) fn run(command: &DlqCommand) -> Result<(), Failure> {
    match command {
        DlqCommand::Redrive(arguments) => redrive::run(arguments),
    }
}
