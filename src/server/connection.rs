//! One connection: frames in, answers out, in the order of the requests.
//!
//! All whole frames of a read are served in one wake and their answers leave in one write. Requests execute one after
//! another, as in Kafka, with one exception: a Produce that is appended and only waits for its ticket doesn't hold back a
//! following Produce. Answers always leave in request order.
//!
//! An idle connection gives its buffers back; what remains is its task.

mod wait;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::admission::{Evicted, Share};
use super::bell::Bell;
use super::inbox::{BadFrame, Inbox};
use super::write;
use crate::api::answer::{Outgoing, Piece};
use crate::api::produce::{self, Produce};
use crate::api::produce_transactions::Permits;
use crate::api::{self, Answer, Call, Disconnect, Frame, Handler, Line, Node, Routed, Software, fetch};
use crate::partition::slow_dir::AppendTurn;

/// Answers of Produce requests that wait for tickets; with so many reading stops.
const WAITING_ANSWERS_MAX: usize = 64;
/// Answers beyond this leave before the next request is served.
const ANSWERS_TOGETHER_BYTES: usize = 256 << 10;
/// An owned answer from this size on is sent from where it is, not copied between its neighbours.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// What a connection is bounded by.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// `connections.max.idle.ms`.
    pub idle_max: Duration,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("closed by the peer")]
    ByPeer,
    #[error("idle for too long")]
    Idle,
    #[error("the broker stops")]
    Stopping,
    #[error(transparent)]
    Frame(#[from] BadFrame),
    #[error(transparent)]
    Evicted(#[from] Evicted),
    #[error(transparent)]
    Request(#[from] Disconnect),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The answer of a Produce that is appended; resolves to its frame when its tickets did.
type Waiting = Pin<Box<dyn Future<Output = BytesMut> + Send>>;

pub(super) struct Connection {
    node: Arc<Node>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<str>,
    limits: Arc<Limits>,
    bell: Arc<Bell>,
    share: Share,
    inbox: Inbox,
    outgoing: Outgoing,
    waiting: VecDeque<Waiting>,
    /// Used again by the next Fetch.
    fetching: fetch::Buffers,
    /// Client ids rarely change within a connection.
    client_id: Option<Arc<str>>,
    software: Arc<OnceLock<Software>>,
    /// What the peer left behind; see [`Unfinished`].
    unfinished: Option<Answer>,
    last_read: Instant,
    /// Looks after idleness; moved once a second at most, not with every read.
    tick: Pin<Box<Sleep>>,
}

/// A handler whose peer has gone: what the request asks for happens all the same, as in Kafka (a member that sent
/// JoinGroup has joined), but nothing of the connection is kept for it but what the request itself holds.
pub(super) struct Unfinished {
    answer: Answer,
    share: Share,
    bell: Arc<Bell>,
}

impl Unfinished {
    /// Ends with the handler, or early when others need the memory.
    pub(super) async fn run(self) {
        let Self { answer, share, bell } = self;
        tokio::select! {
            _ = answer => {}
            () = bell.evicted() => {}
        }
        drop(share);
    }
}

/// When a request's answer is complete.
enum Answered {
    /// It is in the outgoing buffer.
    Now,
    /// When the tickets of its appends are.
    Later,
}

impl Connection {
    pub(super) fn new(
        node: Arc<Node>,
        stream: TcpStream,
        peer: SocketAddr,
        listener: Arc<str>,
        limits: Arc<Limits>,
        bell: Arc<Bell>,
        share: Share,
    ) -> Self {
        let now = Instant::now();
        Self {
            node,
            stream,
            peer,
            listener,
            bell,
            share,
            inbox: Inbox::default(),
            outgoing: Outgoing::default(),
            waiting: VecDeque::new(),
            fetching: fetch::Buffers::default(),
            client_id: None,
            software: Arc::default(),
            unfinished: None,
            last_read: now,
            tick: Box::pin(tokio::time::sleep_until(wait::later(now, limits.idle_max))),
            limits,
        }
    }

    /// Serves the connection to its end: why it ended, and what is still to be done for a peer that is gone.
    pub(super) async fn run(mut self) -> (Closed, Option<Unfinished>) {
        let closed = loop {
            if let Err(closed) = self.turn().await {
                break closed;
            }
        };
        let Self { unfinished, inbox, mut share, bell, .. } = self;
        share.give_back(inbox.capacity());
        (closed, unfinished.map(|answer| Unfinished { answer, share, bell }))
    }

    async fn turn(&mut self) -> Result<(), Closed> {
        while let Some(frame) = self.inbox.next_frame(self.limits.request_bytes_max)? {
            self.serve(frame).await?;
            if self.outgoing.buffer.len() >= ANSWERS_TOGETHER_BYTES || !self.outgoing.pieces.is_empty() {
                self.flush().await?;
            }
        }
        self.inbox.compact();
        self.flush().await?;
        self.receive().await
    }

    async fn serve(&mut self, frame: Range<usize>) -> Result<(), Closed> {
        // All whole frames of a read have come by then.
        let begun = self.last_read;
        let routed = api::route(&self.inbox.bytes_mut()[frame.clone()])?;
        let Routed::To { line, .. } = &routed else {
            return self.dispatch(routed, frame, begun).await.map(drop);
        };
        let (key, version) = (line.key.code(), line.version);
        match self.dispatch(routed, frame, begun).await {
            Ok(Answered::Now) => self.node.telemetry.requests.answered(key, version, begun.elapsed()),
            Ok(Answered::Later) => {}
            Err(closed) => {
                self.node.telemetry.requests.failed(key);
                return Err(closed);
            }
        }
        Ok(())
    }

    async fn dispatch(&mut self, routed: Routed, frame: Range<usize>, begun: Instant) -> Result<Answered, Closed> {
        match routed {
            Routed::Answered(answer) => {
                self.settle_all().await?;
                self.outgoing.buffer.extend_from_slice(&answer);
                Ok(Answered::Now)
            }
            Routed::To { handler: Handler::Produce, line, body, admin_client, .. } => {
                let request = Produce::parse(line, admin_client, &self.inbox.bytes_mut()[frame.clone()], body)?;
                if !self.node.partitions.all_open() {
                    let named = request.partitions(&self.node, &self.inbox.bytes_mut()[frame.clone()]);
                    self.node.partitions.opened(named).await;
                }
                let mut permits = Permits::default();
                if let Some(questions) = request.questions(&self.node, &self.inbox.bytes_mut()[frame.clone()]) {
                    if !questions.is_empty() {
                        // What is answered already doesn't wait for the coordinator.
                        self.flush().await?;
                    }
                    permits = questions.ask(&self.node).await;
                }
                let mut turn = AppendTurn::default();
                if self.node.partitions.any_hangs() {
                    let named = request.partitions(&self.node, &self.inbox.bytes_mut()[frame.clone()]);
                    turn = self.node.partitions.append_turn(&named).await;
                }
                let bytes = &mut self.inbox.bytes_mut()[frame];
                let begin = self.outgoing.buffer.len();
                let tickets = turn.run(|| request.append(&self.node, bytes, permits, &mut self.outgoing.buffer))?;
                let mut answered = Answered::Now;
                if !tickets.is_empty() || !self.waiting.is_empty() {
                    let answer = self.outgoing.buffer.split_off(begin);
                    if !answer.is_empty() {
                        let (node, key, version) = (self.node.clone(), line.key.code(), line.version);
                        self.waiting.push_back(Box::pin(async move {
                            let answer = produce::settle(answer, tickets).await;
                            node.telemetry.requests.answered(key, version, begun.elapsed());
                            answer
                        }));
                        answered = Answered::Later;
                    }
                    while self.waiting.len() >= WAITING_ANSWERS_MAX {
                        self.settle_one().await?;
                    }
                }
                Ok(answered)
            }
            Routed::To { handler: Handler::Fetch, line, body, .. } => {
                self.settle_all().await?;
                if !self.node.partitions.all_open() {
                    let named = fetch::partitions(&self.node, line, &self.inbox.bytes_mut()[frame.clone()][body..])?;
                    self.node.partitions.opened(named).await;
                }
                let buffers = std::mem::take(&mut self.fetching);
                let body = &self.inbox.bytes_mut()[frame][body..];
                let mut fetch = fetch::Fetch::begin(&self.node, line, body, buffers)?;
                if fetch.must_wait() {
                    self.flush().await?;
                    let is_last = self.inbox.is_empty();
                    tokio::select! {
                        biased;
                        () = fetch.wait(&self.node) => {}
                        // It answers with what there is.
                        () = self.bell.stopping() => {}
                        () = self.bell.evicted() => return Err(Evicted.into()),
                        () = peer_gone(&self.stream), if is_last => return Err(Closed::ByPeer),
                    }
                }
                self.fetching = fetch.finish(&self.node, &mut self.outgoing);
                Ok(Answered::Now)
            }
            Routed::To { handler: Handler::Owned(serve), line, body, decoded_bytes, .. } => {
                self.settle_all().await?;
                let body = Bytes::copy_from_slice(&self.inbox.bytes_mut()[frame.clone()][body..]);
                // The frame that stays in the inbox is counted there.
                let held = decoded_bytes + body.len();
                self.share.charge(held);
                let call = self.call(line, frame);
                let answer = self.owned_answer(serve(self.node.clone(), call, body)).await?;
                self.share.give_back(held);
                if answer.len() <= COPIED_BYTES_MAX {
                    self.outgoing.buffer.extend_from_slice(&answer);
                } else {
                    self.outgoing.pieces.push((self.outgoing.buffer.len(), Piece::Bytes(answer)));
                }
                Ok(Answered::Now)
            }
        }
    }

    fn call(&mut self, line: Line, frame: Range<usize>) -> Call {
        let client_id = api::client_id(&self.inbox.bytes_mut()[frame]);
        if self.client_id.as_deref() != client_id.as_deref() {
            self.client_id = client_id.map(Arc::from);
        }
        Call {
            key: line.key,
            version: line.version,
            correlation_id: line.correlation_id,
            client_id: self.client_id.clone(),
            peer: self.peer,
            software: self.software.clone(),
            listener: self.listener.clone(),
        }
    }

    /// Waits for a handler. When the peer leaves meanwhile, the connection ends and leaves the handler as unfinished.
    async fn owned_answer(&mut self, mut answer: Answer) -> Result<Frame, Closed> {
        if let Poll::Ready(answer) = futures::poll!(&mut answer) {
            return Ok(answer?);
        }
        // What is answered already doesn't wait for this one.
        self.flush().await?;
        // Requests that are here already are still served, as in Kafka.
        let is_last = self.inbox.is_empty();
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer?),
            () = self.bell.evicted() => return Err(Evicted.into()),
            () = peer_gone(&self.stream), if is_last => {}
        }
        self.unfinished = Some(answer);
        Err(Closed::ByPeer)
    }

    async fn settle_one(&mut self) -> Result<(), Closed> {
        self.flush().await?;
        if let Some(front) = self.waiting.front_mut() {
            let answer = front.await;
            self.waiting.pop_front();
            self.outgoing.buffer.unsplit(answer);
        }
        Ok(())
    }

    async fn settle_all(&mut self) -> Result<(), Closed> {
        while !self.waiting.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let held = self.outgoing.held_bytes();
        let written = {
            let mut writing = pin!(write::write(&self.stream, &mut self.outgoing, self.node.partitions.disk_reads()));
            match futures::poll!(&mut writing) {
                Poll::Ready(written) => written,
                Poll::Pending => {
                    // From here on it lies in memory for as long as the peer likes.
                    self.share.charge(held);
                    let written = tokio::select! {
                        biased;
                        written = &mut writing => written,
                        () = self.bell.evicted() => return Err(Evicted.into()),
                    };
                    self.share.give_back(held);
                    written
                }
            }
        };
        if self.outgoing.buffer.capacity() > ANSWERS_TOGETHER_BYTES {
            self.outgoing = Outgoing::default();
        }
        Ok(written?)
    }
}

/// Returns when the peer has closed and nothing that it sent before is left to be read.
async fn peer_gone(stream: &TcpStream) {
    let closed = match stream.ready(Interest::READABLE).await {
        Ok(ready) if ready.is_read_closed() => matches!(stream.peek(&mut [0]).await, Ok(0) | Err(_)),
        Ok(_) => false,
        Err(_) => true,
    };
    if !closed {
        std::future::pending().await
    }
}
