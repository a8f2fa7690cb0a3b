//! Typed reading of settings. Every error is collected, so that one start shows all of them.

use super::given::{ConfigError, Given};
use super::key::Key;
use super::{keys, value};

/// Reads broker keys by name; the name must be declared in `keys/`.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    given: &'a Given,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    /// Validates every setting whose key is known.
    pub(super) fn new(given: &'a Given) -> Self {
        let wrong = |(name, setting): (&str, &super::given::Setting)| {
            // A listener's own key is checked as its key is.
            let why = keys::broker(name)?.validate(&setting.value).err()?;
            Some(ConfigError::new(&setting.origin, why))
        };
        Self { given, errors: given.iter().filter_map(wrong).collect() }
    }

    /// Notes that the value of `name` is wrong for another reason than its type and bounds.
    pub(super) fn reject(&mut self, name: &str, reason: impl Into<String>) {
        let shown = match key(name).is_sensitive() {
            true => "[hidden]".to_owned(),
            false => self.text(name).unwrap_or_else(|| "null".to_owned()),
        };
        let why = value::Invalid::value(name, shown, reason);
        let error = match self.given.get(name) {
            Some(setting) => ConfigError::new(&setting.origin, why),
            None => ConfigError::new("default", why),
        };
        self.errors.push(error);
    }

    /// All that was wrong.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }

    /// Was it set by the operator.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.get(name).is_some()
    }

    /// The text of the setting or the default; null is `None`.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let key = key(name);
        let set = self.given.get(name).map(|setting| setting.value.as_str());
        // A value that its key refuses was noted already; the default stands in until the errors are shown.
        set.filter(|value| key.validate(value).is_ok()).or(key.default).map(str::to_owned)
    }

    /// Like [`text`](Self::text), and empty is none.
    pub(super) fn filled(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// A whole number; null is `None`.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.trim().parse().ok()
    }

    /// A whole number that has a default.
    pub(super) fn long(&self, name: &str) -> i64 {
        self.number(name).unwrap_or_else(|| panic!("{name} is declared without a number as default"))
    }

    /// A whole number of 32 bits that has a default.
    pub(super) fn int(&self, name: &str) -> i32 {
        i32::try_from(self.long(name)).unwrap_or_else(|_| panic!("{name} is not declared as int"))
    }

    /// A number whose lower bound is declared as 0 or more.
    pub(super) fn size(&self, name: &str) -> u64 {
        u64::try_from(self.long(name)).unwrap_or_else(|_| panic!("{name} is declared without a lower bound"))
    }

    /// A number where everything below zero is "not set".
    pub(super) fn size_unless_negative(&self, name: &str) -> Option<u64> {
        self.number(name).and_then(|number| u64::try_from(number).ok())
    }

    /// A real number that has a default.
    pub(super) fn real(&self, name: &str) -> f64 {
        let number = self.text(name).and_then(|text| text.trim().parse().ok());
        number.unwrap_or_else(|| panic!("{name} is declared without a number as default"))
    }

    /// Yes or no.
    pub(super) fn flag(&self, name: &str) -> bool {
        let value = self.text(name);
        value.as_deref().and_then(value::parse_boolean).unwrap_or_else(|| panic!("{name} is not declared as boolean"))
    }

    /// The elements of a list.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        value::elements(&text).into_iter().map(str::to_owned).collect()
    }
}

/// The declaration of a key that the code names.
fn key(name: &str) -> &'static Key {
    keys::broker(name).unwrap_or_else(|| panic!("{name} is not declared in config/keys"))
}
