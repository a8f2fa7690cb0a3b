//! Checks of single keys that are more than a bound or a choice.

use super::value::elements;

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

/// `earliest`, `latest` or `by_duration:` with an ISO 8601 duration.
pub(super) fn offset_reset(value: &str) -> Result<(), String> {
    let duration = |text: &str| text.starts_with('P') && text.len() > 2;
    match value.split_once(':') {
        None if matches!(value, "earliest" | "latest") => Ok(()),
        Some(("by_duration", text)) if duration(text) => Ok(()),
        _ => Err("Must be one of earliest, latest or of the form by_duration:PnDTnHnMn.nS".to_owned()),
    }
}
