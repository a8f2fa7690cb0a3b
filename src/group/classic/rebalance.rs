//! The rebalance: waiting for members to join, electing leader and protocol, and everything that happens with time.

use std::sync::Arc;

use super::{Answer, ClassicGroup, JoinWait, Joined, Now, Out, State, Synced};
use crate::config::server::GroupSettings;
use crate::protocol::error_code::ErrorCode;

impl ClassicGroup {
    /// When time next matters to this group.
    pub fn next_due(&self) -> Option<u64> {
        let join = self.join_wait.map(|wait| match wait {
            JoinWait::Initial { at, .. } | JoinWait::Timeout { at } => at,
        });
        let members = self.members.values().filter_map(|member| member.expires_at);
        members.chain(self.pending_join.values().copied()).chain(join).chain(self.sync_deadline).min()
    }

    /// Does all that is due.
    pub fn on_time(&mut self, now: Now, settings: &GroupSettings, out: &mut Out) {
        self.lapse_pending_ids(now, out);
        self.expire_members(now, settings, out);
        match self.join_wait {
            Some(JoinWait::Initial { at, delay_ms, remaining_ms }) if at <= now.mono_ms => {
                self.end_initial_delay(delay_ms, remaining_ms, now, settings, out);
            }
            Some(JoinWait::Timeout { at }) if at <= now.mono_ms => self.complete_join(now, out),
            _ => {}
        }
        if self.sync_deadline.is_some_and(|at| at <= now.mono_ms) {
            self.sync_deadline = None;
            self.remove_unsynced(now, settings, out);
        }
    }

    fn lapse_pending_ids(&mut self, now: Now, out: &mut Out) {
        let before = self.pending_join.len();
        self.pending_join.retain(|_, lapses_at| *lapses_at > now.mono_ms);
        if self.pending_join.len() < before && self.state == State::PreparingRebalance && self.all_joined() {
            self.complete_join(now, out);
        }
    }

    fn expire_members(&mut self, now: Now, settings: &GroupSettings, out: &mut Out) {
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now.mono_ms);
        let late: Vec<_> =
            self.members.iter().filter(|(_, member)| due(member.expires_at)).map(|(id, _)| Arc::clone(id)).collect();
        for id in late {
            let Some(member) = self.member_mut(&id) else { continue };
            if !due(member.expires_at) {
                continue; // the rebalance that an earlier one began has renewed it
            }
            if !member.is_new && (member.awaiting_join.is_some() || member.awaiting_sync.is_some()) {
                // It waits for us, so it lives; the answer begins its session anew.
                member.expires_at = None;
                continue;
            }
            tracing::info!(group = %self.id, member = %id, "member has not been heard of and is removed");
            self.remove(&id, out);
            match self.state {
                State::Stable | State::CompletingRebalance => self.rebalance_or_complete(now, settings, out),
                State::PreparingRebalance if self.all_joined() => self.complete_join(now, out),
                State::PreparingRebalance | State::Empty => {}
            }
        }
    }

    /// What a change of members leads to: a rebalance, or the end of the one in progress.
    pub(super) fn rebalance_or_complete(&mut self, now: Now, settings: &GroupSettings, out: &mut Out) {
        match self.state {
            State::PreparingRebalance => self.complete_if_all_joined(now, out),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(now, settings, out),
        }
    }

    /// Tells everyone who waits that a rebalance begins: the group goes on in another form.
    pub fn dismiss(&mut self, out: &mut Out) {
        for (id, member) in &mut self.members {
            let member = Arc::make_mut(member);
            let (join, sync) = (member.awaiting_join.take(), member.awaiting_sync.take());
            let error = ErrorCode::RebalanceInProgress;
            out.answers.extend(join.map(|reply| (reply, Answer::Join(Joined::refused(Arc::clone(id), error)))));
            out.answers.extend(sync.map(|reply| (reply, Answer::Sync(Synced::refused(error)))));
        }
    }

    /// Lets members join anew because the group was another: there are more than `group.max.size` allows since the last
    /// start, or members of the consumer protocol left.
    pub fn rejoin_all(&mut self, now: Now, settings: &GroupSettings, out: &mut Out) {
        if self.state == State::Stable {
            self.prepare_rebalance(now, settings, out);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Now, settings: &GroupSettings, out: &mut Out) {
        if self.state == State::CompletingRebalance {
            self.withdraw_assignments(ErrorCode::RebalanceInProgress, now, out);
        }
        self.pending_sync.clear();
        self.sync_deadline = None;
        let initial = self.state == State::Empty;
        self.transition(State::PreparingRebalance, now);
        if initial {
            let delay_ms = initial_delay_ms(settings);
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.join_wait = Some(JoinWait::Initial { at: now.after_ms(delay_ms), delay_ms, remaining_ms });
        } else if self.all_joined() {
            self.complete_join(now, out);
        } else {
            self.join_wait = Some(JoinWait::Timeout { at: now.after_ms(self.rebalance_timeout_ms()) });
        }
    }

    /// The first rebalance of a group never ends before its delay.
    pub(super) fn complete_if_all_joined(&mut self, now: Now, out: &mut Out) {
        if self.state == State::PreparingRebalance && self.previous != State::Empty && self.all_joined() {
            self.complete_join(now, out);
        }
    }

    fn end_initial_delay(
        &mut self,
        delay_ms: i32,
        remaining_ms: i32,
        now: Now,
        settings: &GroupSettings,
        out: &mut Out,
    ) {
        if !self.new_member_added || remaining_ms == 0 {
            return self.complete_join(now, out);
        }
        // Members keep coming: wait as long again, at most the rebalance timeout in all.
        self.new_member_added = false;
        let next_ms = initial_delay_ms(settings).min(remaining_ms);
        self.join_wait = Some(JoinWait::Initial {
            at: now.after_ms(next_ms),
            delay_ms: next_ms,
            remaining_ms: (remaining_ms - delay_ms).max(0),
        });
    }

    pub(super) fn members_awaiting_join(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    fn all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.members_awaiting_join() == self.members.len()
    }

    /// Ends the wait for members: dynamic ones that didn't join again are gone, static ones stay until their session ends.
    fn complete_join(&mut self, now: Now, out: &mut Out) {
        self.join_wait = None;
        let absent = self.members.iter().filter(|(_, m)| m.awaiting_join.is_none() && m.instance_id.is_none());
        let absent: Vec<_> = absent.map(|(id, _)| Arc::clone(id)).collect();
        for id in &absent {
            tracing::info!(group = %self.id, member = %id, "member did not join within the rebalance timeout");
            self.remove(id, out);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none has joined: their sessions decide.
            self.join_wait = Some(JoinWait::Timeout { at: now.after_ms(self.rebalance_timeout_ms()) });
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        self.pending_sync.clear();
        self.new_member_added = false;
        self.protocol = self.elected_protocol();
        self.subscribed = self.subscribed_by_members();
        if self.members.is_empty() {
            self.transition(State::Empty, now);
            out.write = true;
            return;
        }
        self.transition(State::CompletingRebalance, now);
        self.answer_joins(now, out);
        self.sync_deadline = Some(now.after_ms(self.rebalance_timeout_ms()));
    }

    fn answer_joins(&mut self, now: Now, out: &mut Out) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id, ErrorCode::None);
            let Some(member) = self.member_mut(&id) else { continue };
            member.is_new = false;
            member.expires_at = Some(now.after_ms(member.session_timeout_ms));
            out.answers.extend(member.awaiting_join.take().map(|reply| (reply, Answer::Join(answer))));
            self.pending_sync.insert(id);
        }
    }

    /// The leader stays if it has joined, else the first that has takes over.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &Arc<str>| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let Some(first) = self.members.keys().find(|id| joined(id)).cloned() else { return false };
        self.leader = Some(first);
        true
    }

    fn remove_unsynced(&mut self, now: Now, settings: &GroupSettings, out: &mut Out) {
        let unsynced = std::mem::take(&mut self.pending_sync);
        if unsynced.is_empty() || !matches!(self.state, State::CompletingRebalance | State::Stable) {
            return;
        }
        for id in &unsynced {
            tracing::info!(group = %self.id, member = %id, "member did not sync within the rebalance timeout");
            self.remove(id, out);
        }
        self.prepare_rebalance(now, settings, out);
    }
}

fn initial_delay_ms(settings: &GroupSettings) -> i32 {
    i32::try_from(settings.initial_rebalance_delay_ms).unwrap_or(i32::MAX)
}
