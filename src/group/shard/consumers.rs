//! Groups of the consumer protocol: ConsumerGroupHeartbeat, ConsumerGroupDescribe, their deadlines, and the change of a
//! group from one protocol to the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::entry::{Entry, of_group};
use super::{GroupContext, Shard};
use crate::coordinator::Now;
use crate::group::classic::{ClassicGroup, Out};
use crate::group::consumer::assignor::Assignor;
use crate::group::consumer::describe::Description;
use crate::group::consumer::heartbeat::{HeartbeatAnswer, HeartbeatRequest};
use crate::group::consumer::leave::Leaves;
use crate::group::consumer::migration::{MigrationPolicy, upgraded};
use crate::group::consumer::records::ConsumerRecord;
use crate::group::consumer::settings::GroupLimits;
use crate::group::consumer::{ConsumerGroup, Draft, Refused, Surroundings};
use crate::group::records::Record;
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::uuid_text;

impl GroupContext {
    /// What an operation on `group` looks at beside it.
    pub(super) fn surroundings<'a>(&'a self, group: &str, image: &'a Arc<Image>, now: Now) -> Surroundings<'a> {
        let settings = &self.group.consumer;
        Surroundings {
            image,
            new_topics: &self.new_topics,
            limits: GroupLimits::of(group, settings, image),
            rack: self.rack.as_deref(),
            regex_refresh_interval_ms: settings.regex_refresh_interval_ms,
            default_assignor: self.default_assignor(),
            size_max: settings.size_max,
            now,
        }
    }

    /// All that members may ask for.
    pub fn assignors(&self) -> Vec<Assignor> {
        self.group.consumer.assignors.iter().filter_map(|name| Assignor::named(name)).collect()
    }

    fn default_assignor(&self) -> Assignor {
        let first = self.group.consumer.assignors.first();
        first.and_then(|name| Assignor::named(name)).unwrap_or(Assignor::Uniform)
    }

    pub(super) fn migration_policy(&self) -> MigrationPolicy {
        MigrationPolicy::named(&self.group.consumer.migration_policy).unwrap_or(MigrationPolicy::Bidirectional)
    }
}

impl Shard {
    /// ConsumerGroupHeartbeat, checked by itself already.
    pub fn consumer_heartbeat(
        &mut self,
        mut request: HeartbeatRequest,
        to: oneshot::Sender<Result<HeartbeatAnswer, Refused>>,
        now: Now,
    ) {
        let image = self.context.metadata.image();
        if request.member_id.is_empty() {
            request.member_id = uuid_text::encode(self.context.random.uuid()).into();
        }
        let outcome = match request.leaves() {
            true => self.leave_consumer_group(&request, &image, now),
            false => self.live_in_consumer_group(&request, &image, now),
        };
        self.journal.tell(to, outcome);
    }

    fn live_in_consumer_group(
        &mut self,
        request: &HeartbeatRequest,
        image: &Arc<Image>,
        now: Now,
    ) -> Result<HeartbeatAnswer, Refused> {
        let id = &request.group;
        let context = Arc::clone(&self.context);
        let around = context.surroundings(id, image, now);
        let known = self.groups.get_mut(id).and_then(Entry::consumer_mut);
        if let Some(answer) = known.and_then(|group| group.keep_alive(request, &around)) {
            self.schedule_if_idle(id);
            return Ok(answer);
        }
        let mut out = Out::default();
        // A classic group ends in the batch in which the consumer group begins.
        let mut before = Vec::new();
        let mut draft = match self.groups.get(id) {
            Some(Entry::Consumer(group)) => Draft::of(group),
            None if request.epoch == 0 => Draft::of(&ConsumerGroup::new(Arc::clone(id))),
            None => return Err(Refused::new(ErrorCode::GroupIdNotFound, format!("Consumer group {id} not found."))),
            Some(Entry::Classic { live, logged }) if request.epoch == 0 => {
                before.extend(logged.as_ref().map(|_| Record::Group(Arc::clone(id), None)));
                if live.is_empty() {
                    Draft::of(&ConsumerGroup::new(Arc::clone(id)))
                } else {
                    let draft = upgraded(live, context.migration_policy(), &around)?;
                    live.clone().dismiss(&mut out);
                    draft
                }
            }
            Some(_) => return Err(not_a_consumer_group(id)),
        };
        let answer = draft.heartbeat(request, &around)?;
        self.commit_draft(id, before, draft, now)?;
        self.answer_all(out);
        Ok(answer)
    }

    fn leave_consumer_group(
        &mut self,
        request: &HeartbeatRequest,
        image: &Arc<Image>,
        now: Now,
    ) -> Result<HeartbeatAnswer, Refused> {
        let id = &request.group;
        let group = match self.groups.get(id) {
            Some(Entry::Consumer(group)) => group,
            Some(_) => return Err(not_a_consumer_group(id)),
            None => return Err(not_found(id)),
        };
        match group.leaving(request)? {
            Leaves::ForNow(member) => {
                let mut draft = Draft::of(group);
                draft.leave_for_now(&member);
                self.commit_draft(id, Vec::new(), draft, now)?;
            }
            Leaves::ForGood(member) => self.remove_consumers(id, &BTreeSet::from([member]), image, now)?,
        }
        Ok(request.farewell())
    }

    /// Takes members out of a consumer group, which becomes classic when the last of its own protocol are among them.
    pub(super) fn remove_consumers(
        &mut self,
        id: &Arc<str>,
        members: &BTreeSet<Arc<str>>,
        image: &Arc<Image>,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let Some(group) = self.groups.get(id).and_then(Entry::consumer) else { return Ok(()) };
        if members.is_empty() {
            return Ok(());
        }
        let mut draft = Draft::of(group);
        if group.downgrades_without(members, self.context.migration_policy(), self.context.group.size_max) {
            return self.downgrade(id, draft, members, true, image, now);
        }
        draft.remove_members(members, &self.context.surroundings(id, image, now));
        self.commit_draft(id, Vec::new(), draft, now)
    }

    /// Ends the consumer group and begins the classic group of those who stay, in one batch.
    pub(super) fn downgrade(
        &mut self,
        id: &Arc<str>,
        draft: Draft,
        leaving: &BTreeSet<Arc<str>>,
        rebalance: bool,
        image: &Image,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let (logged, protocols) = draft.group.downgraded(leaving, image, now.wall_ms);
        let ended = draft.group.tombstones();
        let mut records: Vec<_> = of_group(id, draft.records.into_iter().chain(ended)).collect();
        records.push(Record::Group(Arc::clone(id), Some(logged.clone())));
        self.append(&records, now)?;
        let mut live = ClassicGroup::absorb(id, &logged, None, now);
        live.restore_protocols(protocols);
        self.groups.insert(Arc::clone(id), Entry::Classic { live, logged: Some(logged) });
        tracing::info!(group = %id, "consumer group became a classic group");
        if rebalance {
            return self.change(id, now, |group, settings, out| group.rejoin_all(now, settings, out));
        }
        self.schedule(id);
        Ok(())
    }

    /// Appends what an operation wrote, behind `before`, and puts the changed group in its place.
    pub(super) fn commit_draft(
        &mut self,
        id: &Arc<str>,
        before: Vec<Record>,
        draft: Draft,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let Draft { group, records } = draft;
        let records: Vec<_> = before.into_iter().chain(of_group(id, records)).collect();
        if !records.is_empty() {
            self.append(&records, now)?;
        }
        self.groups.insert(Arc::clone(id), Entry::Consumer(group));
        self.schedule(id);
        Ok(())
    }

    /// Does all that is due in a consumer group.
    pub(super) fn consumers_on_time(&mut self, id: &Arc<str>, now: Now) -> Result<(), ErrorCode> {
        let context = Arc::clone(&self.context);
        let image = context.metadata.image();
        let Some(group) = self.groups.get_mut(id).and_then(Entry::consumer_mut) else { return Ok(()) };
        let around = context.surroundings(id, &image, now);
        let late = group.overdue(&around);
        if group.must_resolve(&around) {
            let mut draft = Draft::of(group);
            draft.resolve_expressions(&around);
            self.commit_draft(id, Vec::new(), draft, now)?;
        }
        self.remove_consumers(id, &late, &image, now)?;
        self.schedule(id);
        Ok(())
    }

    /// Takes over one record of a consumer group while loading.
    pub(super) fn apply_consumer(&mut self, id: Arc<str>, record: ConsumerRecord) {
        let is_consumer = self.groups.get(&id).is_some_and(|entry| entry.consumer().is_some());
        if let ConsumerRecord::Epoch(None) = record {
            if is_consumer {
                self.groups.remove(&id);
            }
            return;
        }
        if !is_consumer {
            if record.is_tombstone() {
                return;
            }
            self.groups.insert(Arc::clone(&id), Entry::Consumer(ConsumerGroup::new(Arc::clone(&id))));
        }
        if let Some(group) = self.groups.get_mut(&id).and_then(Entry::consumer_mut) {
            group.apply(record);
        }
    }

    /// ConsumerGroupDescribe of one group.
    pub fn describe_consumers(&mut self, id: &Arc<str>, to: oneshot::Sender<Result<Description, Refused>>) {
        let described = match self.groups.get(id) {
            Some(Entry::Consumer(group)) => Ok(group.describe(self.context.default_assignor())),
            Some(_) => Err(not_a_consumer_group(id)),
            None => Err(not_found(id)),
        };
        self.journal.tell(to, described);
    }
}

pub(super) fn not_found(id: &str) -> Refused {
    Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} not found."))
}

fn not_a_consumer_group(id: &str) -> Refused {
    Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a consumer group."))
}
