//! Transactions of a redrive: the records that go back and the offsets that say so, all or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, FindCoordinatorResponse,
    GroupId, InitProducerIdRequest, ProduceRequest, ProduceResponse, ProducerId, TopicName, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use terrace_tiering::platform::crash_point::{self, CrashPoint};

use super::connection::Connection;
use super::moved::Moved;
use crate::cli::Failure;
use crate::protocol::batch_builder::BatchBuilder;

const TIMEOUT_MS: i32 = 60_000;
/// Kinds of coordinators.
pub(super) const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// Of one batch, unless a record is larger.
const BATCH_BYTES: usize = 64 << 10;

/// A record that goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) timestamp: i64,
}

/// Records by the topic and partition that they go to.
pub(super) type Batches = BTreeMap<(Arc<str>, i32), Vec<Back>>;

/// Sends records in transactions, under a name of which there is one: an older one that was killed is aborted, one that
/// still runs is fenced.
pub(super) struct Sender {
    name: String,
    producer_id: ProducerId,
    producer_epoch: i16,
    sequences: BTreeMap<(Arc<str>, i32), i32>,
}

impl Sender {
    pub(super) fn begin(connection: &mut Connection, name: &str) -> Result<Self, Failure> {
        find(connection, name, TRANSACTION)?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(name)))
            .with_transaction_timeout_ms(TIMEOUT_MS)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = connection.settled(4, &request, "transaction", |answer| answer.error_code)?;
        let (producer_id, producer_epoch) = (answer.producer_id, answer.producer_epoch);
        Ok(Self { name: name.to_owned(), producer_id, producer_epoch, sequences: BTreeMap::new() })
    }

    /// One transaction: `batches` go back, and `moved` is what went back of a partition of the dead letters.
    pub(super) fn send(
        &mut self,
        connection: &mut Connection,
        batches: &Batches,
        (topic, partition, moved, text): (&str, i32, &Moved, &str),
    ) -> Result<(), Failure> {
        for (to, records) in batches {
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(transactional_id(&self.name))
                .with_v3_and_below_producer_id(self.producer_id)
                .with_v3_and_below_producer_epoch(self.producer_epoch)
                .with_v3_and_below_topics(vec![
                    AddPartitionsToTxnTopic::default().with_name(topic_name(&to.0)).with_partitions(vec![to.1]),
                ]);
            connection.settled(3, &request, &to.0, |answer| {
                let results = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
                results.map(|one| one.partition_error_code).find(|code| *code != 0).unwrap_or(0)
            })?;
            self.produce(connection, to, records)?;
        }
        let group = GroupId(StrBytes::from_string(self.name.clone()));
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id(&self.name))
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.producer_epoch)
            .with_group_id(group.clone());
        connection.settled(3, &request, &self.name, |answer| answer.error_code)?;
        let offset = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(moved.below)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::from_string(text.to_owned())));
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id(&self.name))
            .with_group_id(group)
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.producer_epoch)
            .with_generation_id(-1)
            .with_topics(vec![
                TxnOffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![offset]),
            ]);
        connection.settled(3, &request, &self.name, |answer| {
            let results = answer.topics.iter().flat_map(|topic| &topic.partitions);
            results.map(|one| one.error_code).find(|code| *code != 0).unwrap_or(0)
        })?;
        crash_point::reach(CrashPoint::RedriveBeforeCommit);
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&self.name))
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.producer_epoch)
            .with_committed(true);
        connection.settled(3, &request, &self.name, |answer| answer.error_code).map(|_| ())
    }

    /// In batches that any topic takes whose records they were.
    fn produce(&mut self, connection: &mut Connection, to: &(Arc<str>, i32), records: &[Back]) -> Result<(), Failure> {
        let mut rest = records;
        while !rest.is_empty() {
            let sequence = self.sequences.entry(to.clone()).or_insert(0);
            let mut builder =
                BatchBuilder::new(0).with_producer(self.producer_id.0, self.producer_epoch, *sequence).transactional();
            while let Some((record, behind)) = rest.split_first()
                && (builder.count() == 0 || builder.size_bytes() + record.size() < BATCH_BYTES)
            {
                let headers: Vec<_> =
                    record.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
                let (delta, key, value) = (builder.count(), record.key.as_deref(), record.value.as_deref());
                builder.push(delta, record.timestamp, key, value, headers.into_iter());
                rest = behind;
            }
            *sequence = sequence.wrapping_add(builder.count()) & i32::MAX;
            let data = PartitionProduceData::default().with_index(to.1).with_records(Some(builder.finish().into()));
            let topic = TopicProduceData::default().with_name(topic_name(&to.0)).with_partition_data(vec![data]);
            let request = ProduceRequest::default()
                .with_transactional_id(Some(transactional_id(&self.name)))
                .with_acks(-1)
                .with_timeout_ms(TIMEOUT_MS)
                .with_topic_data(vec![topic]);
            let code = |answer: &ProduceResponse| {
                let results = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
                results.map(|one| one.error_code).find(|code| *code != 0).unwrap_or(0)
            };
            connection.settled(9, &request, &to.0, code)?;
        }
        Ok(())
    }
}

impl Back {
    /// Bytes of it, at most.
    pub(super) fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + of(value) + 10).sum();
        of(&self.key) + of(&self.value) + headers + 40
    }
}

/// Makes sure that there is a coordinator of this kind.
pub(super) fn find(connection: &mut Connection, name: &str, kind: i8) -> Result<(), Failure> {
    let request = FindCoordinatorRequest::default()
        .with_key_type(kind)
        .with_coordinator_keys(vec![StrBytes::from_string(name.to_owned())]);
    let code =
        |answer: &FindCoordinatorResponse| answer.coordinators.first().map_or(answer.error_code, |one| one.error_code);
    connection.settled(4, &request, name, code).map(|_| ())
}

fn transactional_id(name: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(name.to_owned()))
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
