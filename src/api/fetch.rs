//! Fetch 4-18: records from both tiers, sessions (KIP-227), and waiting without polling.
//!
//! A request becomes a list of partitions to read. They are read once; when that gives too little, a waiter is left with
//! each partition and they are read once more when it is woken or at the deadline. Cold partitions are loaded all at once
//! meanwhile, and the first chunk of any of them answers. The first batch is sent even if it is larger than every limit.
//! Records leave as file ranges or shared bytes; only what is around them is written here.
//!
//! Versions: 7 sessions; 9 current leader epoch (KIP-320); 12 flexible, diverging epochs (KIP-595); 13 topic ids
//! (KIP-516); the rest concerns followers, which we don't serve.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use uuid::Uuid;

use super::answer::{Outgoing, Piece};
use super::fetch_sessions::{Begun, Held, Session, Told, TopicRef, Watched};
use super::list_offsets::{isolation, known};
use super::{Disconnect, Line, Node};
use crate::log::view::FileRange;
use crate::metadata::image::{Image, PartitionId};
use crate::partition::Partition;
use crate::partition::read::{AbortedTransaction, ColdRead, Isolation, ReadError, ReadSpec};
use crate::partition::waiters::FetchWaiter;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponseHead, FetchResponseWriter, FetchTopic, FetchedPartition,
};

const TOPIC_IDS_FROM: i16 = 13;

/// One Fetch from its request to its answer.
pub struct Fetch {
    line: Line,
    isolation: Isolation,
    min_bytes: u64,
    max_bytes: u64,
    max_wait: Duration,
    context: Context,
    reads: Vec<Read>,
}

/// Where the list of partitions comes from, and what becomes of it.
enum Context {
    Sessionless,
    /// Kept when the answer is written, if there is room.
    Full(Box<Session>),
    Incremental(Held),
    Refused(ErrorCode),
}

/// One partition of the request.
struct Read {
    watched: Watched,
    /// In the session, if there is one.
    slot: usize,
    partition: Result<Arc<Partition>, ErrorCode>,
    outcome: Outcome,
}

/// What is answered for one partition.
struct Outcome {
    error: ErrorCode,
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
    diverging: Option<(i32, i64)>,
    aborted: Vec<AbortedTransaction>,
    records: Records,
}

enum Records {
    Empty,
    File(FileRange),
    Loaded(Vec<Bytes>),
    /// Not loaded yet, or being loaded; empty in the answer if that stays so.
    Cold(Option<ColdRead>),
}

impl Outcome {
    fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging: None,
            aborted: Vec::new(),
            records: Records::Empty,
        }
    }

    fn bytes(&self) -> u64 {
        match &self.records {
            Records::Empty | Records::Cold(_) => 0,
            Records::File(range) => range.len,
            Records::Loaded(chunks) => chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        }
    }

    /// Must it be told at once, whatever else is there?
    fn is_urgent(&self) -> bool {
        self.error != ErrorCode::None || self.diverging.is_some()
    }
}

/// The partitions that a request names, to be opened before it is served. Those of its session were named before.
pub fn partitions(node: &Node, line: Line, body: &[u8]) -> Result<Vec<Arc<Partition>>, Disconnect> {
    let request = FetchRequest::parse(line.version, body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let image = node.metadata.image();
    let named = request.partitions().filter_map(|from| {
        let watched = watched(&image, from);
        let topic = image.topic_by_id(&watched.topic.id).or_else(|| image.topic(watched.topic.name.as_deref()?))?;
        node.partitions.get(PartitionId { topic: topic.id, partition: watched.partition })
    });
    Ok(named.collect())
}

impl Fetch {
    /// Reads the request and every partition once.
    pub fn begin(node: &Node, line: Line, body: &[u8]) -> Result<Self, Disconnect> {
        let request =
            FetchRequest::parse(line.version, body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
        let by_id = line.version >= TOPIC_IDS_FROM;
        let image = node.metadata.image();
        let max_bytes =
            u64::try_from(request.max_bytes).unwrap_or(0).min(u64::from(node.config.requests.fetch_bytes_max));
        let asked = |from: FetchPartition<'_>| watched(&image, from);
        let begun = node.sessions.begin(request.session_id, request.session_epoch, by_id, node.clock.now_ms());
        let (context, wanted): (_, Vec<(usize, Watched)>) = match begun {
            Begun::Refused(error) => (Context::Refused(error), Vec::new()),
            Begun::Sessionless => (Context::Sessionless, request.partitions().map(|from| (0, asked(from))).collect()),
            Begun::Full => {
                let mut session = Box::new(Session::new(by_id));
                request.partitions().for_each(|from| {
                    session.watch(asked(from));
                });
                let wanted = all_of(&session);
                (Context::Full(session), wanted)
            }
            Begun::Incremental(mut held) => {
                let session = held.session();
                request.partitions().for_each(|from| {
                    session.watch(asked(from));
                });
                for (topic, partition) in request.forgotten() {
                    session.forget(&topic_ref(&image, topic), partition);
                }
                // A session without partitions ends, as in Kafka.
                if session.is_empty() {
                    (Context::Sessionless, Vec::new())
                } else {
                    let wanted = all_of(session);
                    (Context::Incremental(held), wanted)
                }
            }
        };
        let reads = wanted.into_iter().map(|(slot, watched)| {
            let partition = find(node, &image, &watched);
            Read { watched, slot, partition, outcome: Outcome::failed(ErrorCode::None) }
        });
        let mut fetch = Self {
            line,
            isolation: isolation(request.isolation_level),
            min_bytes: u64::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_bytes,
            max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
            context,
            reads: reads.collect(),
        };
        fetch.read_all();
        Ok(fetch)
    }

    /// Is there something to wait for, so that [`Fetch::wait`] comes before the answer?
    pub fn must_wait(&self) -> bool {
        !self.reads.is_empty() && (self.has_cold() || (!self.is_enough() && !self.max_wait.is_zero()))
    }

    fn has_cold(&self) -> bool {
        self.reads.iter().any(|read| matches!(read.outcome.records, Records::Cold(_)))
    }

    fn is_enough(&self) -> bool {
        self.bytes() >= self.min_bytes || self.reads.iter().any(|read| read.outcome.is_urgent())
    }

    fn bytes(&self) -> u64 {
        self.reads.iter().map(|read| read.outcome.bytes()).sum()
    }

    fn read_all(&mut self) {
        let (mut left, mut min_one) = (self.max_bytes, true);
        for read in &mut self.reads {
            let max_bytes = u64::try_from(read.watched.max_bytes).unwrap_or(0).min(left);
            read.outcome = match &read.partition {
                Ok(partition) => outcome(partition.read(&ReadSpec {
                    offset: read.watched.fetch_offset,
                    max_bytes,
                    min_one,
                    current_leader_epoch: known(read.watched.current_leader_epoch),
                    last_fetched_epoch: known(read.watched.last_fetched_epoch),
                    isolation: self.isolation,
                })),
                Err(error) => Outcome::failed(*error),
            };
            let bytes = match &read.outcome.records {
                // Its size shows when it is loaded.
                Records::Cold(_) => max_bytes.max(1),
                _ => read.outcome.bytes(),
            };
            min_one &= bytes == 0;
            left = left.saturating_sub(bytes);
        }
    }

    /// Waits until there is enough to answer with, or the time is over.
    pub async fn wait(&mut self, node: &Node) {
        let begun = Instant::now();
        let deadline = begun + self.max_wait;
        if self.has_cold() {
            let patience = self.max_wait.max(Duration::from_millis(node.config.remote.fetch_wait_ms_max));
            return self.wait_cold(begun + patience).await;
        }
        let waiter = FetchWaiter::new(self.min_bytes);
        let guards = self.watch(&waiter);
        waiter.wait(deadline).await;
        drop(guards);
        self.read_all();
        // What was evicted from the local log meanwhile is colder than when the wait began; that is rare, and it waits
        // no longer than a request for cold data.
        if self.has_cold() {
            let patience = Duration::from_millis(node.config.remote.fetch_wait_ms_max);
            self.wait_cold(Instant::now() + patience).await;
        }
    }

    fn watch(&self, waiter: &Arc<FetchWaiter>) -> Vec<crate::partition::waiters::WatchGuard> {
        let hot = self.reads.iter().filter(|read| !matches!(read.outcome.records, Records::Cold(_)));
        hot.filter_map(|read| {
            let partition = read.partition.as_ref().ok()?;
            Some(partition.watch(read.watched.fetch_offset, self.isolation, read.outcome.bytes(), waiter))
        })
        .collect()
    }

    /// Starts all cold reads at once. The answer goes out with the first that is there, or when hot partitions have
    /// enough; a failure of the store is told only when nothing else came until `deadline`.
    async fn wait_cold(&mut self, deadline: Instant) {
        let mut loads = FuturesUnordered::new();
        for (at, read) in self.reads.iter_mut().enumerate() {
            if let Records::Cold(cold) = &mut read.outcome.records
                && let Some(cold) = cold.take()
            {
                loads.push(async move { (at, cold.load().await) });
            }
        }
        let waiter = FetchWaiter::new(self.min_bytes.max(1));
        let hot_is_enough = self.is_enough() && self.bytes() > 0;
        let guards = self.watch(&waiter);
        let mut failures = Vec::new();
        let mut hot = std::pin::pin!(waiter.wait(deadline));
        let mut answered = hot_is_enough;
        // Polled at least once, so that every load has begun: a download outlives the request that began it.
        loop {
            let loaded = if answered {
                // Whatever else is there by now comes along.
                match futures::poll!(loads.next()) {
                    std::task::Poll::Ready(loaded) => loaded,
                    std::task::Poll::Pending => break,
                }
            } else {
                tokio::select! {
                    biased;
                    loaded = loads.next(), if !loads.is_empty() => loaded,
                    _ = &mut hot => { answered = true; continue; }
                }
            };
            match loaded {
                Some((at, Ok(loaded))) => {
                    self.reads[at].outcome.aborted = loaded.aborted;
                    self.reads[at].outcome.records = Records::Loaded(loaded.chunks);
                    answered = true;
                }
                Some((at, Err(error))) => failures.push((at, error)),
                None => break,
            }
        }
        drop(guards);
        if answered && self.bytes() > 0 {
            return;
        }
        for (at, error) in failures {
            tracing::warn!(partition = self.reads[at].watched.partition, %error, "remote read failed");
            self.reads[at].outcome = Outcome::failed(error.code());
        }
    }

    /// Writes the answer.
    pub fn finish(mut self, node: &Node, outgoing: &mut Outgoing) -> Result<(), Disconnect> {
        let (error_code, session_id) = self.settle_session(node);
        let head = FetchResponseHead {
            correlation_id: self.line.correlation_id,
            throttle_time_ms: 0,
            error_code: error_code.code(),
            session_id,
            topics: groups(&self.reads).count(),
        };
        let mut writer = FetchResponseWriter::begin(&mut outgoing.buffer, self.line.version, &head);
        let mut counts = groups(&self.reads).collect::<Vec<_>>().into_iter();
        let mut left_in_topic = 0;
        for read in &mut self.reads {
            if left_in_topic == 0 {
                left_in_topic = counts.next().unwrap_or_default();
                let topic = &read.watched.topic;
                writer.topic(topic.name.as_deref().unwrap_or_default(), topic.id, left_in_topic);
            }
            left_in_topic -= 1;
            let outcome = &mut read.outcome;
            let traffic = match &read.partition {
                Ok(partition) => &partition.traffic,
                Err(_) => &node.partitions.traffic().elsewhere,
            };
            match outcome.error {
                ErrorCode::None => traffic.fetched(outcome.bytes()),
                _ => traffic.fetch_refused(),
            }
            let aborted: Vec<_> = outcome.aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
            let position = writer.partition(&FetchedPartition {
                index: read.watched.partition,
                error_code: outcome.error.code(),
                high_watermark: outcome.high_watermark,
                last_stable_offset: outcome.last_stable_offset,
                log_start_offset: outcome.log_start_offset,
                diverging: outcome.diverging,
                current_leader: None,
                // Null, as in Kafka, for who doesn't ask.
                aborted: (self.isolation == Isolation::ReadCommitted && outcome.error == ErrorCode::None)
                    .then_some(&aborted),
                preferred_read_replica: -1,
                records_bytes: usize::try_from(outcome.bytes()).unwrap_or(usize::MAX),
            });
            match std::mem::replace(&mut outcome.records, Records::Empty) {
                Records::Empty | Records::Cold(_) => {}
                Records::File(range) => outgoing.pieces.push((position, Piece::File(range))),
                Records::Loaded(chunks) => {
                    outgoing.pieces.extend(chunks.into_iter().map(|chunk| (position, Piece::Bytes(chunk))));
                }
            }
        }
        writer.finish(&[]);
        Ok(())
    }

    /// Tells the session what is answered, leaves out what is no news, and gives the session back.
    fn settle_session(&mut self, node: &Node) -> (ErrorCode, i32) {
        match std::mem::replace(&mut self.context, Context::Sessionless) {
            Context::Sessionless => (ErrorCode::None, 0),
            Context::Refused(error) => (error, 0),
            Context::Full(mut session) => {
                for read in &self.reads {
                    // A first answer doesn't rotate: the order is the client's.
                    session.tell(read.slot, &Told { bytes: 0, ..told(&read.outcome) });
                }
                (ErrorCode::None, node.sessions.keep(*session, &*node.random, node.clock.now_ms()))
            }
            Context::Incremental(mut held) => {
                let session = held.session();
                let id = session.id();
                self.reads.retain(|read| session.tell(read.slot, &told(&read.outcome)));
                held.give_back();
                (ErrorCode::None, id)
            }
        }
    }
}

fn all_of(session: &Session) -> Vec<(usize, Watched)> {
    session.iter().map(|(slot, watched)| (slot, watched.clone())).collect()
}

fn told(outcome: &Outcome) -> Told {
    Told {
        high_watermark: outcome.high_watermark,
        log_start: outcome.log_start_offset,
        bytes: outcome.bytes(),
        failed: outcome.is_urgent(),
    }
}

/// Lengths of the runs of partitions of one topic: each is one topic of the answer.
fn groups(reads: &[Read]) -> impl Iterator<Item = usize> {
    reads.chunk_by(|one, next| one.watched.topic == next.watched.topic).map(<[Read]>::len)
}

fn topic_ref(image: &Image, topic: FetchTopic<'_>) -> TopicRef {
    match topic {
        FetchTopic::Id(id) => TopicRef { name: image.topic_by_id(&id).map(|topic| topic.name.clone()), id },
        FetchTopic::Name(name) => {
            let name = image.topic(name).map_or_else(|| Arc::from(name), |topic| topic.name.clone());
            TopicRef { name: Some(name), id: Uuid::nil() }
        }
    }
}

fn watched(image: &Image, from: FetchPartition<'_>) -> Watched {
    Watched {
        topic: topic_ref(image, from.topic),
        partition: from.partition,
        fetch_offset: from.fetch_offset,
        max_bytes: from.max_bytes,
        current_leader_epoch: from.current_leader_epoch,
        last_fetched_epoch: from.last_fetched_epoch,
    }
}

/// The partition, or Kafka's error: 100 for an id that was never known, 3 for a topic or partition that is not there, 103
/// when the name belongs to another id by now.
fn find(node: &Node, image: &Image, watched: &Watched) -> Result<Arc<Partition>, ErrorCode> {
    let TopicRef { name, id } = &watched.topic;
    let topic = if id.is_nil() {
        name.as_deref().and_then(|name| image.topic(name)).map(|topic| topic.id)
    } else if image.topic_by_id(id).is_some() {
        Some(*id)
    } else {
        match name {
            None => return Err(ErrorCode::UnknownTopicId),
            Some(name) if image.topic(name).is_some() => return Err(ErrorCode::InconsistentTopicId),
            Some(_) => None,
        }
    };
    topic
        .and_then(|topic| node.partitions.get(PartitionId { topic, partition: watched.partition }))
        .ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn outcome(read: Result<crate::partition::read::ReadOutcome, ReadError>) -> Outcome {
    use crate::partition::read::Records as Found;
    match read {
        Err(error) => Outcome::failed(error.code()),
        Ok(found) => Outcome {
            error: ErrorCode::None,
            high_watermark: found.high_watermark,
            last_stable_offset: found.last_stable_offset,
            log_start_offset: found.log_start_offset,
            diverging: found.diverging,
            aborted: found.aborted,
            records: match found.records {
                Found::Empty => Records::Empty,
                Found::File(range) => Records::File(range),
                Found::Cold(cold) => Records::Cold(Some(cold)),
            },
        },
    }
}
