//! The rules for a subscription to metrics of clients, in Kafka's order and with Kafka's codes.

use std::collections::BTreeMap;

use crate::config::value::{self, Invalid};
use crate::config::{keys, rules};

/// Bounds of `interval.ms`.
const INTERVAL_MS: std::ops::RangeInclusive<i64> = 100..=3_600_000;

/// Why a subscription is refused: Kafka has two codes for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// INVALID_REQUEST.
    Request(String),
    /// INVALID_CONFIG.
    Config(Invalid),
}

/// Checks all settings that a subscription would have.
pub fn validate_client_metrics(name: &str, settings: &BTreeMap<String, String>) -> Result<(), Refused> {
    if name.is_empty() {
        return Err(Refused::Request("Subscription name can't be empty".to_owned()));
    }
    for key in settings.keys() {
        if !keys::CLIENT_METRICS.contains_key(key.as_str()) {
            return Err(Refused::Request(format!("Unknown client metrics configuration: {key}")));
        }
    }
    for (name, text) in settings {
        keys::CLIENT_METRICS[name.as_str()].validate(text).map_err(Refused::Config)?;
    }
    let patterns = value::elements(settings.get("match").map_or("", String::as_str));
    if let Some(pair) = patterns.into_iter().find(|pair| rules::client_pattern(pair).is_none()) {
        let why = format!("Illegal client matching pattern: {pair}");
        return Err(Refused::Config(Invalid::Rule(why)));
    }
    match settings.get("interval.ms").and_then(|text| text.trim().parse::<i64>().ok()) {
        Some(interval) if !INTERVAL_MS.contains(&interval) => Err(Refused::Request(format!(
            "Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
        ))),
        _ => Ok(()),
    }
}
