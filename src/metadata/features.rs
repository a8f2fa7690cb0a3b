//! Feature levels (KIP-584): what this program supports, and what is finalized for the cluster.
//!
//! A level decides how coordinators behave and what clients may expect of them, so it is metadata and not
//! configuration. A new cluster begins at the levels at which Apache Kafka 4.3.1 formats one; UpdateFeatures moves them.
//! Readers ask `image.features.level(..)` at the moment they decide, since a level may change while the broker runs.

/// A feature whose level is known here, in the order in which ApiVersions lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// `group.version`: 1 has the consumer protocol of KIP-848.
    Group,
    /// `kraft.version`: stays 0, as there is no Raft here.
    Kraft,
    /// `metadata.version`: says to clients which release they talk to.
    Metadata,
    /// `share.version`: 1 has share groups.
    Share,
    /// `streams.version`: 1 has streams groups.
    Streams,
    /// `transaction.version`: 2 is KIP-890 part 2.
    Transaction,
    /// `eligible.leader.replicas.version`: nothing depends on it with one replica.
    EligibleLeaderReplicas,
}

/// The range of levels of a feature and the one a new cluster begins with.
struct Levels {
    name: &'static str,
    supported: (i16, i16),
    initial: i16,
}

const COUNT: usize = 7;

impl Feature {
    /// All of them.
    pub const ALL: [Feature; COUNT] = [
        Feature::Group,
        Feature::Kraft,
        Feature::Metadata,
        Feature::Share,
        Feature::Streams,
        Feature::Transaction,
        Feature::EligibleLeaderReplicas,
    ];

    const fn levels(self) -> Levels {
        let (name, supported, initial) = match self {
            Feature::Group => ("group.version", (0, 1), 1),
            Feature::Kraft => ("kraft.version", (0, 1), 0),
            Feature::Metadata => ("metadata.version", (7, 30), 30),
            Feature::Share => ("share.version", (0, 1), 1),
            Feature::Streams => ("streams.version", (0, 1), 1),
            Feature::Transaction => ("transaction.version", (0, 2), 2),
            Feature::EligibleLeaderReplicas => ("eligible.leader.replicas.version", (0, 1), 1),
        };
        Levels { name, supported, initial }
    }

    /// Kafka's name of it.
    pub const fn name(self) -> &'static str {
        self.levels().name
    }

    /// The first and the last level that this program supports.
    pub const fn supported(self) -> (i16, i16) {
        self.levels().supported
    }

    /// The feature of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

/// The finalized level of every feature. Level 0 is "not in use".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureLevels([i16; COUNT]);

impl Default for FeatureLevels {
    fn default() -> Self {
        Self(Feature::ALL.map(|feature| feature.levels().initial))
    }
}

impl FeatureLevels {
    /// The level of one feature.
    pub fn level(&self, feature: Feature) -> i16 {
        self.0[feature as usize]
    }

    /// Moves one feature.
    pub(super) fn set(&mut self, feature: Feature, level: i16) {
        self.0[feature as usize] = level;
    }

    /// The features in use with their levels.
    pub fn finalized(&self) -> impl Iterator<Item = (Feature, i16)> {
        Feature::ALL.into_iter().map(|feature| (feature, self.level(feature))).filter(|(_, level)| *level > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cluster_has_the_levels_of_a_freshly_formatted_kafka() {
        let levels = FeatureLevels::default();
        let found: Vec<_> = levels.finalized().map(|(feature, level)| (feature.name(), level)).collect();
        assert_eq!(
            found,
            [
                ("group.version", 1),
                ("metadata.version", 30),
                ("share.version", 1),
                ("streams.version", 1),
                ("transaction.version", 2),
                ("eligible.leader.replicas.version", 1),
            ]
        );
    }

    #[test]
    fn every_feature_is_found_by_its_name_and_begins_at_a_supported_level() {
        for (index, feature) in Feature::ALL.into_iter().enumerate() {
            assert_eq!(Feature::named(feature.name()), Some(feature));
            assert_eq!(feature as usize, index);
            let (least, most) = feature.supported();
            assert!((least..=most).contains(&FeatureLevels::default().level(feature)));
        }
        assert_eq!(Feature::named("nothing.version"), None);
    }
}
