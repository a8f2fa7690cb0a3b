//! What the two APIs of client quotas share: entity types, keys, and how an entity looks in an answer.

use crate::metadata::quotas::QuotaEntity;

/// Entity types in the order in which Kafka's answers have them.
pub(super) const TYPES: [&str; 3] = [CLIENT_ID, USER, IP];
/// A user.
pub(super) const USER: &str = "user";
/// A client id.
pub(super) const CLIENT_ID: &str = "client-id";
/// An address.
pub(super) const IP: &str = "ip";

/// What numbers a quota takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// Any above 0.
    Double,
    /// Whole ones of 64 bits.
    Long,
    /// Whole ones of 32 bits.
    Int,
}

/// Quotas of users and client ids.
const OF_CLIENTS: [(&str, Number); 4] = [
    ("producer_byte_rate", Number::Long),
    ("consumer_byte_rate", Number::Long),
    ("request_percentage", Number::Double),
    ("controller_mutation_rate", Number::Double),
];
/// Quotas of addresses.
const OF_ADDRESSES: [(&str, Number); 1] = [("connection_creation_rate", Number::Int)];

/// The quota of this name, for an entity with or without address.
pub(super) fn quota(of_address: bool, name: &str) -> Option<Number> {
    let table: &[(&str, Number)] = if of_address { &OF_ADDRESSES } else { &OF_CLIENTS };
    table.iter().find(|(key, _)| *key == name).map(|(_, number)| *number)
}

/// The parts of an entity in the order of [`TYPES`].
pub(super) fn parts(entity: &QuotaEntity) -> impl Iterator<Item = (&str, Option<&str>)> {
    let place = |kind: &str| TYPES.iter().position(|known| *known == kind);
    let mut parts: Vec<_> = entity.iter().map(|(kind, name)| (kind.as_str(), name.as_deref())).collect();
    parts.sort_by_key(|(kind, _)| place(kind));
    parts.into_iter()
}
