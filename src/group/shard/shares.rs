//! Share groups: ShareGroupHeartbeat, ShareGroupDescribe, their deadlines, and which partitions' states are kept for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::consumers::not_found;
use super::entry::{Entry, of_share_group};
use super::{GroupContext, Shard};
use crate::coordinator::Now;
use crate::group::consumer::heartbeat::HeartbeatAnswer;
use crate::group::consumer::{Partitions, Refused};
use crate::group::share::describe::Description;
use crate::group::share::heartbeat::HeartbeatRequest;
use crate::group::share::records::{ShareRecord, StatePartitions};
use crate::group::share::{ShareDraft, ShareGroup, Surroundings};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;
use crate::share::settings::ShareLimits;

/// What becomes of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lives {
    /// The answer.
    pub answer: HeartbeatAnswer,
    /// Partitions that the share coordinator must keep before members may read them.
    pub uninitialized: Arc<Partitions>,
}

impl GroupContext {
    fn share_surroundings<'a>(&'a self, group: &str, image: &'a Arc<Image>, now: Now) -> Surroundings<'a> {
        let settings = &self.group.share;
        Surroundings {
            image,
            limits: ShareLimits::of(group, settings, image),
            rack: self.rack.as_deref(),
            size_max: settings.size_max,
            now,
        }
    }
}

impl Shard {
    /// ShareGroupHeartbeat, checked by itself already.
    pub fn share_heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        to: oneshot::Sender<Result<Lives, Refused>>,
        now: Now,
    ) {
        let image = self.context.metadata.image();
        let outcome = match request.leaves() {
            true => self.leave_share_group(request, &image, now),
            false => self.live_in_share_group(request, &image, now),
        };
        self.journal.tell(to, outcome);
    }

    fn live_in_share_group(
        &mut self,
        request: &HeartbeatRequest,
        image: &Arc<Image>,
        now: Now,
    ) -> Result<Lives, Refused> {
        let id = &request.group;
        let context = Arc::clone(&self.context);
        let around = context.share_surroundings(id, image, now);
        let known = self.groups.get_mut(id).and_then(Entry::share_mut);
        if let Some(answer) = known.and_then(|group| group.keep_alive(request, &around)) {
            self.schedule_if_idle(id);
            return Ok(Lives { answer, uninitialized: self.uninitialized(id, image) });
        }
        let mut draft = match self.groups.get(id) {
            Some(Entry::Share(group)) => ShareDraft::of(group),
            None if request.epoch == 0 => ShareDraft::of(&ShareGroup::new(Arc::clone(id))),
            None => return Err(Refused::new(ErrorCode::GroupIdNotFound, format!("Share group {id} not found."))),
            Some(_) => return Err(not_a_share_group(id)),
        };
        let answer = draft.heartbeat(request, &around)?;
        self.commit_share_draft(id, draft, now)?;
        Ok(Lives { answer, uninitialized: self.uninitialized(id, image) })
    }

    fn uninitialized(&mut self, id: &str, image: &Image) -> Arc<Partitions> {
        self.groups.get_mut(id).and_then(Entry::share_mut).map(|group| group.uninitialized(image)).unwrap_or_default()
    }

    fn leave_share_group(
        &mut self,
        request: &HeartbeatRequest,
        image: &Arc<Image>,
        now: Now,
    ) -> Result<Lives, Refused> {
        let id = &request.group;
        self.share_group(id)?.member(&request.member_id)?;
        self.remove_share_members(id, &BTreeSet::from([Arc::clone(&request.member_id)]), image, now)?;
        Ok(Lives { answer: request.farewell(), uninitialized: Arc::default() })
    }

    fn remove_share_members(
        &mut self,
        id: &Arc<str>,
        members: &BTreeSet<Arc<str>>,
        image: &Arc<Image>,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let Some(group) = self.groups.get(id).and_then(Entry::share) else { return Ok(()) };
        let mut draft = ShareDraft::of(group);
        let context = Arc::clone(&self.context);
        draft.remove_members(members, &context.share_surroundings(id, image, now));
        self.commit_share_draft(id, draft, now)
    }

    fn commit_share_draft(&mut self, id: &Arc<str>, draft: ShareDraft, now: Now) -> Result<(), ErrorCode> {
        let ShareDraft { group, records } = draft;
        let records: Vec<_> = of_share_group(id, records).collect();
        if !records.is_empty() {
            self.append(&records, now)?;
        }
        self.groups.insert(Arc::clone(id), Entry::Share(group));
        self.schedule(id);
        Ok(())
    }

    fn share_group(&self, id: &str) -> Result<&ShareGroup, Refused> {
        match self.groups.get(id) {
            Some(Entry::Share(group)) => Ok(group),
            Some(_) => Err(not_a_share_group(id)),
            None => Err(not_found(id)),
        }
    }

    /// Does all that is due in a share group.
    pub(super) fn shares_on_time(&mut self, id: &Arc<str>, now: Now) -> Result<(), ErrorCode> {
        let image = self.context.metadata.image();
        let Some(group) = self.groups.get(id).and_then(Entry::share) else { return Ok(()) };
        let late = group.overdue(now);
        self.remove_share_members(id, &late, &image, now)
    }

    /// Takes over one record of a share group while loading.
    pub(super) fn apply_share(&mut self, id: Arc<str>, record: ShareRecord) {
        let is_share = self.groups.get(&id).is_some_and(|entry| entry.share().is_some());
        if let ShareRecord::Epoch(None) = record {
            if is_share {
                self.groups.remove(&id);
            }
            return;
        }
        if !is_share {
            if record.is_tombstone() {
                return;
            }
            self.groups.insert(Arc::clone(&id), Entry::Share(ShareGroup::new(Arc::clone(&id))));
        }
        if let Some(group) = self.groups.get_mut(&id).and_then(Entry::share_mut) {
            group.apply(record);
        }
    }

    /// ShareGroupDescribe of one group.
    pub fn describe_shares(&mut self, id: &Arc<str>, to: oneshot::Sender<Result<Description, Refused>>) {
        let described = self.share_group(id).map(ShareGroup::describe);
        self.journal.tell(to, described);
    }

    /// Is there no group of this name?
    pub fn is_free(&mut self, id: &str, to: oneshot::Sender<bool>) {
        let free = !self.groups.contains_key(id);
        self.journal.tell(to, free);
    }

    /// The partitions whose states are kept for a share group; with `only_empty` NON_EMPTY_GROUP while it has members.
    pub fn share_states(
        &mut self,
        id: &Arc<str>,
        only_empty: bool,
        to: oneshot::Sender<Result<StatePartitions, Refused>>,
    ) {
        let states = match self.share_group(id) {
            Ok(group) if only_empty && !group.is_empty() => {
                Err(Refused::new(ErrorCode::NonEmptyGroup, format!("Group {id} is not empty.")))
            }
            Ok(group) => Ok(group.states().clone()),
            Err(refused) => Err(refused),
        };
        self.journal.tell(to, states);
    }

    /// The share coordinator forgets states of topics that are gone by itself. A topic of the same name is another.
    pub(super) fn forget_states_of_gone_topics(&mut self, now: Now) {
        let image = self.context.metadata.image();
        let gone = |group: &ShareGroup| {
            let topics = group.states().topics().into_iter();
            topics.filter(|topic| image.topic_by_id(topic).is_none()).collect::<Vec<_>>()
        };
        let shares = self.groups.iter().filter_map(|(id, entry)| Some((Arc::clone(id), gone(entry.share()?))));
        let affected: Vec<_> = shares.filter(|(_, gone)| !gone.is_empty()).collect();
        for (id, gone) in affected {
            let Some(group) = self.groups.get(&id).and_then(Entry::share) else { continue };
            let mut draft = ShareDraft::of(group);
            draft.deleting(&gone);
            draft.deleted(&gone);
            // When the log refuses, the next topic that goes takes them along; nothing is read by them.
            let _ = self.commit_share_draft(&id, draft, now);
        }
    }

    /// Writes what has become of the states of partitions; nothing when the group is gone meanwhile. NON_EMPTY_GROUP when
    /// they are to be forgotten while it has members.
    pub fn change_share_states(
        &mut self,
        id: &Arc<str>,
        change: StatesChange,
        to: oneshot::Sender<Result<(), ErrorCode>>,
        now: Now,
    ) {
        let image = self.context.metadata.image();
        let known = match self.groups.get(id) {
            Some(Entry::Share(group)) => Some(ShareDraft::of(group)),
            // Offsets are set for a group that nobody has joined yet.
            None if change.makes_group() => Some(ShareDraft::begun(Arc::clone(id))),
            Some(_) | None => None,
        };
        let outcome = match known {
            None => Ok(()),
            Some(draft) if change.needs_empty() && !draft.group.is_empty() => Err(ErrorCode::NonEmptyGroup),
            Some(mut draft) => {
                change.apply(&mut draft, &image);
                self.commit_share_draft(id, draft, now)
            }
        };
        self.journal.tell(to, outcome);
    }
}

/// A step in the life of states of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatesChange {
    /// The share coordinator is asked to keep them.
    Initializing(Partitions),
    /// It keeps them.
    Initialized(Partitions),
    /// It keeps them, for offsets that an administrator sets, also of a group that is not there.
    Set(Partitions),
    /// It does not keep them, though it should.
    Missing(Partitions),
    /// It is asked to forget these topics.
    Deleting(Vec<Uuid>),
    /// It has forgotten them.
    Deleted(Vec<Uuid>),
}

impl StatesChange {
    fn makes_group(&self) -> bool {
        matches!(self, Self::Set(_))
    }

    fn needs_empty(&self) -> bool {
        matches!(self, Self::Deleting(_))
    }

    fn apply(&self, draft: &mut ShareDraft, image: &Image) {
        match self {
            Self::Initializing(partitions) => draft.initializing(partitions, image),
            Self::Initialized(partitions) => draft.initialized(partitions, image),
            Self::Set(partitions) => draft.set(partitions, image),
            Self::Missing(partitions) => draft.missing(partitions),
            Self::Deleting(topics) => draft.deleting(topics),
            Self::Deleted(topics) => draft.deleted(topics),
        }
    }
}

fn not_a_share_group(id: &str) -> Refused {
    Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a share group."))
}
