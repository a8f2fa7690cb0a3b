//! SyncGroup: the leader's assignment goes to everyone, through the log.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, ClassicGroup, Now, Out, ReplyId, State};
use crate::protocol::error_code::ErrorCode;

/// A SyncGroup request.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member_id: Arc<str>,
    /// Set by a static member.
    pub instance_id: Option<Arc<str>>,
    /// The generation it joined.
    pub generation: i32,
    /// Version 5+: what it takes for the group's type.
    pub protocol_type: Option<Arc<str>>,
    /// Version 5+: what it takes for the chosen protocol.
    pub protocol: Option<Arc<str>>,
    /// From the leader: member id to assignment.
    pub assignments: HashMap<Arc<str>, Bytes>,
}

/// The answer to a SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The outcome.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol: Option<Arc<str>>,
    /// What the leader assigned.
    pub assignment: Bytes,
}

impl Synced {
    /// An answer that says no.
    pub fn refused(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

impl ClassicGroup {
    /// One SyncGroup. A follower's answer waits for the leader's assignment.
    pub fn sync(&mut self, request: &SyncRequest, reply: ReplyId, now: Now, out: &mut Out) {
        if let Err(error) = self.check_sync(request) {
            return out.answers.push((reply, Answer::Sync(Synced::refused(error))));
        }
        match self.state {
            State::Empty => out.answers.push((reply, Answer::Sync(Synced::refused(ErrorCode::UnknownMemberId)))),
            State::PreparingRebalance => {
                out.answers.push((reply, Answer::Sync(Synced::refused(ErrorCode::RebalanceInProgress))));
            }
            State::CompletingRebalance => {
                if let Some(earlier) = self.member_mut(&request.member_id).and_then(|m| m.awaiting_sync.replace(reply))
                {
                    out.answers.push((earlier, Answer::Sync(Synced::refused(ErrorCode::RebalanceInProgress))));
                }
                self.synced(&request.member_id);
                if self.is_leader(&request.member_id) {
                    self.assign(&request.assignments, now, out);
                }
            }
            State::Stable => {
                self.synced(&request.member_id);
                let assignment =
                    self.members.get(&request.member_id).map(|member| member.assignment.clone()).unwrap_or_default();
                out.answers.push((reply, Answer::Sync(self.assigned(assignment))));
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |theirs: &Option<Arc<str>>, ours: &Option<Arc<str>>| {
            theirs.is_some() && ours.is_some() && theirs.as_deref() != ours.as_deref()
        };
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn synced(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = None;
        }
    }

    /// Gives everyone what the leader decided; a member it forgot gets nothing.
    fn assign(&mut self, assignments: &HashMap<Arc<str>, Bytes>, now: Now, out: &mut Out) {
        for (id, member) in &mut self.members {
            Arc::make_mut(member).assignment = assignments.get(id).cloned().unwrap_or_default();
        }
        self.transition(State::Stable, now);
        self.answer_syncs(ErrorCode::None, now, out);
        out.write = true;
    }

    /// Takes all assignments back and tells those who wait for one.
    pub(super) fn withdraw_assignments(&mut self, error: ErrorCode, now: Now, out: &mut Out) {
        for member in self.members.values_mut() {
            Arc::make_mut(member).assignment = Bytes::new();
        }
        self.answer_syncs(error, now, out);
    }

    fn answer_syncs(&mut self, error: ErrorCode, now: Now, out: &mut Out) {
        let granted = self.assigned(Bytes::new());
        for member in self.members.values_mut().filter(|member| member.awaiting_sync.is_some()) {
            let member = Arc::make_mut(member);
            member.expires_at = Some(now.after_ms(member.session_timeout_ms));
            let answer = match error {
                ErrorCode::None => Synced { assignment: member.assignment.clone(), ..granted.clone() },
                error => Synced::refused(error),
            };
            out.answers.extend(member.awaiting_sync.take().map(|reply| (reply, Answer::Sync(answer))));
        }
    }

    fn assigned(&self, assignment: Bytes) -> Synced {
        Synced {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }
}
