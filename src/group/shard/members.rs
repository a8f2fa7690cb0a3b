//! Requests of members: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Parked, Shard};
use crate::coordinator::{Now, Outcomes};
use crate::group::classic::{Answer, HeartbeatRequest, JoinRequest, Joined, Leaving, SyncRequest, Synced};
use crate::protocol::error_code::ErrorCode;

impl Shard {
    /// JoinGroup. Only a member without id makes a group.
    pub fn join(&mut self, request: &JoinRequest, to: oneshot::Sender<Joined>, now: Now) {
        if !self.groups.contains_key(&request.group) && !request.member_id.is_empty() {
            let refused = Joined::refused(Arc::clone(&request.member_id), ErrorCode::UnknownMemberId);
            return self.journal.tell(to, refused);
        }
        let fresh_id = self.fresh_member_id(request);
        let reply = self.park(Parked::Join(to));
        let joined = self.change(&request.group, now, |group, settings, out| {
            group.join(request, reply, &fresh_id, now, settings, out);
        });
        if let Err(error) = joined {
            self.answer(reply, Answer::Join(Joined::refused("".into(), error)));
        }
    }

    fn fresh_member_id(&self, request: &JoinRequest) -> Arc<str> {
        let name = request.instance_id.as_ref().unwrap_or(&request.client_id);
        format!("{name}-{}", self.context.random.uuid()).into()
    }

    /// SyncGroup.
    pub fn sync(&mut self, request: &SyncRequest, to: oneshot::Sender<Synced>, now: Now) {
        if !self.groups.contains_key(&request.group) {
            return self.journal.tell(to, Synced::refused(ErrorCode::UnknownMemberId));
        }
        let reply = self.park(Parked::Sync(to));
        let synced = self.change(&request.group, now, |group, _, out| group.sync(request, reply, now, out));
        if let Err(error) = synced {
            self.answer(reply, Answer::Sync(Synced::refused(error)));
        }
    }

    /// Heartbeat: changes nothing but a deadline, which only moves back.
    pub fn heartbeat(&mut self, request: &HeartbeatRequest, to: oneshot::Sender<Result<(), ErrorCode>>, now: Now) {
        let outcome = match self.groups.get_mut(&request.group) {
            Some(entry) => entry.live.heartbeat(request, now),
            None => Err(ErrorCode::UnknownMemberId),
        };
        self.schedule_if_idle(&request.group);
        self.journal.tell(to, outcome);
    }

    /// A member that waited for a rebalance has no deadline of its own; its next heartbeat gives it one again.
    fn schedule_if_idle(&mut self, group: &Arc<str>) {
        if !self.due.contains_key(group) {
            self.schedule(group);
        }
    }

    /// LeaveGroup; the outcome of each member in the order of the request.
    pub fn leave(&mut self, group: &Arc<str>, leaving: &[Leaving], to: oneshot::Sender<Outcomes>, now: Now) {
        let outcome = if self.groups.contains_key(group) {
            self.change(group, now, |group, settings, out| group.leave(leaving, now, settings, out))
        } else {
            Err(ErrorCode::UnknownMemberId)
        };
        self.journal.tell(to, outcome);
    }
}
