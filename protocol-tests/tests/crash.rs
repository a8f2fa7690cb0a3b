//! The real process dies and comes back: at each named crash point once, and at random moments. What must hold is in
//! `checkers::history`; what each point leaves behind is in `docs/crash-safety.md`.

use std::collections::BTreeSet;
use std::time::Duration;

use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::checkers::history::History;
use terrace_tiering::platform::crash_point::CrashPoint;

/// A topic whose segments roll and whose local copies go as fast as they may, so that every step is reached soon.
fn busy_topic(flush: bool) -> Vec<(&'static str, String)> {
    let mut configs = vec![
        ("segment.bytes", (1 << 20).to_string()),
        // The history's records are years old.
        ("retention.ms", "-1".to_owned()),
        ("local.retention.bytes", (1 << 20).to_string()),
        ("file.delete.delay.ms", "0".to_owned()),
    ];
    if flush {
        configs.push(("flush.messages", "1".to_owned()));
    }
    configs
}

fn busy_broker() -> Options {
    Options::new()
        .with("log.retention.check.interval.ms", 200)
        .with("remote.log.manager.task.interval.ms", 200)
        .with("remote.metadata.snapshot.interval.ms", 1000)
        .with("remote.delete.grace.ms", 0)
        .with("log.cleaner.backoff.ms", 200)
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_at_random_moments() {
    let mut broker = Broker::start(&busy_broker());
    let mut history = History::begin(broker.kafka, "history", 2, &busy_topic(false));
    // Moments differ from run to run with the machine; what must hold does not.
    for round in 0..12u64 {
        let address = broker.kafka;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30 + 37 * round));
            broker.kill()
        });
        while history.write(address, 10, 40).is_ok() && !killer.is_finished() {}
        broker = killer.join().expect("the killer does not panic").restart(&busy_broker());
        history.write(broker.kafka, 1, 40).expect("the broker is up");
        history.check(broker.kafka);
    }
    assert!(history.acknowledged() > 1000, "the test writes something: {}", history.acknowledged());
}

/// The points that a busy tiered topic passes through.
fn points_of_the_log() -> Vec<CrashPoint> {
    use CrashPoint as P;
    vec![
        P::AppendBeforeWrite,
        P::AppendAfterWrite,
        P::RollBeforeNewSegment,
        P::RollAfterNewSegment,
        P::CheckpointBeforeRename,
        P::CheckpointAfterRename,
        P::FlushBeforeSync,
        P::FlushAfterSync,
        P::CopyAfterStarted,
        P::CopyAfterUpload,
        P::CopyAfterVerify,
        P::CopyAfterFinished,
        P::ManifestBeforeRoot,
        P::ManifestAfterRoot,
        P::MetadataBeforeCommit,
        P::MetadataAfterCommit,
        P::SnapshotAfterPut,
        P::DeleteAfterStartOffset,
    ]
}

#[test]
fn nothing_acknowledged_is_lost_at_any_named_step() {
    let mut never_reached = BTreeSet::new();
    for point in points_of_the_log() {
        let mut broker = Broker::start(&busy_broker());
        let mut history = History::begin(broker.kafka, "history", 1, &busy_topic(true)).with_padding(4000);
        history.write(broker.kafka, 3, 40).expect("the broker is up");
        // Metadata commits happen at the start already; everything else is armed for its second time.
        let times =
            if matches!(point, CrashPoint::MetadataBeforeCommit | CrashPoint::MetadataAfterCommit) { 4 } else { 2 };
        let armed = busy_broker().env("TERRACE_CRASH_AT", format!("{}:{times}", point.name()));
        broker = broker.stop().restart(&armed);
        for _ in 0..30 {
            if history.write(broker.kafka, 5, 40).is_err() || broker.has_ended() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if !broker.has_ended() {
            never_reached.insert(point.name());
        }
        let stopped = broker.kill();
        let mut broker = stopped.restart(&busy_broker());
        history.write(broker.kafka, 2, 40).unwrap_or_else(|error| panic!("{}: {error}", point.name()));
        history.check(broker.kafka);
        broker = broker.stop().restart(&busy_broker());
        history.check(broker.kafka);
        drop(broker);
    }
    assert!(never_reached.is_empty(), "steps that no test reaches: {never_reached:?}");
}
