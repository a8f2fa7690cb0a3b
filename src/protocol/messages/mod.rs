//! Messages read and written by hand: where the crate `kafka-protocol` would allocate on the hot path, and versions that
//! it lacks. All other messages are the crate's.

pub mod describe_log_dirs;
pub mod fetch;
pub mod offset_commit;
pub mod offset_fetch;
pub mod produce;
pub mod share;
pub mod streams;
pub mod write_txn_markers;

use bytes::BufMut;
use uuid::Uuid;

use super::put::Put;

/// The leader that an answer tells the client to use (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentLeader {
    /// Its broker id.
    pub id: i32,
    /// Its epoch.
    pub epoch: i32,
}

/// Where a leader that an answer names can be reached (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    /// Broker id.
    pub id: i32,
    /// Advertised host.
    pub host: &'a str,
    /// Advertised port.
    pub port: i32,
    /// Rack, if it has one.
    pub rack: Option<&'a str>,
}

impl CurrentLeader {
    /// Bytes of the structure, its empty tags included.
    const BYTES: usize = 9;

    fn put<B: BufMut>(self, put: &mut Put<'_, B>, tag: u32) {
        put.tag(tag, Self::BYTES);
        put.out.put_i32(self.id);
        put.out.put_i32(self.epoch);
        put.tags(0);
    }
}

/// A topic as a response names it: by name, or by id from some version on.
fn put_topic<B: BufMut>(put: &mut Put<'_, B>, by_id: bool, name: &str, id: Uuid) {
    if by_id { put.uuid(id) } else { put.string(name) }
}

/// The top-level tags of a Produce or Fetch answer: the endpoints of the leaders named in it, left out when there are none.
fn put_endpoints<B: BufMut>(put: &mut Put<'_, B>, endpoints: &[NodeEndpoint<'_>]) {
    if endpoints.is_empty() {
        return put.tags(0);
    }
    put.tags(1);
    let mut field = Vec::new();
    let mut inner = Put { out: &mut field, flexible: true };
    inner.len(Some(endpoints.len()));
    for endpoint in endpoints {
        inner.out.put_i32(endpoint.id);
        inner.string(endpoint.host);
        inner.out.put_i32(endpoint.port);
        inner.nullable_string(endpoint.rack);
        inner.tags(0);
    }
    put.tag(0, field.len());
    put.out.put_slice(&field);
}
