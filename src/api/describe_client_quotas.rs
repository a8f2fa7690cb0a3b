//! DescribeClientQuotas 0-1 (KIP-546): the quotas whose entities fit a filter. Version 1 is flexible.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use kafka_protocol::messages::describe_client_quotas_response::{
    DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};

use super::change::Refusal;
use super::client_quotas::{IP, TYPES, parts};
use super::text::text;
use super::{Call, Disconnect, Node};
use crate::metadata::quotas::QuotaEntity;
use crate::protocol::error_code::ErrorCode;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// What a part of an entity has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted<'a> {
    /// This name.
    Name(&'a str),
    /// The default.
    Default,
    /// There.
    Any,
}

type Filter<'a> = BTreeMap<&'a str, Wanted<'a>>;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: DescribeClientQuotasRequest,
) -> Result<DescribeClientQuotasResponse, Disconnect> {
    let filter = match filter(&request.components) {
        Ok(filter) => filter,
        Err(refusal) => {
            return Ok(DescribeClientQuotasResponse::default()
                .with_error_code(refusal.code.code())
                .with_error_message(refusal.text())
                .with_entries(None));
        }
    };
    let image = node.metadata.image();
    let found = image.client_quotas.iter().filter(|(entity, _)| fits(&filter, request.strict, entity));
    let entries = found.map(|(entity, quotas)| {
        let parts = parts(entity)
            .map(|(kind, name)| EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text)));
        let values = quotas.iter().map(|(key, value)| ValueData::default().with_key(text(key)).with_value(*value));
        EntryData::default().with_entity(parts.collect()).with_values(values.collect())
    });
    Ok(DescribeClientQuotasResponse::default().with_entries(Some(entries.collect())))
}

fn filter(components: &[ComponentData]) -> Result<Filter<'_>, Refusal> {
    let invalid = |why: String| Err(Refusal::new(ErrorCode::InvalidRequest, why));
    let mut filter = Filter::new();
    for component in components {
        let kind = &*component.entity_type;
        if kind.is_empty() {
            return invalid("Invalid empty entity type.".to_owned());
        }
        if filter.contains_key(kind) {
            return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
        if !TYPES.contains(&kind) {
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, format!("Unsupported entity type {kind}")));
        }
        let wanted = match (component.match_type, component._match.as_deref()) {
            (EXACT, Some(name)) => Wanted::Name(name),
            (EXACT, None) => {
                return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned());
            }
            (DEFAULT, None) => Wanted::Default,
            (SPECIFIED, None) => Wanted::Any,
            (DEFAULT, Some(_)) => {
                return invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.".to_owned());
            }
            (SPECIFIED, Some(_)) => {
                return invalid(
                    "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.".to_owned(),
                );
            }
            (unknown, _) => return invalid(format!("Unknown match type {unknown}")),
        };
        filter.insert(kind, wanted);
    }
    if filter.contains_key(IP) && filter.len() > 1 {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or \
             clientId filter component."
                .to_owned(),
        );
    }
    Ok(filter)
}

fn fits(filter: &Filter<'_>, strict: bool, entity: &QuotaEntity) -> bool {
    let fits_one = |(kind, wanted): (&&str, &Wanted<'_>)| match (entity.get(*kind), wanted) {
        (None, _) => false,
        (Some(_), Wanted::Any) => true,
        (Some(name), Wanted::Name(wanted)) => name.as_deref() == Some(wanted),
        (Some(name), Wanted::Default) => name.is_none(),
    };
    (!strict || entity.len() == filter.len()) && filter.iter().all(fits_one)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], false, true)]
    #[case(&[], true, false)]
    #[case(&[("user", Wanted::Any)], false, true)]
    #[case(&[("user", Wanted::Any)], true, false)]
    #[case(&[("user", Wanted::Any), ("client-id", Wanted::Default)], true, true)]
    #[case(&[("user", Wanted::Default)], false, false)]
    #[case(&[("user", Wanted::Name("alice"))], false, true)]
    #[case(&[("user", Wanted::Name("bob"))], false, false)]
    #[case(&[("ip", Wanted::Any)], false, false)]
    fn a_filter_fits_when_all_its_parts_do(
        #[case] parts: &[(&'static str, Wanted<'static>)],
        #[case] strict: bool,
        #[case] expected: bool,
    ) {
        let entity = QuotaEntity::from([("user".to_owned(), Some("alice".to_owned())), ("client-id".to_owned(), None)]);
        assert_eq!(fits(&parts.iter().copied().collect(), strict, &entity), expected);
    }
}
