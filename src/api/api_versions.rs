//! ApiVersions 0-4: what is served, from the table of rows.
//!
//! An unknown version is answered in version 0 with UNSUPPORTED_VERSION and the range of ApiVersions itself, so that the
//! client can ask again (KIP-511). There is no feature level to be shown yet.
//!
//! Versions: 3 flexible, client software name and version.

use kafka_protocol::messages::api_versions_request::ApiVersionsRequest;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};

use super::{Call, Disconnect, Frame, Line, Node, ROWS, Row, encode_line};
use crate::protocol::api_key::ApiKey;
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(_node: &Node, call: &Call, request: ApiVersionsRequest) -> Result<ApiVersionsResponse, Disconnect> {
    let named = |text: &str| call.version < 3 || is_software_name(text);
    if !named(&request.client_software_name) || !named(&request.client_software_version) {
        return Ok(ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code()));
    }
    let mut keys: Vec<_> = ROWS.iter().map(range).collect();
    keys.sort_by_key(|range| range.api_key);
    Ok(ApiVersionsResponse::default().with_api_keys(keys))
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
