//! Transactions that each commit the same number as the offset of several groups and write it to several partitions: all
//! of them or none must have it, and all once EndTxn was acknowledged.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, GroupId,
    InitProducerIdRequest, OffsetFetchRequest, TransactionalId, TxnOffsetCommitRequest,
};
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{text, topic_name};

use crate::workloads::{Workload, create};

const TOPIC: &str = "written";
/// In different partitions of `__consumer_offsets`.
const GROUPS: [&str; 2] = ["a", "b"];
const WITHIN: Duration = Duration::from_secs(20);

pub struct Transactions {
    producer: Option<(i64, i16)>,
    sent: i64,
    acknowledged: i64,
}

impl Transactions {
    pub fn begin(address: SocketAddr) -> Self {
        let mut client = RawClient::connect(address);
        create(&mut client, TOPIC, &[]);
        for key_type in [0, 1] {
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            client.call(4, &request.with_coordinator_keys(vec![text("x")]));
        }
        let mut transactions = Self { producer: None, sent: 0, acknowledged: 0 };
        let deadline = Instant::now() + WITHIN;
        while transactions.acknowledged == 0 {
            // The coordinators may still be loading.
            let _ = transactions.step(address);
            assert!(Instant::now() < deadline, "a transaction within 20 s");
        }
        transactions
    }

    fn one(&mut self, client: &mut RawClient) -> io::Result<()> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => init(client)?,
        };
        let (id, epoch) = producer;
        self.sent += 1;
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id())
            .with_v3_and_below_producer_id(id.into())
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(vec![
                AddPartitionsToTxnTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![0]),
            ]);
        retry(client, |client| {
            Ok(client.try_call(3, &add)?.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)
        })?;
        for group in GROUPS {
            self.commit(client, group, producer)?;
        }
        let end = EndTxnRequest::default()
            .with_transactional_id(transactional_id())
            .with_producer_id(id.into())
            .with_producer_epoch(epoch)
            .with_committed(true);
        retry(client, |client| Ok(client.try_call(3, &end)?.error_code))?;
        self.acknowledged = self.sent;
        self.producer = Some(producer);
        Ok(())
    }

    fn commit(&self, client: &mut RawClient, group: &str, (id, epoch): (i64, i16)) -> io::Result<()> {
        let add = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id())
            .with_producer_id(id.into())
            .with_producer_epoch(epoch)
            .with_group_id(GroupId(text(group)));
        retry(client, |client| Ok(client.try_call(3, &add)?.error_code))?;
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(self.sent)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        let commit = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id())
            .with_producer_id(id.into())
            .with_producer_epoch(epoch)
            .with_group_id(GroupId(text(group)))
            .with_generation_id(-1)
            .with_topics(vec![
                TxnOffsetCommitRequestTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]),
            ]);
        retry(client, |client| Ok(client.try_call(3, &commit)?.topics[0].partitions[0].error_code))
    }
}

impl Workload for Transactions {
    fn step(&mut self, address: SocketAddr) -> io::Result<()> {
        self.one(&mut RawClient::try_connect(address)?)
    }

    fn check(&mut self, address: SocketAddr) {
        let mut client = RawClient::connect(address);
        // Whatever was open ends here, so that every offset is stable.
        init(&mut client).expect("the coordinator is there within 20 s");
        self.producer = None;
        let offsets: BTreeSet<_> = GROUPS.map(|group| stable_offset(&mut client, group)).into();
        let found = offsets.first().copied().expect("groups");
        assert_eq!(offsets.len(), 1, "all or none: {offsets:?}");
        assert!(
            (self.acknowledged..=self.sent).contains(&found),
            "committed {found}; {} was acknowledged, {} sent",
            self.acknowledged,
            self.sent
        );
    }
}

fn transactional_id() -> TransactionalId {
    TransactionalId(text("crashing"))
}

fn init(client: &mut RawClient) -> io::Result<(i64, i16)> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional_id()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let mut producer = (-1, -1);
    retry(client, |client| {
        let answer = client.try_call(4, &request)?;
        producer = (answer.producer_id.0, answer.producer_epoch);
        Ok(answer.error_code)
    })?;
    Ok(producer)
}

/// Asks until the answer is no error: a coordinator may load, and the markers of the last transaction be on their way.
fn retry(client: &mut RawClient, mut ask: impl FnMut(&mut RawClient) -> io::Result<i16>) -> io::Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        match ask(client)? {
            0 => return Ok(()),
            14..=16 | 51 if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            code => panic!("error {code} in a transaction"),
        }
    }
}

/// The group's offset, once no transaction is open any more.
fn stable_offset(client: &mut RawClient, group: &str) -> i64 {
    let topics = OffsetFetchRequestTopics::default().with_name(topic_name(TOPIC)).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topics]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let mut offset = -1;
    retry(client, |client| {
        let answer = client.try_call(8, &request)?;
        let group = &answer.groups[0];
        let Some(partition) = group.topics.first().map(|topic| &topic.partitions[0]) else {
            return Ok(group.error_code);
        };
        offset = partition.committed_offset;
        // Until the markers are written.
        Ok(if partition.error_code == 88 { 51 } else { group.error_code.max(partition.error_code) })
    })
    .expect("the broker is up");
    offset
}
