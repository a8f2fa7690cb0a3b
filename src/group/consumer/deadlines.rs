//! When members must be heard of. Not in the log: after a load all of it begins anew.

use std::collections::HashMap;
use std::sync::Arc;

/// Deadlines of one member, all monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberDeadlines {
    /// Its session ends.
    pub session: Option<u64>,
    /// It must have given partitions back, if it is still at this epoch.
    pub revoke: Option<(u64, i32)>,
    /// A classic member that was told to rejoin must have.
    pub join: Option<u64>,
    /// A classic member that joined must have synced.
    pub sync: Option<u64>,
}

/// Why a member is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// Its session ended.
    Session,
    /// It kept partitions longer than its rebalance timeout.
    Revoke,
    /// It didn't rejoin.
    Join,
    /// It didn't sync.
    Sync,
}

/// Deadlines of all members of a group, and when its expressions are to be resolved.
#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    members: HashMap<Arc<str>, MemberDeadlines>,
    /// Expressions wait to be resolved since this moment; the answer that asked for it goes first.
    pub resolve: Option<u64>,
}

impl Deadlines {
    /// Those of one member.
    pub fn of(&mut self, id: &Arc<str>) -> &mut MemberDeadlines {
        self.members.entry(Arc::clone(id)).or_default()
    }

    /// The member is gone.
    pub fn forget(&mut self, id: &str) {
        self.members.remove(id);
    }

    /// The next of all.
    pub fn next(&self) -> Option<u64> {
        let each = |deadlines: &MemberDeadlines| {
            let revoke = deadlines.revoke.map(|(at, _)| at);
            [deadlines.session, revoke, deadlines.join, deadlines.sync].into_iter().flatten().min()
        };
        self.members.values().filter_map(each).chain(self.resolve).min()
    }

    /// Members that are late by `mono_ms`, in the order of their ids. `epoch_of` tells a member's epoch: one that has
    /// moved on since has given back what it should.
    pub fn overdue(&mut self, mono_ms: u64, epoch_of: impl Fn(&str) -> Option<i32>) -> Vec<(Arc<str>, Overdue)> {
        let mut late = Vec::new();
        for (id, deadlines) in &mut self.members {
            let due = |at: Option<u64>| at.is_some_and(|at| at <= mono_ms);
            if let Some((at, epoch)) = deadlines.revoke
                && at <= mono_ms
            {
                deadlines.revoke = None;
                if epoch_of(id) == Some(epoch) {
                    late.push((Arc::clone(id), Overdue::Revoke));
                    continue;
                }
            }
            let kinds = [
                (deadlines.session, Overdue::Session),
                (deadlines.join, Overdue::Join),
                (deadlines.sync, Overdue::Sync),
            ];
            late.extend(kinds.into_iter().find(|(at, _)| due(*at)).map(|(_, kind)| (Arc::clone(id), kind)));
        }
        late.sort_by(|(a, _), (b, _)| a.cmp(b));
        late
    }
}
