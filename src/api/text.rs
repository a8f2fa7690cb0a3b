//! Strings between the crate's messages and ours.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

/// What Kafka says to a request that names a type which nobody knows.
pub const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client library or the \
                             message was sent to an incompatible broker. See the broker logs for more details.";

/// A string of a request, to keep.
pub fn shared(text: &StrBytes) -> Arc<str> {
    Arc::from(&**text)
}

/// A string for a response.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
