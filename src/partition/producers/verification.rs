//! Producers whose coordinator is being asked whether this partition belongs to their transaction (KIP-890).
//!
//! ```text
//! begin (before the coordinator is asked) -> guard -> append with it -> entry gone
//!                                             `-> marker, or `producer.id.expiration.ms` over: entry gone, guard worthless
//! ```
//! The guard closes the gap between the answer and the append: a marker that came between has taken the entry away, so a
//! batch that is late by a transaction opens none. Nothing of it is written anywhere: after a start nobody holds a guard.

use std::collections::HashMap;

use super::PRODUCERS_MAX;
use crate::protocol::record_batch::ProducerId;

/// Proof that a verification was begun and that no marker has come since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationGuard(u64);

/// One producer in verification.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verifying {
    guard: VerificationGuard,
    since_ms: i64,
    epoch: i16,
    /// Of all batches that wait for the answer: the first to be appended.
    pub(super) lowest_sequence: i32,
    /// The producer begins each transaction in a new epoch (transaction version 2).
    pub(super) supports_epoch_bump: bool,
}

/// The producers in verification of one partition.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    entries: HashMap<ProducerId, Verifying>,
    last_guard: u64,
}

impl Verifications {
    /// The guard of the producer's verification, which begins now unless it has begun already.
    pub(super) fn begin(
        &mut self,
        producer_id: ProducerId,
        epoch: i16,
        sequence: i32,
        supports_epoch_bump: bool,
        now_ms: i64,
    ) -> VerificationGuard {
        if self.entries.len() >= PRODUCERS_MAX && !self.entries.contains_key(&producer_id) {
            self.forget_the_oldest();
        }
        let entry = self.entries.entry(producer_id).or_insert_with(|| {
            self.last_guard += 1;
            let guard = VerificationGuard(self.last_guard);
            Verifying { guard, since_ms: now_ms, epoch, lowest_sequence: sequence, supports_epoch_bump }
        });
        if epoch > entry.epoch || (epoch == entry.epoch && sequence < entry.lowest_sequence) {
            (entry.epoch, entry.lowest_sequence) = (epoch, sequence);
        }
        entry.guard
    }

    pub(super) fn of(&self, producer_id: ProducerId) -> Option<&Verifying> {
        self.entries.get(&producer_id)
    }

    pub(super) fn accepts(&self, producer_id: ProducerId, guard: Option<VerificationGuard>) -> bool {
        guard.is_some() && self.of(producer_id).map(|entry| entry.guard) == guard
    }

    pub(super) fn end(&mut self, producer_id: ProducerId) {
        if self.entries.remove(&producer_id).is_some() && self.entries.is_empty() {
            self.entries = HashMap::new();
        }
    }

    pub(super) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.entries.retain(|_, entry| now_ms.saturating_sub(entry.since_ms) < expiration_ms);
    }

    fn forget_the_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.guard.0).map(|(id, _)| *id);
        oldest.map(|id| self.entries.remove(&id));
    }
}
