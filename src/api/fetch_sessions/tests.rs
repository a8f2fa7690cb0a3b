use rstest::rstest;
use terrace_tiering::platform::random::SystemRandom;
use uuid::Uuid;

use super::*;
use crate::protocol::record_batch::Offset;

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

fn session(partitions: i32) -> Box<Session> {
    let mut session = Box::new(Session::new(true));
    for partition in 0..partitions {
        session.watch(watched(partition, 0));
    }
    session
}

/// The partitions that the next request would read.
fn ready(session: &mut Session) -> Vec<i32> {
    session.collect();
    session.ready().iter().map(|slot| session.at(*slot).unwrap().0.partition).collect()
}

/// Tells the same of all that are ready.
fn tell_all(session: &mut Session, told: Told) -> usize {
    session.collect();
    let slots = session.ready().to_vec();
    let news = slots.into_iter().filter(|slot| session.tell(*slot, &told, true)).count();
    session.settle();
    news
}

const QUIET: Told = Told { high_watermark: 5, log_start: 0, bytes: 0, failed: false, readable: false };
const GAVE: Told = Told { bytes: 1, readable: true, ..QUIET };

#[test]
fn an_answer_carries_only_what_changed() {
    let mut session = session(1);
    let mut tell = |told: Told| session.tell(0, &told, true);
    assert!(tell(QUIET), "the first answer tells everything");
    assert!(!tell(QUIET));
    assert!(tell(Told { high_watermark: 6, ..QUIET }));
    assert!(tell(Told { high_watermark: 6, log_start: 1, ..QUIET }));
    let failed = Told { high_watermark: -1, log_start: -1, failed: true, ..QUIET };
    assert!(tell(failed));
    assert!(tell(failed), "an error is told every time");
    assert!(tell(QUIET), "and its end too");
}

#[test]
fn only_who_may_have_something_to_tell_is_read() {
    let mut session = session(4);
    assert_eq!(ready(&mut session), [0, 1, 2, 3], "all are new");
    assert_eq!(tell_all(&mut session, QUIET), 4);
    assert_eq!(ready(&mut session), [] as [i32; 0]);
    session.watch(watched(2, 7));
    assert_eq!(ready(&mut session), [2], "it is asked anew");
    session.tell(2, &GAVE, true);
    session.settle();
    assert_eq!(ready(&mut session), [2], "it may have more, and the client may not have taken what it got");
    session.tell(2, &Told { failed: true, ..QUIET }, true);
    session.settle();
    assert_eq!(ready(&mut session), [2], "what failed is tried again");
    tell_all(&mut session, QUIET);
    assert_eq!(ready(&mut session), [] as [i32; 0]);
}

#[test]
fn partitions_that_gave_records_go_to_the_end() {
    let mut session = session(3);
    let mut order_after = |slot: u32| {
        session.collect();
        session.tell(slot, &GAVE, true);
        ready(&mut session)
    };
    assert_eq!(order_after(0), [1, 2, 0]);
    assert_eq!(order_after(2), [1, 0, 2]);
    assert_eq!(order_after(2), [1, 0, 2]);
}

#[test]
fn forgotten_partitions_leave_and_their_place_is_used_again() {
    let mut session = session(3);
    session.forget(&watched(1, 0).topic, 1);
    session.forget(&watched(1, 0).topic, 1);
    assert_eq!(ready(&mut session), [0, 2]);
    let bytes = session.bytes();
    session.watch(watched(7, 0));
    assert_eq!((ready(&mut session), session.len()), (vec![0, 2, 7], 3));
    assert_eq!(session.bytes(), bytes + 1, "only the name is counted anew");
    session.watch(watched(2, 42));
    assert_eq!(session.at(2).map(|(watched, _)| watched.fetch_offset), Some(42));
    for partition in [0, 2, 7, 7] {
        session.forget(&watched(partition, 0).topic, partition);
    }
    assert_eq!((ready(&mut session), session.is_empty()), (vec![], true));
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
    let none = FetchSessions::new(0);
    assert_eq!(none.keep(session(1), &SystemRandom, 0), 0);
    assert!(matches!(none.begin(0, INITIAL_EPOCH, true, 0), Begun::Sessionless));
}
