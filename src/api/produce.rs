//! Produce 0-13: batches are checked, stamped and stored where they lie in the receive buffer.
//!
//! 0 to 2 are advertised for an old librdkafka's sake and close the connection when used, as in Kafka. With acks=0 there
//! is no answer, and an error closes the connection. What belongs to a transaction is asked for first: [`Questions`].
//!
//! Versions: 7 zstd (KIP-110); 8 record errors and messages (KIP-467); 9 flexible; 13 topic ids (KIP-516).

use std::sync::Arc;

use bytes::BytesMut;

use super::produce_transactions::{Permit, Permits, Questions};
use super::{Disconnect, Line, Node};
use crate::config::topic::is_internal;
use crate::partition::Partition;
use crate::partition::append::{AppendError, AppendOrigin, Appended};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::produce::{
    ProducePart, ProduceReader, ProduceResponseWriter, ProduceTopic, ProducedPartition,
};
use crate::protocol::record_batch::BatchView;
use crate::wal::ticket::{Rejected, Ticket};

const ZSTD: i16 = 4;
const ZSTD_FROM: i16 = 7;

/// The partitions of a topic, by number.
type TopicPartitions = Arc<[Arc<Partition>]>;

/// A ticket and where in its answer the partition's error code lies.
pub type Awaited = (usize, Ticket);

/// Why a partition's records were refused, and in words.
struct Refused {
    error: ErrorCode,
    message: Option<String>,
    /// Places in the batch of the records to blame, and what is wrong with each.
    records: Vec<(i32, String)>,
}

impl Refused {
    fn by(partition: &Partition, error: AppendError) -> Self {
        let code = error.code();
        let AppendError::BadRecords(bad) = error else { return Self::because(code, error.to_string()) };
        let name = format!("{}-{}", partition.topic_name(), partition.id().partition);
        let records = bad.named.iter().map(|record| (record.place, record.describe(&name))).collect();
        Self { error: code, message: Some(bad.summary(&name)), records }
    }

    fn because(error: ErrorCode, message: String) -> Self {
        Self { error, message: Some(message), records: Vec::new() }
    }
}

impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Self {
        Self { error, message: None, records: Vec::new() }
    }
}

/// One Produce whose shape is sound; nothing of it is appended yet.
pub struct Produce {
    line: Line,
    acks: i16,
    topics: usize,
    parts: ProduceReader,
    /// Sent by Kafka's internal admin client?
    admin_client: bool,
    /// Of a transactional producer; nobody else pays for it.
    transactional_id: Option<Arc<str>>,
}

impl Produce {
    /// Reads the request whose body begins at `body` of `frame`.
    pub fn parse(line: Line, admin_client: bool, frame: &[u8], body: usize) -> Result<Self, Disconnect> {
        let (head, parts) = ProduceReader::parse(line.version, frame, body)
            .map_err(|error| Disconnect::Malformed(error.to_string()))?;
        let transactional_id = head.transactional_id.map(Arc::from);
        Ok(Self { line, acks: head.acks, topics: head.topics, parts, admin_client, transactional_id })
    }

    /// The partitions that it names, to be opened before it is served.
    pub fn partitions(&self, node: &Node, frame: &[u8]) -> Vec<Arc<Partition>> {
        let mut parts = self.parts.clone();
        let (mut topic, mut named) = (None, Vec::new());
        while let Some(part) = parts.next(frame) {
            match part {
                ProducePart::Topic { topic: asked, .. } => topic = find(node, &asked, frame).ok(),
                ProducePart::Partition { index, .. } => {
                    let at = usize::try_from(index).ok();
                    named.extend(topic.as_ref().and_then(|all| all.get(at?)).cloned());
                }
            }
        }
        named
    }

    /// What the transaction's coordinator must be asked before anything is appended; `None` without a transaction.
    pub fn questions(&self, node: &Node, frame: &[u8]) -> Option<Questions> {
        let mut questions = Questions::new(self.transactional_id.clone()?, self.line.version);
        let mut parts = self.parts.clone();
        let mut topic = None;
        while let Some(part) = parts.next(frame) {
            match part {
                ProducePart::Topic { topic: asked, .. } => topic = find(node, &asked, frame).ok(),
                ProducePart::Partition { index, records } => {
                    let at = usize::try_from(index).ok();
                    let partition = topic.as_ref().and_then(|all| all.get(at?));
                    questions.partition(partition, records.map(|range| &frame[range]));
                }
            }
        }
        Some(questions)
    }

    /// Appends everything that the request carries and writes the answer at the end of `out`, or nothing with acks=0.
    /// `frame` is the one that was parsed, `permits` what its questions gave. The answer may be sent when the tickets that
    /// come back are settled.
    pub fn append(
        mut self,
        node: &Node,
        frame: &mut [u8],
        mut permits: Permits,
        out: &mut BytesMut,
    ) -> Result<Vec<Awaited>, Disconnect> {
        let begin = out.len();
        let mut place = 0;
        let mut awaited = Vec::new();
        let mut first_error = None;
        let mut topic = Err(ErrorCode::UnknownTopicOrPartition);
        let mut writer = ProduceResponseWriter::begin(out, self.line.version, self.line.correlation_id, self.topics);
        while let Some(part) = self.parts.next(frame) {
            match part {
                ProducePart::Topic { topic: named, partitions } => {
                    let (name, id) = (named.name(frame).unwrap_or_default(), named.id().unwrap_or_default());
                    writer.topic(name, id, partitions);
                    topic = find(node, &named, frame);
                }
                ProducePart::Partition { index, records } => {
                    let records = records.map(|range| &mut frame[range]);
                    let outcome = self.append_counted(node, &topic, index, records, permits.take(place));
                    place += 1;
                    let position = write_partition(&mut writer, index, &outcome);
                    match outcome {
                        // Settled answers have nothing to wait for.
                        Ok(appended) if !appended.ticket.is_done() => awaited.push((position - begin, appended.ticket)),
                        Ok(_) => {}
                        Err(refused) => first_error = first_error.or(Some(refused.error)),
                    }
                }
            }
        }
        writer.finish(0, &[]);
        if self.acks == 0 {
            out.truncate(begin);
            return match first_error {
                Some(error) => Err(Disconnect::Unacknowledged(error.name())),
                None => Ok(Vec::new()),
            };
        }
        Ok(awaited)
    }

    fn append_counted(
        &self,
        node: &Node,
        topic: &Result<TopicPartitions, ErrorCode>,
        index: i32,
        records: Option<&mut [u8]>,
        permit: Permit,
    ) -> Result<Appended, Refused> {
        let bytes = records.as_ref().map_or(0, |records| records.len() as u64);
        let partition = match topic {
            Ok(topic) => usize::try_from(index).ok().and_then(|at| topic.get(at)),
            Err(_) => None,
        };
        let outcome = match partition {
            Some(partition) => self.append_to(partition, records, permit),
            None => Err(topic.as_ref().err().copied().unwrap_or(ErrorCode::UnknownTopicOrPartition).into()),
        };
        let traffic = partition.map_or(&node.partitions.traffic().elsewhere, |partition| &partition.traffic);
        match &outcome {
            Ok(appended) => {
                let records = appended.ticket.next_offset() - appended.base_offset;
                traffic.produced(u64::try_from(records).unwrap_or(0), bytes);
            }
            Err(_) => traffic.produce_refused(bytes),
        }
        outcome
    }

    fn append_to(
        &self,
        partition: &Partition,
        records: Option<&mut [u8]>,
        permit: Permit,
    ) -> Result<Appended, Refused> {
        let records = self.validate(records)?;
        if !matches!(self.acks, -1..=1) {
            return Err(ErrorCode::InvalidRequiredAcks.into());
        }
        if !self.admin_client && is_internal(partition.topic_name()) {
            let message = format!("Cannot append to internal topic {}", partition.topic_name());
            return Err(Refused::because(ErrorCode::InvalidTopicException, message));
        }
        let guard = match permit {
            Permit::Free => None,
            Permit::Verified(guard) => guard,
            Permit::Refused(error, message) => return Err(Refused { error, message, records: Vec::new() }),
        };
        partition
            .append_verified(records, AppendOrigin::Client, None, guard)
            .map_err(|error| Refused::by(partition, error))
    }

    /// What belongs to the request and not to the log: that there is a batch, and that the version has its codec.
    fn validate<'r>(&self, records: Option<&'r mut [u8]>) -> Result<&'r mut [u8], Refused> {
        let version = self.line.version;
        let Some(records) = records.filter(|records| !records.is_empty()) else {
            let message =
                format!("Produce requests with version {version} must have at least one record batch per partition");
            return Err(Refused::because(ErrorCode::InvalidRecord, message));
        };
        if let Ok((batch, _)) = BatchView::header_only(records) {
            if batch.is_transactional() && self.transactional_id.is_none() {
                return Err(ErrorCode::TransactionalIdAuthorizationFailed.into());
            }
            if version < ZSTD_FROM && batch.compression_id() == ZSTD {
                return Err(ErrorCode::UnsupportedCompressionType.into());
            }
        }
        Ok(records)
    }
}

/// Waits for the tickets of `answer`; the partition of a rejected one turns into its error.
pub async fn settle(mut answer: BytesMut, awaited: Vec<Awaited>) -> BytesMut {
    for (position, ticket) in awaited {
        if let Err(rejected) = ticket.wait().await {
            let error = match rejected {
                Rejected::Storage => ErrorCode::KafkaStorageError,
                Rejected::NotLeader => ErrorCode::NotLeaderOrFollower,
            };
            // error code i16, base offset i64, log append time i64: fixed places in all versions.
            answer[position..position + 2].copy_from_slice(&error.code().to_be_bytes());
            answer[position + 2..position + 18].fill(0xff);
        }
    }
    answer
}

fn find(node: &Node, named: &ProduceTopic, frame: &[u8]) -> Result<TopicPartitions, ErrorCode> {
    match named {
        ProduceTopic::Id(id) => {
            let image = node.metadata.image();
            let found = image.topic_by_id(id).and_then(|topic| node.partitions.of_topic(&topic.name));
            // Of a name that was deleted and made again, the image and the partitions may for a moment show different ones.
            found
                .filter(|all| all.first().is_some_and(|partition| partition.id().topic == *id))
                .ok_or(ErrorCode::UnknownTopicId)
        }
        ProduceTopic::Name(_) => {
            let found = named.name(frame).and_then(|name| node.partitions.of_topic(name));
            found.ok_or(ErrorCode::UnknownTopicOrPartition)
        }
    }
}

fn write_partition(writer: &mut ProduceResponseWriter<'_>, index: i32, outcome: &Result<Appended, Refused>) -> usize {
    let mut partition = ProducedPartition {
        index,
        error_code: ErrorCode::None.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        record_errors: &[],
        error_message: None,
        current_leader: None,
    };
    let record_errors: Vec<(i32, Option<&str>)>;
    match outcome {
        Ok(appended) => {
            partition.base_offset = appended.base_offset;
            partition.log_append_time_ms = appended.log_append_time_ms;
            partition.log_start_offset = appended.log_start_offset;
        }
        Err(refused) => {
            partition.error_code = refused.error.code();
            partition.error_message = refused.message.as_deref();
            record_errors = refused.records.iter().map(|(place, why)| (*place, Some(why.as_str()))).collect();
            partition.record_errors = &record_errors;
        }
    }
    writer.partition(&partition)
}
