//! What the members' protocols say: which can be chosen, which is, and which topics they subscribe to.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{CONSUMER_PROTOCOL, ClassicGroup, Member};
use crate::group::classic::State;
use crate::protocol::cursor::{Cursor, ReadError};

impl ClassicGroup {
    /// May a member with these protocols join? The type must be the group's, and one protocol common to all.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.members.values().all(|member| member.supports(name)))
    }

    /// The protocol that most members prefer among those that all support. Of several with as many votes it is the one
    /// that the longest member of the group likes best (Kafka leaves that to chance).
    pub(super) fn elected_protocol(&self) -> Option<Arc<str>> {
        let candidate = |name: &str| self.members.values().all(|member| member.supports(name));
        let preferred =
            |member: &Member| member.protocols.iter().map(|(name, _)| name).find(|name| candidate(name)).cloned();
        let votes: Vec<_> = self.members.values().filter_map(|member| preferred(member)).collect();
        let (_, oldest) = self.members.first()?;
        let candidates = oldest.protocols.iter().map(|(name, _)| name).filter(|name| candidate(name));
        // `max_by_key` takes the last of equals.
        candidates.rev().max_by_key(|name| votes.iter().filter(|vote| vote == name).count()).cloned()
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
            read_subscription(&member.metadata(protocol), &mut topics).ok()?;
        }
        Some(topics)
    }
}

impl Member {
    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| &**name == protocol)
    }
}

/// The topics of a consumer's subscription; version 0 is the front of every later one.
fn read_subscription(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Result<(), ReadError> {
    let mut metadata = Cursor::new(metadata, false);
    let version = metadata.i16()?;
    if version < 0 {
        return Err(ReadError::Version(version));
    }
    for _ in 0..metadata.array(2)?.unwrap_or(0) {
        topics.insert(metadata.string()?.into());
    }
    Ok(())
}
