//! Produce, v3 to v13, without owned structs: the request is read in place, because its batches are stamped in the frame
//! and stored from it; the answer is written partition by partition.
//!
//! v7 zstd may be sent (KIP-110), v8 record errors and messages (KIP-467), v9 flexible, v10 current leader and endpoints
//! (KIP-951), v12 implicit AddPartitionsToTxn (KIP-890), v13 topic ids (KIP-516). Versions 0 to 2 are only advertised, for
//! an old librdkafka's sake; Kafka 4 closes the connection of who sends one, so here they are [`ReadError::Version`].

use std::ops::{Range, RangeInclusive};

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::{CurrentLeader, NodeEndpoint, put_endpoints, put_topic};
use crate::protocol::api_key::ApiKey;
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::frame::FrameStart;
use crate::protocol::header::put_response_header;
use crate::protocol::put::Put;

/// Versions read and written here.
pub const VERSIONS: RangeInclusive<i16> = 3..=13;
const TOPIC_IDS_FROM: i16 = 13;

/// What stands in front of the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceHead<'f> {
    /// Of a transactional producer.
    pub transactional_id: Option<&'f str>,
    /// -1, 0, 1; anything else is refused by the handler.
    pub acks: i16,
    /// How long the client waits.
    pub timeout_ms: i32,
    /// Number of topics.
    pub topics: usize,
}

/// The topic of a partition's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProduceTopic {
    /// The name lies here in the frame.
    Name(Range<usize>),
    /// v13.
    Id(Uuid),
}

impl ProduceTopic {
    /// The id, where the request carries one.
    pub fn id(&self) -> Option<Uuid> {
        match self {
            Self::Name(_) => None,
            Self::Id(id) => Some(*id),
        }
    }

    /// The name, where the request carries one.
    pub fn name<'f>(&self, frame: &'f [u8]) -> Option<&'f str> {
        match self {
            Self::Name(range) => str::from_utf8(frame.get(range.clone())?).ok(),
            Self::Id(_) => None,
        }
    }
}

/// What a request carries, in the order in which it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducePart {
    /// A topic begins.
    Topic {
        /// Which.
        topic: ProduceTopic,
        /// How many partitions of it follow.
        partitions: usize,
    },
    /// A partition of the last topic.
    Partition {
        /// Its number.
        index: i32,
        /// Where its batches lie in the frame; `None` when the client sent null.
        records: Option<Range<usize>>,
    },
}

/// Walks a request. It borrows nothing, so that the handler may stamp the batches of a part before it asks for the next.
#[derive(Debug, Clone)]
pub struct ProduceReader {
    version: i16,
    at: usize,
    topics_left: usize,
    partitions_left: usize,
}

impl ProduceReader {
    /// Reads the request whose body begins at `body` of `frame`. The whole of it is walked once, so that nothing is appended
    /// of a request that is damaged further behind, and [`ProduceReader::next`] cannot fail.
    pub fn parse(version: i16, frame: &[u8], body: usize) -> Result<(ProduceHead<'_>, Self), ReadError> {
        if !VERSIONS.contains(&version) {
            return Err(ReadError::Version(version));
        }
        let mut fields = Cursor::new(frame.get(body..).ok_or(ReadError::Truncated)?, flexible(version));
        let transactional_id = fields.nullable_string()?;
        let acks = fields.i16()?;
        let timeout_ms = fields.i32()?;
        let topics = fields.array(1)?.ok_or(ReadError::Null)?;
        let reader = Self { version, at: frame.len() - fields.rest().len(), topics_left: topics, partitions_left: 0 };
        let mut walk = reader.clone();
        while walk.read(frame)?.is_some() {}
        Cursor::new(&frame[walk.at..], flexible(version)).skip_tags()?;
        Ok((ProduceHead { transactional_id, acks, timeout_ms, topics }, reader))
    }

    /// The next part; `frame` is the one that was parsed, changed at most within records already handed out.
    pub fn next(&mut self, frame: &[u8]) -> Option<ProducePart> {
        self.read(frame).expect("the request was walked when it was parsed")
    }

    fn read(&mut self, frame: &[u8]) -> Result<Option<ProducePart>, ReadError> {
        let mut fields = Cursor::new(&frame[self.at..], flexible(self.version));
        let position = |fields: &Cursor<'_>| frame.len() - fields.rest().len();
        let part = if self.partitions_left > 0 {
            self.partitions_left -= 1;
            let index = fields.i32()?;
            let records = fields.nullable_bytes()?.map(|records| {
                let end = position(&fields);
                end - records.len()..end
            });
            fields.skip_tags()?;
            ProducePart::Partition { index, records }
        } else {
            if self.topics_left == 0 {
                return Ok(None);
            }
            self.topics_left -= 1;
            let topic = if self.version >= TOPIC_IDS_FROM {
                ProduceTopic::Id(fields.uuid()?)
            } else {
                let name = fields.string()?;
                let end = position(&fields);
                ProduceTopic::Name(end - name.len()..end)
            };
            self.partitions_left = fields.array(5)?.ok_or(ReadError::Null)?;
            ProducePart::Topic { topic, partitions: self.partitions_left }
        };
        if self.partitions_left == 0 {
            fields.skip_tags()?; // the topic ends, whether it had partitions or not
        }
        self.at = position(&fields);
        Ok(Some(part))
    }
}

fn flexible(version: i16) -> bool {
    ApiKey::Produce.is_flexible(version)
}

/// The answer for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducedPartition<'a> {
    /// Its number.
    pub index: i32,
    /// 0 or why nothing was appended.
    pub error_code: i16,
    /// Offset of the first record, or -1.
    pub base_offset: i64,
    /// -1 for CreateTime.
    pub log_append_time_ms: i64,
    /// -1 when unknown.
    pub log_start_offset: i64,
    /// The records that made the batch be refused: index in the batch, why.
    pub record_errors: &'a [(i32, Option<&'a str>)],
    /// The error in words.
    pub error_message: Option<&'a str>,
    /// Set with NOT_LEADER_OR_FOLLOWER only.
    pub current_leader: Option<CurrentLeader>,
}

/// Writes an answer, frame length and header included, at the end of a buffer.
#[derive(Debug)]
pub struct ProduceResponseWriter<'b> {
    put: Put<'b, BytesMut>,
    frame: FrameStart,
    version: i16,
    in_topic: bool,
}

impl<'b> ProduceResponseWriter<'b> {
    /// Begins the answer to a request of `version`.
    pub fn begin(out: &'b mut BytesMut, version: i16, correlation_id: i32, topics: usize) -> Self {
        let frame = FrameStart::new(out);
        put_response_header(out, ApiKey::Produce, version, correlation_id);
        let mut put = Put { out, flexible: flexible(version) };
        put.len(Some(topics));
        Self { put, frame, version, in_topic: false }
    }

    /// Begins a topic; the version decides whether its name or id is written.
    pub fn topic(&mut self, name: &str, id: Uuid, partitions: usize) {
        self.end_topic();
        self.in_topic = true;
        put_topic(&mut self.put, self.version >= TOPIC_IDS_FROM, name, id);
        self.put.len(Some(partitions));
    }

    /// Adds a partition of the last topic. Returns where in the buffer its error code lies; base offset and log append
    /// time are behind it in all versions, so that an answer can still be changed when a ticket is rejected.
    pub fn partition(&mut self, partition: &ProducedPartition<'_>) -> usize {
        let put = &mut self.put;
        put.out.put_i32(partition.index);
        let position = put.out.len();
        put.out.put_i16(partition.error_code);
        put.out.put_i64(partition.base_offset);
        put.out.put_i64(partition.log_append_time_ms);
        if self.version >= 5 {
            put.out.put_i64(partition.log_start_offset);
        }
        if self.version >= 8 {
            put.len(Some(partition.record_errors.len()));
            for &(index, message) in partition.record_errors {
                put.out.put_i32(index);
                put.nullable_string(message);
                put.tags(0);
            }
            put.nullable_string(partition.error_message);
        }
        match partition.current_leader {
            Some(leader) if self.version >= 10 => {
                put.tags(1);
                leader.put(put, 0);
            }
            _ => put.tags(0),
        }
        position
    }

    /// Ends the answer.
    pub fn finish(mut self, throttle_time_ms: i32, endpoints: &[NodeEndpoint<'_>]) {
        self.end_topic();
        self.put.out.put_i32(throttle_time_ms);
        put_endpoints(&mut self.put, if self.version >= 10 { endpoints } else { &[] });
        self.frame.finish(self.put.out, 0);
    }

    fn end_topic(&mut self) {
        if self.in_topic {
            self.put.tags(0);
        }
    }
}

#[cfg(test)]
mod tests;
