//! May a member commit and read offsets? By its epoch, relaxed where no other can own the task.

use std::cmp::Ordering;
use std::sync::Arc;

use super::StreamsGroup;
use super::member::Current;
use crate::group::consumer::commits::Committer;
use crate::protocol::error_code::ErrorCode;

impl StreamsGroup {
    /// May offsets of these partitions be committed? One that may not fails the request.
    pub fn check_commit<'p>(
        &self,
        by: &Committer<'_>,
        mut partitions: impl Iterator<Item = (&'p Arc<str>, i32)>,
    ) -> Result<(), ErrorCode> {
        if by.epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        // Producers before KIP-447 say nothing of the group.
        if by.transactional && by.epoch == -1 && by.member_id.is_empty() && by.instance_id.is_none() {
            return Ok(());
        }
        let member = self.members.get(by.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !by.transactional && !by.knows_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match by.epoch.cmp(&member.current.epoch) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(ErrorCode::StaleMemberEpoch),
            // An epoch that was this member's when it got the task fences nobody else.
            Ordering::Less => {
                let has = |(topic, partition): (&Arc<str>, i32)| {
                    self.got_at(&member.current, topic, partition).is_some_and(|got_at| by.epoch >= got_at)
                };
                if partitions.all(has) { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
            }
        }
    }

    /// May a member read the group's offsets? One from outside says neither id nor epoch.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
        if epoch == member.current.epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }

    /// The epoch at which a member got the task that reads a partition, which it owns or gives back.
    fn got_at(&self, current: &Current, topic: &str, partition: i32) -> Option<i32> {
        let id = self.topology.as_ref()?.reader_of(topic)?;
        let of = |tasks: &super::tasks::EpochTasks| tasks.get(id)?.get(&partition).copied();
        of(&current.assigned.active).or_else(|| of(&current.revoking.active))
    }
}
