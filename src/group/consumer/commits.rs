//! May a member commit and read offsets? By its epoch, relaxed where no other can own the partition (KIP-1251).

use std::cmp::Ordering;

use uuid::Uuid;

use super::ConsumerGroup;
use super::member::Member;
use crate::protocol::error_code::ErrorCode;

/// Who commits.
#[derive(Debug, Clone, Copy)]
pub struct Committer<'a> {
    /// Empty from outside of the group.
    pub member_id: &'a str,
    /// Set by a static member.
    pub instance_id: Option<&'a str>,
    /// Its epoch, -1 from outside of the group.
    pub epoch: i32,
    /// In a transaction?
    pub transactional: bool,
    /// By a version of the request that means epochs by its generation field.
    pub knows_epochs: bool,
}

impl ConsumerGroup {
    /// May offsets of these partitions be committed? One that may not fails the request.
    pub fn check_commit(
        &self,
        by: &Committer<'_>,
        mut partitions: impl Iterator<Item = (Uuid, i32)>,
    ) -> Result<(), ErrorCode> {
        if by.epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        // Producers before KIP-447 say nothing of the group.
        if by.transactional && by.epoch == -1 && by.member_id.is_empty() && by.instance_id.is_none() {
            return Ok(());
        }
        let member = self.members.get(by.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !by.transactional && !member.is_classic() && !by.knows_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let stale = stale(member);
        match by.epoch.cmp(&member.current.epoch) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(stale),
            // An epoch that was this member's when it got the partition fences nobody else.
            Ordering::Less => {
                let has = |partition| got_at(member, partition).is_some_and(|got_at| by.epoch >= got_at);
                if partitions.all(has) { Ok(()) } else { Err(stale) }
            }
        }
    }

    /// May a member read the group's offsets? One from outside says neither id nor epoch.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
        if epoch == member.current.epoch { Ok(()) } else { Err(stale(member)) }
    }
}

fn stale(member: &Member) -> ErrorCode {
    if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}

/// The epoch at which the member got a partition that it owns or gives back.
fn got_at(member: &Member, (topic, partition): (Uuid, i32)) -> Option<i32> {
    let owned = member.current.assigned.get(&topic).and_then(|partitions| partitions.get(&partition));
    owned.or_else(|| member.current.revoking.get(&topic)?.get(&partition)).copied()
}
