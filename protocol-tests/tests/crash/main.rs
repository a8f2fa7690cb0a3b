//! The real process dies and comes back: at each named crash point once, and at random moments. What must hold is in
//! `checkers`; what each point leaves behind is in `docs/crash-safety.md`.

mod rebalances;
mod shares;
mod transactions;
mod workloads;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rstest::rstest;
use shares::Shares;
use tempfile::TempDir;
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::checkers::bucket;
use terrace_protocol_tests::checkers::history::History;
use terrace_tiering::platform::crash_point::CrashPoint;
use transactions::Transactions;
use workloads::{Busy, CommittedOffsets, Compacted, DeletedTopic, Draining, Moving, Workload, busy_topic};

/// Rounds of the random test; `TERRACE_CRASH_ROUNDS` asks for more.
const ROUNDS: u64 = 8;
/// Points that die side by side.
const WORKERS: usize = 2;
/// No workload needs longer to come to its point.
const REACHED_WITHIN: Duration = Duration::from_secs(20);

fn busy_broker() -> Options {
    Options::new()
        .with("log.retention.check.interval.ms", 200)
        .with("remote.log.manager.task.interval.ms", 200)
        .with("remote.metadata.snapshot.interval.ms", 1000)
        .with("remote.delete.grace.ms", 0)
        // Two segments become one.
        .with("remote.merge.target.bytes", 3 << 20)
        .with("log.cleaner.backoff.ms", 200)
        .with("offsets.topic.num.partitions", 2)
        .with("log.wal.file.bytes", 1 << 20)
        .with("transaction.state.log.num.partitions", 2)
        .with("share.coordinator.state.topic.num.partitions", 2)
}

/// As [`busy_broker`], with two log directories between which partitions can move.
fn two_directories(folder: &Path) -> Options {
    let dirs = ["a", "b"].map(|name| folder.join(name).display().to_string());
    busy_broker().with("log.dirs", dirs.join(","))
}

/// Few partitions write much each, and so roll, are copied and deleted; a thousand write little each.
#[rstest]
#[case::two(2, 10, 40)]
#[case::sixteen(16, 2, 40)]
#[case::a_thousand(1000, 1, 1)]
fn nothing_acknowledged_is_lost_by_kill_9_at_random_moments(
    #[case] partitions: i32,
    #[case] batches: usize,
    #[case] records: i32,
) {
    let rounds = std::env::var("TERRACE_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let began = Instant::now();
    let mut broker = Broker::start(&busy_broker());
    let mut history = History::begin(broker.kafka, "history", partitions, &busy_topic(false));
    history.write(broker.kafka, 1, records).expect("the broker is up");
    // Moments differ from run to run with the machine; what must hold does not.
    for round in 0..rounds {
        let address = broker.kafka;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30 + 137 * round % 500));
            broker.kill()
        });
        // What is deleted goes from the bucket too, while the rest goes in.
        while history.write(address, batches, records).and_then(|()| history.delete_all_but(address, 8000)).is_ok() {}
        broker = killer.join().expect("the killer does not panic").restart(&busy_broker());
        history.check(broker.kafka);
        history.write(broker.kafka, 1, records).expect("the broker is up");
        if round % 4 == 3 {
            let stopped = broker.stop();
            bucket::check(&stopped.data);
            broker = stopped.restart(&busy_broker());
        }
    }
    history.check(broker.kafka);
    let found = bucket::check(&broker.stop().data);
    println!(
        "{partitions} partitions, {rounds} rounds in {:?}: {} records acknowledged, {found:?}",
        began.elapsed(),
        history.acknowledged()
    );
    assert!(history.acknowledged() > 1000, "the test writes something: {}", history.acknowledged());
}

/// What brings a broker to a point. A new point has no place here until somebody says what reaches it.
fn workload(point: CrashPoint, broker: &Broker) -> Box<dyn Workload> {
    use CrashPoint as P;
    let address = broker.kafka;
    match point {
        P::AppendBeforeWrite
        | P::AppendAfterWrite
        | P::RollBeforeNewSegment
        | P::RollAfterNewSegment
        | P::CheckpointBeforeRename
        | P::CheckpointAfterRename
        | P::CopyAfterStarted
        | P::CopyAfterVerify
        | P::MergeAfterStarted
        | P::MergeAfterUpload
        | P::MergeAfterReplaced
        | P::ManifestBeforeRoot
        | P::ManifestAfterRoot
        | P::MetadataBeforeCommit
        | P::MetadataAfterCommit
        | P::SnapshotAfterPut => Box::new(Busy::begin(address, &busy_topic(false), 4000)),
        P::FlushBeforeSync
        | P::FlushAfterSync
        | P::WalBeforeWrite
        | P::WalAfterWrite
        | P::WalBeforeSync
        | P::WalAfterSync
        | P::WalBeforeRecycle
        | P::WalAfterRecycle
        | P::WalReplayBeforeSync
        | P::WalReplayAfterSync => Box::new(Busy::begin(address, &busy_topic(true), 4000)),
        P::CopyBetweenParts => {
            // An object is sent in parts of 16 MiB.
            let mut configs = busy_topic(false);
            configs.push(("segment.bytes", (18 << 20).to_string()));
            Box::new(Busy::begin(address, &configs, 20_000))
        }
        P::DeleteAfterStartOffset
        | P::RemoteDeleteAfterStarted
        | P::RemoteDeleteAfterRoot
        | P::RemoteDeleteAfterDelete => Box::new(Busy::begin(address, &busy_topic(false), 4000).deleting()),
        P::CleanBeforeSwap => Box::new(Compacted::begin(address, &[])),
        P::CleanAfterSwap
        | P::CopyAfterUpload
        | P::CopyAfterFinished
        | P::RemoteCleanAfterStarted
        | P::RemoteCleanAfterUpload
        | P::RemoteCleanAfterReplaced => {
            let tiered =
                [("remote.storage.enable", "true"), ("remote.copy.lag.ms", "0"), ("local.retention.bytes", "1")];
            Box::new(Compacted::begin(address, &tiered))
        }
        P::MoveBeforeCommit | P::MoveAfterCommit | P::MoveAfterRename | P::MoveAfterCheckpoint => {
            Box::new(Moving::begin(address))
        }
        P::DrainBeforeName | P::DrainAfterName => Box::new(Draining::begin(address)),
        P::TopicDeleteAfterCommit => Box::new(DeletedTopic::begin(address)),
        P::GroupAfterAppend => Box::new(CommittedOffsets::begin(address)),
        P::ShareStateAfterAppend | P::DeadLetterAfterAppend => Box::new(Shares::begin(address)),
        P::TransactionAfterAppend
        | P::TransactionAfterPrepare
        | P::TransactionBeforeMarkers
        | P::TransactionAfterMarker
        | P::TransactionAfterComplete
        | P::GroupAfterTransactionalAppend
        | P::GroupAfterMarker => Box::new(Transactions::begin(address)),
        P::RestoreAfterClaim | P::RestoreAfterRoots | P::RestoreBeforeRename | P::RestoreAfterRename => {
            unreachable!("only a restore comes by")
        }
        P::RedriveBeforeCommit => unreachable!("no broker comes by"),
    }
}

/// The points that only a restore comes by: `tests/restore` dies there (`a_restore_that_died_is_finished_by_the_next`).
fn is_of_a_restore(point: CrashPoint) -> bool {
    use CrashPoint as P;
    matches!(point, P::RestoreAfterClaim | P::RestoreAfterRoots | P::RestoreBeforeRename | P::RestoreAfterRename)
}

/// At which time it dies: later where the start itself comes by, or where the first time would leave nothing to lose.
fn times(point: CrashPoint) -> u32 {
    use CrashPoint as P;
    match point {
        P::MetadataBeforeCommit | P::MetadataAfterCommit => 4,
        P::TopicDeleteAfterCommit
        | P::CopyBetweenParts
        | P::WalBeforeRecycle
        | P::WalAfterRecycle
        | P::WalReplayBeforeSync
        | P::WalReplayAfterSync => 1,
        _ => 2,
    }
}

/// False when the point was never reached.
fn dies_at(point: CrashPoint) -> bool {
    use CrashPoint as P;
    let folder = TempDir::new().expect("a temporary directory");
    let options = two_directories(folder.path());
    let broker = Broker::start(&options);
    let mut work = workload(point, &broker);
    let armed = options.clone().env("TERRACE_CRASH_AT", format!("{}:{}", point.name(), times(point)));
    let mut broker = match point {
        // The start itself comes by, and only a crash leaves it something to do.
        P::WalReplayBeforeSync | P::WalReplayAfterSync => {
            let died = broker.kill().restart_to_die(&armed, REACHED_WITHIN);
            let broker = died.restart(&options);
            work.check(broker.kafka);
            return true;
        }
        _ => broker.stop().restart(&armed),
    };
    let began = Instant::now();
    while !broker.has_ended() && began.elapsed() < REACHED_WITHIN {
        // An error is the crash, which ends the loop as soon as the process is gone.
        let _ = work.step(broker.kafka);
        std::thread::sleep(Duration::from_millis(20));
    }
    let died = broker.has_ended();
    let dead = broker.kill();
    assert!(!died || dead.output.iter().any(|line| line.contains("dying at")), "{}: {:?}", point.name(), dead.output);
    let broker = dead.restart(&options);
    work.check(broker.kafka);
    work.step(broker.kafka).unwrap_or_else(|error| panic!("{}: {error}", point.name()));
    let stopped = broker.stop();
    bucket::check(&stopped.data);
    let broker = stopped.restart(&options);
    work.check(broker.kafka);
    died
}

#[test]
fn nothing_acknowledged_is_lost_at_any_named_step() {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut missed = Vec::new();
        while let Some(point) = CrashPoint::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            // What a redrive leaves is seen by `a_redrive_that_was_killed_sends_nothing_twice`.
            if is_of_a_restore(*point) || *point == CrashPoint::RedriveBeforeCommit {
                continue;
            }
            let begins = Instant::now();
            match std::panic::catch_unwind(|| dies_at(*point)) {
                Ok(true) => println!("{}: {:?}", point.name(), begins.elapsed()),
                Ok(false) => missed.push(format!("{} was never reached", point.name())),
                // The message is printed already; the other points go on.
                Err(_) => missed.push(format!("{} failed", point.name())),
            }
        }
        missed
    };
    let missed: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("panics are caught")).collect()
    });
    println!("{} points in {:?}", CrashPoint::ALL.len(), began.elapsed());
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_broker_whose_bucket_was_taken_over_takes_no_more_records_and_commits() {
    let broker = Broker::start(&busy_broker());
    let mut history = History::begin(broker.kafka, "history", 1, &busy_topic(false));
    let mut commits = CommittedOffsets::begin(broker.kafka);
    history.write(broker.kafka, 100, 40).expect("the broker is up");
    let clusters = std::fs::read_dir(broker.data().join("remote")).expect("the default store");
    let cluster = clusters.flatten().next().expect("one cluster").path();
    let owner = cluster.join("owner");
    let claim = std::fs::read_dir(&owner).expect("claims").flatten().next().expect("one claim").path();
    std::fs::copy(claim, owner.join("0000000099")).expect("another claims the prefix");
    let deadline = Instant::now() + Duration::from_secs(30);
    // It looks before each root and every 10 s.
    while history.write(broker.kafka, 1, 40).is_ok() {
        assert!(Instant::now() < deadline, "it finds out within 30 s");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(commits.step(broker.kafka).is_err());
    // What it had taken is still there for readers.
    history.check(broker.kafka);
    commits.check(broker.kafka);
    assert!(broker.output().iter().any(|line| line.contains("lost its prefix")), "it says so");
}
