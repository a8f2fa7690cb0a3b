//! AlterClientQuotas 0-1 (KIP-546): sets and removes quotas, each entity by itself. They are kept and shown, and limit
//! nothing yet. Version 1 is flexible.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use kafka_protocol::messages::alter_client_quotas_request::{AlterClientQuotasRequest, EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_client_quotas_response::{
    AlterClientQuotasResponse, EntityData as EntityResult, EntryData as EntryResult,
};

use super::change::{Refusal, commit};
use super::client_quotas::{IP, Number, TYPES, parts, quota};
use super::text::text;
use super::{Call, Disconnect, Node};
use crate::metadata::image::{Change, Image};
use crate::metadata::quotas::{QuotaEntity, Quotas};
use crate::protocol::error_code::ErrorCode;

/// How far a number may be from a whole one and still be it.
const EPSILON: f64 = 1e-6;
/// How long names of hosts are looked up for.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: AlterClientQuotasRequest,
) -> Result<AlterClientQuotasResponse, Disconnect> {
    let unresolved = unresolved(&request.entries).await;
    let (mut results, outcome) = commit(node, |image| {
        let (results, changes) = plan(image, &unresolved, &request.entries);
        (results, if request.validate_only { Vec::new() } else { changes })
    })
    .await;
    if let Err(refusal) = outcome {
        results.values_mut().filter(|result| result.is_ok()).for_each(|result| *result = Err(refusal.clone()));
    }
    Ok(AlterClientQuotasResponse::default().with_entries(results.iter().map(entry_result).collect()))
}

type Results = BTreeMap<QuotaEntity, Result<(), Refusal>>;

fn entry_result((entity, outcome): (&QuotaEntity, &Result<(), Refusal>)) -> EntryResult {
    let shown = parts(entity)
        .map(|(kind, name)| EntityResult::default().with_entity_type(text(kind)).with_entity_name(name.map(text)));
    let result = EntryResult::default().with_entity(shown.collect()).with_error_message(None);
    match outcome {
        Ok(()) => result,
        Err(refusal) => result.with_error_code(refusal.code.code()).with_error_message(refusal.text()),
    }
}

fn plan(image: &Image, unresolved: &BTreeSet<String>, entries: &[EntryData]) -> (Results, Vec<Change>) {
    let (mut results, mut changes) = (Results::new(), Vec::new());
    for entry in entries {
        let entity = entity(&entry.entity);
        let outcome = if results.contains_key(&entity) || names_a_quota_twice(&entry.ops) {
            Err(invalid(format!("Ignoring duplicate entity {}", java(&entity))))
        } else {
            alter(image, unresolved, &entity, &entry.ops)
        };
        let outcome = outcome.map(|change| changes.extend(change));
        results.insert(entity, outcome);
    }
    (results, changes)
}

/// A part that is named again replaces the one before, as in Kafka.
fn entity(asked: &[EntityData]) -> QuotaEntity {
    let part = |part: &EntityData| (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string));
    asked.iter().map(part).collect()
}

fn names_a_quota_twice(ops: &[OpData]) -> bool {
    let mut seen = BTreeSet::new();
    !ops.iter().all(|op| seen.insert(&*op.key))
}

/// An entity as Java prints it.
fn java(entity: &QuotaEntity) -> String {
    let shown: Vec<_> = parts(entity).map(|(kind, name)| format!("{kind}={}", name.unwrap_or("null"))).collect();
    format!("ClientQuotaEntity(entries={{{}}})", shown.join(", "))
}

fn alter(
    image: &Image,
    unresolved: &BTreeSet<String>,
    entity: &QuotaEntity,
    ops: &[OpData],
) -> Result<Option<Change>, Refusal> {
    let of_address = check_entity(unresolved, entity)?;
    let nothing = Quotas::new();
    let before = image.client_quotas.get(entity).unwrap_or(&nothing);
    let mut quotas = before.clone();
    for op in ops {
        if op.remove {
            quotas.remove(&*op.key);
        } else {
            check_value(of_address, op)?;
            quotas.insert(op.key.to_string(), op.value);
        }
    }
    Ok((quotas != *before).then(|| Change::SetClientQuotas { entity: entity.clone(), quotas }))
}

fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, why)
}

/// True for an address.
fn check_entity(unresolved: &BTreeSet<String>, entity: &QuotaEntity) -> Result<bool, Refusal> {
    if entity.is_empty() {
        return Err(invalid("Invalid empty client quota entity"));
    }
    for (kind, name) in entity {
        if !TYPES.contains(&kind.as_str()) {
            return Err(invalid(format!("Unhandled client quota entity type: {kind}")));
        }
        if name.as_deref() == Some("") {
            return Err(invalid(format!("Empty {kind} not supported")));
        }
    }
    let Some(address) = entity.get(IP) else { return Ok(false) };
    if entity.len() > 1 {
        return Err(invalid("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId"));
    }
    match address.as_ref().filter(|address| unresolved.contains(*address)) {
        Some(address) => Err(invalid(format!("{address} is not a valid IP or resolvable host."))),
        None => Ok(true),
    }
}

fn check_value(of_address: bool, op: &OpData) -> Result<(), Refusal> {
    let (key, value) = (&*op.key, op.value);
    let Some(number) = quota(of_address, key) else {
        return Err(invalid(format!("Invalid configuration key {key}")));
    };
    if value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    let (most, name) = match number {
        // Kafka keeps even what is no number; nothing could be done with it.
        Number::Double if value.is_finite() => return Ok(()),
        Number::Double => return Err(invalid(format!("Proposed value for {key} is not a number."))),
        Number::Long => (i64::MAX as f64, "a LONG"),
        Number::Int => (f64::from(i32::MAX), "an INT"),
    };
    if value > most {
        return Err(invalid(format!("Proposed value for {key} is too large for {name}.")));
    }
    if value.is_nan() || ((value + EPSILON).trunc() - value).abs() > EPSILON {
        return Err(invalid(format!("{key} cannot be a fractional value.")));
    }
    Ok(())
}

/// The names of hosts in `entries` that mean nothing here. Looked up before anything is planned, as it takes time.
async fn unresolved(entries: &[EntryData]) -> BTreeSet<String> {
    let addresses = entries.iter().flat_map(|entry| &entry.entity).filter(|part| &*part.entity_type == IP);
    let names: BTreeSet<String> =
        addresses.filter_map(|part| part.entity_name.as_ref()).map(|n| n.to_string()).collect();
    let mut unresolved = BTreeSet::new();
    let mut time_left = LOOK_UP;
    for name in names {
        if name.parse::<IpAddr>().is_ok() {
            continue;
        }
        let began = tokio::time::Instant::now();
        let found = tokio::time::timeout(time_left, tokio::net::lookup_host((name.as_str(), 0))).await;
        time_left = time_left.saturating_sub(began.elapsed());
        if !found.is_ok_and(|found| found.is_ok_and(|mut addresses| addresses.next().is_some())) {
            unresolved.insert(name);
        }
    }
    unresolved
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;
    use rstest::rstest;

    use super::*;

    fn op(key: &str, value: f64) -> OpData {
        OpData::default().with_key(text(key)).with_value(value)
    }

    fn part(kind: &str, name: Option<&str>) -> EntityData {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    }

    // As Apache Kafka 4.3.1 answered.
    #[rstest]
    #[case("producer_byte_rate", 1024.0, "")]
    #[case("producer_byte_rate", 0.0, "Quota producer_byte_rate must be greater than 0")]
    #[case("producer_byte_rate", -1.0, "Quota producer_byte_rate must be greater than 0")]
    #[case("producer_byte_rate", 0.5, "producer_byte_rate cannot be a fractional value.")]
    #[case("producer_byte_rate", 1e300, "Proposed value for producer_byte_rate is too large for a LONG.")]
    #[case("producer_byte_rate", f64::NAN, "producer_byte_rate cannot be a fractional value.")]
    #[case("request_percentage", 0.5, "")]
    #[case("request_percentage", f64::INFINITY, "Proposed value for request_percentage is not a number.")]
    #[case("connection_creation_rate", 5.0, "Invalid configuration key connection_creation_rate")]
    fn values_are_checked_as_by_kafka(#[case] key: &str, #[case] value: f64, #[case] expected: &str) {
        let told = check_value(false, &op(key, value)).err().and_then(|refusal| refusal.message);
        assert_eq!(told.unwrap_or_default(), expected);
    }

    #[rstest]
    #[case(&[], "Invalid empty client quota entity")]
    #[case(&[("nope", Some("x"))], "Unhandled client quota entity type: nope")]
    #[case(&[("user", Some(""))], "Empty user not supported")]
    #[case(&[("ip", None), ("user", None)], "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId")]
    #[case(&[("ip", Some("no such host!"))], "no such host! is not a valid IP or resolvable host.")]
    #[case(&[("ip", Some("::1"))], "")]
    #[case(&[("user", None), ("client-id", Some("c"))], "")]
    fn entities_are_checked_as_by_kafka(#[case] parts: &[(&str, Option<&str>)], #[case] expected: &str) {
        let unresolved = BTreeSet::from(["no such host!".to_owned()]);
        let entity = parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect();
        let told = check_entity(&unresolved, &entity).err().and_then(|refusal| refusal.message);
        assert_eq!(told.unwrap_or_default(), expected);
    }

    #[test]
    fn of_an_entity_named_twice_the_first_is_applied_and_the_second_answered() {
        let entry = |value| {
            EntryData::default()
                .with_entity(vec![part("user", Some("twice"))])
                .with_ops(vec![op("producer_byte_rate", value)])
        };
        let (results, changes) = plan(&Image::default(), &BTreeSet::new(), &[entry(5.0), entry(6.0)]);
        let entity = QuotaEntity::from([("user".to_owned(), Some("twice".to_owned()))]);
        let quotas = Quotas::from([("producer_byte_rate".to_owned(), 5.0)]);
        assert_eq!(changes, [Change::SetClientQuotas { entity: entity.clone(), quotas }]);
        let told = results[&entity].as_ref().err().and_then(Refusal::text);
        let expected = "Ignoring duplicate entity ClientQuotaEntity(entries={user=twice})";
        assert_eq!(told, Some(StrBytes::from_static_str(expected)));
    }
}
