//! What the members' protocols say: which can be chosen, which is, and which topics they subscribe to.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{CONSUMER_PROTOCOL, ClassicGroup, Member};
use crate::group::classic::State;
use crate::group::consumer_protocol::subscribed_topics;

impl ClassicGroup {
    /// May a member with these protocols join? The type must be the group's, and one protocol common to all.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.members.values().all(|member| member.supports(name)))
    }

    pub(super) fn elected_protocol(&self) -> Option<Arc<str>> {
        Self::elect(self.members.values().map(|member| &member.protocols[..]))
    }

    /// The protocol that most members prefer among those that all support. Of several with as many votes it is the one
    /// that the longest member of the group likes best (Kafka leaves that to chance). Members in order of joining, each
    /// with its protocols in order of preference.
    pub fn elect<'p>(members: impl Iterator<Item = &'p [(Arc<str>, Bytes)]> + Clone) -> Option<Arc<str>> {
        let candidate =
            |name: &str| members.clone().all(|protocols| protocols.iter().any(|(other, _)| &**other == name));
        let preferred =
            |protocols: &'p [(Arc<str>, Bytes)]| protocols.iter().map(|(name, _)| name).find(|name| candidate(name));
        let votes: Vec<_> = members.clone().filter_map(preferred).collect();
        let oldest = members.clone().next()?;
        let candidates = oldest.iter().map(|(name, _)| name).filter(|name| candidate(name));
        // `max_by_key` takes the last of equals.
        candidates.rev().max_by_key(|name| votes.iter().filter(|vote| **vote == *name).count()).cloned()
    }

    /// Is `topic` read by members of this group? When their subscriptions cannot be known, every topic may be.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// Are the subscribed topics known?
    pub fn knows_subscriptions(&self) -> bool {
        self.subscribed.is_some()
    }

    /// Are its members consumers?
    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    pub(super) fn subscribed_by_members(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            // What cannot be read is no consumer's subscription: then nothing is known of the whole group.
            topics.extend(subscribed_topics(&member.metadata(protocol)).ok()?);
        }
        Some(topics)
    }
}

impl Member {
    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| &**name == protocol)
    }
}
