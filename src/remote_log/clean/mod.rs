//! Rounds of the cleaner inside the tier: of each key of a compacted topic only the last value stays in the bucket, whenever
//! the others went up. One job of the node, one partition at a time, woken by copies and by the sweep.
//!
//! ```text
//! plan (is it worth it) -> KeyMap of what no round has met -> group by group from the log start:
//!   read, rewrite, announce and upload the pieces, Known::replace -> the round has ended: cleaned_end
//! ```
//! The rules are those of the local cleaner. A record goes only when the map names a later one of its key, and what the map
//! knows is in the tier; groups count one by one from the front, so a round that is broken off leaves a correct log, and
//! tombstones have their delete horizon no earlier than all they delete is gone. Why it is done so stands in
//! docs/decisions/0018-compacted-topics-in-the-tier.md.
//!
//! - [`plan`]: when, and which segments.
//! - [`rewrite`]: what stays of them.
//! - [`round`]: one round, with its requests.

mod plan;
mod rewrite;
mod round;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::round::Round;
use super::job::RemoteLog;
use super::merge::MergeError;
use super::observe;
use super::ownership::NotOwner;
use super::partition::SharedPartition;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteSegment, SegmentState};

/// Nothing hangs on a round: it can wait.
const RETRY: Duration = Duration::from_secs(60);

/// How one look at a partition ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cleaned {
    /// A round has ended; another one may be due, where the map could not hold all keys.
    Round,
    /// What it worked on is not wanted any more; what was sent is an orphan.
    Other,
    /// No round is due.
    Nothing,
}

impl RemoteLog {
    pub(super) async fn clean_until(self: Arc<Self>, stopping: CancellationToken) {
        for state in self.all_states() {
            self.may_clean(state.id);
        }
        loop {
            let id = tokio::select! {
                () = stopping.cancelled() => return,
                id = self.cleans.next() => id,
            };
            let again = match self.clean_next(id, &stopping).await {
                // The others have their turn first.
                Ok(Cleaned::Round) => Some(Instant::now()),
                Ok(Cleaned::Nothing) | Err(MergeError::NotOwner(NotOwner::Lost(_))) => None,
                Ok(Cleaned::Other) => Some(Instant::now() + RETRY),
                Err(error) => {
                    observe::clean_failed();
                    // The store says itself, once, that it is down.
                    if !matches!(error, MergeError::StoreDown(_)) {
                        tracing::warn!(partition = ?id, %error, "compaction in the tier is behind; trying again");
                    }
                    Some(Instant::now() + RETRY)
                }
            };
            self.cleans.done(id, again);
        }
    }

    /// A segment more is in the bucket, or time has passed.
    pub(super) fn may_clean(&self, id: PartitionId) {
        if self.partitions.get(id).as_ref().is_some_and(may_be_cleaned) {
            self.cleans.wake_unless_waiting(id);
        }
    }

    /// One round over the partition, if it is due.
    pub(super) async fn clean_next(
        &self,
        id: PartitionId,
        stopping: &CancellationToken,
    ) -> Result<Cleaned, MergeError> {
        let Some(partition) = self.partitions.get(id).filter(may_be_cleaned) else { return Ok(Cleaned::Nothing) };
        self.may_write()?;
        partition.opened().await;
        // Of one that is offline nobody knows what of it is deleted.
        let Some(log_start) = partition.log_start() else { return Ok(Cleaned::Nothing) };
        let state = self.state(id);
        // Merging leaves the partition alone meanwhile.
        let _rewriting = state.rewriting.lock().await;
        let (config, now_ms) = (partition.topic_config(), self.clock.now_ms());
        let plan = {
            let known = state.lock().await;
            plan::next(&config, now_ms, &known.remote.chain().segments, log_start, known.cleaned_end)
        };
        // With one that cannot be read nobody knows what the others supersede.
        let is_readable = |plan: &plan::Plan| !plan.segments.iter().any(|segment| self.is_unmergeable(segment.uuid));
        let Some(plan) = plan.filter(is_readable) else { return Ok(Cleaned::Nothing) };
        self.tier.takes_writes().await.map_err(|error| MergeError::StoreDown(error.to_string()))?;

        let round = Round { log: self, partition: &partition, state: &state, config: &config, now_ms, stopping };
        let all: Vec<_> = plan.segments.iter().map(|segment| segment.uuid).collect();
        let outcome = round.run(plan).await;
        // What was small became smaller.
        self.may_merge(id);
        let Err(MergeError::Join(error)) = &outcome else { return outcome };
        if !error.is_for_good() {
            return outcome;
        }
        let bad = error.which().map_or(all, |uuid| vec![uuid]);
        let is_readable = |row: &Arc<RemoteSegment>| bad.contains(&row.uuid) && row.state == SegmentState::CopyFinished;
        if !state.lock().await.remote.segments.iter().any(is_readable) {
            tracing::debug!(partition = ?id, %error, "a segment was deleted while its partition was cleaned");
            return Ok(Cleaned::Other);
        }
        self.leave_unmerged(bad);
        observe::clean_failed();
        tracing::error!(
            topic = %partition.topic_name(), partition = id.partition, %error,
            "the partition is not compacted in the bucket while a segment there cannot be read; terrace remote verify \
             tells what is wrong with it"
        );
        Ok(Cleaned::Nothing)
    }
}

/// A compacted topic that takes copies.
fn may_be_cleaned(partition: &SharedPartition) -> bool {
    let config = partition.topic_config();
    config.cleanup_policy.compact && config.takes_copies()
}
