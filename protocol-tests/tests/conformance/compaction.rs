//! Compaction as clients see it: which offsets of a log are left when the cleaner was there.
//!
//! Every append of a [`Log`] begins a segment, because its time lies further from the one before than `segment.ms`; the last
//! one is active and never cleaned.

use std::time::{Duration, Instant, UNIX_EPOCH};

use kafka_protocol::messages::{EndTxnRequest, InitProducerIdRequest, TransactionalId};
use terrace::protocol::compression::Compression;
use terrace_protocol_tests::batch::{Batch, by_offset};
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::fresh_name;

use crate::delete_records::delete;
use crate::scenario::{Scenario, compressed, fetch_request, produce_request, scenario_with, text};

/// Long ago, for what any lag and any retention reaches.
const OLD: i64 = 1_600_000_000_000;
/// Between two appends.
const STEP_MS: i64 = 10_000;
/// A cleaner that looks five times a second takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the cleaner of ours needs to be as quick as the peer's.
fn quick() -> Options {
    Options::new().with("log.cleaner.backoff.ms", 200).with("log.retention.check.interval.ms", 200)
}

/// A compacted topic of one partition.
struct Log {
    topic: String,
    time: i64,
}

impl Log {
    fn new(s: &mut Scenario, more: &[(&str, &str)]) -> Self {
        Self { topic: s.topic(1, &settings(more)), time: OLD }
    }

    /// One batch, in a segment of its own.
    fn append(&mut self, s: &mut Scenario, pairs: &[(&str, &str)]) {
        let batch = self.batch(pairs).build();
        self.send(s, batch);
    }

    fn batch(&mut self, pairs: &[(&str, &str)]) -> Batch {
        self.time += STEP_MS;
        Batch::keyed(pairs).at(self.time)
    }

    fn send(&self, s: &mut Scenario, batch: bytes::Bytes) {
        let answer = s.produce(&self.topic, 0, batch);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    }

    /// Offset and value of each record.
    fn read(&self, s: &mut Scenario) -> String {
        let (_, _, start) = s.list_offset(&self.topic, 0, -2);
        self.read_from(s, start)
    }

    /// The same of the records at and behind an offset, `-` for a tombstone; or an error. A Fetch brings one segment.
    fn read_from(&self, s: &mut Scenario, mut at: i64) -> String {
        let (_, _, end) = s.list_offset(&self.topic, 0, -1);
        let mut words = Vec::new();
        while at < end {
            let answer = s.client.call(11, &fetch_request(&self.topic, 0, at, 0));
            let partition = &answer.responses[0].partitions[0];
            if partition.error_code != 0 {
                return format!("error {}", partition.error_code);
            }
            let mut rest = partition.records.clone().unwrap_or_default();
            let before = at;
            while rest.len() >= 61 {
                let batch =
                    rest.split_to(12 + i32::from_be_bytes(rest[8..12].try_into().expect("four bytes")) as usize);
                words.extend(describe(&batch));
                let base = i64::from_be_bytes(batch[..8].try_into().expect("eight bytes"));
                at = base + i64::from(i32::from_be_bytes(batch[23..27].try_into().expect("four bytes"))) + 1;
            }
            if at == before {
                break;
            }
        }
        words.join(" ")
    }

    /// Waits until the log is `expected`, and says what it is then.
    fn becomes(&self, s: &mut Scenario, expected: &str) {
        let until = Instant::now() + PATIENCE;
        let mut log = self.read(s);
        while log != expected && Instant::now() < until {
            // Nothing comes, so this waits a moment.
            let (_, _, end) = s.list_offset(&self.topic, 0, -1);
            s.client.call(11, &fetch_request(&self.topic, 0, end, 100));
            log = self.read(s);
        }
        s.say(log);
    }
}

fn settings<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![("cleanup.policy", "compact"), ("segment.ms", "5000"), ("min.cleanable.dirty.ratio", "0.01")];
    for (key, value) in more {
        all.retain(|(known, _)| known != key);
        all.push((key, value));
    }
    all
}

/// The records of a batch.
fn describe(batch: &[u8]) -> Vec<String> {
    let is_marker = batch[22] & 0x20 != 0;
    let word = |(offset, value): (i64, String)| match &*value {
        _ if is_marker => format!("{offset}:marker"),
        "null" => format!("{offset}:-"),
        value => format!("{offset}:{value}"),
    };
    by_offset(batch).into_iter().map(word).collect()
}

fn now() -> i64 {
    let since = UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

#[test]
fn the_last_value_of_each_key_stays_at_its_offset() {
    scenario_with(
        &quick(),
        |s| {
            let mut log = Log::new(s, &[]);
            for pairs in
                [&[("a", "a1")][..], &[("b", "b1"), ("c", "c1")], &[("a", "a2")], &[("b", "-")], &[("d", "d1")]]
            {
                log.append(s, pairs);
            }
            log.becomes(s, "2:c1 3:a2 4:- 5:d1");
            // The tombstone stays for a day, over any number of rounds.
            log.append(s, &[("c", "c2")]);
            log.append(s, &[("e", "e1")]);
            log.becomes(s, "3:a2 4:- 5:d1 6:c2 7:e1");
            for time in [-2, -1, OLD + 1] {
                let found = s.list_offset(&log.topic, 0, time);
                s.say(format!("{time}: {} {}", found.0, found.2));
            }
            let behind = log.read_from(s, 1);
            s.say(format!("from 1: {behind}"));
        },
        "2:c1 3:a2 4:- 5:d1
         3:a2 4:- 5:d1 6:c2 7:e1
         -2: 0 0
         -1: 0 8
         1600000000001: 0 3
         from 1: 3:a2 4:- 5:d1 6:c2 7:e1",
    );
}

#[test]
fn a_tombstone_goes_when_its_time_is_over() {
    scenario_with(
        &quick(),
        |s| {
            let mut log = Log::new(s, &[("delete.retention.ms", "0")]);
            for pairs in [[("a", "a1")], [("a", "-")], [("b", "b1")]] {
                log.append(s, &pairs);
            }
            // The first round that meets it says until when it stays.
            log.becomes(s, "1:- 2:b1");
            log.append(s, &[("c", "c1")]);
            log.becomes(s, "2:b1 3:c1");
        },
        "1:- 2:b1
         2:b1 3:c1",
    );
}

#[test]
fn nothing_younger_than_the_least_lag_is_cleaned() {
    scenario_with(
        &quick(),
        |s| {
            let mut log = Log::new(s, &[("min.compaction.lag.ms", "3600000")]);
            log.append(s, &[("a", "a1")]);
            log.append(s, &[("a", "a2")]);
            log.time = now() - 2 * STEP_MS;
            log.append(s, &[("a", "a3")]);
            log.append(s, &[("a", "a4")]);
            // What is young supersedes nothing yet.
            log.becomes(s, "1:a2 2:a3 3:a4");
        },
        "1:a2 2:a3 3:a4",
    );
}

#[test]
fn the_greatest_lag_cleans_whatever_the_ratio() {
    scenario_with(
        &quick(),
        |s| {
            let ratio = ("min.cleanable.dirty.ratio", "1.0");
            let mut never = Log::new(s, &[ratio]);
            let mut soon = Log::new(s, &[ratio, ("max.compaction.lag.ms", "1000")]);
            for log in [&mut never, &mut soon] {
                for pairs in [[("a", "a1")], [("a", "a2")], [("b", "b1")]] {
                    log.append(s, &pairs);
                }
            }
            soon.becomes(s, "1:a2 2:b1");
            never.becomes(s, "0:a1 1:a2 2:b1");
        },
        "1:a2 2:b1
         0:a1 1:a2 2:b1",
    );
}

#[test]
fn compact_and_delete_do_both_and_compact_alone_deletes_nothing_old() {
    scenario_with(
        &quick(),
        |s| {
            for policy in ["compact,delete", "compact"] {
                let mut log = Log::new(s, &[("cleanup.policy", policy), ("retention.ms", "3600000")]);
                for pairs in [[("a", "a1")], [("b", "b1")]] {
                    log.append(s, &pairs);
                }
                log.time = now() - 4 * STEP_MS;
                log.append(s, &[("a", "a2")]);
                // Before the old ones can come into one segment with younger ones.
                let (old, all) = match policy {
                    "compact" => ("0:a1 1:b1 2:a2", "1:b1 3:a3 4:c1"),
                    _ => ("2:a2", "3:a3 4:c1"),
                };
                log.becomes(s, old);
                log.append(s, &[("a", "a3")]);
                log.append(s, &[("c", "c1")]);
                log.becomes(s, all);
                let earliest = s.list_offset(&log.topic, 0, -2);
                s.say(format!("{policy}: from {}", earliest.2));
            }
        },
        "2:a2
         3:a3 4:c1
         compact,delete: from 2
         0:a1 1:b1 2:a2
         1:b1 3:a3 4:c1
         compact: from 0",
    );
}

#[test]
fn a_topic_that_becomes_compacted_loses_what_has_no_key() {
    scenario_with(
        &quick(),
        |s| {
            let mut log = Log::new(s, &[("cleanup.policy", "delete"), ("retention.ms", "-1")]);
            let mut mixed = log.batch(&[("x", "x1"), ("a", "a1")]);
            mixed.records[0].0 = None;
            log.send(s, mixed.build());
            log.append(s, &[("b", "b1")]);
            log.append(s, &[("c", "c1")]);
            log.becomes(s, "0:x1 1:a1 2:b1 3:c1");
            s.set_topic_config(&log.topic, &settings(&[]));
            log.becomes(s, "1:a1 2:b1 3:c1");
        },
        "0:x1 1:a1 2:b1 3:c1
         1:a1 2:b1 3:c1",
    );
}

#[test]
fn the_log_may_start_where_a_record_was_compacted_away() {
    scenario_with(
        &quick(),
        |s| {
            let policy = [("cleanup.policy", "compact,delete"), ("retention.ms", "-1")];
            let mut log = Log::new(s, &policy);
            for pairs in [[("a", "a1")], [("a", "a2")], [("a", "a3")], [("b", "b1")]] {
                log.append(s, &pairs);
            }
            log.becomes(s, "2:a3 3:b1");
            delete(s, &log.topic, &[(0, 1)]);
            let earliest = s.list_offset(&log.topic, 0, -2);
            s.say(format!("from {}", earliest.2));
            for offset in [0, 1] {
                let behind = log.read_from(s, offset);
                s.say(format!("{offset}: {behind}"));
            }
        },
        "2:a3 3:b1
         delete: [(0, 1, 0)]
         from 1
         0: error 1
         1: 2:a3 3:b1",
    );
}

#[test]
fn a_batch_keeps_its_codec_and_its_offsets_when_records_go() {
    scenario_with(
        &quick(),
        |s| {
            let mut log = Log::new(s, &[]);
            let three = log.batch(&[("a", "a1"), ("b", "b1"), ("c", "c1")]);
            log.send(s, compressed(&three, Compression::Gzip));
            log.append(s, &[("a", "a2"), ("c", "c2")]);
            log.append(s, &[("d", "d1")]);
            let until = Instant::now() + PATIENCE;
            let first = loop {
                let answer = s.client.call(11, &fetch_request(&log.topic, 0, 0, 100));
                let batch = answer.responses[0].partitions[0].records.clone().expect("records");
                if batch[57..61] == [0, 0, 0, 1] || Instant::now() > until {
                    break batch;
                }
            };
            let number = |at: usize| i32::from_be_bytes(first[at..at + 4].try_into().expect("four bytes"));
            s.say(format!("codec {} last offset {} records {}", first[22] & 7, number(23), number(57)));
        },
        "codec 1 last offset 2 records 1",
    );
}

/// A producer's transactions, one at a time.
struct Transactions {
    id: String,
    producer: (i64, i16),
}

impl Transactions {
    fn new(s: &mut Scenario) -> Self {
        let id = fresh_name("tx");
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(&id))))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        loop {
            let answer = s.client.call(5, &request);
            // The coordinator is made with its topic, and loads.
            if answer.error_code == 0 {
                return Self { id, producer: (answer.producer_id.0, answer.producer_epoch) };
            }
            crate::group_scenario::find_coordinator(s, 1, &id);
        }
    }

    /// One batch as one transaction.
    fn run(&mut self, s: &mut Scenario, log: &mut Log, pairs: &[(&str, &str)], commit: bool) {
        let batch = log.batch(pairs).from_producer(self.producer.0, self.producer.1, 0);
        let batch = Batch { attributes: 0x10, ..batch }.build();
        let id = TransactionalId(text(&self.id));
        let request = produce_request(&log.topic, -1, &[(0, Some(batch))]).with_transactional_id(Some(id.clone()));
        loop {
            let answer = s.client.call(12, &request);
            match answer.responses[0].partition_responses[0].error_code {
                0 => break,
                // CONCURRENT_TRANSACTIONS: the one before is still being ended.
                51 => {}
                error => panic!("error {error}"),
            }
        }
        let end = EndTxnRequest::default()
            .with_transactional_id(id)
            .with_producer_id(self.producer.0.into())
            .with_producer_epoch(self.producer.1)
            .with_committed(commit);
        let ended = s.client.call(5, &end);
        assert_eq!(ended.error_code, 0);
        self.producer = (ended.producer_id.0, ended.producer_epoch);
        // The marker comes behind the answer.
        let (_, _, end) = s.list_offset(&log.topic, 0, -1);
        s.client.call(11, &fetch_request(&log.topic, 0, end, 5000));
    }
}

#[test]
fn aborted_records_go_at_once_and_markers_when_nothing_hangs_on_them() {
    scenario_with(
        &quick(),
        |s| {
            let mut transactions = Transactions::new(s);
            let mut log = Log::new(s, &[("delete.retention.ms", "0")]);
            // Markers have the broker's time.
            log.time = now();
            transactions.run(s, &mut log, &[("k", "k1")], true);
            transactions.run(s, &mut log, &[("k", "k2")], false);
            log.append(s, &[("x", "x0")]);
            log.append(s, &[("y", "y0")]);
            // What was aborted supersedes nothing.
            log.becomes(s, "0:k1 1:marker 3:marker 4:x0 5:y0");
            log.append(s, &[("k", "k3")]);
            // Each round is over when it has taken what the one before could not know of.
            for (round, left) in ["x1", "x2", "x3", "x4", "x5"].into_iter().enumerate() {
                log.append(s, &[("x", left)]);
                log.append(s, &[("y", "y")]);
                let until = Instant::now() + PATIENCE;
                let before = if round == 0 { "x0".to_owned() } else { format!("x{round}") };
                while log.read(s).contains(&format!(":{before} ")) && Instant::now() < until {
                    let (_, _, end) = s.list_offset(&log.topic, 0, -1);
                    s.client.call(11, &fetch_request(&log.topic, 0, end, 100));
                }
            }
            let left = log.read(s);
            s.say(left);
        },
        "0:k1 1:marker 3:marker 4:x0 5:y0
         6:k3 14:y 15:x5 16:y",
    );
}
