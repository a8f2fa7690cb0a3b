//! Requests about committed offsets, and the end of offsets and groups.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Shard;
use super::entry::Entry;
use crate::coordinator::{Now, Outcomes};
use crate::group::offsets::{CommitOffset, CommitRequest, FetchRequest, FetchedTopic, check_metadata};
use crate::group::records::{Committed, OffsetKey, Record};
use crate::protocol::error_code::ErrorCode;

/// Tombstones of one batch; together well below any `max.message.bytes`.
const TOMBSTONES_PER_BATCH: usize = 500;

impl Shard {
    /// OffsetCommit; the outcome of each offset in the order of the request, or one for all.
    pub fn commit(&mut self, request: &CommitRequest, to: oneshot::Sender<Outcomes>, now: Now) {
        let outcome = self.check_commit(request, now).and_then(|()| self.commit_offsets(request, now));
        self.journal.tell(to, outcome);
    }

    /// A group that isn't there is made by a commit from outside of any group.
    fn check_commit(&mut self, request: &CommitRequest, now: Now) -> Result<(), ErrorCode> {
        match self.groups.get_mut(&request.group) {
            Some(Entry::Consumer(group)) => {
                let partitions = request.offsets.iter().map(|offset| (offset.topic_id, offset.partition));
                group.check_commit(&request.committer(false), partitions)
            }
            Some(Entry::Classic { live: group, .. }) => {
                group.check_commit(&request.member_id, request.instance_id.as_deref(), request.generation)?;
                group.heard_by_commit(&request.member_id, now);
                Ok(())
            }
            Some(Entry::Streams(group)) => {
                group.check_commit(&request.committer(false), request.offsets.iter().map(CommitOffset::partition))
            }
            Some(Entry::Share(_)) => Err(ErrorCode::GroupIdNotFound),
            None if request.generation < 0 => Ok(()),
            None if request.knows_group_id_not_found => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn commit_offsets(&mut self, request: &CommitRequest, now: Now) -> Outcomes {
        let metadata_bytes_max = self.context.offsets.metadata_bytes_max;
        let check = |offset: &CommitOffset| check_metadata(offset.metadata.as_deref(), metadata_bytes_max);
        let outcomes: Vec<_> = request.offsets.iter().map(check).collect();
        let accepted = request.offsets.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        let records: Vec<_> = accepted.map(|(offset, _)| commit_record(request, offset, now)).collect();
        if !records.is_empty() {
            self.commit_records(records, now)?;
        }
        Ok(outcomes)
    }

    /// OffsetFetch of one group.
    pub fn fetch(&mut self, request: &FetchRequest, to: oneshot::Sender<Result<Vec<FetchedTopic>, ErrorCode>>) {
        let allowed = match self.groups.get(&request.group) {
            Some(Entry::Consumer(group)) => group.check_fetch(request.member_id.as_deref(), request.member_epoch),
            Some(Entry::Streams(group)) => group.check_fetch(request.member_id.as_deref(), request.member_epoch),
            Some(Entry::Share(_)) => Err(ErrorCode::GroupIdNotFound),
            Some(Entry::Classic { .. }) | None => Ok(()),
        };
        let fetched = allowed.map(|()| self.offsets.fetch(&request.group, &request.topics, request.require_stable));
        self.journal.tell(to, fetched);
    }

    /// OffsetDelete; the outcome of each partition in the order of the request, or one for all.
    pub fn delete_offsets(
        &mut self,
        group: &Arc<str>,
        partitions: &[(Arc<str>, i32)],
        to: oneshot::Sender<Outcomes>,
        now: Now,
    ) {
        let outcome = self.try_delete_offsets(group, partitions, now);
        self.journal.tell(to, outcome);
    }

    fn try_delete_offsets(&mut self, id: &Arc<str>, partitions: &[(Arc<str>, i32)], now: Now) -> Outcomes {
        let group = self.groups.get(id).ok_or(ErrorCode::GroupIdNotFound)?;
        if !group.may_delete_offsets() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let check = |(topic, _): &(Arc<str>, i32)| match group.is_subscribed_to(topic) {
            true => Err(ErrorCode::GroupSubscribedToTopic),
            false => Ok(()),
        };
        let outcomes: Vec<_> = partitions.iter().map(check).collect();
        let allowed = partitions.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        let keys = allowed.map(|((topic, partition), _)| OffsetKey {
            group: Arc::clone(id),
            topic: Arc::clone(topic),
            partition: *partition,
        });
        let tombstones = keys.filter(|key| self.offsets.knows(key)).map(|key| Record::Offset(key, None)).collect();
        self.bury(tombstones, now)?;
        Ok(outcomes)
    }

    /// DeleteGroups of one group: only without members.
    pub fn delete_group(&mut self, id: &Arc<str>, to: oneshot::Sender<Result<(), ErrorCode>>, now: Now) {
        let outcome = match self.groups.get(id) {
            None => Err(ErrorCode::GroupIdNotFound),
            Some(entry) if !entry.is_empty() => Err(ErrorCode::NonEmptyGroup),
            Some(entry) => {
                let offsets = self.offsets.keys_of_group(id).into_iter().map(|key| Record::Offset(key, None));
                let tombstones = offsets.chain(entry.tombstones(id)).collect();
                self.bury(tombstones, now)
            }
        };
        self.journal.tell(to, outcome);
    }

    /// Offsets of topics that are gone go too.
    pub(super) fn delete_offsets_of_topics(&mut self, topics: &[Arc<str>], now: Now) {
        let tombstones = self.offsets.keys_of_topics(topics).into_iter().map(|key| Record::Offset(key, None)).collect();
        // When the log refuses, retention will end these offsets.
        let _ = self.bury(tombstones, now);
    }

    /// Ends offsets that have outlived their retention, and groups that have neither members nor offsets.
    pub(super) fn expire_offsets(&mut self, now: Now) {
        let retention_ms = self.context.offsets.retention_ms;
        let mut tombstones = Vec::new();
        for (id, entry) in &self.groups {
            let is_subscribed_to = |topic: &str| entry.is_subscribed_to(topic);
            let (expired, all) =
                self.offsets.expired(id, entry.expiry_base(), is_subscribed_to, now.wall_ms, retention_ms);
            tombstones.extend(expired.into_iter().map(|key| Record::Offset(key, None)));
            if all && entry.is_idle() {
                tombstones.extend(entry.tombstones(id));
            }
        }
        if self.bury(tombstones, now).is_err() {
            tracing::warn!("expired offsets stay until the next check");
        }
    }

    /// Tombstones need not come all at once: each stands for itself.
    pub(super) fn bury(&mut self, tombstones: Vec<Record>, now: Now) -> Result<(), ErrorCode> {
        for some in tombstones.chunks(TOMBSTONES_PER_BATCH) {
            self.commit_records(some.to_vec(), now)?;
        }
        Ok(())
    }
}

pub(super) fn commit_record(request: &CommitRequest, offset: &CommitOffset, now: Now) -> Record {
    let key =
        OffsetKey { group: Arc::clone(&request.group), topic: Arc::clone(&offset.topic), partition: offset.partition };
    let committed = Committed {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone().unwrap_or_default(),
        commit_timestamp: now.wall_ms,
        expire_timestamp: request.retention_ms.map(|retention_ms| now.wall_ms.saturating_add(retention_ms)),
        topic_id: offset.topic_id,
    };
    Record::Offset(key, Some(committed))
}
