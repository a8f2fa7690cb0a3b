//! Where the dead letters of a share group go, with Kafka's rules (KIP-1191).

use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;
use crate::metadata::image::{Image, Topic};
use crate::metadata::topic_name::illegal_name;
use crate::share::settings::DEAD_LETTERS;

/// The group's topic of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Its name.
    pub(super) topic: String,
    /// It is there.
    pub(super) exists: bool,
    /// `errors.deadletterqueue.copy.record.enable`.
    pub(super) copies: bool,
}

/// Why a group's records are archived without dead letters: whoever configures it can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoTarget {
    #[error("the group names no topic of dead letters any more")]
    None,
    #[error("'{0}' cannot be a topic of dead letters: its name begins with __ or is no name of a topic")]
    BadName(String),
    #[error("'{0}' has not errors.deadletterqueue.group.enable")]
    NotEnabled(String),
    #[error("'{0}' does not exist, and errors.deadletterqueue.auto.create.topics.enable is false")]
    Missing(String),
    #[error("'{0}' does not begin as errors.deadletterqueue.topic.name.prefix says")]
    Prefix(String),
}

/// The target of a group as configured now. `takes`: may dead letters be written to this topic?
pub(super) fn target(
    group: &str,
    config: &BrokerConfig,
    image: &Image,
    takes: impl FnOnce(&Topic) -> bool,
) -> Result<Target, NoTarget> {
    let own = image.group_configs.get(group);
    let name = own.and_then(|own| own.get(DEAD_LETTERS)).map(|name| name.trim()).unwrap_or_default();
    if name.is_empty() {
        return Err(NoTarget::None);
    }
    if name.starts_with("__") || illegal_name(name).is_some() {
        return Err(NoTarget::BadName(name.to_owned()));
    }
    let dynamic = Dynamic::of(&image.broker_configs, config.node_id);
    let topic = image.topic(name);
    match topic {
        Some(topic) if !takes(topic) => return Err(NoTarget::NotEnabled(name.to_owned())),
        None if config.broker_value(dynamic, "errors.deadletterqueue.auto.create.topics.enable") != "true" => {
            return Err(NoTarget::Missing(name.to_owned()));
        }
        Some(_) | None => {}
    }
    if !name.starts_with(&config.broker_value(dynamic, "errors.deadletterqueue.topic.name.prefix")) {
        return Err(NoTarget::Prefix(name.to_owned()));
    }
    let copies = own.and_then(|own| own.get("errors.deadletterqueue.copy.record.enable"));
    Ok(Target {
        topic: name.to_owned(),
        exists: topic.is_some(),
        copies: copies.is_some_and(|text| text.trim().eq_ignore_ascii_case("true")),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;
    use crate::config::given::Given;
    use crate::metadata::image::Change;

    fn no(why: fn(String) -> NoTarget, topic: &str) -> Result<(bool, bool), NoTarget> {
        Err(why(topic.to_owned()))
    }

    #[rstest]
    #[case::nothing_named("", &[], Err(NoTarget::None))]
    #[case::there("dlq.t", &[], Ok((true, false)))]
    #[case::not_enabled("dlq.plain", &[], no(NoTarget::NotEnabled, "dlq.plain"))]
    #[case::missing("dlq.new", &[], no(NoTarget::Missing, "dlq.new"))]
    #[case::to_be_made("dlq.new", &[("errors.deadletterqueue.auto.create.topics.enable", "true")], Ok((false, false)))]
    #[case::prefix("t", &[], no(NoTarget::Prefix, "t"))]
    #[case::any_prefix("t", &[("errors.deadletterqueue.topic.name.prefix", "")], Ok((true, false)))]
    #[case::internal("__t", &[], no(NoTarget::BadName, "__t"))]
    #[case::no_name("dlq./../t", &[], no(NoTarget::BadName, "dlq./../t"))]
    fn the_rules_are_kafkas(
        #[case] name: &str,
        #[case] dynamic: &[(&str, &str)],
        #[case] found: Result<(bool, bool), NoTarget>,
    ) {
        let mut image = Image::default();
        for (name, takes) in [("dlq.t", true), ("dlq.plain", false), ("t", true)] {
            let config = [("takes".to_owned(), takes.to_string())].into();
            let topic =
                Topic { id: Uuid::new_v4(), name: name.into(), partition_count: 1, replication_factor: 1, config };
            image.apply(&Change::CreateTopic(topic)).unwrap();
        }
        image.group_configs.insert("g".to_owned(), [(DEAD_LETTERS.to_owned(), name.to_owned())].into());
        let dynamic = dynamic.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        image.broker_configs.insert(String::new(), dynamic);
        let config = BrokerConfig::build(&Given::default(), None).unwrap();
        let takes = |topic: &Topic| topic.config["takes"] == "true";
        assert_eq!(target("g", &config, &image, takes).map(|target| (target.exists, target.copies)), found);
    }
}
