//! ShareGroupHeartbeat: a member joins, lives, learns what it may read, and leaves.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::records::ShareRecord;
use super::{Current, ShareDraft, ShareGroup, Subscription, Surroundings};
use crate::group::consumer::Refused;
use crate::group::consumer::heartbeat::HeartbeatAnswer;
use crate::group::consumer::member::{JOINS, LEAVES};
use crate::group::consumer::records::GroupEpoch;
use crate::protocol::error_code::ErrorCode;

/// A ShareGroupHeartbeat request. What is absent has not changed since the member said it.
#[derive(Debug, Clone)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member; its client makes the id.
    pub member_id: Arc<str>,
    /// Its epoch, 0 to join, -1 to leave.
    pub epoch: i32,
    /// Where it runs.
    pub rack_id: Option<Arc<str>>,
    /// The topics it names.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// From the request's header.
    pub client_id: Arc<str>,
    /// As Java prints an address.
    pub client_host: Arc<str>,
}

impl HeartbeatRequest {
    /// Does the request make sense by itself?
    pub fn check(&self) -> Result<(), Refused> {
        let invalid = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
        if self.member_id.trim().is_empty() {
            // Kafka has no message for this one.
            return invalid("");
        }
        if self.group.trim().is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if self.rack_id.as_ref().is_some_and(|rack| rack.trim().is_empty()) {
            return invalid("RackId can't be empty.");
        }
        if self.epoch == JOINS && self.topics.as_ref().is_none_or(BTreeSet::is_empty) {
            return invalid("SubscribedTopicNames must be set in first request.");
        }
        if self.epoch < LEAVES {
            return invalid("MemberEpoch is invalid.");
        }
        Ok(())
    }

    /// Does the member leave?
    pub fn leaves(&self) -> bool {
        self.epoch == LEAVES
    }

    /// The answer to one that leaves.
    pub fn farewell(&self) -> HeartbeatAnswer {
        HeartbeatAnswer { member_id: Arc::clone(&self.member_id), epoch: self.epoch, interval_ms: 0, assignment: None }
    }

    fn updated(&self, before: &Subscription) -> Subscription {
        Subscription {
            rack_id: self.rack_id.clone().or_else(|| before.rack_id.clone()),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            topics: self.topics.clone().unwrap_or_else(|| before.topics.clone()),
        }
    }
}

impl ShareGroup {
    /// The heartbeat of a member that has arrived, in a group where nothing moves: all but a few are. Such a one makes no
    /// record. `None` when it needs more.
    pub fn keep_alive(&mut self, request: &HeartbeatRequest, around: &Surroundings<'_>) -> Option<HeartbeatAnswer> {
        let (id, member) = self.members.get_key_value(&request.member_id)?;
        let (id, epoch) = (Arc::clone(id), member.current.epoch);
        let settled = request.epoch > 0
            && request.epoch == member.current.epoch
            && member.current.epoch == self.target_epoch.epoch
            && self.epoch.epoch <= self.target_epoch.epoch
            && self.seen_image == Some(around.image.generation)
            && request.updated(&member.subscription) == member.subscription
            && request.topics.is_none();
        if !settled || self.target_lacks_initialized(around) {
            return None;
        }
        self.sessions.insert(Arc::clone(&id), around.now.after_ms(around.limits.session_timeout_ms));
        let interval_ms = around.limits.heartbeat_interval_ms;
        Some(HeartbeatAnswer { member_id: id, epoch, interval_ms, assignment: None })
    }

    fn check_room(&self, id: &str, size_max: usize) -> Result<(), Refused> {
        if self.members.len() < size_max || self.members.contains_key(id) {
            return Ok(());
        }
        let message = format!("The share group has reached its maximum capacity of {size_max} members.");
        Err(Refused::new(ErrorCode::GroupMaxSizeReached, message))
    }
}

impl ShareDraft {
    /// A heartbeat of a member that joins or lives.
    pub fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        around: &Surroundings<'_>,
    ) -> Result<HeartbeatAnswer, Refused> {
        let id = &request.member_id;
        self.group.check_room(id, around.size_max)?;
        let (known, before) = match self.group.members.get(id) {
            None if request.epoch == JOINS => (false, super::Member::default()),
            _ => (true, super::Member::clone(self.group.member(id)?)),
        };
        check_epoch(&before.current, request.epoch)?;
        let updated = request.updated(&before.subscription);
        let bump = updated.topics != before.subscription.topics || !known;
        if updated != before.subscription || !known {
            self.write(ShareRecord::Member(Arc::clone(id), Some(updated)));
        }
        self.update_epoch(bump, around);
        self.update_target(around);
        self.follow_target(id, bump, around)?;
        self.group.sessions.insert(Arc::clone(id), around.now.after_ms(around.limits.session_timeout_ms));

        let current = &self.group.member(id)?.current;
        let tell = request.epoch == JOINS || request.topics.is_some() || current.assigned != before.current.assigned;
        Ok(HeartbeatAnswer {
            member_id: Arc::clone(id),
            epoch: current.epoch,
            interval_ms: around.limits.heartbeat_interval_ms,
            assignment: tell.then(|| current.assigned.clone()),
        })
    }

    /// Takes members out.
    pub fn remove_members(&mut self, ids: &BTreeSet<Arc<str>>, around: &Surroundings<'_>) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            self.write(ShareRecord::Current(Arc::clone(id), None));
            self.write(ShareRecord::Target(Arc::clone(id), None));
            self.write(ShareRecord::Member(Arc::clone(id), None));
        }
        let metadata_hash = self.group.metadata_hash(around);
        self.raise_epoch(metadata_hash);
    }

    /// Raises the group's epoch if `bump` says so, or if the subscribed topics changed since it last looked.
    fn update_epoch(&mut self, bump: bool, around: &Surroundings<'_>) {
        let pending = self.group.target_lacks_initialized(around);
        if !bump && !pending && self.group.seen_image == Some(around.image.generation) {
            return;
        }
        let metadata_hash = self.group.metadata_hash(around);
        if bump || pending || metadata_hash != self.group.epoch.metadata_hash {
            self.raise_epoch(metadata_hash);
        }
        self.group.seen_image = Some(around.image.generation);
    }

    fn raise_epoch(&mut self, metadata_hash: i64) {
        let epoch = self.group.epoch.epoch.saturating_add(1);
        self.write(ShareRecord::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
    }

    /// A member is at the target at once: nobody has to let go of anything for it. A target that is older than the member's
    /// subscription may give it topics that it no longer names; those are not its own from the moment it says so.
    fn follow_target(
        &mut self,
        id: &Arc<str>,
        subscription_changed: bool,
        around: &Surroundings<'_>,
    ) -> Result<(), Refused> {
        let epoch = self.group.target_epoch.epoch;
        let member = self.group.member(id)?;
        let before = &member.current;
        let moves = before.epoch != epoch;
        if !moves && !subscription_changed {
            return Ok(());
        }
        let assigned = self.group.subscribed_target(id, &member.subscription, around.image);
        if !moves && assigned == before.assigned {
            return Ok(());
        }
        let previous_epoch = if moves { before.epoch } else { before.previous_epoch };
        self.write(ShareRecord::Current(Arc::clone(id), Some(Current { epoch, previous_epoch, assigned })));
        Ok(())
    }
}

/// A member may be one answer behind.
fn check_epoch(current: &Current, said: i32) -> Result<(), Refused> {
    let (known, previous) = (current.epoch, current.previous_epoch);
    let message = if said == JOINS || said == known || said == previous {
        return Ok(());
    } else if said > known {
        format!(
            "The share group member has a greater member epoch ({said}) than the one known by the group coordinator \
             ({known}). The member must abandon all its partitions and rejoin."
        )
    } else {
        format!(
            "The share group member has a smaller member epoch ({said}) than the one known by the group coordinator \
             ({known}), and it does not match the previous member epoch ({previous}). The member must abandon all its \
             partitions and rejoin."
        )
    };
    Err(Refused::new(ErrorCode::FencedMemberEpoch, message))
}
