//! One connection: frames in, answers out, in the order of the requests.
//!
//! All whole frames of a read are served in one wake and their answers leave in one write. Requests execute one after
//! another, as in Kafka, with one exception: a Produce that is appended and only waits for its ticket doesn't hold back a
//! following Produce. Answers always leave in request order.
//!
//! An idle connection gives its buffers back; what remains is its task.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::admission::{Bell, Evicted, Share};
use super::inbox::{BadFrame, Inbox};
use super::write;
use crate::api::answer::Outgoing;
use crate::api::produce::{self, Produce};
use crate::api::{self, Call, Disconnect, Handler, Node, Routed, Software, fetch};

/// Answers of Produce requests that wait for tickets; with so many reading stops.
const WAITING_ANSWERS_MAX: usize = 64;
/// Buffers of a connection that was silent for so long go back.
const RELEASE_AFTER: Duration = Duration::from_secs(1);
/// Answers beyond this leave before the next request is served.
const ANSWERS_TOGETHER_BYTES: usize = 256 << 10;
/// An outgoing buffer up to this size isn't counted against the budget.
const UNCOUNTED_BYTES: usize = 64 << 10;

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
    last_read: Instant,
    /// Looks after idleness; moved once a second at most, not with every read.
    tick: Pin<Box<Sleep>>,
}

/// When a request's answer is complete.
enum Answered {
    /// It is in the outgoing buffer.
    Now,
    /// When the tickets of its appends are.
    Later,
}

enum Event {
    Readable,
    Settled(BytesMut),
    Tick,
    Bell,
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
            last_read: now,
            tick: Box::pin(tokio::time::sleep_until(later(now, limits.idle_max))),
            limits,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) -> Closed {
        loop {
            if let Err(closed) = self.turn().await {
                return closed;
            }
        }
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

    async fn serve(&mut self, frame: std::ops::Range<usize>) -> Result<(), Closed> {
        let begun = Instant::now();
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

    async fn dispatch(
        &mut self,
        routed: Routed,
        frame: std::ops::Range<usize>,
        begun: Instant,
    ) -> Result<Answered, Closed> {
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
                let bytes = &mut self.inbox.bytes_mut()[frame];
                let begin = self.outgoing.buffer.len();
                let tickets = request.append(&self.node, bytes, &mut self.outgoing.buffer)?;
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
                    while_peer_stays(&self.stream, &self.bell, fetch.wait(&self.node)).await?;
                }
                self.fetching = fetch.finish(&self.node, &mut self.outgoing);
                Ok(Answered::Now)
            }
            Routed::To { handler: Handler::Owned(serve), line, body, decoded_bytes, .. } => {
                self.settle_all().await?;
                self.share.charge(decoded_bytes);
                let frame = &self.inbox.bytes_mut()[frame];
                let body = Bytes::copy_from_slice(&frame[body..]);
                let client_id = api::client_id(frame);
                if self.client_id.as_deref() != client_id.as_deref() {
                    self.client_id = client_id.map(Arc::from);
                }
                let call = Call {
                    key: line.key,
                    version: line.version,
                    correlation_id: line.correlation_id,
                    client_id: self.client_id.clone(),
                    peer: self.peer,
                    software: self.software.clone(),
                    listener: self.listener.clone(),
                };
                let mut answer = serve(self.node.clone(), call, body);
                let answer = match futures::poll!(&mut answer) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => {
                        // What is answered already doesn't wait for this one.
                        self.flush().await?;
                        answer.await
                    }
                };
                self.share.give_back(decoded_bytes);
                let answer = answer?;
                self.outgoing.buffer.extend_from_slice(&answer);
                Ok(Answered::Now)
            }
        }
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
        let counted = if held > UNCOUNTED_BYTES { held } else { 0 };
        if counted > 0 {
            self.share.charge(counted);
        }
        let written = write::write(&self.stream, &mut self.outgoing).await;
        self.share.give_back(counted);
        if self.outgoing.buffer.capacity() > ANSWERS_TOGETHER_BYTES {
            self.outgoing = Outgoing::default();
        }
        Ok(written?)
    }

    /// Waits for more bytes, and for what else can happen meanwhile.
    async fn receive(&mut self) -> Result<(), Closed> {
        if self.share.budget().is_short() && self.inbox.is_empty() {
            self.inbox.release(&mut self.share);
        }
        let growth = self.inbox.growth(self.limits.request_bytes_max)?;
        // An idle connection gets memory when something is there to be read.
        if growth > 0 && self.inbox.capacity() > 0 {
            self.inbox.grow(growth, &mut self.share, &self.bell).await?;
        }
        match self.event().await? {
            Event::Readable if self.inbox.capacity() == 0 => {
                self.inbox.grow(growth, &mut self.share, &self.bell).await?;
                self.tick.as_mut().reset(Instant::now() + RELEASE_AFTER);
            }
            Event::Readable => {}
            Event::Settled(answer) => {
                self.waiting.pop_front();
                self.outgoing.buffer.unsplit(answer);
            }
            Event::Tick => self.look_after_idleness()?,
            Event::Bell if self.bell.is_evicted() => return Err(Evicted.into()),
            Event::Bell => {
                // Everything here is answered but for what waits for tickets.
                self.settle_all().await?;
                self.flush().await?;
                return Err(Closed::Stopping);
            }
        }
        Ok(())
    }

    async fn event(&mut self) -> Result<Event, Closed> {
        let Self { stream, inbox, waiting, bell, tick, share, last_read, .. } = self;
        poll_fn(|context| {
            if bell.is_evicted() || bell.is_stopping() {
                return Poll::Ready(Ok(Event::Bell));
            }
            if let Some(front) = waiting.front_mut()
                && let Poll::Ready(answer) = front.as_mut().poll(context)
            {
                return Poll::Ready(Ok(Event::Settled(answer)));
            }
            if waiting.len() < WAITING_ANSWERS_MAX {
                if inbox.capacity() == 0 {
                    if stream.poll_read_ready(context)?.is_ready() {
                        return Poll::Ready(Ok(Event::Readable));
                    }
                } else if let Poll::Ready(read) = pin!(stream.read_buf(inbox.bytes_mut())).poll(context)? {
                    if read == 0 {
                        return Poll::Ready(Err(Closed::ByPeer));
                    }
                    share.delivered(read);
                    *last_read = Instant::now();
                    return Poll::Ready(Ok(Event::Readable));
                }
            }
            bell.listen(context.waker());
            if bell.is_evicted() || bell.is_stopping() {
                return Poll::Ready(Ok(Event::Bell));
            }
            tick.as_mut().poll(context).map(|()| Ok(Event::Tick))
        })
        .await
    }

    fn look_after_idleness(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        let silent = now - self.last_read;
        let next = if !self.waiting.is_empty() {
            now + RELEASE_AFTER
        } else if silent >= self.limits.idle_max {
            return Err(Closed::Idle);
        } else if silent >= RELEASE_AFTER && self.inbox.is_empty() {
            self.inbox.release(&mut self.share);
            self.outgoing = Outgoing::default();
            self.fetching = fetch::Buffers::default();
            later(self.last_read, self.limits.idle_max)
        } else {
            (now + RELEASE_AFTER).min(later(self.last_read, self.limits.idle_max))
        };
        self.tick.as_mut().reset(next);
        Ok(())
    }
}

/// A deadline that may be never.
fn later(from: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    from + by.min(FAR)
}

/// Runs `work`, which waits for others; ends early when the peer leaves, and cuts it short when the broker stops.
async fn while_peer_stays(stream: &TcpStream, bell: &Bell, work: impl Future<Output = ()>) -> Result<(), Closed> {
    let left = async {
        match stream.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => std::future::pending().await,
            _ => (),
        }
    };
    let stopping = poll_fn(|context| {
        bell.listen(context.waker());
        if bell.is_stopping() { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::select! {
        biased;
        () = work => Ok(()),
        () = stopping => Ok(()),
        () = left => Err(Closed::ByPeer),
    }
}
