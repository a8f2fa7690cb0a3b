//! Total retention over both tiers: where the log start belongs. Pure.

use super::lag::older_than;
use super::partition::{LocalSegments, SealedSegment};
use crate::config::topic::TopicConfig;
use crate::metadata::remote_log::RemoteChain;
use crate::partition::Offsets;
use crate::protocol::record_batch::Offset;

/// A run of offsets that retention keeps or drops as one.
struct Piece {
    next_offset: Offset,
    bytes: u64,
    max_timestamp: i64,
}

/// The log start that `retention.ms`, `retention.bytes` and the log start itself ask for; never below today's, never above
/// the high watermark. Remote segments come first, then the sealed local ones above them; the active one is not touched.
pub(super) fn log_start(
    config: &TopicConfig,
    offsets: &Offsets,
    chain: &RemoteChain,
    local: &LocalSegments,
    now_ms: i64,
) -> Offset {
    let pieces = pieces(offsets.log_start, chain, local);
    let mut left = pieces.iter().map(|piece| piece.bytes).sum::<u64>() + local.active_bytes;
    let mut start = offsets.log_start;
    for piece in pieces {
        let by_time = config.retention_ms.is_some_and(|ms| older_than(piece.max_timestamp, ms, now_ms));
        // As Kafka: a segment goes when what is left without it still reaches the limit.
        let by_size = config.retention_bytes.is_some_and(|keep| left - piece.bytes >= keep);
        if by_time || by_size {
            start = piece.next_offset;
        } else if piece.max_timestamp >= 0 {
            break;
        }
        // A piece without a time is as old as the one behind it, which decides.
        left -= piece.bytes;
    }
    start.min(offsets.high_watermark).max(offsets.log_start)
}

/// Bytes of disjoint offset ranges: FINISHED segments, then the part of the local log above them.
fn pieces(log_start: Offset, chain: &RemoteChain, local: &LocalSegments) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::with_capacity(chain.segments.len() + local.sealed.len());
    let mut covered = log_start;
    for segment in chain.segments.iter().filter(|segment| segment.last_offset >= log_start) {
        if segment.last_offset < covered {
            continue; // a second copy of what is counted already
        }
        covered = segment.last_offset + 1;
        let (bytes, max_timestamp) = (segment.log_bytes, segment.max_timestamp);
        pieces.push(Piece { next_offset: covered, bytes, max_timestamp });
    }
    for segment in local.sealed.iter().filter(|segment| segment.next_offset > covered) {
        let SealedSegment { next_offset, bytes, max_timestamp, .. } = *segment;
        pieces.push(Piece { next_offset, bytes, max_timestamp });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::{remote_segment, topic_config};
    use super::*;

    /// Remote 0..10, 10..20 (100 bytes each, times 1000, 2000); local sealed 10..20 again and 20..30 (time 3000), active
    /// 50 bytes from 30 on.
    fn check(change: impl Fn(&mut TopicConfig, &mut Offsets), now_ms: i64) -> Offset {
        let chain = RemoteChain {
            segments: vec![remote_segment(0, 9, 1000).into(), remote_segment(10, 19, 2000).into()],
            ..RemoteChain::default()
        };
        let sealed = |base_offset, max_timestamp| SealedSegment {
            base_offset,
            next_offset: base_offset + 10,
            bytes: 100,
            first_timestamp: max_timestamp,
            max_timestamp,
        };
        let local = LocalSegments {
            sealed: vec![sealed(10, 2000), sealed(20, 3000)],
            active_bytes: 50,
            active_first_timestamp: Some(3001),
        };
        let mut offsets = Offsets {
            log_start: 0,
            local_start: 10,
            high_watermark: 35,
            last_stable: 35,
            log_end: 35,
            leader_epoch: 0,
        };
        let mut config = topic_config();
        change(&mut config, &mut offsets);
        log_start(&config, &offsets, &chain, &local, now_ms)
    }

    #[rstest]
    #[case(None, i64::MAX, 0)]
    #[case(Some(500), 1500, 0)]
    #[case(Some(500), 1501, 10)]
    #[case(Some(500), 2501, 20)]
    #[case(Some(500), 3501, 30)]
    #[case(Some(500), i64::MAX, 30)]
    fn by_time(#[case] retention_ms: Option<i64>, #[case] now_ms: i64, #[case] expected: Offset) {
        assert_eq!(check(|config, _| config.retention_ms = retention_ms, now_ms), expected);
    }

    #[rstest]
    #[case(None, 0)]
    #[case(Some(350), 0)] // what lies in both tiers counts once
    #[case(Some(251), 0)]
    #[case(Some(250), 10)]
    #[case(Some(150), 20)]
    #[case(Some(0), 30)]
    fn by_size(#[case] retention_bytes: Option<u64>, #[case] expected: Offset) {
        assert_eq!(check(|config, _| config.retention_bytes = retention_bytes, 0), expected);
    }

    #[test]
    fn never_falls_and_never_passes_the_high_watermark() {
        assert_eq!(check(|_, offsets| offsets.log_start = 17, 0), 17);
        let all = |config: &mut TopicConfig, offsets: &mut Offsets| {
            config.retention_ms = Some(1);
            offsets.high_watermark = 25;
        };
        assert_eq!(check(all, i64::MAX), 25);
    }
}
