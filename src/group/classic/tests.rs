use std::collections::HashMap;

use rstest::rstest;

use super::*;
use crate::config::server::GroupSettings;
use crate::config::server::{ConsumerGroupSettings, ShareGroupSettings, StreamsGroupSettings};
use crate::protocol::error_code::ErrorCode;

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 30_000;

/// A group as its shard drives it: what wants to be written is read back at once.
struct Driven {
    group: ClassicGroup,
    settings: GroupSettings,
    now: Now,
    replies: ReplyId,
    answers: HashMap<ReplyId, Answer>,
    written: u32,
}

fn driven() -> Driven {
    let settings = GroupSettings {
        initial_rebalance_delay_ms: 3000,
        session_timeout_ms_min: 6000,
        session_timeout_ms_max: 1_800_000,
        size_max: usize::MAX,
        consumer: ConsumerGroupSettings::for_tests(),
        share: ShareGroupSettings::for_tests(),
        streams: StreamsGroupSettings::for_tests(),
    };
    let now = Now { mono_ms: 0, wall_ms: 1_000_000 };
    let group = ClassicGroup::new("g".into(), now);
    Driven { group, settings, now, replies: 0, answers: HashMap::new(), written: 0 }
}

fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 3];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.into()
}

/// A member with one protocol, "range", that wants topic "t".
fn request(member_id: &str) -> JoinRequest {
    JoinRequest {
        group: "g".into(),
        member_id: member_id.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription(&["t"]))],
        needs_known_member_id: false,
        understands_skip_assignment: false,
    }
}

fn with_protocols(member_id: &str, names: &[&str]) -> JoinRequest {
    let protocols = names.iter().map(|&name| (name.into(), subscription(&["t"]))).collect();
    JoinRequest { protocols, ..request(member_id) }
}

fn fixed(instance: &str, member_id: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.into()), ..request(member_id) }
}

impl Driven {
    fn act<R>(&mut self, operation: impl FnOnce(&mut ClassicGroup, Now, &GroupSettings, &mut Out) -> R) -> R {
        let mut out = Out::default();
        let result = operation(&mut self.group, self.now, &self.settings, &mut out);
        for (reply, answer) in out.answers {
            assert!(self.answers.insert(reply, answer).is_none(), "answered twice");
        }
        if out.write {
            self.written += 1;
            let logged = self.group.logged();
            self.group = ClassicGroup::absorb(&"g".into(), &logged, Some(self.group.clone()), self.now);
            let loaded = ClassicGroup::absorb(&"g".into(), &logged, None, self.now);
            assert_eq!(self.group.logged(), logged, "the log has all that it keeps");
            assert_eq!(loaded.logged(), logged, "a load finds what was written");
            assert_eq!((loaded.state, &loaded.subscribed), (self.group.state, &self.group.subscribed));
        }
        result
    }

    /// A JoinGroup whose new id, if it needs one, is `fresh`.
    fn join(&mut self, request: &JoinRequest, fresh: &str) -> ReplyId {
        self.replies += 1;
        let (reply, fresh) = (self.replies, Arc::from(fresh));
        self.act(|group, now, settings, out| group.join(request, reply, &fresh, now, settings, out));
        reply
    }

    fn sync(&mut self, member_id: &str, assignments: &[(&str, &'static str)]) -> ReplyId {
        self.sync_as(member_id, self.group.generation, None, assignments)
    }

    fn sync_as(
        &mut self,
        member_id: &str,
        generation: i32,
        protocol: Option<&str>,
        assignments: &[(&str, &'static str)],
    ) -> ReplyId {
        self.replies += 1;
        let reply = self.replies;
        let request = SyncRequest {
            group: "g".into(),
            member_id: member_id.into(),
            instance_id: None,
            generation,
            protocol_type: protocol.map(|_| "consumer".into()),
            protocol: protocol.map(Arc::from),
            assignments: assignments.iter().map(|&(id, bytes)| (Arc::from(id), Bytes::from(bytes))).collect(),
        };
        self.act(|group, now, _, out| group.sync(&request, reply, now, out));
        reply
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> Result<(), ErrorCode> {
        self.heartbeat_as(member_id, None, generation)
    }

    fn heartbeat_as(&mut self, member_id: &str, instance: Option<&str>, generation: i32) -> Result<(), ErrorCode> {
        let request = HeartbeatRequest {
            group: "g".into(),
            member_id: member_id.into(),
            instance_id: instance.map(Arc::from),
            generation,
        };
        self.act(|group, now, _, _| group.heartbeat(&request, now))
    }

    fn leave(&mut self, leaving: &[(&str, Option<&str>)]) -> Vec<Result<(), ErrorCode>> {
        let leaving: Vec<_> = leaving
            .iter()
            .map(|&(id, instance)| Leaving { member_id: id.into(), instance_id: instance.map(Arc::from) })
            .collect();
        self.act(|group, now, settings, out| group.leave(&leaving, now, settings, out))
    }

    /// Lets time pass, doing what is due at its time.
    fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while let Some(due) = self.group.next_due().filter(|&due| due <= end) {
            self.at(self.now.mono_ms.max(due));
            self.act(|group, now, settings, out| group.on_time(now, settings, out));
        }
        self.at(end);
    }

    fn at(&mut self, mono_ms: u64) {
        self.now.wall_ms += i64::try_from(mono_ms - self.now.mono_ms).unwrap();
        self.now.mono_ms = mono_ms;
    }

    fn joined(&self, reply: ReplyId) -> &Joined {
        match self.answers.get(&reply) {
            Some(Answer::Join(joined)) => joined,
            other => panic!("no JoinGroup answer but {other:?}"),
        }
    }

    fn synced(&self, reply: ReplyId) -> &Synced {
        match self.answers.get(&reply) {
            Some(Answer::Sync(synced)) => synced,
            other => panic!("no SyncGroup answer but {other:?}"),
        }
    }

    fn waits(&self, reply: ReplyId) -> bool {
        !self.answers.contains_key(&reply)
    }

    /// Brings the group to Stable with these members; the first leads.
    fn stable_with(requests: &[(JoinRequest, &str)]) -> Self {
        let mut driven = driven();
        let replies: Vec<_> = requests.iter().map(|(request, id)| driven.join(request, id)).collect();
        // New members prolong the first rebalance once.
        driven.pass(6000);
        for reply in replies {
            assert_eq!(driven.joined(reply).error, ErrorCode::None);
        }
        for (_, id) in requests.iter().rev() {
            driven.sync(id, &[("a", "for a"), ("b", "for b")]);
        }
        assert_eq!(driven.group.state(), State::Stable);
        driven.answers.clear();
        driven.written = 0;
        driven
    }

    fn stable() -> Self {
        Self::stable_with(&[(request(""), "a"), (request(""), "b")])
    }

    /// Brings the group to CompletingRebalance.
    fn completing() -> Self {
        let mut driven = driven();
        driven.join(&request(""), "a");
        driven.join(&request(""), "b");
        driven.pass(6000);
        assert_eq!(driven.group.state(), State::CompletingRebalance);
        driven
    }
}

#[test]
fn a_member_of_version_4_is_told_its_id_first() {
    let mut driven = driven();
    let newer = |id: &str| JoinRequest { needs_known_member_id: true, ..request(id) };
    let told = driven.join(&newer(""), "c-1");
    assert_eq!((driven.joined(told).error, &*driven.joined(told).member_id), (ErrorCode::MemberIdRequired, "c-1"));
    assert_eq!((driven.group.state(), driven.group.member_count()), (State::Empty, 0));
    assert!(!driven.group.is_idle(), "somebody was promised a place");

    let joined = driven.join(&newer("c-1"), "unused");
    driven.pass(3000);
    assert_eq!((driven.joined(joined).error, driven.joined(joined).generation), (ErrorCode::None, 1));
    assert_eq!(&*driven.joined(joined).leader, "c-1");
}

#[test]
fn an_id_that_nobody_joins_with_lapses() {
    let mut driven = driven();
    driven.join(&JoinRequest { needs_known_member_id: true, ..request("") }, "c-1");
    driven.pass(10_000);
    let late = driven.join(&request("c-1"), "unused");
    assert_eq!(driven.joined(late).error, ErrorCode::UnknownMemberId);
}

#[test]
fn the_first_rebalance_waits_longer_while_members_come() {
    let mut driven = driven();
    let a = driven.join(&request(""), "a");
    driven.pass(2000);
    let b = driven.join(&request(""), "b");
    driven.pass(3000);
    assert!(driven.waits(a) && driven.waits(b), "prolonged at 3 s because b came");
    driven.pass(1000);
    assert_eq!(driven.joined(a).members.len(), 2, "the leader learns of all");
    assert_eq!((driven.joined(b).members.len(), driven.joined(b).generation), (0, 1));
    assert_eq!((&*driven.joined(b).leader, driven.joined(b).protocol.as_deref()), ("a", Some("range")));
}

#[test]
fn the_first_rebalance_ends_with_the_rebalance_timeout() {
    let mut driven = driven();
    let first = driven.join(&JoinRequest { rebalance_timeout_ms: 7000, ..request("") }, "m0");
    for n in 1..7 {
        driven.pass(1000);
        driven.join(&JoinRequest { rebalance_timeout_ms: 7000, ..request("") }, &format!("m{n}"));
        assert!(driven.waits(first));
    }
    driven.pass(1000);
    assert_eq!(driven.joined(first).members.len(), 7, "7 s after the first joined");
}

#[test]
fn without_a_delay_the_first_member_is_in_at_once() {
    let mut driven = driven();
    driven.settings.initial_rebalance_delay_ms = 0;
    let a = driven.join(&request(""), "a");
    driven.pass(0);
    assert_eq!(driven.joined(a).generation, 1);
}

#[rstest]
#[case::other_type(JoinRequest { protocol_type: "connect".into(), ..request("") })]
#[case::no_common_protocol(with_protocols("", &["sticky"]))]
#[case::known_member_too(with_protocols("b", &["sticky"]))]
fn protocols_that_do_not_match_are_inconsistent(#[case] request: JoinRequest) {
    let mut driven = Driven::stable();
    let refused = driven.join(&request, "x");
    assert_eq!(driven.joined(refused).error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(driven.group.state(), State::Stable);
}

#[rstest]
#[case::no_type(JoinRequest { protocol_type: "".into(), ..request("") })]
#[case::no_protocols(with_protocols("", &[]))]
fn an_empty_group_wants_a_protocol(#[case] request: JoinRequest) {
    let mut driven = driven();
    let refused = driven.join(&request, "x");
    assert_eq!(driven.joined(refused).error, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn a_follower_that_syncs_first_waits_for_the_leader() {
    let mut driven = Driven::completing();
    let follower = driven.sync("b", &[]);
    assert!(driven.waits(follower));
    let leader = driven.sync("a", &[("b", "for b")]);
    assert_eq!(&driven.synced(follower).assignment[..], b"for b");
    assert_eq!(driven.synced(leader).assignment, Bytes::new(), "the leader forgot itself");
    assert_eq!((driven.group.state(), driven.written), (State::Stable, 1));
    let again = driven.sync("b", &[]);
    assert_eq!(&driven.synced(again).assignment[..], b"for b", "a stable group answers at once");
}

#[test]
fn a_sync_is_refused_for_member_then_generation_then_protocol() {
    let mut driven = Driven::completing();
    let mut refusal = |member: &str, generation, protocol| {
        let reply = driven.sync_as(member, generation, protocol, &[]);
        driven.synced(reply).error
    };
    assert_eq!(refusal("nobody", 7, Some("sticky")), ErrorCode::UnknownMemberId);
    assert_eq!(refusal("b", 7, Some("sticky")), ErrorCode::IllegalGeneration);
    assert_eq!(refusal("b", 1, Some("sticky")), ErrorCode::InconsistentGroupProtocol);
    let mut driven = Driven::stable();
    driven.join(&request("a"), "unused");
    let late = driven.sync_as("b", 1, None, &[]);
    assert_eq!(driven.synced(late).error, ErrorCode::RebalanceInProgress);
}

#[test]
fn a_heartbeat_is_refused_for_member_then_generation_then_rebalance() {
    let mut driven = Driven::stable();
    assert_eq!(driven.heartbeat("a", 1), Ok(()));
    driven.join(&request("a"), "unused");
    assert_eq!(driven.group.state(), State::PreparingRebalance);
    assert_eq!(driven.heartbeat("nobody", 9), Err(ErrorCode::UnknownMemberId));
    assert_eq!(driven.heartbeat("b", 9), Err(ErrorCode::IllegalGeneration));
    assert_eq!(driven.heartbeat("b", 1), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn a_heartbeat_while_completing_is_good() {
    let mut driven = Driven::completing();
    assert_eq!(driven.heartbeat("b", 1), Ok(()));
}

#[test]
fn joining_again_while_completing_gives_the_same_generation() {
    let mut driven = Driven::completing();
    let again = driven.join(&request("a"), "unused");
    assert_eq!((driven.joined(again).generation, driven.joined(again).members.len()), (1, 2));
    assert_eq!(driven.group.state(), State::CompletingRebalance);
}

#[test]
fn joining_while_completing_with_other_metadata_begins_anew() {
    let mut driven = Driven::completing();
    let waiting = driven.sync("b", &[]);
    let again = driven.join(&with_protocols("a", &["range", "sticky"]), "unused");
    assert_eq!(driven.synced(waiting).error, ErrorCode::RebalanceInProgress);
    assert!(driven.waits(again));
    let other = driven.join(&request("b"), "unused");
    assert_eq!((driven.joined(again).generation, driven.joined(other).generation), (2, 2));
}

#[test]
fn a_new_member_while_completing_begins_anew() {
    let mut driven = Driven::completing();
    let waiting = driven.sync("b", &[]);
    let new = driven.join(&request(""), "c");
    assert_eq!(driven.synced(waiting).error, ErrorCode::RebalanceInProgress);
    assert!(driven.waits(new));
}

#[test]
fn in_a_stable_group_only_news_mean_a_rebalance() {
    let mut driven = Driven::stable();
    let follower = driven.join(&request("b"), "unused");
    assert_eq!((driven.joined(follower).generation, driven.joined(follower).members.len()), (1, 0));
    assert_eq!(driven.group.state(), State::Stable);
    driven.join(&with_protocols("b", &["range", "sticky"]), "unused");
    assert_eq!(driven.group.state(), State::PreparingRebalance);

    let mut driven = Driven::stable();
    driven.join(&request("a"), "unused");
    assert_eq!(driven.group.state(), State::PreparingRebalance, "the leader always means one");
}

#[test]
fn members_that_do_not_join_in_time_are_gone() {
    let mut driven = Driven::stable();
    let a = driven.join(&request("a"), "unused");
    for _ in 0..5 {
        driven.pass(6000);
        let _ = driven.heartbeat("b", 1);
    }
    assert_eq!((driven.joined(a).generation, driven.joined(a).members.len()), (2, 1));
    assert_eq!(driven.heartbeat("b", 2), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_static_member_that_does_not_join_stays_until_its_session_ends() {
    let patient = JoinRequest { session_timeout_ms: 60_000, ..fixed("two", "") };
    let mut driven = Driven::stable_with(&[(request(""), "a"), (patient, "b")]);
    let a = driven.join(&request("a"), "unused");
    driven.pass(30_000);
    assert_eq!((driven.joined(a).generation, driven.joined(a).members.len()), (2, 2));
}

#[test]
fn another_leads_when_the_leader_does_not_come() {
    let mut driven = Driven::stable();
    let b = driven.join(&with_protocols("b", &["range", "sticky"]), "unused");
    driven.pass(30_000);
    assert_eq!((&*driven.joined(b).leader, driven.joined(b).members.len()), ("b", 1));
}

#[test]
fn a_member_that_is_not_heard_of_expires() {
    let mut driven = Driven::stable();
    for _ in 0..4 {
        driven.pass(5000);
        let _ = driven.heartbeat("a", 1);
    }
    assert_eq!(driven.heartbeat("b", 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(driven.heartbeat("a", 1), Err(ErrorCode::RebalanceInProgress));
    driven.pass(10_000);
    assert_eq!((driven.group.state(), driven.written), (State::Empty, 1), "the last one gone is written");
    assert_eq!(driven.group.logged().generation, 2);
    assert_eq!(driven.group.protocol_type().map(|name| &**name), Some("consumer"));
}

#[test]
fn who_waits_for_us_does_not_expire() {
    let mut driven = Driven::stable();
    let a = driven.join(&request("a"), "unused");
    driven.pass(20_000);
    // b expired after 10 s, which ended the rebalance; a's wait kept it alive.
    assert_eq!(driven.joined(a).members.len(), 1);
}

#[test]
fn a_new_member_may_wait_five_minutes() {
    let mut driven = Driven::stable();
    let forever =
        |id: &str| JoinRequest { rebalance_timeout_ms: 3_600_000, session_timeout_ms: 3_600_000, ..request(id) };
    driven.join(&JoinRequest { protocols: with_protocols("", &["range", "x"]).protocols, ..forever("b") }, "unused");
    let new = driven.join(&forever(""), "c");
    // a holds the rebalance up by heartbeats alone.
    for _ in 0..59 {
        driven.pass(5000);
        let _ = driven.heartbeat("a", 1);
    }
    assert!(driven.waits(new));
    driven.pass(5000);
    assert_eq!(driven.joined(new).error, ErrorCode::UnknownMemberId);
}

#[test]
fn members_that_do_not_sync_in_time_are_gone() {
    let mut driven = Driven::completing();
    let waiting = driven.sync("b", &[]);
    for _ in 0..5 {
        driven.pass(6000);
        let _ = driven.heartbeat("a", 1);
    }
    assert_eq!(driven.synced(waiting).error, ErrorCode::RebalanceInProgress);
    assert_eq!(driven.heartbeat("a", 1), Err(ErrorCode::UnknownMemberId));
    let b = driven.join(&request("b"), "unused");
    assert_eq!(&*driven.joined(b).leader, "b");
}

#[rstest]
#[case::understands(true, true, "a2", 2)]
#[case::does_not(false, false, "a", 0)]
fn a_static_leader_is_replaced_without_a_rebalance(
    #[case] understands_skip_assignment: bool,
    #[case] skips: bool,
    #[case] leader: &str,
    #[case] members: usize,
) {
    let mut driven = Driven::stable_with(&[(fixed("one", ""), "a"), (request(""), "b")]);
    let back = driven.join(&JoinRequest { understands_skip_assignment, ..fixed("one", "") }, "a2");
    let joined = driven.joined(back);
    assert_eq!((joined.error, joined.generation, &*joined.member_id), (ErrorCode::None, 1, "a2"));
    assert_eq!((joined.skip_assignment, &*joined.leader, joined.members.len()), (skips, leader, members));
    assert_eq!((driven.group.state(), driven.written), (State::Stable, 1), "the log knows the new id");
    let synced = driven.sync("a2", &[]);
    assert_eq!(&driven.synced(synced).assignment[..], b"for a");
    // The old one is fenced by its instance id, and unknown without.
    assert_eq!(driven.heartbeat_as("a", Some("one"), 1), Err(ErrorCode::FencedInstanceId));
    assert_eq!(driven.heartbeat("a", 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(driven.heartbeat_as("a2", Some("one"), 1), Ok(()));
}

#[test]
fn who_waits_under_a_replaced_id_is_fenced() {
    let mut driven = Driven::stable_with(&[(fixed("one", ""), "a"), (request(""), "b")]);
    let old = driven.join(&fixed("one", "a"), "unused");
    assert!(driven.waits(old));
    let new = driven.join(&fixed("one", ""), "a2");
    assert_eq!((driven.joined(old).error, &*driven.joined(old).member_id), (ErrorCode::FencedInstanceId, "a"));
    assert!(driven.waits(new));
}

#[test]
fn a_static_member_replaced_while_completing_begins_anew() {
    let mut driven = driven();
    driven.join(&fixed("one", ""), "a");
    driven.pass(3000);
    let syncing = driven.sync("b", &[]);
    assert_eq!(driven.synced(syncing).error, ErrorCode::UnknownMemberId);
    let back = driven.join(&fixed("one", ""), "a2");
    assert_eq!((driven.joined(back).generation, &*driven.joined(back).leader), (2, "a2"));
}

#[test]
fn a_static_member_that_changes_the_choice_of_protocol_means_a_rebalance() {
    let both = JoinRequest { instance_id: Some("one".into()), ..with_protocols("", &["range", "sticky"]) };
    let mut driven = Driven::stable_with(&[(both, "a")]);
    let other = JoinRequest { instance_id: Some("one".into()), ..with_protocols("", &["sticky"]) };
    let back = driven.join(&other, "a2");
    assert_eq!((driven.joined(back).generation, driven.joined(back).protocol.as_deref()), (2, Some("sticky")));
}

#[test]
fn a_static_id_that_does_not_fit_the_member_is_fenced() {
    let mut driven = Driven::stable_with(&[(fixed("one", ""), "a"), (request(""), "b")]);
    let fenced = driven.join(&fixed("one", "b"), "unused");
    assert_eq!(driven.joined(fenced).error, ErrorCode::FencedInstanceId);
    let unknown = driven.join(&fixed("other", "b"), "unused");
    assert_eq!(driven.joined(unknown).error, ErrorCode::UnknownMemberId);
}

#[test]
fn members_leave_by_id_or_instance_id() {
    let mut driven = Driven::stable_with(&[(fixed("one", ""), "a"), (request(""), "b"), (fixed("three", ""), "c")]);
    let outcomes = driven.leave(&[
        ("", Some("one")),
        ("", Some("nobody")),
        ("", None),
        ("nobody", None),
        ("x", Some("three")),
        ("b", None),
    ]);
    let unknown = Err(ErrorCode::UnknownMemberId);
    assert_eq!(outcomes, [Ok(()), unknown, unknown, unknown, Err(ErrorCode::FencedInstanceId), Ok(())]);
    assert_eq!((driven.group.state(), driven.group.member_count()), (State::PreparingRebalance, 1));
    assert_eq!(driven.leave(&[("c", Some("three"))]), [Ok(())]);
    assert_eq!((driven.group.state(), driven.written), (State::Empty, 1));
}

#[test]
fn a_promised_id_can_leave() {
    let mut driven = driven();
    driven.join(&JoinRequest { needs_known_member_id: true, ..request("") }, "c-1");
    assert_eq!(driven.leave(&[("c-1", None)]), [Ok(())]);
    assert!(driven.group.is_idle());
}

#[test]
fn who_leaves_from_another_connection_is_told_where_it_waits() {
    let mut driven = Driven::completing();
    let waiting = driven.sync("b", &[]);
    driven.leave(&[("b", None)]);
    assert_eq!(driven.synced(waiting).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_full_group_takes_no_new_member() {
    let mut driven = Driven::stable();
    driven.settings.size_max = 2;
    let third = driven.join(&request(""), "c");
    assert_eq!((driven.joined(third).error, &*driven.joined(third).member_id), (ErrorCode::GroupMaxSizeReached, ""));
    // Members join again, and while they do, as many as fit.
    driven.join(&request("a"), "unused");
    driven.join(&request("b"), "unused");
    assert_eq!(driven.group.member_count(), 2);
}

#[rstest]
#[case::from_outside("", None, -1, Err(ErrorCode::UnknownMemberId))]
#[case::outside_with_generation("", None, 1, Err(ErrorCode::UnknownMemberId))]
#[case::member("b", None, 1, Ok(()))]
#[case::wrong_generation("b", None, 2, Err(ErrorCode::IllegalGeneration))]
#[case::member_without_generation("b", None, -1, Err(ErrorCode::IllegalGeneration))]
#[case::unknown_before_generation("nobody", None, 2, Err(ErrorCode::UnknownMemberId))]
#[case::fenced("b", Some("one"), 1, Err(ErrorCode::FencedInstanceId))]
#[case::unknown_instance("b", Some("nobody"), 1, Err(ErrorCode::UnknownMemberId))]
fn commits_into_a_group_with_members(
    #[case] member_id: &str,
    #[case] instance_id: Option<&str>,
    #[case] generation: i32,
    #[case] expected: Result<(), ErrorCode>,
) {
    let driven = Driven::stable_with(&[(fixed("one", ""), "a"), (request(""), "b")]);
    assert_eq!(driven.group.check_commit(member_id, instance_id, generation), expected);
}

#[test]
fn commits_into_an_empty_group_and_during_a_rebalance() {
    let group = driven().group;
    assert_eq!(group.check_commit("", None, -1), Ok(()));
    assert_eq!(group.check_commit("whoever", None, -1), Ok(()));
    assert_eq!(group.check_commit("whoever", None, 0), Err(ErrorCode::UnknownMemberId));
    let mut driven = Driven::completing();
    assert_eq!(driven.group.check_commit("b", None, 1), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(driven.group.check_commit("b", None, 2), Err(ErrorCode::IllegalGeneration));
    driven.join(&request(""), "c");
    assert_eq!(driven.group.check_commit("b", None, 1), Ok(()), "what was read before the rebalance counts");
}

#[test]
fn the_protocol_that_most_prefer_of_those_all_support_is_chosen() {
    let mut driven = driven();
    driven.join(&with_protocols("", &["range", "sticky", "own"]), "a");
    driven.join(&with_protocols("", &["other", "sticky", "range"]), "b");
    let c = driven.join(&with_protocols("", &["sticky", "range"]), "c");
    driven.pass(6000);
    assert_eq!(driven.joined(c).protocol.as_deref(), Some("sticky"));
}

#[test]
fn subscribed_topics_are_those_of_all_members() {
    let other = JoinRequest { protocols: vec![("range".into(), subscription(&["u", "v"]))], ..request("") };
    let driven = Driven::stable_with(&[(request(""), "a"), (other, "b")]);
    for (topic, expected) in [("t", true), ("u", true), ("v", true), ("w", false)] {
        assert_eq!(driven.group.is_subscribed_to(topic), expected, "{topic}");
    }
}

#[test]
fn a_subscription_that_cannot_be_read_may_be_of_any_topic() {
    let odd = JoinRequest { protocols: vec![("range".into(), Bytes::from_static(b"\0\0\0"))], ..request("") };
    let driven = Driven::stable_with(&[(odd, "a")]);
    assert!(driven.group.is_subscribed_to("whatever") && !driven.group.knows_subscriptions());
    let connect = JoinRequest { protocol_type: "connect".into(), ..request("") };
    let driven = Driven::stable_with(&[(connect, "a")]);
    assert!(!driven.group.is_subscribed_to("whatever"), "connect workers subscribe to nothing");
}

#[test]
fn after_a_load_members_go_on_and_expire_as_before() {
    let logged = Driven::stable().group.logged();
    let mut driven = driven();
    driven.group = ClassicGroup::absorb(&"g".into(), &logged, None, driven.now);
    assert_eq!(driven.heartbeat("a", 1), Ok(()));
    let synced = driven.sync("b", &[]);
    assert_eq!(&driven.synced(synced).assignment[..], b"for b");
    driven.pass(10_000);
    assert_eq!(driven.group.state(), State::Empty);
}

#[test]
fn a_group_is_described_in_full_only_when_stable() {
    let mut driven = Driven::stable();
    let described = driven.group.describe();
    assert_eq!((described.state, &*described.protocol_type, &*described.protocol), ("Stable", "consumer", "range"));
    assert_eq!(&described.members[1].assignment[..], b"for b");
    assert_eq!(described.members[1].metadata, subscription(&["t"]));
    driven.join(&request("a"), "unused");
    let described = driven.group.describe();
    assert_eq!((described.state, &*described.protocol), ("PreparingRebalance", ""));
    assert!(described.members.iter().all(|member| member.metadata.is_empty() && member.assignment.is_empty()));
}

#[test]
fn cooperative_members_rejoin_twice_and_keep_the_group_going() {
    let mut driven = Driven::stable_with(&[(request(""), "a")]);
    // b comes: a rejoins with what it owns, revokes after the sync and joins again.
    let b = driven.join(&request(""), "b");
    let a = driven.join(&request("a"), "unused");
    assert_eq!((driven.joined(a).generation, driven.joined(b).generation), (2, 2));
    driven.sync("b", &[]);
    driven.sync("a", &[("a", "kept")]);
    let a = driven.join(&request("a"), "unused");
    let b = driven.join(&request("b"), "unused");
    assert_eq!((driven.joined(a).generation, driven.joined(b).generation), (3, 3));
    let owned = driven.sync("b", &[]);
    driven.sync("a", &[("a", "kept"), ("b", "moved")]);
    assert_eq!(&driven.synced(owned).assignment[..], b"moved");
}
