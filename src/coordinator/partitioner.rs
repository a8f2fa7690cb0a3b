//! Which partition of an internal topic holds a key: as Kafka, so that its tools find the same one.

/// `Utils.abs(key.hashCode()) % partitions`: the hash is Java's over UTF-16 units, and its one value without a positive
/// counterpart counts as 0.
pub fn partition_for(key: &str, partitions: i32) -> i32 {
    let hash = key.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Expected values by `"…".hashCode()` in jshell.
    #[rstest]
    #[case::empty("", 50, 0)]
    #[case::letter("a", 50, 97 % 50)]
    #[case::console("console-consumer-12345", 50, 6)]
    #[case::umlaut("grüße", 50, 23)]
    #[case::surrogates("🦀", 50, 2)]
    #[case::min_value("polygenelubricants", 50, 0)]
    fn groups_lie_where_kafka_puts_them(#[case] group: &str, #[case] partitions: i32, #[case] expected: i32) {
        assert_eq!(partition_for(group, partitions), expected);
    }
}
