//! Kafka's cluster id: 16 random bytes as 22 characters of URL-safe base64.

use terrace_tiering::platform::random::Random;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A new cluster id. Like Kafka's, it never begins with a dash, which command lines would take for an option.
pub fn random(random: &dyn Random) -> String {
    loop {
        let id = encode(random.uuid().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// Kafka's spelling of a UUID, also used for topic ids.
pub fn encode(bytes: &[u8; 16]) -> String {
    // 128 bits are 21 characters of 6 bits and one of 2, which is padded with zero bits.
    let bits = u128::from_be_bytes(*bytes);
    let character = |shift: u32| ALPHABET[(bits >> shift & 0x3F) as usize] as char;
    (0..21).map(|i| character(122 - 6 * i)).chain([ALPHABET[(bits << 4 & 0x3F) as usize] as char]).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use terrace_tiering::platform::random::SeededRandom;

    use super::*;

    #[rstest]
    #[case(0, "AAAAAAAAAAAAAAAAAAAAAA")]
    #[case(1, "AAAAAAAAAAAAAAAAAAAAAQ")]
    #[case(u128::MAX, "_____________________w")]
    #[case(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, "ASNFZ4mrze8BI0VniavN7w")]
    fn spells_ids_as_kafka_does(#[case] bits: u128, #[case] expected: &str) {
        assert_eq!(encode(&bits.to_be_bytes()), expected);
    }

    #[test]
    fn never_begins_with_a_dash() {
        let source = SeededRandom::new(7);
        assert!((0..1000).all(|_| !random(&*source).starts_with('-')));
    }
}
