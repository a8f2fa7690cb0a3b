//! `terrace dlq redrive`: dead letters go back to where they came from, each once.
//!
//! One transaction sends the records of a portion back and commits, in the name of the group `redrive.<topic>`, which dead
//! letters these were. A redrive that is killed leaves a transaction that the next one aborts: what it sent counts for nobody
//! who reads committed records.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, GroupId, ListOffsetsRequest, MetadataRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::RedriveArgs;
use super::connection::Connection;
use super::moved::Moved;
use super::transaction::{self, Back, Batches, Sender, topic_name};
use crate::cli::{Failure, show};
use crate::protocol::record_batch::{BatchView, Offset};
use crate::protocol::records::{Record, records};
use crate::share::dead_letters::letter::{GROUP, OFFSET, PARTITION, PREFIX, TOPIC};

const FETCH_BYTES: i32 = 1 << 20;
/// Of what goes back in one transaction.
const PORTION_BYTES: usize = 4 << 20;
/// The most that a batch is opened to.
const DECOMPRESSED_BYTES_MAX: u64 = 256 << 20;
const READ_COMMITTED: i8 = 1;

/// A topic and a partition of it.
type Destination = (Arc<str>, i32);

/// What became of the dead letters that were looked at.
#[derive(Debug, Default)]
struct Tally {
    moved: u64,
    /// Filtered out.
    passed: u64,
    /// No dead letters of share groups.
    foreign: u64,
    /// By reason.
    left: BTreeMap<String, u64>,
}

/// Sends them back and says how many. Fails if some that should have gone are left.
pub(super) fn run(arguments: &RedriveArgs) -> Result<(), Failure> {
    let mut redrive = Redrive {
        arguments,
        name: format!("redrive.{}", arguments.topic),
        connection: Connection::open(&arguments.bootstrap_server)?,
        counts: BTreeMap::new(),
        tally: Tally::default(),
    };
    let partitions = redrive
        .partitions(&arguments.topic)?
        .ok_or_else(|| Failure::wrong([format!("there is no topic '{}'", arguments.topic)]))?;
    transaction::find(&mut redrive.connection, &redrive.name, transaction::GROUP)?;
    // Before offsets are asked for: what a killed redrive left open is aborted.
    let mut sender = match arguments.dry_run {
        true => None,
        false => Some(Sender::begin(&mut redrive.connection, &redrive.name)?),
    };
    for partition in 0..partitions {
        redrive.partition(partition, sender.as_mut())?;
    }
    let Tally { moved, passed, foreign, left } = &redrive.tally;
    let verb = if arguments.dry_run { "would go" } else { "went" };
    show(&format!("{moved} records {verb} back, {passed} were filtered out, {foreign} are no dead letters\n"))?;
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure { code: 1, lines: left.iter().map(|(why, count)| format!("{count} stay: {why}")).collect() })
}

struct Redrive<'a> {
    arguments: &'a RedriveArgs,
    name: String,
    connection: Connection,
    /// Partitions of the topics that records came from; `None`: there is no such topic.
    counts: BTreeMap<String, Option<i32>>,
    tally: Tally,
}

/// Where a dead letter's record was.
struct Origin {
    topic: String,
    partition: i32,
    offset: Offset,
    group: String,
}

impl Origin {
    fn of(record: &Record<'_>) -> Option<Self> {
        let text = |name: &str| {
            let mut headers = record.headers;
            let value = headers.find(|(key, _)| *key == name.as_bytes())?.1?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        Some(Self {
            topic: text(TOPIC)?,
            partition: text(PARTITION)?.parse().ok().filter(|partition| *partition >= 0)?,
            offset: text(OFFSET)?.parse().ok()?,
            group: text(GROUP)?,
        })
    }
}

impl Redrive<'_> {
    fn partitions(&mut self, topic: &str) -> Result<Option<i32>, Failure> {
        if let Some(known) = self.counts.get(topic) {
            return Ok(*known);
        }
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let answer = self.connection.call(9, &request)?;
        let found = answer.topics.first().filter(|topic| topic.error_code == 0 && !topic.partitions.is_empty());
        let count = found.map(|topic| i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
        self.counts.insert(topic.to_owned(), count);
        Ok(count)
    }

    /// Sends back what lies in one partition of the dead letters at this moment.
    fn partition(&mut self, partition: i32, mut sender: Option<&mut Sender>) -> Result<(), Failure> {
        let topic = self.arguments.topic.clone();
        let mut moved = self.committed(partition)?;
        let (start, end) = (self.offset(partition, -2)?, self.offset(partition, -1)?);
        // What retention took is nobody's any more.
        moved.add(moved.below, start - 1);
        let mut next = moved.below.max(start);
        while next < end {
            let bytes = self.fetch(&topic, partition, next)?;
            let (batches, read_to) = self.portion(&bytes, next, end, &mut moved)?;
            if read_to <= next {
                return Err(Failure::new(format!("'{topic}'-{partition} cannot be read at offset {next}")));
            }
            next = read_to;
            if let Some(sender) = sender.as_deref_mut() {
                let text = moved.text().ok_or_else(|| {
                    Failure::new("the filter leaves too many gaps: go without it, or with one that leaves fewer")
                })?;
                sender.send(&mut self.connection, &batches, (&topic, partition, &moved, &text))?;
            }
            self.tally.moved += batches.values().map(|records| records.len() as u64).sum::<u64>();
            if sender.is_some() {
                eprintln!("{topic}-{partition}: up to offset {next} of {end}");
            }
        }
        Ok(())
    }

    /// What is to go back of some bytes; how far they were looked through.
    fn portion(
        &mut self,
        bytes: &Bytes,
        next: Offset,
        end: Offset,
        moved: &mut Moved,
    ) -> Result<(Batches, Offset), Failure> {
        let (mut batches, mut size, mut read_to) = (Batches::new(), 0, next);
        let mut rest = &bytes[..];
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            rest = behind;
            if batch.is_control() {
                moved.add(read_to.max(batch.base_offset()), batch.last_offset());
                read_to = batch.next_offset();
                continue;
            }
            let opened = records(&batch, DECOMPRESSED_BYTES_MAX).map_err(Failure::new)?;
            for record in &opened {
                let record = record.map_err(Failure::new)?;
                if record.offset < next || record.offset >= end || moved.has(record.offset) {
                    continue;
                }
                if size > PORTION_BYTES {
                    return Ok((batches, record.offset));
                }
                if let Some((to, back)) = self.back(&record)? {
                    size += back.size();
                    moved.add(record.offset, record.offset);
                    batches.entry(to).or_default().push(back);
                }
                read_to = record.offset + 1;
            }
            read_to = read_to.max(batch.next_offset()).min(end);
        }
        Ok((batches, read_to))
    }

    /// Where a dead letter's record goes, and the record; `None` when it stays.
    fn back(&mut self, record: &Record<'_>) -> Result<Option<(Destination, Back)>, Failure> {
        let Some(origin) = Origin::of(record) else {
            self.tally.foreign += 1;
            return Ok(None);
        };
        let RedriveArgs { group, source_topic, from, until, .. } = self.arguments;
        let time = record.timestamp;
        if group.as_ref().is_some_and(|group| *group != origin.group)
            || source_topic.as_ref().is_some_and(|topic| *topic != origin.topic)
            || from.is_some_and(|from| time < from.timestamp_millis())
            || until.is_some_and(|until| time >= until.timestamp_millis())
        {
            self.tally.passed += 1;
            return Ok(None);
        }
        let Some(count) = self.partitions(&origin.topic)? else {
            self.stays(format!("there is no topic '{}' any more", origin.topic));
            return Ok(None);
        };
        let to = (Arc::from(origin.topic.as_str()), origin.partition % count);
        // Without key and value it has headers alone: the record is where it was, unless retention took it.
        if record.key.is_none() && record.value.is_none() {
            let Some(back) = self.original(&origin)? else {
                self.stays(format!("their records are gone from '{}', and were not copied", origin.topic));
                return Ok(None);
            };
            return Ok(Some((to, back)));
        }
        Ok(Some((to, back(record))))
    }

    fn stays(&mut self, why: String) {
        *self.tally.left.entry(why).or_default() += 1;
    }

    fn original(&mut self, origin: &Origin) -> Result<Option<Back>, Failure> {
        let bytes = self.fetch(&origin.topic, origin.partition, origin.offset)?;
        let Ok((batch, _)) = BatchView::split_first(&bytes) else { return Ok(None) };
        let opened = records(&batch, DECOMPRESSED_BYTES_MAX).map_err(Failure::new)?;
        let mut all = opened.iter().map_while(Result::ok);
        Ok(all.find(|record| record.offset == origin.offset && !batch.is_control()).map(|record| back(&record)))
    }

    fn fetch(&mut self, topic: &str, partition: i32, offset: Offset) -> Result<Bytes, Failure> {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(FETCH_BYTES);
        let request = FetchRequest::default()
            .with_max_bytes(FETCH_BYTES)
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_isolation_level(READ_COMMITTED)
            .with_session_epoch(-1)
            .with_topics(vec![FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![asked])]);
        let answer = self.connection.call(12, &request)?;
        let found = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        Ok(found.filter(|one| one.error_code == 0).and_then(|one| one.records).unwrap_or_default())
    }

    fn offset(&mut self, partition: i32, timestamp: i64) -> Result<Offset, Failure> {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic =
            ListOffsetsTopic::default().with_name(topic_name(&self.arguments.topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(READ_COMMITTED)
            .with_topics(vec![topic]);
        let answer = self.connection.settled(6, &request, &self.arguments.topic, |answer| {
            answer
                .topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(|one| one.error_code)
                .find(|code| *code != 0)
                .unwrap_or(0)
        })?;
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        found.map(|one| one.offset).ok_or_else(|| Failure::new("the broker tells no offset"))
    }

    /// What went back of a partition so far.
    fn committed(&mut self, partition: i32) -> Result<Moved, Failure> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name(&self.arguments.topic))
            .with_partition_indexes(vec![partition]);
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(self.name.clone())))
            .with_topics(Some(vec![topic]))
            .with_require_stable(true);
        let code = |answer: &kafka_protocol::messages::OffsetFetchResponse| {
            let results = answer.topics.iter().flat_map(|topic| &topic.partitions);
            results.map(|one| one.error_code).find(|code| *code != 0).unwrap_or(answer.error_code)
        };
        let answer = self.connection.settled(7, &request, &self.name, code)?;
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        Ok(found.map_or_else(Moved::default, |one| {
            Moved::read(one.committed_offset, one.metadata.as_deref().unwrap_or_default())
        }))
    }
}

/// The record without what its dead letter said of it.
fn back(record: &Record<'_>) -> Back {
    let own = record.headers.filter(|(key, _)| !key.starts_with(PREFIX.as_bytes()));
    Back {
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: own.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        timestamp: record.timestamp,
    }
}
