//! One step of a member towards its target assignment, without knowing the others but by what they own.
//!
//! ```text
//!             gives back what the target takes          takes what nobody owns
//!   Stable ──────────────▶ Unrevoked ──────────────────▶ Stable at the target's epoch
//!      │                                                     ▲
//!      └──────────── nothing to give ──▶ Unreleased ─────────┘  while others still own what it shall get
//! ```
//! A member's epoch rises only when it owns nothing that the new target gives to another; so a partition has one owner at
//! any time, whatever order the heartbeats come in.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::member::{Current, MemberState};
use super::{EpochPartitions, Partitions};

/// What a step depends on.
pub struct Step<'a> {
    /// The member as it is.
    pub current: &'a Current,
    /// The epoch of the target.
    pub target_epoch: i32,
    /// What it shall own then.
    pub target: &'a Partitions,
    /// Ids of the topics that it subscribes to now: the target may be older than that.
    pub subscribed: &'a BTreeSet<Uuid>,
    /// Its subscription changed with this request.
    pub subscription_changed: bool,
    /// What it says it owns; absent when the request doesn't say.
    pub owned: Option<&'a Partitions>,
    /// Does any member own this partition?
    pub is_owned: &'a dyn Fn(&Uuid, i32) -> bool,
}

/// The member is in a state that only a newer broker knows, and owns partitions: it must begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownState;

impl Step<'_> {
    /// The member after the step; the same when it cannot move.
    pub fn take(&self) -> Result<Current, UnknownState> {
        let current = self.current;
        match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => Ok(self.next(self.target_epoch)),
            MemberState::Unrevoked if !self.still_owns(&current.revoking) => Ok(self.next(self.target_epoch)),
            MemberState::Stable | MemberState::Unrevoked if self.subscription_changed => Ok(self.drop_unsubscribed()),
            MemberState::Stable | MemberState::Unrevoked => Ok(current.clone()),
            MemberState::Unreleased => Ok(self.next(self.target_epoch)),
            MemberState::Unknown(_) if self.owned.is_some_and(|owned| owned.values().all(BTreeSet::is_empty)) => {
                Ok(self.next(self.target_epoch))
            }
            MemberState::Unknown(_) => Err(UnknownState),
        }
    }

    /// Does the member own any of these, or not say?
    fn still_owns(&self, revoking: &EpochPartitions) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, partitions)| {
            revoking.get(topic).is_some_and(|revoking| partitions.iter().any(|one| revoking.contains_key(one)))
        })
    }

    fn next(&self, target_epoch: i32) -> Current {
        let current = self.current;
        let nothing = BTreeSet::new();
        let (mut assigned, mut revoking) = (EpochPartitions::new(), EpochPartitions::new());
        let (mut free, mut waits) = (Vec::new(), false);
        let topics: BTreeSet<&Uuid> = self.target.keys().chain(current.assigned.keys()).collect();
        for topic in topics {
            let subscribed = self.subscribed.contains(topic);
            let target = self.target.get(topic).filter(|_| subscribed).unwrap_or(&nothing);
            let owned = current.assigned.get(topic);
            for (&partition, &epoch) in owned.into_iter().flatten() {
                let side = if target.contains(&partition) { &mut assigned } else { &mut revoking };
                side.entry(*topic).or_default().insert(partition, epoch);
            }
            let missing = target.iter().filter(|one| owned.is_none_or(|owned| !owned.contains_key(one)));
            for &partition in missing {
                // What it gives back itself may come to it again at once.
                let own = current.revoking.get(topic).is_some_and(|own| own.contains_key(&partition));
                match (self.is_owned)(topic, partition) && !own {
                    true => waits = true,
                    false => free.push((*topic, partition)),
                }
            }
        }
        if !revoking.is_empty() && self.still_owns(&revoking) {
            return Current {
                previous_epoch: current.epoch,
                state: MemberState::Unrevoked,
                assigned,
                revoking,
                epoch: current.epoch,
            };
        }
        for (topic, partition) in free {
            assigned.entry(topic).or_default().insert(partition, target_epoch);
        }
        Current {
            epoch: target_epoch,
            previous_epoch: current.epoch,
            state: if waits { MemberState::Unreleased } else { MemberState::Stable },
            assigned,
            revoking: EpochPartitions::new(),
        }
    }

    /// Takes topics away that the member no longer subscribes to, before there is a target that knows.
    fn drop_unsubscribed(&self) -> Current {
        let current = self.current;
        let (assigned, dropped): (EpochPartitions, EpochPartitions) =
            current.assigned.clone().into_iter().partition(|(topic, _)| self.subscribed.contains(topic));
        if dropped.is_empty() {
            return current.clone();
        }
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in dropped {
            revoking.entry(topic).or_default().extend(partitions);
        }
        let next = Current { previous_epoch: current.epoch, assigned, ..current.clone() };
        match self.still_owns(&revoking) {
            true => Current { state: MemberState::Unrevoked, revoking, ..next },
            false => next,
        }
    }
}

#[cfg(test)]
mod tests;
