use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::control::EndTransaction;
use crate::protocol::records::records;

const RETENTION_MS: i64 = 100;

/// What is written, one batch each.
#[derive(Debug, Clone)]
enum Step {
    /// Records of these keys; without a value they delete.
    Data(Vec<(u8, bool)>),
    /// The same in a transaction of its own, which ends so many batches later, committed or aborted.
    Transaction(Vec<(u8, bool)>, usize, bool),
    /// A record without a key.
    Keyless,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = || prop::collection::vec((0u8..6, any::<bool>()), 1..4);
    let step = prop_oneof![
        4 => data().prop_map(Step::Data),
        2 => (data(), 0usize..6, any::<bool>()).prop_map(|(data, after, commit)| Step::Transaction(data, after, commit)),
        1 => Just(Step::Keyless),
    ];
    prop::collection::vec(step, 1..40)
}

/// What is known of a record that was written.
struct Written {
    key: Option<u8>,
    has_value: bool,
    /// Not aborted.
    counts: bool,
}

/// A segment as it is read: first and last offset, batches, and the aborted transactions of its footer.
type Stored = (Offset, Offset, Vec<u8>, Vec<FooterEntry>);

#[derive(Default)]
struct Log {
    batches: Vec<Vec<u8>>,
    records: BTreeMap<Offset, Written>,
    aborted: Vec<FooterEntry>,
    next: Offset,
}

impl Log {
    fn of(steps: &[Step]) -> Self {
        let (mut log, mut open) = (Self::default(), Vec::new());
        for (n, step) in steps.iter().enumerate() {
            match step {
                Step::Data(records) => log.data(records, None, true),
                Step::Keyless => {
                    let mut builder = BatchBuilder::new(log.next);
                    builder.push(0, 5, None, Some(b"no key"), [].into_iter());
                    log.records.insert(log.next, Written { key: None, has_value: true, counts: true });
                    log.push(builder, 1);
                }
                Step::Transaction(records, after, commit) => {
                    let (producer, first) = (n as i64, log.next);
                    log.data(records, Some(producer), *commit);
                    open.push((n + after, producer, first, *commit));
                }
            }
            let (ends, rest) = open.into_iter().partition(|(end, ..)| *end <= n);
            log.end(ends);
            open = rest;
        }
        log.end(open);
        log
    }

    fn end(&mut self, ends: Vec<(usize, i64, Offset, bool)>) {
        for (_, producer_id, first_offset, commit) in ends {
            if !commit {
                let last_offset = self.next;
                self.aborted.push(FooterEntry { producer_id, first_offset, last_offset, last_stable_offset: 0 });
            }
            let mut marker = EndTransaction { commit, coordinator_epoch: 0 }.batch(producer_id, 0, 5);
            // Which no CRC covers.
            marker[..8].copy_from_slice(&self.next.to_be_bytes());
            self.batches.push(marker);
            self.next += 1;
        }
    }

    fn data(&mut self, records: &[(u8, bool)], producer: Option<i64>, counts: bool) {
        let mut builder = BatchBuilder::new(self.next);
        if let Some(producer) = producer {
            builder = builder.with_producer(producer, 0, 0).transactional();
        }
        for (delta, (key, has_value)) in (0..).zip(records) {
            builder.push(delta, 5, Some(&[*key]), has_value.then_some(&b"some value"[..]), [].into_iter());
            let written = Written { key: Some(*key), has_value: *has_value, counts };
            self.records.insert(self.next + Offset::from(delta), written);
        }
        self.push(builder, records.len());
    }

    fn push(&mut self, builder: BatchBuilder, count: usize) {
        self.batches.push(builder.finish());
        self.next += count as Offset;
    }

    /// Segments of so many batches.
    fn segments(&self, batches: usize) -> Vec<Stored> {
        let parts: Vec<_> = self.batches.chunks(batches).collect();
        let base = |bytes: &[u8]| BatchView::split_first(bytes).unwrap().0.base_offset();
        let bases: Vec<_> = parts.iter().map(|part| base(&part[0])).chain([self.next]).collect();
        let of = |(n, part): (usize, &&[Vec<u8>])| {
            let (base, next) = (bases[n], bases[n + 1]);
            let is_in = |entry: &&FooterEntry| entry.first_offset < next && entry.last_offset >= base;
            (base, next - 1, part.concat(), self.aborted.iter().filter(is_in).copied().collect())
        };
        parts.iter().enumerate().map(of).collect()
    }
}

/// One round over `segments`, of which none is left as it is: what comes of it, and the map's end.
fn round(
    segments: &[Stored],
    from: Offset,
    now_ms: i64,
    piece_bytes: usize,
    map_bytes: usize,
) -> (Vec<Stored>, Offset) {
    let mut map = KeyMap::new(from, map_bytes);
    let mut met = TransactionWalk::default();
    'map: for (_, last, bytes, aborted) in segments.iter().filter(|(_, last, ..)| *last >= from) {
        met.learn(aborted.iter().map(AbortedTransaction::from));
        let mut rest = &bytes[..];
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            rest = behind;
            if !map.meet(&batch, 1 << 20, &mut met) {
                break 'map;
            }
        }
        map.reach(last + 1);
    }
    let end = map.end();
    let rules = RoundRules {
        map: Arc::new(map),
        now_ms,
        delete_retention_ms: RETENTION_MS,
        decompressed_max_bytes: 1 << 20,
        sees_all: true,
    };
    let mut rewriter = Rewriter::new(rules, piece_bytes);
    rewriter.cover_from(segments[0].0);
    let mut pieces = Vec::new();
    for (_, _, bytes, aborted) in segments {
        rewriter.begin(aborted);
        pieces.extend(rewriter.feed(bytes).unwrap());
    }
    pieces.extend(rewriter.close(segments[segments.len() - 1].1));
    (pieces.into_iter().map(|piece| (piece.base, piece.last, piece.log, Vec::new())).collect(), end)
}

/// The offsets of data records.
fn offsets(segments: &[Stored]) -> BTreeSet<Offset> {
    let mut found = BTreeSet::new();
    for (base, last, log, _) in segments {
        let mut rest = &log[..];
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            batch.check_crc().unwrap();
            assert!(*base <= batch.base_offset() && batch.last_offset() <= *last);
            rest = behind;
            let opened = records(&batch, 1 << 20).unwrap();
            found.extend(opened.iter().flatten().filter(|_| !batch.is_control()).map(|record| record.offset));
        }
    }
    found
}

proptest! {
    /// Whatever was written and however it is cut, a round leaves the last record of each key, nothing aborted, and covers
    /// the same offsets; later rounds take the tombstones away, and nothing comes back.
    #[test]
    fn a_round_leaves_the_last_record_of_each_key(
        steps in steps(), batches in 1usize..6, piece_bytes in 1usize..600, keys in 4usize..9,
    ) {
        let log = Log::of(&steps);
        let counting = log.records.iter().filter(|(_, written)| written.counts);
        let last: BTreeMap<u8, (Offset, bool)> =
            counting.filter_map(|(offset, each)| Some((each.key?, (*offset, each.has_value)))).collect();
        let newest: BTreeSet<Offset> = last.values().map(|(offset, _)| *offset).collect();
        let living: BTreeSet<Offset> = last.values().filter(|each| each.1).map(|(offset, _)| *offset).collect();

        // A small map, with room for any batch, takes several rounds.
        let (mut segments, mut from, mut now_ms) = (log.segments(batches), 0, 1000);
        while from < log.next {
            let (pieces, end) = round(&segments, from, now_ms, piece_bytes, keys * 48);
            prop_assert!(end > from, "it goes on from {from}");
            from = end;
            let found = offsets(&pieces);
            prop_assert!(found.is_superset(&newest), "{found:?} of {newest:?}");
            prop_assert!(found.iter().all(|offset| log.records[offset].counts), "aborted: {found:?}");
            prop_assert!(pieces.windows(2).all(|two| two[0].1 + 1 == two[1].0));
            let [Some(front), Some(back)] = [pieces.first(), pieces.last()] else {
                prop_assert!(newest.is_empty());
                return Ok(());
            };
            prop_assert_eq!((front.0, back.1), (0, log.next - 1));
            segments = pieces;
        }
        prop_assert_eq!(offsets(&segments), newest);

        // Tombstones have their horizon from the first round on; markers once nothing of their transactions is met.
        for _ in 0..3 {
            now_ms += RETENTION_MS;
            let (pieces, _) = round(&segments, from, now_ms, piece_bytes, 1 << 20);
            if pieces.is_empty() {
                prop_assert!(living.is_empty());
                return Ok(());
            }
            segments = pieces;
        }
        prop_assert_eq!(offsets(&segments), living);
    }

    #[test]
    fn epochs_are_those_of_the_offsets(
        steps in prop::collection::vec(1i64..5, 1..6), base in 0i64..20, length in 1i64..20,
    ) {
        let first = |at: &mut i64, step: &i64| {
            *at += step;
            Some(*at)
        };
        let starts: Vec<(i32, Offset)> = (0..).zip(steps.iter().scan(0, first)).collect();
        let at = |starts: &[(i32, Offset)], offset| {
            starts.iter().rev().find(|(_, first)| *first <= offset).map(|(epoch, _)| *epoch)
        };
        let within = epochs_within(&starts, base, base + length - 1);
        prop_assert!(within.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1));
        for offset in base..base + length {
            prop_assert_eq!(at(&within, offset), at(&starts, offset), "at {}", offset);
        }
        prop_assert!(within.iter().all(|(_, first)| (base..base + length).contains(first)));
    }
}

#[test]
fn what_does_not_change_is_known_before_it_is_written() {
    let log = Log::of(&[Step::Data(vec![(1, true)]), Step::Data(vec![(2, true)]), Step::Data(vec![(1, true)])]);
    let mut map = KeyMap::new(0, 1 << 20);
    for batch in &log.batches {
        assert!(map.meet(&BatchView::split_first(batch).unwrap().0, 1 << 20, &mut TransactionWalk::default()));
    }
    map.reach(3);
    let rules = RoundRules {
        map: Arc::new(map),
        now_ms: 0,
        delete_retention_ms: RETENTION_MS,
        decompressed_max_bytes: 1 << 20,
        sees_all: true,
    };
    let mut rewriter = Rewriter::new(rules, 1000);
    let mut changed = |bytes: &[u8], aborted: &[FooterEntry]| {
        rewriter.begin(aborted);
        rewriter.look(bytes).unwrap();
        rewriter.has_changed()
    };
    let each: Vec<_> = log.batches.iter().map(|batch| changed(batch, &[])).collect();
    assert_eq!(each, [true, false, false]);
    let entry = FooterEntry { producer_id: 1, first_offset: 0, last_offset: 9, last_stable_offset: 9 };
    assert!(changed(&[], &[entry]), "its footer names a transaction of which nothing is left");
}
