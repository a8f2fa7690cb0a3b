//! ApiVersions 0-4: what is served, from the table of rows.
//!
//! An unknown version is answered in version 0 with UNSUPPORTED_VERSION and the range of ApiVersions itself, so that the
//! client can ask again (KIP-511).
//!
//! Versions: 3 flexible, client software name and version, feature levels (KIP-584). 4 also lists supported features whose
//! first level is 0, which older clients refuse (KIP-1022).

use kafka_protocol::messages::api_versions_request::ApiVersionsRequest;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Disconnect, Frame, Line, Node, ROWS, Row, Software, encode_line};
use crate::metadata::features::Feature;
use crate::metadata::image::Image;
use crate::protocol::api_key::ApiKey;
use crate::protocol::error_code::ErrorCode;

/// The first version with feature levels.
const FEATURES_FROM: i16 = 3;
/// The first version that may show level 0 as supported.
const LEVEL_0_FROM: i16 = 4;

/// Answers one request.
pub async fn handle(node: &Node, call: &Call, request: ApiVersionsRequest) -> Result<ApiVersionsResponse, Disconnect> {
    let named = |text: &str| call.version < 3 || is_software_name(text);
    if !named(&request.client_software_name) || !named(&request.client_software_version) {
        return Ok(ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code()));
    }
    if call.version >= 3 {
        // Of several answers the first counts: a library does not change on its connection.
        let _ = call.software.set(Software {
            name: Box::from(&*request.client_software_name),
            version: Box::from(&*request.client_software_version),
        });
    }
    let mut keys: Vec<_> = ROWS.iter().map(range).collect();
    keys.sort_by_key(|range| range.api_key);
    let response = ApiVersionsResponse::default().with_api_keys(keys);
    Ok(if call.version < FEATURES_FROM {
        response
    } else {
        with_features(response, call.version, &node.metadata.image())
    })
}

fn with_features(response: ApiVersionsResponse, version: i16, image: &Image) -> ApiVersionsResponse {
    let name = |feature: Feature| StrBytes::from_static_str(feature.name());
    let shown = |feature: &Feature| version >= LEVEL_0_FROM || feature.supported().0 > 0;
    let supported = Feature::ALL.into_iter().filter(shown).map(|feature| {
        let (least, most) = feature.supported();
        SupportedFeatureKey::default().with_name(name(feature)).with_min_version(least).with_max_version(most)
    });
    let finalized = image.features.finalized().map(|(feature, level)| {
        FinalizedFeatureKey::default()
            .with_name(name(feature))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(i64::try_from(image.generation).unwrap_or(i64::MAX))
}

/// The answer to a version that is not served.
pub fn unsupported_version(line: Line) -> Result<Frame, Disconnect> {
    let own = ROWS.iter().filter(|row| row.key == ApiKey::ApiVersions).map(range).collect();
    let response =
        ApiVersionsResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code()).with_api_keys(own);
    encode_line(line, 0, &response)
}

fn range(row: &Row) -> ApiVersion {
    ApiVersion::default().with_api_key(row.key.code()).with_min_version(row.versions.0).with_max_version(row.versions.1)
}

/// Letters, digits, `-` and `.`, beginning and ending with a letter or digit.
fn is_software_name(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("librdkafka", true)]
    #[case("apache-kafka-java", true)]
    #[case("4.3.1", true)]
    #[case("a", true)]
    #[case("", false)]
    #[case("-a", false)]
    #[case("a.", false)]
    #[case("a b", false)]
    fn software_names_follow_kafkas_pattern(#[case] text: &str, #[case] legal: bool) {
        assert_eq!(is_software_name(text), legal);
    }
}
