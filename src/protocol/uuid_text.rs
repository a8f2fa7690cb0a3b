//! Kafka's spelling of a UUID: 16 bytes as 22 characters of URL-safe base64 without padding.

use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const CHARACTERS: usize = 22;

/// The 22 characters of `id`.
pub fn encode(id: Uuid) -> String {
    // 128 bits are 21 characters of 6 bits and one of 2, which is padded with zero bits.
    let bits = id.as_u128();
    let character = |shift: u32| ALPHABET[(bits >> shift & 0x3F) as usize] as char;
    (0..21).map(|i| character(122 - 6 * i)).chain([ALPHABET[(bits << 4 & 0x3F) as usize] as char]).collect()
}

/// The UUID that `text` spells.
pub fn decode(text: &str) -> Option<Uuid> {
    if text.len() != CHARACTERS {
        return None;
    }
    let mut bits = 0u128;
    for (i, byte) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|&character| character == byte)? as u128;
        if i < 21 {
            bits = bits << 6 | value;
        } else if value & 0xF == 0 {
            bits = bits << 2 | value >> 4;
        } else {
            return None;
        }
    }
    Some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "AAAAAAAAAAAAAAAAAAAAAA")]
    #[case(1, "AAAAAAAAAAAAAAAAAAAAAQ")]
    #[case(u128::MAX, "_____________________w")]
    #[case(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, "ASNFZ4mrze8BI0VniavN7w")]
    fn spells_as_kafka_does(#[case] bits: u128, #[case] text: &str) {
        assert_eq!(encode(Uuid::from_u128(bits)), text);
        assert_eq!(decode(text), Some(Uuid::from_u128(bits)));
    }

    #[rstest]
    #[case::short("AAAA")]
    #[case::padding_bits("AAAAAAAAAAAAAAAAAAAAAB")]
    #[case::other_alphabet("AAAAAAAAAAAAAAAAAAAA+A")]
    #[case::not_ascii("AAAAAAAAAAAAAAAAAAAAé")]
    fn refuses_what_kafka_never_writes(#[case] text: &str) {
        assert_eq!(decode(text), None);
    }

    proptest! {
        #[test]
        fn comes_back(bits in any::<u128>()) {
            prop_assert_eq!(decode(&encode(Uuid::from_u128(bits))), Some(Uuid::from_u128(bits)));
        }
    }
}
