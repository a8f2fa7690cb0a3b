//! ConsumerGroupHeartbeat: a member joins, lives, follows its assignment, and leaves.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::assignor::Assignor;
use super::member::{JOINS, LEAVES, LEAVES_FOR_NOW, Member, MemberState, Subscription};
use super::reconcile::Step;
use super::records::{ConsumerRecord, without_epochs};
use super::{ConsumerGroup, Draft, EpochPartitions, Partitions, Refused, Surroundings};
use crate::protocol::error_code::ErrorCode;

/// A ConsumerGroupHeartbeat request. What is absent has not changed since the member said it.
#[derive(Debug, Clone)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member; a client of version 0 may leave it to us.
    pub member_id: Arc<str>,
    /// Its epoch, or one of [`JOINS`], [`LEAVES`], [`LEAVES_FOR_NOW`].
    pub epoch: i32,
    /// Set by a static member.
    pub instance_id: Option<Arc<str>>,
    /// Where it runs.
    pub rack_id: Option<Arc<str>>,
    /// How long it may take to give partitions back; -1 when unchanged.
    pub rebalance_timeout_ms: i32,
    /// The topics it names.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// The regular expression it names.
    pub regex: Option<Arc<str>>,
    /// The assignor it would like.
    pub assignor: Option<Arc<str>>,
    /// What it owns.
    pub owned: Option<Partitions>,
    /// From the request's header.
    pub client_id: Arc<str>,
    /// As Java prints an address.
    pub client_host: Arc<str>,
}

/// The answer to a heartbeat that is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// The member's id.
    pub member_id: Arc<str>,
    /// The epoch of its next heartbeat.
    pub epoch: i32,
    /// When that should come; 0 to one that leaves.
    pub interval_ms: i32,
    /// What it shall own, when it changed or may not be known.
    pub assignment: Option<Partitions>,
}

impl HeartbeatRequest {
    /// Does the request make sense by itself? `needs_id` since version 1: clients make their ids.
    pub fn check(&self, needs_id: bool, assignors: &[Assignor]) -> Result<(), Refused> {
        let invalid = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
        let blank = |text: Option<&Arc<str>>| text.is_some_and(|text| text.trim().is_empty());
        if (needs_id || self.epoch > 0 || self.epoch == LEAVES) && blank(Some(&self.member_id)) {
            return invalid("MemberId can't be empty.");
        }
        if blank(Some(&self.group)) {
            return invalid("GroupId can't be empty.");
        }
        if blank(self.instance_id.as_ref()) {
            return invalid("InstanceId can't be empty.");
        }
        if blank(self.rack_id.as_ref()) {
            return invalid("RackId can't be empty.");
        }
        if self.epoch == JOINS {
            if self.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if self.topics.is_none() && self.regex.is_none() {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
        } else if self.epoch == LEAVES_FOR_NOW && self.instance_id.is_none() {
            return invalid("InstanceId can't be null.");
        } else if self.epoch < LEAVES_FOR_NOW {
            return invalid("MemberEpoch is invalid.");
        }
        let known = |name: &Arc<str>| assignors.iter().any(|assignor| assignor.name() == &**name);
        if let Some(name) = &self.assignor
            && !known(name)
        {
            let names: Vec<_> = assignors.iter().map(|assignor| assignor.name()).collect();
            let message = format!("ServerAssignor {name} is not supported. Supported assignors: {}.", names.join(", "));
            return Err(Refused::new(ErrorCode::UnsupportedAssignor, message));
        }
        Ok(())
    }

    /// Does the member leave, for good or for a while?
    pub fn leaves(&self) -> bool {
        matches!(self.epoch, LEAVES | LEAVES_FOR_NOW)
    }

    /// Does it say all that a member can say? Then it may have lost our last answer, and gets its assignment again.
    fn is_full(&self) -> bool {
        self.rebalance_timeout_ms != -1 && (self.topics.is_some() || self.regex.is_some()) && self.owned.is_some()
    }

    /// What the member told, with what is new.
    fn updated(&self, before: &Subscription) -> Subscription {
        Subscription {
            instance_id: self.instance_id.clone().or_else(|| before.instance_id.clone()),
            rack_id: self.rack_id.clone().or_else(|| before.rack_id.clone()),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            topics: self.topics.clone().unwrap_or_else(|| before.topics.clone()),
            regex: self.regex.clone().or_else(|| before.regex.clone()),
            rebalance_timeout_ms: match self.rebalance_timeout_ms {
                -1 => before.rebalance_timeout_ms,
                timeout_ms => timeout_ms,
            },
            assignor: self.assignor.clone().or_else(|| before.assignor.clone()),
            classic: None,
        }
    }

    /// Does it say nothing that the group doesn't know?
    fn says_nothing_new(&self, before: &Subscription) -> bool {
        let same = |said: &Option<Arc<str>>, known: &Option<Arc<str>>| said.is_none() || said == known;
        before.classic.is_none()
            && same(&self.instance_id, &before.instance_id)
            && same(&self.rack_id, &before.rack_id)
            && same(&self.regex, &before.regex)
            && same(&self.assignor, &before.assignor)
            && self.topics.as_ref().is_none_or(|topics| *topics == before.topics)
            && (self.rebalance_timeout_ms == -1 || self.rebalance_timeout_ms == before.rebalance_timeout_ms)
            && self.client_id == before.client_id
            && self.client_host == before.client_host
    }
}

impl ConsumerGroup {
    /// The heartbeat of a member that has arrived, in a group where nothing moves: all but a few are. Such a one makes no
    /// record. `None` when it needs more.
    pub fn keep_alive(&mut self, request: &HeartbeatRequest, around: &Surroundings<'_>) -> Option<HeartbeatAnswer> {
        let (id, member) = self.members.get_key_value(&request.member_id)?;
        let settled = request.epoch > 0
            && request.epoch == member.current.epoch
            && member.current.is_reconciled_to(self.target_epoch.epoch)
            && self.epoch.epoch <= self.target_epoch.epoch
            && self.seen_image == Some(around.image.generation)
            && request.says_nothing_new(&member.subscription)
            && !self.may_resolve(around);
        if !settled {
            return None;
        }
        let assignment = request.is_full().then(|| without_epochs(&member.current.assigned));
        let (id, epoch) = (Arc::clone(id), member.current.epoch);
        self.deadlines.of(&id).session = Some(around.now.after_ms(around.limits.session_timeout_ms));
        Some(HeartbeatAnswer { member_id: id, epoch, interval_ms: around.limits.heartbeat_interval_ms, assignment })
    }
}

impl Draft {
    /// A heartbeat of a member that joins or lives; its id is not empty.
    pub fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        around: &Surroundings<'_>,
    ) -> Result<HeartbeatAnswer, Refused> {
        let id = &request.member_id;
        self.group.check_room(id, around.size_max)?;
        let before = match &request.instance_id {
            None => self.dynamic_member(request)?,
            Some(instance_id) => self.static_member(request, instance_id)?,
        };
        let updated = request.updated(&before.subscription);
        let changed = self.update_subscription(id, &before.subscription, updated, around)?;
        self.update_epoch(changed.bumps(), around);
        self.update_target(around);
        self.reconcile(id, changed.any(), request.owned.as_ref(), around)?;
        self.group.deadlines.of(id).session = Some(around.now.after_ms(around.limits.session_timeout_ms));

        let current = &self.group.known_member(id)?.current;
        let tell = request.epoch == JOINS || request.is_full() || current.assigned != before.current.assigned;
        Ok(HeartbeatAnswer {
            member_id: Arc::clone(id),
            epoch: current.epoch,
            interval_ms: around.limits.heartbeat_interval_ms,
            assignment: tell.then(|| without_epochs(&current.assigned)),
        })
    }

    /// A member without static id, new if it joins.
    fn dynamic_member(&self, request: &HeartbeatRequest) -> Result<Member, Refused> {
        let member = match self.group.member(&request.member_id) {
            None if request.epoch == JOINS => Member::default(),
            _ => Member::clone(self.group.known_member(&request.member_id)?),
        };
        check_epoch(&member, request)?;
        Ok(member)
    }

    /// A static member. One that joins under a new id takes the place of the old one, if that has left.
    fn static_member(&mut self, request: &HeartbeatRequest, instance_id: &Arc<str>) -> Result<Member, Refused> {
        let (id, known) = (&request.member_id, self.group.static_member(instance_id));
        if request.epoch != JOINS {
            let (owner, member) = known.ok_or_else(|| unknown_instance(instance_id))?;
            check_instance(owner, id, instance_id)?;
            check_epoch(member, request)?;
            return Ok(Member::clone(member));
        }
        let Some((owner, member)) = known else {
            return Ok(self.group.member(id).map(|member| Member::clone(member)).unwrap_or_default());
        };
        if !member.is_classic() && member.current.epoch != LEAVES_FOR_NOW {
            let message = format!(
                "Static member {id} with instance id {instance_id} cannot join the group because the instance id is \
                 owned by {owner} member."
            );
            return Err(Refused::new(ErrorCode::UnreleasedInstanceId, message));
        }
        let (owner, member) = (Arc::clone(owner), Member::clone(member));
        Ok(self.replace_static(&owner, member, id))
    }

    /// `new_id` takes over what the static member has, at epoch 0; returns it.
    pub(super) fn replace_static(&mut self, old_id: &Arc<str>, mut member: Member, new_id: &Arc<str>) -> Member {
        let target = self.group.target(old_id).map(|target| Partitions::clone(target)).unwrap_or_default();
        member.current.epoch = 0;
        member.current.previous_epoch = 0;
        self.remove_member(old_id);
        self.write(ConsumerRecord::Member(Arc::clone(new_id), Some(member.subscription.clone())));
        self.write(ConsumerRecord::Target(Arc::clone(new_id), Some(target)));
        self.write(ConsumerRecord::Current(Arc::clone(new_id), Some(member.current.clone())));
        member
    }

    /// One step of the member towards the target, if there is one to take.
    pub(super) fn reconcile(
        &mut self,
        id: &Arc<str>,
        subscription_changed: bool,
        owned: Option<&Partitions>,
        around: &Surroundings<'_>,
    ) -> Result<(), Refused> {
        let target_epoch = self.group.target_epoch.epoch;
        let member = self.group.known_member(id)?;
        if !subscription_changed && member.current.is_reconciled_to(target_epoch) {
            return Ok(());
        }
        let nothing = Partitions::new();
        let step = Step {
            current: &member.current,
            target_epoch,
            target: self.group.target(id).map_or(&nothing, |target| &**target),
            subscribed: &self.group.subscribed_ids(&member.subscription, around.image),
            subscription_changed,
            owned,
            is_owned: &|topic, partition| self.group.owner_epochs.contains_key(&(*topic, partition)),
        };
        let next = step.take().map_err(|_| {
            let message = "The consumer group member is in a unknown state. \
                           The member must abandon all its partitions and rejoin.";
            Refused::new(ErrorCode::FencedMemberEpoch, message)
        })?;
        if next == member.current {
            return Ok(());
        }
        if !member.is_classic() {
            let until = around.now.after_ms(member.subscription.rebalance_timeout_ms);
            let revoke = (next.state == MemberState::Unrevoked).then_some((until, next.epoch));
            self.group.deadlines.of(id).revoke = revoke;
        }
        self.write(ConsumerRecord::Current(Arc::clone(id), Some(next)));
        Ok(())
    }
}

impl ConsumerGroup {
    /// Is there room for this member?
    pub(super) fn check_room(&self, id: &str, size_max: usize) -> Result<(), Refused> {
        if self.members.len() < size_max || self.members.contains_key(id) {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {size_max} members.");
        Err(Refused::new(ErrorCode::GroupMaxSizeReached, message))
    }
}

/// A member may be one answer behind: with the epoch before and nothing that the new one took from it.
fn check_epoch(member: &Member, request: &HeartbeatRequest) -> Result<(), Refused> {
    let (said, known) = (request.epoch, member.current.epoch);
    let fenced = |than: &str| {
        let message = format!(
            "The consumer group member has a {than} member epoch ({said}) than the one known by the group coordinator \
             ({known}). The member must abandon all its partitions and rejoin."
        );
        Err(Refused::new(ErrorCode::FencedMemberEpoch, message))
    };
    if said == JOINS || said == known {
        Ok(())
    } else if said > known {
        fenced("greater")
    } else if said == member.current.previous_epoch && owns_no_more(request.owned.as_ref(), &member.current.assigned) {
        Ok(())
    } else {
        fenced("smaller")
    }
}

fn owns_no_more(owned: Option<&Partitions>, assigned: &EpochPartitions) -> bool {
    owned.is_some_and(|owned| {
        owned.iter().all(|(topic, partitions)| {
            assigned.get(topic).is_some_and(|assigned| partitions.iter().all(|one| assigned.contains_key(one)))
        })
    })
}

/// No member has this static id.
pub(super) fn unknown_instance(instance_id: &str) -> Refused {
    Refused::new(ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))
}

/// Another member has taken the static id.
pub(super) fn check_instance(owner: &str, id: &str, instance_id: &str) -> Result<(), Refused> {
    if owner == id {
        return Ok(());
    }
    let message = format!("Static member {id} with instance id {instance_id} was fenced by member {owner}.");
    Err(Refused::new(ErrorCode::FencedInstanceId, message))
}
