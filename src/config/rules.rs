//! Checks of single keys that are more than a bound or a choice.

use regex::{Regex, RegexBuilder};

use super::value::elements;

/// The most that a compiled pattern of a client may take.
const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// `*`, or pairs of partition and broker.
pub(super) fn throttled_replicas(value: &str) -> Result<(), String> {
    let number = |text: &str| text.parse::<i32>().is_ok();
    let pair = |text: &&str| text.split_once(':').is_some_and(|(p, b)| number(p) && number(b));
    if value.trim() == "*" || elements(value).iter().all(pair) {
        return Ok(());
    }
    Err("must be the literal '*' or a list of replicas in the following format: \
         [partitionId]:[brokerId],[partitionId]:[brokerId],..."
        .to_owned())
}

/// Attributes of clients that a subscription to their metrics may name.
pub const CLIENT_ATTRIBUTES: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// `attribute=expression`: the attribute and what it has to match as a whole.
pub fn client_pattern(pair: &str) -> Option<(&'static str, Regex)> {
    let (attribute, pattern) = pair.split_once('=')?;
    let attribute = CLIENT_ATTRIBUTES.into_iter().find(|known| *known == attribute.trim())?;
    let pattern = Some(pattern.trim()).filter(|pattern| !pattern.is_empty() && !pattern.contains('='))?;
    let bounded = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build().ok()?;
    Some((attribute, bounded))
}

/// `earliest`, `latest` or `by_duration:` with an ISO 8601 duration.
pub(super) fn offset_reset(value: &str) -> Result<(), String> {
    let duration = |text: &str| text.starts_with('P') && text.len() > 2;
    match value.split_once(':') {
        None if matches!(value, "earliest" | "latest") => Ok(()),
        Some(("by_duration", text)) if duration(text) => Ok(()),
        _ => Err(format!(
            "Invalid value `{value}` for configuration share.auto.offset.reset. The value must be either 'earliest', \
             'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
        )),
    }
}
