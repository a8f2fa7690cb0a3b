//! The disk is lost, the bucket is not: `terrace start --restore` brings back what the bucket has, at one cut.

mod client;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use client::{Client, Producer, WITHIN, metric, wait_until};
use terrace_protocol_tests::broker::{Broker, Options, Stopped};
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::peers::{Minio, Peer, have, run};
use terrace_tiering::platform::crash_point::CrashPoint;

/// From the start of a restore of these few megabytes to the first record: a generous bound, for machines that do much else.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(20);
const SNAPSHOTS: &str = "terrace_remote_metadata_snapshots_total";

/// A bucket that outlives data directories, and how a broker uses it.
struct Bucket {
    dir: tempfile::TempDir,
    options: Options,
}

impl Bucket {
    fn local() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = quick().with("remote.storage.uri", format!("file://{}", dir.path().display()));
        Self { dir, options }
    }

    fn minio(minio: &Minio) -> Self {
        let mut options =
            quick().with("remote.storage.uri", "s3://terrace/data").with("remote.storage.endpoint", minio.endpoint());
        for (key, value) in minio.env() {
            options = options.env(key, value);
        }
        Self { dir: tempfile::tempdir().expect("a directory"), options }
    }

    fn restore(&self) -> Options {
        self.options.clone().arg("--restore")
    }

    /// All objects of a local bucket whose path has this part.
    fn objects(&self, kind: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.components().any(|part| part.as_os_str() == kind) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

/// Quiet segments roll, are copied, and snapshots follow, all at once.
fn quick() -> Options {
    Options::new()
        .with("log.retention.check.interval.ms", 100)
        .with("remote.log.manager.task.interval.ms", 200)
        .with("remote.segment.roll.ms", 300)
        .with("remote.metadata.snapshot.interval.ms", 1000)
        .with("group.initial.rebalance.delay.ms", 0)
        .with("offsets.topic.num.partitions", 3)
        .with("transaction.state.log.num.partitions", 3)
}

fn tiered() -> Vec<(&'static str, String)> {
    vec![
        ("segment.bytes", (1 << 20).to_string()),
        // The records of these tests are years old.
        ("retention.ms", "-1".to_owned()),
        ("local.retention.bytes", (1 << 20).to_string()),
    ]
}

/// Waits until the bucket has every record of a topic.
fn wait_for_copies(broker: &Broker, topic: &str, partitions: i32) {
    let mut client = Client::connect(broker.kafka);
    wait_until(&format!("{topic} is in the bucket"), || {
        (0..partitions).all(|partition| {
            let end = client.offset(topic, partition, -1);
            client.offset(topic, partition, -5) == end - 1
        })
    });
}

/// Waits until a snapshot was begun after all that was done so far: the second to come, since one may be on its way.
fn wait_for_snapshot(broker: &Broker) {
    let mut client = Client::connect(broker.kafka);
    let before = metric(broker.http, SNAPSHOTS);
    let mut at = client.committed("pace", "paced", 0).max(0);
    wait_until("two snapshots", || {
        at += 1;
        client.commit("pace", "paced", 0, at);
        metric(broker.http, SNAPSHOTS) >= before + 2
    });
}

fn begin(bucket: &Bucket) -> Broker {
    let broker = Broker::start(&bucket.options);
    Client::connect(broker.kafka).create("paced", 1, &[("remote.storage.enable", "false".to_owned())]);
    broker
}

/// Reads a history once all of its partitions have learned their producers from the bucket.
fn check(history: &mut History, broker: &Broker, topic: &str, partitions: i32) -> usize {
    let mut client = Client::connect(broker.kafka);
    for partition in 0..partitions {
        client.offset(topic, partition, -1);
    }
    history.check(broker.kafka)
}

fn lose_the_disk(broker: Broker) -> Stopped {
    let stopped = broker.kill();
    stopped.wipe();
    stopped
}

fn printed(broker: &Broker, what: &str) -> String {
    let output = broker.output().join("\n");
    assert!(output.contains(what), "'{what}' is not in:\n{output}");
    output
}

/// Several topics, groups, quotas and transactions; the disk is lost; clients go on.
fn all_that_the_bucket_has_comes_back(bucket: &Bucket) {
    let broker = begin(bucket);
    let mut client = Client::connect(broker.kafka);
    let mut history = History::begin(broker.kafka, "many", 3, &tiered());
    history.write(broker.kafka, 60, 50).expect("the broker is up");
    client.create("compacted", 2, &[("cleanup.policy", "compact".to_owned())]);
    client.produce_keyed("compacted", &[("a", "1"), ("b", "2")]);
    client.set_quota("u", "producer_byte_rate", 1e9);

    // Committed, aborted, committed; then one that stays open, in a topic whose records therefore are only local.
    client.create("decided", 1, &tiered());
    client.create("open", 1, &tiered());
    let producer = client.init(Some("tx"));
    for (sequence, (value, commit)) in [("first", true), ("second", false), ("third", true)].into_iter().enumerate() {
        assert_eq!(client.write_in("tx", producer, "decided", sequence as i32, &[value]), 0);
        assert_eq!(client.end("tx", producer, commit), 0);
    }
    let hanging = client.init(Some("hanging"));
    client.produce("open", &["before"]);
    wait_for_copies(&broker, "open", 1);
    assert_eq!(client.write_in("hanging", hanging, "open", 0, &["never decided"]), 0);
    let fenced = client.init(Some("fenced"));
    let newer = client.init(Some("fenced"));
    assert_eq!((newer.0, newer.1), (fenced.0, fenced.1 + 1));

    for partition in 0..3 {
        let end = client.offset("many", partition, -1);
        client.commit("readers", "many", partition, end - i64::from(partition));
    }
    client.commit("readers", "compacted", 0, 2);
    wait_for_copies(&broker, "many", 3);
    wait_for_copies(&broker, "decided", 1);
    wait_for_snapshot(&broker);

    let topics = client.topics();
    let configs: Vec<_> = topics.keys().map(|topic| client.config(topic)).collect();
    let quotas = client.quotas();
    let written = history.acknowledged();
    let decided = client.read("decided", 0, true);
    let everything = client.read("decided", 0, false);
    assert_eq!(decided.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["first", "third"]);
    let offsets: Vec<i64> = (0..3).map(|partition| client.committed("readers", "many", partition)).collect();
    drop(client);

    let lost = lose_the_disk(broker);
    let began = Instant::now();
    let broker = lost.restart(&bucket.restore());
    let mut client = Client::connect(broker.kafka);
    assert_eq!(client.read("decided", 0, true), decided, "what was committed and what was aborted is known");
    let first_byte = began.elapsed();
    println!("first byte {first_byte:?} after the start of the restore");
    assert!(first_byte < FIRST_BYTE_WITHIN, "{first_byte:?}");
    printed(&broker, "1 open transactions aborted");
    assert_eq!(client.read("decided", 0, false), everything);
    assert_eq!(check(&mut history, &broker, "many", 3), written, "every record, at its offset");
    assert_eq!(client.topics(), topics, "names, ids, partitions");
    assert_eq!(topics.keys().map(|topic| client.config(topic)).collect::<Vec<_>>(), configs);
    assert_eq!(client.quotas(), quotas);
    let found: Vec<i64> = (0..3).map(|partition| client.committed("readers", "many", partition)).collect();
    assert_eq!(found, offsets, "groups go on where they were");
    assert_eq!(client.committed("readers", "compacted", 0), 0, "what was only local is lost, and the offset with it");

    // Nothing hangs, and who was fenced stays so.
    let aborted = client.read("open", 0, true);
    assert_eq!(aborted.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["before"]);
    client.produce("open", &["after"]);
    wait_until("nothing is open", || client.read("open", 1, true).iter().any(|(_, value)| value == "after"));
    assert_ne!(client.write_in("hanging", hanging, "open", 1, &["too late"]), 0, "its transaction was aborted");
    assert_eq!(client.try_init(Some("fenced"), fenced), Err(90), "PRODUCER_FENCED");

    // Old clients and new ones go on.
    history.write(broker.kafka, 5, 50).expect("the broker is up");
    assert_eq!(history.check(broker.kafka), history.acknowledged());
    let (ids, before): (Vec<Producer>, _) = ((0..3).map(|_| client.init(None)).collect(), [producer, hanging, fenced]);
    assert!(ids.iter().all(|id| before.iter().all(|old| old.0 < id.0)), "nobody gets an id twice: {ids:?} {before:?}");
    let producer = client.init(Some("tx"));
    assert_eq!(client.write_in("tx", producer, "decided", 0, &["fourth"]), 0);
    assert_eq!(client.end("tx", producer, true), 0);
    wait_until("the fourth is committed", || {
        client.read("decided", 0, true).last().is_some_and(|(_, v)| v == "fourth")
    });
    client.commit("readers", "many", 0, offsets[0] + 10);

    // It is a broker like any other now; and the bucket it owns is whole.
    let broker = broker.kill().restart(&bucket.options);
    assert_eq!(check(&mut history, &broker, "many", 3), history.acknowledged());
    assert_eq!(Client::connect(broker.kafka).committed("readers", "many", 0), offsets[0] + 10);
    wait_for_copies(&broker, "many", 3);
    wait_for_snapshot(&broker);
    let broker = lose_the_disk(broker).restart(&bucket.restore());
    assert_eq!(check(&mut history, &broker, "many", 3), history.acknowledged(), "and once more");
    assert_eq!(Client::connect(broker.kafka).topics(), topics);
}

#[test]
fn all_that_the_bucket_has_comes_back_from_a_local_directory() {
    all_that_the_bucket_has_comes_back(&Bucket::local());
}

#[test]
fn all_that_the_bucket_has_comes_back_from_s3() {
    let Some(minio) = Minio::start() else { return };
    all_that_the_bucket_has_comes_back(&Bucket::minio(&minio));
}

fn kcat(broker: &Broker, args: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    command.arg("-b").arg(broker.kafka.to_string()).args(args);
    command
}

/// The next `count` records of topic `t` for a group of kcat's, which commits them when it leaves.
fn kcat_reads_on(broker: &Broker, count: &str) -> String {
    let earliest = ["-X", "auto.offset.reset=earliest", "-q", "-f", "%o %s\n"];
    run(kcat(broker, &["-c", count]).args(earliest).args(["-G", "kcats", "t"]))
}

fn kcat_writes(broker: &Broker, lines: &str) {
    let mut child = kcat(broker, &["-P", "-t", "t", "-p", "0"]).stdin(Stdio::piped()).spawn().expect("kcat is there");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("kcat reads");
    assert!(child.wait().expect("kcat ends").success());
}

/// A real client goes on in its group, on a machine that has other disks; and a log of which nothing can be read any more
/// goes on where it ended.
#[test]
fn a_real_client_goes_on_after_a_restore_into_several_log_directories() {
    if !have(&[Peer::Kcat]) {
        return;
    }
    let bucket = Bucket::local();
    let broker = begin(&bucket);
    let mut client = Client::connect(broker.kafka);
    client.create("t", 1, &tiered());
    client.create("emptied", 1, &tiered());
    kcat_writes(&broker, "a\nb\nc\nd\n");
    assert_eq!(kcat_reads_on(&broker, "2"), "0 a\n1 b\n");
    client.produce("emptied", &["0", "1", "2"]);
    wait_for_copies(&broker, "t", 1);
    wait_for_copies(&broker, "emptied", 1);
    client.delete_records("emptied", 3);
    wait_until("nothing of it can be read in the bucket", || client.offset("emptied", 0, -5) == -1);
    wait_for_snapshot(&broker);

    let disks = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let log_dirs = disks.each_ref().map(|disk| disk.path().display().to_string()).join(",");
    let lost = lose_the_disk(broker);
    let broker = lost.restart(&bucket.restore().with("log.dirs", &log_dirs));
    assert_eq!(kcat_reads_on(&broker, "2"), "2 c\n3 d\n");
    kcat_writes(&broker, "e\n");
    assert_eq!(kcat_reads_on(&broker, "1"), "4 e\n");
    let mut client = Client::connect(broker.kafka);
    assert_eq!((client.offset("emptied", 0, -2), client.produce("emptied", &["3"])), (3, 3));

    let broker = broker.stop().restart(&bucket.options.clone().with("log.dirs", &log_dirs));
    let mut client = Client::connect(broker.kafka);
    assert_eq!(client.read("emptied", 3, false), [(3, "3".to_owned())]);
    assert_eq!(client.read("t", 4, false), [(4, "e".to_owned())]);
}

#[test]
fn a_tail_that_was_only_local_is_lost_and_nobody_stands_behind_it() {
    let bucket = Bucket::local();
    let broker = begin(&bucket);
    let mut client = Client::connect(broker.kafka);
    client.create("t", 1, &tiered());
    client.produce("t", &["0", "1", "2"]);
    wait_for_copies(&broker, "t", 1);
    // Never rolls again before the end.
    let slow = bucket.options.clone().with("remote.segment.roll.ms", 3_600_000);
    let broker = broker.kill().restart(&slow);
    let mut client = Client::connect(broker.kafka);
    client.produce("t", &["3", "4"]);
    client.commit("g", "t", 0, 5);
    wait_for_snapshot(&broker);
    let broker = lose_the_disk(broker).restart(&bucket.restore());
    // The other one is what paces the snapshots.
    let output = printed(&broker, "2 group offsets, 2 of them set back");
    assert!(output.contains("0:0..3"), "it says how far the log reaches:\n{output}");
    let mut client = Client::connect(broker.kafka);
    assert_eq!(client.committed("g", "t", 0), 3);
    assert_eq!(client.produce("t", &["3 again"]), 3);
    assert_eq!(client.read("t", 3, false), [(3, "3 again".to_owned())]);
}

#[test]
fn an_older_cut_is_restored_and_what_came_later_stays_forgotten() {
    let bucket = Bucket::local();
    let broker = begin(&bucket);
    let mut client = Client::connect(broker.kafka);
    client.create("t", 1, &tiered());
    client.produce("t", &["0", "1"]);
    client.commit("g", "t", 0, 2);
    wait_for_copies(&broker, "t", 1);
    wait_for_snapshot(&broker);
    let newest = bucket.objects("meta").pop().expect("a snapshot");
    let written = std::fs::metadata(newest).and_then(|found| found.modified()).expect("a time");
    let at = written.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();

    client.produce("t", &["2", "3", "4"]);
    client.commit("g", "t", 0, 5);
    client.create("later", 1, &tiered());
    client.produce("later", &["0"]);
    wait_for_copies(&broker, "t", 1);
    wait_for_copies(&broker, "later", 1);
    wait_for_snapshot(&broker);

    let lost = lose_the_disk(broker);
    let refused = lost.restart_refused(&bucket.restore().arg("--at").arg("2001-01-01T00:00Z")).join("\n");
    assert!(refused.contains("no snapshot is that old: those that are kept were written from"), "{refused}");
    lost.wipe();
    let broker = lost.restart(&bucket.restore().arg("--at").arg(at));
    let output = printed(&broker, "does not belong to the cut");
    let mut client = Client::connect(broker.kafka);
    assert!(!client.topics().contains_key("later"), "{output}");
    assert_eq!(client.committed("g", "t", 0), 2);
    assert_eq!(client.produce("t", &["another 2"]), 2);
    wait_for_copies(&broker, "t", 1);
    let expected: Vec<(i64, String)> =
        ["0", "1", "another 2"].iter().enumerate().map(|(at, value)| (at as i64, (*value).to_owned())).collect();
    assert_eq!(client.read("t", 0, false), expected);

    // The newest cut is that of the new history, whatever lies in the bucket beside it.
    wait_for_snapshot(&broker);
    let broker = lose_the_disk(broker).restart(&bucket.restore());
    let mut client = Client::connect(broker.kafka);
    assert_eq!(client.read("t", 0, false), expected);
    assert_eq!(client.committed("g", "t", 0), 2);
}

#[test]
fn the_old_owner_is_fenced() {
    let bucket = Bucket::local();
    let old = begin(&bucket);
    let mut history = History::begin(old.kafka, "t", 1, &tiered());
    history.write(old.kafka, 10, 20).expect("the broker is up");
    wait_for_copies(&old, "t", 1);
    wait_for_snapshot(&old);
    let copied = history.acknowledged();
    let new = Broker::start(&bucket.restore());
    assert_eq!(check(&mut history, &new, "t", 1), copied);
    let deadline = Instant::now() + WITHIN;
    // It looks before each root and every 10 s.
    while history.write(old.kafka, 1, 1).is_ok() {
        assert!(Instant::now() < deadline, "the old owner finds out within 30 s");
    }
    wait_until("it says so", || old.output().iter().any(|line| line.contains("lost its prefix")));
    let mut client = Client::connect(new.kafka);
    assert_eq!(client.produce("t", &["the new owner's"]), copied as i64);
    wait_for_copies(&new, "t", 1);
    let refused = old.kill().restart_to_die(&bucket.options, WITHIN).output.join("\n");
    assert!(refused.contains("the bucket is owned by node epoch"), "{refused}");
}

#[test]
fn what_cannot_be_restored_is_refused_in_one_line() {
    let bucket = Bucket::local();
    let empty = tempfile::tempdir().expect("a directory");
    let refuse = |data: &Path, options: &Options| match Broker::try_start_in(
        data,
        options,
        terrace_protocol_tests::broker::free_port(),
    ) {
        Ok(_) => panic!("the broker starts"),
        Err((_, output)) => output.join("\n"),
    };
    let nothing = refuse(empty.path(), &bucket.restore());
    assert!(nothing.contains("nothing is stored at file://"), "{nothing}");
    let unknown = refuse(empty.path(), &bucket.restore().arg("--cluster-id").arg("MkU3OEVBNTcwNTJENDM2Qk"));
    assert!(unknown.contains("holds no metadata snapshot of cluster MkU3OEVBNTcwNTJENDM2Qk"), "{unknown}");
    assert!(bucket.objects("owner").is_empty(), "nobody was fenced for nothing");
    let broker = begin(&bucket);
    wait_for_snapshot(&broker);
    let stopped = broker.kill();
    let filled = stopped.restart_refused(&bucket.restore()).join("\n");
    assert!(filled.contains("is not empty: --restore begins on an empty data directory"), "{filled}");
    stopped.restart(&bucket.options);
}

#[test]
fn segments_that_are_gone_are_named_and_counted() {
    let bucket = Bucket::local();
    let broker = begin(&bucket);
    let mut client = Client::connect(broker.kafka);
    client.create("t", 1, &tiered());
    for value in ["0", "1", "2"] {
        client.produce("t", &[value]);
        wait_for_copies(&broker, "t", 1);
    }
    // A root follows within 10 s, or when the broker is stopped.
    wait_for_snapshot(&broker);
    let stopped = broker.stop();
    stopped.wipe();
    let segments = bucket.objects("seg");
    assert_eq!(segments.len(), 3);
    std::fs::remove_file(&segments[0]).expect("our own file");
    let broker = stopped.restart(&bucket.restore());
    printed(&broker, "t-0: 1 segments are named in the bucket and not there (offsets 0-0)");
    let mut client = Client::connect(broker.kafka);
    assert_eq!(client.offset("t", 0, -2), 1, "the log begins with what is there");
    assert_eq!(client.read("t", 1, false), [(1, "1".to_owned()), (2, "2".to_owned())]);
}

#[test]
fn a_restore_that_died_is_finished_by_the_next() {
    let bucket = Bucket::local();
    let broker = begin(&bucket);
    let mut client = Client::connect(broker.kafka);
    let mut history = History::begin(broker.kafka, "t", 2, &tiered());
    history.write(broker.kafka, 20, 50).expect("the broker is up");
    client.commit("g", "t", 0, 700);
    wait_for_copies(&broker, "t", 2);
    wait_for_snapshot(&broker);
    let mut lost = lose_the_disk(broker);
    for point in [CrashPoint::RestoreAfterClaim, CrashPoint::RestoreAfterRoots, CrashPoint::RestoreBeforeRename] {
        let armed = bucket.restore().env("TERRACE_CRASH_AT", point.name());
        lost = lost.restart_to_die(&armed, WITHIN);
        assert!(lost.output.iter().any(|line| line.contains("dying at")), "{}: {:?}", point.name(), lost.output);
        if point != CrashPoint::RestoreAfterClaim {
            let refused = lost.restart_refused(&bucket.options).join("\n");
            assert!(refused.contains("a restore did not finish here"), "{refused}");
        }
    }
    let armed = bucket.restore().env("TERRACE_CRASH_AT", CrashPoint::RestoreAfterRename.name());
    let died = lost.restart_to_die(&armed, WITHIN);
    assert!(died.output.iter().any(|line| line.contains("dying at")));
    let done = died.restart_refused(&bucket.restore()).join("\n");
    assert!(done.contains("is not empty"), "from the rename on it is a broker's directory: {done}");
    let broker = died.restart(&bucket.options);
    assert_eq!(check(&mut history, &broker, "t", 2), history.acknowledged());
    assert_eq!(Client::connect(broker.kafka).committed("g", "t", 0), 700);
}
