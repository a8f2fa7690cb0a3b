//! The Kafka API: one table of what is served, one file per API.
//!
//! A row names the API, the versions we serve and its handler; what is not in the table is not advertised and a request
//! for it closes the connection, as in Kafka. A handler gets the node, the call and the decoded request, and gives back
//! the response; protocol errors are part of the response, and [`Disconnect`] is the only other way out.
//!
//! Produce and Fetch have rows like all others but own readers and writers over the frame, without owned structs.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable};

pub mod init_producer_id;
pub mod node;

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
    /// Name of the listener it came in by: Metadata and FindCoordinator answer with that listener's address.
    pub listener: Arc<str>,
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

/// A row whose handler is `async fn(&Node, &Call, Request) -> Result<Response, Disconnect>`.
macro_rules! owned {
    ($key:ident, $first:literal ..= $last:literal, $handler:path) => {
        Row {
            key: ApiKey::$key,
            versions: ($first, $last),
            handler: Handler::Owned(|node, call, body| {
                Box::pin(async move {
                    let request = decode(&call, body)?;
                    let response = $handler(&node, &call, request).await?;
                    encode(&call, &response)
                })
            }),
        }
    };
}

/// All APIs that are served, by key. Versions are those of Apache Kafka 4.3.1.
pub static ROWS: &[Row] = &[
    Row { key: ApiKey::Produce, versions: (0, 13), handler: Handler::Produce },
    Row { key: ApiKey::Fetch, versions: (4, 18), handler: Handler::Fetch },
    owned!(InitProducerId, 0..=5, init_producer_id::handle),
];

/// The row that serves `key`.
pub fn row(key: i16) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key as i16 == key)
}

/// Reads a request body that has passed the shape check.
pub fn decode<Q: Decodable>(call: &Call, mut body: Bytes) -> Result<Q, Disconnect> {
    Q::decode(&mut body, call.version).map_err(|error| Disconnect::Malformed(error.to_string()))
}

/// Writes size, response header and body.
pub fn encode<R: Encodable>(call: &Call, response: &R) -> Result<Frame, Disconnect> {
    let flexible_header = call.key.response_header_version(call.version) >= 1;
    let body = response.compute_size(call.version).map_err(|error| Disconnect::Encode(error.to_string()))?;
    let mut frame = BytesMut::with_capacity(4 + 5 + body);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&call.correlation_id.to_be_bytes());
    if flexible_header {
        frame.extend_from_slice(&[0]);
    }
    response.encode(&mut frame, call.version).map_err(|error| Disconnect::Encode(error.to_string()))?;
    let size = i32::try_from(frame.len() - 4).map_err(|error| Disconnect::Encode(error.to_string()))?;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    Ok(frame.freeze())
}
