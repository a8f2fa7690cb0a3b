//! Who answers interactive queries for which partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::StreamsGroup;
use super::configure::Configured;
use super::member::Endpoint;
use super::tasks::TaskSet;
use crate::metadata::image::Image;

/// What the tasks of one member read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPartitions {
    /// Where it answers.
    pub endpoint: Endpoint,
    /// Of its active tasks: topics with their partitions.
    pub active: Vec<(Arc<str>, Vec<i32>)>,
    /// Of its standbys.
    pub standby: Vec<(Arc<str>, Vec<i32>)>,
}

impl StreamsGroup {
    /// Of all members that have an endpoint.
    pub(super) fn endpoints(&self, configured: &Configured, image: &Image) -> Vec<EndpointPartitions> {
        let each = self.members.values().filter_map(|member| {
            let tasks = member.current.assigned.tasks();
            Some(EndpointPartitions {
                endpoint: member.subscription.endpoint.clone()?,
                active: read_by(&tasks.active, configured, image),
                standby: read_by(&tasks.standby, configured, image),
            })
        });
        each.collect()
    }
}

fn read_by(tasks: &TaskSet, configured: &Configured, image: &Image) -> Vec<(Arc<str>, Vec<i32>)> {
    let known = tasks.iter().filter_map(|(id, tasks)| Some((configured.subtopologies.get(id)?, tasks)));
    let topics = known.flat_map(|(one, tasks)| {
        let names: BTreeSet<_> = one.topics.sources().collect();
        names.into_iter().filter_map(move |name| {
            // A task is one of the largest topic; the others may end before.
            let count = image.topic(name)?.partition_count;
            Some((Arc::clone(name), tasks.iter().copied().filter(|task| *task < count).collect()))
        })
    });
    topics.collect()
}
