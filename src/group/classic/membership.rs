//! Who is a member: the check that every request passes, heartbeats, and leaving.

use std::sync::Arc;

use super::{Answer, ClassicGroup, Joined, Now, Out, ReplyId, State, Synced};
use crate::config::server::GroupSettings;
use crate::protocol::error_code::ErrorCode;

/// A Heartbeat request.
#[derive(Debug, Clone)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member_id: Arc<str>,
    /// Set by a static member.
    pub instance_id: Option<Arc<str>>,
    /// The generation it is in.
    pub generation: i32,
}

/// One member that leaves, or is made to: a static member may be named by its instance id alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Its id, or empty.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
}

impl ClassicGroup {
    /// UNKNOWN_MEMBER_ID for one that isn't there, FENCED_INSTANCE_ID where another has taken its static id.
    pub fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if &**current != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// One Heartbeat.
    pub fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => {
                self.heard_of(&request.member_id, now);
                Err(ErrorCode::RebalanceInProgress)
            }
            // A member may send heartbeats as soon as it has its JoinGroup answer.
            State::CompletingRebalance | State::Stable => {
                self.heard_of(&request.member_id, now);
                Ok(())
            }
        }
    }

    /// May offsets be committed with this membership? Commits from outside the group have generation -1 and no member.
    pub fn check_commit(&self, member_id: &str, instance_id: Option<&str>, generation: i32) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.state == State::CompletingRebalance {
            // The member knows the new generation but not yet what it owns in it.
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// May this member commit offsets within a transaction? Also from outside of the group, and while it rebalances.
    pub fn check_transactional_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        let from_outside =
            generation < 0 && (self.state == State::Empty || (member_id.is_empty() && instance_id.is_none()));
        if from_outside {
            return Ok(());
        }
        self.check_member(member_id, instance_id)?;
        if generation == self.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// A commit of a member also keeps its session.
    pub fn heard_by_commit(&mut self, member_id: &str, now: Now) {
        if matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.heard_of(member_id, now);
        }
    }

    /// Begins a member's session anew.
    pub(super) fn heard_of(&mut self, member_id: &str, now: Now) {
        if let Some(member) = self.member_mut(member_id) {
            member.expires_at = Some(now.after_ms(member.session_timeout_ms));
        }
    }

    /// One LeaveGroup; the outcome of each member in the order of the request.
    pub fn leave(
        &mut self,
        leaving: &[Leaving],
        now: Now,
        settings: &GroupSettings,
        out: &mut Out,
    ) -> Vec<Result<(), ErrorCode>> {
        let outcomes: Vec<_> = leaving.iter().map(|member| self.leave_one(member, out)).collect();
        if outcomes.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.rebalance_or_complete(now, settings, out),
                State::PreparingRebalance => self.complete_if_all_joined(now, out),
                State::Empty => {}
            }
        }
        outcomes
    }

    fn leave_one(&mut self, leaving: &Leaving, out: &mut Out) -> Result<(), ErrorCode> {
        let member_id = if leaving.member_id.is_empty() {
            // An operator removes a static member by the id it was given.
            let instance_id = leaving.instance_id.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
            Arc::clone(self.static_members.get(instance_id).ok_or(ErrorCode::UnknownMemberId)?)
        } else if self.pending_join.contains_key(&leaving.member_id) {
            Arc::clone(&leaving.member_id)
        } else {
            self.check_member(&leaving.member_id, leaving.instance_id.as_deref())?;
            Arc::clone(&leaving.member_id)
        };
        self.remove(&member_id, out);
        Ok(())
    }

    /// Takes a member or a pending id out; who still waits under it is told that it is unknown.
    pub(super) fn remove(&mut self, member_id: &str, out: &mut Out) {
        if let Some(member) = self.members.shift_remove(member_id) {
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
            if let Some(reply) = member.awaiting_join {
                out.answers.push((reply, Answer::Join(Joined::refused("".into(), ErrorCode::UnknownMemberId))));
            }
            if let Some(reply) = member.awaiting_sync {
                out.answers.push((reply, Answer::Sync(Synced::refused(ErrorCode::UnknownMemberId))));
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.first().map(|(id, _)| Arc::clone(id));
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
    }

    /// Tells whoever waits under the old id of a static member that another has taken its place.
    pub(super) fn fence(&self, old_id: &Arc<str>, join: Option<ReplyId>, sync: Option<ReplyId>, out: &mut Out) {
        let fenced = ErrorCode::FencedInstanceId;
        out.answers.extend(join.map(|reply| (reply, Answer::Join(Joined::refused(Arc::clone(old_id), fenced)))));
        out.answers.extend(sync.map(|reply| (reply, Answer::Sync(Synced::refused(fenced)))));
    }
}
