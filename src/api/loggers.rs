//! Loggers as a resource of configuration: DescribeConfigs shows their levels, IncrementalAlterConfigs changes them.

use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;

use super::alter_config::invalid;
use super::change::Refusal;
use crate::config::alter::Operation;
use crate::config::describe::{Described, Source};
use crate::protocol::error_code::ErrorCode;
use crate::telemetry::loggers::{self, Level, LevelStep, NAMES, ROOT};

/// Kafka's number for a type that it does not tell.
const UNKNOWN_TYPE: i8 = 0;

/// All loggers of this broker.
pub(super) fn describe() -> Vec<Described> {
    let described = loggers::levels().into_iter().map(|(name, level)| Described {
        name,
        value: Some(level.to_string()),
        source: Source::BrokerLogger,
        read_only: false,
        sensitive: false,
        kind: UNKNOWN_TYPE,
        documentation: String::new(),
        synonyms: Vec::new(),
    });
    described.collect()
}

/// What a request asks of the loggers of the broker `name`.
pub(super) fn plan(node_id: i32, name: &str, asked: &[AlterableConfig]) -> Result<Vec<LevelStep>, Refusal> {
    match name.parse::<i32>() {
        Ok(id) if id == node_id => {}
        Ok(id) => return Err(invalid(format!("Unexpected node id. Expected {node_id}, but received {id}"))),
        Err(_) => return Err(invalid(format!("Node id must be an integer, but it is: {name}"))),
    }
    asked.iter().map(step).collect()
}

fn step(asked: &AlterableConfig) -> Result<LevelStep, Refusal> {
    let no_elements =
        |word: &str| Err(invalid(format!("{word} operation is not allowed for the BROKER_LOGGER resource")));
    match Operation::from_code(asked.config_operation) {
        Some(Operation::Set) => {
            let (logger, value) = (logger(&asked.name)?, asked.value.as_deref().unwrap_or_default());
            match Level::named(value) {
                Some(level) => Ok(LevelStep { logger, level: Some(level) }),
                None => {
                    let known: Vec<_> = Level::names().collect();
                    let why = format!(
                        "Cannot set the log level of {logger} to {value} as it is not a supported log level. Valid log \
                         levels are {}",
                        known.join(", ")
                    );
                    Err(Refusal::new(ErrorCode::InvalidConfig, why))
                }
            }
        }
        Some(Operation::Delete) => match logger(&asked.name)? {
            ROOT => Err(invalid("Removing the log level of the root logger is not allowed")),
            logger => Ok(LevelStep { logger, level: None }),
        },
        Some(Operation::Append) => no_elements("APPEND"),
        Some(Operation::Subtract) => no_elements("SUBTRACT"),
        None => Err(Refusal::bare(ErrorCode::UnknownServerError)),
    }
}

fn logger(name: &str) -> Result<&'static str, Refusal> {
    let found = NAMES.into_iter().find(|known| *known == name);
    found.ok_or_else(|| Refusal::new(ErrorCode::InvalidConfig, format!("Logger {name} does not exist!")))
}

/// Puts levels into effect.
pub(super) fn apply(steps: &[LevelStep]) {
    if !steps.is_empty() {
        loggers::set(steps);
    }
}
