use rstest::rstest;
use uuid::Uuid;

use super::heartbeat::HeartbeatRequest;
use super::*;
use crate::config::server::ShareGroupSettings;
use crate::metadata::image::Topic;

fn image() -> Arc<Image> {
    let mut image = Image::default();
    for (id, name, partition_count) in [(1, "a", 3), (2, "b", 1)] {
        let id = Uuid::from_u128(id);
        let topic = Topic { id, name: name.into(), partition_count, replication_factor: 1, config: Default::default() };
        let topic = Arc::new(topic);
        image.topics_by_id.insert(id, Arc::clone(&topic));
        image.topics.insert(name.into(), topic);
    }
    Arc::new(image)
}

fn around(image: &Arc<Image>) -> Surroundings<'_> {
    let limits = ShareLimits::of("g", &ShareGroupSettings::for_tests(), image);
    Surroundings { image, limits, rack: None, size_max: 2, now: Now { mono_ms: 0, wall_ms: 1 } }
}

fn heartbeat(member: &str, epoch: i32, topics: Option<&[&str]>) -> HeartbeatRequest {
    HeartbeatRequest {
        group: "g".into(),
        member_id: member.into(),
        epoch,
        rack_id: None,
        topics: topics.map(|topics| topics.iter().map(|&topic| topic.into()).collect()),
        client_id: "c".into(),
        client_host: "/1".into(),
    }
}

#[test]
fn a_member_reads_what_is_initialized() {
    let image = image();
    let around = around(&image);
    let mut draft = ShareDraft::of(&ShareGroup::new("g".into()));
    let joined = draft.heartbeat(&heartbeat("m", 0, Some(&["a", "missing"])), &around).unwrap();
    assert_eq!(joined.assignment, Some(Partitions::new()));
    let wanted = draft.group.uninitialized(&image);
    assert_eq!(*wanted, [(Uuid::from_u128(1), [0, 1, 2].into())].into());
    draft.initializing(&wanted, &image);
    draft.initialized(&wanted, &image);
    assert!(draft.group.uninitialized(&image).is_empty());
    let next = draft.heartbeat(&heartbeat("m", joined.epoch, None), &around).unwrap();
    assert_eq!((next.epoch, next.assignment), (joined.epoch + 1, Some(Partitions::clone(&wanted))));
    // Members share what there is.
    let other = draft.heartbeat(&heartbeat("n", 0, Some(&["a"])), &around).unwrap();
    assert_eq!(other.assignment.map(|of| of.values().map(BTreeSet::len).collect()), Some(vec![1]));
    assert!(draft.group.keep_alive(&heartbeat("m", next.epoch, None), &around).is_none(), "its part is smaller now");
    let left = draft.heartbeat(&heartbeat("m", next.epoch, None), &around).unwrap();
    assert_eq!(left.assignment.map(|of| of.values().map(BTreeSet::len).collect()), Some(vec![2]));
    assert!(draft.group.keep_alive(&heartbeat("n", other.epoch, None), &around).is_some());
    assert_eq!(
        draft.heartbeat(&heartbeat("o", 0, Some(&["a"])), &around).unwrap_err().code,
        ErrorCode::GroupMaxSizeReached
    );
    // What the records say is what there is.
    let mut loaded = ShareGroup::new("g".into());
    draft.records.iter().cloned().for_each(|record| loaded.apply(record));
    assert_eq!(loaded.describe(), draft.group.describe());
    let mut again = ShareGroup::new("g".into());
    draft.group.logged().into_iter().for_each(|record| again.apply(record));
    assert_eq!((again.describe(), again.states()), (draft.group.describe(), draft.group.states()));
    draft.remove_members(&["m".into(), "n".into()].into(), &around);
    assert!(draft.group.is_empty());
}

#[test]
fn a_topic_that_a_member_gives_up_is_gone_before_the_next_target() {
    let image = image();
    let mut around = around(&image);
    let mut draft = ShareDraft::of(&ShareGroup::new("g".into()));
    let joined = draft.heartbeat(&heartbeat("m", 0, Some(&["a", "b"])), &around).unwrap();
    let readable = Partitions::clone(&draft.group.uninitialized(&image));
    draft.initialized(&readable, &image);
    let arrived = draft.heartbeat(&heartbeat("m", joined.epoch, None), &around).unwrap();
    assert_eq!(arrived.assignment, Some(readable.clone()));
    around.limits.assignment_interval_ms = 1000;
    // The target is too young for another: the member stays at its epoch, with what it still subscribes to.
    let changed = draft.heartbeat(&heartbeat("m", arrived.epoch, Some(&["b"])), &around).unwrap();
    let kept: Partitions = [(Uuid::from_u128(2), [0].into())].into();
    assert_eq!((changed.epoch, changed.assignment), (arrived.epoch, Some(kept.clone())));
    let next = draft.heartbeat(&heartbeat("m", arrived.epoch, None), &around).unwrap();
    assert_eq!((next.epoch, next.assignment), (arrived.epoch, None));
    // A topic that comes back does so with what the target has of it.
    let back = draft.heartbeat(&heartbeat("m", arrived.epoch, Some(&["a", "b"])), &around).unwrap();
    assert_eq!((back.epoch, back.assignment), (arrived.epoch, Some(readable)));
    let mut loaded = ShareGroup::new("g".into());
    draft.records.iter().cloned().for_each(|record| loaded.apply(record));
    assert_eq!(loaded.describe(), draft.group.describe());
}

#[rstest]
#[case::of_a_later_life(9, ErrorCode::FencedMemberEpoch)]
#[case::of_an_earlier_one(-1, ErrorCode::FencedMemberEpoch)]
fn another_epoch_is_fenced(#[case] off: i32, #[case] code: ErrorCode) {
    let image = image();
    let around = around(&image);
    let mut draft = ShareDraft::of(&ShareGroup::new("g".into()));
    let mut epoch = draft.heartbeat(&heartbeat("m", 0, Some(&["b"])), &around).unwrap().epoch;
    for topics in [&["a"][..], &["a", "b"], &["b"]] {
        epoch = draft.heartbeat(&heartbeat("m", epoch, Some(topics)), &around).unwrap().epoch;
    }
    let off = if off < 0 { 1 } else { epoch + off };
    assert_eq!(draft.heartbeat(&heartbeat("m", off, None), &around).unwrap_err().code, code);
    assert_eq!(draft.heartbeat(&heartbeat("x", epoch, None), &around).unwrap_err().code, ErrorCode::UnknownMemberId);
}

#[rstest]
#[case::no_member(heartbeat("", 0, Some(&["a"])))]
#[case::no_topics(heartbeat("m", 0, None))]
#[case::empty_topics(heartbeat("m", 0, Some(&[])))]
#[case::epoch(heartbeat("m", -2, None))]
fn a_request_must_make_sense(#[case] request: HeartbeatRequest) {
    assert_eq!(request.check().unwrap_err().code, ErrorCode::InvalidRequest);
}

#[test]
fn what_is_to_be_forgotten_or_is_not_there_is_begun_anew() {
    let image = image();
    let around = around(&image);
    let mut draft = ShareDraft::of(&ShareGroup::new("g".into()));
    draft.heartbeat(&heartbeat("m", 0, Some(&["a"])), &around).unwrap();
    let wanted = draft.group.uninitialized(&image);
    let topic = Uuid::from_u128(1);
    draft.initializing(&[(topic, [0].into())].into(), &image);
    draft.initialized(&[(topic, [1, 2].into())].into(), &image);
    draft.deleting(&[topic]);
    assert_eq!((draft.group.states().topics(), draft.group.states().topics_named("a")), (vec![topic], vec![topic]));
    assert!(draft.group.states().initialized.is_empty() && draft.group.states().initializing.is_empty());
    // Nothing is begun that is still to be forgotten: the end of its deletion would take it along.
    draft.initializing(&wanted, &image);
    draft.initialized(&wanted, &image);
    assert_eq!(draft.group.uninitialized(&image), wanted);
    draft.deleted(&[topic]);
    draft.initialized(&wanted, &image);
    assert!(draft.group.uninitialized(&image).is_empty() && draft.group.states().lacking(&wanted).is_empty());
    // The share coordinator has no state after all.
    let missing: Partitions = [(topic, [1].into())].into();
    draft.missing(&missing);
    assert_eq!(
        (&*draft.group.uninitialized(&image), draft.group.states().lacking(&wanted)),
        (&missing, missing.clone())
    );
    let records = draft.records.len();
    draft.missing(&missing);
    assert_eq!(draft.records.len(), records, "nothing new is no record");
    // Set by an administrator they are there, whatever was to become of them.
    draft.deleting(&[topic]);
    draft.set(&wanted, &image);
    assert!(draft.group.uninitialized(&image).is_empty() && draft.group.states().deleting.is_empty());
}

#[test]
fn what_partitions_lack_is_found_once_until_something_changes() {
    let (image, mut later) = (image(), Image::clone(&image()));
    let around = around(&image);
    let mut draft = ShareDraft::of(&ShareGroup::new("g".into()));
    draft.heartbeat(&heartbeat("m", 0, Some(&["a"])), &around).unwrap();
    let found = draft.group.uninitialized(&image);
    assert!(Arc::ptr_eq(&found, &draft.group.uninitialized(&image)));
    draft.heartbeat(&heartbeat("m", 0, Some(&["a", "b"])), &around).unwrap();
    assert_eq!(draft.group.uninitialized(&image).len(), 2);
    later.generation += 1;
    later.topics.remove("b");
    assert_eq!(draft.group.uninitialized(&later), found);
}
