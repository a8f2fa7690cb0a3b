//! `compression.type`: what is stored of batches in another codec than the topic's, and when their size counts.

use rstest::rstest;
use terrace::protocol::compression::{Compression, decompress};
use terrace_protocol_tests::batch::{Batch, values};
use terrace_protocol_tests::broker::Options;

use crate::scenario::{Scenario, compressed, fetch_request, scenario, scenario_of_ours, scenario_with};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// All that partition 0 holds.
fn stored(s: &mut Scenario, topic: &str) -> bytes::Bytes {
    let answer = s.client.call(11, &fetch_request(topic, 0, 0, 1000));
    answer.responses[0].partitions[0].records.clone().expect("records")
}

/// A stored batch in words: its codec, whether its CRC is right, and what its records say.
fn describe(batch: &[u8]) -> String {
    let codec = Compression::from_id(i16::from(batch[22] & 7)).expect("a codec");
    let mut plain = batch[..61].to_vec();
    plain.extend(decompress(codec, &batch[61..], 1 << 20).expect("it can be opened"));
    let length = i32::try_from(plain.len() - 12).expect("small");
    plain[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&plain[21..]);
    plain[17..21].copy_from_slice(&crc.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]) == u32::from_be_bytes(batch[17..21].try_into().expect("four bytes"));
    let number = |at: usize| i64::from_be_bytes(batch[at..at + 8].try_into().expect("eight bytes"));
    format!(
        "{codec:?} crc {crc} times {} to {} producer {} sequence {} {:?}",
        number(27) - 1_700_000_000_000,
        number(35) - 1_700_000_000_000,
        number(43),
        i32::from_be_bytes(batch[53..57].try_into().expect("four bytes")),
        values(&plain)
    )
}

#[rstest]
#[case("producer", [0, 1, 2, 3, 4])]
#[case("uncompressed", [0; 5])]
#[case("gzip", [1; 5])]
#[case("snappy", [2; 5])]
#[case("lz4", [3; 5])]
#[case("zstd", [4; 5])]
fn batches_are_stored_in_the_topic_s_codec(#[case] kind: &str, #[case] codecs: [i16; 5]) {
    let expected = codecs.map(|id| {
        let codec = Compression::from_id(id).expect("a codec");
        format!("{codec:?} crc true times 0 to 1 producer -1 sequence -1 [\"a\", \"b\"]\n")
    });
    scenario(
        |s| {
            for codec in CODECS {
                let t = s.topic(1, &[("compression.type", kind)]);
                s.produce(&t, 0, compressed(&Batch::of(&["a", "b"]), codec));
                let batch = stored(s, &t);
                s.say(describe(&batch));
            }
        },
        &expected.concat(),
    );
}

#[test]
fn a_recompressed_batch_keeps_its_producer_and_a_duplicate_is_known() {
    scenario(
        |s| {
            let t = s.topic(1, &[("compression.type", "zstd")]);
            let (id, epoch) = s.producer_id();
            for sequence in [0, 2, 2] {
                let batch = Batch::of(&["a", "b"]).from_producer(id, epoch, sequence);
                let answer = s.produce(&t, 0, compressed(&batch, Compression::Gzip));
                s.say(format!("error {} base {}", answer.error_code, answer.base_offset));
            }
            let first = stored(s, &t);
            let total = 12 + i32::from_be_bytes(first[8..12].try_into().expect("four bytes")) as usize;
            s.say(describe(&first[..total]).replace(&format!("producer {id}"), "producer ID"));
        },
        r#"error 0 base 0
           error 0 base 2
           error 0 base 2
           Zstd crc true times 0 to 1 producer ID sequence 0 ["a", "b"]"#,
    );
}

#[test]
fn the_broker_s_time_is_stored_in_a_recompressed_batch() {
    scenario(
        |s| {
            let t = s.topic(1, &[("compression.type", "gzip"), ("message.timestamp.type", "LogAppendTime")]);
            let answer = s.produce(&t, 0, compressed(&Batch::of(&["a", "b"]), Compression::Lz4));
            let batch = stored(s, &t);
            let max = i64::from_be_bytes(batch[35..43].try_into().expect("eight bytes"));
            s.say(format!("bit {} its time {}", batch[22] & 8, max == answer.log_append_time_ms));
        },
        "bit 8 its time true",
    );
}

/// Words in no order that a codec could foresee, and that repeat.
fn prose(bytes: usize) -> Batch {
    let mut state = 7u32;
    let mut text = String::new();
    while text.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += ["broker ", "segment ", "offset ", "leader ", "epoch ", "tier "][(state >> 24) as usize % 6];
    }
    Batch::of(&[&text])
}

#[test]
fn the_levels_of_codecs_are_the_topic_s() {
    scenario(
        |s| {
            for (codec, low, high) in [("gzip", "1", "9"), ("zstd", "-50", "19"), ("zstd", "1", "22")] {
                let key = format!("compression.{codec}.level");
                let mut sizes = Vec::new();
                for level in [low, high] {
                    let t = s.topic(1, &[("compression.type", codec), (&key, level)]);
                    s.produce(&t, 0, prose(100_000).build());
                    sizes.push(stored(s, &t).len());
                }
                s.say(format!("{codec} {low} to {high}: smaller {}", sizes[0] > sizes[1]));
            }
            // A batch in the topic's codec stays as it came, whatever its level.
            let t = s.topic(1, &[("compression.type", "gzip"), ("compression.gzip.level", "9")]);
            let sent = compressed(&prose(10_000), Compression::Gzip);
            s.produce(&t, 0, sent.clone());
            let kept = stored(s, &t)[61..] == sent[61..];
            s.say(format!("untouched {kept}"));
            // Changed while the topic is there.
            let t = s.topic(1, &[("compression.type", "zstd"), ("compression.zstd.level", "-50")]);
            s.produce(&t, 0, prose(100_000).build());
            s.set_topic_config(&t, &[("compression.type", "zstd"), ("compression.zstd.level", "19")]);
            s.produce(&t, 0, prose(100_000).build());
            let both = stored(s, &t);
            let first = 12 + i32::from_be_bytes(both[8..12].try_into().expect("four bytes")) as usize;
            s.say(format!("changed: smaller {}", both.len() - first < first));
            for level in ["1", "9", "17"] {
                let t = s.topic(1, &[("compression.type", "lz4"), ("compression.lz4.level", level)]);
                s.produce(&t, 0, Batch::of(&["a", "b"]).build());
                let batch = stored(s, &t);
                s.say(describe(&batch));
            }
        },
        r#"gzip 1 to 9: smaller true
           zstd -50 to 19: smaller true
           zstd 1 to 22: smaller true
           untouched true
           changed: smaller true
           Lz4 crc true times 0 to 1 producer -1 sequence -1 ["a", "b"]
           Lz4 crc true times 0 to 1 producer -1 sequence -1 ["a", "b"]
           Lz4 crc true times 0 to 1 producer -1 sequence -1 ["a", "b"]"#,
    );
}

#[test]
fn max_message_bytes_counts_as_sent_and_as_stored() {
    scenario(
        |s| {
            let large = Batch::of(&[&"x".repeat(5000)]);
            let mut produce = |kind: &str, codec| {
                let t = s.topic(1, &[("compression.type", kind), ("max.message.bytes", "1000")]);
                let answer = s.produce(&t, 0, compressed(&large, codec));
                s.say(format!("{codec:?} to {kind}: error {} base {}", answer.error_code, answer.base_offset));
            };
            produce("producer", Compression::Gzip);
            produce("gzip", Compression::Gzip);
            produce("zstd", Compression::Gzip);
            // Grows beyond the limit.
            produce("uncompressed", Compression::Gzip);
            // Would shrink below it.
            produce("gzip", Compression::None);
        },
        r#"Gzip to producer: error 0 base 0
           Gzip to gzip: error 0 base 0
           Gzip to zstd: error 0 base 0
           Gzip to uncompressed: error 10 base -1
           None to gzip: error 10 base -1"#,
    );
}

/// Apache Kafka's error is UNKNOWN_SERVER_ERROR, which tells a producer to try again.
#[test]
fn records_that_cannot_be_decompressed_are_refused() {
    scenario_with(
        &Options::new().with("record.validation", "full"),
        |s| {
            for (kind, codec) in [
                ("producer", Compression::Gzip),
                ("gzip", Compression::Gzip),
                ("uncompressed", Compression::Gzip),
                ("uncompressed", Compression::Snappy),
                ("uncompressed", Compression::Lz4),
                ("uncompressed", Compression::Zstd),
            ] {
                let t = s.topic(1, &[("compression.type", kind)]);
                // The bytes of plain records with the codec's bits.
                let lie = Batch { attributes: codec.id(), ..Batch::of(&["a", "b"]) };
                let answer = s.produce(&t, 0, lie.build());
                s.say(format!("{codec:?} to {kind}: refused {}", answer.error_code != 0));
            }
        },
        r#"Gzip to producer: refused true
           Gzip to gzip: refused true
           Gzip to uncompressed: refused true
           Snappy to uncompressed: refused true
           Lz4 to uncompressed: refused true
           Zstd to uncompressed: refused true"#,
    );
}

/// `record.decompressed.max.bytes` is ours alone.
#[test]
fn no_more_is_decompressed_of_a_batch_than_the_topic_allows() {
    scenario_of_ours(
        &Options::new(),
        |s| {
            let limit = ("record.decompressed.max.bytes", "2000");
            for kind in ["producer", "uncompressed"] {
                let t = s.topic(1, &[("compression.type", kind), limit]);
                for size in [1000, 5000] {
                    let batch = compressed(&Batch::of(&[&"x".repeat(size)]), Compression::Zstd);
                    let answer = s.produce(&t, 0, batch);
                    s.say(format!("{size} to {kind}: error {} base {}", answer.error_code, answer.base_offset));
                }
            }
        },
        "1000 to producer: error 0 base 0
         5000 to producer: error 0 base 1
         1000 to uncompressed: error 0 base 0
         5000 to uncompressed: error 87 base -1",
    );
}
