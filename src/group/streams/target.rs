//! The target assignment: who shall have which task.

use std::sync::Arc;

use super::assignor::{AssignedMember, assign};
use super::configure::Configured;
use super::records::StreamsRecord;
use super::status::{Status, StatusCode};
use super::tasks::Tasks;
use super::{StreamsDraft, Surroundings};
use crate::group::consumer::records::TargetEpoch;

impl StreamsDraft {
    /// Makes the target for the group's epoch, unless there is one, or the first still waits for members, or the last is
    /// too young (KIP-1263): then members go on with that, and are told.
    pub(super) fn update_target(&mut self, configured: &Configured, around: &Surroundings<'_>) -> Option<Status> {
        let delayed = |why: &str| Some(Status::new(StatusCode::AssignmentDelayed, why));
        if self.group.first_target_at.is_some() {
            return delayed("Assignment delayed due to the configured initial rebalance delay.");
        }
        let last = self.group.target_epoch;
        if last.epoch >= self.group.epoch.epoch {
            return None;
        }
        let interval_ms = i64::from(around.limits.assignment_interval_ms);
        let young =
            last.timestamp != 0 && interval_ms != 0 && around.now.wall_ms < last.timestamp.saturating_add(interval_ms);
        if young {
            return delayed("Assignment delayed due to the configured assignment interval.");
        }
        self.make_target(configured, around);
        None
    }

    fn make_target(&mut self, configured: &Configured, around: &Surroundings<'_>) {
        let members = self.group.members.iter().map(|(id, member)| AssignedMember {
            id: Arc::clone(id),
            process: Arc::clone(&member.subscription.process_id),
            had: self.group.target(id),
        });
        let members: Vec<_> = members.collect();
        let targets = match configured.is_ready() {
            true => assign(&members, &configured.subtopologies, around.limits.standby_replicas),
            // Tasks whose topics are gone cannot go on.
            false => vec![Tasks::default(); members.len()],
        };
        for (member, target) in members.into_iter().zip(targets) {
            if self.group.targets.get(&member.id).is_none_or(|known| **known != target) {
                self.write(StreamsRecord::Target(member.id, Some(target)));
            }
        }
        let epoch = TargetEpoch { epoch: self.group.epoch.epoch, timestamp: around.now.wall_ms };
        self.write(StreamsRecord::TargetEpoch(Some(epoch)));
    }

    /// The wait for the first members is over, if it was on.
    pub fn end_first_wait(&mut self, around: &Surroundings<'_>) {
        if self.group.first_target_at.is_none_or(|at| at > around.now.mono_ms) {
            return;
        }
        self.group.first_target_at = None;
        if let Some(configured) = self.group.configured.clone().filter(|_| !self.group.is_empty()) {
            self.update_target(&configured, around);
        }
    }
}
