//! Dead letters of share groups (KIP-1191). Apache Kafka has them from 4.4.0 on, which is no peer of these tests: what is
//! expected where nothing else is said was seen there, with these scenarios.

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, ShareFetchResponse};
use rstest::rstest;
use terrace::protocol::batch_builder::BatchBuilder;
use terrace::protocol::record_batch::BatchView;
use terrace::protocol::records::{Record, records};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::{Options, binary};
use terrace_protocol_tests::compare::fresh_name;

use crate::scenario::{Scenario, fetch_request, scenario_of_ours, text};
use crate::share_groups::{Member, acquired, share_group};

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;

/// Settings of a group.
fn set(s: &mut Scenario, group: &str, settings: &[(&str, &str)]) -> String {
    let configs = settings.iter().map(|(key, value)| {
        AlterableConfig::default().with_name(text(key)).with_config_operation(0).with_value(Some(text(value)))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text(group))
        .with_configs(configs.collect());
    let answer = s.client.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    let answer = &answer.responses[0];
    format!("{} {}", answer.error_code, answer.error_message.as_deref().unwrap_or_default())
}

/// A topic of dead letters.
fn dead_letter_topic(s: &mut Scenario, partitions: i32) -> String {
    let name = fresh_name("dlq.");
    s.create(&name, partitions, &[("errors.deadletterqueue.group.enable", "true")]);
    name
}

fn text_of(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn line(record: &Record<'_>) -> String {
    let headers: Vec<_> =
        record.headers.map(|(key, value)| format!("{}={}", text_of(Some(key)), text_of(value))).collect();
    format!("{}:{} [{}]", text_of(record.key), text_of(record.value), headers.join(", "))
}

/// The first `count` records of a partition, once they are there.
fn letters(s: &mut Scenario, topic: &str, partition: i32, count: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = s.client.call(11, &fetch_request(topic, partition, 0, 100));
        let bytes = answer.responses.first().and_then(|topic| topic.partitions[0].records.clone()).unwrap_or_default();
        let found = lines(&bytes);
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "no {count} dead letters in '{topic}'-{partition} within 10 s");
        if answer.responses.first().is_none_or(|topic| topic.partitions[0].error_code != 0) {
            // A topic that is not there yet is answered at once.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn lines(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Ok((batch, rest)) = BatchView::split_first(bytes) {
        found.extend(records(&batch, u64::MAX).unwrap().iter().map(|record| line(&record.unwrap())));
        bytes = rest;
    }
    found
}

/// Records with keys `k0`, `k1` and so on.
fn keyed(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    for (delta, value) in (0..).zip(values) {
        let key = format!("k{delta}");
        builder.push(delta, 1_700_000_000_000, Some(key.as_bytes()), Some(value.as_bytes()), [].into_iter());
    }
    builder.finish().into()
}

#[test]
fn rejected_and_over_delivered_records_become_dead_letters() {
    scenario_of_ours(
        &Options::new(),
        |s| {
            let (name, topic, dead) = (share_group(s), s.topic(1, &[]), dead_letter_topic(s, 2));
            let settings = [
                ("errors.deadletterqueue.topic.name", dead.as_str()),
                ("errors.deadletterqueue.copy.record.enable", "true"),
                ("share.delivery.count.limit", "2"),
            ];
            assert_eq!(set(s, &name, &settings), "0 ");
            let mut member = Member::join(s, &name, "m", &topic);
            s.produce(&topic, 0, keyed(&["a", "b", "c"]));
            member.tell_fetch(s, "first");
            member.acknowledge(s, "accept, reject, give back", &[(0, 2, &[ACCEPT, REJECT, RELEASE])]);
            member.tell_fetch(s, "again");
            member.acknowledge(s, "give back", &[(2, 2, &[RELEASE])]);
            for letter in letters(s, &dead, 0, 2) {
                s.say(letter.replace(&name, "G").replace(&topic, "T"));
            }
            assert_eq!(set(s, &name, &[("errors.deadletterqueue.copy.record.enable", "false")]), "0 ");
            s.produce(&topic, 0, keyed(&["d"]));
            member.tell_fetch(s, "behind");
            member.acknowledge(s, "reject", &[(3, 3, &[REJECT])]);
            let letter = letters(s, &dead, 0, 3).remove(2);
            s.say(letter.replace(&name, "G").replace(&topic, "T"));
        },
        "first: 0-2, delivery 1\n\
         accept, reject, give back: 0 [0]\n\
         again: 2-2, delivery 2\n\
         give back: 0 [0]\n\
         k1:b [__dlq.errors.topic=T, __dlq.errors.partition=0, __dlq.errors.offset=1, __dlq.errors.group=G, \
         __dlq.errors.delivery.count=1, __dlq.errors.message=Offset rejected by client.]\n\
         k2:c [__dlq.errors.topic=T, __dlq.errors.partition=0, __dlq.errors.offset=2, __dlq.errors.group=G, \
         __dlq.errors.delivery.count=2, __dlq.errors.message=Offset delivery count exceeded the threshold.]\n\
         behind: 3-3, delivery 1\n\
         reject: 0 [0]\n\
         null:null [__dlq.errors.topic=T, __dlq.errors.partition=0, __dlq.errors.offset=3, __dlq.errors.group=G, \
         __dlq.errors.delivery.count=1, __dlq.errors.message=Offset rejected by client.]\n",
    );
}

#[test]
fn a_topic_that_may_take_no_dead_letters_holds_nothing_up() {
    scenario_of_ours(
        &Options::new(),
        |s| {
            let (name, topic, dead) = (share_group(s), s.topic(1, &[]), fresh_name("dlq."));
            let says = set(s, &name, &[("errors.deadletterqueue.topic.name", "__dead")]);
            s.say(says);
            let mut member = Member::join(s, &name, "m", &topic);
            for (offset, what, to) in [(0, "of another prefix", topic.clone()), (1, "that is not there", dead.clone())]
            {
                assert_eq!(set(s, &name, &[("errors.deadletterqueue.topic.name", &to)]), "0 ");
                s.produce(&topic, 0, Batch::of(&["x"]).build());
                member.tell_fetch(s, what);
                member.acknowledge(s, "reject", &[(offset, offset, &[REJECT])]);
            }
            s.create(&dead, 1, &[]);
            s.produce(&topic, 0, Batch::of(&["x"]).build());
            member.tell_fetch(s, "not enabled");
            member.acknowledge(s, "reject", &[(2, 2, &[REJECT])]);
            s.set_topic_config(&dead, &[("errors.deadletterqueue.group.enable", "true")]);
            s.produce(&topic, 0, Batch::of(&["x"]).build());
            member.tell_fetch(s, "enabled");
            member.acknowledge(s, "reject", &[(3, 3, &[REJECT])]);
            let found = letters(s, &dead, 0, 1);
            s.say(format!("{} of offset 3: {}", found.len(), found[0].contains("__dlq.errors.offset=3")));
        },
        "40 errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'\n\
         of another prefix: 0-0, delivery 1\n\
         reject: 0 [0]\n\
         that is not there: 1-1, delivery 1\n\
         reject: 0 [0]\n\
         not enabled: 2-2, delivery 1\n\
         reject: 0 [0]\n\
         enabled: 3-3, delivery 1\n\
         reject: 0 [0]\n\
         1 of offset 3: true\n",
    );
}

#[test]
fn a_topic_of_dead_letters_is_made_where_that_is_allowed() {
    let options = Options::new().with("errors.deadletterqueue.auto.create.topics.enable", "true");
    scenario_of_ours(
        &options,
        |s| {
            let (name, topic, dead) = (share_group(s), s.topic(1, &[]), fresh_name("dlq."));
            assert_eq!(set(s, &name, &[("errors.deadletterqueue.topic.name", &dead)]), "0 ");
            let mut member = Member::join(s, &name, "m", &topic);
            s.produce(&topic, 0, Batch::of(&["x"]).build());
            member.tell_fetch(s, "one");
            member.acknowledge(s, "reject", &[(0, 0, &[REJECT])]);
            let count = letters(s, &dead, 0, 1).len();
            s.say(format!("letters: {count}"));
        },
        "one: 0-0, delivery 1\nreject: 0 [0]\nletters: 1\n",
    );
}

/// A broker with five records, all of them dead letters: with their records, or not. The topic and that of the dead letters.
fn five_dead(s: &mut Scenario, copies: &str) -> (String, String) {
    let (name, topic, dead) = (share_group(s), s.topic(1, &[]), dead_letter_topic(s, 1));
    let settings =
        [("errors.deadletterqueue.topic.name", dead.as_str()), ("errors.deadletterqueue.copy.record.enable", copies)];
    assert_eq!(set(s, &name, &settings), "0 ");
    let mut member = Member::join(s, &name, "m", &topic);
    s.produce(&topic, 0, keyed(&["a", "b", "c", "d", "e"]));
    member.tell_fetch(s, "all");
    member.acknowledge(s, "reject", &[(0, 4, &[REJECT])]);
    letters(s, &dead, 0, 5);
    (topic, dead)
}

/// Runs `terrace dlq redrive`: its exit code and what it says.
fn redrive(s: &mut Scenario, topic: &str, arguments: &[&str], crash_at: &str) {
    let mut command = Command::new(binary());
    command.args(["dlq", "redrive", topic, "--bootstrap-server", &s.address.to_string()]).args(arguments);
    if !crash_at.is_empty() {
        command.env("TERRACE_CRASH_AT", crash_at);
    }
    let done = command.output().expect("the binary runs");
    let says = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    let lines = says.lines().filter(|line| !line.contains("up to offset"));
    match done.status.code() {
        Some(code) => s.say(format!("{code}: {}", lines.collect::<Vec<_>>().join(" "))),
        None => s.say("killed"),
    }
}

/// The committed records of a topic, ten at least: markers follow the end of a transaction, and old records lie in a segment
/// of their own, which a fetch does not go beyond.
fn committed(s: &mut Scenario, topic: &str) -> String {
    let (mut next, mut found) = (0, Vec::new());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = s.client.call(11, &fetch_request(topic, 0, next, 100).with_isolation_level(1));
        let partition = &answer.responses[0].partitions[0];
        let aborted = partition.aborted_transactions.clone().unwrap_or_default();
        let bytes = partition.records.clone().unwrap_or_default();
        let mut rest = &bytes[..];
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            (rest, next) = (behind, batch.next_offset());
            // What a killed redrive sent is one batch.
            let is_aborted = aborted.iter().any(|one| one.first_offset == batch.base_offset());
            if !batch.is_control() && !is_aborted {
                found.extend(records(&batch, u64::MAX).unwrap().iter().map(|record| line(&record.unwrap())));
            }
        }
        if found.len() >= 10 && bytes.is_empty() {
            return found.join(" ");
        }
        assert!(Instant::now() < deadline, "no ten committed records within 10 s");
    }
}

#[rstest]
#[case::with_their_records("true")]
#[case::without("false")]
fn a_redrive_sends_dead_letters_back_once(#[case] copies: &str) {
    scenario_of_ours(
        &Options::new(),
        |s| {
            let (topic, dead) = five_dead(s, copies);
            redrive(s, &dead, &["--dry-run"], "");
            redrive(s, &dead, &["--group", "other"], "");
            redrive(s, &dead, &["--until", "2001-01-01T00:00:00Z"], "");
            redrive(s, &dead, &["--source-topic", &topic], "");
            redrive(s, &dead, &[], "");
            redrive(s, "missing", &[], "");
            let records = committed(s, &topic);
            s.say(records);
        },
        "all: 0-4, delivery 1
         reject: 0 [0]
         0: 5 records would go back, 0 were filtered out, 0 are no dead letters
         0: 0 records went back, 5 were filtered out, 0 are no dead letters
         0: 0 records went back, 5 were filtered out, 0 are no dead letters
         0: 5 records went back, 0 were filtered out, 0 are no dead letters
         0: 0 records went back, 0 were filtered out, 0 are no dead letters
         2: terrace: there is no topic 'missing'
         k0:a [] k1:b [] k2:c [] k3:d [] k4:e [] k0:a [] k1:b [] k2:c [] k3:d [] k4:e []
",
    );
}

#[test]
fn a_redrive_that_was_killed_sends_nothing_twice() {
    scenario_of_ours(
        &Options::new(),
        |s| {
            let (topic, dead) = five_dead(s, "true");
            redrive(s, &dead, &[], "redrive-before-commit");
            redrive(s, &dead, &[], "");
            redrive(s, &dead, &[], "");
            let records = committed(s, &topic);
            s.say(records);
        },
        "all: 0-4, delivery 1
         reject: 0 [0]
         killed
         0: 5 records went back, 0 were filtered out, 0 are no dead letters
         0: 0 records went back, 0 were filtered out, 0 are no dead letters
         k0:a [] k1:b [] k2:c [] k3:d [] k4:e [] k0:a [] k1:b [] k2:c [] k3:d [] k4:e []
",
    );
}

/// How many records were acquired.
fn count(answer: &ShareFetchResponse) -> i64 {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.flat_map(|one| &one.acquired_records).map(|some| some.last_offset - some.first_offset + 1).sum()
}

#[test]
fn what_was_given_back_waits_if_the_group_says_so() {
    scenario_of_ours(
        &Options::new(),
        |s| {
            let (name, topic) = (share_group(s), s.topic(1, &[]));
            assert_eq!(set(s, &name, &[("share.redelivery.backoff.ms", "700")]), "0 ");
            let mut member = Member::join(s, &name, "m", &topic);
            s.produce(&topic, 0, Batch::of(&["a", "b"]).build());
            member.tell_fetch(s, "first");
            member.acknowledge(s, "accept one, give one back", &[(0, 1, &[ACCEPT, RELEASE])]);
            let answer = member.fetch(s, 200);
            s.say(format!("too early: {}", acquired(&answer)));
            // Woken when the time has come, and not at the end of its own.
            let began = Instant::now();
            let answer = member.fetch(s, 20_000);
            s.say(format!("later: {}, in time {}", acquired(&answer), began.elapsed().as_secs() < 10));
        },
        "first: 0-1, delivery 1\n\
         accept one, give one back: 0 [0]\n\
         too early: \n\
         later: 1-1, delivery 2, in time true\n",
    );
}

#[test]
fn when_everything_fails_little_becomes_a_dead_letter() {
    scenario_of_ours(
        &Options::new(),
        |s| {
            let (name, topic, dead) = (share_group(s), s.topic(1, &[]), dead_letter_topic(s, 1));
            let settings =
                [("errors.deadletterqueue.topic.name", dead.as_str()), ("errors.deadletterqueue.breaker.ratio", "0.5")];
            assert_eq!(set(s, &name, &settings), "0 ");
            let mut member = Member::join(s, &name, "m", &topic);
            let values: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
            s.produce(&topic, 0, keyed(&values.iter().map(String::as_str).collect::<Vec<_>>()));
            let all = count(&member.fetch(s, 1000));
            member.acknowledge(s, "reject all", &[(0, all - 1, &[REJECT])]);
            let blocked = count(&member.fetch(s, 100));
            s.say(format!("all {all}, then {blocked}"));
            // One at a time is tried; three that are good open the way.
            let mut tried = Vec::new();
            while tried.len() < 4 {
                let answer = member.fetch(s, 5000);
                tried.push(count(&answer));
                let first = answer.responses[0].partitions[0].acquired_records[0].first_offset;
                let says = if tried.len() == 1 { REJECT } else { ACCEPT };
                member.acknowledge(s, "tried", &[(first, first, &[says])]);
            }
            let rest = count(&member.fetch(s, 5000));
            s.say(format!("tried {tried:?}, then {rest}"));
            let dead = letters(s, &dead, 0, 9).len();
            s.say(format!("dead letters: {dead}"));
        },
        "reject all: 0 [0]\n\
         all 1000, then 0\n\
         tried: 0 [0]\n\
         tried: 0 [0]\n\
         tried: 0 [0]\n\
         tried: 0 [0]\n\
         tried [1, 1, 1, 1], then 988\n\
         dead letters: 9\n",
    );
}
