//! The WriteTxnMarkers request, v1 and v2: the crate ends at v1, v2 names the transaction version by which a marker is
//! fenced (KIP-1228). The answer is the crate's at v1.

use std::ops::RangeInclusive;

use crate::protocol::api_key::ApiKey;
use crate::protocol::cursor::{Cursor, ReadError};

/// Versions read here.
pub const VERSIONS: RangeInclusive<i16> = 1..=2;
const TRANSACTION_VERSION_FROM: i16 = 2;

/// Markers for partitions of this broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteTxnMarkersRequest {
    /// One for each transaction.
    pub markers: Vec<WritableTxnMarker>,
}

/// The end of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritableTxnMarker {
    /// Whose.
    pub producer_id: i64,
    /// The epoch that ends it.
    pub producer_epoch: i16,
    /// Committed, or aborted?
    pub commit: bool,
    /// Where it wrote: topics by name, and partitions.
    pub topics: Vec<(String, Vec<i32>)>,
    /// Epoch of the coordinator.
    pub coordinator_epoch: i32,
    /// From v2; 0 before.
    pub transaction_version: i8,
}

impl WriteTxnMarkersRequest {
    /// Reads a request body.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, ReadError> {
        if !VERSIONS.contains(&version) {
            return Err(ReadError::Version(version));
        }
        let mut fields = Cursor::new(body, ApiKey::WriteTxnMarkers.is_flexible(version));
        let mut markers = Vec::new();
        for _ in 0..fields.array(1)?.ok_or(ReadError::Null)? {
            let (producer_id, producer_epoch, commit) = (fields.i64()?, fields.i16()?, fields.i8()? != 0);
            let mut topics = Vec::new();
            for _ in 0..fields.array(1)?.ok_or(ReadError::Null)? {
                let name = fields.string()?.to_owned();
                let mut partitions = Vec::new();
                for _ in 0..fields.array(4)?.ok_or(ReadError::Null)? {
                    partitions.push(fields.i32()?);
                }
                fields.skip_tags()?;
                topics.push((name, partitions));
            }
            let coordinator_epoch = fields.i32()?;
            let transaction_version = if version >= TRANSACTION_VERSION_FROM { fields.i8()? } else { 0 };
            fields.skip_tags()?;
            let marker = WritableTxnMarker {
                producer_id,
                producer_epoch,
                commit,
                topics,
                coordinator_epoch,
                transaction_version,
            };
            markers.push(marker);
        }
        fields.skip_tags()?;
        Ok(Self { markers })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::write_txn_markers_request as crate_messages;
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    fn of_the_crate(ours: &WriteTxnMarkersRequest) -> crate_messages::WriteTxnMarkersRequest {
        let markers = ours.markers.iter().map(|marker| {
            let topics = marker.topics.iter().map(|(name, partitions)| {
                crate_messages::WritableTxnMarkerTopic::default()
                    .with_name(TopicName(StrBytes::from_string(name.clone())))
                    .with_partition_indexes(partitions.clone())
            });
            crate_messages::WritableTxnMarker::default()
                .with_producer_id(marker.producer_id.into())
                .with_producer_epoch(marker.producer_epoch)
                .with_transaction_result(marker.commit)
                .with_coordinator_epoch(marker.coordinator_epoch)
                .with_topics(topics.collect())
        });
        crate_messages::WriteTxnMarkersRequest::default().with_markers(markers.collect())
    }

    fn requests() -> impl Strategy<Value = WriteTxnMarkersRequest> {
        let topics = prop::collection::vec(("[a-z]{0,9}", prop::collection::vec(any::<i32>(), 0..4)), 0..3);
        let marker = (any::<i64>(), any::<i16>(), any::<bool>(), topics, any::<i32>()).prop_map(
            |(producer_id, producer_epoch, commit, topics, coordinator_epoch)| WritableTxnMarker {
                producer_id,
                producer_epoch,
                commit,
                topics,
                coordinator_epoch,
                transaction_version: 0,
            },
        );
        prop::collection::vec(marker, 0..4).prop_map(|markers| WriteTxnMarkersRequest { markers })
    }

    proptest! {
        #[test]
        fn version_1_is_the_crates(request in requests()) {
            let mut bytes = BytesMut::new();
            of_the_crate(&request).encode(&mut bytes, 1).expect("encodes");
            prop_assert_eq!(WriteTxnMarkersRequest::decode(1, &bytes), Ok(request));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), version in 0..4i16) {
            let _ = WriteTxnMarkersRequest::decode(version, &bytes);
        }
    }

    /// Bytes written by `WriteTxnMarkersRequestData` of Kafka 4.3.1.
    #[test]
    fn version_2_names_the_transaction_version() {
        let bytes = b"\x02\0\0\0\0\0\0\0\x07\0\x03\x01\x02\x02t\x02\0\0\0\x05\0\0\0\0\x09\x02\0\0";
        let marker = WritableTxnMarker {
            producer_id: 7,
            producer_epoch: 3,
            commit: true,
            topics: vec![("t".to_owned(), vec![5])],
            coordinator_epoch: 9,
            transaction_version: 2,
        };
        assert_eq!(WriteTxnMarkersRequest::decode(2, bytes), Ok(WriteTxnMarkersRequest { markers: vec![marker] }));
    }
}
