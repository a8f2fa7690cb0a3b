//! Requests written as JSON, sent to our broker and to Apache Kafka by Kafka's own codec, whose answers are compared field
//! by field.
//!
//! One file of `requests/` per subject, one request per line: `Name versions {json}`, with versions as `0,1,2`. `ID` stands
//! for a name of this run, `"producer(name)"` for the producer id of a transactional id. In front of a request may stand
//!
//! - `await`: ask until the answer has no error, and compare nothing;
//! - `own`: of arrays, compare what names this run's `ID` only (others use the same Kafka);
//! - `differs`: the answers are known to differ, for the reason in the comment above; it is an error when they do not.
//!
//! What a StreamsGroupHeartbeat leaves out has not changed: those requests have many fields.
//!
//! The line `sync` waits until what was changed before it is seen, which Kafka's broker does a moment after its controller
//! has answered.
//!
//! Arrays of structures are compared as sets: Kafka's order is that of hash maps. Fields that name a moment or a place are
//! there or not, their values don't count.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::peers::{self, Peer, repository, script};

/// Fields whose values no two brokers have in common, but for the -1 of one that has none.
const PLACES: [&str; 20] = [
    "topicId",
    "clusterId",
    "finalizedFeaturesEpoch",
    "leaderEpoch",
    "highWatermark",
    "logEndOffset",
    "lastFetchTimestamp",
    "lastTimestamp",
    "lastCaughtUpTimestamp",
    "replicaDirectoryId",
    "listeners",
    "documentation",
    "logDir",
    "totalBytes",
    "usableBytes",
    "port",
    "controllerId",
    "producerId",
    "transactionStartTimeMs",
    "coordinatorEpoch",
];

/// Lists of plain values that have no order.
const SETS: [&str; 2] = ["partitions", "unknownStateFilters"];

/// How the answer of a line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Same,
    Await,
    Own,
    Differs,
}

/// One request at one version.
pub struct Line {
    /// Where it comes from.
    pub file: String,
    /// The name of this run.
    pub id: String,
    pub rule: Rule,
    /// As the Java program reads it.
    pub request: String,
}

fn lines(file: &str, text: &str, id: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let line = line.replace("ID", id);
        if line == "sync" {
            lines.extend(sync(file, id, lines.len()));
            continue;
        }
        let (word, rest) = line.split_once(' ').expect("a request");
        let (rule, rest) = match word {
            "await" => (Rule::Await, rest),
            "own" => (Rule::Own, rest),
            "differs" => (Rule::Differs, rest),
            _ => (Rule::Same, line.as_str()),
        };
        let mut parts = rest.splitn(3, ' ');
        let (Some(name), Some(versions), Some(json)) = (parts.next(), parts.next(), parts.next()) else {
            panic!("not a request: {line}")
        };
        let json = if name == "StreamsGroupHeartbeat" { filled(json) } else { json.to_owned() };
        for version in versions.split(',') {
            let word = if rule == Rule::Await { "await " } else { "" };
            lines.push(Line {
                file: file.to_owned(),
                id: id.to_owned(),
                rule,
                request: format!("{word}{name} {version} {json}"),
            });
        }
    }
    lines
}

/// A StreamsGroupHeartbeat with all its fields.
fn filled(json: &str) -> String {
    fn fill(into: &mut Value, defaults: Value) {
        for (name, value) in defaults.as_object().expect("an object") {
            into.as_object_mut().expect("an object").entry(name).or_insert_with(|| value.clone());
        }
    }
    let mut request: Value = serde_json::from_str(json).expect("JSON");
    fill(
        &mut request,
        json!({
            "endpointInformationEpoch": 0, "instanceId": null, "rackId": null, "rebalanceTimeoutMs": -1, "topology": null,
            "activeTasks": null, "standbyTasks": null, "warmupTasks": null, "processId": null, "userEndpoint": null,
            "clientTags": null, "taskOffsets": null, "taskEndOffsets": null, "shutdownApplication": false,
        }),
    );
    let parts = request.pointer_mut("/topology/subtopologies");
    for part in parts.and_then(Value::as_array_mut).into_iter().flatten() {
        fill(
            part,
            json!({
                "sourceTopics": [], "sourceTopicRegex": [], "stateChangelogTopics": [], "repartitionSinkTopics": [],
                "repartitionSourceTopics": [], "copartitionGroups": [],
            }),
        );
        for internal in ["stateChangelogTopics", "repartitionSourceTopics"] {
            for topic in part[internal].as_array_mut().expect("topics") {
                fill(topic, json!({"partitions": 0, "replicationFactor": 0, "topicConfigs": []}));
            }
        }
        for group in part["copartitionGroups"].as_array_mut().expect("groups") {
            fill(group, json!({"sourceTopics": [], "sourceTopicRegex": [], "repartitionSourceTopics": []}));
        }
    }
    request.to_string()
}

/// Waits until what was changed is seen: metadata is taken over in order, so that it is when a topic made behind it is.
pub fn sync(file: &str, id: &str, number: usize) -> [Line; 2] {
    let create = format!(
        r#"await CreateTopics 7 {{"topics":[{{"name":"sync{number}-{id}","numPartitions":1,"replicationFactor":1,"assignments":[],"configs":[]}}],"timeoutMs":5000,"validateOnly":false}}"#
    );
    let look = format!(
        r#"await Metadata 9 {{"topics":[{{"name":"sync{number}-{id}"}}],"allowAutoTopicCreation":false,"includeClusterAuthorizedOperations":false,"includeTopicAuthorizedOperations":false}}"#
    );
    [create, look].map(|request| Line { file: file.to_owned(), id: id.to_owned(), rule: Rule::Await, request })
}

/// The answers of a broker, a line each.
fn answers(address: &str, lines: &[Line]) -> Vec<Value> {
    let program = repository().join("protocol-tests/tests/conformance/requests/Requests.java");
    let mut java = script("kafka")
        .arg("java")
        .arg(program)
        .arg(address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the peer is there");
    let mut input = java.stdin.take().expect("piped");
    let text: String = lines.iter().map(|line| format!("{}\n", line.request)).collect();
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = java.wait_with_output().expect("it ends");
    writing.join().expect("no panic").expect("it reads");
    let text = String::from_utf8(output.stdout).expect("JSON");
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        answers.len(),
        lines.len(),
        "{address} did not answer {:?}",
        lines.get(answers.len()).map(|l| &l.request)
    );
    answers
}

/// An answer in the form in which it is compared.
fn comparable(answer: &Value, only: Option<&str>) -> Value {
    match answer {
        Value::Array(elements) => {
            let wanted =
                |element: &&Value| only.is_none_or(|id| !element.is_object() || element.to_string().contains(id));
            let mut elements: Vec<Value> =
                elements.iter().filter(wanted).map(|element| comparable(element, None)).collect();
            if elements.iter().all(Value::is_object) {
                elements.sort_by_key(Value::to_string);
            }
            Value::Array(elements)
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let value = match PLACES.contains(&name.as_str()) && !value.is_null() && *value != -1 {
                    true => Value::String("some".to_owned()),
                    // Where the client gave none, it is a random one.
                    false if name == "memberId" && is_uuid(value) => Value::String("uuid".to_owned()),
                    false => comparable(value, only),
                };
                (name.clone(), if SETS.contains(&name.as_str()) { sorted(value) } else { value })
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::String(text) => Value::String(without_fresh_ids(text)),
        other => other.clone(),
    }
}

/// A UUID as Kafka prints it.
fn is_uuid(value: &Value) -> bool {
    const BASE64: usize = 22;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    value.as_str().is_some_and(|text| text.len() == BASE64 && text.bytes().all(is_base64))
}

/// The ids that a broker gives to members end with a random UUID.
fn without_fresh_ids(text: &str) -> String {
    const UUID: usize = 36;
    let start = text.len().saturating_sub(UUID);
    match text.get(start..) {
        Some(end) if end.len() == UUID && uuid::Uuid::try_parse(end).is_ok() => format!("{}uuid", &text[..start]),
        _ => text.to_owned(),
    }
}

fn sorted(mut value: Value) -> Value {
    if let Some(elements) = value.as_array_mut() {
        elements.sort_by_key(Value::to_string);
    }
    value
}

/// Where two answers differ, a line for each place.
fn differences(path: &str, ours: &Value, kafkas: &Value) -> String {
    match (ours, kafkas) {
        (a, b) if a == b => String::new(),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let each = a.iter().zip(b).enumerate();
            each.map(|(at, (a, b))| differences(&format!("{path}[{at}]"), a, b)).collect()
        }
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().map(|(name, value)| differences(&format!("{path}.{name}"), value, &b[name])).collect()
        }
        (a, b) => format!("  {path}\n    terrace      {a}\n    Apache Kafka {b}\n"),
    }
}

/// The files of `requests/`. All go through one Java process for each broker, which takes a second to start.
const FILES: [&str; 14] = [
    "alter_configs",
    "broker_configs",
    "client_metrics",
    "client_quotas",
    "delete_records",
    "elect_leaders",
    "features",
    "group_configs",
    "list_config_resources",
    "loggers",
    "quorum",
    "reassignments",
    "streams_groups",
    "transactions",
];

/// Both answers to every request have to be the same.
#[test]
fn requests_are_answered_as_by_apache_kafka() {
    if !peers::have(&[Peer::Kafka]) {
        return;
    }
    let kafka = peers::kafka().expect("installed").to_string();
    let folder = repository().join("protocol-tests/tests/conformance/requests");
    let all = FILES.iter().flat_map(|file| {
        let id = format!("id{}", uuid::Uuid::new_v4().simple());
        lines(file, &std::fs::read_to_string(folder.join(format!("{file}.txt"))).expect("the file"), &id)
    });
    let (wrong, _) = compare(&all.collect::<Vec<Line>>(), &kafka);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Sends all lines to a fresh broker of ours and to Apache Kafka: what differs, and our answers.
pub fn compare(all: &[Line], kafka: &str) -> (String, Vec<Value>) {
    // Apache Kafka's peer has it too, so that its sessions end soon.
    let broker = Broker::start(&Options::new().with("group.min.session.timeout.ms", 500));
    let (ours, kafkas) = std::thread::scope(|scope| {
        let kafkas = scope.spawn(|| answers(kafka, all));
        (answers(&broker.bootstrap(), all), kafkas.join().expect("no panic"))
    });
    let mut wrong = String::new();
    for ((line, ours), kafkas) in all.iter().zip(&ours).zip(&kafkas) {
        let only = (line.rule == Rule::Own).then_some(line.id.as_str());
        let (a, b) = (comparable(ours, only), comparable(kafkas, only));
        let as_expected = match line.rule {
            Rule::Await => true,
            Rule::Same | Rule::Own => a == b,
            Rule::Differs => a != b,
        };
        if !as_expected {
            let Line { file, rule, request, id } = line;
            wrong += &format!("{file}: {request} ({rule:?})\n{}", differences("", &a, &b)).replace(id, "ID");
        }
    }
    let output = broker.output();
    assert!(!output.iter().any(|line| line.contains("panicked")), "{}", output.join("\n"));
    (wrong, ours)
}
