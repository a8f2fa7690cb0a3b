//! A group as StreamsGroupDescribe shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::StreamsGroup;
use super::member::Member;
use super::tasks::Tasks;
use super::topology::Subtopology;

/// What StreamsGroupDescribe tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The state's name.
    pub state: &'static str,
    /// The group's epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub target_epoch: i32,
    /// The topology's epoch and parts: with all numbers of partitions once these are known.
    pub topology: Option<(i32, BTreeMap<Arc<str>, Subtopology>)>,
    /// Its members by id, with their targets.
    pub members: Vec<(Arc<str>, Arc<Member>, Tasks)>,
}

impl StreamsGroup {
    /// The whole group.
    pub fn describe(&self) -> Description {
        let configured = self.configured.as_ref().filter(|configured| configured.is_ready());
        let topology = self.topology.as_ref().map(|topology| {
            let subtopologies = match configured {
                Some(configured) => {
                    let each = configured.subtopologies.iter();
                    each.map(|(id, one)| (Arc::clone(id), one.topics.clone())).collect()
                }
                None => topology.subtopologies.clone(),
            };
            (topology.epoch, subtopologies)
        });
        let members = self.members.iter().map(|(id, member)| (Arc::clone(id), Arc::clone(member), self.target(id)));
        Description {
            state: self.state().name(),
            epoch: self.epoch.epoch,
            target_epoch: self.target_epoch.epoch,
            topology,
            members: members.collect(),
        }
    }
}
