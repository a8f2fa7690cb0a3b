use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;

fn identity() -> impl Strategy<Value = SegmentIdentity> {
    (
        "[A-Za-z0-9_-]{0,22}",
        "[a-z.é]{0,30}",
        any::<(u128, u128)>(),
        0..100i32,
        0..1_000_000i64,
        0..1_000_000i64,
        any::<[i64; 3]>(),
    )
        .prop_map(|(cluster_id, topic_name, (topic, uuid), partition, base_offset, more, times)| SegmentIdentity {
            cluster_id,
            topic: Uuid::from_u128(topic),
            topic_name,
            partition,
            base_offset,
            last_offset: base_offset + more,
            leader_epoch: 3,
            uuid: Uuid::from_u128(uuid),
            record_count: 17,
            batch_count: 5,
            first_timestamp: times[0],
            max_timestamp: times[1],
            max_timestamp_offset: times[2],
            flags: 0,
        })
}

fn footer() -> impl Strategy<Value = Footer> {
    (
        identity(),
        prop::collection::vec((1u32..5000, 1i64..50, 0i64..100, any::<u32>()), 1..20),
        prop::collection::vec(any::<(i32, i64)>(), 0..4),
        prop::collection::vec(any::<u8>(), 0..100),
        prop::collection::vec(any::<[i64; 4]>(), 0..4),
    )
        .prop_map(|(identity, steps, epochs, producers, aborted)| {
            let (mut position, mut first_offset, mut max_timestamp) = (0, identity.base_offset, 0);
            let mut chunks = Vec::new();
            for (length, offsets, later, crc) in steps {
                max_timestamp += later;
                chunks.push(ChunkEntry { position, length, first_offset, max_timestamp, crc });
                position += u64::from(length);
                first_offset += offsets;
            }
            let identity = SegmentIdentity { last_offset: first_offset.max(identity.last_offset), ..identity };
            let aborted = aborted
                .into_iter()
                .map(|[producer_id, first_offset, last_offset, last_stable_offset]| AbortedTransaction {
                    producer_id,
                    first_offset,
                    last_offset,
                    last_stable_offset,
                })
                .collect();
            Footer { identity, log_bytes: position, chunks, epochs, producer_snapshot: producers.into(), aborted }
        })
}

fn object_of(footer: &Footer) -> Vec<u8> {
    let mut object = vec![7; footer.log_bytes as usize];
    object.extend(footer.encode());
    object
}

proptest! {
    #[test]
    fn a_footer_survives_the_round_trip(footer in footer()) {
        prop_assert_eq!(Footer::of_object(&object_of(&footer)).unwrap(), footer);
    }

    #[test]
    fn one_wrong_bit_behind_the_segment_is_noticed(footer in footer(), at: prop::sample::Index, bit in 0u8..8) {
        let mut object = object_of(&footer);
        let behind = footer.log_bytes as usize;
        let at = behind + at.index(object.len() - behind);
        object[at] ^= 1 << bit;
        prop_assert!(Footer::of_object(&object).is_err());
    }

    #[test]
    fn a_shorter_object_is_no_object(footer in footer(), at: prop::sample::Index) {
        let object = object_of(&footer);
        prop_assert!(Footer::of_object(&object[..at.index(object.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 1u16..7) {
        let _ = Footer::of_object(&bytes);
        // Past all CRCs, so that the section parsers themselves meet arbitrary bytes.
        let mut footer = HEAD.to_vec();
        sections::put(&mut footer, kind, &bytes);
        let footer_crc = crc32c::crc32c(&footer);
        let trailer = Trailer { footer_position: 9, footer_len: footer.len() as u64, section_count: 1, footer_crc };
        let _ = Footer::parse(&footer, &trailer);
    }

    #[test]
    fn the_chunk_of_an_offset_is_the_one_that_holds_it(footer in footer(), at: prop::sample::Index) {
        let (base, last) = (footer.identity.base_offset, footer.identity.last_offset);
        let offset = base + at.index((last - base + 1) as usize) as i64;
        let number = footer.chunk_of_offset(offset).unwrap();
        prop_assert!(footer.chunks[number].first_offset <= offset);
        prop_assert!(footer.chunks.get(number + 1).is_none_or(|next| offset < next.first_offset));
        prop_assert_eq!(footer.chunk_of_offset(base - 1), None);
        prop_assert_eq!(footer.chunk_of_offset(last + 1), None);
    }
}

#[test]
fn an_unknown_section_is_skipped() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let footer = footer().new_tree(&mut runner).unwrap().current();
    let encoded = footer.encode();
    let mut longer = encoded[..encoded.len() - TRAILER_LEN].to_vec();
    sections::put(&mut longer, 999, b"from a later version");
    let trailer = Trailer {
        footer_position: footer.log_bytes,
        footer_len: longer.len() as u64,
        section_count: 6,
        footer_crc: crc32c::crc32c(&longer),
    };
    assert_eq!(Footer::parse(&longer, &trailer).unwrap(), footer);
}

#[test]
fn the_footer_begins_as_an_impossible_batch() {
    assert_eq!(i32::from_be_bytes(HEAD[8..].try_into().unwrap()), i32::MAX);
}
