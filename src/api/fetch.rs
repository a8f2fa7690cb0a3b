//! Fetch 4-18: records from both tiers, sessions (KIP-227), and waiting without polling.
//!
//! A request becomes a list of partitions to read. They are read once; when that gives too little, a waiter is left with
//! each partition and they are read once more when it is woken or at the deadline. Cold partitions are loaded all at once
//! meanwhile, and the first chunk of any of them answers. The first batch is sent even if it is larger than every limit.
//! Records leave as file ranges or shared bytes; only what is around them is written here.
//!
//! Versions: 7 sessions; 9 current leader epoch (KIP-320); 12 flexible, diverging epochs (KIP-595); 13 topic ids
//! (KIP-516); the rest concerns followers, which we don't serve.

mod reading;
mod targets;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use self::reading::{Budget, Outcome, Read, Records};
use super::answer::{Outgoing, Piece};
use super::fetch_sessions::{Begun, Held, Session};
use super::list_offsets::isolation;
use super::{Disconnect, Line, Node};
use crate::log::copies::Copies;
use crate::partition::Partition;
use crate::partition::read::Isolation;
use crate::partition::waiters::{Watch, Watcher};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch::{FetchRequest, FetchResponseHead, FetchResponseWriter, FetchedPartition};

const TOPIC_IDS_FROM: i16 = 13;
/// Partitions of one request: each takes some hundred bytes while it is served.
const PARTITIONS_MAX: usize = 1 << 18;

/// One Fetch from its request to its answer.
pub struct Fetch {
    line: Line,
    isolation: Isolation,
    min_bytes: u64,
    max_bytes: i64,
    max_wait: Duration,
    context: Context,
    buffers: Buffers,
    /// Records that were copied by the reads. Dropped before a wait: nobody's memory is held for long.
    copies: Copies,
}

/// What one Fetch of a connection leaves to the next, so that it allocates nothing.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Without a session they stay: the next request names the same partitions.
    reads: Vec<Read>,
    watches: Vec<Watch>,
    watcher: Option<Arc<Watcher>>,
}

/// Where the list of partitions comes from, and what becomes of it.
enum Context {
    Sessionless,
    /// Kept when the answer is written, if there is room.
    Full(Box<Session>),
    Incremental(Held),
    Refused(ErrorCode),
}

impl Context {
    fn session(&mut self) -> Option<&mut Session> {
        match self {
            Self::Full(session) => Some(session),
            Self::Incremental(held) => Some(held.session()),
            Self::Sessionless | Self::Refused(_) => None,
        }
    }
}

/// The partitions that a request names, to be opened before it is served. Those of its session were named before.
pub fn partitions(node: &Node, line: Line, body: &[u8]) -> Result<Vec<Arc<Partition>>, Disconnect> {
    let request = FetchRequest::parse(line.version, body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let image = node.metadata.image();
    let named =
        request.partitions().filter_map(|from| targets::find(node, &image, &targets::watched(&image, &from)).ok());
    Ok(named.collect())
}

impl Fetch {
    /// Reads the request and once every partition that may have something to tell.
    pub fn begin(node: &Node, line: Line, body: &[u8], buffers: Buffers) -> Result<Self, Disconnect> {
        let request =
            FetchRequest::parse(line.version, body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
        if request.partitions().nth(PARTITIONS_MAX).is_some() {
            return Err(Disconnect::Malformed(format!("a Fetch of more than {PARTITIONS_MAX} partitions")));
        }
        let by_id = line.version >= TOPIC_IDS_FROM;
        let max_bytes = i64::from(request.max_bytes).min(node.config.requests.fetch_bytes_max.into());
        if !(0..=1).contains(&request.isolation_level) {
            return Ok(Self::unknown_level(node, line, &request, buffers));
        }
        let mut context =
            match node.sessions.begin(request.session_id, request.session_epoch, by_id, node.clock.now_ms()) {
                Begun::Refused(error) => Context::Refused(error),
                Begun::Sessionless => Context::Sessionless,
                Begun::Full => Context::Full(Box::new(Session::new(by_id))),
                Begun::Incremental(held) => Context::Incremental(held),
            };
        if let Some(session) = context.session() {
            change(session, node, &request);
            // A session without partitions ends, as in Kafka.
            let ended = session.is_empty();
            if ended && matches!(context, Context::Incremental(_)) {
                context = Context::Sessionless;
            }
        }
        let mut fetch = Self {
            line,
            isolation: isolation(request.isolation_level),
            min_bytes: u64::try_from(max_bytes.min(request.min_bytes.into())).unwrap_or(0),
            max_bytes,
            max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
            context,
            buffers,
            copies: Copies::default(),
        };
        match fetch.context {
            Context::Sessionless => targets::renew(&mut fetch.buffers.reads, node, &request),
            Context::Refused(_) => fetch.buffers.reads.clear(),
            Context::Full(_) | Context::Incremental(_) => fetch.list_ready(node),
        }
        fetch.read_all(node);
        Ok(fetch)
    }

    /// Kafka's answer to an isolation level that it doesn't know: -1, to version 12 for each partition too.
    fn unknown_level(node: &Node, line: Line, request: &FetchRequest<'_>, mut buffers: Buffers) -> Self {
        buffers.reads.clear();
        if line.version < TOPIC_IDS_FROM {
            targets::renew(&mut buffers.reads, node, request);
        }
        for read in &mut buffers.reads {
            read.partition = Err(ErrorCode::UnknownServerError);
            read.outcome = Outcome::failed(ErrorCode::UnknownServerError);
        }
        Self {
            line,
            isolation: Isolation::ReadUncommitted,
            min_bytes: 0,
            max_bytes: 0,
            max_wait: Duration::ZERO,
            context: Context::Refused(ErrorCode::UnknownServerError),
            buffers,
            copies: Copies::default(),
        }
    }

    /// Is there something to wait for, so that [`Fetch::wait`] comes before the answer? What is held for the answer is let
    /// go then.
    pub fn must_wait(&mut self) -> bool {
        let must = self.has_partitions() && (self.has_cold() || (!self.is_enough() && !self.max_wait.is_zero()));
        if must {
            self.drop_copies();
        }
        must
    }

    fn has_partitions(&self) -> bool {
        match &self.context {
            Context::Sessionless | Context::Refused(_) => !self.buffers.reads.is_empty(),
            Context::Full(session) => !session.is_empty(),
            // One without partitions has ended.
            Context::Incremental(_) => true,
        }
    }

    fn has_cold(&self) -> bool {
        self.buffers.reads.iter().any(|read| read.outcome.is_cold())
    }

    fn is_enough(&self) -> bool {
        self.bytes() >= self.min_bytes || self.buffers.reads.iter().any(|read| read.outcome.is_urgent())
    }

    fn bytes(&self) -> u64 {
        self.buffers.reads.iter().map(|read| read.outcome.bytes()).sum()
    }

    /// Makes the list of reads from the session: those of its partitions that may have something to tell.
    fn list_ready(&mut self, node: &Node) {
        let Some(session) = self.context.session() else { return };
        session.collect();
        let session = &*session;
        self.buffers.reads.clear();
        self.buffers.reads.extend(session.ready().iter().filter_map(|slot| read_of(session, *slot)));
        for at in 0..self.buffers.reads.len() {
            if self.buffers.reads[at].partition.is_err() {
                self.find_again(node, at);
            }
        }
    }

    fn find_again(&mut self, node: &Node, at: usize) {
        let read = &mut self.buffers.reads[at];
        let session = self.context.session();
        targets::find_again(node, read, session.is_some());
        if let Some(session) = session {
            session.place(read.slot, read.partition.as_ref().ok());
        }
    }

    fn drop_copies(&mut self) {
        self.buffers.reads.iter_mut().for_each(|read| read.outcome.drop_copy());
        self.copies = Copies::default();
    }

    fn read_all(&mut self, node: &Node) {
        self.copies.clear();
        let mut budget = Budget::new(self.max_bytes);
        for at in 0..self.buffers.reads.len() {
            self.read(node, at, &mut budget);
        }
    }

    fn read(&mut self, node: &Node, at: usize, budget: &mut Budget) {
        if !self.buffers.reads[at].perform(self.isolation, budget, &mut self.copies) {
            self.find_again(node, at);
            self.buffers.reads[at].perform(self.isolation, budget, &mut self.copies);
        }
    }

    /// Writes the answer; gives back what the next Fetch uses again.
    pub fn finish(mut self, node: &Node, outgoing: &mut Outgoing) -> Buffers {
        self.buffers.watches.clear();
        let stays = matches!(self.context, Context::Sessionless);
        let (error_code, session_id) = self.settle_session(node);
        let reads = &mut self.buffers.reads;
        let head = FetchResponseHead {
            correlation_id: self.line.correlation_id,
            throttle_time_ms: 0,
            error_code: error_code.code(),
            session_id,
            topics: reads.chunk_by(of_one_topic).count(),
        };
        let mut writer = FetchResponseWriter::begin(&mut outgoing.buffer, self.line.version, &head);
        for partitions in reads.chunk_by_mut(of_one_topic) {
            let topic = &partitions[0].watched.topic;
            writer.topic(topic.name.as_deref().unwrap_or_default(), topic.id, partitions.len());
            for read in partitions {
                write(read, self.isolation, node, &mut writer, &mut outgoing.pieces);
            }
        }
        writer.finish(&[]);
        outgoing.copies = self.copies;
        if !stays {
            reads.clear();
        }
        self.buffers
    }

    /// Tells the session what is answered, leaves out what is no news, and gives the session back.
    fn settle_session(&mut self, node: &Node) -> (ErrorCode, i32) {
        let reads = &mut self.buffers.reads;
        match std::mem::replace(&mut self.context, Context::Sessionless) {
            Context::Sessionless => (ErrorCode::None, 0),
            Context::Refused(error) => (error, 0),
            Context::Full(mut session) => {
                for read in &*reads {
                    // A first answer doesn't rotate: the order is the client's.
                    session.remember(read.slot, read.place);
                    session.tell(read.slot, &read.outcome.told(), false);
                }
                session.settle();
                (ErrorCode::None, node.sessions.keep(session, &*node.random, node.clock.now_ms()))
            }
            Context::Incremental(mut held) => {
                let session = held.session();
                reads.retain(|read| {
                    session.remember(read.slot, read.place);
                    session.tell(read.slot, &read.outcome.told(), true)
                });
                session.settle();
                let id = session.id();
                held.give_back();
                (ErrorCode::None, id)
            }
        }
    }
}

/// Takes over what a request changes in its session.
fn change(session: &mut Session, node: &Node, request: &FetchRequest<'_>) {
    let mut image = None;
    for from in request.partitions() {
        session.watch(targets::watched(image.get_or_insert_with(|| node.metadata.image()), &from));
    }
    for (topic, partition) in request.forgotten() {
        let image = image.get_or_insert_with(|| node.metadata.image());
        session.forget(&targets::topic_ref(image, topic), partition);
    }
}

fn read_of(session: &Session, slot: u32) -> Option<Read> {
    let (watched, partition) = session.at(slot)?;
    let partition = partition.cloned().ok_or(ErrorCode::UnknownTopicOrPartition);
    let (place, outcome) = (session.place_in(slot), Outcome::failed(ErrorCode::None));
    Some(Read { watched: watched.clone(), slot, partition, place, outcome })
}

/// Neighbours of one topic are one topic of the answer.
fn of_one_topic(one: &Read, next: &Read) -> bool {
    one.watched.topic == next.watched.topic
}

fn write(
    read: &mut Read,
    isolation: Isolation,
    node: &Node,
    writer: &mut FetchResponseWriter<'_>,
    pieces: &mut Vec<(usize, Piece)>,
) {
    let outcome = std::mem::replace(&mut read.outcome, Outcome::failed(ErrorCode::None));
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
        aborted: (isolation == Isolation::ReadCommitted && outcome.error == ErrorCode::None).then_some(&aborted),
        preferred_read_replica: -1,
        records_bytes: usize::try_from(outcome.bytes()).unwrap_or(usize::MAX),
    });
    match outcome.records {
        Records::Empty | Records::Cold(_) => {}
        Records::File(range) => pieces.push((position, Piece::File(range))),
        Records::Copied(_, place) => pieces.push((position, Piece::Copied(place))),
        Records::Loaded(chunks) => pieces.extend(chunks.into_iter().map(|chunk| (position, Piece::Bytes(chunk)))),
    }
}
