//! A group as ShareGroupDescribe shows it.

use std::sync::Arc;

use super::{Member, ShareGroup};

/// What ShareGroupDescribe tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The state's name.
    pub state: &'static str,
    /// The group's epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub target_epoch: i32,
    /// Its members by id.
    pub members: Vec<(Arc<str>, Member)>,
}

impl ShareGroup {
    /// The whole group.
    pub fn describe(&self) -> Description {
        Description {
            state: self.state_name(),
            epoch: self.epoch.epoch,
            target_epoch: self.target_epoch.epoch,
            members: self.members.iter().map(|(id, member)| (Arc::clone(id), Member::clone(member))).collect(),
        }
    }
}
