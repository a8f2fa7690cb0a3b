//! Requests of groups and transactions whose fields are sound one by one and mean nothing together: ids of nobody, epochs
//! and offsets at the ends of their types, empty and very long names, no partitions, the same ones twice, answered as by
//! Apache Kafka, field by field. A group, an offset and a transaction of somebody else stay as they are.
//!
//! Left out is what Apache Kafka never answers or answers with nonsense, because its bookkeeping is by key: the same
//! protocol name twice in a JoinGroup, the same transactional id twice or none at all in an AddPartitionsToTxn 4+, and in a
//! WriteTxnMarkers the same partition twice, or markers that can be written before such that can't.

use serde_json::{Value, json};
use terrace_protocol_tests::peers::{self, Peer};

use crate::requests::{Line, Rule, compare, sync};

const REQUESTS: usize = 700;
/// `TERRACE_HOSTILE_SEED` asks for other requests.
const SEED: u64 = 1;

const INT64: [i64; 7] = [0, 1, -1, -2, 5, i64::MAX, i64::MIN];
const INT32: [i32; 8] = [0, 1, -1, -2, 2, 7, i32::MAX, i32::MIN];
const INT16: [i16; 6] = [0, 1, -1, -2, i16::MAX, i16::MIN];
const APIS: [(&str, i16, i16); 20] = [
    ("JoinGroup", 2, 9),
    ("SyncGroup", 0, 5),
    ("Heartbeat", 0, 4),
    ("LeaveGroup", 0, 5),
    ("OffsetCommit", 2, 9),
    ("OffsetFetch", 1, 9),
    ("DescribeGroups", 0, 6),
    ("DeleteGroups", 0, 2),
    ("OffsetDelete", 0, 0),
    ("ConsumerGroupHeartbeat", 0, 1),
    ("ConsumerGroupDescribe", 0, 1),
    ("InitProducerId", 0, 5),
    ("AddPartitionsToTxn", 0, 5),
    ("AddOffsetsToTxn", 0, 4),
    ("EndTxn", 0, 5),
    ("TxnOffsetCommit", 0, 5),
    ("WriteTxnMarkers", 1, 1),
    ("DescribeProducers", 0, 0),
    ("DescribeTransactions", 0, 0),
    ("FindCoordinator", 1, 6),
];

#[test]
fn hostile_requests_are_answered_as_by_apache_kafka_and_harm_nobody() {
    if !peers::have(&[Peer::Kafka]) {
        return;
    }
    let kafka = peers::kafka().expect("installed").to_string();
    let seed = std::env::var("TERRACE_HOSTILE_SEED").map_or(SEED, |seed| seed.parse().expect("a number"));
    let id = format!("id{}", uuid::Uuid::new_v4().simple());
    let mut lines = bystanders(&id);
    let before = lines.len();
    lines.extend(look(&id));
    let mut hostile = Hostile { random: seed, id: id.clone(), groups: 0 };
    let ended = format!("DescribeTransactions 0 {}", json!({"transactionalIds": [format!("t-{id}")]}));
    for _ in 0..REQUESTS {
        let request = hostile.request();
        let may_end = request.starts_with("EndTxn") || request.starts_with("InitProducerId");
        lines.push(line(&id, Rule::Same, request));
        lines.extend(may_end.then(|| line(&id, Rule::Await, ended.clone())));
    }
    let after = lines.len();
    lines.extend(look(&id));
    let (wrong, ours) = compare(&lines, &kafka);
    assert!(wrong.is_empty(), "seed {seed}\n{wrong}");
    for (at, request) in look(&id).into_iter().enumerate() {
        assert_eq!(ours[before + at], ours[after + at], "seed {seed}: {}", request.request);
    }
}

fn line(id: &str, rule: Rule, request: String) -> Line {
    let word = if rule == Rule::Await { "await " } else { "" };
    Line { file: "hostile".to_owned(), id: id.to_owned(), rule, request: format!("{word}{request}") }
}

/// The topic, the id that hostile requests are about, and somebody else's group, offset and open transaction.
fn bystanders(id: &str) -> Vec<Line> {
    let topic = json!({"name": format!("x-{id}"), "numPartitions": 2, "replicationFactor": 1, "assignments": [], "configs": []});
    let init = |name: &str| json!({"transactionalId": format!("{name}-{id}"), "transactionTimeoutMs": 600_000, "producerId": -1, "producerEpoch": -1});
    let offset =
        json!({"partitionIndex": 0, "committedOffset": 7, "committedLeaderEpoch": -1, "committedMetadata": "m"});
    let topics = json!([{"name": format!("x-{id}"), "partitions": [offset]}]);
    let mut lines = Vec::from([
        format!("CreateTopics 7 {}", json!({"topics": [topic], "timeoutMs": 5000, "validateOnly": false})),
        format!("FindCoordinator 4 {}", json!({"keyType": 0, "coordinatorKeys": ["g"]})),
        format!("FindCoordinator 4 {}", json!({"keyType": 1, "coordinatorKeys": ["t"]})),
        format!("InitProducerId 4 {}", init("t")),
        format!("InitProducerId 4 {}", init("other")),
    ])
    .into_iter()
    .map(|request| line(id, Rule::Await, request))
    .collect::<Vec<_>>();
    lines.extend(sync("hostile", id, 0));
    let begin = json!({
        "v3AndBelowTransactionalId": format!("other-{id}"), "v3AndBelowProducerId": format!("producer(other-{id})"),
        "v3AndBelowProducerEpoch": 0, "v3AndBelowTopics": [{"name": format!("x-{id}"), "partitions": [1]}],
    });
    let commit = json!({
        "groupId": format!("other-{id}"), "generationIdOrMemberEpoch": -1, "memberId": "", "groupInstanceId": null, "topics": topics,
    });
    lines.push(line(id, Rule::Await, format!("AddPartitionsToTxn 3 {begin}")));
    lines.push(line(id, Rule::Await, format!("OffsetCommit 8 {commit}")));
    lines
}

/// What must not change.
fn look(id: &str) -> Vec<Line> {
    let name = format!("other-{id}");
    let requests = [
        format!("DescribeTransactions 0 {}", json!({"transactionalIds": [name]})),
        format!("OffsetFetch 7 {}", json!({"groupId": name, "topics": null, "requireStable": false})),
        format!("DescribeGroups 5 {}", json!({"groups": [name], "includeAuthorizedOperations": false})),
    ];
    requests.map(|request| line(id, Rule::Same, request)).into()
}

/// Makes the same requests from the same seed.
struct Hostile {
    random: u64,
    id: String,
    /// Groups that were joined: each JoinGroup has its own, for no other may wait for it.
    groups: u32,
}

impl Hostile {
    fn below(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) as usize % end
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// One of these, any type.
    fn any(&mut self, of: Value) -> Value {
        self.one(of.as_array().expect("a list of them"))
    }

    fn many(&mut self, mut make: impl FnMut(&mut Self) -> Value) -> Value {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn long() -> String {
        "x".repeat(300)
    }

    fn group(&mut self) -> Value {
        let id = self.id.clone();
        self.any(json!(["", format!("a-{id}"), format!("b-{id}"), format!("d-{id}")]))
    }

    fn member(&mut self) -> Value {
        self.any(json!(["", "nobody", Self::long()]))
    }

    fn instance(&mut self) -> Value {
        self.any(json!([null, null, null, "", "i", Self::long()]))
    }

    fn topic(&mut self) -> Value {
        let id = self.id.clone();
        self.any(json!([format!("x-{id}"), format!("x-{id}"), format!("no-{id}"), "", "a b", Self::long()]))
    }

    fn index(&mut self) -> i32 {
        self.one(&[0, 0, 1, 1, -1, 2, i32::MAX, i32::MIN])
    }

    fn topics_of_indexes(&mut self, name: &str) -> Value {
        self.many(|h| json!({"name": h.topic(), name: h.many(|h| json!(h.index()))}))
    }

    fn transactional_id(&mut self) -> Value {
        let id = self.id.clone();
        self.any(json!([format!("t-{id}"), format!("t-{id}"), format!("q-{id}"), "", format!("{}{id}", Self::long())]))
    }

    fn producer_id(&mut self) -> Value {
        let own = format!("producer(t-{})", self.id);
        self.any(json!([own, own, own, own, -1, -2, 77_777_777_777i64, i64::MAX, i64::MIN]))
    }

    fn epoch(&mut self) -> i16 {
        if self.flag() { 0 } else { self.one(&INT16) }
    }

    fn int32(&mut self) -> i32 {
        self.one(&INT32)
    }

    /// As long as may be: a group whose first offset is refused exists in Apache Kafka only.
    fn metadata(&mut self) -> Value {
        self.any(json!(["", "m", null, "y".repeat(4096)]))
    }

    fn topics_of_offsets(&mut self, with_epoch: bool) -> Value {
        self.many(|h| {
            let partitions = h.many(|h| {
                let mut offset = json!({
                    "partitionIndex": h.index(), "committedOffset": h.one(&INT64), "committedMetadata": h.metadata(),
                });
                if with_epoch {
                    offset["committedLeaderEpoch"] = json!(h.int32());
                }
                offset
            });
            json!({"name": h.topic(), "partitions": partitions})
        })
    }

    /// One request as the Java program reads it.
    fn request(&mut self) -> String {
        let (name, first, last) = self.one(&APIS);
        let version = first + self.below((last - first + 1) as usize) as i16;
        let body = match name {
            "JoinGroup" => self.join(version),
            "SyncGroup" => self.sync(version),
            "Heartbeat" => {
                let body = json!({"groupId": self.group(), "generationId": self.int32(), "memberId": self.member()});
                self.with_instance(body, version >= 3)
            }
            "LeaveGroup" => self.leave(version),
            "OffsetCommit" => self.commit(version),
            "OffsetFetch" => self.fetch(version),
            "DescribeGroups" if version < 3 => json!({"groups": self.many(Self::group)}),
            "DescribeGroups" => json!({"groups": self.many(Self::group), "includeAuthorizedOperations": self.flag()}),
            "DeleteGroups" => json!({"groupsNames": self.many(Self::group)}),
            "OffsetDelete" => {
                let topic = |h: &mut Self| json!({"name": h.topic(), "partitions": h.many(|h| json!({"partitionIndex": h.index()}))});
                json!({"groupId": self.group(), "topics": self.many(topic)})
            }
            "ConsumerGroupHeartbeat" => self.consumer_heartbeat(version),
            "ConsumerGroupDescribe" => {
                json!({"groupIds": self.many(Self::consumer_group), "includeAuthorizedOperations": self.flag()})
            }
            "InitProducerId" => self.init(version),
            "AddPartitionsToTxn" => self.add_partitions(version),
            "AddOffsetsToTxn" => json!({
                "transactionalId": self.transactional_id(), "producerId": self.producer_id(),
                "producerEpoch": self.epoch(), "groupId": self.group(),
            }),
            "EndTxn" => json!({
                "transactionalId": self.transactional_id(), "producerId": self.producer_id(),
                "producerEpoch": self.epoch(), "committed": self.flag(),
            }),
            "TxnOffsetCommit" => self.commit_in_transaction(version),
            "WriteTxnMarkers" => self.markers(),
            "DescribeProducers" => json!({"topics": self.topics_of_indexes("partitionIndexes")}),
            "DescribeTransactions" => json!({"transactionalIds": self.many(Self::transactional_id)}),
            "FindCoordinator" => self.find(version),
            other => unreachable!("{other}"),
        };
        format!("{name} {version} {body}")
    }

    fn with_instance(&mut self, mut body: Value, has_instance: bool) -> Value {
        if has_instance {
            body["groupInstanceId"] = self.instance();
        }
        body
    }

    fn join(&mut self, version: i16) -> Value {
        self.groups += 1;
        let group = format!("j{}-{}", self.groups, self.id);
        let mut protocols: Vec<Value> = ["range", "", &Self::long()]
            .map(|name| json!({"name": name, "metadata": self.one(&["", "AAA=", "AAAAAAABAAF4/////wAAAAA=", "//////8="])}))
            .into();
        protocols.truncate(self.below(4));
        let mut body = json!({
            "groupId": self.any(json!(["", group, group, group])),
            "sessionTimeoutMs": self.one(&[10_000, 10_000, 10_000, -1, 0, i32::MAX, i32::MIN, 499, 500, 1_800_001]),
            "rebalanceTimeoutMs": self.one(&[1000, -1, 0, i32::MAX, i32::MIN]),
            "memberId": self.any(json!(["", "", "", "nobody"])),
            "protocolType": self.any(json!(["consumer", "consumer", "", Self::long()])),
            "protocols": protocols,
        });
        if version >= 8 {
            body["reason"] = self.any(json!([null, "", Self::long()]));
        }
        self.with_instance(body, version >= 5)
    }

    fn sync(&mut self, version: i16) -> Value {
        let assignment = |h: &mut Self| json!({"memberId": h.member(), "assignment": h.one(&["", "AAA="])});
        let mut body = json!({
            "groupId": self.group(), "generationId": self.int32(), "memberId": self.member(),
            "assignments": self.many(assignment),
        });
        if version >= 5 {
            body["protocolType"] = self.any(json!([null, "", "consumer"]));
            body["protocolName"] = self.any(json!([null, "", "range"]));
        }
        self.with_instance(body, version >= 3)
    }

    fn leave(&mut self, version: i16) -> Value {
        if version < 3 {
            return json!({"groupId": self.group(), "memberId": self.member()});
        }
        let member = |h: &mut Self| {
            let mut member = json!({"memberId": h.member(), "groupInstanceId": h.instance()});
            if version >= 5 {
                member["reason"] = h.any(json!([null, "r"]));
            }
            member
        };
        json!({"groupId": self.group(), "members": self.many(member)})
    }

    fn commit(&mut self, version: i16) -> Value {
        let mut body = json!({
            "groupId": self.group(), "generationIdOrMemberEpoch": if self.flag() { -1 } else { self.int32() },
            "memberId": self.any(json!(["", "", "nobody"])), "topics": self.topics_of_offsets(version >= 6),
        });
        if version <= 4 {
            body["retentionTimeMs"] = json!(self.one(&INT64));
        }
        self.with_instance(body, version >= 7)
    }

    fn fetch(&mut self, version: i16) -> Value {
        let asked = |h: &mut Self, may_be_all: bool| match may_be_all && h.below(3) == 0 {
            true => Value::Null,
            false => h.topics_of_indexes("partitionIndexes"),
        };
        if version < 8 {
            let mut body = json!({"groupId": self.group(), "topics": asked(self, version >= 2)});
            if version >= 7 {
                body["requireStable"] = json!(self.flag());
            }
            return body;
        }
        let group = |h: &mut Self| {
            let mut group = json!({"groupId": h.group(), "topics": asked(h, true)});
            if version >= 9 {
                // Without a member the epoch is -1: Apache Kafka fails on anything else.
                let member = h.any(json!([null, null, "", "nobody"]));
                group["memberEpoch"] = json!(if member.is_null() { -1 } else { h.int32() });
                group["memberId"] = member;
            }
            group
        };
        json!({"groups": self.many(group), "requireStable": self.flag()})
    }

    fn consumer_group(&mut self) -> Value {
        let id = self.id.clone();
        self.any(json!(["", format!("c1-{id}"), format!("c2-{id}"), format!("c3-{id}"), format!("a-{id}")]))
    }

    fn consumer_heartbeat(&mut self, version: i16) -> Value {
        let nothing = json!([{"topicId": "AAAAAAAAAAAAAAAAAAAAAQ", "partitions": [self.index(), self.index()]}]);
        let mut body = json!({
            "groupId": self.consumer_group(), "memberId": self.any(json!(["", "m1", Self::long()])),
            "memberEpoch": if self.flag() { 0 } else { self.int32() }, "instanceId": self.instance(),
            "rackId": self.any(json!([null, "", "r"])),
            "rebalanceTimeoutMs": self.one(&[-1, 0, 1000, i32::MAX, i32::MIN]),
            "subscribedTopicNames": self.any(json!([null, [], ["a b", ""], [format!("no-{}", self.id)]])),
            "serverAssignor": self.any(json!([null, "", "uniform", "range", "nope"])),
            "topicPartitions": self.any(json!([null, [], [], nothing])),
        });
        if version >= 1 {
            body["subscribedTopicRegex"] = self.any(json!([null, "", "no-.*"]));
        }
        body
    }

    fn init(&mut self, version: i16) -> Value {
        let transactional_id = self.transactional_id();
        let mut body = json!({
            "transactionalId": self.any(json!([null, transactional_id, transactional_id])),
            "transactionTimeoutMs": self.one(&[600_000, 600_000, 0, -1, i32::MAX, i32::MIN, 900_000, 900_001]),
        });
        if version >= 3 {
            let producer_id = self.producer_id();
            body["producerId"] = self.any(json!([-1, producer_id]));
            body["producerEpoch"] = json!(if self.flag() { -1 } else { self.epoch() });
        }
        body
    }

    fn add_partitions(&mut self, version: i16) -> Value {
        if version < 4 {
            return json!({
                "v3AndBelowTransactionalId": self.transactional_id(), "v3AndBelowProducerId": self.producer_id(),
                "v3AndBelowProducerEpoch": self.epoch(), "v3AndBelowTopics": self.topics_of_indexes("partitions"),
            });
        }
        let id = self.id.clone();
        let mut transactions: Vec<Value> = [format!("t-{id}"), String::new(), format!("q-{id}")]
            .map(|id| {
                json!({
                    "transactionalId": id, "producerId": self.producer_id(), "producerEpoch": self.epoch(),
                    "verifyOnly": self.flag(), "topics": self.topics_of_indexes("partitions"),
                })
            })
            .into();
        transactions.truncate(1 + self.below(3));
        json!({"transactions": transactions})
    }

    fn commit_in_transaction(&mut self, version: i16) -> Value {
        let mut body = json!({
            "transactionalId": self.transactional_id(), "groupId": self.group(), "producerId": self.producer_id(),
            "producerEpoch": self.epoch(), "topics": self.topics_of_offsets(version >= 2),
        });
        if version >= 3 {
            body["generationId"] = json!(if self.flag() { -1 } else { self.int32() });
            body["memberId"] = self.any(json!(["", "", "nobody"]));
        }
        self.with_instance(body, version >= 3)
    }

    /// One marker: of several Apache Kafka answers none when the last one has nowhere to go.
    fn markers(&mut self) -> Value {
        let id = self.id.clone();
        let mut topics: Vec<Value> = [format!("x-{id}"), format!("no-{id}"), String::new()]
            .map(|name| json!({"name": name, "partitionIndexes": self.any(json!([[], [0], [1, 0], [-1, 1], [i32::MAX]]))}))
            .into();
        topics.truncate(self.below(4));
        json!({"markers": [{
            "producerId": self.one(&[-1, -2, 5, 77_777_777_777, i64::MAX, i64::MIN]), "producerEpoch": self.one(&INT16),
            "transactionResult": self.flag(), "topics": topics, "coordinatorEpoch": self.int32(),
        }]})
    }

    fn find(&mut self, version: i16) -> Value {
        // Share groups, key type 2, are not there yet.
        let key_type = self.one(&[0, 1, -1, i8::MAX, i8::MIN]);
        let key = self.group();
        match version {
            0..4 => json!({"key": key, "keyType": key_type}),
            _ => json!({"keyType": key_type, "coordinatorKeys": self.many(Self::group)}),
        }
    }
}
