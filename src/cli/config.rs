//! `terrace config list` and `terrace config doc`.

use clap::{Args, Subcommand};

use super::settings::SettingsArgs;
use super::{Failure, show};
use crate::config::describe;
use crate::config::document;
use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;

/// What to show.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// The broker's keys with the values that count and where they come from.
    List(ListArgs),
    /// The documentation of all keys, as docs/configuration.md.
    Doc,
}

/// Which keys.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Also keys that nobody set.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Prints it.
pub(super) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::List(arguments) => show(&list(&arguments.settings.read()?.0, arguments.all)),
        ConfigCommand::Doc => show(&document::markdown()),
    }
}

fn list(config: &BrokerConfig, all: bool) -> String {
    let mut text = String::new();
    for entry in describe::broker(config, Dynamic::none()) {
        let origin = config.given.get(entry.name).map(|setting| setting.origin.to_string());
        if origin.is_none() && !all {
            continue;
        }
        let value =
            if entry.sensitive { "[hidden]".to_owned() } else { entry.value.unwrap_or_else(|| "null".to_owned()) };
        text += &format!("{}={value}  # {}\n", entry.name, origin.as_deref().unwrap_or("default"));
    }
    text
}
