//! What can go wrong with a request to the store, by what the caller would do differently.

use std::time::Duration;

/// Why a request to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No such object.
    #[error("object '{0}' does not exist")]
    NotFound(String),
    /// Credentials are missing, wrong or lack a right: retrying does not help.
    #[error("object store refused access: {0}")]
    Denied(String),
    /// The store did not answer, or not well; may work later.
    #[error("object store failed: {0}")]
    Unavailable(String),
    /// No answer within the deadline.
    #[error("object store did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The store has failed many times in a row; nothing is sent until the next probe.
    #[error("object store is down: {0}")]
    Down(String),
    /// The store answers, and not about this object: it is archived, its key is gone, its file cannot be read. Retrying
    /// does not help, and another object may be well.
    #[error("object store refuses this object: {0}")]
    Refused(String),
    /// The object has fewer bytes than whoever names it says.
    #[error("object is shorter than it must be: {0}")]
    Short(String),
    /// The store cannot do what was asked.
    #[error("object store does not support this: {0}")]
    Unsupported(String),
}

impl StoreError {
    /// May the same request work when sent again?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Timeout(_) | Self::Down(_) => true,
            Self::NotFound(_) | Self::Denied(_) | Self::Refused(_) | Self::Short(_) | Self::Unsupported(_) => false,
        }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        let text = with_sources(&error);
        match error {
            E::NotFound { path, .. } => Self::NotFound(path),
            E::Generic { .. } if is_denied(&text) => Self::Denied(text),
            E::PermissionDenied { .. } | E::Generic { .. } if is_refused(&text) => Self::Refused(text),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied(text),
            E::NotImplemented { .. }
            | E::NotSupported { .. }
            | E::InvalidPath { .. }
            | E::UnknownConfigurationKey { .. } => Self::Unsupported(text),
            E::Generic { .. } if is_short(&text) => Self::Short(text),
            // The last three answer conditions; the one condition that is sent ("if absent") is handled before this.
            E::Generic { .. }
            | E::JoinError { .. }
            | E::AlreadyExists { .. }
            | E::Precondition { .. }
            | E::NotModified { .. } => Self::Unavailable(text),
            // object_store's enum may grow; what is new is treated as a failure that may pass.
            _ => Self::Unavailable(text),
        }
    }
}

/// S3 says 400, not 403, of credentials that were good once or are for another region.
fn is_denied(text: &str) -> bool {
    ["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed"]
        .iter()
        .any(|code| has_code(text, code))
}

/// S3 says 403 of an object that was archived and 400 of one that is encrypted by a key which is not there; the kernel
/// says EIO or EISDIR of a file. Only one 400 is about the line and not about the request.
fn is_refused(text: &str) -> bool {
    has_code(text, "InvalidObjectState")
        || text.contains("400 Bad Request") && !has_code(text, "RequestTimeout")
        || ["(os error 5)", "(os error 21)"].iter().any(|error| text.contains(error))
}

fn has_code(text: &str, code: &str) -> bool {
    text.split("<Code>").skip(1).any(|rest| rest.strip_prefix(code).is_some_and(|rest| rest.starts_with("</Code>")))
}

/// A range that begins behind the end, as S3 and as the crate's own stores say it; the crate hides the type.
fn is_short(text: &str) -> bool {
    ["416 Range Not Satisfiable", "but object was only"].iter().any(|words| text.contains(words))
}

/// The error and its causes on one line, without repeating what a cause already said.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
