//! Sessions by topic id (Fetch 13 and later), and how they end.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, FetchResponse};
use terrace_protocol_tests::batch::Batch;
use uuid::Uuid;

use crate::scenario::{describe_fetch, fetch_request, fetch_topic, scenario, topic_name};

/// One topic by id, with partitions and offsets.
fn by_id(id: Uuid, partitions: &[(i32, i64)]) -> FetchTopic {
    let partition = |(index, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_fetch_offset(*offset)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(1 << 20)
    };
    FetchTopic::default().with_topic_id(id).with_partitions(partitions.iter().map(partition).collect())
}

fn next(session: i32, epoch: i32, topics: Vec<FetchTopic>) -> FetchRequest {
    fetch_request("", 0, 0, 100).with_session_id(session).with_session_epoch(epoch).with_topics(topics)
}

fn ids(answer: &FetchResponse, known: &[Uuid]) -> String {
    let place = |id: &Uuid| known.iter().position(|known| known == id).map_or("?".to_owned(), |at| at.to_string());
    let rows: Vec<_> = answer.responses.iter().map(|t| place(&t.topic_id)).collect();
    format!("{} topics [{}]", describe_fetch(answer), rows.join(","))
}

#[test]
fn a_session_by_ids_forgets_by_ids_and_tells_unknown_ids_each_time() {
    scenario(
        |s| {
            let (a, b) = (s.topic(2, &[]), s.topic(1, &[]));
            let known = [s.topic_id(&a).expect("it exists"), s.topic_id(&b).expect("it exists"), Uuid::from_u128(7)];
            s.produce(&a, 0, Batch::of(&["a"]).build());
            let all = vec![by_id(known[0], &[(0, 0), (1, 0)]), by_id(known[1], &[(0, 0)]), by_id(known[2], &[(0, 0)])];
            let answer = s.client.call(13, &next(0, 0, all));
            let session = answer.session_id;
            s.say(format!("full: {}", ids(&answer, &known)));
            let answer = s.client.call(13, &next(session, 1, vec![by_id(known[0], &[(0, 1)])]));
            s.say(format!("next: {}", ids(&answer, &known)));
            s.produce(&a, 1, Batch::of(&["x"]).build());
            s.produce(&b, 0, Batch::of(&["y"]).build());
            let forget = |id: Uuid| ForgottenTopic::default().with_topic_id(id).with_partitions(vec![0]);
            let request = next(session, 2, vec![]).with_forgotten_topics_data(vec![forget(known[1]), forget(known[2])]);
            let answer = s.client.call(13, &request);
            s.say(format!("forgotten: {}", ids(&answer, &known)));
            // A request by names does not fit a session by ids, nor the other way round.
            let answer = s.client.call(12, &next(session, 3, vec![fetch_topic(&a, &[(0, 1)])]));
            s.say(format!("by name: {}", ids(&answer, &known)));
            let answer = s.client.call(13, &next(session, 3, vec![]));
            s.say(format!("after it: {}", ids(&answer, &known)));
        },
        "full: error 0; p0 error 0 hw 1 [a]; p1 error 0 hw 0 []; p0 error 0 hw 0 []; p0 error 100 hw -1 [] topics [0,1,2]
         next: error 0; p0 error 100 hw -1 [] topics [2]
         forgotten: error 0; p1 error 0 hw 1 [x] topics [0]
         by name: error 106 topics []
         after it: error 0; p1 error 0 hw 1 [x] topics [0]",
    );
}

#[test]
fn a_session_is_closed_by_a_request_without_partitions_and_one_without_any_ends() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            let known = [s.topic_id(&t).expect("it exists")];
            s.produce(&t, 0, Batch::of(&["a"]).build());
            for version in [13, 17] {
                let full = vec![by_id(known[0], &[(0, 0), (1, 0)])];
                let answer = s.client.call(version, &next(0, 0, full.clone()));
                let session = answer.session_id;
                s.say(format!("v{version} full, session {}: {}", session != 0, ids(&answer, &known)));
                let answer = s.client.call(version, &next(session, -1, vec![]));
                s.say(format!("closed, session {}: {}", answer.session_id, ids(&answer, &known)));
                let answer = s.client.call(version, &next(session, 1, vec![]));
                s.say(format!("gone: {}", ids(&answer, &known)));
                // Another full request in place of a session.
                let session = s.client.call(version, &next(0, 0, full.clone())).session_id;
                let answer = s.client.call(version, &next(session, 0, vec![by_id(known[0], &[(1, 0)])]));
                s.say(format!("anew, another {}: {}", answer.session_id != session, ids(&answer, &known)));
                let gone = s.client.call(version, &next(session, 1, vec![]));
                s.say(format!("the old one: {}", ids(&gone, &known)));
                let forget = ForgottenTopic::default().with_topic_id(known[0]).with_partitions(vec![1]);
                let session = answer.session_id;
                let request = next(session, 1, vec![]).with_forgotten_topics_data(vec![forget]);
                let answer = s.client.call(version, &request);
                s.say(format!("all forgotten, session {}: {}", answer.session_id, ids(&answer, &known)));
                let answer = s.client.call(version, &next(session, 2, vec![]));
                s.say(format!("then: {}", ids(&answer, &known)));
                let answer = s.client.call(version, &next(0, 0, vec![]));
                s.say(format!("full of nothing, session {}: {}", answer.session_id != 0, ids(&answer, &known)));
            }
        },
        "v13 full, session true: error 0; p0 error 0 hw 1 [a]; p1 error 0 hw 0 [] topics [0]
         closed, session 0: error 0 topics []
         gone: error 70 topics []
         anew, another true: error 0; p1 error 0 hw 0 [] topics [0]
         the old one: error 70 topics []
         all forgotten, session 0: error 0 topics []
         then: error 70 topics []
         full of nothing, session true: error 0 topics []
         v17 full, session true: error 0; p0 error 0 hw 1 [a]; p1 error 0 hw 0 [] topics [0]
         closed, session 0: error 0 topics []
         gone: error 70 topics []
         anew, another true: error 0; p1 error 0 hw 0 [] topics [0]
         the old one: error 70 topics []
         all forgotten, session 0: error 0 topics []
         then: error 70 topics []
         full of nothing, session true: error 0 topics []",
    );
}

#[test]
fn a_topic_made_anew_under_its_name_is_another_one() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let old = s.topic_id(&t).expect("it exists");
            s.produce(&t, 0, Batch::of(&["a"]).build());
            let by_name = s.client.call(12, &next(0, 0, vec![fetch_topic(&t, &[(0, 0)])]));
            let answer = s.client.call(13, &next(0, 0, vec![by_id(old, &[(0, 0)])]));
            let session = answer.session_id;
            s.say(ids(&answer, &[old]));
            let state = DeleteTopicState::default().with_name(Some(topic_name(&t)));
            s.client.call(6, &DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![state]));
            while s.topic_id(&t).is_some() {}
            let answer = s.client.call(13, &next(session, 1, vec![by_id(old, &[(0, 1)])]));
            s.say(format!("deleted: {}", ids(&answer, &[old])));
            let answer = s.client.call(12, &next(by_name.session_id, 1, vec![fetch_topic(&t, &[(0, 1)])]));
            s.say(format!("deleted, by name: {}", describe_fetch(&answer)));
            let again =
                CreatableTopic::default().with_name(topic_name(&t)).with_num_partitions(1).with_replication_factor(1);
            s.client.call(7, &CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![again]));
            while s.topic_id(&t).is_none() {}
            while s.list_offset(&t, 0, -1).0 != 0 {}
            let answer = s.client.call(13, &next(session, 2, vec![by_id(old, &[(0, 0)])]));
            s.say(format!("anew: {}", ids(&answer, &[old])));
            let answer = s.client.call(12, &next(by_name.session_id, 2, vec![fetch_topic(&t, &[(0, 0)])]));
            s.say(format!("anew, by name: {}", describe_fetch(&answer)));
        },
        "error 0; p0 error 0 hw 1 [a] topics [0]
         deleted: error 0; p0 error 3 hw -1 [] topics [0]
         deleted, by name: error 0; p0 error 3 hw -1 []
         anew: error 0; p0 error 103 hw -1 [] topics [0]
         anew, by name: error 0; p0 error 0 hw 0 []",
    );
}
