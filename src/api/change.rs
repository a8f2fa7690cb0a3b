//! Changes of metadata that a client asks for: planned on one image, committed only if that is still the newest one.

use std::collections::BTreeSet;

use kafka_protocol::protocol::StrBytes;

use super::Node;
use super::text::text;
use crate::metadata::image::{Change, Image};
use crate::metadata::store::CommitError;
use crate::protocol::error_code::ErrorCode;

/// How often a change is planned anew because somebody else committed meanwhile.
const ATTEMPTS_MAX: usize = 100;

/// Why one topic, partition or resource of a request is refused: Kafka's code and Kafka's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// The words, where Kafka has any.
    pub message: Option<String>,
}

impl Refusal {
    /// With words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }

    /// Without.
    pub fn bare(code: ErrorCode) -> Self {
        Self { code, message: None }
    }

    /// The words as a response carries them.
    pub fn text(&self) -> Option<StrBytes> {
        self.message.as_deref().map(text)
    }
}

/// Plans on the newest image and commits; when somebody else was quicker, plans again. What is planned is returned once it is
/// committed and its partitions can be asked for, or with the reason why it is not.
pub(super) async fn commit<P>(
    node: &Node,
    mut plan: impl FnMut(&Image) -> (P, Vec<Change>),
) -> (P, Result<(), Refusal>) {
    let mut attempts_left = ATTEMPTS_MAX;
    loop {
        let image = node.metadata.image();
        let (planned, changes) = plan(&image);
        if changes.is_empty() {
            return (planned, Ok(()));
        }
        match node.metadata.commit(Some(image.generation), changes).await {
            Ok(image) => {
                node.partitions.followed(image).await;
                return (planned, Ok(()));
            }
            Err(CommitError::Conflict | CommitError::TopicExists(_) | CommitError::NoSuchTopic(_))
                if attempts_left > 0 =>
            {
                attempts_left -= 1;
            }
            Err(error) => {
                tracing::warn!(%error, "metadata is not changed");
                return (planned, Err(refusal(&error)));
            }
        }
    }
}

fn refusal(error: &CommitError) -> Refusal {
    match error {
        CommitError::Conflict => Refusal::new(ErrorCode::RequestTimedOut, error.to_string()),
        CommitError::TopicExists(name) => {
            Refusal::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists."))
        }
        CommitError::NoSuchTopic(_) => Refusal::bare(ErrorCode::UnknownTopicOrPartition),
        CommitError::Store(_) => Refusal::new(ErrorCode::UnknownServerError, error.to_string()),
    }
}

/// The values that occur more than once.
pub(super) fn duplicates<T: Ord>(values: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for value in values {
        if seen.contains(&value) {
            twice.insert(value);
        } else {
            seen.insert(value);
        }
    }
    twice
}
