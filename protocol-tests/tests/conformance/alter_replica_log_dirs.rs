//! AlterReplicaLogDirs on brokers with two log directories, as clients and the tools of the distribution see it.

use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterReplicaLogDirsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeLogDirsRequest,
    IncrementalAlterConfigsRequest,
};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, have, run, script};
use terrace_protocol_tests::requests::move_to;

use crate::scenario::{Scenario, scenario_configured, text, topic_name};

const TWO_DIRS: &[&str] = &["log.dirs={folder}/a,{folder}/b", "group.initial.rebalance.delay.ms=0"];
const BROKER: i8 = 4;
const COMES_TO_REST_WITHIN: Duration = Duration::from_secs(30);

impl Scenario {
    /// The path of a log directory, by its last name.
    fn log_dir(&mut self, name: &str) -> String {
        let dirs = self.client.call(1, &DescribeLogDirsRequest::default().with_topics(Some(Vec::new()))).results;
        let dir = dirs.iter().find(|dir| dir.log_dir.ends_with(&format!("/{name}")));
        dir.expect("it is one of log.dirs").log_dir.to_string()
    }

    fn ask_to_move(&mut self, topic: &str, partition: i32, path: &str) -> i16 {
        let dirs = vec![move_to(path, topic, vec![partition])];
        let answer = self.client.call(2, &AlterReplicaLogDirsRequest::default().with_dirs(dirs));
        answer.results[0].partitions[0].error_code
    }

    /// Asks, and says what that is answered with.
    fn moves(&mut self, topic: &str, partition: i32, dir: &str) {
        let path = self.log_dir(dir);
        let code = self.ask_to_move(topic, partition, &path);
        self.say(format!("{partition} to {dir}: {code}"));
    }

    /// Where a topic's partitions are, each with its directory, whether it is a copy on its way, and whether it lags.
    fn places(&mut self, topic: &str) -> Vec<(i32, String, bool, bool)> {
        let dirs = self.client.call(4, &DescribeLogDirsRequest::default().with_topics(None)).results;
        let mut places = Vec::new();
        for dir in &dirs {
            let name = dir.log_dir.rsplit('/').next().unwrap_or_default().to_owned();
            let of_topic = dir.topics.iter().filter(|described| &**described.name == topic);
            places.extend(of_topic.flat_map(|topic| &topic.partitions).map(|partition| {
                (partition.partition_index, name.clone(), partition.is_future_key, partition.offset_lag > 0)
            }));
        }
        places.sort();
        places
    }

    /// Says where they are once nothing is on its way any more, and `partitions` are there.
    fn rest(&mut self, topic: &str, partitions: usize) {
        let begun = Instant::now();
        loop {
            let places = self.places(topic);
            if places.len() == partitions && places.iter().all(|(_, _, on_its_way, _)| !on_its_way) {
                let places: Vec<_> = places.iter().map(|(number, dir, ..)| format!("{number} in {dir}")).collect();
                return self.say(places.join(", "));
            }
            assert!(begun.elapsed() < COMES_TO_REST_WITHIN, "{places:?}");
            // Nothing tells of the end of a move; tools ask again too.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn throttle_moves(&mut self, bytes_per_second: Option<&str>) {
        let config = AlterableConfig::default()
            .with_name(text("replica.alter.log.dirs.io.max.bytes.per.second"))
            .with_config_operation(i8::from(bytes_per_second.is_none()))
            .with_value(bytes_per_second.map(text));
        let broker = AlterConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text("1"))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![broker]);
        let answer = self.client.call(1, &request);
        assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
    }
}

#[test]
fn partitions_move_between_log_directories() {
    scenario_configured(
        TWO_DIRS,
        |s| {
            s.say("what is asked wrongly");
            let missing = fresh_name("missing");
            s.moves(&missing, 0, "a");
            let (a, long) = (s.log_dir("a"), "l".repeat(214));
            for (topic, path) in [
                (&*missing, "/nowhere"),
                (&*missing, &*format!("{a}/")),
                (&*missing, ""),
                (&*long, &*a),
                (&*long, "/nowhere"),
            ] {
                let code = s.ask_to_move(topic, 0, path);
                s.say(code);
            }

            s.say("before it is created");
            let wished = fresh_name("wished");
            for partition in 0..3 {
                s.moves(&wished, partition, "b");
            }
            let topic = CreatableTopic::default()
                .with_name(topic_name(&wished))
                .with_num_partitions(3)
                .with_replication_factor(1);
            s.client.call(7, &CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]));
            s.rest(&wished, 3);

            s.say("to and fro");
            let t = s.topic(1, &[]);
            s.moves(&t, 7, "a");
            for dir in ["a", "b", "a", "b", "b"] {
                s.moves(&t, 0, dir);
                s.rest(&t, 1);
            }
            for number in 0..30 {
                s.produce(&t, 0, Batch::of(&[&format!("{number}{}", "x".repeat(100_000))]).build());
            }
            for dir in ["a", "b", "a"] {
                s.moves(&t, 0, dir);
                s.rest(&t, 1);
                let (first, last) = (s.list_offset(&t, 0, -2), s.list_offset(&t, 0, -1));
                s.say(format!("from {first:?} to {last:?}"));
            }

            s.say("slowly");
            s.throttle_moves(Some("1000"));
            s.set_topic_config(&t, &[("retention.ms", "-1")]);
            s.moves(&t, 0, "b");
            let places = s.places(&t);
            s.say(format!("{places:?}"));
            s.moves(&t, 0, "b");
            let places = s.places(&t);
            s.say(format!("asked again: {places:?}"));
            s.produce(&t, 0, Batch::of(&["while it moves"]).build());
            s.moves(&t, 0, "a");
            s.rest(&t, 1);
            s.moves(&t, 0, "b");
            let places = s.places(&t);
            s.say(format!("{places:?}"));
            let deleted = DeleteTopicState::default().with_name(Some(topic_name(&t)));
            s.client.call(6, &DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![deleted]));
            s.rest(&t, 0);
            s.throttle_moves(None);
        },
        r#"what is asked wrongly
           0 to a: 3
           57
           57
           57
           17
           17
           before it is created
           0 to b: 3
           1 to b: 3
           2 to b: 3
           0 in b, 1 in b, 2 in b
           to and fro
           7 to a: 3
           0 to a: 0
           0 in a
           0 to b: 0
           0 in b
           0 to a: 0
           0 in a
           0 to b: 0
           0 in b
           0 to b: 0
           0 in b
           0 to a: 0
           0 in a
           from (0, -1, 0) to (0, -1, 30)
           0 to b: 0
           0 in b
           from (0, -1, 0) to (0, -1, 30)
           0 to a: 0
           0 in a
           from (0, -1, 0) to (0, -1, 30)
           slowly
           0 to b: 0
           [(0, "a", false, false), (0, "b", true, true)]
           0 to b: 0
           asked again: [(0, "a", false, false), (0, "b", true, true)]
           0 to a: 0
           0 in a
           0 to b: 0
           [(0, "a", false, false), (0, "b", true, true)]"#,
    );
}

#[test]
fn the_tools_move_partitions_between_log_directories() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    scenario_configured(
        TWO_DIRS,
        |s| {
            let t = s.topic(2, &[]);
            s.produce(&t, 0, Batch::of(&["a", "b"]).build());
            let (a, b) = (s.log_dir("a"), s.log_dir("b"));
            let folder = tempfile::tempdir().expect("a temporary directory");
            let plan = folder.path().join("plan.json");
            let partition = |number: i32, dir: &str| {
                format!(r#"{{"topic":"{t}","partition":{number},"replicas":[1],"log_dirs":["{dir}"]}}"#)
            };
            let address = s.address.to_string();
            let without_names =
                |text: String| text.replace(&t, "TOPIC").replace(&a, "A").replace(&b, "B").replace("\n\n", "\n");
            for dir in [&b, &a] {
                let partitions = [partition(0, dir), partition(1, dir)].join(",");
                std::fs::write(&plan, format!(r#"{{"version":1,"partitions":[{partitions}]}}"#)).expect("our own file");
                let reassign = |how: &str| {
                    let tool = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
                    let mut command = script("kafka");
                    command.args(["tool", tool, "--bootstrap-server", &address, how, "--reassignment-json-file"]);
                    without_names(run(command.arg(&plan)))
                };
                let executed = reassign("--execute");
                let said = executed.lines().filter(|line| line.contains("Success") || line.contains("rror"));
                s.say(said.collect::<Vec<_>>().join("\n"));
                s.rest(&t, 2);
                let verified = reassign("--verify");
                s.say(verified);
            }
            let listed = run(script("kafka").args([
                "log-dirs",
                "--bootstrap-server",
                &address,
                "--describe",
                "--topic-list",
                &t,
            ]));
            let listed = without_names(listed);
            let described = listed.lines().last().unwrap_or_default().split(['{', '}']);
            let mut described: Vec<_> = described.filter(|part| part.starts_with("\"partition\"")).collect();
            described.sort_unstable();
            s.say(described.join("\n"));
        },
        r#"Successfully started partition reassignments for TOPIC-0,TOPIC-1
           Successfully started moving log directory to B for replica TOPIC-0 with broker 1
           Successfully started moving log directory to B for replica TOPIC-1 with broker 1
           0 in b, 1 in b
           Status of partition reassignment:
           Reassignment of partition TOPIC-0 is completed.
           Reassignment of partition TOPIC-1 is completed.
           Reassignment of replica TOPIC-0-1 completed successfully.
           Reassignment of replica TOPIC-1-1 completed successfully.
           Clearing broker-level throttles on broker 1
           Clearing topic-level throttles on topic TOPIC
           Successfully started partition reassignments for TOPIC-0,TOPIC-1
           Successfully started moving log directory to A for replica TOPIC-0 with broker 1
           Successfully started moving log directory to A for replica TOPIC-1 with broker 1
           0 in a, 1 in a
           Status of partition reassignment:
           Reassignment of partition TOPIC-0 is completed.
           Reassignment of partition TOPIC-1 is completed.
           Reassignment of replica TOPIC-0-1 completed successfully.
           Reassignment of replica TOPIC-1-1 completed successfully.
           Clearing broker-level throttles on broker 1
           Clearing topic-level throttles on topic TOPIC
           "partition":"TOPIC-0","size":77,"offsetLag":0,"isFuture":false
           "partition":"TOPIC-1","size":0,"offsetLag":0,"isFuture":false"#,
    );
}
