//! The "simple" assignor (KIP-932): spreads partitions over members that may read side by side.
//!
//! With as many partitions as members or more each partition has one member; with fewer each has as many as it takes that no
//! member is without. Members differ by one partition at most. Who has partitions keeps them as far as that allows. Members
//! that subscribe to the same share all partitions so; otherwise each topic is spread by itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::group::consumer::Partitions;

/// One member, as the assignor looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'g> {
    /// What it subscribes to, by name: topics may not be there.
    pub(super) names: &'g BTreeSet<Arc<str>>,
    /// What it was assigned before.
    pub(super) before: Option<&'g Partitions>,
}

/// The partitions of a topic that may be read.
#[derive(Debug, Clone)]
pub(super) struct Readable {
    pub(super) name: Arc<str>,
    pub(super) id: Uuid,
    pub(super) partitions: BTreeSet<i32>,
}

/// Assigns every readable partition of each topic to readers that subscribe to it; the answer is in their order.
pub(super) fn assign(readers: &[Reader<'_>], topics: &[Readable]) -> Vec<Partitions> {
    let mut assigned = vec![Partitions::new(); readers.len()];
    let alike = readers.windows(2).all(|pair| pair[0].names == pair[1].names);
    // Topics that are spread together.
    let parts: Vec<Vec<&Readable>> = match (alike, readers.first()) {
        (true, Some(reader)) => vec![topics.iter().filter(|topic| reader.names.contains(&topic.name)).collect()],
        _ => topics.iter().map(|topic| vec![topic]).collect(),
    };
    for part in parts {
        let subscribes = |reader: &Reader<'_>| part.iter().any(|topic| reader.names.contains(&topic.name));
        let who: Vec<usize> = (0..readers.len()).filter(|at| subscribes(&readers[*at])).collect();
        let slots: Vec<(Uuid, i32)> =
            part.iter().flat_map(|topic| topic.partitions.iter().map(|one| (topic.id, *one))).collect();
        let index: BTreeMap<_, usize> = slots.iter().enumerate().map(|(at, slot)| (*slot, at)).collect();
        let before = who.iter().map(|at| {
            let before = readers[*at].before.into_iter().flatten();
            let before = before.flat_map(|(topic, some)| some.iter().map(|one| (*topic, *one)));
            before.filter_map(|slot| index.get(&slot).copied()).collect()
        });
        for (at, slots_of) in who.iter().zip(spread(before.collect(), slots.len())) {
            for (topic, partition) in slots_of.into_iter().map(|slot| slots[slot]) {
                assigned[*at].entry(topic).or_default().insert(partition);
            }
        }
    }
    assigned
}

/// Spreads `partitions` over members which had `before`.
fn spread(before: Vec<BTreeSet<usize>>, partitions: usize) -> Vec<BTreeSet<usize>> {
    let members = before.len();
    if members == 0 || partitions == 0 {
        return before;
    }
    let mut spread = Spread::new(before, partitions);
    spread.take_back();
    spread.hand_out();
    spread.members
}

struct Spread {
    /// The partitions of each member.
    members: Vec<BTreeSet<usize>>,
    /// The members of each partition.
    readers: Vec<BTreeSet<usize>>,
    /// How many partitions each member is to have.
    wanted: Vec<usize>,
    /// How many members each partition is to have.
    sharing: usize,
}

impl Spread {
    fn new(members: Vec<BTreeSet<usize>>, partitions: usize) -> Self {
        let sharing = members.len().div_ceil(partitions);
        let (least, more) = (partitions * sharing / members.len(), partitions * sharing % members.len());
        // Who has the most may keep one more.
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|member| Reverse(members[*member].len()));
        let mut wanted = vec![least; members.len()];
        order.iter().take(more).for_each(|member| wanted[*member] += 1);
        let mut readers = vec![BTreeSet::new(); partitions];
        for (member, slots) in members.iter().enumerate() {
            slots.iter().for_each(|slot| _ = readers[*slot].insert(member));
        }
        Self { members, readers, wanted, sharing }
    }

    fn give(&mut self, member: usize, slot: usize) {
        self.members[member].insert(slot);
        self.readers[slot].insert(member);
    }

    fn take(&mut self, member: usize, slot: usize) {
        self.members[member].remove(&slot);
        self.readers[slot].remove(&member);
    }

    /// Members with too many partitions lose some, those first that others have too; and partitions with too many members.
    fn take_back(&mut self) {
        for member in 0..self.members.len() {
            let excess = self.members[member].len().saturating_sub(self.wanted[member]);
            if excess > 0 {
                let mut slots: Vec<usize> = self.members[member].iter().copied().collect();
                slots.sort_by_key(|slot| Reverse(self.readers[*slot].len()));
                slots.into_iter().take(excess).for_each(|slot| self.take(member, slot));
            }
        }
        for slot in 0..self.readers.len() {
            let excess = self.readers[slot].len().saturating_sub(self.sharing);
            let lose: Vec<usize> = self.readers[slot].iter().rev().take(excess).copied().collect();
            lose.into_iter().for_each(|member| self.take(member, slot));
        }
    }

    /// Partitions with too few members go to those that lack the most.
    fn hand_out(&mut self) {
        let lacks = |spread: &Self, member: usize| spread.wanted[member] - spread.members[member].len();
        let short = (0..self.members.len()).map(|member| (Reverse(lacks(self, member)), member));
        let mut short: BTreeSet<_> = short.filter(|(lacks, _)| lacks.0 > 0).collect();
        for slot in 0..self.readers.len() {
            while self.readers[slot].len() < self.sharing {
                let other = short.iter().find(|(_, member)| !self.readers[slot].contains(member)).copied();
                let Some(first) = other.or_else(|| short.first().copied()) else { return };
                short.remove(&first);
                let (Reverse(lacking), member) = first;
                if other.is_some() {
                    self.give(member, slot);
                } else if !self.exchange(member, slot) {
                    break;
                }
                if lacking > 1 {
                    short.insert((Reverse(lacking - 1), member));
                }
            }
        }
    }

    /// A member that lacks one has this one already: it takes one from a member that has not, which takes this one instead.
    fn exchange(&mut self, member: usize, slot: usize) -> bool {
        let others = (0..self.members.len()).filter(|other| !self.readers[slot].contains(other));
        let found = others.into_iter().find_map(|other| {
            let theirs = self.members[other].difference(&self.members[member]).next()?;
            Some((other, *theirs))
        });
        let Some((other, theirs)) = found else { return false };
        self.take(other, theirs);
        self.give(member, theirs);
        self.give(other, slot);
        true
    }
}

#[cfg(test)]
mod tests;
