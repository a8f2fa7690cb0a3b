//! The records of `__transaction_state` in Kafka's format: TransactionLogKey and TransactionLogValue, each behind its
//! version (i16).
//!
//! The value is written at version 1 (flexible) when `transaction.version` is at least 1, at version 0 before; both are
//! read. Tagged fields: 0 previous producer id, 1 next producer id, 2 the client's transaction version.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BufMut;

use super::state::{NO_PRODUCER_ID, State, TopicPartition, Transaction};
use crate::coordinator::Encoded;
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

const KEY_TRANSACTION: i16 = 0;
/// From here on the value has compact lengths and tags.
const FLEXIBLE_FROM: i16 = 1;
const TAG_PREVIOUS_PRODUCER_ID: u32 = 0;
const TAG_NEXT_PRODUCER_ID: u32 = 1;
const TAG_CLIENT_VERSION: u32 = 2;

/// A record, read. A missing value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// What a transactional id has become, or its end.
    Transaction(Arc<str>, Option<Transaction>),
    /// Of a type we do not know; stays in the log.
    Unknown {
        /// The type in front of the key.
        key_type: i16,
    },
}

/// Why a record makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not what the version says.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A state that is never written.
    #[error("state {0} is never written")]
    State(i8),
}

/// Reads a record of any version; the bytes may be anybody's.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Record, RecordError> {
    let mut key = Cursor::new(key, false);
    match key.i16()? {
        KEY_TRANSACTION => Ok(Record::Transaction(key.string()?.into(), value.map(decode_transaction).transpose()?)),
        key_type => Ok(Record::Unknown { key_type }),
    }
}

fn decode_transaction(value: &[u8]) -> Result<Transaction, RecordError> {
    let version = Cursor::new(value, false).i16()?;
    if !(0..=FLEXIBLE_FROM).contains(&version) {
        return Err(ReadError::Version(version).into());
    }
    let mut value = Cursor::new(value, version >= FLEXIBLE_FROM);
    value.i16()?;
    let (producer_id, epoch, timeout_ms) = (value.i64()?, value.i16()?, value.i32()?);
    let state = value.i8()?;
    let mut partitions = BTreeSet::new();
    for _ in 0..value.array(2)?.unwrap_or(0) {
        let topic: Arc<str> = value.string()?.into();
        for _ in 0..value.array(4)?.ok_or(ReadError::Null)? {
            partitions.insert(TopicPartition { topic: Arc::clone(&topic), partition: value.i32()? });
        }
        value.skip_tags()?;
    }
    let mut transaction = Transaction {
        producer_id,
        previous_producer_id: NO_PRODUCER_ID,
        next_producer_id: NO_PRODUCER_ID,
        epoch,
        timeout_ms,
        state: State::from_id(state).ok_or(RecordError::State(state))?,
        partitions,
        last_update_ms: value.i64()?,
        start_ms: value.i64()?,
        client_version: 0,
    };
    value.tags(|tag, mut field| {
        match tag {
            TAG_PREVIOUS_PRODUCER_ID => transaction.previous_producer_id = field.i64()?,
            TAG_NEXT_PRODUCER_ID => transaction.next_producer_id = field.i64()?,
            TAG_CLIENT_VERSION => transaction.client_version = field.i16()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(transaction)
}

/// Writes a record as Kafka 4.3.1 does at this level of `transaction.version`; `None` is a tombstone.
pub fn encode(transactional_id: &str, transaction: Option<&Transaction>, server_version: i16) -> Encoded {
    let mut key = Vec::with_capacity(4 + transactional_id.len());
    key.put_i16(KEY_TRANSACTION);
    Put { out: &mut key, flexible: false }.string(transactional_id);
    Encoded { key, value: transaction.map(|transaction| encode_transaction(transaction, server_version)) }
}

fn encode_transaction(transaction: &Transaction, server_version: i16) -> Vec<u8> {
    let flexible = server_version >= FLEXIBLE_FROM;
    let mut out = Vec::with_capacity(64 + 32 * transaction.partitions.len());
    out.put_i16(i16::from(flexible));
    out.put_i64(transaction.producer_id);
    out.put_i16(transaction.epoch);
    out.put_i32(transaction.timeout_ms);
    out.put_i8(transaction.state as i8);
    let mut put = Put { out: &mut out, flexible };
    if transaction.state == State::Empty {
        put.len(None);
    } else {
        put_partitions(&mut put, &transaction.partitions);
    }
    out.put_i64(transaction.last_update_ms);
    out.put_i64(transaction.start_ms);
    if flexible {
        put_tags(&mut out, transaction);
    }
    out
}

/// By topic; the set is sorted, so that a topic's partitions lie side by side.
fn put_partitions(put: &mut Put<'_, Vec<u8>>, partitions: &BTreeSet<TopicPartition>) {
    let partitions: Vec<_> = partitions.iter().collect();
    let topics: Vec<_> = partitions.chunk_by(|a, b| a.topic == b.topic).collect();
    put.len(Some(topics.len()));
    for topic in topics {
        put.string(&topic[0].topic);
        put.len(Some(topic.len()));
        topic.iter().for_each(|of| put.out.put_i32(of.partition));
        put.tags(0);
    }
}

/// Fields with their default are left out.
fn put_tags(out: &mut Vec<u8>, transaction: &Transaction) {
    let ids = [
        (TAG_PREVIOUS_PRODUCER_ID, transaction.previous_producer_id),
        (TAG_NEXT_PRODUCER_ID, transaction.next_producer_id),
    ];
    let ids = ids.into_iter().filter(|(_, id)| *id != NO_PRODUCER_ID);
    let named_version = transaction.client_version != 0;
    let mut put = Put { out, flexible: true };
    put.tags(ids.clone().count() as u32 + u32::from(named_version));
    for (tag, id) in ids {
        put.tag(tag, 8);
        put.out.put_i64(id);
    }
    if named_version {
        put.tag(TAG_CLIENT_VERSION, 2);
        put.out.put_i16(transaction.client_version);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    fn ongoing() -> Transaction {
        Transaction {
            previous_producer_id: 7,
            epoch: 3,
            state: State::Ongoing,
            partitions: [partition("a", 0), partition("a", 2), partition("b", 1)].into(),
            start_ms: 11,
            client_version: 2,
            ..Transaction::new(7, 60_000, 12)
        }
    }

    #[rstest]
    #[case::empty(Transaction { epoch: 0, ..Transaction::new(1, 60_000, 5) })]
    #[case::ongoing(ongoing())]
    #[case::rolls_over(Transaction { next_producer_id: 8, state: State::PrepareCommit, ..ongoing() })]
    fn what_is_written_is_read(#[case] transaction: Transaction) {
        for server_version in 0..=2 {
            let Encoded { key, value } = encode("t", Some(&transaction), server_version);
            let read = decode(&key, value.as_deref()).unwrap();
            let mut expected = transaction.clone();
            if server_version == 0 {
                (expected.previous_producer_id, expected.next_producer_id, expected.client_version) = (-1, -1, 0);
            }
            assert_eq!(read, Record::Transaction("t".into(), Some(expected)));
        }
    }

    // Bytes of `TransactionLog.valueToBytes` and `keyToBytes` of Apache Kafka 4.3.1.
    #[test]
    fn an_ongoing_transaction_has_the_bytes_of_kafka() {
        let Encoded { key, value } = encode("t", Some(&ongoing()), 2);
        assert_eq!(key, b"\0\0\0\x01t");
        let expected: &[u8] =
            b"\0\x01\0\0\0\0\0\0\0\x07\0\x03\0\0\xea\x60\x01\x03\x02a\x03\0\0\0\0\0\0\0\x02\0\x02b\x02\0\0\0\x01\0\
            \0\0\0\0\0\0\0\x0c\0\0\0\0\0\0\0\x0b\x02\0\x08\0\0\0\0\0\0\0\x07\x02\x02\0\x02";
        assert_eq!(value.as_deref(), Some(expected));
    }

    #[test]
    fn a_tombstone_and_an_unknown_type_are_read() {
        let Encoded { key, value } = encode("t", None, 2);
        assert_eq!(decode(&key, value.as_deref()), Ok(Record::Transaction("t".into(), None)));
        assert_eq!(decode(b"\0\x05x", Some(b"y")), Ok(Record::Unknown { key_type: 5 }));
    }

    #[test]
    fn states_that_are_never_written_are_refused() {
        let Encoded { key, value } = encode("t", Some(&ongoing()), 0);
        let mut value = value.unwrap();
        value[16] = 6;
        assert_eq!(decode(&key, Some(&value)), Err(RecordError::State(6)));
        value[1] = 2;
        assert_eq!(decode(&key, Some(&value)), Err(ReadError::Version(2).into()));
    }

    proptest! {
        #[test]
        fn any_bytes_read_or_are_refused(key: Vec<u8>, value: Option<Vec<u8>>, version in 0u8..2) {
            let _ = decode(&key, value.as_deref());
            let value = value.map(|value| [&[0, version], &value[..]].concat());
            let _ = decode(b"\0\0\0\x01t", value.as_deref());
        }
    }
}
