//! What consumers put into the opaque bytes of the classic protocol (`ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`): the coordinator reads them where it must know topics, and when a group changes protocols.
//!
//! A version is the front of every later one; one that is newer than ours reads as the newest that we know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

const OWNED_FROM: i16 = 1;
const GENERATION_FROM: i16 = 2;
const RACK_FROM: i16 = 3;

/// Partitions by topic name.
pub type NamedPartitions = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// What a consumer subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    /// The version it is written in.
    pub version: i16,
    /// The topics.
    pub topics: BTreeSet<Arc<str>>,
    /// What the consumer owns; since version 1.
    pub owned: NamedPartitions,
    /// Where it runs; since version 3.
    pub rack_id: Option<Arc<str>>,
}

impl Subscription {
    /// Reads one; the bytes may be anybody's.
    pub fn decode(metadata: &[u8]) -> Result<Self, ReadError> {
        let mut metadata = Cursor::new(metadata, false);
        let version = version(&mut metadata)?;
        let topics = topics(&mut metadata)?;
        metadata.nullable_bytes()?; // the assignor's own
        let owned = if version >= OWNED_FROM { partitions(&mut metadata)? } else { NamedPartitions::new() };
        if version >= GENERATION_FROM {
            metadata.i32()?;
        }
        let rack_id = if version >= RACK_FROM { metadata.nullable_string()?.map(Arc::from) } else { None };
        Ok(Self { version, topics, owned, rack_id })
    }
}

/// The topics of a subscription whose rest need not be readable.
pub fn subscribed_topics(metadata: &[u8]) -> Result<BTreeSet<Arc<str>>, ReadError> {
    let mut metadata = Cursor::new(metadata, false);
    version(&mut metadata)?;
    topics(&mut metadata)
}

/// What a leader assigned to a consumer, and whether its assignor left a note for it. No bytes are no assignment.
pub fn decode_assignment(assignment: &[u8]) -> Result<(NamedPartitions, bool), ReadError> {
    if assignment.is_empty() {
        return Ok((NamedPartitions::new(), false));
    }
    let mut assignment = Cursor::new(assignment, false);
    version(&mut assignment)?;
    let partitions = partitions(&mut assignment)?;
    let noted = assignment.nullable_bytes()?.is_some_and(|note| !note.is_empty());
    Ok((partitions, noted))
}

/// An assignment in the version that the consumer speaks, without a note.
pub fn encode_assignment(version: i16, partitions: &NamedPartitions) -> Bytes {
    let mut out = Vec::new();
    out.put_i16(version.clamp(0, RACK_FROM));
    let mut put = Put { out: &mut out, flexible: false };
    put.len(Some(partitions.len()));
    for (topic, partitions) in partitions {
        put.string(topic);
        put.len(Some(partitions.len()));
        partitions.iter().for_each(|&partition| put.out.put_i32(partition));
    }
    put.len(None);
    out.into()
}

fn version(from: &mut Cursor<'_>) -> Result<i16, ReadError> {
    let version = from.i16()?;
    if version < 0 { Err(ReadError::Version(version)) } else { Ok(version) }
}

fn topics(from: &mut Cursor<'_>) -> Result<BTreeSet<Arc<str>>, ReadError> {
    (0..from.array(2)?.unwrap_or(0)).map(|_| from.string().map(Arc::from)).collect()
}

fn partitions(from: &mut Cursor<'_>) -> Result<NamedPartitions, ReadError> {
    let mut topics = NamedPartitions::new();
    for _ in 0..from.array(6)?.unwrap_or(0) {
        let topic = from.string()?.into();
        let partitions = (0..from.array(4)?.unwrap_or(0)).map(|_| from.i32()).collect::<Result<_, _>>()?;
        topics.insert(topic, partitions);
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Version 3: topic "t", no note, owns t-1, generation 7, rack "r".
    const SUBSCRIPTION: &[u8] =
        b"\0\x03\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x01\0\0\0\x07\0\x01r";

    #[test]
    fn a_subscription_is_read_to_its_end() {
        let read = Subscription::decode(SUBSCRIPTION).unwrap();
        let owned = NamedPartitions::from([("t".into(), [1].into())]);
        let expected = Subscription { version: 3, topics: ["t".into()].into(), owned, rack_id: Some("r".into()) };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_newer_version_reads_as_the_newest_known() {
        let mut newer = SUBSCRIPTION.to_vec();
        newer[1] = 9;
        newer.extend_from_slice(b"more");
        assert_eq!(Subscription::decode(&newer).unwrap().rack_id.as_deref(), Some("r"));
    }

    #[test]
    fn an_assignment_comes_back() {
        let partitions = NamedPartitions::from([("t".into(), [0, 2].into()), ("u".into(), [].into())]);
        assert_eq!(decode_assignment(&encode_assignment(1, &partitions)).unwrap(), (partitions, false));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error_or_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Subscription::decode(&bytes);
            let _ = decode_assignment(&bytes);
        }
    }
}
