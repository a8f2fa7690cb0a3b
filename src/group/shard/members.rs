//! Requests of the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, also of members of consumer groups.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::entry::Entry;
use super::{Parked, Shard};
use crate::coordinator::{Now, Outcomes};
use crate::group::classic::{Answer, HeartbeatRequest, JoinRequest, Joined, Leaving, SyncRequest, Synced};
use crate::group::consumer::Draft;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::uuid_text;

impl Shard {
    /// JoinGroup. Only a member without id makes a group.
    pub fn join(&mut self, request: &JoinRequest, to: oneshot::Sender<Joined>, now: Now) {
        let refused = |error| Joined::refused(Arc::clone(&request.member_id), error);
        let known = match self.groups.get(&request.group) {
            Some(Entry::Consumer(group)) if !group.is_empty() => {
                let joined = self.join_consumers(request, now).unwrap_or_else(refused);
                return self.journal.tell(to, joined);
            }
            Some(Entry::Classic { .. }) => true,
            // An empty group has no protocol that could be wrong.
            Some(Entry::Consumer(_)) | None => false,
            Some(Entry::Streams(group)) if group.is_empty() => false,
            Some(Entry::Share(_) | Entry::Streams(_)) => {
                return self.journal.tell(to, refused(ErrorCode::InconsistentGroupProtocol));
            }
        };
        if !known && !request.member_id.is_empty() {
            return self.journal.tell(to, refused(ErrorCode::UnknownMemberId));
        }
        let ended = self.groups.get(&request.group).filter(|_| !known).map(|empty| empty.tombstones(&request.group));
        if let Some(Err(error)) = ended.map(|ended| self.bury(ended, now)) {
            return self.journal.tell(to, refused(error));
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

    /// JoinGroup to a group whose members speak the consumer protocol.
    fn join_consumers(&mut self, request: &JoinRequest, now: Now) -> Result<Joined, ErrorCode> {
        let context = Arc::clone(&self.context);
        let image = context.metadata.image();
        let around = context.surroundings(&request.group, &image, now);
        let Some(group) = self.groups.get(&request.group).and_then(Entry::consumer) else {
            return Err(ErrorCode::UnknownMemberId);
        };
        let mut draft = Draft::of(group);
        let fresh_id = uuid_text::encode(context.random.uuid()).into();
        let policy = context.migration_policy();
        let join = draft.classic_join(request, &fresh_id, policy, context.group.size_max, &around)?;
        match join.downgrade {
            Some(rebalance) => self.downgrade(&request.group, draft, &BTreeSet::new(), rebalance, &image, now)?,
            None => self.commit_draft(&request.group, Vec::new(), draft, now)?,
        }
        Ok(join.joined)
    }

    /// SyncGroup.
    pub fn sync(&mut self, request: &SyncRequest, to: oneshot::Sender<Synced>, now: Now) {
        if self.groups.get(&request.group).is_none_or(|entry| entry.is_empty() || !entry.has_classic_members()) {
            return self.journal.tell(to, Synced::refused(ErrorCode::UnknownMemberId));
        }
        if let Some(group) = self.groups.get_mut(&request.group).and_then(Entry::consumer_mut) {
            let image = self.context.metadata.image();
            let synced = group.classic_sync(request, &image, now).unwrap_or_else(Synced::refused);
            self.schedule(&request.group);
            return self.journal.tell(to, synced);
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
            Some(Entry::Classic { live, .. }) => live.heartbeat(request, now),
            Some(Entry::Consumer(group)) => group.classic_heartbeat(request, now),
            Some(Entry::Share(_) | Entry::Streams(_)) | None => Err(ErrorCode::UnknownMemberId),
        };
        match outcome {
            // A member that is told to join again has a deadline for that, which may be the earliest.
            Err(ErrorCode::RebalanceInProgress) => self.schedule(&request.group),
            _ => self.schedule_if_idle(&request.group),
        }
        self.journal.tell(to, outcome);
    }

    /// A member that waited for a rebalance has no deadline of its own; its next heartbeat gives it one again.
    pub(super) fn schedule_if_idle(&mut self, group: &Arc<str>) {
        if !self.due.contains_key(group) {
            self.schedule(group);
        }
    }

    /// LeaveGroup; the outcome of each member in the order of the request.
    pub fn leave(&mut self, group: &Arc<str>, leaving: &[Leaving], to: oneshot::Sender<Outcomes>, now: Now) {
        let outcome = match self.groups.get(group) {
            Some(Entry::Classic { .. }) => {
                self.change(group, now, |group, settings, out| group.leave(leaving, now, settings, out))
            }
            Some(Entry::Consumer(consumers)) => {
                let (gone, outcomes) = consumers.classic_leave(leaving);
                let image = self.context.metadata.image();
                self.remove_consumers(group, &gone, &image, now).map(|()| outcomes)
            }
            Some(Entry::Share(_) | Entry::Streams(_)) | None => Err(ErrorCode::UnknownMemberId),
        };
        self.journal.tell(to, outcome);
    }
}
