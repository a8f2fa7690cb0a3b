//! Outcomes of partitions, gathered by topic as Kafka's broker does: what it refused itself comes first, each topic once;
//! what the coordinator decided joins it. A request that names a topic twice shows the difference, and one that names it
//! without partitions.

use std::hash::Hash;

use indexmap::IndexMap;

use crate::coordinator::Outcomes;
use crate::protocol::error_code::ErrorCode;

/// Partitions with what became of them.
pub type Partitions = Vec<(i32, ErrorCode)>;

/// What the broker refused before it asked a coordinator.
#[derive(Debug)]
pub struct Refused<T>(IndexMap<T, Partitions>);

impl<T: Hash + Eq> Refused<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(IndexMap::new())
    }

    /// Refuses partitions of a topic; the topic is named even without any.
    pub fn add(&mut self, topic: T, partitions: impl IntoIterator<Item = i32>, error: ErrorCode) {
        self.0.entry(topic).or_default().extend(partitions.into_iter().map(|partition| (partition, error)));
    }

    /// All topics of the answer. Alone, what the coordinator decided stays as the request named it.
    pub fn and(mut self, decided: Vec<(T, Partitions)>) -> Vec<(T, Partitions)> {
        if self.0.is_empty() {
            return decided;
        }
        for (topic, outcomes) in decided {
            self.0.entry(topic).or_default().extend(outcomes);
        }
        self.0.into_iter().collect()
    }
}

/// Splits the outcomes of all `asked` partitions, in their order, by the topics that asked for them.
pub fn decided<T>(asked: impl IntoIterator<Item = (T, Vec<i32>)>, outcomes: Outcomes) -> Vec<(T, Partitions)> {
    let mut outcomes = outcomes.map(Vec::into_iter);
    let mut next = || match &mut outcomes {
        Ok(outcomes) => outcomes.next().and_then(Result::err).unwrap_or(ErrorCode::None),
        Err(error) => *error,
    };
    let mut result = Vec::new();
    for (topic, partitions) in asked {
        result.push((topic, partitions.into_iter().map(|partition| (partition, next())).collect()));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_topics_come_once_and_take_in_what_was_decided() {
        let mut refused = Refused::new();
        refused.add("a", [1, 2], ErrorCode::UnknownTopicOrPartition);
        refused.add("b", [], ErrorCode::UnknownTopicOrPartition);
        refused.add("a", [1], ErrorCode::UnknownTopicOrPartition);
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let decided = decided([("c", vec![0]), ("a", vec![0]), ("c", vec![1])], Ok(vec![Ok(()), Err(unknown)]));
        let none = ErrorCode::None;
        assert_eq!(
            refused.and(decided),
            [
                ("a", vec![(1, unknown), (2, unknown), (1, unknown), (0, unknown)]),
                ("b", vec![]),
                ("c", vec![(0, none), (1, none)]),
            ]
        );
    }

    #[test]
    fn what_was_decided_alone_stays_as_it_was_asked() {
        let decided = decided([("c", vec![0]), ("c", vec![1])], Err(ErrorCode::NotCoordinator));
        let error = ErrorCode::NotCoordinator;
        assert_eq!(Refused::new().and(decided), [("c", vec![(0, error)]), ("c", vec![(1, error)])]);
    }
}
