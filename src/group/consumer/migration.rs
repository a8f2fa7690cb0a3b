//! From the classic protocol to the consumer protocol and back, without a stop: a group of consumers changes its form when
//! the first member of the other protocol comes, or the last of it goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::classic_members::by_name;
use super::member::{ClassicMember, Current, Subscription};
use super::records::{ConsumerRecord, GroupEpoch, TargetEpoch, at_epoch};
use super::{ConsumerGroup, Draft, Partitions, Refused, Surroundings};
use crate::group::classic::{CONSUMER_PROTOCOL, ClassicGroup, Protocols};
use crate::group::consumer_protocol::{self, decode_assignment, encode_assignment};
use crate::group::records::{GroupMetadata, MemberMetadata};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

/// `group.consumer.migration.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Neither way, and members of one protocol don't get into groups of the other.
    Disabled,
    /// From classic to consumer.
    Upgrade,
    /// From consumer to classic.
    Downgrade,
    /// Both.
    Bidirectional,
}

impl MigrationPolicy {
    /// By its name in configuration, in any case.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "disabled" => Some(Self::Disabled),
            "upgrade" => Some(Self::Upgrade),
            "downgrade" => Some(Self::Downgrade),
            "bidirectional" => Some(Self::Bidirectional),
            _ => None,
        }
    }

    /// May classic groups become consumer groups?
    pub fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// May consumer groups become classic groups?
    pub fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

/// A classic group with members as a consumer group: every member keeps what it owns, and the generation becomes the
/// epoch. The draft has the records of it.
pub fn upgraded(classic: &ClassicGroup, policy: MigrationPolicy, around: &Surroundings<'_>) -> Result<Draft, Refused> {
    let id = classic.id();
    let cannot = |kind: &str, why: &str| {
        let message = format!("Cannot upgrade {kind} group {id} to consumer group because {why}.");
        Refused::new(ErrorCode::GroupIdNotFound, message)
    };
    if !policy.upgrades() {
        return Err(cannot("classic", "online upgrade is disabled"));
    }
    if !classic.uses_consumer_protocol() {
        return Err(cannot("classic", "the group does not use the consumer embedded protocol"));
    }
    if classic.member_count() > around.size_max {
        return Err(cannot("classic", "the group size exceeds the consumer group maximum size"));
    }
    let logged = classic.logged();
    let epoch = logged.generation;
    let mut draft = Draft::of(&ConsumerGroup::new(Arc::clone(id)));
    let mut members = Vec::with_capacity(logged.members.len());
    for member in &logged.members {
        let malformed = |_| cannot("classic", "the embedded consumer protocol is malformed");
        let said = consumer_protocol::Subscription::decode(&member.subscription).map_err(malformed)?;
        let (assigned, noted) = decode_assignment(&member.assignment).map_err(malformed)?;
        if noted {
            let why = "an unsupported custom assignor is in use. Please refer to the documentation or switch to a \
                       default assignor before re-attempting the upgrade";
            return Err(cannot("classic", why));
        }
        let named = assigned.iter().filter_map(|(name, partitions)| Some((around.image.topic(name)?.id, partitions)));
        let target: Partitions = named.map(|(id, partitions)| (id, partitions.clone())).collect();
        let subscription = Subscription {
            instance_id: member.instance_id.clone(),
            rack_id: said.rack_id,
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            topics: said.topics,
            regex: Some("".into()),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            assignor: None,
            classic: Some(ClassicMember {
                session_timeout_ms: member.session_timeout_ms,
                protocols: classic.protocols_of(&member.member_id),
            }),
        };
        draft.write(ConsumerRecord::Member(Arc::clone(&member.member_id), Some(subscription)));
        members.push((member, target));
    }
    let metadata_hash = draft.group.metadata_hash(around);
    draft.write(ConsumerRecord::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
    for (member, target) in &members {
        draft.write(ConsumerRecord::Target(Arc::clone(&member.member_id), Some(target.clone())));
    }
    draft.write(ConsumerRecord::TargetEpoch(Some(TargetEpoch { epoch, timestamp: 0 })));
    for (member, target) in members {
        let current =
            Current { epoch, previous_epoch: epoch, assigned: at_epoch(&target, epoch), ..Current::default() };
        draft.write(ConsumerRecord::Current(Arc::clone(&member.member_id), Some(current)));
        let session_at = around.now.after_ms(member.session_timeout_ms);
        draft.group.deadlines.of(&member.member_id).session = Some(session_at);
    }
    Ok(draft)
}

impl ConsumerGroup {
    /// Does the group become classic when these members go?
    pub fn downgrades_without(
        &self,
        leaving: &BTreeSet<Arc<str>>,
        policy: MigrationPolicy,
        classic_size_max: usize,
    ) -> bool {
        let stays = self.members.iter().filter(|(id, _)| !leaving.contains(*id));
        let count = stays.clone().count();
        count > 0
            && count <= classic_size_max
            && policy.downgrades()
            && stays.into_iter().all(|(_, member)| member.is_classic())
    }

    /// What the log gets of the classic group that takes this group's place, and the protocols of its members.
    pub fn downgraded(&self, leaving: &BTreeSet<Arc<str>>, image: &Image, wall_ms: i64) -> (GroupMetadata, Protocols) {
        let stays = || {
            let stays = self.members.iter().filter(|(id, _)| !leaving.contains(*id));
            stays.filter_map(|(id, member)| Some((id, member, member.subscription.classic.as_ref()?)))
        };
        let protocols: Protocols =
            stays().map(|(id, _, classic)| (Arc::clone(id), classic.protocols.clone())).collect();
        let protocol = ClassicGroup::elect(protocols.iter().map(|(_, protocols)| &protocols[..]));
        let nothing = Partitions::new();
        let members = stays().map(|(id, member, classic)| {
            let metadata = classic.protocols.iter().find(|(name, _)| Some(name) == protocol.as_ref());
            let metadata = metadata.map(|(_, metadata)| metadata.clone()).unwrap_or_default();
            let version = consumer_protocol::Subscription::decode(&metadata).map_or(0, |said| said.version);
            let target = by_name(self.target(id).map_or(&nothing, |target| &**target), image);
            MemberMetadata {
                member_id: Arc::clone(id),
                instance_id: member.subscription.instance_id.clone(),
                client_id: Arc::clone(&member.subscription.client_id),
                client_host: Arc::clone(&member.subscription.client_host),
                rebalance_timeout_ms: member.subscription.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                subscription: metadata,
                assignment: encode_assignment(version, &target),
            }
        });
        let metadata = GroupMetadata {
            protocol_type: CONSUMER_PROTOCOL.into(),
            generation: self.epoch.epoch,
            protocol: protocol.clone(),
            leader: protocols.first().map(|(id, _)| Arc::clone(id)),
            state_timestamp: wall_ms,
            members: members.collect(),
        };
        (metadata, protocols)
    }
}
