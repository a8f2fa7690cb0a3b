//! What a heartbeat's answer says of the group beside tasks.

/// Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// The member's topology is older than the group's.
    StaleTopology = 0,
    /// Topics that somebody else makes are not there.
    MissingSourceTopics = 1,
    /// Topics do not fit together.
    IncorrectlyPartitionedTopics = 2,
    /// Topics that the broker makes are not there yet.
    MissingInternalTopics = 3,
    /// A member asked that the whole application ends.
    ShutdownApplication = 4,
    /// The next assignment waits.
    AssignmentDelayed = 5,
}

/// One status with its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which.
    pub code: StatusCode,
    /// In Kafka's words.
    pub detail: String,
}

impl Status {
    /// With a text.
    pub fn new(code: StatusCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}
