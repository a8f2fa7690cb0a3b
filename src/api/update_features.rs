//! UpdateFeatures 0-2 (KIP-584): moves feature levels, all of a request or none. Version 1 has upgrade types and
//! validate-only, 2 answers without a result per feature.
//!
//! Where several updates are wrong we name the first; Kafka names whichever its hash map has first.

use kafka_protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use kafka_protocol::messages::update_features_response::{UpdatableFeatureResult, UpdateFeaturesResponse};
use kafka_protocol::protocol::StrBytes;

use super::change::{Refusal, commit};
use super::{Call, Disconnect, Node};
use crate::metadata::features::{Feature, FeatureLevels};
use crate::metadata::image::Change;
use crate::protocol::error_code::ErrorCode;

/// The last version that answers each feature by itself.
const RESULTS_UNTIL: i16 = 1;

/// What a client allows to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpgradeType {
    Unknown,
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: UpdateFeaturesRequest,
) -> Result<UpdateFeaturesResponse, Disconnect> {
    let (planned, outcome) = commit(node, |image| {
        let planned = plan(&image.features, node.config.node_id, call.version, &request.feature_updates);
        let changes = if request.validate_only { Vec::new() } else { planned.clone().unwrap_or_default() };
        (planned.map(drop), changes)
    })
    .await;
    let mut response = UpdateFeaturesResponse::default().with_error_message(None);
    match planned.and(outcome) {
        Ok(()) if call.version <= RESULTS_UNTIL => {
            let updated = request.feature_updates.iter().map(|update| {
                UpdatableFeatureResult::default()
                    .with_feature(update.feature.clone())
                    .with_error_message(Some(StrBytes::from_static_str("NONE")))
            });
            response.results = updated.collect();
        }
        Ok(()) => {}
        Err(refusal) => {
            response.error_code = refusal.code.code();
            response.error_message = refusal.text();
        }
    }
    Ok(response)
}

fn plan(
    levels: &FeatureLevels,
    node_id: i32,
    version: i16,
    updates: &[FeatureUpdateKey],
) -> Result<Vec<Change>, Refusal> {
    let planned = updates.iter().map(|update| {
        check(levels, node_id, version, update).map_err(|why| {
            let why = format!("The update failed for all features since the following feature had an error: {why}");
            Refusal::new(ErrorCode::InvalidUpdateVersion, why)
        })
    });
    let changed = |change: &Result<(Feature, i16), Refusal>| !matches!(change, Ok((feature, level)) if levels.level(*feature) == *level);
    planned.filter(changed).map(|change| change.map(|(feature, level)| Change::SetFeature { feature, level })).collect()
}

/// One update by itself: the feature and its new level, or Kafka's words.
fn check(
    levels: &FeatureLevels,
    node_id: i32,
    version: i16,
    update: &FeatureUpdateKey,
) -> Result<(Feature, i16), String> {
    let (name, level) = (&*update.feature, update.max_version_level);
    let invalid = |why: &str| Err(format!("Invalid update version {level} for feature {name}. {why}"));
    let upgrade_type = upgrade_type(version, update);
    if upgrade_type == UpgradeType::Unknown {
        return invalid("The controller does not support the given upgrade type.");
    }
    if level < 0 {
        return invalid("A feature version cannot be less than 0.");
    }
    let Some(feature) = Feature::named(name) else {
        return match level {
            0 => invalid(&format!("Feature {name} not found.")),
            _ => invalid(&format!("Local controller {node_id} does not support this feature.")),
        };
    };
    let (least, most) = feature.supported();
    if !(least..=most).contains(&level) {
        return invalid(&format!("Local controller {node_id} only supports versions {least}-{most}"));
    }
    let current = levels.level(feature);
    if level < current && upgrade_type == UpgradeType::Upgrade {
        return invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade.",
        );
    }
    if level > current && upgrade_type != UpgradeType::Upgrade {
        return invalid("Can't downgrade to a newer version.");
    }
    if feature == Feature::Metadata && level < current {
        let why = match upgrade_type {
            UpgradeType::UnsafeDowngrade => "Unsafe metadata downgrade is not supported in this version.",
            _ => "Refusing to perform the requested downgrade because it might delete metadata information.",
        };
        return Err(format!("Unsupported metadata.version downgrade from {current} to {level}. {why}"));
    }
    Ok((feature, level))
}

fn upgrade_type(version: i16, update: &FeatureUpdateKey) -> UpgradeType {
    match (version, update.allow_downgrade, update.upgrade_type) {
        (0, true, _) => UpgradeType::SafeDowngrade,
        (0, false, _) | (_, _, 1) => UpgradeType::Upgrade,
        (_, _, 2) => UpgradeType::SafeDowngrade,
        (_, _, 3) => UpgradeType::UnsafeDowngrade,
        _ => UpgradeType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // All answers were seen on Apache Kafka 4.3.1, by the request list in protocol-tests.
    #[rstest]
    #[case("group.version", 1, 1, Ok(1))]
    #[case("group.version", 1, 2, Ok(1))]
    #[case("group.version", 0, 2, Ok(0))]
    #[case("group.version", 0, 1, Err("without setting the upgrade type"))]
    #[case("group.version", 2, 1, Err("Local controller 1 only supports versions 0-1"))]
    #[case("group.version", -1, 1, Err("cannot be less than 0"))]
    #[case("group.version", 1, 0, Err("does not support the given upgrade type"))]
    #[case("kraft.version", 1, 2, Err("Can't downgrade to a newer version."))]
    #[case("metadata.version", 29, 2, Err("might delete metadata information"))]
    #[case("metadata.version", 29, 3, Err("Unsafe metadata downgrade"))]
    #[case("nothing", 0, 2, Err("Feature nothing not found."))]
    #[case("nothing", 1, 1, Err("Local controller 1 does not support this feature."))]
    fn updates_are_judged_as_by_kafka(
        #[case] feature: &'static str,
        #[case] level: i16,
        #[case] upgrade_type: i8,
        #[case] expected: Result<i16, &str>,
    ) {
        let update = FeatureUpdateKey::default()
            .with_feature(StrBytes::from_static_str(feature))
            .with_max_version_level(level)
            .with_upgrade_type(upgrade_type);
        let found = check(&FeatureLevels::default(), 1, 1, &update);
        match (found, expected) {
            (Ok((_, found)), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn only_what_moves_is_committed() {
        let update =
            |level| FeatureUpdateKey::default().with_feature("group.version".into()).with_max_version_level(level);
        let levels = FeatureLevels::default();
        assert_eq!(plan(&levels, 1, 1, &[update(1).with_upgrade_type(2)]), Ok(Vec::new()));
        let changes = plan(&levels, 1, 1, &[update(0).with_upgrade_type(2)]);
        assert_eq!(changes, Ok(vec![Change::SetFeature { feature: Feature::Group, level: 0 }]));
    }
}
