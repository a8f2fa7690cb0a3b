//! Uniform: loads as even as the subscriptions allow, and of all such assignments one that moves little.
//!
//! Members with equal subscriptions have equal shares, give or take one. With different subscriptions every partition
//! first stays where it is, what nobody owns goes to the least loaded subscriber, and then partitions move topic by topic
//! from the most to the least loaded while that narrows the gap.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{TopicSizes, Wants};
use crate::group::consumer::Partitions;

/// Rounds over all topics; most groups are even after one or two.
const ROUNDS_MAX: usize = 16;

/// See the module.
pub(super) fn assign(members: &[Wants<'_>], topics: &TopicSizes) -> Vec<Partitions> {
    let Some(first) = members.first() else { return Vec::new() };
    if members.iter().all(|member| member.topics == first.topics) {
        assign_equal(members, &first.topics, topics)
    } else {
        Mixed::new(members, topics).assign()
    }
}

fn assign_equal(members: &[Wants<'_>], subscribed: &BTreeSet<Uuid>, topics: &TopicSizes) -> Vec<Partitions> {
    let mut targets: Vec<_> = members.iter().map(|member| member.kept(topics)).collect();
    let sizes = subscribed.iter().filter_map(|topic| topics.get(topic).map(|count| (*topic, *count)));
    let all: usize = sizes.clone().map(|(_, count)| usize::try_from(count).unwrap_or(0)).sum();
    let (share, mut larger) = (all / members.len(), all % members.len());

    let mut unowned: BTreeSet<_> = sizes.flat_map(|(topic, count)| (0..count).map(move |one| (topic, one))).collect();
    let mut quotas = Vec::with_capacity(members.len());
    for target in &mut targets {
        // Two members own the same only if the log says so; the first keeps it.
        target.retain(|topic, partitions| {
            partitions.retain(|&partition| unowned.remove(&(*topic, partition)));
            !partitions.is_empty()
        });
        // Who has more than a share keeps one more, while there are larger shares to give.
        let keeps_larger = load(target) > share && larger > 0;
        larger -= usize::from(keeps_larger);
        let quota = share + usize::from(keeps_larger);
        unowned.extend(shed(target, quota));
        quotas.push(quota);
    }
    let mut unowned = unowned.into_iter();
    for (target, mut quota) in targets.iter_mut().zip(quotas) {
        if quota == share && larger > 0 {
            quota += 1;
            larger -= 1;
        }
        let missing = quota.saturating_sub(load(target));
        for (topic, partition) in unowned.by_ref().take(missing) {
            target.entry(topic).or_default().insert(partition);
        }
    }
    targets
}

fn load(target: &Partitions) -> usize {
    target.values().map(BTreeSet::len).sum()
}

/// Takes the last partitions away until `quota` are left.
fn shed(target: &mut Partitions, quota: usize) -> Vec<(Uuid, i32)> {
    let mut excess = load(target).saturating_sub(quota);
    let mut taken = Vec::with_capacity(excess);
    while excess > 0
        && let Some(mut last) = target.last_entry()
    {
        let topic = *last.key();
        taken.extend(last.get_mut().pop_last().map(|partition| (topic, partition)));
        if last.get().is_empty() {
            last.remove();
        }
        excess -= 1;
    }
    taken
}

/// An assignment in the making for members with different subscriptions. Members are their positions.
struct Mixed {
    /// Topic with its subscribers and the owner of each partition, those first whose subscribers have most to carry.
    topics: Vec<MixedTopic>,
    /// Partitions of each member.
    loads: Vec<usize>,
}

struct MixedTopic {
    id: Uuid,
    subscribers: Vec<usize>,
    owners: Vec<Option<usize>>,
}

impl Mixed {
    fn new(members: &[Wants<'_>], sizes: &TopicSizes) -> Self {
        let mut topics: BTreeMap<Uuid, MixedTopic> = BTreeMap::new();
        for (at, member) in members.iter().enumerate() {
            for &id in &member.topics {
                let count = sizes.get(&id).copied().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
                let topic = topics.entry(id).or_insert_with(|| MixedTopic {
                    id,
                    subscribers: Vec::new(),
                    owners: vec![None; count],
                });
                topic.subscribers.push(at);
            }
        }
        let mut loads = vec![0; members.len()];
        for (at, member) in members.iter().enumerate() {
            for (id, partitions) in member.kept(sizes) {
                let Some(topic) = topics.get_mut(&id) else { continue };
                for partition in partitions {
                    let owner = usize::try_from(partition).ok().and_then(|partition| topic.owners.get_mut(partition));
                    if let Some(owner @ None) = owner {
                        *owner = Some(at);
                        loads[at] += 1;
                    }
                }
            }
        }
        let mut topics: Vec<_> = topics.into_values().collect();
        // More partitions per subscriber first, then fewer subscribers: who has few choices chooses first.
        topics.sort_by(|a, b| {
            let (a_load, b_load) = (a.owners.len() * b.subscribers.len(), b.owners.len() * a.subscribers.len());
            b_load.cmp(&a_load).then(a.subscribers.len().cmp(&b.subscribers.len())).then(a.id.cmp(&b.id))
        });
        Self { topics, loads }
    }

    fn assign(mut self) -> Vec<Partitions> {
        for topic in &mut self.topics {
            topic.hand_out(&mut self.loads);
        }
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for topic in &mut self.topics {
                moved |= topic.balance(&mut self.loads);
            }
            if !moved {
                break;
            }
        }
        let mut targets = vec![Partitions::new(); self.loads.len()];
        for topic in self.topics {
            for (partition, owner) in (0..).zip(topic.owners) {
                if let Some(owner) = owner {
                    targets[owner].entry(topic.id).or_default().insert(partition);
                }
            }
        }
        targets
    }
}

impl MixedTopic {
    fn by_load(&self, loads: &[usize]) -> BTreeSet<(usize, usize)> {
        self.subscribers.iter().map(|&at| (loads[at], at)).collect()
    }

    /// Gives what nobody owns to the least loaded.
    fn hand_out(&mut self, loads: &mut [usize]) {
        let mut by_load = self.by_load(loads);
        for owner in self.owners.iter_mut().filter(|owner| owner.is_none()) {
            let Some((load, at)) = by_load.pop_first() else { return };
            *owner = Some(at);
            loads[at] = load + 1;
            by_load.insert((load + 1, at));
        }
    }

    /// Moves partitions of this topic from the most loaded of its owners to the least loaded of its subscribers while
    /// they are more than one apart.
    fn balance(&mut self, loads: &mut [usize]) -> bool {
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners.iter().enumerate() {
            if let Some(owner) = owner {
                owned.entry(*owner).or_default().push(partition);
            }
        }
        let mut takers = self.by_load(loads);
        let mut givers: BTreeSet<_> = owned.keys().map(|&at| (loads[at], at)).collect();
        let mut moved = false;
        while let (Some(&(most, giver)), Some(&(least, taker))) = (givers.last(), takers.first())
            && most > least + 1
        {
            givers.remove(&(most, giver));
            let Some(partition) = owned.get_mut(&giver).and_then(Vec::pop) else { continue };
            takers.remove(&(most, giver));
            takers.remove(&(least, taker));
            givers.remove(&(least, taker));
            self.owners[partition] = Some(taker);
            owned.entry(taker).or_default().push(partition);
            (loads[giver], loads[taker]) = (most - 1, least + 1);
            for at in [giver, taker] {
                takers.insert((loads[at], at));
                givers.insert((loads[at], at));
            }
            moved = true;
        }
        moved
    }
}
