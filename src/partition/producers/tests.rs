use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::partition::append::AppendOrigin;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{CRC_FROM, HEADER_BYTES, LENGTH_OVERHEAD};

const CLIENT: Admission =
    Admission { origin: AppendOrigin::Client, guard: None, must_verify: true, transaction_version: 0 };

/// A batch without records whose header is all that matters here.
fn batch(offset: Offset, producer_id: i64, epoch: i16, sequence: i32, records: i32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes[8..12].copy_from_slice(&((HEADER_BYTES - LENGTH_OVERHEAD) as i32).to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    bytes[35..43].copy_from_slice(&(1000 + offset).to_be_bytes());
    bytes[43..51].copy_from_slice(&producer_id.to_be_bytes());
    bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
    bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    bytes[57..61].copy_from_slice(&records.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn view(bytes: &[u8]) -> BatchView<'_> {
    BatchView::split_first(bytes).expect("the header is whole").0
}

/// Producer 7, epoch 3, six batches of two records: sequences 10 to 21 at offsets 100 to 111.
fn six_batches() -> ProducerTable {
    let mut table = ProducerTable::default();
    for i in 0..6 {
        table.update(&view(&batch(100 + i * 2, 7, 3, 10 + i as i32 * 2, 2)), 1110);
    }
    table
}

fn check(table: &ProducerTable, epoch: i16, sequence: i32, records: i32) -> Result<Verdict, ProducerError> {
    table.check(&view(&batch(0, 7, epoch, sequence, records)), &CLIENT)
}

const OUT_OF_ORDER: Result<Verdict, ErrorCode> = Err(ErrorCode::OutOfOrderSequenceNumber);

fn duplicate(base_offset: Offset) -> Result<Verdict, ErrorCode> {
    Ok(Verdict::Duplicate { base_offset, last_offset: base_offset + 1, timestamp: 1000 + base_offset })
}

#[rstest]
#[case::next(3, 22, 2, Ok(Verdict::New))]
#[case::gap(3, 23, 2, OUT_OF_ORDER)]
#[case::last_again(3, 20, 2, duplicate(110))]
#[case::fifth_last_again(3, 12, 2, duplicate(102))]
#[case::sixth_last_again(3, 10, 2, OUT_OF_ORDER)]
#[case::same_start_other_length(3, 20, 1, OUT_OF_ORDER)]
#[case::new_epoch(4, 0, 2, Ok(Verdict::New))]
#[case::new_epoch_not_at_zero(4, 22, 2, OUT_OF_ORDER)]
#[case::new_epoch_same_sequences(4, 20, 2, OUT_OF_ORDER)]
#[case::old_epoch(2, 22, 2, Err(ErrorCode::InvalidProducerEpoch))]
#[case::old_epoch_same_sequences(2, 20, 2, Err(ErrorCode::InvalidProducerEpoch))]
fn a_client_repeats_follows_or_fails(
    #[case] epoch: i16,
    #[case] sequence: i32,
    #[case] records: i32,
    #[case] expected: Result<Verdict, ErrorCode>,
) {
    assert_eq!(check(&six_batches(), epoch, sequence, records).map_err(|error| error.code()), expected);
}

#[rstest]
#[case(0)]
#[case(12_345)]
fn an_unknown_producer_begins_anywhere(#[case] sequence: i32) {
    assert_eq!(check(&ProducerTable::default(), 3, sequence, 1), Ok(Verdict::New));
}

#[test]
fn a_batch_without_producer_is_always_new() {
    let bytes = batch(0, -1, -1, -1, 2);
    let mut table = six_batches();
    assert_eq!(table.check(&view(&bytes), &CLIENT), Ok(Verdict::New));
    table.update(&view(&bytes), 0);
    assert_eq!(table.len(), 1);
}

#[rstest]
#[case::ends_at_the_top(i32::MAX - 1, 2, 0)]
#[case::wraps_inside(i32::MAX - 1, 5, 3)]
fn sequences_wrap_to_zero(#[case] sequence: i32, #[case] records: i32, #[case] next: i32) {
    let mut table = ProducerTable::default();
    table.update(&view(&batch(50, 7, 0, sequence, records)), 0);
    assert_eq!(check(&table, 0, next, 1), Ok(Verdict::New));
    let last_offset = 50 + i64::from(records) - 1;
    let original = Verdict::Duplicate { base_offset: 50, last_offset, timestamp: 1050 };
    assert_eq!(check(&table, 0, sequence, records), Ok(original));
}

#[test]
fn a_new_epoch_forgets_the_batches_of_the_old_one() {
    let mut table = six_batches();
    table.update(&view(&batch(200, 7, 4, 0, 2)), 0);
    assert_eq!(check(&table, 4, 0, 2), duplicate(200).map_err(|_| unreachable!()));
    assert_eq!(check(&table, 4, 2, 2), Ok(Verdict::New));
    assert!(check(&table, 3, 22, 2).is_err());
}

#[test]
fn silent_producers_expire() {
    let mut table = six_batches();
    assert!(!table.expire(1110 + 499, 500));
    assert_eq!(table.len(), 1);
    let mut loaded = ProducerTable::from_snapshot(&table.snapshot()).expect("our own snapshot");
    loaded.loaded_at(90_000);
    assert!(!loaded.expire(90_000 + 499, 500), "a start does not forget who wrote old records just before");
    assert!(table.expire(1110 + 500, 500));
    assert_eq!(check(&table, 0, 5, 1), Ok(Verdict::New));
}

#[test]
fn the_table_is_bounded() {
    let mut table = ProducerTable::default();
    for id in 0..PRODUCERS_MAX as i64 + 1 {
        table.update(&view(&batch(id, id, 0, 0, 1)), id);
    }
    assert_eq!(table.len(), PRODUCERS_MAX - PRODUCERS_MAX / 8 + 1);
    let newest = batch(0, PRODUCERS_MAX as i64, 0, 9, 1);
    assert!(table.check(&view(&newest), &CLIENT).is_err(), "the newest are kept");
}

#[test]
fn a_snapshot_keeps_the_last_batch() {
    let table = ProducerTable::from_snapshot(&six_batches().snapshot()).expect("our own snapshot");
    assert_eq!(check(&table, 3, 22, 2), Ok(Verdict::New));
    assert_eq!(check(&table, 3, 20, 2).map_err(|error| error.code()), duplicate(110));
    assert_eq!(check(&table, 3, 18, 2).map_err(|error| error.code()), OUT_OF_ORDER);
}

#[test]
fn changes_keep_all_five_batches() {
    let full = six_batches();
    let mut table = ProducerTable::from_snapshot(&full.snapshot()).expect("our own snapshot");
    table.apply_changes(&full.changes_since(111, 4096).expect("it fits")).expect("our own changes");
    table.loaded_at(1110);
    assert_eq!(table.producers, full.producers);
    assert_eq!(full.changes_since(112, 4096).expect("it fits").len(), 5, "nothing changed behind the last batch");
    assert_eq!(full.changes_since(0, 100), None);
}

fn tables() -> impl Strategy<Value = ProducerTable> {
    let batches = prop::collection::vec((0..6i64, 0..3i16, any::<u16>(), 1..9i32), 0..40);
    batches.prop_map(|batches| {
        let mut table = ProducerTable::default();
        for (at, (id, epoch, sequence, records)) in batches.into_iter().enumerate() {
            table.update(&view(&batch(at as i64 * 10, id, epoch, sequence.into(), records)), 0);
        }
        table
    })
}

proptest! {
    #[test]
    fn a_table_comes_back_from_snapshot_and_changes(table in tables(), since in 0..400i64) {
        let mut again = ProducerTable::from_snapshot(&table.snapshot()).expect("our own snapshot");
        prop_assert_eq!(again.snapshot(), table.snapshot());
        again.apply_changes(&table.changes_since(since, 1 << 20).expect("it fits")).expect("our own changes");
        prop_assert_eq!(again.snapshot(), table.snapshot());
    }

    #[test]
    fn damaged_bytes_are_refused_or_read(table in tables(), at in any::<prop::sample::Index>(), flip in 1..=255u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = table.snapshot();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(ProducerTable::from_snapshot(&bytes).is_err());
        prop_assert!(ProducerTable::from_snapshot(&bytes[..cut.index(bytes.len())]).is_err());
        let mut bytes = table.changes_since(0, 1 << 20).expect("it fits");
        let at = at % bytes.len();
        bytes[at] ^= flip;
        // No CRC of its own: it may read as something else, but never panics and never allocates by a length.
        let mut damaged = ProducerTable::default();
        let _ = damaged.apply_changes(&bytes);
        let _ = damaged.check(&view(&batch(0, 1, 1, 1, 1)), &CLIENT);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut table = ProducerTable::default();
        let _ = table.apply_changes(&bytes);
        prop_assert!(ProducerTable::from_snapshot(&bytes).is_err());
    }
}

const MARKER_V1: Admission =
    Admission { origin: AppendOrigin::Coordinator, guard: None, must_verify: true, transaction_version: 1 };
const MARKER_V2: Admission = Admission { transaction_version: 2, ..MARKER_V1 };

fn in_transaction(offset: Offset, epoch: i16, sequence: i32) -> Vec<u8> {
    let mut bytes = batch(offset, 7, epoch, sequence, 2);
    bytes[21..23].copy_from_slice(&0x10i16.to_be_bytes());
    bytes
}

fn marker(offset: Offset, producer_id: i64, epoch: i16, coordinator_epoch: i32, commit: bool) -> Vec<u8> {
    let mut bytes = EndTransaction { commit, coordinator_epoch }.batch(producer_id, epoch, 5000);
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes
}

/// Producer 7 in epoch 3: a transaction at 100 that a coordinator of epoch 5 ended, another one open at 103.
fn in_second_transaction() -> ProducerTable {
    let mut table = ProducerTable::default();
    table.update(&view(&in_transaction(100, 3, 0)), 0);
    table.update(&view(&marker(102, 7, 3, 5, true)), 0);
    table.update(&view(&in_transaction(103, 3, 2)), 0);
    table
}

#[rstest]
#[case::same_epoch(MARKER_V1, 3, 5, Ok(()))]
#[case::higher_epoch(MARKER_V1, 4, 5, Ok(()))]
#[case::lower_epoch(MARKER_V1, 2, 5, Err(ErrorCode::InvalidProducerEpoch))]
#[case::old_coordinator(MARKER_V1, 3, 4, Err(ErrorCode::TransactionCoordinatorFenced))]
#[case::new_coordinator(MARKER_V1, 3, 6, Ok(()))]
#[case::v2_next_epoch(MARKER_V2, 4, 5, Ok(()))]
#[case::v2_same_epoch(MARKER_V2, 3, 5, Err(ErrorCode::InvalidProducerEpoch))]
#[case::v2_lower_epoch(MARKER_V2, 2, 5, Err(ErrorCode::InvalidProducerEpoch))]
fn markers_are_fenced_by_both_epochs(
    #[case] admission: Admission,
    #[case] epoch: i16,
    #[case] coordinator_epoch: i32,
    #[case] expected: Result<(), ErrorCode>,
) {
    let found = in_second_transaction().check(&view(&marker(0, 7, epoch, coordinator_epoch, false)), &admission);
    assert_eq!(found.map(|_| ()).map_err(|error| error.code()), expected);
}

#[rstest]
#[case::first(0, 0, Ok(()))]
#[case::negative_epoch(-2, 0, Err(ErrorCode::InvalidProducerEpoch))]
#[case::negative_coordinator_epoch(0, -2, Err(ErrorCode::TransactionCoordinatorFenced))]
fn markers_of_a_producer_that_nobody_has_seen_are_fenced_below_its_first_epochs(
    #[case] epoch: i16,
    #[case] coordinator_epoch: i32,
    #[case] expected: Result<(), ErrorCode>,
) {
    let found = ProducerTable::default().check(&view(&marker(0, 7, epoch, coordinator_epoch, false)), &MARKER_V1);
    assert_eq!(found.map(|_| ()).map_err(|error| error.code()), expected);
}

#[test]
fn a_marker_that_comes_twice_is_taken_twice_in_version_2() {
    let mut table = in_second_transaction();
    table.update(&view(&marker(105, 7, 4, 5, false)), 0);
    assert_eq!(table.check(&view(&marker(0, 7, 4, 5, false)), &MARKER_V2), Ok(Verdict::New));
    let mut last = ProducerTable::default();
    last.update(&view(&in_transaction(0, i16::MAX, 0)), 0);
    assert_eq!(last.check(&view(&marker(0, 7, i16::MAX, 0, false)), &MARKER_V2), Ok(Verdict::New));
}

#[rstest]
#[case::transactional(true, 3, 4, Ok(()))]
#[case::not_transactional(false, 3, 4, Err(ErrorCode::InvalidTxnState))]
#[case::new_epoch_unverified(true, 4, 0, Err(ErrorCode::InvalidTxnState))]
#[case::old_epoch(true, 2, 4, Err(ErrorCode::InvalidProducerEpoch))]
fn an_open_transaction_goes_on(
    #[case] transactional: bool,
    #[case] epoch: i16,
    #[case] sequence: i32,
    #[case] expected: Result<(), ErrorCode>,
) {
    let bytes = if transactional { in_transaction(0, epoch, sequence) } else { batch(0, 7, epoch, sequence, 2) };
    let found = in_second_transaction().check(&view(&bytes), &CLIENT);
    assert_eq!(found.map(|_| ()).map_err(|error| error.code()), expected);
}

#[test]
fn a_transaction_begins_only_verified() {
    let mut table = ProducerTable::default();
    let check = |table: &ProducerTable, sequence, guard| {
        let found = table.check(&view(&in_transaction(0, 3, sequence)), &Admission { guard, ..CLIENT });
        found.map(|_| ()).map_err(|error| error.code())
    };
    assert_eq!(check(&table, 0, None), Err(ErrorCode::InvalidTxnState));
    let coordinator = Admission { origin: AppendOrigin::Coordinator, ..CLIENT };
    assert!(table.check(&view(&in_transaction(0, 3, 0)), &coordinator).is_err(), "offsets of groups are verified too");
    let trusting = Admission { must_verify: false, ..CLIENT };
    assert_eq!(table.check(&view(&in_transaction(0, 3, 0)), &trusting), Ok(Verdict::New));

    let guard = table.begin_verification(7, 3, 4, true, 0).expect("not fenced");
    assert_eq!(table.begin_verification(7, 3, 0, true, 0), Ok(guard), "one verification for all that wait");
    assert_eq!(check(&table, 4, guard), Err(ErrorCode::OutOfOrderSequenceNumber), "the lower sequence comes first");
    assert_eq!(check(&table, 0, guard), Ok(()));
    table.update(&view(&in_transaction(100, 3, 0)), 0);
    assert_eq!(table.begin_verification(7, 3, 2, true, 0), Ok(None), "it is open");

    table.update(&view(&marker(102, 7, 4, 0, false)), 0);
    assert!(table.begin_verification(7, 3, 2, true, 0).is_err(), "fenced");
    let late = table.begin_verification(7, 4, 0, true, 0).expect("not fenced");
    table.update(&view(&marker(103, 7, 4, 0, false)), 0);
    let found = table.check(&view(&in_transaction(0, 4, 0)), &Admission { guard: late, ..CLIENT });
    assert_eq!(found, Err(ProducerError::NotVerified), "a marker came between");
    let guard = table.begin_verification(7, 4, 0, true, 0).expect("not fenced");
    table.expire(500, 500);
    let found = table.check(&view(&in_transaction(0, 4, 0)), &Admission { guard, ..CLIENT });
    assert_eq!(found, Err(ProducerError::NotVerified), "it took too long");
}

#[test]
fn a_new_producer_of_version_2_begins_at_zero() {
    let mut table = ProducerTable::default();
    let guard = table.begin_verification(7, 0, 5, true, 0).expect("not fenced");
    let found = table.check(&view(&in_transaction(0, 0, 5)), &Admission { guard, ..CLIENT });
    assert_eq!(found, Err(ProducerError::NewProducerNotAtZero { producer_id: 7, sequence: 5 }));
    let mut table = ProducerTable::default();
    let guard = table.begin_verification(7, 0, 5, false, 0).expect("not fenced");
    let found = table.check(&view(&in_transaction(0, 0, 5)), &Admission { guard, ..CLIENT });
    assert_eq!(found, Ok(Verdict::New));
}

#[test]
fn sequences_begin_anew_behind_a_marker_of_the_next_epoch() {
    let mut table = in_second_transaction();
    let ended = table.update(&view(&marker(105, 7, 4, 5, false)), 0).expect("it was open");
    assert_eq!((ended.first_offset, ended.last_offset, ended.last_stable_offset, ended.aborted), (103, 105, 106, true));
    let trusting = Admission { must_verify: false, ..CLIENT };
    let check = |epoch, sequence| table.check(&view(&in_transaction(0, epoch, sequence)), &trusting);
    assert_eq!(check(4, 0), Ok(Verdict::New));
    assert!(check(4, 4).is_err());
    assert_eq!(table.states()[0].last_sequence, -1);
    assert_eq!(table.states()[0].coordinator_epoch, 5);
}

#[test]
fn an_open_transaction_never_expires_and_is_never_forgotten() {
    let mut table = ProducerTable::default();
    table.update(&view(&in_transaction(0, 0, 0)), 0);
    for id in 100..100 + PRODUCERS_MAX as i64 {
        table.update(&view(&batch(2, id, 0, 0, 1)), 1);
    }
    assert!(table.has_open_transaction(7, 0));
    table.expire(i64::MAX, 1);
    assert_eq!((table.len(), table.first_undecided()), (1, Some(0)));
}

#[test]
fn snapshot_and_changes_keep_open_transactions() {
    let table = in_second_transaction();
    let mut again = ProducerTable::from_snapshot(&table.snapshot()).expect("our own snapshot");
    assert_eq!(again.first_undecided(), Some(103));
    let mut ended = in_second_transaction();
    ended.update(&view(&marker(105, 7, 3, 6, true)), 0);
    again.apply_changes(&ended.changes_since(105, 4096).expect("it fits")).expect("our own changes");
    assert_eq!(again.first_undecided(), None, "a marker alone is a change");
    assert_eq!(again.states(), ended.states());
}
