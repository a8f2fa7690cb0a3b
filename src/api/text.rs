//! Strings between the crate's messages and ours.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

use crate::protocol::cursor::STRING_BYTES_MAX;

/// What Kafka says to a request that names a type which nobody knows.
pub const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client library or the \
                             message was sent to an incompatible broker. See the broker logs for more details.";

/// A string of a request, to keep.
pub fn shared(text: &StrBytes) -> Arc<str> {
    Arc::from(&**text)
}

/// A string for a response. Past what a string on the wire may have it is cut, for otherwise the whole answer would not
/// encode: only words of ours around a client's long name can grow that far.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text[..text.floor_char_boundary(STRING_BYTES_MAX)].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_where_the_wire_ends() {
        let longest = "x".repeat(STRING_BYTES_MAX);
        assert_eq!(&*text(&longest), longest);
        assert_eq!(&*text(&format!("{longest}x")), longest);
        assert_eq!(text(&format!("{}\u{fffd}", &longest[2..])).len(), STRING_BYTES_MAX - 2);
    }
}
