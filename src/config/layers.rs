//! Which value of a key counts: the resource's own, the broker's dynamic ones, the file's, the default.

use std::collections::BTreeMap;

use super::given::Given;
use super::key::{Convert, Key};
use super::keys;

/// Values that clients set on the broker while it ran.
#[derive(Debug, Clone, Copy)]
pub struct Dynamic<'a> {
    /// Of this broker.
    pub this_broker: &'a BTreeMap<String, String>,
    /// Of all brokers.
    pub all_brokers: &'a BTreeMap<String, String>,
}

static NOTHING: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Dynamic<'a> {
    /// Nobody set anything.
    pub fn none() -> Self {
        Self { this_broker: &NOTHING, all_brokers: &NOTHING }
    }

    /// Picks both out of the broker configurations by broker id, where "" stands for all brokers.
    pub fn of(broker_configs: &'a BTreeMap<String, BTreeMap<String, String>>, node_id: i32) -> Self {
        let configs = |broker: &str| broker_configs.get(broker).unwrap_or(&NOTHING);
        Self { this_broker: configs(&node_id.to_string()), all_brokers: configs("") }
    }
}

/// Everything that decides the value of a key of a topic or group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers<'a> {
    pub(super) own: &'a BTreeMap<String, String>,
    pub(super) dynamic: Dynamic<'a>,
    pub(super) given: &'a Given,
}

impl Layers<'_> {
    /// The first value that its key accepts. What is stored was checked when it came in, so a value that is skipped
    /// here is of another release whose bounds were wider.
    pub(super) fn value(&self, key: &'static Key) -> Option<String> {
        let accepted = |text: String| key.validate(&text).is_ok().then_some(text);
        let own = self.own.get(key.name).cloned().and_then(accepted);
        own.or_else(|| {
            key.synonyms.iter().find_map(|synonym| {
                let text = self.broker(synonym.name)?;
                accepted(convert(&text, synonym.convert)?)
            })
        })
        .or_else(|| key.default.map(str::to_owned))
    }

    /// The value that is set for a broker key, without its default.
    pub(super) fn broker(&self, name: &str) -> Option<String> {
        let key = keys::broker(name)?;
        let dynamic = self.dynamic.this_broker.get(name).or_else(|| self.dynamic.all_brokers.get(name));
        let set = dynamic.or_else(|| self.given.get(name).map(|setting| &setting.value));
        set.filter(|text| key.validate(text).is_ok()).cloned()
    }
}

fn convert(text: &str, how: Convert) -> Option<String> {
    let factor: i64 = match how {
        Convert::Same => return Some(text.to_owned()),
        Convert::Minutes => 60_000,
        Convert::Hours => 3_600_000,
    };
    let number: i64 = text.trim().parse().ok()?;
    // Kafka reads every negative time as "for ever".
    Some(if number < 0 { "-1".to_owned() } else { number.saturating_mul(factor).to_string() })
}
