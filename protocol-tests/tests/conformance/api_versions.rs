use kafka_protocol::messages::ApiVersionsRequest;
use rstest::rstest;

use crate::scenario::{scenario, text};

#[test]
fn an_unknown_version_is_answered_in_version_0_with_error_35() {
    scenario(
        |s| {
            s.client.send_encoded(18, 99, 2, &[]);
            let frame = s.client.read_frame().expect("an answer");
            // Correlation id, error code, then the versions of ApiVersions itself so that the client can come again.
            let count = i32::from_be_bytes(frame[6..10].try_into().expect("a count"));
            let own = frame[10..].chunks(6).find(|row| row[..2] == [0, 18]).map(<[u8]>::to_vec);
            s.say(format!("error {} rows {count} own {own:?}", i16::from_be_bytes([frame[4], frame[5]])));
        },
        "error 35 rows 1 own Some([0, 18, 0, 0, 0, 4])",
    );
}

#[rstest]
#[case("good-name", "1.0", 0)]
#[case("bad name", "1.0", 42)]
#[case("", "1.0", 42)]
#[case("name", "-1", 42)]
fn the_client_software_name_is_checked(#[case] name: &str, #[case] version: &str, #[case] error: i16) {
    scenario(
        |s| {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(text(name))
                .with_client_software_version(text(version));
            let answer = s.client.call(3, &request);
            s.say(answer.error_code);
        },
        &error.to_string(),
    );
}
