//! Fetch, v4 to v18, without owned structs: the request is read in place; the answer is written into a small buffer with
//! gaps at whose positions the caller sends the records, from files or from the cache.
//!
//! v5 log start offset, v7 sessions (KIP-227), v9 current leader epoch (KIP-320), v11 rack (KIP-392), v12 flexible, last
//! fetched epoch and diverging epoch (KIP-595), v13 topic ids (KIP-516), v15 replica state (KIP-903), v16 node endpoints
//! (KIP-951), v17 replica directory (KIP-853), v18 the follower's high watermark (KIP-1166).

use std::ops::RangeInclusive;

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::{CurrentLeader, NodeEndpoint, put_endpoints, put_topic};
use crate::protocol::api_key::ApiKey;
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::frame::FrameStart;
use crate::protocol::header::put_response_header;
use crate::protocol::put::Put;

/// Versions read and written here.
pub const VERSIONS: RangeInclusive<i16> = 4..=18;
const TOPIC_IDS_FROM: i16 = 13;

/// A request, its topics still in the frame.
#[derive(Debug, Clone, Copy)]
pub struct FetchRequest<'f> {
    /// The cluster a follower believes in.
    pub cluster_id: Option<&'f str>,
    /// -1 for consumers.
    pub replica_id: i32,
    /// -1 for consumers.
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Wait until so much is there.
    pub min_bytes: i32,
    /// Stop the answer here, but for the first batch.
    pub max_bytes: i32,
    /// 0 read uncommitted, 1 read committed.
    pub isolation_level: i8,
    /// 0 for none.
    pub session_id: i32,
    /// 0 begins a session, -1 ends or avoids one.
    pub session_epoch: i32,
    /// Where the consumer stands; empty when unknown.
    pub rack_id: &'f str,
    /// Number of topics, and of forgotten topics.
    counts: (usize, usize),
    topics: Cursor<'f>,
    forgotten: Cursor<'f>,
    version: i16,
}

/// A topic of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FetchTopic<'f> {
    /// To v12.
    Name(&'f str),
    /// From v13.
    Id(Uuid),
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition<'f> {
    /// Its topic.
    pub topic: FetchTopic<'f>,
    /// Its number.
    pub partition: i32,
    /// -1 when the client does not know it.
    pub current_leader_epoch: i32,
    /// From here.
    pub fetch_offset: i64,
    /// Epoch of the record before `fetch_offset`, or -1: asks for a check of divergence.
    pub last_fetched_epoch: i32,
    /// Of a follower.
    pub log_start_offset: i64,
    /// At most so much, but for the first batch.
    pub max_bytes: i32,
    /// Of a follower.
    pub replica_directory_id: Uuid,
    /// Of a follower.
    pub high_watermark: i64,
}

impl<'f> FetchRequest<'f> {
    /// Reads the request whose body is `body`; all of it is walked, so that the iterators cannot meet damage.
    pub fn parse(version: i16, body: &'f [u8]) -> Result<Self, ReadError> {
        if !VERSIONS.contains(&version) {
            return Err(ReadError::Version(version));
        }
        let mut fields = Cursor::new(body, flexible(version));
        let mut replica_id = if version <= 14 { fields.i32()? } else { -1 };
        let max_wait_ms = fields.i32()?;
        let min_bytes = fields.i32()?;
        let max_bytes = fields.i32()?;
        let isolation_level = fields.i8()?;
        let (session_id, session_epoch) = if version >= 7 { (fields.i32()?, fields.i32()?) } else { (0, -1) };

        let topics_count = fields.array(1)?.ok_or(ReadError::Null)?;
        let topics = fields;
        for _ in 0..topics_count {
            let topic = read_topic(&mut fields, version)?;
            for _ in 0..fields.array(1)?.ok_or(ReadError::Null)? {
                read_partition(&mut fields, version, topic)?;
            }
            fields.skip_tags()?;
        }
        let forgotten_count = if version >= 7 { fields.array(1)?.ok_or(ReadError::Null)? } else { 0 };
        let forgotten = fields;
        for _ in 0..forgotten_count {
            read_topic(&mut fields, version)?;
            let partitions = fields.array(4)?.ok_or(ReadError::Null)?;
            fields.take(4 * partitions)?;
            fields.skip_tags()?;
        }
        let rack_id = if version >= 11 { fields.string()? } else { "" };
        let (mut cluster_id, mut replica_epoch) = (None, -1);
        fields.tags(|tag, mut field| {
            match tag {
                0 => cluster_id = field.nullable_string()?,
                1 if version >= 15 => (replica_id, replica_epoch) = (field.i32()?, field.i64()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self {
            cluster_id,
            replica_id,
            replica_epoch,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            rack_id,
            counts: (topics_count, forgotten_count),
            topics,
            forgotten,
            version,
        })
    }

    /// The partitions asked for, in the order of the request.
    pub fn partitions(&self) -> impl Iterator<Item = FetchPartition<'f>> {
        let version = self.version;
        Walk { fields: self.topics, topics_left: self.counts.0, topic: None, partitions_left: 0, version }
            .items(move |fields, topic| read_partition(fields, version, topic))
    }

    /// The partitions that leave the session.
    pub fn forgotten(&self) -> impl Iterator<Item = (FetchTopic<'f>, i32)> {
        let version = self.version;
        Walk { fields: self.forgotten, topics_left: self.counts.1, topic: None, partitions_left: 0, version }
            .items(|fields, topic| Ok((topic, fields.i32()?)))
    }
}

/// A walk over topics and the partitions in them.
struct Walk<'f> {
    fields: Cursor<'f>,
    topics_left: usize,
    topic: Option<FetchTopic<'f>>,
    partitions_left: usize,
    version: i16,
}

impl<'f> Walk<'f> {
    fn items<T>(
        mut self,
        mut read: impl FnMut(&mut Cursor<'f>, FetchTopic<'f>) -> Result<T, ReadError>,
    ) -> impl Iterator<Item = T> {
        std::iter::from_fn(move || self.next(&mut read).expect("the request was walked when it was parsed"))
    }

    fn next<T>(
        &mut self,
        read: &mut impl FnMut(&mut Cursor<'f>, FetchTopic<'f>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        loop {
            match self.topic {
                Some(topic) if self.partitions_left > 0 => {
                    self.partitions_left -= 1;
                    return read(&mut self.fields, topic).map(Some);
                }
                Some(_) => self.fields.skip_tags()?, // of the topic that ends
                None => {}
            }
            if self.topics_left == 0 {
                self.topic = None;
                return Ok(None);
            }
            self.topics_left -= 1;
            self.topic = Some(read_topic(&mut self.fields, self.version)?);
            self.partitions_left = self.fields.array(1)?.ok_or(ReadError::Null)?;
        }
    }
}

fn read_topic<'f>(fields: &mut Cursor<'f>, version: i16) -> Result<FetchTopic<'f>, ReadError> {
    Ok(if version >= TOPIC_IDS_FROM { FetchTopic::Id(fields.uuid()?) } else { FetchTopic::Name(fields.string()?) })
}

fn read_partition<'f>(
    fields: &mut Cursor<'f>,
    version: i16,
    topic: FetchTopic<'f>,
) -> Result<FetchPartition<'f>, ReadError> {
    let mut read = FetchPartition {
        topic,
        partition: fields.i32()?,
        current_leader_epoch: if version >= 9 { fields.i32()? } else { -1 },
        fetch_offset: fields.i64()?,
        last_fetched_epoch: if version >= 12 { fields.i32()? } else { -1 },
        log_start_offset: if version >= 5 { fields.i64()? } else { -1 },
        max_bytes: fields.i32()?,
        replica_directory_id: Uuid::nil(),
        high_watermark: i64::MAX,
    };
    fields.tags(|tag, mut field| {
        match tag {
            0 if version >= 17 => read.replica_directory_id = field.uuid()?,
            1 if version >= 18 => read.high_watermark = field.i64()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(read)
}

fn flexible(version: i16) -> bool {
    ApiKey::Fetch.is_flexible(version)
}

/// The answer for one partition; its records are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchedPartition<'a> {
    /// Its number.
    pub index: i32,
    /// 0 or why there is nothing.
    pub error_code: i16,
    /// -1 with an error.
    pub high_watermark: i64,
    /// -1 with an error.
    pub last_stable_offset: i64,
    /// -1 with an error.
    pub log_start_offset: i64,
    /// Epoch and end offset where the client's log diverges (v12).
    pub diverging: Option<(i32, i64)>,
    /// Set with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH only (v12).
    pub current_leader: Option<CurrentLeader>,
    /// Producer id and first offset of aborted transactions; null, as Kafka has it, for who reads uncommitted.
    pub aborted: Option<&'a [(i64, i64)]>,
    /// -1 for this broker.
    pub preferred_read_replica: i32,
    /// Bytes that the caller sends behind the position that [`FetchResponseWriter::partition`] gives.
    pub records_bytes: usize,
}

/// Writes an answer, frame length and header included, at the end of a buffer; the records are counted, not written.
#[derive(Debug)]
pub struct FetchResponseWriter<'b> {
    put: Put<'b, BytesMut>,
    frame: FrameStart,
    version: i16,
    in_topic: bool,
    records_bytes: u64,
}

/// What stands in front of the topics of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchResponseHead {
    /// Given back.
    pub correlation_id: i32,
    /// How long the client was, or shall be, held back.
    pub throttle_time_ms: i32,
    /// Of the whole request, such as a session that is unknown (v7).
    pub error_code: i16,
    /// 0 for none.
    pub session_id: i32,
    /// Number of topics in the answer.
    pub topics: usize,
}

impl<'b> FetchResponseWriter<'b> {
    /// Begins the answer to a request of `version`.
    pub fn begin(out: &'b mut BytesMut, version: i16, head: &FetchResponseHead) -> Self {
        let frame = FrameStart::new(out);
        put_response_header(out, ApiKey::Fetch, version, head.correlation_id);
        let mut put = Put { out, flexible: flexible(version) };
        put.out.put_i32(head.throttle_time_ms);
        if version >= 7 {
            put.out.put_i16(head.error_code);
            put.out.put_i32(head.session_id);
        }
        put.len(Some(head.topics));
        Self { put, frame, version, in_topic: false, records_bytes: 0 }
    }

    /// Begins a topic; the version decides whether its name or id is written.
    pub fn topic(&mut self, name: &str, id: Uuid, partitions: usize) {
        self.end_topic();
        self.in_topic = true;
        put_topic(&mut self.put, self.version >= TOPIC_IDS_FROM, name, id);
        self.put.len(Some(partitions));
    }

    /// Adds a partition of the last topic. Behind the position in the buffer that is returned the caller sends
    /// `records_bytes` bytes before it goes on with the buffer.
    pub fn partition(&mut self, partition: &FetchedPartition<'_>) -> usize {
        let (put, version) = (&mut self.put, self.version);
        put.out.put_i32(partition.index);
        put.out.put_i16(partition.error_code);
        put.out.put_i64(partition.high_watermark);
        put.out.put_i64(partition.last_stable_offset);
        if version >= 5 {
            put.out.put_i64(partition.log_start_offset);
        }
        put.len(partition.aborted.map(<[_]>::len));
        for &(producer_id, first_offset) in partition.aborted.unwrap_or_default() {
            put.out.put_i64(producer_id);
            put.out.put_i64(first_offset);
            put.tags(0);
        }
        if version >= 11 {
            put.out.put_i32(partition.preferred_read_replica);
        }
        put.len(Some(partition.records_bytes)); // empty, never null: librdkafka rejects null
        self.records_bytes += partition.records_bytes as u64;
        let position = put.out.len();
        if put.flexible {
            put.tags(u32::from(partition.diverging.is_some()) + u32::from(partition.current_leader.is_some()));
            if let Some((epoch, end_offset)) = partition.diverging {
                put.tag(0, 13);
                put.out.put_i32(epoch);
                put.out.put_i64(end_offset);
                put.tags(0);
            }
            if let Some(leader) = partition.current_leader {
                leader.put(put, 1);
            }
        }
        position
    }

    /// Ends the answer; its frame length includes the records.
    pub fn finish(mut self, endpoints: &[NodeEndpoint<'_>]) {
        self.end_topic();
        put_endpoints(&mut self.put, if self.version >= 16 { endpoints } else { &[] });
        self.frame.finish(self.put.out, self.records_bytes);
    }

    fn end_topic(&mut self) {
        if self.in_topic {
            self.put.tags(0);
        }
    }
}

#[cfg(test)]
mod tests;
