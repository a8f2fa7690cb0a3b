//! Reads back a share of all segments each day (`remote.scrub.ratio.per.day`), so that bytes that rotted in the store are
//! known before somebody needs them. What it reads goes into no cache and to no reader. What it finds: [`damage`](super::damage).
//!
//! Nothing is kept of how far it is: the wall clock tells. Time is cut into cycles in which everything has its turn once
//! (100 days at a ratio of 0.01); within a cycle each segment has a place that follows from its uuid and the cycle's
//! number. A restart goes on at the place of the moment. What had its place while the broker was down has another one in
//! the next cycle, so that a broker that is down at the same hours each day still covers everything.

use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::ObjectRef;
use terrace_tiering::store::StoreError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::job::RemoteLog;
use super::observe;
use super::state::object_of;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::SegmentState;

/// Between two turns; a turn reads what had its place since the last.
const TURN_EVERY: Duration = Duration::from_secs(600);
const DAY_MS: f64 = 86_400_000.0;
/// What is noted as damaged is read back once in this time, whatever the ratio: somebody may have put it back.
const VERIFY_EVERY_MS: u64 = 86_400_000;
/// A turn looks back no further: after an outage or a jump of the clock, at most this much is made up for.
const LOOK_BACK_MS: i64 = 86_400_000;
/// It reads at twice the average rate that the ratio asks for, and not below this.
const RATE_MIN: f64 = (1 << 20) as f64;
/// So many segments in a row that cannot be read say more of the store than of themselves.
const FAILURES_MAX: usize = 5;

/// A moment in the course of scrubbing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    cycle: u64,
    /// Of 2^64.
    position: u64,
}

impl Place {
    /// Where the scrubber is at a wall time.
    pub(super) fn at(now_ms: i64, ratio_per_day: f64) -> Self {
        let cycle_ms = (DAY_MS / ratio_per_day).max(1.0) as u128;
        let now_ms = now_ms.max(0) as u128;
        // What is left of a cycle is below its length, so the quotient is below 2^64.
        Self { cycle: (now_ms / cycle_ms) as u64, position: (((now_ms % cycle_ms) << 64) / cycle_ms) as u64 }
    }

    /// Where a segment has its turn in a cycle: anywhere, evenly, and elsewhere in the next cycle.
    fn of(segment: Uuid, cycle: u64) -> Self {
        let (high, low) = segment.as_u64_pair();
        // The finisher of SplitMix64.
        let mut word = high ^ low ^ cycle.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self { cycle, position: word ^ (word >> 31) }
    }
}

/// Does the segment have its turn from `from` on, before `to`?
fn is_due(segment: Uuid, from: Place, to: Place) -> bool {
    (from.cycle..=to.cycle).any(|cycle| (from..to).contains(&Place::of(segment, cycle)))
}

impl RemoteLog {
    pub(super) async fn scrub_until(self: Arc<Self>, stopping: CancellationToken) {
        let mut recalled = self.recall_damage().await;
        self.mend(&stopping).await;
        let ratio = self.settings.scrub_ratio_per_day;
        let (mut done_ms, mut verified_ms) = (self.clock.now_ms(), None);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(TURN_EVERY) => {}
            }
            let now_ms = self.clock.now_ms();
            // A clock that went back begins anew where it is.
            let from_ms = done_ms.clamp(now_ms.saturating_sub(LOOK_BACK_MS), now_ms);
            let verifies = verified_ms.is_none_or(|at_ms: i64| now_ms.abs_diff(at_ms) >= VERIFY_EVERY_MS);
            let turn = async {
                recalled = recalled || self.recall_damage().await;
                self.forget_what_is_gone().await;
                if verifies {
                    self.verify_damaged().await?;
                }
                if ratio > 0.0 { self.scrub(Place::at(from_ms, ratio), Place::at(now_ms, ratio)).await } else { Ok(()) }
            };
            let scrubbed = tokio::select! {
                () = stopping.cancelled() => return,
                scrubbed = turn => scrubbed,
            };
            self.mend(&stopping).await;
            match scrubbed {
                Ok(()) => {
                    done_ms = now_ms;
                    verified_ms = if verifies { Some(now_ms) } else { verified_ms };
                }
                Err(error) => {
                    tracing::warn!(%error, "stored segments cannot be checked now; the next turn takes them too");
                    done_ms = from_ms;
                }
            }
        }
    }

    /// Forgets what is noted of segments that are gone, rows and all.
    pub(super) async fn forget_what_is_gone(&self) {
        let noted = self.damaged.which(|_| true);
        if noted.is_empty() {
            return;
        }
        let known = self.known_uuids().await;
        for (id, gone) in noted.into_iter().filter(|(_, uuid)| !known.contains(uuid)) {
            self.is_not_damaged(id, gone).await;
        }
    }

    /// Reads back what is noted as damaged.
    async fn verify_damaged(&self) -> Result<(), StoreError> {
        for (id, damaged) in self.damaged.which(|_| true) {
            let state = self.state(id);
            let object = state.lock().await.remote.segments.iter().find_map(|segment| {
                let is_it = segment.uuid == damaged && segment.state == SegmentState::CopyFinished;
                is_it.then(|| object_of(id, segment))
            });
            if let Some(object) = object {
                self.scrub_one(id, &object, RATE_MIN).await?;
            }
        }
        Ok(())
    }

    /// Reads back every readable segment that has its turn between two places. An error of the store ends it.
    pub(super) async fn scrub(&self, from: Place, to: Place) -> Result<(), StoreError> {
        let (mut due, mut stored_bytes) = (Vec::new(), 0);
        for state in self.all_states() {
            for segment in &state.lock().await.remote.segments {
                if segment.state == SegmentState::CopyFinished {
                    stored_bytes += segment.object_bytes;
                    if is_due(segment.uuid, from, to) {
                        due.push((state.id, object_of(state.id, segment)));
                    }
                }
            }
        }
        let rate = RATE_MIN.max(2.0 * stored_bytes as f64 * self.settings.scrub_ratio_per_day * 1000.0 / DAY_MS);
        let mut failures = 0;
        for (id, object) in due {
            match self.scrub_one(id, &object, rate).await {
                Ok(()) => failures = 0,
                // One that cannot be read for now, in an archive for example, keeps nobody from the others.
                Err(error) if failures < FAILURES_MAX && !matches!(error, StoreError::Down(_)) => {
                    failures += 1;
                    tracing::warn!(partition = ?id, base_offset = object.base_offset, %error, "segment not read back");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn scrub_one(&self, id: PartitionId, object: &ObjectRef, bytes_per_s: f64) -> Result<(), StoreError> {
        let mut check = self.tier.check(object).await?;
        while let Some(bytes) = check.read_on().await? {
            observe::scrubbed_bytes(bytes);
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / bytes_per_s)).await;
        }
        observe::scrubbed_segment();
        let Some(first) = check.damage().first() else {
            self.is_not_damaged(id, object.uuid).await;
            return Ok(());
        };
        let state = self.state(id);
        let named = state.lock().await.remote.segments.iter().any(|segment| {
            // One that was marked meanwhile may be gone, and rightly so.
            segment.uuid == object.uuid && segment.state == SegmentState::CopyFinished
        });
        if !named {
            return Ok(());
        }
        for damage in check.damage() {
            tracing::error!(
                topic = %object.topic,
                partition = object.partition,
                key = check.key(),
                "a segment in the bucket is damaged: {damage}; it is not served. It is copied again if it is still local; \
                 else put the object back from a version or a backup of the bucket, or delete its records; \
                 docs/operating/outages.md says how"
            );
        }
        let what = format!("{}/{} {first} ({})", object.topic.simple(), object.partition, check.key());
        self.is_damaged(id, object.uuid, what).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use terrace_tiering::platform::random::{Random, SeededRandom};

    use super::*;

    #[test]
    fn a_cycle_covers_everything_once_whatever_its_turns() {
        let random = SeededRandom::new(9);
        let segments: Vec<Uuid> = (0..2000).map(|_| random.uuid()).collect();
        let (ratio, cycle_ms) = (0.01, 8_640_000_000);
        let start_ms = 7 * cycle_ms;
        let mut turns = vec![0; segments.len()];
        let (mut now_ms, mut last) = (start_ms, Place::at(start_ms, ratio));
        while now_ms < start_ms + cycle_ms {
            now_ms = (now_ms + (random.next_u64() % 90_000_000) as i64).min(start_ms + cycle_ms);
            let to = Place::at(now_ms, ratio);
            segments
                .iter()
                .zip(&mut turns)
                .for_each(|(segment, turns)| *turns += i32::from(is_due(*segment, last, to)));
            last = to;
        }
        assert!(turns.iter().all(|turns| *turns == 1));
    }

    #[test]
    fn a_broker_that_is_down_at_the_same_hours_each_day_covers_everything_in_time() {
        let random = SeededRandom::new(9);
        let mut left: Vec<Uuid> = (0..500).map(|_| random.uuid()).collect();
        // Up for 12 hours a day.
        for day in 0..1500 {
            let from_ms = day * 86_400_000;
            let (from, to) = (Place::at(from_ms, 0.01), Place::at(from_ms + 43_200_000, 0.01));
            left.retain(|segment| !is_due(*segment, from, to));
        }
        assert_eq!(left.len(), 0, "15 cycles, each with half of what is left");
    }

    #[test]
    fn places_are_even() {
        let random = SeededRandom::new(3);
        let segments: Vec<Uuid> = (0..10_000).map(|_| random.uuid()).collect();
        let day = |day: i64| Place::at(day * 86_400_000, 0.01);
        for at in 300..310 {
            let due = segments.iter().filter(|segment| is_due(**segment, day(at), day(at + 1))).count();
            assert!((60..140).contains(&due), "{due} of 10 000 on a day");
        }
    }
}
