//! What members say of records that they have.

use std::sync::Arc;

use super::in_flight::{Acknowledgement, Refused};
use super::partition::{Moment, SharePartition, lock};
use super::settings::ShareLimits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;

/// What is said of some records: the same of all, or of each by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgedBatch {
    /// First offset.
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// One for all, or one for each.
    pub said: Vec<Acknowledgement>,
}

/// Neighbours of which the same is said.
struct Run {
    first: Offset,
    last: Offset,
    said: Acknowledgement,
}

impl AcknowledgedBatch {
    fn runs(&self) -> Vec<Run> {
        let [said] = self.said[..] else {
            let mut runs: Vec<Run> = Vec::new();
            for (first, said) in (self.first..).zip(&self.said) {
                match runs.last_mut() {
                    Some(run) if run.said == *said => run.last = first,
                    _ => runs.push(Run { first, last: first, said: *said }),
                }
            }
            return runs;
        };
        vec![Run { first: self.first, last: self.last, said }]
    }
}

impl SharePartition {
    /// All of it or nothing. Told once the share coordinator has it.
    pub async fn acknowledge(
        &self,
        member: &Arc<str>,
        batches: &[AcknowledgedBatch],
        limits: &ShareLimits,
        now: Moment,
    ) -> Result<(), ErrorCode> {
        self.loaded().await;
        let mut lines = Vec::new();
        self.with_redelivery(limits, now, |inner, back| {
            let holder = inner.known_holder(member);
            for batch in batches {
                // Members are told that they hold nothing, whoever they are.
                inner.in_flight.check(holder.unwrap_or_default(), batch.first, batch.last).map_err(code)?;
            }
            let lock = lock(holder.unwrap_or_default(), limits, now);
            for run in batches.iter().flat_map(AcknowledgedBatch::runs) {
                inner.in_flight.acknowledge((run.first, run.last), run.said, lock, back, &mut lines);
            }
            Ok(())
        })??;
        if lines.is_empty() { Ok(()) } else { self.write(lines).await }
    }
}

fn code(refused: Refused) -> ErrorCode {
    match refused {
        Refused::NeverGivenOut => ErrorCode::InvalidRequest,
        Refused::NotHeld => ErrorCode::InvalidRecordState,
    }
}
