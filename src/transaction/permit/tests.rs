use rstest::rstest;

use super::*;

#[rstest]
#[case(3, Client::Verifies)]
#[case(10, Client::Verifies)]
#[case(11, Client::VerifiesAbortable)]
#[case(12, Client::Adds)]
fn versions_of_produce(#[case] version: i16, #[case] expected: Client) {
    assert_eq!(Client::of(version, PRODUCE_KNOWS_ABORTABLE_FROM, PRODUCE_ADDS_FROM), expected);
}

#[rstest]
#[case(3, Client::Verifies)]
#[case(4, Client::VerifiesAbortable)]
#[case(5, Client::Adds)]
fn versions_of_txn_offset_commit(#[case] version: i16, #[case] expected: Client) {
    assert_eq!(Client::of(version, COMMIT_KNOWS_ABORTABLE_FROM, COMMIT_ADDS_FROM), expected);
}

#[rstest]
#[case::not_added(ErrorCode::TransactionAbortable, Client::Verifies, ErrorCode::InvalidTxnState, true)]
#[case::not_added_11(
    ErrorCode::TransactionAbortable,
    Client::VerifiesAbortable,
    ErrorCode::TransactionAbortable,
    false
)]
#[case::fenced(ErrorCode::ProducerFenced, Client::Adds, ErrorCode::InvalidProducerEpoch, false)]
#[case::unknown(ErrorCode::InvalidProducerIdMapping, Client::Verifies, ErrorCode::InvalidProducerIdMapping, false)]
#[case::loading(ErrorCode::CoordinatorLoadInProgress, Client::Adds, ErrorCode::NotEnoughReplicas, true)]
#[case::moved(ErrorCode::NotCoordinator, Client::Verifies, ErrorCode::NotEnoughReplicas, true)]
#[case::busy(ErrorCode::ConcurrentTransactions, Client::VerifiesAbortable, ErrorCode::NotEnoughReplicas, true)]
#[case::busy_12(ErrorCode::ConcurrentTransactions, Client::Adds, ErrorCode::ConcurrentTransactions, false)]
fn a_producer_is_told_what_its_version_understands(
    #[case] error: ErrorCode,
    #[case] client: Client,
    #[case] expected: ErrorCode,
    #[case] with_message: bool,
) {
    let refused = refused(as_partitions_say(error, client), client);
    assert_eq!((refused.error, refused.message.is_some()), (expected, with_message));
}
