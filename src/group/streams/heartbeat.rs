//! StreamsGroupHeartbeat: a member joins, lives, learns its tasks, and leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::configure::Configured;
use super::endpoints::EndpointPartitions;
use super::member::{Current, Endpoint, Member, MemberState, Subscription};
use super::records::{GroupEpoch, StreamsRecord};
use super::settings::StreamsLimits;
use super::status::{Status, StatusCode};
use super::tasks::{TaskSet, Tasks, each};
use super::topology::{InternalTopic, Topology};
use super::{StreamsDraft, StreamsGroup, Surroundings};
use crate::group::consumer::Refused;
use crate::group::consumer::member::{JOINS, LEAVES, LEAVES_FOR_NOW};
use crate::group::consumer::topic_hash::metadata_hash;
use crate::protocol::error_code::ErrorCode;

/// A StreamsGroupHeartbeat request. What is absent has not changed since the member said it.
#[derive(Debug, Clone, Default)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member; its client makes the id.
    pub member_id: Arc<str>,
    /// Its epoch, 0 to join, -1 to leave.
    pub epoch: i32,
    /// Of the endpoints it was told last.
    pub endpoint_epoch: i32,
    /// Its static id, which Kafka 4.3.1 refuses.
    pub instance_id: Option<Arc<str>>,
    /// Where it runs.
    pub rack_id: Option<Arc<str>>,
    /// How long it may take to give tasks back.
    pub rebalance_timeout_ms: Option<i32>,
    /// The application, when it joins.
    pub topology: Option<Topology>,
    /// What it owns.
    pub owned: Owned,
    /// The process it runs in.
    pub process_id: Option<Arc<str>>,
    /// Where it answers queries.
    pub endpoint: Option<Endpoint>,
    /// Tags for where standbys go.
    pub client_tags: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// Did it send offsets of tasks? Kafka 4.3.1 refuses them.
    pub has_task_offsets: bool,
    /// The same for end offsets.
    pub has_task_end_offsets: bool,
    /// The whole application is to end.
    pub shutdown: bool,
    /// From the request's header.
    pub client_id: Arc<str>,
    /// As Java prints an address.
    pub client_host: Arc<str>,
}

/// What a request says of tasks: all roles, or none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Owned {
    /// As before.
    #[default]
    Unchanged,
    /// Some roles only, which makes no sense: active, standby, warm-up.
    Partial([Option<TaskSet>; 3]),
    /// All of it.
    All(Tasks),
}

impl Owned {
    fn all(&self) -> Option<&Tasks> {
        match self {
            Self::All(tasks) => Some(tasks),
            Self::Unchanged | Self::Partial(_) => None,
        }
    }

    fn roles(&self) -> [Option<&TaskSet>; 3] {
        match self {
            Self::All(tasks) => tasks.roles().map(Some),
            Self::Partial(roles) => roles.each_ref().map(Option::as_ref),
            Self::Unchanged => [None; 3],
        }
    }
}

/// What a member is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// The member.
    pub member_id: Arc<str>,
    /// What its next heartbeat must carry.
    pub epoch: i32,
    /// When that is due.
    pub interval_ms: i32,
    /// How the group is.
    pub statuses: Vec<Status>,
    /// Its tasks, if it does not know them.
    pub tasks: Option<Tasks>,
    /// Of the group's endpoints.
    pub endpoint_epoch: i32,
    /// Who answers queries for which partitions, if it does not know.
    pub endpoints: Option<Vec<EndpointPartitions>>,
    /// Internal topics that are to be made. Not for the member.
    pub missing: Vec<InternalTopic>,
}

impl HeartbeatRequest {
    /// Does the request make sense by itself?
    pub fn check(&self) -> Result<(), Refused> {
        let [active, standby, warmup] = self.owned.roles();
        let refused = |is: bool, message: &str| match is {
            true => Err(Refused::new(ErrorCode::InvalidRequest, message)),
            false => Ok(()),
        };
        refused(self.instance_id.is_some(), "Static membership is not yet supported.")?;
        refused(self.has_task_offsets, "TaskOffsets are not supported yet.")?;
        refused(self.has_task_end_offsets, "TaskEndOffsets are not supported yet.")?;
        refused(warmup.is_some_and(|tasks| !tasks.is_empty()), "WarmupTasks are not supported yet.")?;
        let mut subtopologies = self.topology.iter().flat_map(|topology| topology.subtopologies.values());
        let has_regex = subtopologies.any(|one| !one.source_topic_regex.is_empty());
        refused(has_regex, "Regular expressions for source topics are not supported yet.")?;
        refused(self.member_id.trim().is_empty(), "MemberId can't be empty.")?;
        refused(self.group.trim().is_empty(), "GroupId can't be empty.")?;
        refused(self.rack_id.as_ref().is_some_and(|rack| rack.trim().is_empty()), "RackId can't be empty.")?;
        match self.epoch {
            JOINS => {
                refused(self.rebalance_timeout_ms.is_none(), "RebalanceTimeoutMs must be provided in first request.")?;
                for (role, tasks) in [("Active", active), ("Standby", standby), ("Warmup", warmup)] {
                    // It must say so.
                    let empty = tasks.is_some_and(BTreeMap::is_empty);
                    refused(!empty, &format!("{role}Tasks must be empty when (re-)joining."))?;
                }
                refused(self.topology.is_none(), "Topology must be non-null when (re-)joining.")?;
                self.topology.as_ref().map_or(Ok(()), Topology::check)?;
            }
            LEAVES_FOR_NOW => refused(true, "InstanceId can't be null.")?,
            epoch if epoch < LEAVES_FOR_NOW => {
                refused(true, &format!("MemberEpoch is {epoch}, but must be greater than or equal to -2."))?;
            }
            _ => {}
        }
        let partial = matches!(self.owned, Owned::Partial(_));
        refused(partial, "If one task-type is non-null, all must be non-null.")?;
        let late = self.epoch != JOINS && self.topology.is_some();
        refused(late, "Topology can only be provided when (re-)joining.")
    }

    /// Does the member leave?
    pub fn leaves(&self) -> bool {
        self.epoch == LEAVES
    }

    /// The answer to one that leaves.
    pub fn farewell(&self) -> HeartbeatAnswer {
        HeartbeatAnswer {
            member_id: Arc::clone(&self.member_id),
            epoch: self.epoch,
            interval_ms: 0,
            statuses: Vec::new(),
            tasks: None,
            endpoint_epoch: 0,
            endpoints: None,
            missing: Vec::new(),
        }
    }

    fn updated(&self, before: &Subscription) -> Subscription {
        Subscription {
            instance_id: before.instance_id.clone(),
            rack_id: self.rack_id.clone().or_else(|| before.rack_id.clone()),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            rebalance_timeout_ms: self.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
            topology_epoch: self.topology.as_ref().map_or(before.topology_epoch, |topology| topology.epoch),
            process_id: Arc::clone(self.process_id.as_ref().unwrap_or(&before.process_id)),
            endpoint: self.endpoint.clone().or_else(|| before.endpoint.clone()),
            client_tags: self.client_tags.clone().unwrap_or_else(|| before.client_tags.clone()),
        }
    }
}

impl StreamsGroup {
    /// The heartbeat of a member that has arrived, in a group where nothing moves: all but a few are. Such a one makes no
    /// record. `None` when it needs more.
    pub fn keep_alive(&mut self, request: &HeartbeatRequest, around: &Surroundings<'_>) -> Option<HeartbeatAnswer> {
        let member = Arc::clone(self.members.get(&request.member_id)?);
        let settled = request.epoch > 0
            && request.epoch == member.current.epoch
            && member.current.is_reconciled_to(self.target_epoch.epoch)
            && self.epoch.epoch <= self.target_epoch.epoch
            && self.first_target_at.is_none()
            && self.seen_image == Some(around.image.generation)
            && self.epoch.assignment_configs == assignment_configs(&around.limits)
            && !request.shutdown
            && request.owned == Owned::Unchanged
            && request.updated(&member.subscription) == member.subscription;
        let configured = self.configured.clone().filter(|configured| settled && configured.is_ready())?;
        let session_at = around.now.after_ms(around.limits.session_timeout_ms);
        self.deadlines.of(&request.member_id).session = Some(session_at);
        let mut statuses = Vec::new();
        statuses.extend(self.stale(&member.subscription));
        Some(self.answer(request, &member, None, statuses, &configured, around))
    }

    fn answer(
        &self,
        request: &HeartbeatRequest,
        member: &Member,
        tasks: Option<Tasks>,
        mut statuses: Vec<Status>,
        configured: &Configured,
        around: &Surroundings<'_>,
    ) -> HeartbeatAnswer {
        statuses.extend(configured.obstacle.clone());
        statuses.extend(self.shutdown_by.as_ref().map(|by| {
            let detail = format!(
                "Streams group member {by} encountered a fatal error and requested a shutdown for the entire application."
            );
            Status::new(StatusCode::ShutdownApplication, detail)
        }));
        let knows_endpoints = self.endpoint_epoch == request.endpoint_epoch;
        HeartbeatAnswer {
            member_id: Arc::clone(&request.member_id),
            epoch: member.current.epoch,
            interval_ms: around.limits.heartbeat_interval_ms,
            statuses,
            tasks,
            endpoint_epoch: self.endpoint_epoch,
            endpoints: (!knows_endpoints).then(|| self.endpoints(configured, around.image)),
            missing: configured.missing.clone(),
        }
    }

    fn stale(&self, who: &Subscription) -> Option<Status> {
        let current = self.topology.as_ref()?.epoch;
        (who.topology_epoch < current).then(|| {
            let own = who.topology_epoch;
            let detail = format!("The member's topology epoch {own} is behind the group's topology epoch {current}.");
            Status::new(StatusCode::StaleTopology, detail)
        })
    }
}

impl StreamsDraft {
    /// A heartbeat of a member that joins or lives. Nothing of it counts if it is refused.
    pub fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        around: &Surroundings<'_>,
    ) -> Result<HeartbeatAnswer, Refused> {
        let id = &request.member_id;
        let first = self.group.is_empty();
        let joins = request.epoch == JOINS;
        if joins && self.group.members.len() >= around.size_max {
            let message = format!("The streams group has reached its maximum capacity of {} members.", around.size_max);
            return Err(Refused::new(ErrorCode::GroupMaxSizeReached, message));
        }
        let known = self.group.members.get(id).cloned();
        let before = match known {
            Some(member) => member,
            None if joins => Arc::default(),
            None => Arc::clone(self.group.member(id)?),
        };
        check_epoch(&before.current, request)?;
        let mut bump = self.update_member(id, &before, request);
        let topology = self.update_topology(request)?;
        let mut statuses = Vec::new();
        statuses.extend(self.group.stale(&self.group.member(id)?.subscription));
        let metadata_hash = self.configure(&topology, around)?;
        bump |= metadata_hash != self.group.epoch.metadata_hash;
        let configured = self.group.configured.clone().ok_or(ErrorCode::UnknownServerError)?;
        if configured.is_ready() {
            check_tasks(&configured, request)?;
        }
        self.update_epoch(bump, metadata_hash, topology.epoch, &configured, around);
        if first && around.limits.initial_rebalance_delay_ms > 0 {
            let at = around.now.after_ms(around.limits.initial_rebalance_delay_ms);
            self.group.first_target_at.get_or_insert(at);
        }
        statuses.extend(self.update_target(&configured, around));
        self.reconcile(id, request.owned.all(), around)?;
        self.group.deadlines.of(id).session = Some(around.now.after_ms(around.limits.session_timeout_ms));
        if request.shutdown {
            self.request_shutdown(id);
        }
        let member = Arc::clone(self.group.member(id)?);
        let tell = joins || member.current.assigned != before.current.assigned;
        if tell && member.subscription.endpoint.is_some() {
            self.group.endpoint_epoch += 1;
        }
        let tasks = tell.then(|| member.current.assigned.tasks());
        Ok(self.group.answer(request, &member, tasks, statuses, &configured, around))
    }

    /// Did it say anything new of itself?
    fn update_member(&mut self, id: &Arc<str>, before: &Member, request: &HeartbeatRequest) -> bool {
        let updated = request.updated(&before.subscription);
        let changed = updated != before.subscription || !self.group.members.contains_key(id);
        if changed {
            self.write(StreamsRecord::Member(Arc::clone(id), Some(updated)));
        }
        changed
    }

    /// The group's topology, which the first member gives it.
    fn update_topology(&mut self, request: &HeartbeatRequest) -> Result<Arc<Topology>, Refused> {
        let message = match (&self.group.topology, &request.topology) {
            (None, Some(told)) => {
                self.write(StreamsRecord::Topology(Some(told.clone())));
                self.group.configured = None;
                return Ok(Arc::new(told.clone()));
            }
            (Some(known), None) => return Ok(Arc::clone(known)),
            // Who comes with an older one is told so.
            (Some(known), Some(told)) if known.epoch > told.epoch || **known == *told => return Ok(Arc::clone(known)),
            (Some(_), Some(_)) => "Topology updates are not supported yet.",
            (None, None) => return Err(ErrorCode::UnknownServerError.into()),
        };
        Err(Refused::new(ErrorCode::InvalidRequest, message))
    }

    /// Holds the topology against the topics, if these may have changed; returns the hash of what it needs.
    fn configure(&mut self, topology: &Topology, around: &Surroundings<'_>) -> Result<i64, Refused> {
        let generation = around.image.generation;
        if self.group.configured.is_some() && self.group.seen_image == Some(generation) {
            return Ok(self.group.epoch.metadata_hash);
        }
        let hash = metadata_hash(topology.required_topics().into_iter(), around.image, around.rack);
        if self.group.configured.is_none() || hash != self.group.epoch.metadata_hash {
            let configured = Configured::of(topology, around.image)?;
            let (group, ready) = (&self.group.id, configured.is_ready());
            let obstacle = configured.obstacle.as_ref().map(|status| &*status.detail);
            tracing::info!(%group, epoch = topology.epoch, ready, obstacle, "topology of a streams group is configured");
            self.group.configured = Some(Arc::new(configured));
        }
        self.group.seen_image = Some(generation);
        Ok(hash)
    }

    fn update_epoch(
        &mut self,
        bump: bool,
        metadata_hash: i64,
        topology_epoch: i32,
        configured: &Configured,
        around: &Surroundings<'_>,
    ) {
        let before = &self.group.epoch;
        let after = GroupEpoch {
            epoch: before.epoch.saturating_add(1),
            metadata_hash,
            validated_topology_epoch: if configured.is_ready() { topology_epoch } else { -1 },
            assignment_configs: assignment_configs(&around.limits),
        };
        let validated = after.validated_topology_epoch != before.validated_topology_epoch;
        if bump || validated || after.assignment_configs != before.assignment_configs {
            self.write(StreamsRecord::Epoch(Some(after)));
        }
    }

    /// Moves a member towards its target.
    fn reconcile(&mut self, id: &Arc<str>, owned: Option<&Tasks>, around: &Surroundings<'_>) -> Result<(), Refused> {
        let target_epoch = self.group.target_epoch.epoch;
        let member = self.group.member(id)?;
        if member.current.is_reconciled_to(target_epoch) {
            return Ok(());
        }
        let timeout_ms = member.subscription.rebalance_timeout_ms;
        // While the first assignment waits nobody has a target.
        let target = if self.group.first_target_at.is_some() { Tasks::default() } else { self.group.target(id) };
        let next = self.group.next_of(member, target_epoch, &target, owned)?;
        if next == member.current {
            return Ok(());
        }
        let revoke = (next.state == MemberState::Unrevoked).then(|| (around.now.after_ms(timeout_ms), next.epoch));
        self.group.deadlines.of(id).revoke = revoke;
        self.write(StreamsRecord::Current(Arc::clone(id), Some(next)));
        Ok(())
    }
}

/// What the log says of the configuration that tasks are assigned with.
pub(super) fn assignment_configs(limits: &StreamsLimits) -> BTreeMap<Arc<str>, Arc<str>> {
    [("num.standby.replicas".into(), limits.standby_replicas.to_string().into())].into()
}

/// A member may be one answer behind, if it owns nothing beyond what that answer gave it.
fn check_epoch(current: &Current, request: &HeartbeatRequest) -> Result<(), Refused> {
    let (said, known) = (request.epoch, current.epoch);
    let one_behind = || {
        said == current.previous_epoch
            && request.owned.all().is_some_and(|owned| owned.is_within(&current.assigned.tasks()))
    };
    let relation = match said {
        _ if said == JOINS || said == known => return Ok(()),
        _ if said > known => "greater",
        _ if one_behind() => return Ok(()),
        _ => "smaller",
    };
    let message = format!(
        "The streams group member has a {relation} member epoch ({said}) than the one known by the group coordinator \
         ({known}). The member must abandon all its partitions and rejoin."
    );
    Err(Refused::new(ErrorCode::FencedMemberEpoch, message))
}

/// Are the tasks that it names tasks of the topology?
fn check_tasks(configured: &Configured, request: &HeartbeatRequest) -> Result<(), Refused> {
    let Some(owned) = request.owned.all() else { return Ok(()) };
    let refused = |message: String| Err(Refused::new(ErrorCode::InvalidRequest, message));
    for role in owned.roles() {
        if let Some(id) = role.keys().find(|id| !configured.subtopologies.contains_key(*id)) {
            return refused(format!("Subtopology {id} does not exist in the topology."));
        }
        for (id, task) in each(role) {
            let tasks = configured.subtopologies[id].tasks;
            if !(0..tasks).contains(&task) {
                return refused(format!(
                    "Task {task} for subtopology {id} is invalid. Number of tasks for this subtopology: {tasks}"
                ));
            }
        }
    }
    Ok(())
}
