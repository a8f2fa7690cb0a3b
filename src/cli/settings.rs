//! The arguments that say where settings come from, shared by all subcommands that need them.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::given::{Given, Remarks};
use crate::config::server::BrokerConfig;

/// Asks for a certain cluster id, as Kafka's image does.
const CLUSTER_ID_VARIABLE: &str = "CLUSTER_ID";

/// Where settings come from; the later of these wins.
#[derive(Debug, Default, Args)]
pub(super) struct SettingsArgs {
    /// A server.properties file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take settings from KAFKA_* environment variables, as Kafka's image does.
    #[arg(long)]
    env: bool,
    /// One setting; may be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Refuse keys that nobody knows.
    #[arg(long)]
    strict_config: bool,
}

impl SettingsArgs {
    /// Everything that was given, typed and cross-checked, and what is worth a remark.
    pub(super) fn read(&self) -> Result<(BrokerConfig, Remarks), Failure> {
        self.read_and(&[])
    }

    /// The same with one more setting, over all others.
    pub(super) fn read_with(&self, setting: &str) -> Result<(BrokerConfig, Remarks), Failure> {
        self.read_and(&[setting.to_owned()])
    }

    fn read_and(&self, more: &[String]) -> Result<(BrokerConfig, Remarks), Failure> {
        let mut given = Given::default();
        if let Some(path) = &self.config {
            given.read_file(path).map_err(|e| Failure::wrong([e]))?;
        }
        if self.env {
            // A variable that is no text is no setting of ours.
            let variables = std::env::vars_os();
            given.read_environment(variables.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
        }
        for text in self.overrides.iter().chain(more) {
            given.read_override(text).map_err(|e| Failure::wrong([e]))?;
        }
        let (remarks, mut errors) = given.check_names(self.strict_config);
        match BrokerConfig::build(&given, std::env::var(CLUSTER_ID_VARIABLE).ok()) {
            Ok(config) if errors.is_empty() => Ok((config, remarks)),
            Ok(_) => Err(Failure::wrong(errors)),
            Err(more) => {
                errors.extend(more);
                Err(Failure::wrong(errors))
            }
        }
    }
}
