//! Accepting connections, and how many.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::FutureExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Budget;
use super::bell::Bell;
use super::connection::{Closed, Connection, Limits};
use crate::api::Node;
use crate::config::listeners::Listener;
use crate::config::server::Requests;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// All connections of the node.
#[derive(Debug)]
pub struct Connections {
    budget: Arc<Budget>,
    limits: Arc<Limits>,
    bounds: RwLock<Bounds>,
    /// `max.connections`: accepting waits for a place, as in Kafka.
    places: Arc<Semaphore>,
    /// Places to take away as they become free, since `max.connections` was lowered below what was open.
    surplus: AtomicUsize,
    tasks: TaskTracker,
    /// Ends what goes on without a connection when a stop has waited long enough.
    cut_off: CancellationToken,
    open: Mutex<Open>,
    backlog: u32,
    buffers: (Option<u64>, Option<u64>),
}

/// How many connections there may be.
#[derive(Debug, PartialEq, Eq)]
struct Bounds {
    places: usize,
    per_ip_max: u32,
    per_ip_overrides: HashMap<IpAddr, u32>,
}

impl Bounds {
    fn of(requests: &Requests) -> Self {
        let overrides = requests.connections_per_ip_overrides.iter();
        Self {
            places: usize::try_from(requests.connections_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS),
            per_ip_max: requests.connections_per_ip_max,
            per_ip_overrides: overrides.filter_map(|(host, max)| Some((host.parse().ok()?, *max))).collect(),
        }
    }

    fn per_ip(&self, ip: &IpAddr) -> u32 {
        self.per_ip_overrides.get(ip).copied().unwrap_or(self.per_ip_max)
    }
}

#[derive(Debug, Default)]
struct Open {
    per_ip: HashMap<IpAddr, u32>,
    bells: HashMap<u64, Weak<Bell>>,
    aborts: HashMap<u64, tokio::task::AbortHandle>,
    next_number: u64,
}

impl Connections {
    /// None yet, bounded as the configuration says.
    pub fn new(requests: &Requests) -> Arc<Self> {
        let bounds = Bounds::of(requests);
        Arc::new(Self {
            budget: Budget::new(usize::try_from(requests.queued_bytes_max).unwrap_or(usize::MAX)),
            limits: Arc::new(Limits {
                request_bytes_max: requests.request_bytes_max as usize,
                idle_max: Duration::from_millis(requests.connections_idle_ms_max),
            }),
            places: Arc::new(Semaphore::new(bounds.places)),
            bounds: RwLock::new(bounds),
            surplus: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            cut_off: CancellationToken::new(),
            open: Mutex::default(),
            backlog: requests.listen_backlog,
            buffers: (requests.receive_buffer_bytes, requests.send_buffer_bytes),
        })
    }

    /// Other bounds from now on. Connections that are open stay; when there are more than there may be, accepting waits
    /// until enough of them are gone.
    pub fn set_bounds(&self, requests: &Requests) {
        let next = Bounds::of(requests);
        let mut bounds = self.bounds.write().unwrap_or_else(PoisonError::into_inner);
        if next.places > bounds.places {
            let more = next.places - bounds.places;
            // First those that were still to be taken away.
            let kept =
                self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |s| Some(s.saturating_sub(more)));
            self.places.add_permits(more - kept.unwrap_or(0).min(more));
        } else {
            let fewer = bounds.places - next.places;
            let gone = self.places.forget_permits(fewer);
            self.surplus.fetch_add(fewer - gone, Ordering::Relaxed);
        }
        *bounds = next;
    }

    /// Memory of requests and answers.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Connections open at this moment.
    pub fn count(&self) -> usize {
        self.lock().bells.len()
    }

    // Plain counts; no code of others runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds a listener.
    pub async fn bind(&self, listener: &Listener) -> io::Result<TcpListener> {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (host, port) in listener.bind.bind_hosts() {
            for address in tokio::net::lookup_host((host.as_str(), port)).await? {
                match self.bind_address(address) {
                    Ok(listener) => return Ok(listener),
                    Err(error) => failure = error,
                }
            }
        }
        Err(failure)
    }

    fn bind_address(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        let bytes = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(receive) = self.buffers.0 {
            socket.set_recv_buffer_size(bytes(receive))?;
        }
        if let Some(send) = self.buffers.1 {
            socket.set_send_buffer_size(bytes(send))?;
        }
        socket.bind(address)?;
        socket.listen(self.backlog)
    }

    /// Accepts until `stopping`.
    pub async fn accept(
        self: Arc<Self>,
        node: Arc<Node>,
        listener: TcpListener,
        name: Arc<str>,
        stopping: CancellationToken,
    ) {
        loop {
            let next = async {
                // The semaphore is never closed.
                let place = self.places.clone().acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            };
            let accepted = tokio::select! {
                () = stopping.cancelled() => return,
                accepted = next => accepted,
            };
            match accepted {
                Some((place, Ok((stream, peer)))) => self.admit(&node, stream, peer, &name, place),
                Some((_, Err(error))) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => return,
            }
        }
    }

    fn admit(
        self: &Arc<Self>,
        node: &Arc<Node>,
        stream: TcpStream,
        peer: SocketAddr,
        listener: &Arc<str>,
        place: OwnedSemaphorePermit,
    ) {
        let ip = peer.ip().to_canonical();
        let bell = Arc::new(Bell::default());
        let most = self.bounds.read().unwrap_or_else(PoisonError::into_inner).per_ip(&ip);
        let number = {
            let mut open = self.lock();
            let count = open.per_ip.entry(ip).or_default();
            if *count >= most {
                tracing::info!(%ip, "connection refused: max.connections.per.ip is reached");
                return;
            }
            *count += 1;
            open.next_number += 1;
            let number = open.next_number;
            open.bells.insert(number, Arc::downgrade(&bell));
            number
        };
        let registered = Registered { connections: self.clone(), number, ip, place: Some(place) };
        // Answers are whole when they are written; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let share = self.budget.share(bell.clone());
        let connection =
            Connection::new(node.clone(), stream, peer, listener.clone(), self.limits.clone(), bell, share);
        let (cut_off, node) = (self.cut_off.clone(), node.clone());
        let task = self.tasks.spawn(async move {
            let served = async {
                let (closed, unfinished) = connection.run().await;
                drop(registered);
                report(peer, &closed);
                node.disconnected(peer).await;
                if let Some(unfinished) = unfinished {
                    cut_off.run_until_cancelled(unfinished.run()).await;
                }
            };
            if AssertUnwindSafe(served).catch_unwind().await.is_err() {
                metrics::counter!("terrace_connection_panics_total").increment(1);
                tracing::error!(%peer, "a request panicked; its connection is closed");
            }
        });
        let mut open = self.lock();
        if open.bells.contains_key(&number) {
            open.aborts.insert(number, task.abort_handle());
        }
    }

    /// Lets every connection finish what it has in hand, at most `within`; then cuts them off.
    pub async fn drain(&self, within: Duration) {
        let bells: Vec<_> = self.lock().bells.values().filter_map(Weak::upgrade).collect();
        for bell in bells {
            bell.stop();
        }
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            self.cut_off.cancel();
            let aborts: Vec<_> = self.lock().aborts.drain().collect();
            for (_, abort) in aborts {
                abort.abort();
            }
            self.tasks.wait().await;
        }
    }
}

fn report(peer: SocketAddr, closed: &Closed) {
    match closed {
        Closed::ByPeer | Closed::Idle | Closed::Stopping | Closed::Io(_) => {
            tracing::debug!(%peer, reason = %closed, "connection closed");
        }
        Closed::Frame(_) | Closed::Evicted(_) | Closed::Request(_) => {
            tracing::info!(%peer, reason = %closed, "connection closed");
        }
    }
}

/// Takes a connection off the books on every way out of its task.
struct Registered {
    connections: Arc<Connections>,
    number: u64,
    ip: IpAddr,
    /// `None` only while dropping.
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let surplus = &self.connections.surplus;
        if surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |s| s.checked_sub(1)).is_ok()
            && let Some(place) = self.place.take()
        {
            place.forget();
        }
        let mut open = self.connections.lock();
        open.bells.remove(&self.number);
        open.aborts.remove(&self.number);
        if let Some(count) = open.per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.per_ip.remove(&self.ip);
            }
        }
    }
}
