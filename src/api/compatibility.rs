//! What clients of Apache Kafka 4.3.1 find here and what they don't: `docs/compatibility.md`, made from the dispatch table
//! and the tables below.

use std::fmt::Write;

use super::{Row, row};
use crate::protocol::api_key::ApiKey;

/// An API as a broker of Apache Kafka 4.3.1 with default settings lists it.
struct Offered {
    key: ApiKey,
    /// First and last version; `None` where the broker lists it as unsupported.
    versions: Option<(i16, i16)>,
}

const fn offered(key: ApiKey, first: i16, last: i16) -> Offered {
    Offered { key, versions: Some((first, last)) }
}

const fn unsupported(key: ApiKey) -> Offered {
    Offered { key, versions: None }
}

/// What `BrokerApiVersionsCommand` shows of Apache Kafka 4.3.1.
const KAFKA: &[Offered] = &[
    offered(ApiKey::Produce, 0, 13),
    offered(ApiKey::Fetch, 4, 18),
    offered(ApiKey::ListOffsets, 1, 11),
    offered(ApiKey::Metadata, 0, 13),
    offered(ApiKey::OffsetCommit, 2, 10),
    offered(ApiKey::OffsetFetch, 1, 10),
    offered(ApiKey::FindCoordinator, 0, 6),
    offered(ApiKey::JoinGroup, 0, 9),
    offered(ApiKey::Heartbeat, 0, 4),
    offered(ApiKey::LeaveGroup, 0, 5),
    offered(ApiKey::SyncGroup, 0, 5),
    offered(ApiKey::DescribeGroups, 0, 6),
    offered(ApiKey::ListGroups, 0, 5),
    offered(ApiKey::SaslHandshake, 0, 1),
    offered(ApiKey::ApiVersions, 0, 4),
    offered(ApiKey::CreateTopics, 2, 7),
    offered(ApiKey::DeleteTopics, 1, 6),
    offered(ApiKey::DeleteRecords, 0, 2),
    offered(ApiKey::InitProducerId, 0, 5),
    offered(ApiKey::OffsetForLeaderEpoch, 2, 4),
    offered(ApiKey::AddPartitionsToTxn, 0, 5),
    offered(ApiKey::AddOffsetsToTxn, 0, 4),
    offered(ApiKey::EndTxn, 0, 5),
    offered(ApiKey::WriteTxnMarkers, 1, 2),
    offered(ApiKey::TxnOffsetCommit, 0, 5),
    offered(ApiKey::DescribeAcls, 1, 3),
    offered(ApiKey::CreateAcls, 1, 3),
    offered(ApiKey::DeleteAcls, 1, 3),
    offered(ApiKey::DescribeConfigs, 1, 4),
    offered(ApiKey::AlterConfigs, 0, 2),
    offered(ApiKey::AlterReplicaLogDirs, 1, 2),
    offered(ApiKey::DescribeLogDirs, 1, 5),
    offered(ApiKey::SaslAuthenticate, 0, 2),
    offered(ApiKey::CreatePartitions, 0, 3),
    offered(ApiKey::CreateDelegationToken, 1, 3),
    offered(ApiKey::RenewDelegationToken, 1, 2),
    offered(ApiKey::ExpireDelegationToken, 1, 2),
    offered(ApiKey::DescribeDelegationToken, 1, 3),
    offered(ApiKey::DeleteGroups, 0, 2),
    offered(ApiKey::ElectLeaders, 0, 2),
    offered(ApiKey::IncrementalAlterConfigs, 0, 1),
    offered(ApiKey::AlterPartitionReassignments, 0, 1),
    offered(ApiKey::ListPartitionReassignments, 0, 0),
    offered(ApiKey::OffsetDelete, 0, 0),
    offered(ApiKey::DescribeClientQuotas, 0, 1),
    offered(ApiKey::AlterClientQuotas, 0, 1),
    offered(ApiKey::DescribeUserScramCredentials, 0, 0),
    offered(ApiKey::AlterUserScramCredentials, 0, 0),
    offered(ApiKey::DescribeQuorum, 0, 2),
    offered(ApiKey::UpdateFeatures, 0, 2),
    offered(ApiKey::DescribeCluster, 0, 2),
    offered(ApiKey::DescribeProducers, 0, 0),
    offered(ApiKey::UnregisterBroker, 0, 0),
    offered(ApiKey::DescribeTransactions, 0, 0),
    offered(ApiKey::ListTransactions, 0, 2),
    offered(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    offered(ApiKey::ConsumerGroupDescribe, 0, 1),
    unsupported(ApiKey::GetTelemetrySubscriptions),
    unsupported(ApiKey::PushTelemetry),
    offered(ApiKey::ListConfigResources, 0, 1),
    offered(ApiKey::DescribeTopicPartitions, 0, 0),
    offered(ApiKey::ShareGroupHeartbeat, 1, 1),
    offered(ApiKey::ShareGroupDescribe, 1, 1),
    offered(ApiKey::ShareFetch, 1, 2),
    offered(ApiKey::ShareAcknowledge, 1, 2),
    offered(ApiKey::AddRaftVoter, 0, 1),
    offered(ApiKey::RemoveRaftVoter, 0, 0),
    offered(ApiKey::InitializeShareGroupState, 0, 0),
    offered(ApiKey::ReadShareGroupState, 0, 0),
    offered(ApiKey::WriteShareGroupState, 0, 1),
    offered(ApiKey::DeleteShareGroupState, 0, 0),
    offered(ApiKey::ReadShareGroupStateSummary, 0, 1),
    offered(ApiKey::StreamsGroupHeartbeat, 0, 0),
    offered(ApiKey::StreamsGroupDescribe, 0, 0),
    offered(ApiKey::DescribeShareGroupOffsets, 0, 1),
    offered(ApiKey::AlterShareGroupOffsets, 0, 0),
    offered(ApiKey::DeleteShareGroupOffsets, 0, 0),
];

/// Why an API is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// The issue of this name brings it.
    Issue(&'static str),
    /// It has no meaning here, for this reason.
    Never(&'static str),
}

/// APIs that are not served.
const ABSENT: &[(&[ApiKey], Absent)] = &[
    (
        &[
            ApiKey::SaslHandshake,
            ApiKey::SaslAuthenticate,
            ApiKey::DescribeAcls,
            ApiKey::CreateAcls,
            ApiKey::DeleteAcls,
            ApiKey::CreateDelegationToken,
            ApiKey::RenewDelegationToken,
            ApiKey::ExpireDelegationToken,
            ApiKey::DescribeDelegationToken,
            ApiKey::DescribeUserScramCredentials,
            ApiKey::AlterUserScramCredentials,
        ],
        Absent::Issue("security"),
    ),
    (&[ApiKey::AddRaftVoter, ApiKey::RemoveRaftVoter], Absent::Never("there is no Raft quorum to join or leave")),
    (
        &[
            ApiKey::InitializeShareGroupState,
            ApiKey::ReadShareGroupState,
            ApiKey::WriteShareGroupState,
            ApiKey::DeleteShareGroupState,
            ApiKey::ReadShareGroupStateSummary,
        ],
        Absent::Never("brokers of Kafka ask each other for it, clients don't"),
    ),
];

/// One known difference: where, what is done here, what Kafka does, and why.
struct Difference {
    subject: &'static str,
    here: &'static str,
    kafka: &'static str,
    why: &'static str,
}

/// What is answered otherwise. Each that a request can show is marked in the request lists of `protocol-tests`.
const DIFFERENCES: &[Difference] = &[
    Difference {
        subject: "GetTelemetrySubscriptions, PushTelemetry",
        here: "served; what clients push comes out at `/metrics`",
        kafka: "listed as unsupported without a plug-in",
        why: "no plug-in is needed here",
    },
    Difference {
        subject: "AlterConfigs with a resource twice",
        here: "INVALID_REQUEST for that resource",
        kafka: "no answer at all",
        why: "a client must not wait for ever",
    },
    Difference {
        subject: "a partition whose log directory failed",
        here: "stays in Metadata with its leader; Produce, Fetch and ListOffsets answer KAFKA_STORAGE_ERROR",
        kafka: "the controller takes its leader away",
        why: "one broker is the whole cluster: there is nobody else to lead",
    },
    Difference {
        subject: "a log directory that fails at a start: partitions that never had a record",
        here: "offline too, until a start finds the directory",
        kafka: "those that metadata places in another directory serve",
        why: "where a partition lies is known from its files alone",
    },
    Difference {
        subject: "A batch marked as having the broker's time, in a topic with the producer's",
        here: "INVALID_TIMESTAMP",
        kafka: "the mark is taken away",
        why: "batches are stored as they came; no client sends one",
    },
    Difference {
        subject: "A batch whose records cannot be decompressed",
        here: "INVALID_RECORD, where records are looked at (`record.validation=full`, compacted topics, another codec)",
        kafka: "UNKNOWN_SERVER_ERROR",
        why: "trying again, which producers do with that error, cannot help",
    },
    Difference {
        subject: "`remote.storage.enable=true` with `cleanup.policy=compact` or `compact,delete`",
        here: "tiered: sealed segments go up once they are cleaned, and are cleaned again in the bucket \
               ([decision 18](decisions/0018-compacted-topics-in-the-tier.md)). It has to be named: the default does not \
               count for compacted topics",
        kafka: "INVALID_CONFIG",
        why: "a compacted topic may be larger than the disk, and should survive it",
    },
    Difference {
        subject: "`compression.lz4.level`",
        here: "without effect",
        kafka: "9 is the fast compressor, any other the slow one at that level",
        why: "the codec here has one level",
    },
    Difference {
        subject: "UnregisterBroker of the broker itself",
        here: "INVALID_REQUEST",
        kafka: "the broker is taken out and registers anew",
        why: "there is no other broker that could take over",
    },
    Difference {
        subject: "UpdateFeatures with several wrong updates",
        here: "the first one is named",
        kafka: "any of them is named",
        why: "Kafka's order is that of a hash map; so are those of results, configurations and topics in other answers",
    },
    Difference {
        subject: "AlterClientQuotas with infinity or not a number",
        here: "INVALID_REQUEST",
        kafka: "kept",
        why: "nothing could be done with it",
    },
    Difference {
        subject: "Client quotas",
        here: "kept and shown",
        kafka: "enforced",
        why: "they are enforced with the issue of security",
    },
    Difference {
        subject: "StreamsGroupHeartbeat whose internal topics cannot be made",
        here: "the answer that names the missing topics says why",
        kafka: "a later answer does",
        why: "the topics are made before the answer, not behind it",
    },
    Difference {
        subject: "StreamsGroupHeartbeat with a topology that cannot be: a subtopology twice, an index that points nowhere, \
                  more than 100,000 tasks",
        here: "STREAMS_INVALID_TOPOLOGY",
        kafka: "UNKNOWN_SERVER_ERROR; as many tasks as it says",
        why: "it is the client that is wrong, and it must not fill the memory",
    },
    Difference {
        subject: "Dead letters of share groups (KIP-1191)",
        here: "served at `share.version` 1",
        kafka: "from 4.4.0 on, at `share.version` 2, which 4.3.1 does not know",
        why: "a group has them only where its configuration names a topic; no level is needed for that",
    },
    Difference {
        subject: "A dead letter that cannot be written for now",
        here: "tried until it is; the record waits, and holds up no other until as many are done with behind it as \
               `group.share.partition.max.record.locks` allows",
        kafka: "given up after five attempts, and the record with it",
        why: "nothing is lost because a disk was full; what can never be written is given up here too",
    },
    Difference {
        subject: "A dead letter with its record (`errors.deadletterqueue.copy.record.enable`)",
        here: "key, value and headers",
        kafka: "key and value",
        why: "`terrace dlq redrive` brings it back as it was",
    },
    Difference {
        subject: "DescribeQuorum",
        here: "offsets are generations of the metadata, the voter is reached at the listener of brokers",
        kafka: "offsets of the metadata log, the voter is reached at the listener of controllers",
        why: "the metadata store is a file; there is no listener for controllers",
    },
    Difference {
        subject: "Loggers (BROKER_LOGGER)",
        here: "`root` and modules of the program, such as `terrace::api`",
        kafka: "`root` and Java classes",
        why: "they name code",
    },
    Difference {
        subject: "Documentation of configuration keys",
        here: "our own words, none for keys without effect",
        kafka: "Kafka's manual",
        why: "what a key does is told as it is here",
    },
    Difference {
        subject: "`min.insync.replicas` of all brokers",
        here: "not set",
        kafka: "set to 1 when a cluster is made, and cannot be removed",
        why: "Kafka needs it for eligible leader replicas, of which one broker has none",
    },
    Difference {
        subject: "CreatePartitions with more than 10 000 new partitions",
        here: "POLICY_VIOLATION",
        kafka: "UNKNOWN_SERVER_ERROR",
        why: "the client is told what is wrong",
    },
    Difference {
        subject: "`remote.log.reader.threads`",
        here: "without effect",
        kafka: "threads that read from the tier, each one segment at a time",
        why: "reads of the tier take no thread: what bounds them is their memory, `remote.read.ahead.max.bytes`",
    },
    Difference {
        subject: "`remote.storage.enable` of a topic that does not name it",
        here: "true, unless the topic is compacted or internal; `remote.storage.enable.default` says so for the cluster",
        kafka: "false; there is no key for the cluster",
        why: "the bucket is the second copy of everything",
    },
    Difference {
        subject: "Dynamic broker keys `remote.log.manager.copier.thread.pool.size` and the tier's bytes per second",
        here: "read at the start; altering them is refused like any other key that is not dynamic",
        kafka: "dynamic",
        why: "the tier is built with them",
    },
    Difference {
        subject: "JoinGroup that names a protocol twice",
        here: "it counts once",
        kafka: "it cannot be chosen; where it is the only one there is no answer",
        why: "a client must not wait for ever",
    },
    Difference {
        subject: "AddPartitionsToTxn 4 and 5 without transactions, or with one twice",
        here: "none; each is answered for itself",
        kafka: "no answer; both are answered with the partitions of the second",
        why: "a client must not wait for ever, nor be told of partitions that it did not name",
    },
    Difference {
        subject: "WriteTxnMarkers with a partition twice, or whose last marker has no place to go",
        here: "answered",
        kafka: "no answer",
        why: "a client must not wait for ever",
    },
    Difference {
        subject: "OffsetFetch 9 with a member epoch but no member",
        here: "UNKNOWN_MEMBER_ID",
        kafka: "UNKNOWN_SERVER_ERROR",
        why: "it is the client that is wrong",
    },
    Difference {
        subject: "A group of which no record is written, because all its first offsets are refused",
        here: "does not exist",
        kafka: "exists, empty, until the next start",
        why: "a group is what its records say",
    },
    Difference {
        subject: "The reason why a regular expression is invalid",
        here: "in our parser's words",
        kafka: "in RE2/J's",
        why: "they are different parsers",
    },
    Difference {
        subject: "Defaults of configuration keys",
        here: "see [configuration.md](configuration.md)",
        kafka: "",
        why: "each difference is explained there",
    },
];

/// What clients do by themselves, so that nobody looks for it here.
const CLIENTS: &str = "
## Clients

A producer of librdkafka 2.16 waits for ever in `rd_kafka_send_offsets_to_transaction`, whatever its timeout, after the
only broker it knows was killed and started again. It does so with Apache Kafka 4.3.1 under the same kill. With
`metadata.recovery.strategy=none` it goes on, with both.
";

const HEAD: &str = "\
# Compatibility with Apache Kafka 4.3.1

<!-- Generated by `terrace compatibility`. Do not edit: the tables are in src/api/compatibility.rs. -->

A client asks with ApiVersions what it may use and finds the APIs below. An API that is absent is not listed, and a
request for it closes the connection, as in Kafka. The answers to the request lists in
`protocol-tests/tests/conformance/requests` are compared with those of Apache Kafka field by field.
";

/// The whole file.
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    // Writing to a string does not fail.
    out.push_str("\n## APIs\n\n| Key | API | Here | Kafka |\n|---|---|---|---|\n");
    for Offered { key, versions } in KAFKA {
        let here = match row(*key) {
            Some(Row { versions, .. }) => range(*versions),
            None => match absent(*key) {
                Some(Absent::Issue(name)) => format!("absent (issue \"{name}\")"),
                Some(Absent::Never(why)) => format!("never: {why}"),
                None => "absent".to_owned(),
            },
        };
        let kafka = versions.map_or_else(|| "unsupported".to_owned(), range);
        let _ = writeln!(out, "| {} | {} | {here} | {kafka} |", key.code(), key.name());
    }
    out.push_str("\n## Known differences\n\n| Where | Here | Kafka | Because |\n|---|---|---|---|\n");
    for Difference { subject, here, kafka, why } in DIFFERENCES {
        let _ = writeln!(out, "| {subject} | {here} | {kafka} | {why} |");
    }
    out.push_str(CLIENTS);
    out
}

fn absent(key: ApiKey) -> Option<Absent> {
    ABSENT.iter().find(|(keys, _)| keys.contains(&key)).map(|(_, why)| *why)
}

fn range((first, last): (i16, i16)) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ROWS;

    #[test]
    fn the_committed_file_is_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == markdown(), "run: cargo run -- compatibility > docs/compatibility.md");
    }

    #[test]
    fn what_is_served_has_kafkas_versions() {
        for row in ROWS {
            let kafkas = KAFKA.iter().find(|offered| offered.key == row.key).unwrap_or_else(|| panic!("{:?}", row.key));
            assert!(kafkas.versions.is_none_or(|versions| versions == row.versions), "{:?}", row.key);
        }
    }

    #[test]
    fn every_api_of_kafka_is_served_or_absent_for_a_reason() {
        let unexplained: Vec<_> = KAFKA
            .iter()
            .map(|offered| offered.key)
            .filter(|key| row(*key).is_none() && absent(*key).is_none())
            .collect();
        assert_eq!(unexplained, []);
    }
}
