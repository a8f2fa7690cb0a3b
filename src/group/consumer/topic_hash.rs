//! The hash by which a group notices that its subscribed topics changed (KIP-1101): Kafka's bytes through XXH3-64, so that
//! a group moves between brokers without a rebalance.

use std::sync::Arc;

use twox_hash::XxHash3_64;

use crate::metadata::image::{Image, Topic};

/// In front of every topic, so that the bytes may change one day.
const MAGIC: u8 = 0;

/// Over these topics as `image` has them, in the order of their names; 0 when it has none of them.
pub fn metadata_hash<'t>(topics: impl Iterator<Item = &'t Arc<str>>, image: &Image, rack: Option<&str>) -> i64 {
    let mut hashes = Vec::new();
    for topic in topics.filter_map(|name| image.topic(name)) {
        hashes.extend_from_slice(&topic_hash(topic, rack).to_le_bytes());
    }
    if hashes.is_empty() { 0 } else { XxHash3_64::oneshot(&hashes).cast_signed() }
}

/// Over one topic: id, name, and of each partition the racks of its replicas. Numbers are little-endian, a string is its
/// UTF-16 units and then their number.
fn topic_hash(topic: &Topic, rack: Option<&str>) -> u64 {
    let (high, low) = topic.id.as_u64_pair();
    let mut bytes = vec![MAGIC];
    bytes.extend_from_slice(&high.to_le_bytes());
    bytes.extend_from_slice(&low.to_le_bytes());
    put_string(&mut bytes, &topic.name);
    bytes.extend_from_slice(&topic.partition_count.to_le_bytes());
    for partition in 0..topic.partition_count {
        bytes.extend_from_slice(&partition.to_le_bytes());
        if let Some(rack) = rack {
            bytes.extend_from_slice(&units(rack).to_le_bytes());
            put_string(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    out.extend_from_slice(&units(text).to_le_bytes());
}

fn units(text: &str) -> i32 {
    i32::try_from(text.encode_utf16().count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;

    const FIRST: u128 = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
    const SECOND: u128 = 0xf102_0304_0506_0708_890a_0b0c_0d0e_0f10;

    fn image() -> Image {
        let mut image = Image::default();
        for (id, name, partition_count) in [(FIRST, "foo", 3), (SECOND, "grüße", 300)] {
            let id = Uuid::from_u128(id);
            let topic =
                Topic { id, name: name.into(), partition_count, replication_factor: 1, config: Default::default() };
            image.topics.insert(name.into(), Arc::new(topic));
        }
        image
    }

    // Expected values from hash4j 0.22's streams, fed as Kafka 4.3.1 feeds them.
    #[rstest]
    #[case::one(&["foo"], None, 6_567_505_408_605_215_696)]
    #[case::two_by_name(&["grüße", "foo", "missing"], None, 1_732_427_443_047_058_870)]
    #[case::with_rack(&["foo"], Some("rack-a"), 2_381_815_298_407_022_908)]
    #[case::none(&["missing"], None, 0)]
    fn is_the_hash_of_kafka(#[case] topics: &[&str], #[case] rack: Option<&str>, #[case] expected: i64) {
        let names: std::collections::BTreeSet<Arc<str>> = topics.iter().map(|&name| name.into()).collect();
        assert_eq!(metadata_hash(names.iter(), &image(), rack), expected);
    }
}
