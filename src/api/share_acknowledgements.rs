//! What members of share groups say of records, by either of the two requests that can; and the end of their sessions.

use std::sync::Arc;

use futures::future::join_all;

use super::Node;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::share::{AcknowledgementBatch, SharedPartition};
use crate::share::AcknowledgedBatch;
use crate::share::in_flight::Acknowledgement;
use crate::share::sessions::{Ended, SessionKey, TopicPartition};
use crate::share::settings::ShareLimits;
use crate::share::state::records::ShareKey;

/// What became of it, by partition.
pub(super) type Outcomes = Vec<(TopicPartition, Result<(), ErrorCode>)>;

/// The code of an outcome.
pub(super) fn said(outcome: Result<(), ErrorCode>) -> i16 {
    outcome.err().unwrap_or(ErrorCode::None).code()
}

/// Does what a member says, of all partitions at once.
pub(super) async fn apply(
    node: &Node,
    key: &SessionKey,
    partitions: &[SharedPartition],
    is_renew: bool,
    limits: &ShareLimits,
) -> Outcomes {
    let spoken = partitions.iter().filter(|partition| !partition.batches.is_empty());
    join_all(spoken.map(|partition| async move {
        let of = (partition.topic, partition.partition);
        (of, apply_one(node, key, partition, is_renew, limits).await)
    }))
    .await
}

async fn apply_one(
    node: &Node,
    key: &SessionKey,
    said: &SharedPartition,
    is_renew: bool,
    limits: &ShareLimits,
) -> Result<(), ErrorCode> {
    let batches = read(&said.batches, is_renew, limits)?;
    let image = node.metadata.image();
    let topic = image.topic_by_id(&said.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !(0..topic.partition_count).contains(&said.partition) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let of = ShareKey { group: Arc::clone(&key.group), topic: said.topic, partition: said.partition };
    // Who has been given nothing since the start has nothing to speak of.
    let share = node.shares.get(&of).ok_or(ErrorCode::NotLeaderOrFollower)?;
    let outcome = share.acknowledge(&key.member, &batches, limits, node.shares.now()).await;
    node.shares.watch_locks(&of, &share);
    outcome
}

/// INVALID_REQUEST for ranges that overlap, go backwards or promise another number of types, and for types that there are
/// not. A range that begins with the last offset of the one before finds that offset settled: INVALID_RECORD_STATE, as Kafka.
fn read(
    batches: &[AcknowledgementBatch],
    is_renew: bool,
    limits: &ShareLimits,
) -> Result<Vec<AcknowledgedBatch>, ErrorCode> {
    let mut read = Vec::with_capacity(batches.len());
    let mut end = -1;
    for batch in batches {
        let (first, last) = (batch.first_offset, batch.last_offset);
        if first < end.max(0) || last < first {
            return Err(ErrorCode::InvalidRequest);
        }
        if first == end {
            return Err(ErrorCode::InvalidRecordState);
        }
        end = last;
        let count = batch.types.len() as u64;
        if count == 0 || (count > 1 && count != last.abs_diff(first) + 1) {
            return Err(ErrorCode::InvalidRequest);
        }
        let said = batch.types.iter().map(|code| acknowledgement(*code, is_renew, limits)).collect::<Result<_, _>>()?;
        read.push(AcknowledgedBatch { first, last, said });
    }
    Ok(read)
}

fn acknowledgement(code: i8, is_renew: bool, limits: &ShareLimits) -> Result<Acknowledgement, ErrorCode> {
    match code {
        0 => Ok(Acknowledgement::Gap),
        1 => Ok(Acknowledgement::Accept),
        2 => Ok(Acknowledgement::Release),
        3 => Ok(Acknowledgement::Reject),
        4 if is_renew && limits.renews => Ok(Acknowledgement::Renew),
        _ => Err(ErrorCode::InvalidRequest),
    }
}

/// Ends a member's session; what it holds goes back.
pub(super) async fn close(node: &Node, key: &SessionKey) {
    if let Some(ended) = node.share_sessions.close(key) {
        release(node, &ended).await;
    }
}

/// Gives back what a session that ended holds.
pub(super) async fn release(node: &Node, ended: &Ended) {
    let limits = node.shares.limits(&ended.key.group);
    join_all(ended.partitions.iter().map(|(topic, partition)| async {
        let of = ShareKey { group: Arc::clone(&ended.key.group), topic: *topic, partition: *partition };
        if let Some(share) = node.shares.get(&of) {
            // What is not written now goes back when its lock is over.
            let _ = share.release(&ended.key.member, &limits, node.shares.now()).await;
            node.shares.watch_locks(&of, &share);
        }
    }))
    .await;
    // A fetch of the session that waits does so for nobody.
    node.shares.ring(&ended.key.group);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::config::server::ShareGroupSettings;
    use crate::metadata::image::Image;

    type Said = (i64, i64, Vec<i8>);

    #[rstest]
    #[case::one_for_all(vec![(0, 5, vec![1])], false, true)]
    #[case::one_for_each(vec![(0, 1, vec![1, 2]), (2, 2, vec![3])], false, true)]
    #[case::backwards(vec![(5, 0, vec![1])], false, false)]
    #[case::overlapping(vec![(0, 5, vec![1]), (5, 6, vec![1])], false, false)]
    #[case::more_overlapping(vec![(0, 5, vec![1]), (4, 6, vec![1])], false, false)]
    #[case::unordered(vec![(5, 6, vec![1]), (0, 1, vec![1])], false, false)]
    #[case::negative(vec![(-5, -4, vec![1])], false, false)]
    #[case::huge(vec![(0, i64::MAX, vec![1, 1])], false, false)]
    #[case::no_types(vec![(0, 5, vec![])], false, false)]
    #[case::unknown_type(vec![(0, 5, vec![9])], false, false)]
    #[case::renews_unasked(vec![(0, 5, vec![4])], false, false)]
    #[case::renews(vec![(0, 5, vec![4])], true, true)]
    fn what_makes_no_sense_is_refused(#[case] batches: Vec<Said>, #[case] is_renew: bool, #[case] good: bool) {
        let batches: Vec<_> = batches
            .iter()
            .map(|(first_offset, last_offset, types)| AcknowledgementBatch {
                first_offset: *first_offset,
                last_offset: *last_offset,
                types: types.clone(),
            })
            .collect();
        let limits = ShareLimits::of("g", &ShareGroupSettings::for_tests(), &Image::default());
        assert_eq!(read(&batches, is_renew, &limits).is_ok(), good);
    }
}
