use super::super::lines::Delivery;
use super::*;
use crate::coordinator::log::fake::FakeLog;
use crate::coordinator::testing::replay;
use crate::metadata::fake::FakeStore;

const NOW: Now = Now { mono_ms: 0, wall_ms: 1 };

fn shard(log: &Arc<FakeLog>, updates_per_snapshot: u32) -> ShareStateShard {
    let settings = ShareStateSettings {
        partitions: 1,
        replication_factor: 1,
        min_isr: 1,
        segment_bytes: 1 << 20,
        compression_codec: 0,
        updates_per_snapshot,
        write_timeout_ms: 1000,
    };
    let context = ShareStateContext { settings, metadata: FakeStore::new() };
    ShareStateShard::new(&Arc::new(context), Journal::new(Arc::clone(log) as _))
}

fn loaded(log: &Arc<FakeLog>) -> ShareStateShard {
    let mut shard = shard(log, 0);
    replay(&mut shard, &log.bytes(), 0, NOW);
    shard
}

fn key(partition: i32) -> ShareKey {
    ShareKey { group: "g".into(), topic: uuid::Uuid::from_u128(1), partition }
}

fn ask<T>(work: impl FnOnce(oneshot::Sender<T>)) -> T {
    let (to, mut told) = oneshot::channel();
    work(to);
    told.try_recv().expect("the fake log is durable at once")
}

fn written(start_offset: Offset, first: Offset, last: Offset) -> Written {
    let lines = vec![StateBatch { first, last, delivery: Delivery::Acknowledged, count: 1 }];
    Written { state_epoch: 0, leader_epoch: 1, start_offset, complete_count: 0, lines }
}

fn without_place(states: &HashMap<ShareKey, Kept>) -> Vec<(ShareKey, Offset, Vec<StateBatch>)> {
    let mut all: Vec<_> =
        states.iter().map(|(key, kept)| (key.clone(), kept.start_offset, kept.lines.all().collect())).collect();
    all.sort_by_key(|(key, ..)| key.partition);
    all
}

#[test]
fn what_was_written_is_read_after_a_load() {
    let log = Arc::new(FakeLog::default());
    let mut shard = shard(&log, 3);
    let begin = Initialized { state_epoch: 0, start_offset: -1 };
    assert_eq!(ask(|to| shard.write(key(0), written(0, 0, 1), to, NOW)), Err(Refused::Unknown));
    for partition in 0..2 {
        assert_eq!(ask(|to| shard.initialize(key(partition), begin, to, NOW)), Ok(()));
    }
    for at in 0..10 {
        assert_eq!(ask(|to| shard.write(key(0), written(2 * at, 3 * at, 3 * at + 1), to, NOW)), Ok(()));
        assert_eq!(without_place(&loaded(&log).states), without_place(&shard.states));
    }
    let kept = ask(|to| shard.read(&key(0), to)).expect("it is kept");
    // 18 and 19 are done with, whatever the last writer said.
    assert_eq!(kept.start_offset, 20);
    assert_eq!(kept.lines.all().map(|line| line.first).collect::<Vec<_>>(), [21, 24, 27]);
    // Initializing it once more changes nothing.
    assert_eq!(ask(|to| shard.initialize(key(0), begin, to, NOW)), Ok(()));
    assert_eq!(ask(|to| shard.read(&key(0), to)), Some(kept));
    assert_eq!(ask(|to| shard.set(key(0), 5, to, NOW)), Ok(()));
    assert_eq!(ask(|to| shard.write(key(0), written(0, 0, 1), to, NOW)), Err(Refused::StateEpoch));
    assert_eq!(ask(|to| shard.delete(key(1), to, NOW)), Ok(()));
    assert_eq!(ask(|to| shard.read(&key(1), to)), None);
    assert_eq!(without_place(&loaded(&log).states), without_place(&shard.states));
}

#[test]
fn an_older_leader_is_refused() {
    let log = Arc::new(FakeLog::default());
    let mut shard = shard(&log, 3);
    let begin = Initialized { state_epoch: 0, start_offset: 0 };
    assert_eq!(ask(|to| shard.initialize(key(0), begin, to, NOW)), Ok(()));
    let by = |leader_epoch| Written { leader_epoch, ..written(0, 0, 1) };
    assert_eq!(ask(|to| shard.write(key(0), by(4), to, NOW)), Ok(()));
    assert_eq!(ask(|to| shard.write(key(0), by(3), to, NOW)), Err(Refused::LeaderEpoch));
}

#[test]
fn what_nobody_needs_is_deleted_from_the_front_and_idle_states_do_not_hold_it_up() {
    let log = Arc::new(FakeLog::default());
    let mut shard = shard(&log, 10);
    let begin = Initialized { state_epoch: 0, start_offset: 0 };
    for partition in 0..2 {
        assert_eq!(ask(|to| shard.initialize(key(partition), begin, to, NOW)), Ok(()));
    }
    for at in 0..2 * SLACK {
        assert_eq!(ask(|to| shard.write(key(0), written(at, at, at), to, NOW)), Ok(()));
    }
    let before = log.batches();
    shard.upkeep(NOW);
    assert!(log.batches() < before / 2, "{} of {before}", log.batches());
    assert_eq!(without_place(&loaded(&log).states), without_place(&shard.states));
}

#[test]
fn a_log_that_refuses_changes_nothing() {
    let log = Arc::new(FakeLog::default());
    let mut shard = shard(&log, 10);
    let begin = Initialized { state_epoch: 0, start_offset: 0 };
    assert_eq!(ask(|to| shard.initialize(key(0), begin, to, NOW)), Ok(()));
    let before = shard.states.clone();
    log.fail(Some(crate::partition::append::AppendError::Storage));
    assert!(matches!(ask(|to| shard.write(key(0), written(0, 0, 1), to, NOW)), Err(Refused::Log(_))));
    assert_eq!(shard.states, before);
}

#[test]
fn a_state_is_cut_at_the_end_of_its_log() {
    let log = Arc::new(FakeLog::default());
    let mut shard = shard(&log, 3);
    assert_eq!(ask(|to| shard.cut(key(0), 5, to, NOW)), Ok(None));
    assert_eq!(ask(|to| shard.initialize(key(0), Initialized { state_epoch: 0, start_offset: 2 }, to, NOW)), Ok(()));
    assert_eq!(ask(|to| shard.write(key(0), written(2, 4, 9), to, NOW)), Ok(()));
    let whole = ask(|to| shard.read(&key(0), to));
    assert_eq!(ask(|to| shard.cut(key(0), 10, to, NOW)), Ok(whole.clone()), "the log has all of it");
    let cut = ask(|to| shard.cut(key(0), 6, to, NOW)).unwrap().expect("it is kept");
    let lines: Vec<_> = cut.lines.all().map(|line| (line.first, line.last)).collect();
    assert_eq!((cut.start_offset, lines, cut.complete_count, cut.state_epoch), (2, vec![(4, 5)], 2, 0));
    assert!(!cut.reaches_past(6));
    // Writes go on, and a load finds the same.
    assert_eq!(ask(|to| shard.write(key(0), written(4, 2, 3), to, NOW)), Ok(()));
    assert_eq!(without_place(&loaded(&log).states), without_place(&shard.states));
    let cut = ask(|to| shard.cut(key(0), 1, to, NOW)).unwrap().expect("it is kept");
    assert_eq!((cut.start_offset, cut.lines.all().len(), cut.complete_count), (1, 0, 0));
    assert_eq!(without_place(&loaded(&log).states), without_place(&shard.states));
}

#[test]
fn writes_side_by_side_count_what_the_others_settle() {
    for order in [[0, 1], [1, 0]] {
        let log = Arc::new(FakeLog::default());
        let mut shard = shard(&log, 10);
        let begin = Initialized { state_epoch: 0, start_offset: 0 };
        assert_eq!(ask(|to| shard.initialize(key(0), begin, to, NOW)), Ok(()));
        // Each as if the other were not: 5..=9 behind a start at 0, and 0..=4.
        let both =
            [Written { complete_count: 5, ..written(0, 5, 9) }, Written { complete_count: 0, ..written(5, 0, 4) }];
        for at in order {
            assert_eq!(ask(|to| shard.write(key(0), both[at].clone(), to, NOW)), Ok(()));
        }
        let kept = ask(|to| shard.read(&key(0), to)).expect("it is kept");
        assert_eq!((kept.start_offset, kept.complete_count, kept.lines.all().len()), (10, 0, 0), "{order:?}");
        // 11 has no record: the writer counts it, and no line tells of it.
        let more = Written { complete_count: 2, ..written(10, 12, 12) };
        assert_eq!(ask(|to| shard.write(key(0), more, to, NOW)), Ok(()));
        let late = Written { complete_count: 0, ..written(10, 14, 15) };
        assert_eq!(ask(|to| shard.write(key(0), late, to, NOW)), Ok(()));
        let kept = ask(|to| shard.read(&key(0), to)).expect("it is kept");
        assert_eq!((kept.start_offset, kept.complete_count), (10, 3));
        assert_eq!(without_place(&loaded(&log).states), without_place(&shard.states));
    }
}
