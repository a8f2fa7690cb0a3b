//! A group as ConsumerGroupDescribe shows it.

use std::sync::Arc;

use super::assignor::Assignor;
use super::member::Subscription;
use super::records::without_epochs;
use super::{ConsumerGroup, Partitions};

/// What ConsumerGroupDescribe tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The state's name.
    pub state: &'static str,
    /// The group's epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub target_epoch: i32,
    /// The assignor's name.
    pub assignor: &'static str,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// One member as ConsumerGroupDescribe shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Who it is.
    pub subscription: Subscription,
    /// Its epoch.
    pub epoch: i32,
    /// What it owns, also what it gives back.
    pub owned: Partitions,
    /// What it shall own.
    pub target: Partitions,
}

impl ConsumerGroup {
    /// The whole group.
    pub fn describe(&self, default_assignor: Assignor) -> Description {
        let members = self.members.iter().map(|(id, member)| {
            let mut owned = without_epochs(&member.current.assigned);
            for (topic, partitions) in without_epochs(&member.current.revoking) {
                owned.entry(topic).or_default().extend(partitions);
            }
            DescribedMember {
                member_id: Arc::clone(id),
                subscription: member.subscription.clone(),
                epoch: member.current.epoch,
                owned,
                target: self.target(id).map(|target| Partitions::clone(target)).unwrap_or_default(),
            }
        });
        Description {
            state: self.state().name(),
            epoch: self.epoch.epoch,
            target_epoch: self.target_epoch.epoch,
            assignor: self.assignor(default_assignor).name(),
            members: members.collect(),
        }
    }
}
