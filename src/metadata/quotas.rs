//! Client quotas (KIP-546): limits by user, client id or address. Kept and shown; a later release enforces them.

use std::collections::BTreeMap;

/// Whom a quota is for: entity type (`user`, `client-id`, `ip`) to name, where no name is the type's default.
pub type QuotaEntity = BTreeMap<String, Option<String>>;

/// Limits by key.
pub type Quotas = BTreeMap<String, f64>;
