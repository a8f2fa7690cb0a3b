//! Strings between the crate's messages and ours.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

/// A string of a request, to keep.
pub fn shared(text: &StrBytes) -> Arc<str> {
    Arc::from(&**text)
}

/// A string for a response.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
