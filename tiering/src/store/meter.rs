//! What is counted of every request. The names are listed in the broker's metrics table.

use std::time::Duration;

use super::StoreError;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// One whole object.
    Put,
    /// One part of an object, or the calls around parts.
    PutPart,
    /// A range of an object.
    Get,
    /// An object's size.
    Head,
    /// Keys below a prefix.
    List,
    /// Removal.
    Delete,
}

impl Op {
    /// The value of the label `op`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::PutPart => "put_part",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

pub(super) fn request<T>(op: Op, took: Duration, outcome: &Result<T, StoreError>) {
    let result = match outcome {
        Ok(_) => "ok",
        Err(StoreError::NotFound(_)) => "not_found",
        Err(StoreError::Denied(_)) => "denied",
        Err(StoreError::Timeout(_)) => "timeout",
        Err(StoreError::Down(_)) => "down",
        Err(StoreError::Unavailable(_) | StoreError::Unsupported(_)) => "error",
    };
    metrics::counter!("terrace_remote_requests_total", "op" => op.name(), "result" => result).increment(1);
    metrics::histogram!("terrace_remote_request_seconds", "op" => op.name()).record(took.as_secs_f64());
}

pub(super) fn sent(bytes: u64) {
    metrics::counter!("terrace_remote_sent_bytes_total").increment(bytes);
}

pub(super) fn received(bytes: u64) {
    metrics::counter!("terrace_remote_received_bytes_total").increment(bytes);
}
