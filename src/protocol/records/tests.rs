use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::protocol::batch_builder::BatchBuilder;

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);
type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<OwnedHeader>);

fn build(base_offset: Offset, codec: Compression, input: &[OwnedRecord]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base_offset).with_compression(codec);
    for (delta, (timestamp, key, value, headers)) in input.iter().enumerate() {
        let headers = headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        builder.push(delta as i32 * 3, *timestamp, key.as_deref(), value.as_deref(), headers);
    }
    builder.finish()
}

fn read(batch: &[u8]) -> Result<Vec<OwnedRecord>, RecordsError> {
    let (view, _) = BatchView::split_first(batch).expect("a whole batch");
    let records = records(&view, 1 << 20)?;
    records
        .iter()
        .map(|record| {
            let record = record?;
            let headers = record.headers.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect();
            Ok((record.timestamp, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers))
        })
        .collect()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

fn owned_record() -> impl Strategy<Value = OwnedRecord> {
    let header = (proptest::collection::vec(any::<u8>(), 0..3), proptest::option::of(bytes()));
    let headers = proptest::collection::vec(header, 0..4);
    (0..i64::MAX, proptest::option::of(bytes()), proptest::option::of(bytes()), headers)
}

proptest! {
    #[test]
    fn built_batches_are_whole_and_read_back(
        input in proptest::collection::vec(owned_record(), 1..20),
        base_offset in 0..i64::MAX / 2,
        codec in 0..5i16,
    ) {
        let batch = build(base_offset, Compression::from_id(codec).expect("known"), &input);
        let (view, rest) = BatchView::split_first(&batch).expect("whole");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(view.check_crc(), Ok(()));
        prop_assert_eq!(view.last_offset(), base_offset + (input.len() as i64 - 1) * 3);
        prop_assert_eq!(view.max_timestamp(), input.iter().map(|record| record.0).max().expect("one"));
        prop_assert_eq!((view.producer_id(), view.producer_epoch(), view.base_sequence()), (-1, -1, -1));
        prop_assert_eq!(read(&batch), Ok(input));
    }

    #[test]
    fn damaged_records_never_panic(
        input in proptest::collection::vec(owned_record(), 1..5),
        at in 61..2000usize,
        byte: u8,
        codec in 0..5i16,
    ) {
        let mut batch = build(7, Compression::from_id(codec).expect("known"), &input);
        let at = 61 + (at - 61) % (batch.len() - 61);
        batch[at] = byte;
        let _ = read(&batch);
    }
}

#[rstest]
#[case::fewer_than_the_bytes(1, RecordsError::BytesRemain)]
#[case::more_than_the_bytes(3, RecordsError::Truncated)]
#[case::most(i32::MAX, RecordsError::Truncated)]
#[case::negative(-1, RecordsError::BadCount(-1))]
fn a_count_that_disagrees_is_refused(#[case] count: i32, #[case] expected: RecordsError) {
    let record: OwnedRecord = (5, None, Some(b"value".to_vec()), Vec::new());
    let mut batch = build(0, Compression::None, &[record.clone(), record]);
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    assert_eq!(read(&batch), Err(expected));
}

#[rstest]
#[case::record_length_beyond_the_batch(&[0xfe, 0xff, 0xff, 0xff, 0x0f], RecordsError::Truncated)]
#[case::negative_record_length(&[1], RecordsError::BadLength)]
#[case::key_beyond_the_record(&[12, 0, 0, 0, 100, 1, 0], RecordsError::Truncated)]
#[case::negative_headers_count(&[12, 0, 0, 0, 1, 1, 1], RecordsError::BadLength)]
#[case::headers_beyond_the_record(&[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], RecordsError::Truncated)]
#[case::null_header_key(&[16, 0, 0, 0, 1, 1, 2, 1, 1], RecordsError::BadLength)]
#[case::fields_shorter_than_the_length(&[14, 0, 0, 0, 1, 1, 0, 0], RecordsError::BadLength)]
fn hostile_lengths_are_refused(#[case] records: &[u8], #[case] expected: RecordsError) {
    let mut batch = BatchBuilder::new(0).finish();
    batch.extend_from_slice(records);
    batch[8..12].copy_from_slice(&(49 + records.len() as i32).to_be_bytes());
    batch[57..61].copy_from_slice(&1i32.to_be_bytes());
    assert_eq!(read(&batch), Err(expected));
}

#[test]
fn log_append_time_gives_every_record_the_batch_time() {
    let record: OwnedRecord = (5, None, None, Vec::new());
    let mut batch = build(0, Compression::None, &[record]);
    crate::protocol::record_batch::stamp_log_append_time(&mut batch, 99);
    assert_eq!(read(&batch).expect("readable")[0].0, 99);
}

#[test]
fn what_the_cleaner_keeps_has_the_header_of_its_original() {
    let record: OwnedRecord = (5, Some(b"k".to_vec()), None, Vec::new());
    let original = build(40, Compression::Zstd, &[record.clone(), record.clone(), record]);
    let (view, _) = BatchView::split_first(&original).expect("whole");
    let mut builder = BatchBuilder::like(&view).expect("known codec").with_delete_horizon(1000);
    builder.push(3, 5, Some(b"k"), None, Headers::EMPTY);
    let kept = builder.finish();
    let (kept, _) = BatchView::split_first(&kept).expect("whole");
    assert_eq!(kept.check_crc(), Ok(()));
    assert_eq!((kept.base_offset(), kept.last_offset(), kept.compression_id()), (40, 46, 4));
    assert!(kept.has_delete_horizon());
    let records = records(&kept, 1000).expect("readable");
    let record = records.iter().next().expect("one").expect("whole");
    assert_eq!((record.offset, record.timestamp), (43, 5));
}
