//! Text to value and the words for what is wrong with it, as Kafka's `ConfigDef` says them.

use super::key::{Check, Key, Kind};

/// A value that its key does not accept. Displays as Kafka's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// With the value in the message.
    #[error("Invalid value {value} for configuration {key}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// The value as it was given; hidden if the key is sensitive.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// A rule that Kafka words by itself.
    #[error("{0}")]
    Rule(String),
}

impl Invalid {
    /// `value` is not acceptable for `key` because of `reason`.
    pub fn value(key: &str, value: impl ToString, reason: impl Into<String>) -> Self {
        Invalid::Value { key: key.to_owned(), value: value.to_string(), reason: reason.into() }
    }
}

/// The elements of a list value; empty text is the empty list.
pub fn elements(value: &str) -> Vec<&str> {
    let value = value.trim();
    if value.is_empty() { Vec::new() } else { value.split(',').map(str::trim).collect() }
}

/// `true` or `false` in any case.
pub fn parse_boolean(value: &str) -> Option<bool> {
    match value.trim() {
        v if v.eq_ignore_ascii_case("true") => Some(true),
        v if v.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Checks type, then bounds.
pub(super) fn validate(key: &Key, value: &str) -> Result<(), Invalid> {
    let wrong = |reason: String| {
        let shown = if key.is_sensitive() { "[hidden]" } else { value };
        Invalid::value(key.name, shown, reason)
    };
    let number = || wrong(format!("Not a number of type {}", key.kind.name()));
    match key.kind {
        Kind::Boolean => {
            parse_boolean(value).ok_or_else(|| wrong("Expected value to be either true or false".to_owned()))?;
        }
        Kind::Short => within(key, value, f64::from(value.trim().parse::<i16>().map_err(|_| number())?))?,
        Kind::Int => within(key, value, f64::from(value.trim().parse::<i32>().map_err(|_| number())?))?,
        // Rounding matters to no bound: all lie far below 2^53.
        Kind::Long => within(key, value, value.trim().parse::<i64>().map_err(|_| number())? as f64)?,
        Kind::Double => within(key, value, value.trim().parse::<f64>().map_err(|_| number())?)?,
        Kind::List if elements(value).contains(&"") => {
            return Err(Invalid::Rule(format!("Configuration '{}' values must not be empty.", key.name)));
        }
        Kind::List | Kind::String | Kind::Class | Kind::Password => {}
    }
    if let Check::EachOf(allowed) = key.check {
        // Kafka shows the element that is wrong, not the list.
        return match elements(value).into_iter().find(|element| !allowed.contains(element)) {
            Some(element) => {
                Err(Invalid::value(key.name, element, format!("String must be one of: {}", allowed.join(", "))))
            }
            None => Ok(()),
        };
    }
    words(key, value).map_err(wrong)
}

/// The bounds of a number.
fn within(key: &Key, value: &str, number: f64) -> Result<(), Invalid> {
    let wrong = |reason: String| Err(Invalid::value(key.name, value, reason));
    match key.check {
        Check::AtLeast(least) if number < least => wrong(format!("Value must be at least {least}")),
        Check::Between(least, _) if number < least => wrong(format!("Value must be at least {least}")),
        Check::Between(_, most) if number > most => wrong(format!("Value must be no more than {most}")),
        Check::BetweenOr(least, most, other) if number != other && !(least..=most).contains(&number) => {
            wrong(format!("Value must be between {least} and {most} or equal to {other}"))
        }
        _ if number.is_nan() => wrong("Not a number of type DOUBLE".to_owned()),
        _ => Ok(()),
    }
}

/// The rules for texts and lists; says why not.
fn words(key: &Key, value: &str) -> Result<(), String> {
    match key.check {
        Check::OneOf(allowed) if !allowed.contains(&value.trim()) => {
            Err(format!("String must be one of: {}", allowed.join(", ")))
        }
        Check::OneOfAnyCase(allowed) if !allowed.iter().any(|a| a.eq_ignore_ascii_case(value.trim())) => {
            Err(format!("String must be one of (case insensitive): {}", allowed.join(", ")))
        }
        Check::NotEmpty if value.trim().is_empty() => Err("String must be non-empty".to_owned()),
        Check::By(check) => check(value),
        _ => Ok(()),
    }
}

/// A valid value as Kafka shows it: trimmed, numbers and booleans in their usual form, lists without blanks.
pub fn normal(key: &Key, value: &str) -> String {
    match key.kind {
        Kind::Boolean => parse_boolean(value).map(|flag| flag.to_string()),
        Kind::Short | Kind::Int | Kind::Long => value.trim().parse::<i64>().ok().map(|number| number.to_string()),
        Kind::List => Some(elements(value).join(",")),
        Kind::Double | Kind::String | Kind::Class | Kind::Password => None,
    }
    .unwrap_or_else(|| value.trim().to_owned())
}
