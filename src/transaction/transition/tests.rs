use rstest::rstest;

use super::*;

const NOW: i64 = 1000;
const FRESH: ProducerId = 99;

fn live(state: State, epoch: i16) -> Live {
    let logged = Transaction {
        previous_producer_id: 7,
        epoch,
        state,
        client_version: 2,
        start_ms: 500,
        partitions: match state {
            State::Ongoing | State::PrepareCommit | State::PrepareAbort => [partition(0)].into(),
            State::Empty | State::CompleteCommit | State::CompleteAbort => [].into(),
        },
        ..Transaction::new(7, 60_000, 500)
    };
    Live { logged, last_epoch: NO_EPOCH }
}

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

fn producer(id: ProducerId, epoch: i16) -> Producer {
    Producer { id, epoch }
}

fn commit(epoch: i16, client_version: i16) -> EndRequest {
    EndRequest { producer: producer(7, epoch), commit: true, client_version }
}

fn abort(epoch: i16, client_version: i16) -> EndRequest {
    EndRequest { commit: false, ..commit(epoch, client_version) }
}

/// What EndTxn comes to, in one word.
fn word(end: Result<End, ErrorCode>) -> String {
    match end {
        Ok(End::Done(Producer { id, epoch })) => format!("done {id}/{epoch}"),
        Ok(End::Prepares(live, Producer { id, epoch })) => {
            format!("{} {} -> {id}/{epoch}", live.logged.state.name(), live.logged.epoch)
        }
        Ok(End::NeedsProducerId) => "needs id".to_owned(),
        Err(error) => error.name().to_owned(),
    }
}

// The whole table: the state at epoch 5, the request at epoch 4 (a retry) or 5.
#[rstest]
#[case(State::Empty, abort(4, 2), "PRODUCER_FENCED")]
#[case(State::Empty, abort(5, 2), "PrepareAbort 6 -> 7/6")]
#[case(State::Empty, commit(4, 2), "PRODUCER_FENCED")]
#[case(State::Empty, commit(5, 2), "INVALID_TXN_STATE")]
#[case(State::Ongoing, abort(4, 2), "PRODUCER_FENCED")]
#[case(State::Ongoing, abort(5, 2), "PrepareAbort 6 -> 7/6")]
#[case(State::Ongoing, commit(4, 2), "PRODUCER_FENCED")]
#[case(State::Ongoing, commit(5, 2), "PrepareCommit 6 -> 7/6")]
#[case(State::Ongoing, commit(6, 2), "PRODUCER_FENCED")]
#[case(State::PrepareCommit, abort(4, 2), "CONCURRENT_TRANSACTIONS")]
#[case(State::PrepareCommit, commit(3, 2), "CONCURRENT_TRANSACTIONS")]
#[case(State::PrepareAbort, commit(5, 2), "CONCURRENT_TRANSACTIONS")]
#[case(State::CompleteCommit, abort(4, 2), "INVALID_TXN_STATE")]
#[case(State::CompleteCommit, abort(5, 2), "PrepareAbort 6 -> 7/6")]
#[case(State::CompleteCommit, commit(4, 2), "done 7/5")]
#[case(State::CompleteCommit, commit(5, 2), "INVALID_TXN_STATE")]
#[case(State::CompleteAbort, abort(4, 2), "done 7/5")]
#[case(State::CompleteAbort, abort(5, 2), "PrepareAbort 6 -> 7/6")]
#[case(State::CompleteAbort, commit(4, 2), "INVALID_TXN_STATE")]
#[case(State::CompleteAbort, commit(5, 2), "INVALID_TXN_STATE")]
// Before transaction version 2.
#[case(State::Empty, abort(5, 0), "INVALID_TXN_STATE")]
#[case(State::Ongoing, abort(5, 0), "PrepareAbort 5 -> -1/-1")]
#[case(State::Ongoing, commit(5, 0), "PrepareCommit 5 -> -1/-1")]
#[case(State::Ongoing, commit(4, 0), "PRODUCER_FENCED")]
#[case(State::PrepareCommit, commit(5, 0), "CONCURRENT_TRANSACTIONS")]
#[case(State::PrepareCommit, abort(5, 0), "CONCURRENT_TRANSACTIONS")]
#[case(State::PrepareAbort, abort(5, 0), "CONCURRENT_TRANSACTIONS")]
#[case(State::PrepareAbort, abort(4, 0), "PRODUCER_FENCED")]
#[case(State::CompleteCommit, commit(5, 0), "done -1/-1")]
#[case(State::CompleteCommit, abort(5, 0), "INVALID_TXN_STATE")]
#[case(State::CompleteAbort, abort(5, 0), "done -1/-1")]
#[case(State::CompleteAbort, commit(5, 0), "INVALID_TXN_STATE")]
fn end_of_a_transaction(#[case] state: State, #[case] request: EndRequest, #[case] expected: &str) {
    assert_eq!(word(end(Some(&live(state, 5)), request, None, NOW)), expected);
}

#[test]
fn who_is_not_known_ends_nothing() {
    let mapping = Err(ErrorCode::InvalidProducerIdMapping);
    for version in [0, 2] {
        assert_eq!(end(None, commit(5, version), None, NOW), mapping);
        let stranger = EndRequest { producer: producer(8, 5), ..commit(5, version) };
        assert_eq!(end(Some(&live(State::Ongoing, 5)), stranger, None, NOW), mapping);
    }
}

#[test]
fn an_exhausted_producer_id_is_replaced_behind_its_last_transaction() {
    let ongoing = live(State::Ongoing, i16::MAX - 1);
    let request = commit(i16::MAX - 1, 2);
    assert_eq!(end(Some(&ongoing), request, None, NOW), Ok(End::NeedsProducerId));
    let Ok(End::Prepares(prepared, next)) = end(Some(&ongoing), request, Some(FRESH), NOW) else { panic!("prepares") };
    assert_eq!(next, producer(FRESH, 0), "told before the markers are written");
    assert_eq!((prepared.logged.producer_id, prepared.logged.epoch), (7, i16::MAX), "the markers' epoch");
    assert_eq!(prepared.logged.next_producer_id, FRESH);

    let completed = complete(&prepared, NOW);
    let logged = &completed.logged;
    assert_eq!((logged.producer_id, logged.epoch, logged.previous_producer_id), (FRESH, 0, 7));
    assert_eq!((logged.next_producer_id, logged.partitions.len()), (NO_PRODUCER_ID, 0));
    // The answer was lost: the client still is the old producer.
    assert_eq!(word(end(Some(&completed), request, None, NOW)), "done 99/0");
    let expected = Some(producer(7, i16::MAX - 1));
    assert_eq!(ready(init(Some(&completed), 1, expected, None, 2, NOW)), Ok((FRESH, 0)));
}

fn ready(init: Result<Init, ErrorCode>) -> Result<(ProducerId, i16), ErrorCode> {
    match init? {
        Init::Ready(live) => Ok((live.logged.producer_id, live.logged.epoch)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_transactional_id_needs_a_producer_id() {
    assert_eq!(init(None, 10, None, None, 2, NOW), Ok(Init::NeedsProducerId));
    let Ok(Init::Ready(live)) = init(None, 10, None, Some(FRESH), 2, NOW) else { panic!("ready") };
    assert_eq!((live.logged.producer_id, live.logged.epoch, live.logged.timeout_ms), (FRESH, 0, 10));
    // Who had another id before an expiry gets the new one.
    assert_eq!(ready(init(None, 10, Some(producer(3, 9)), Some(FRESH), 2, NOW)), Ok((FRESH, 0)));
}

#[rstest]
#[case::first(State::Empty, None, Ok((7, 6)))]
#[case::after_a_commit(State::CompleteCommit, None, Ok((7, 6)))]
#[case::after_an_abort(State::CompleteAbort, None, Ok((7, 6)))]
#[case::bump(State::Empty, Some(producer(7, 5)), Ok((7, 6)))]
#[case::zombie(State::Empty, Some(producer(7, 4)), Err(ErrorCode::ProducerFenced))]
#[case::stranger(State::Empty, Some(producer(8, 5)), Err(ErrorCode::ProducerFenced))]
#[case::committing(State::PrepareCommit, None, Err(ErrorCode::ConcurrentTransactions))]
#[case::aborting(State::PrepareAbort, Some(producer(8, 5)), Err(ErrorCode::ConcurrentTransactions))]
fn a_producer_is_initialized(
    #[case] state: State,
    #[case] expected: Option<Producer>,
    #[case] outcome: Result<(ProducerId, i16), ErrorCode>,
) {
    assert_eq!(ready(init(Some(&live(state, 5)), 1, expected, None, 2, NOW)), outcome);
}

#[test]
fn a_bump_whose_answer_was_lost_is_answered_again() {
    let Ok(Init::Ready(bumped)) = init(Some(&live(State::Empty, 5)), 1, Some(producer(7, 5)), None, 2, NOW) else {
        panic!("ready")
    };
    assert_eq!(bumped.last_epoch, 5);
    assert_eq!(ready(init(Some(&bumped), 1, Some(producer(7, 5)), None, 2, NOW)), Ok((7, 6)), "not 7");
    // One that names nothing fences whoever was there.
    assert_eq!(ready(init(Some(&bumped), 1, None, None, 2, NOW)), Ok((7, 7)));
}

#[rstest]
#[case::nameless(None, NO_EPOCH)]
#[case::named(Some(producer(7, i16::MAX - 1)), i16::MAX - 1)]
fn an_exhausted_producer_id_is_replaced_when_it_is_initialized(
    #[case] expected: Option<Producer>,
    #[case] last_epoch: i16,
) {
    let exhausted = live(State::CompleteAbort, i16::MAX - 1);
    assert_eq!(init(Some(&exhausted), 1, expected, None, 2, NOW), Ok(Init::NeedsProducerId));
    let Ok(Init::Ready(live)) = init(Some(&exhausted), 1, expected, Some(FRESH), 2, NOW) else { panic!("ready") };
    assert_eq!((live.logged.producer_id, live.logged.epoch, live.last_epoch), (FRESH, 0, last_epoch));
    // The answer was lost: the client still is the old producer, and may be.
    let again = init(Some(&live), 1, Some(producer(7, i16::MAX - 1)), None, 2, NOW);
    let outcome = if expected.is_some() { Ok((FRESH, 0)) } else { Err(ErrorCode::ProducerFenced) };
    assert_eq!(ready(again), outcome);
}

#[rstest]
#[case::version_0(0, 5, 6, 0)]
#[case::version_1(1, 5, 6, 0)]
#[case::version_2(2, 5, 6, 2)]
#[case::at_the_end(2, i16::MAX - 1, i16::MAX, 2)]
fn an_open_transaction_is_aborted_by_the_next_producer(
    #[case] server_version: i16,
    #[case] epoch: i16,
    #[case] fenced_epoch: i16,
    #[case] client_version: i16,
) {
    let Ok(Init::Aborts(aborted)) = init(Some(&live(State::Ongoing, epoch)), 1, None, None, server_version, NOW) else {
        panic!("aborts")
    };
    let logged = &aborted.logged;
    assert_eq!((logged.state, logged.epoch), (State::PrepareAbort, fenced_epoch));
    assert_eq!((logged.partitions.len(), logged.client_version), (1, client_version));
    assert_eq!(complete(&aborted, NOW).logged.state, State::CompleteAbort);
}

#[test]
fn partitions_begin_a_transaction_and_are_added_once() {
    let completed = live(State::CompleteCommit, 5);
    let add =
        |live: &Live, partitions: &[TopicPartition]| add_partitions(Some(live), producer(7, 5), partitions, 2, NOW);
    let begun = add(&completed, &[partition(1)]).unwrap().unwrap();
    assert_eq!((begun.logged.state, begun.logged.start_ms), (State::Ongoing, NOW));
    assert_eq!(add(&begun, &[partition(1)]), Ok(None), "nothing to write");
    let grown = add(&begun, &[partition(1), partition(2)]).unwrap().unwrap();
    assert_eq!((grown.logged.partitions.len(), grown.logged.start_ms), (2, NOW));

    assert_eq!(add_partitions(None, producer(7, 5), &[], 2, NOW), Err(ErrorCode::InvalidProducerIdMapping));
    let of = |state, producer| add_partitions(Some(&live(state, 5)), producer, &[partition(1)], 2, NOW).unwrap_err();
    assert_eq!(of(State::Ongoing, producer(8, 5)), ErrorCode::InvalidProducerIdMapping);
    assert_eq!(of(State::Ongoing, producer(7, 6)), ErrorCode::ProducerFenced);
    assert_eq!(of(State::PrepareCommit, producer(8, 5)), ErrorCode::ConcurrentTransactions);
}

#[test]
fn only_partitions_of_the_transaction_are_verified() {
    let ongoing = live(State::Ongoing, 5);
    let verify = |live: Option<&Live>, producer, at| verify(live, producer, &partition(at));
    assert_eq!(verify(Some(&ongoing), producer(7, 5), 0), Ok(()));
    assert_eq!(verify(Some(&ongoing), producer(7, 5), 1), Err(ErrorCode::TransactionAbortable));
    assert_eq!(verify(Some(&ongoing), producer(7, 4), 0), Err(ErrorCode::ProducerFenced));
    assert_eq!(verify(Some(&ongoing), producer(8, 5), 0), Err(ErrorCode::InvalidProducerIdMapping));
    assert_eq!(verify(None, producer(7, 5), 0), Err(ErrorCode::InvalidProducerIdMapping));
    let preparing = live(State::PrepareAbort, 5);
    assert_eq!(verify(Some(&preparing), producer(7, 5), 0), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(verify(Some(&preparing), producer(7, 4), 0), Err(ErrorCode::ProducerFenced));
    let completed = live(State::CompleteAbort, 5);
    assert_eq!(verify(Some(&completed), producer(7, 5), 0), Err(ErrorCode::TransactionAbortable));
}
