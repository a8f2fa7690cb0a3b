//! The Kafka API: one table of what is served, one file per API.
//!
//! A row names the API, the versions we serve and its handler; what is not in the table is not advertised and a request
//! for it closes the connection, as in Kafka. A handler gets the node, the call and the decoded request, and gives back
//! the response; protocol errors are part of the response, and [`Disconnect`] is the only other way out.
//!
//! Produce and Fetch have rows like all others but own readers and writers over the frame, without owned structs.

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::protocol::api_key::ApiKey;
use crate::protocol::frame::FrameStart;
use crate::protocol::header::{RequestHeader, put_response_header};
use crate::protocol::shape;

mod add_offsets_to_txn;
mod add_partitions_to_txn;
pub mod alter_client_quotas;
mod alter_config;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
mod alter_share_group_offsets;
pub mod answer;
pub mod api_versions;
mod assignment;
mod by_topic;
mod change;
mod client_quotas;
pub mod compatibility;
mod config_resource;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
mod delete_share_group_offsets;
pub mod delete_topics;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
mod describe_share_group_offsets;
pub mod describe_topic_partitions;
mod describe_transactions;
pub mod elect_leaders;
mod end_txn;
pub mod fetch;
pub mod fetch_sessions;
pub mod find_coordinator;
pub mod get_telemetry_subscriptions;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
mod list_transactions;
mod loggers;
pub mod metadata;
pub mod node;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod produce_transactions;
pub mod push_telemetry;
mod share_acknowledge;
mod share_acknowledgements;
mod share_fetch;
mod share_group_describe;
mod share_group_heartbeat;
mod share_states;
pub mod streams_group_describe;
mod streams_group_heartbeat;
mod sync_group;
pub mod text;
pub mod topic_creation;
mod txn_offset_commit;
pub mod unregister_broker;
pub mod update_features;
pub mod write_txn_markers;

pub use node::Node;

/// Ends the connection without an answer, as Kafka does for requests it cannot parse. Logged once, by the connection.
#[derive(Debug, thiserror::Error)]
pub enum Disconnect {
    /// The request has no legal reading.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// An API or version that is not served.
    #[error("api key {key} version {version} is not served")]
    Unsupported {
        /// The request's api key.
        key: i16,
        /// The request's version.
        version: i16,
    },
    /// A Produce with acks=0 failed: closing is the only way to say so.
    #[error("produce without acknowledgement failed: {0}")]
    Unacknowledged(&'static str),
    /// A response of ours that cannot be encoded at the request's version.
    #[error("response does not encode: {0}")]
    Encode(String),
}

/// One request on its way: who asks, what for, and how the answer is written.
#[derive(Debug, Clone)]
pub struct Call {
    /// The API.
    pub key: ApiKey,
    /// Version of request and response.
    pub version: i16,
    /// Comes back in the response header.
    pub correlation_id: i32,
    /// As the client calls itself in the request header.
    pub client_id: Option<Arc<str>>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The client's library, once it has told ApiVersions.
    pub software: Arc<OnceLock<Software>>,
    /// Name of the listener it came in by: Metadata and FindCoordinator answer with that listener's address.
    pub listener: Arc<str>,
}

/// A client's library, as it calls itself (KIP-511).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Its name.
    pub name: Box<str>,
    /// Its version.
    pub version: Box<str>,
}

/// What every answer needs of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The API.
    pub key: ApiKey,
    /// Version of request and response.
    pub version: i16,
    /// Comes back in the response header.
    pub correlation_id: i32,
}

/// A response in full, size and header included, as it goes out.
pub type Frame = Bytes;

/// What a handler on owned structs gives back to the connection.
pub type Answer = Pin<Box<dyn Future<Output = Result<Frame, Disconnect>> + Send>>;

/// How a request of a row is served.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Read in place, appended in request order; only its waiting overlaps with a following Produce.
    Produce,
    /// Read in place; the answer is a list of byte pieces and file ranges.
    Fetch,
    /// On the structs of `kafka-protocol` (or ours where it lacks a version). Serial.
    Owned(fn(Arc<Node>, Call, Bytes) -> Answer),
}

/// One API that is served.
#[derive(Clone, Copy)]
pub struct Row {
    /// The API.
    pub key: ApiKey,
    /// First and last version.
    pub versions: (i16, i16),
    /// What serves it.
    pub handler: Handler,
}

impl Row {
    /// The versions as a range.
    pub fn versions(&self) -> RangeInclusive<i16> {
        self.versions.0..=self.versions.1
    }
}

/// A row whose handler is `async fn(&Node, &Call, Request) -> Result<Response, Disconnect>`. With `as N` newer versions
/// have the bytes of version N, the newest that the crate knows.
macro_rules! owned {
    ($key:ident, $first:literal ..= $last:literal, $handler:path) => {
        owned!($key, $first..=$last, $handler, as $last)
    };
    ($key:ident, $first:literal ..= $last:literal, $handler:path, as $newest:literal) => {
        Row {
            key: ApiKey::$key,
            versions: ($first, $last),
            handler: Handler::Owned(|node, call, body| {
                Box::pin(async move {
                    let version = call.version.min($newest);
                    let request = decode(version, body)?;
                    let response = $handler(&node, &call, request).await?;
                    encode(&call, version, &response)
                })
            }),
        }
    };
}

/// All APIs that are served, by key. Versions are those of Apache Kafka 4.3.1.
pub static ROWS: &[Row] = &[
    Row { key: ApiKey::Produce, versions: (0, 13), handler: Handler::Produce },
    Row { key: ApiKey::Fetch, versions: (4, 18), handler: Handler::Fetch },
    owned!(ListOffsets, 1..=11, list_offsets::handle, as 10),
    owned!(Metadata, 0..=13, metadata::handle),
    Row {
        key: ApiKey::OffsetCommit,
        versions: (2, 10),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { offset_commit::serve(&node, &call, body).await })
        }),
    },
    Row {
        key: ApiKey::OffsetFetch,
        versions: (1, 10),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { offset_fetch::serve(&node, &call, body).await })
        }),
    },
    owned!(FindCoordinator, 0..=6, find_coordinator::handle),
    owned!(JoinGroup, 0..=9, join_group::handle),
    owned!(Heartbeat, 0..=4, heartbeat::handle),
    owned!(LeaveGroup, 0..=5, leave_group::handle),
    owned!(SyncGroup, 0..=5, sync_group::handle),
    owned!(DescribeGroups, 0..=6, describe_groups::handle),
    owned!(ListGroups, 0..=5, list_groups::handle),
    owned!(ApiVersions, 0..=4, api_versions::handle),
    owned!(CreateTopics, 2..=7, create_topics::handle),
    owned!(DeleteTopics, 1..=6, delete_topics::handle),
    owned!(DeleteRecords, 0..=2, delete_records::handle),
    owned!(InitProducerId, 0..=5, init_producer_id::handle),
    owned!(OffsetForLeaderEpoch, 2..=4, offset_for_leader_epoch::handle),
    owned!(AddPartitionsToTxn, 0..=5, add_partitions_to_txn::handle),
    owned!(AddOffsetsToTxn, 0..=4, add_offsets_to_txn::handle),
    owned!(EndTxn, 0..=5, end_txn::handle),
    Row {
        key: ApiKey::WriteTxnMarkers,
        versions: (1, 2),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { write_txn_markers::serve(&node, &call, body).await })
        }),
    },
    owned!(TxnOffsetCommit, 0..=5, txn_offset_commit::handle),
    owned!(DescribeConfigs, 1..=4, describe_configs::handle),
    owned!(AlterConfigs, 0..=2, alter_configs::handle),
    owned!(AlterReplicaLogDirs, 1..=2, alter_replica_log_dirs::handle),
    Row {
        key: ApiKey::DescribeLogDirs,
        versions: (1, 5),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { describe_log_dirs::serve(&node, &call, body).await })
        }),
    },
    owned!(CreatePartitions, 0..=3, create_partitions::handle),
    owned!(DeleteGroups, 0..=2, delete_groups::handle),
    owned!(ElectLeaders, 0..=2, elect_leaders::handle),
    owned!(IncrementalAlterConfigs, 0..=1, incremental_alter_configs::handle),
    owned!(AlterPartitionReassignments, 0..=1, alter_partition_reassignments::handle),
    owned!(ListPartitionReassignments, 0..=0, list_partition_reassignments::handle),
    owned!(OffsetDelete, 0..=0, offset_delete::handle),
    owned!(DescribeClientQuotas, 0..=1, describe_client_quotas::handle),
    owned!(AlterClientQuotas, 0..=1, alter_client_quotas::handle),
    owned!(DescribeQuorum, 0..=2, describe_quorum::handle),
    owned!(UpdateFeatures, 0..=2, update_features::handle),
    owned!(DescribeCluster, 0..=2, describe_cluster::handle),
    owned!(DescribeProducers, 0..=0, describe_producers::handle),
    owned!(UnregisterBroker, 0..=0, unregister_broker::handle),
    owned!(ConsumerGroupHeartbeat, 0..=1, consumer_group_heartbeat::handle),
    owned!(ConsumerGroupDescribe, 0..=1, consumer_group_describe::handle),
    owned!(GetTelemetrySubscriptions, 0..=0, get_telemetry_subscriptions::handle),
    owned!(PushTelemetry, 0..=0, push_telemetry::handle),
    owned!(ListConfigResources, 0..=1, list_config_resources::handle),
    owned!(DescribeTransactions, 0..=0, describe_transactions::handle),
    owned!(ListTransactions, 0..=2, list_transactions::handle),
    owned!(DescribeTopicPartitions, 0..=0, describe_topic_partitions::handle),
    Row {
        key: ApiKey::StreamsGroupHeartbeat,
        versions: (0, 0),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { streams_group_heartbeat::serve(&node, &call, body).await })
        }),
    },
    Row {
        key: ApiKey::StreamsGroupDescribe,
        versions: (0, 0),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { streams_group_describe::serve(&node, &call, body).await })
        }),
    },
    Row {
        key: ApiKey::DescribeShareGroupOffsets,
        versions: (0, 1),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { describe_share_group_offsets::serve(&node, &call, body).await })
        }),
    },
    owned!(AlterShareGroupOffsets, 0..=0, alter_share_group_offsets::handle),
    owned!(DeleteShareGroupOffsets, 0..=0, delete_share_group_offsets::handle),
    owned!(ShareGroupHeartbeat, 1..=1, share_group_heartbeat::handle),
    owned!(ShareGroupDescribe, 1..=1, share_group_describe::handle),
    Row {
        key: ApiKey::ShareFetch,
        versions: (1, 2),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { share_fetch::serve(&node, &call, body).await })
        }),
    },
    Row {
        key: ApiKey::ShareAcknowledge,
        versions: (1, 2),
        handler: Handler::Owned(|node, call, body| {
            Box::pin(async move { share_acknowledge::serve(&node, &call, body).await })
        }),
    },
];

/// The row that serves `key`.
pub fn row(key: ApiKey) -> Option<&'static Row> {
    // A table by number, so that the hot path doesn't search.
    const KEYS: usize = 128;
    static BY_KEY: LazyLock<[Option<&'static Row>; KEYS]> = LazyLock::new(|| {
        let mut rows = [None; KEYS];
        for row in ROWS {
            rows[row.key.code() as usize] = Some(row);
        }
        rows
    });
    *BY_KEY.get(usize::try_from(key.code()).ok()?)?
}

/// Array elements of one request: each costs some hundred bytes once it is decoded.
const ELEMENTS_MAX: usize = 1 << 20;
/// What one element is charged with.
const ELEMENT_BYTES: usize = 256;
/// Kafka lets this client alone write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

/// Where a request goes.
pub enum Routed {
    /// Answered by the table alone.
    Answered(Frame),
    /// To its handler.
    To {
        /// How it is served.
        handler: Handler,
        /// What the answer needs.
        line: Line,
        /// Where in the frame the body begins.
        body: usize,
        /// Memory that its decoded form takes, about.
        decoded_bytes: usize,
        /// Sent by Kafka's internal admin client?
        admin_client: bool,
    },
}

/// Reads the header of `frame`, finds the row and checks the shape of the body.
pub fn route(frame: &[u8]) -> Result<Routed, Disconnect> {
    let (header, body) = RequestHeader::parse(frame).map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let line = Line { key: header.api_key, version: header.version, correlation_id: header.correlation_id };
    let unsupported = Disconnect::Unsupported { key: line.key.code(), version: line.version };
    let row = row(line.key).ok_or(Disconnect::Unsupported { key: line.key.code(), version: line.version })?;
    if !row.versions().contains(&line.version) {
        return match line.key {
            ApiKey::ApiVersions => api_versions::unsupported_version(line).map(Routed::Answered),
            _ => Err(unsupported),
        };
    }
    let mut decoded_bytes = 0;
    if let Handler::Owned(_) = row.handler {
        let shape = shape::check(line.key, line.version, &frame[body..])
            .map_err(|error| Disconnect::Malformed(error.to_string()))?;
        if shape.elements > ELEMENTS_MAX {
            return Err(Disconnect::Malformed(format!("{} elements are too many", shape.elements)));
        }
        decoded_bytes = shape.elements * ELEMENT_BYTES;
    }
    let admin_client = header.client_id.as_deref() == Some(ADMIN_CLIENT);
    Ok(Routed::To { handler: row.handler, line, body, decoded_bytes, admin_client })
}

/// The client id of a frame that was routed.
pub fn client_id(frame: &[u8]) -> Option<Cow<'_, str>> {
    RequestHeader::parse(frame).ok()?.0.client_id
}

/// Reads a request body that has passed the shape check.
pub fn decode<Q: Decodable>(version: i16, mut body: Bytes) -> Result<Q, Disconnect> {
    Q::decode(&mut body, version).map_err(|error| Disconnect::Malformed(error.to_string()))
}

/// Writes size, response header and body; the body at `version`, which can be older than the call's.
pub fn encode<R: Encodable>(call: &Call, version: i16, response: &R) -> Result<Frame, Disconnect> {
    encode_line(Line { key: call.key, version: call.version, correlation_id: call.correlation_id }, version, response)
}

/// The same for a request of which only the header is known.
pub fn encode_line<R: Encodable>(line: Line, version: i16, response: &R) -> Result<Frame, Disconnect> {
    let body = response.compute_size(version).map_err(|error| Disconnect::Encode(error.to_string()))?;
    let mut out = BytesMut::with_capacity(16 + body);
    let frame = FrameStart::new(&mut out);
    put_response_header(&mut out, line.key, line.version, line.correlation_id);
    response.encode(&mut out, version).map_err(|error| Disconnect::Encode(error.to_string()))?;
    frame.finish(&mut out, 0);
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn no_api_is_served_twice() {
        let mut keys: Vec<_> = ROWS.iter().map(|row| row.key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), ROWS.len());
        assert!(ROWS.iter().all(|found| row(found.key).is_some_and(|row| row.versions == found.versions)));
    }

    // What Apache Kafka 4.3.1 advertises.
    #[rstest]
    #[case(ApiKey::Produce, 0, 13)]
    #[case(ApiKey::Fetch, 4, 18)]
    #[case(ApiKey::ListOffsets, 1, 11)]
    #[case(ApiKey::Metadata, 0, 13)]
    #[case(ApiKey::ApiVersions, 0, 4)]
    #[case(ApiKey::InitProducerId, 0, 5)]
    #[case(ApiKey::OffsetForLeaderEpoch, 2, 4)]
    fn versions_are_kafkas(#[case] key: ApiKey, #[case] first: i16, #[case] last: i16) {
        assert_eq!(row(key).map(|row| row.versions), Some((first, last)));
    }

    #[test]
    fn an_api_that_is_not_in_the_table_ends_the_connection() {
        let frame = [&ApiKey::DescribeAcls.code().to_be_bytes()[..], &[0, 0, 0, 0, 0, 1, 0, 0]].concat();
        assert!(matches!(route(&frame), Err(Disconnect::Unsupported { key: 29, version: 0 })));
    }
}
