//! Which names a topic can have.

const NAME_BYTES_MAX: usize = 249;

/// Why a topic cannot have this name, in Kafka's words; `None` when it can.
pub fn illegal_name(name: &str) -> Option<String> {
    let why = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." => "'.' is not allowed".to_owned(),
        ".." => "'..' is not allowed".to_owned(),
        long if long.len() > NAME_BYTES_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {NAME_BYTES_MAX}")
        }
        name if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) => {
            return None;
        }
        _ => format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
    };
    Some(format!("Topic name is invalid: {why}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("orders", true)]
    #[case("a.b_c-D9", true)]
    #[case("", false)]
    #[case(".", false)]
    #[case("..", false)]
    #[case("with space", false)]
    #[case("ümlaut", false)]
    fn names_are_legal_as_in_kafka(#[case] name: &str, #[case] legal: bool) {
        assert_eq!(illegal_name(name).is_none(), legal);
    }

    #[test]
    fn names_have_a_longest_length() {
        assert_eq!(illegal_name(&"x".repeat(249)), None);
        assert!(illegal_name(&"x".repeat(250)).is_some());
    }
}
