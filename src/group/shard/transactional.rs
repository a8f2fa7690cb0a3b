//! Offsets within transactions: TxnOffsetCommit (KIP-447), and the markers that end them.

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Shard;
use super::entry::Entry;
use super::offsets::commit_record;
use crate::coordinator::journal::{OpenTransaction, client_error};
use crate::coordinator::{Now, Outcomes};
use crate::group::offsets::{CommitOffset, CommitRequest, check_metadata};
use crate::group::records::Record;
use crate::partition::append::AppendError;
use crate::partition::producers::VerificationGuard;
use crate::partition::transactions::EndMarker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::ProducerId;

impl Shard {
    /// To be asked before the coordinator of the transaction is: the guard that the commit needs if the transaction is
    /// not open in this partition.
    pub fn begin_verification(
        &mut self,
        (producer_id, producer_epoch): (ProducerId, i16),
        supports_epoch_bump: bool,
        to: oneshot::Sender<Result<Option<VerificationGuard>, ErrorCode>>,
    ) {
        let begun = self.journal.begin_verification(producer_id, producer_epoch, supports_epoch_bump);
        self.journal.tell(to, begun.map_err(|error| refused(&error)));
    }

    /// TxnOffsetCommit; the outcome of each offset in the order of the request, or one for all.
    pub fn commit_transactional(
        &mut self,
        request: &CommitRequest,
        transaction: &OpenTransaction,
        to: oneshot::Sender<Outcomes>,
        now: Now,
    ) {
        let outcome =
            self.check_transactional(request).and_then(|()| self.commit_offsets_in(request, transaction, now));
        self.journal.tell(to, outcome);
    }

    /// Producers that name no member are from before KIP-447: their transactional id fences them. The others are checked
    /// like any member, but may commit while the group rebalances.
    fn check_transactional(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        match self.groups.get(&request.group) {
            Some(Entry::Consumer(group)) => {
                let partitions = request.offsets.iter().map(|offset| (offset.topic_id, offset.partition));
                generation(group.check_commit(&request.committer(true), partitions))
            }
            Some(Entry::Streams(group)) => {
                let partitions = request.offsets.iter().map(CommitOffset::partition);
                generation(group.check_commit(&request.committer(true), partitions))
            }
            Some(Entry::Classic { live: group, .. }) => {
                group.check_transactional_commit(&request.member_id, request.instance_id.as_deref(), request.generation)
            }
            Some(Entry::Share(_)) => Err(ErrorCode::GroupIdNotFound),
            None if request.generation < 0 => Ok(()),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn commit_offsets_in(&mut self, request: &CommitRequest, transaction: &OpenTransaction, now: Now) -> Outcomes {
        let metadata_bytes_max = self.context.offsets.metadata_bytes_max;
        let check = |offset: &CommitOffset| check_metadata(offset.metadata.as_deref(), metadata_bytes_max);
        let outcomes: Vec<_> = request.offsets.iter().map(check).collect();
        let accepted = request.offsets.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        // Kafka notes no ids of topics with these offsets.
        let nameless = accepted.map(|(offset, _)| CommitOffset { topic_id: Uuid::nil(), ..offset.clone() });
        let records: Vec<_> = nameless.map(|offset| commit_record(request, &offset, now)).collect();
        if records.is_empty() {
            return Ok(outcomes);
        }
        let encoded = records.iter().filter_map(Record::encode);
        self.journal.append_in(transaction, encoded, now.wall_ms).map_err(|error| refused(&error))?;
        crash_point::reach(CrashPoint::GroupAfterTransactionalAppend);
        for record in records {
            if let Record::Offset(key, committed) = record {
                self.apply_in(transaction.producer_id, key, committed, now);
            }
        }
        Ok(outcomes)
    }

    /// The end of a transaction in this shard's partition, told once the marker is durable.
    pub fn end_transaction(&mut self, marker: &EndMarker, to: oneshot::Sender<Result<(), AppendError>>) {
        let appended = self.journal.append_marker(marker);
        if appended.is_ok() {
            crash_point::reach(CrashPoint::GroupAfterMarker);
            self.offsets.end_transaction(marker.producer_id, marker.commit);
        }
        self.journal.tell(to, appended);
    }
}

/// Producers know generations alone.
fn generation(checked: Result<(), ErrorCode>) -> Result<(), ErrorCode> {
    checked.map_err(|error| if error == ErrorCode::StaleMemberEpoch { ErrorCode::IllegalGeneration } else { error })
}

/// A producer that is fenced is told so; for the rest the partition is any coordinator's.
fn refused(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Producer(error) => error.code(),
        error => client_error(error),
    }
}
