//! The wait of a Fetch: for bytes, or for what comes from the bucket.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::reading::{Budget, Outcome, Records};
use super::{Fetch, Node};
use crate::partition::waiters::Watcher;

/// Longer than any disk takes that still works.
const DISK_PATIENCE: Duration = Duration::from_secs(3600);

impl Fetch {
    /// Waits until there is enough to answer with, or the time is over.
    pub async fn wait(&mut self, node: &Node) {
        let begun = Instant::now();
        let patience = Duration::from_millis(node.effective.borrow().remote.fetch_wait_ms_max);
        let watcher = self.watch();
        if self.has_cold() {
            self.wait_cold(node, &watcher, begun + self.max_wait.max(patience)).await;
        } else {
            self.wait_hot(node, &watcher, begun + self.max_wait).await;
            // What was evicted from the local log meanwhile is colder than when the wait began; that is rare, and it
            // waits no longer than a request for cold data.
            if self.has_cold() {
                self.wait_cold(node, &watcher, Instant::now() + patience).await;
            }
        }
        watcher.disarm();
        self.buffers.watches.clear();
    }

    /// What the partitions of this Fetch mark. A session's do so all the time.
    fn watch(&mut self) -> Arc<Watcher> {
        if let Some(session) = self.context.session() {
            return Arc::clone(session.watcher());
        }
        let watcher = Arc::clone(self.buffers.watcher.get_or_insert_with(Watcher::new));
        // Marks of a wait that was cut short.
        watcher.take_moved(drop);
        for read in &self.buffers.reads {
            if let Ok(partition) = &read.partition {
                self.buffers.watches.push(partition.watch(&watcher, read.slot, Some(read.outcome.visible)));
            }
        }
        watcher
    }

    async fn wait_hot(&mut self, node: &Node, watcher: &Watcher, deadline: Instant) {
        loop {
            self.drop_copies();
            watcher.arm(self.min_bytes.saturating_sub(self.bytes()), self.isolation);
            let in_time = if watcher.has_moved() { Instant::now() < deadline } else { watcher.wait(deadline).await };
            self.read_moved(node, watcher);
            if !in_time || self.is_enough() || self.has_cold() {
                return;
            }
        }
    }

    /// Reads again when something moved since the last read.
    fn read_moved(&mut self, node: &Node, watcher: &Watcher) {
        if !watcher.has_moved() {
            return;
        }
        match &mut self.context {
            super::Context::Sessionless | super::Context::Refused(_) => watcher.take_moved(drop),
            super::Context::Full(_) | super::Context::Incremental(_) => self.list_ready(node),
        }
        self.read_all(node);
    }

    /// Starts all cold reads at once. The answer goes out with the first that is there, or when hot partitions have
    /// enough; a failure of the store is told only when nothing else came until `deadline`. Local records are waited for
    /// as long as the disk takes, as in Kafka, whose readers block: an answer without them would only be asked again, and
    /// a disk that is behind already would be asked twice. Those stand in the node's line for the disk until the first of
    /// them is there; who was not next by then leaves it.
    async fn wait_cold(&mut self, node: &Node, watcher: &Watcher, deadline: Instant) {
        self.drop_copies();
        let mut loads = FuturesUnordered::new();
        let mut of_disk = false;
        for (at, read) in self.buffers.reads.iter_mut().enumerate() {
            if let Records::Cold(cold) = &mut read.outcome.records
                && let Some(cold) = cold.take()
            {
                of_disk |= cold.is_on_disk();
                loads.push(async move { (at, cold.load().await) });
            }
        }
        let missing = self.min_bytes.max(1).saturating_sub(self.bytes());
        let mut answered = self.bytes() > 0 && self.is_enough();
        watcher.arm(missing, self.isolation);
        let mut hot_moved = watcher.has_moved();
        let mut failures = Vec::new();
        let deadline = if of_disk { Instant::now() + DISK_PATIENCE } else { deadline };
        let mut hot = std::pin::pin!(watcher.wait(deadline));
        // Polled at least once, so that every load has begun: a download outlives the request that began it.
        loop {
            let loaded = if answered || hot_moved {
                // Whatever else is there by now comes along.
                match futures::poll!(loads.next()) {
                    Poll::Ready(loaded) => loaded,
                    Poll::Pending => break,
                }
            } else {
                tokio::select! {
                    biased;
                    loaded = loads.next(), if !loads.is_empty() => loaded,
                    _ = &mut hot => { hot_moved = true; continue; }
                }
            };
            match loaded {
                Some((at, Ok(loaded))) => {
                    let outcome = &mut self.buffers.reads[at].outcome;
                    outcome.aborted = loaded.aborted;
                    outcome.records = match loaded.range {
                        Some(range) => Records::File(range),
                        None => Records::Loaded(loaded.chunks),
                    };
                    answered = true;
                }
                Some((at, Err(error))) => failures.push((at, error)),
                None => break,
            }
        }
        if hot_moved {
            self.read_hot_again(node);
        }
        if self.bytes() > 0 {
            return;
        }
        for (at, error) in failures {
            let read = &mut self.buffers.reads[at];
            tracing::warn!(partition = read.watched.partition, %error, "a read of cold records failed; the client is told so");
            read.outcome = Outcome::failed(error.code());
        }
    }

    /// Reads what had nothing before, beside what was loaded; and what moved and was not read yet.
    fn read_hot_again(&mut self, node: &Node) {
        let mut budget = Budget::new(self.max_bytes);
        budget.take(self.bytes());
        if let Some(session) = self.context.session() {
            session.collect();
            let known: HashSet<u32> = self.buffers.reads.iter().map(|read| read.slot).collect();
            let session = &*session;
            let fresh = session.ready().iter().filter(|slot| !known.contains(slot));
            self.buffers.reads.extend(fresh.filter_map(|slot| super::read_of(session, *slot)));
        }
        for at in 0..self.buffers.reads.len() {
            let read = &self.buffers.reads[at];
            if matches!(read.outcome.records, Records::Empty) && !read.outcome.is_urgent() {
                self.read(node, at, &mut budget);
            }
        }
    }
}
