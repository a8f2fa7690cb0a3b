//! The end of members: they leave, or they are not heard of in time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::heartbeat::{HeartbeatAnswer, HeartbeatRequest, check_instance, unknown_instance};
use super::member::LEAVES_FOR_NOW;
use super::records::ConsumerRecord;
use super::{ConsumerGroup, Draft, EpochPartitions, Refused, Surroundings};

/// What a request to leave comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaves {
    /// The member goes.
    ForGood(Arc<str>),
    /// A static member keeps its place until its session ends.
    ForNow(Arc<str>),
}

impl ConsumerGroup {
    /// Who leaves with this heartbeat.
    pub fn leaving(&self, request: &HeartbeatRequest) -> Result<Leaves, Refused> {
        let Some(instance_id) = &request.instance_id else {
            self.known_member(&request.member_id)?;
            return Ok(Leaves::ForGood(Arc::clone(&request.member_id)));
        };
        let (owner, _) = self.static_member(instance_id).ok_or_else(|| unknown_instance(instance_id))?;
        check_instance(owner, &request.member_id, instance_id)?;
        Ok(match request.epoch {
            LEAVES_FOR_NOW => Leaves::ForNow(Arc::clone(owner)),
            _ => Leaves::ForGood(Arc::clone(owner)),
        })
    }

    /// Members that were not heard of in time.
    pub fn overdue(&mut self, around: &Surroundings<'_>) -> BTreeSet<Arc<str>> {
        let members = &self.members;
        let epoch_of = |id: &str| members.get(id).map(|member| member.current.epoch);
        let late = self.deadlines.overdue(around.now.mono_ms, epoch_of);
        for (member, reason) in &late {
            tracing::info!(group = %self.id, %member, ?reason, "member was not heard of in time and is removed");
        }
        late.into_iter().map(|(id, _)| id).collect()
    }

    /// Wait expressions to be resolved by now?
    pub fn must_resolve(&self, around: &Surroundings<'_>) -> bool {
        self.deadlines.resolve.is_some_and(|at| at <= around.now.mono_ms)
    }
}

impl HeartbeatRequest {
    /// The answer to one that leaves.
    pub fn farewell(&self) -> HeartbeatAnswer {
        HeartbeatAnswer { member_id: Arc::clone(&self.member_id), epoch: self.epoch, interval_ms: 0, assignment: None }
    }
}

impl Draft {
    /// A static member is away: it owns what it owned, and who takes its place owns it at epoch 0.
    pub fn leave_for_now(&mut self, id: &Arc<str>) {
        let Some(member) = self.group.member(id) else { return };
        let mut current = member.current.clone();
        current.epoch = LEAVES_FOR_NOW;
        current.revoking = EpochPartitions::new();
        current.assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|epoch| *epoch = 0);
        self.write(ConsumerRecord::Current(Arc::clone(id), Some(current)));
    }

    /// Takes members out; the others share what they had with the next target.
    pub fn remove_members(&mut self, ids: &BTreeSet<Arc<str>>, around: &Surroundings<'_>) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            self.remove_member(id);
        }
        let gone: Vec<_> =
            self.group.resolved.keys().filter(|regex| self.group.members_with_regex(regex) == 0).cloned().collect();
        for expression in gone {
            self.write(ConsumerRecord::Regex(expression, None));
        }
        let hash = self.group.metadata_hash(around);
        self.raise_epoch(hash);
    }

    pub(super) fn remove_member(&mut self, id: &Arc<str>) {
        self.write(ConsumerRecord::Current(Arc::clone(id), None));
        self.write(ConsumerRecord::Target(Arc::clone(id), None));
        self.write(ConsumerRecord::Member(Arc::clone(id), None));
    }
}
