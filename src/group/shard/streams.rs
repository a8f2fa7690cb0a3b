//! Streams groups: StreamsGroupHeartbeat, StreamsGroupDescribe, and their deadlines.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::consumers::not_found;
use super::entry::{Entry, of_streams_group};
use super::{GroupContext, Shard};
use crate::coordinator::Now;
use crate::group::consumer::Refused;
use crate::group::records::Record;
use crate::group::streams::describe::Description;
use crate::group::streams::heartbeat::{HeartbeatAnswer, HeartbeatRequest};
use crate::group::streams::records::StreamsRecord;
use crate::group::streams::settings::StreamsLimits;
use crate::group::streams::{StreamsDraft, StreamsGroup, Surroundings};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

impl GroupContext {
    fn streams_surroundings<'a>(&'a self, group: &str, image: &'a Arc<Image>, now: Now) -> Surroundings<'a> {
        let settings = &self.group.streams;
        Surroundings {
            image,
            limits: StreamsLimits::of(group, settings, image),
            rack: self.rack.as_deref(),
            size_max: settings.size_max,
            now,
        }
    }
}

impl Shard {
    /// StreamsGroupHeartbeat, checked by itself already.
    pub fn streams_heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        to: oneshot::Sender<Result<HeartbeatAnswer, Refused>>,
        now: Now,
    ) {
        let image = self.context.metadata.image();
        let outcome = match request.leaves() {
            true => self.leave_streams_group(request, now),
            false => self.live_in_streams_group(request, &image, now),
        };
        self.journal.tell(to, outcome);
    }

    fn live_in_streams_group(
        &mut self,
        request: &HeartbeatRequest,
        image: &Arc<Image>,
        now: Now,
    ) -> Result<HeartbeatAnswer, Refused> {
        let id = &request.group;
        let context = Arc::clone(&self.context);
        let around = context.streams_surroundings(id, image, now);
        let known = self.groups.get_mut(id).and_then(Entry::streams_mut);
        if let Some(answer) = known.and_then(|group| group.keep_alive(request, &around)) {
            self.schedule_if_idle(id);
            return Ok(answer);
        }
        let joins = request.epoch == 0;
        // A classic group without members ends in the batch in which the streams group begins.
        let mut before = Vec::new();
        let (mut draft, born) = match self.groups.get(id) {
            Some(Entry::Streams(group)) => (StreamsDraft::of(group), false),
            None if joins => (StreamsDraft::of(&StreamsGroup::new(Arc::clone(id))), true),
            None => return Err(Refused::new(ErrorCode::GroupIdNotFound, format!("Streams group {id} not found."))),
            Some(Entry::Classic { live, logged }) if joins && live.is_empty() => {
                before.extend(logged.as_ref().map(|_| Record::Group(Arc::clone(id), None)));
                (StreamsDraft::of(&StreamsGroup::new(Arc::clone(id))), true)
            }
            Some(_) => return Err(not_a_streams_group(id)),
        };
        let mut answer = draft.heartbeat(request, &around)?;
        if born {
            // As in Kafka endpoints are counted from the second heartbeat of a group on.
            answer.endpoint_epoch = draft.group.begin_endpoints();
        }
        self.commit_streams_draft(id, before, draft, now)?;
        Ok(answer)
    }

    fn leave_streams_group(&mut self, request: &HeartbeatRequest, now: Now) -> Result<HeartbeatAnswer, Refused> {
        let id = &request.group;
        let group = self.streams_group(id)?;
        group.member(&request.member_id)?;
        let mut draft = StreamsDraft::of(group);
        if request.shutdown {
            draft.request_shutdown(&request.member_id);
        }
        draft.remove_members(&BTreeSet::from([Arc::clone(&request.member_id)]));
        self.commit_streams_draft(id, Vec::new(), draft, now)?;
        Ok(request.farewell())
    }

    fn commit_streams_draft(
        &mut self,
        id: &Arc<str>,
        before: Vec<Record>,
        draft: StreamsDraft,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let StreamsDraft { group, records } = draft;
        let records: Vec<_> = before.into_iter().chain(of_streams_group(id, records)).collect();
        if !records.is_empty() {
            self.append(&records, now)?;
        }
        self.groups.insert(Arc::clone(id), Entry::Streams(group));
        self.schedule(id);
        Ok(())
    }

    fn streams_group(&self, id: &str) -> Result<&StreamsGroup, Refused> {
        match self.groups.get(id) {
            Some(Entry::Streams(group)) => Ok(group),
            Some(_) => Err(not_a_streams_group(id)),
            None => Err(not_found(id)),
        }
    }

    /// Does all that is due in a streams group.
    pub(super) fn streams_on_time(&mut self, id: &Arc<str>, now: Now) -> Result<(), ErrorCode> {
        let context = Arc::clone(&self.context);
        let image = context.metadata.image();
        let Some(group) = self.groups.get_mut(id).and_then(Entry::streams_mut) else { return Ok(()) };
        let late = group.overdue(now);
        let mut draft = StreamsDraft::of(group);
        draft.remove_members(&late);
        draft.end_first_wait(&context.streams_surroundings(id, &image, now));
        self.commit_streams_draft(id, Vec::new(), draft, now)
    }

    /// Takes over one record of a streams group while loading.
    pub(super) fn apply_streams(&mut self, id: Arc<str>, record: StreamsRecord) {
        let is_streams = self.groups.get(&id).is_some_and(|entry| entry.streams().is_some());
        if let StreamsRecord::Epoch(None) = record {
            if is_streams {
                self.groups.remove(&id);
            }
            return;
        }
        if !is_streams {
            if record.is_tombstone() {
                return;
            }
            self.groups.insert(Arc::clone(&id), Entry::Streams(StreamsGroup::new(Arc::clone(&id))));
        }
        if let Some(group) = self.groups.get_mut(&id).and_then(Entry::streams_mut) {
            group.apply(record);
        }
    }

    /// StreamsGroupDescribe of one group.
    pub fn describe_streams(&mut self, id: &Arc<str>, to: oneshot::Sender<Result<Description, Refused>>) {
        let described = self.streams_group(id).map(StreamsGroup::describe);
        self.journal.tell(to, described);
    }
}

fn not_a_streams_group(id: &str) -> Refused {
    Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a streams group."))
}
