use rstest::rstest;
use terrace_tiering::platform::random::SystemRandom;

use super::*;

fn watched(partition: i32, fetch_offset: Offset) -> Watched {
    Watched {
        topic: TopicRef { name: Some(Arc::from("t")), id: Uuid::from_u128(1) },
        partition,
        fetch_offset,
        max_bytes: 100,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
    }
}

fn session(partitions: i32) -> Session {
    let mut session = Session::new(true);
    for partition in 0..partitions {
        session.watch(watched(partition, 0));
    }
    session
}

fn order(session: &Session) -> Vec<i32> {
    session.iter().map(|(_, watched)| watched.partition).collect()
}

const QUIET: Told = Told { high_watermark: 5, log_start: 0, bytes: 0, failed: false };

#[test]
fn an_answer_carries_only_what_changed() {
    let mut session = session(1);
    assert!(session.tell(0, &QUIET), "the first answer tells everything");
    assert!(!session.tell(0, &QUIET));
    assert!(session.tell(0, &Told { high_watermark: 6, ..QUIET }));
    assert!(session.tell(0, &Told { high_watermark: 6, log_start: 1, ..QUIET }));
    let failed = Told { high_watermark: -1, log_start: -1, failed: true, bytes: 0 };
    assert!(session.tell(0, &failed));
    assert!(session.tell(0, &failed), "an error is told every time");
    assert!(session.tell(0, &QUIET), "and its end too");
}

#[test]
fn partitions_that_gave_records_go_to_the_end() {
    let mut session = session(3);
    session.tell(0, &Told { bytes: 1, ..QUIET });
    assert_eq!(order(&session), [1, 2, 0]);
    session.tell(2, &Told { bytes: 1, ..QUIET });
    assert_eq!(order(&session), [1, 0, 2]);
    session.tell(2, &Told { bytes: 1, ..QUIET });
    assert_eq!(order(&session), [1, 0, 2]);
}

#[test]
fn forgotten_partitions_leave_and_their_place_is_used_again() {
    let mut session = session(3);
    session.forget(&watched(1, 0).topic, 1);
    session.forget(&watched(1, 0).topic, 1);
    assert_eq!(order(&session), [0, 2]);
    session.watch(watched(7, 0));
    assert_eq!((order(&session), session.slots.len()), (vec![0, 2, 7], 3));
    session.watch(watched(2, 42));
    assert_eq!(session.iter().nth(1).map(|(_, watched)| watched.fetch_offset), Some(42));
}

#[test]
fn epochs_follow_on() {
    let sessions = FetchSessions::new(10);
    let id = sessions.keep(session(2), &SystemRandom, 0);
    assert_ne!(id, 0);
    for epoch in [1, 2] {
        let Begun::Incremental(held) = sessions.begin(id, epoch, true, 0) else { panic!("epoch {epoch} is next") };
        held.give_back();
    }
}

#[rstest]
#[case::unknown_session(99, 1, true, ErrorCode::FetchSessionIdNotFound)]
#[case::old_epoch(0, 2, true, ErrorCode::InvalidFetchSessionEpoch)]
#[case::names_and_ids_mixed(0, 1, false, ErrorCode::FetchSessionTopicIdError)]
fn wrong_sessions_are_refused(
    #[case] other: i32,
    #[case] epoch: i32,
    #[case] by_id: bool,
    #[case] expected: ErrorCode,
) {
    let sessions = FetchSessions::new(10);
    let id = sessions.keep(session(2), &SystemRandom, 0);
    let asked = if other == 0 { id } else { id ^ other };
    let Begun::Refused(error) = sessions.begin(asked, epoch, by_id, 0) else { panic!("must be refused") };
    assert_eq!(error, expected);
}

#[test]
fn one_request_at_a_time_has_a_session() {
    let sessions = FetchSessions::new(10);
    let id = sessions.keep(session(2), &SystemRandom, 0);
    let Begun::Incremental(held) = sessions.begin(id, 1, true, 0) else { panic!("epoch 1 is next") };
    assert!(matches!(sessions.begin(id, 1, true, 0), Begun::Refused(ErrorCode::InvalidFetchSessionEpoch)));
    drop(held);
    assert_eq!(sessions.counts(), (0, 0), "a request that ended without an answer takes the session with it");
}

#[test]
fn a_full_request_ends_the_session_it_names() {
    let sessions = FetchSessions::new(10);
    let id = sessions.keep(session(2), &SystemRandom, 0);
    assert!(matches!(sessions.begin(id, INITIAL_EPOCH, true, 0), Begun::Full));
    assert_eq!(sessions.counts(), (0, 0));
}

#[test]
fn a_full_cache_evicts_as_kafka_does() {
    let sessions = FetchSessions::new(2);
    let small = sessions.keep(session(1), &SystemRandom, 0);
    let large = sessions.keep(session(5), &SystemRandom, 0);
    assert_eq!(sessions.keep(session(9), &SystemRandom, 1000), 0, "nobody is old or silent enough");
    let touch = |id: i32, epoch: i32, now_ms: i64| match sessions.begin(id, epoch, true, now_ms) {
        Begun::Incremental(held) => held.give_back(),
        other => panic!("{other:?}"),
    };
    let late = EVICTION_MS + 1;
    touch(small, 1, late);
    touch(large, 1, late);
    assert_eq!(sessions.keep(session(1), &SystemRandom, late), 0, "not larger than the smallest");
    assert_ne!(sessions.keep(session(3), &SystemRandom, late), 0);
    assert!(matches!(sessions.begin(small, 2, true, late), Begun::Refused(ErrorCode::FetchSessionIdNotFound)));
    touch(large, 2, late + 1);
    let later = 2 * late + 1;
    assert_ne!(sessions.keep(session(1), &SystemRandom, later), 0, "who was silent makes room for anybody");
}

#[test]
fn without_slots_there_are_no_sessions() {
    assert_eq!(FetchSessions::new(0).keep(session(1), &SystemRandom, 0), 0);
}
