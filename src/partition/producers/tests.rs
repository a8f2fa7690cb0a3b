use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::protocol::record_batch::{CRC_FROM, HEADER_BYTES, LENGTH_OVERHEAD};

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
    table.check(&view(&batch(0, 7, epoch, sequence, records)), AppendOrigin::Client)
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
    assert_eq!(table.check(&view(&bytes), AppendOrigin::Client), Ok(Verdict::New));
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
    assert!(table.check(&view(&newest), AppendOrigin::Client).is_err(), "the newest are kept");
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
        let _ = damaged.check(&view(&batch(0, 1, 1, 1, 1)), AppendOrigin::Client);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut table = ProducerTable::default();
        let _ = table.apply_changes(&bytes);
        prop_assert!(ProducerTable::from_snapshot(&bytes).is_err());
    }
}
