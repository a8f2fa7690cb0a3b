//! Members of the classic protocol in a consumer group, while it migrates: JoinGroup, SyncGroup and Heartbeat tell them of
//! the same epochs and assignments. None of them leads; the coordinator assigns.
//!
//! ```text
//!  JoinGroup   one step towards the target, the answer's generation is the member's epoch
//!  SyncGroup   the partitions of that epoch
//!  Heartbeat   REBALANCE_IN_PROGRESS while there is another step to take
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use super::heartbeat::{check_instance, unknown_instance};
use super::member::{ClassicMember, Member, MemberState, Subscription};
use super::migration::MigrationPolicy;
use super::records::without_epochs;
use super::{ConsumerGroup, Draft, Partitions, Refused, Surroundings};
use crate::coordinator::Now;
use crate::group::classic::{CONSUMER_PROTOCOL, HeartbeatRequest, JoinRequest, Joined, Leaving, SyncRequest, Synced};
use crate::group::consumer_protocol::{self, NamedPartitions, encode_assignment};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

/// A classic member is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicJoin {
    /// Its answer.
    pub joined: Joined,
    /// It took the place of the last member of the consumer protocol, so that the group becomes classic; true where that
    /// means a rebalance.
    pub downgrade: Option<bool>,
}

impl Draft {
    /// JoinGroup. `fresh_id` is the id of a member that has none.
    pub fn classic_join(
        &mut self,
        request: &JoinRequest,
        fresh_id: &Arc<str>,
        policy: MigrationPolicy,
        classic_size_max: usize,
        around: &Surroundings<'_>,
    ) -> Result<ClassicJoin, ErrorCode> {
        if policy == MigrationPolicy::Disabled {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_new = request.member_id.is_empty();
        let id = if is_new { fresh_id } else { &request.member_id };
        self.group.check_room(id, around.size_max).map_err(|refused| refused.code)?;
        if !self.group.supports(request) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if is_new && request.instance_id.is_none() && request.needs_known_member_id {
            let joined = Joined::refused(Arc::clone(id), ErrorCode::MemberIdRequired);
            return Ok(ClassicJoin { joined, downgrade: None });
        }
        let (protocol, metadata) = request.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let said = consumer_protocol::Subscription::decode(metadata).map_err(|_| ErrorCode::UnknownServerError)?;
        let replaced = request.instance_id.as_ref().and_then(|instance_id| self.group.static_member(instance_id));
        let downgrade = replaced.is_some_and(|(_, old)| {
            !old.is_classic()
                && self.group.classic_member_count() + 1 == self.group.member_count()
                && policy.downgrades()
                && self.group.member_count() <= classic_size_max
        });
        let before = self.classic_member(id, request.instance_id.as_ref(), is_new).map_err(|refused| refused.code)?;
        let updated = updated(request, &said, &before.subscription);
        let changed =
            self.update_subscription(id, &before.subscription, updated, around).map_err(|refused| refused.code)?;
        self.update_epoch(changed.any(), around);
        let stale = self.group.target_epoch.epoch < self.group.epoch.epoch;
        if !downgrade {
            self.update_target(around);
        }
        if !(downgrade && stale) {
            let owned = by_id(&said.owned, around.image);
            self.reconcile(id, changed.any(), Some(&owned), around).map_err(|refused| refused.code)?;
        }
        let generation = self.group.member(id).map_or(-1, |member| member.current.epoch);
        let deadlines = self.group.deadlines.of(id);
        deadlines.join = None;
        deadlines.session = Some(around.now.after_ms(request.session_timeout_ms));
        deadlines.sync = Some(around.now.after_ms(request.rebalance_timeout_ms));
        let joined = Joined {
            error: ErrorCode::None,
            generation,
            protocol_type: Some(CONSUMER_PROTOCOL.into()),
            protocol: Some(Arc::clone(protocol)),
            leader: "".into(),
            skip_assignment: false,
            member_id: Arc::clone(id),
            members: Vec::new(),
        };
        Ok(ClassicJoin { joined, downgrade: downgrade.then_some(stale) })
    }

    /// The member as it was, new if there is none; one with a static id and no other takes the place of the old.
    fn classic_member(
        &mut self,
        id: &Arc<str>,
        instance_id: Option<&Arc<str>>,
        is_new: bool,
    ) -> Result<Member, Refused> {
        let Some(instance_id) = instance_id else {
            return Ok(self.group.member(id).map(|member| Member::clone(member)).unwrap_or_default());
        };
        match self.group.static_member(instance_id) {
            None if is_new => Ok(Member::default()),
            None => Err(unknown_instance(instance_id)),
            Some((owner, member)) if is_new => {
                let (owner, member) = (Arc::clone(owner), Member::clone(member));
                Ok(self.replace_static(&owner, member, id))
            }
            Some((owner, member)) => check_instance(owner, id, instance_id).map(|()| Member::clone(member)),
        }
    }
}

fn updated(request: &JoinRequest, said: &consumer_protocol::Subscription, before: &Subscription) -> Subscription {
    Subscription {
        instance_id: request.instance_id.clone().or_else(|| before.instance_id.clone()),
        rack_id: said.rack_id.clone().or_else(|| before.rack_id.clone()),
        client_id: Arc::clone(&request.client_id),
        client_host: Arc::clone(&request.client_host),
        topics: said.topics.clone(),
        regex: Some("".into()),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            timeout_ms => timeout_ms,
        },
        assignor: before.assignor.clone(),
        classic: Some(ClassicMember {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
        }),
    }
}

fn by_id(named: &NamedPartitions, image: &Image) -> Partitions {
    let id = |(name, partitions): (&Arc<str>, &BTreeSet<i32>)| Some((image.topic(name)?.id, partitions.clone()));
    named.iter().filter_map(id).collect()
}

/// Names of those topics that still exist.
pub(super) fn by_name(partitions: &Partitions, image: &Image) -> NamedPartitions {
    let name = |(id, partitions): (&uuid::Uuid, &BTreeSet<i32>)| {
        Some((Arc::clone(&image.topic_by_id(id)?.name), partitions.clone()))
    };
    partitions.iter().filter_map(name).collect()
}

impl ConsumerGroup {
    /// Members of the classic protocol.
    pub fn classic_member_count(&self) -> usize {
        self.members.values().filter(|member| member.is_classic()).count()
    }

    /// One of its protocols must be common to all classic members.
    fn supports(&self, request: &JoinRequest) -> bool {
        let speaks = |member: &ClassicMember, name: &str| member.protocols.iter().any(|(known, _)| &**known == name);
        let classic = self.members.values().filter_map(|member| member.subscription.classic.as_ref());
        let common = |name: &Arc<str>| classic.clone().all(|member| speaks(member, name));
        &*request.protocol_type == CONSUMER_PROTOCOL && request.protocols.iter().any(|(name, _)| common(name))
    }

    fn checked_classic_member(
        &self,
        id: &Arc<str>,
        instance_id: Option<&Arc<str>>,
        generation: i32,
    ) -> Result<&Arc<Member>, ErrorCode> {
        if let Some(instance_id) = instance_id {
            let (owner, _) = self.static_member(instance_id).ok_or(ErrorCode::UnknownMemberId)?;
            check_instance(owner, id, instance_id).map_err(|refused| refused.code)?;
        }
        let member = self.members.get(id).filter(|member| member.is_classic()).ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == generation { Ok(member) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// SyncGroup.
    pub fn classic_sync(&mut self, request: &SyncRequest, image: &Image, now: Now) -> Result<Synced, ErrorCode> {
        let id = &request.member_id;
        let member = self.checked_classic_member(id, request.instance_id.as_ref(), request.generation)?;
        let Some(classic) = &member.subscription.classic else { return Err(ErrorCode::UnknownMemberId) };
        let (name, metadata) = classic.protocols.first().ok_or(ErrorCode::UnknownServerError)?;
        let other_type = request.protocol_type.as_deref().is_some_and(|named| named != CONSUMER_PROTOCOL);
        if other_type || request.protocol.as_ref().is_some_and(|named| named != name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let behind = self.target_epoch.epoch > member.current.epoch && member.current.state != MemberState::Unrevoked;
        let (rebalance_timeout_ms, session_timeout_ms) =
            (member.subscription.rebalance_timeout_ms, classic.session_timeout_ms);
        let version = consumer_protocol::Subscription::decode(metadata).map_or(0, |said| said.version);
        let assignment = encode_assignment(version, &by_name(&without_epochs(&member.current.assigned), image));
        let deadlines = self.deadlines.of(id);
        if behind {
            deadlines.join.get_or_insert(now.after_ms(rebalance_timeout_ms));
            return Err(ErrorCode::RebalanceInProgress);
        }
        deadlines.sync = None;
        deadlines.session = Some(now.after_ms(session_timeout_ms));
        Ok(Synced {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.clone(),
            protocol: request.protocol.clone(),
            assignment,
        })
    }

    /// Heartbeat.
    pub fn classic_heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> Result<(), ErrorCode> {
        let id = &request.member_id;
        let member = self.checked_classic_member(id, request.instance_id.as_ref(), request.generation)?;
        let Some(classic) = &member.subscription.classic else { return Err(ErrorCode::UnknownMemberId) };
        let can_step = match member.current.state {
            _ if member.current.epoch < self.target_epoch.epoch => true,
            MemberState::Unrevoked => true,
            MemberState::Unreleased => !self.waits_for_others(id, member),
            MemberState::Stable | MemberState::Unknown(_) => false,
        };
        let (rebalance_timeout_ms, session_timeout_ms) =
            (member.subscription.rebalance_timeout_ms, classic.session_timeout_ms);
        let deadlines = self.deadlines.of(id);
        deadlines.session = Some(now.after_ms(session_timeout_ms));
        if can_step {
            deadlines.join.get_or_insert(now.after_ms(rebalance_timeout_ms));
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Do others still own what the target gives this member?
    fn waits_for_others(&self, id: &str, member: &Member) -> bool {
        let has = |topic, partition| {
            member.current.assigned.get(topic).is_some_and(|partitions| partitions.contains_key(partition))
        };
        let target = self.target(id).into_iter().flat_map(|target| target.iter());
        target
            .flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (topic, partition)))
            .any(|(topic, partition)| !has(topic, partition) && self.owner_epochs.contains_key(&(*topic, *partition)))
    }

    /// LeaveGroup: who goes, and the outcome of each in the order of the request.
    pub fn classic_leave(&self, leaving: &[Leaving]) -> (BTreeSet<Arc<str>>, Vec<Result<(), ErrorCode>>) {
        let who = |one: &Leaving| -> Result<Arc<str>, ErrorCode> {
            let Some(instance_id) = &one.instance_id else {
                return self.known_member(&one.member_id).map(|_| Arc::clone(&one.member_id)).map_err(|r| r.code);
            };
            let (owner, _) = self.static_member(instance_id).ok_or(ErrorCode::UnknownMemberId)?;
            if !one.member_id.is_empty() {
                check_instance(owner, &one.member_id, instance_id).map_err(|refused| refused.code)?;
            }
            Ok(Arc::clone(owner))
        };
        let found: Vec<_> = leaving.iter().map(who).collect();
        let gone = found.iter().flatten().cloned().collect();
        (gone, found.into_iter().map(|one| one.map(|_| ())).collect())
    }
}
