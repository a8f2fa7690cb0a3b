//! A member of a share group (KIP-932) that speaks the protocol directly.

use std::io;
use std::time::{Duration, Instant};

use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    GroupId, ShareAcknowledgeRequest, ShareFetchRequest, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
};
use uuid::Uuid;

use crate::raw_client::RawClient;
use crate::requests::{text, topic_name};

/// Accepted.
pub const ACCEPT: i8 = 1;
/// To come again.
pub const RELEASE: i8 = 2;
/// Never to come again.
pub const REJECT: i8 = 3;

/// Offsets that were given out: first, last, and how often.
pub type Acquired = (i64, i64, i16);

/// One member with its session.
#[derive(Debug, Clone)]
pub struct ShareMember {
    /// Its group.
    pub group: String,
    /// Its id.
    pub id: String,
    /// The topic that it reads.
    pub topic: Uuid,
    /// The partitions of it that it was assigned.
    pub partitions: Vec<i32>,
    /// Epoch of its session's next request; 0 opens one.
    pub session: i32,
}

impl ShareMember {
    /// Joins and beats until it has been assigned something; panics after 20 s. The coordinator may still be loading.
    pub fn join(client: &mut RawClient, group: &str, id: &str, topic: &str) -> io::Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut epoch = 0;
        loop {
            let answer = client.try_call(1, &heartbeat(group, id, epoch, (epoch == 0).then_some(topic)))?;
            if let Some((topic, partitions)) = assigned(&answer) {
                return Ok(Self { group: group.to_owned(), id: id.to_owned(), topic, partitions, session: 0 });
            }
            assert!(Instant::now() < deadline, "an assignment within 20 s: {answer:?}");
            epoch = if answer.error_code == 0 { answer.member_epoch } else { 0 };
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A ShareFetch that goes on in the session, or opens it.
    pub fn fetch_request(&self, wait_ms: i32, records: i32) -> ShareFetchRequest {
        let named = if self.session == 0 { &self.partitions[..] } else { &[] };
        let partitions: Vec<_> =
            named.iter().map(|index| FetchPartition::default().with_partition_index(*index)).collect();
        let topics = match partitions.is_empty() {
            true => Vec::new(),
            false => vec![FetchTopic::default().with_topic_id(self.topic).with_partitions(partitions)],
        };
        ShareFetchRequest::default()
            .with_group_id(Some(GroupId(text(&self.group))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(self.session)
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_max_records(records)
            .with_batch_size(records)
            .with_topics(topics)
    }

    /// Fetches; what was given out, by partition, or the first error.
    pub fn fetch(&mut self, client: &mut RawClient, wait_ms: i32, records: i32) -> io::Result<Vec<(i32, Acquired)>> {
        let answer = client.try_call(1, &self.fetch_request(wait_ms, records))?;
        if answer.error_code != 0 {
            return Err(io::Error::other(format!("error {}", answer.error_code)));
        }
        self.session += 1;
        let mut given = Vec::new();
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 {
                return Err(io::Error::other(format!("error {}", partition.error_code)));
            }
            let acquired = partition.acquired_records.iter();
            given.extend(
                acquired.map(|some| {
                    (partition.partition_index, (some.first_offset, some.last_offset, some.delivery_count))
                }),
            );
        }
        Ok(given)
    }

    /// Says the same of all that was given out; error of the request, or the first of a partition.
    pub fn acknowledge(&mut self, client: &mut RawClient, given: &[(i32, Acquired)], what: i8) -> io::Result<()> {
        let partitions = given.iter().map(|(index, (first, last, _))| {
            let batch = AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(vec![what]);
            AcknowledgePartition::default().with_partition_index(*index).with_acknowledgement_batches(vec![batch])
        });
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic).with_partitions(partitions.collect());
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(&self.group))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(self.session)
            .with_topics(vec![topic]);
        let answer = client.try_call(1, &request)?;
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        match partitions.map(|one| one.error_code).chain([answer.error_code]).find(|code| *code != 0) {
            Some(code) => Err(io::Error::other(format!("error {code}"))),
            None => {
                self.session += 1;
                Ok(())
            }
        }
    }
}

/// A heartbeat; `topic` is what a member that joins wants to read.
pub fn heartbeat(group: &str, id: &str, epoch: i32, topic: Option<&str>) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(id))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names(topic.map(|topic| vec![topic_name(topic)]))
}

fn assigned(answer: &ShareGroupHeartbeatResponse) -> Option<(Uuid, Vec<i32>)> {
    let topic = answer.assignment.as_ref()?.topic_partitions.first()?;
    Some((topic.topic_id, topic.partitions.clone()))
}
