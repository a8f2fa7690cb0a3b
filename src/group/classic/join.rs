//! JoinGroup: who may come in, under which id, and whether that means a rebalance.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, ClassicGroup, Member, Now, Out, ReplyId, State};
use crate::config::server::GroupSettings;
use crate::protocol::error_code::ErrorCode;

/// How long a new member may wait for its first JoinGroup answer. It cannot send heartbeats yet, and a client that went
/// away would otherwise be waited for in every rebalance (Kafka's fixed 5 minutes).
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

/// A JoinGroup request.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The group.
    pub group: Arc<str>,
    /// Empty for one that has none yet.
    pub member_id: Arc<str>,
    /// Set by a static member.
    pub instance_id: Option<Arc<str>>,
    /// From the request's header.
    pub client_id: Arc<str>,
    /// As Java prints an address: "/127.0.0.1".
    pub client_host: Arc<str>,
    /// How long it lives without a heartbeat.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// "consumer", "connect" or any other.
    pub protocol_type: Arc<str>,
    /// In order of preference.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Version 4+: a dynamic member learns its id first and joins with it.
    pub needs_known_member_id: bool,
    /// Version 9+: understands that its assignment stands (KIP-814).
    pub understands_skip_assignment: bool,
}

/// The answer to a JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The outcome.
    pub error: ErrorCode,
    /// The generation, -1 without one.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol: Option<Arc<str>>,
    /// The member that assigns.
    pub leader: Arc<str>,
    /// The leader need not assign anew.
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Arc<str>,
    /// For the leader only: all members.
    pub members: Vec<JoinedMember>,
}

/// One member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

impl Joined {
    /// An answer that says no.
    pub fn refused(member_id: Arc<str>, error: ErrorCode) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

impl ClassicGroup {
    /// One JoinGroup. `fresh_id` is the id that a new member gets. The answer may come at once, or with the end of the
    /// rebalance.
    pub fn join(
        &mut self,
        request: &JoinRequest,
        reply: ReplyId,
        fresh_id: &Arc<str>,
        now: Now,
        settings: &GroupSettings,
        out: &mut Out,
    ) {
        let refuse = |out: &mut Out, member_id: &Arc<str>, error| {
            out.answers.push((reply, Answer::Join(Joined::refused(Arc::clone(member_id), error))));
        };
        let nobody: Arc<str> = "".into();
        if !self.accepts(&request.member_id, settings) {
            self.remove(&request.member_id, out);
            return refuse(out, &nobody, ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return refuse(out, &request.member_id, ErrorCode::InconsistentGroupProtocol);
        }
        if request.member_id.is_empty() {
            let known = request.instance_id.as_ref().and_then(|instance| self.static_members.get(instance)).cloned();
            match (known, &request.instance_id) {
                (Some(old_id), _) => self.replace_static(request, reply, &old_id, fresh_id, now, settings, out),
                (None, None) if request.needs_known_member_id => {
                    self.pending_join.insert(Arc::clone(fresh_id), now.after_ms(request.session_timeout_ms));
                    refuse(out, fresh_id, ErrorCode::MemberIdRequired);
                }
                (None, _) => self.add_member(request, reply, fresh_id, now, settings, out),
            }
        } else if self.pending_join.contains_key(&request.member_id) && request.instance_id.is_none() {
            self.add_member(request, reply, &request.member_id, now, settings, out);
        } else if let Err(error) = self.check_member(&request.member_id, request.instance_id.as_deref()) {
            refuse(out, &request.member_id, error);
        } else {
            self.rejoin(request, reply, now, settings, out);
        }
    }

    /// Is there room for this member? While members join, those count that have.
    fn accepts(&self, member_id: &str, settings: &GroupSettings) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.members_awaiting_join() < settings.size_max
            }
            State::CompletingRebalance | State::Stable => member.is_some() || self.members.len() < settings.size_max,
        }
    }

    fn add_member(
        &mut self,
        request: &JoinRequest,
        reply: ReplyId,
        member_id: &Arc<str>,
        now: Now,
        settings: &GroupSettings,
        out: &mut Out,
    ) {
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::clone(&request.protocol_type));
        }
        self.pending_join.remove(member_id);
        if let Some(instance_id) = &request.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(member_id));
        }
        self.leader.get_or_insert_with(|| Arc::clone(member_id));
        let member = Member {
            instance_id: request.instance_id.clone(),
            client_id: Arc::clone(&request.client_id),
            client_host: Arc::clone(&request.client_host),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(reply),
            awaiting_sync: None,
            expires_at: Some(now.after_ms(NEW_MEMBER_JOIN_TIMEOUT_MS)),
        };
        self.members.insert(Arc::clone(member_id), Arc::new(member));
        self.rebalance_or_complete(now, settings, out);
    }

    /// A known member joins again.
    fn rejoin(&mut self, request: &JoinRequest, reply: ReplyId, now: Now, settings: &GroupSettings, out: &mut Out) {
        let same = self.members.get(&request.member_id).is_some_and(|member| member.protocols == request.protocols);
        let answer = match self.state {
            // Its JoinGroup answer was lost: it gets the same again.
            State::CompletingRebalance if same => self.joined(&request.member_id, ErrorCode::None),
            // A follower without news gets the generation it can sync with; the leader always means a rebalance.
            State::Stable if same && !self.is_leader(&request.member_id) => {
                self.joined(&request.member_id, ErrorCode::None)
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update_member(request, &request.member_id, reply, out);
                return self.rebalance_or_complete(now, settings, out);
            }
            State::Empty => Joined::refused(Arc::clone(&request.member_id), ErrorCode::UnknownMemberId),
        };
        out.answers.push((reply, Answer::Join(answer)));
    }

    /// A static member is back without its old id: the new id takes the old one's place, and who still uses that is
    /// fenced.
    #[expect(clippy::too_many_arguments, reason = "the two ids of one member come from different places")]
    fn replace_static(
        &mut self,
        request: &JoinRequest,
        reply: ReplyId,
        old_id: &Arc<str>,
        new_id: &Arc<str>,
        now: Now,
        settings: &GroupSettings,
        out: &mut Out,
    ) {
        let leader_before = self.leader.clone();
        let Some(index) = self.members.get_index_of(old_id) else { return };
        if let Some(old) = self.member_mut(old_id) {
            let (join, sync) = (old.awaiting_join.take(), old.awaiting_sync.take());
            old.expires_at = Some(now.after_ms(old.session_timeout_ms));
            old.is_new = false;
            self.fence(old_id, join, sync, out);
        }
        // The new id keeps the old one's place, so that the order of members doesn't change.
        if let Some((_, member)) = self.members.shift_remove_index(index) {
            self.members.shift_insert(index, Arc::clone(new_id), member);
        }
        self.pending_sync.remove(old_id);
        if let Some(instance_id) = &request.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(new_id));
        }
        if self.is_leader(old_id) {
            self.leader = Some(Arc::clone(new_id));
        }
        self.update_member(request, new_id, reply, out);
        match self.state {
            State::Stable if self.protocol == self.elected_protocol() => {
                // Nothing changes for the others; the log learns the new id before the member does.
                out.write = true;
                if let Some(member) = self.member_mut(new_id) {
                    member.awaiting_join = None;
                }
                let mut answer = self.joined(new_id, ErrorCode::None);
                if request.understands_skip_assignment {
                    answer.skip_assignment = self.is_leader(new_id);
                } else {
                    // A leader of old would assign anew if it knew that it leads.
                    answer.leader = leader_before.unwrap_or_default();
                    answer.members.clear();
                }
                out.answers.push((reply, Answer::Join(answer)));
            }
            // The leader may be assigning to the old id just now.
            State::CompletingRebalance => self.prepare_rebalance(now, settings, out),
            State::Stable | State::PreparingRebalance | State::Empty => self.rebalance_or_complete(now, settings, out),
        }
    }

    fn update_member(&mut self, request: &JoinRequest, member_id: &Arc<str>, reply: ReplyId, out: &mut Out) {
        let Some(member) = self.member_mut(member_id) else { return };
        member.protocols = request.protocols.clone();
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        if let Some(earlier) = member.awaiting_join.replace(reply) {
            // The client gave that request up; only a dead connection still waits for it.
            let answer = Joined::refused(Arc::clone(member_id), ErrorCode::RebalanceInProgress);
            out.answers.push((earlier, Answer::Join(answer)));
        }
    }

    /// The answer of the current generation to one of its members.
    pub(super) fn joined(&self, member_id: &Arc<str>, error: ErrorCode) -> Joined {
        let members = if self.is_leader(member_id) { self.members_for_leader() } else { Vec::new() };
        Joined {
            error,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: Arc::clone(member_id),
            members,
        }
    }

    fn members_for_leader(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |(id, member): (&Arc<str>, &Arc<Member>)| JoinedMember {
            member_id: Arc::clone(id),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.iter().map(member).collect()
    }
}
