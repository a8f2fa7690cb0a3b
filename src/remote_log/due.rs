//! Which partition needs work, and when: one queue ordered by due time, so that no partition has a timer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metadata::image::PartitionId;

/// Partitions by due time. Each is in it at most once and worked on by at most one worker at a time.
#[derive(Debug, Default)]
pub struct DueQueue {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    due: BTreeSet<(Instant, PartitionId)>,
    times: HashMap<PartitionId, Instant>,
    running: HashSet<PartitionId>,
}

impl Inner {
    /// Earlier wins.
    fn push(&mut self, id: PartitionId, at: Instant) {
        match self.times.get(&id) {
            Some(known) if *known <= at => return,
            Some(known) => drop(self.due.remove(&(*known, id))),
            None => {}
        }
        self.times.insert(id, at);
        self.due.insert((at, id));
    }

    /// The first partition that is due and that nobody works on.
    fn pop(&mut self, now: Instant) -> Option<PartitionId> {
        let free = |entry: &&(Instant, PartitionId)| !self.running.contains(&entry.1);
        let (at, id) = *self.due.iter().take_while(|(at, _)| *at <= now).find(free)?;
        self.due.remove(&(at, id));
        self.times.remove(&id);
        self.running.insert(id);
        Some(id)
    }

    /// When the next partition that nobody works on is due.
    fn next_at(&self) -> Option<Instant> {
        self.due.iter().find(|(_, id)| !self.running.contains(id)).map(|(at, _)| *at)
    }
}

impl DueQueue {
    /// The partition needs work now. Cheap; may be called under a partition's lock.
    pub fn wake(&self, id: PartitionId) {
        self.wake_at(id, Instant::now());
    }

    /// The partition needs work at `at`, or earlier if it was in the queue for an earlier time.
    pub fn wake_at(&self, id: PartitionId, at: Instant) {
        self.lock().push(id, at);
        self.changed.notify_one();
    }

    /// The partition may need work: now, unless a time is known for it already (a retry that waits keeps waiting).
    pub(super) fn wake_unless_waiting(&self, id: PartitionId) {
        let mut inner = self.lock();
        if !inner.times.contains_key(&id) && !inner.running.contains(&id) {
            inner.push(id, Instant::now());
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Waits for a partition that is due. The caller owes a [`DueQueue::done`].
    pub(super) async fn next(&self) -> PartitionId {
        loop {
            let changed = self.changed.notified();
            let (found, next_at) = {
                let mut inner = self.lock();
                (inner.pop(Instant::now()), inner.next_at())
            };
            if let Some(id) = found {
                // One permit may stand for several pushes: the next worker looks too.
                self.changed.notify_one();
                return id;
            }
            match next_at {
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    /// Work on the partition ended; it is looked at again at `again`, or when somebody wakes it.
    pub(super) fn done(&self, id: PartitionId, again: Option<Instant>) {
        let mut inner = self.lock();
        inner.running.remove(&id);
        if let Some(at) = again {
            inner.push(id, at);
        }
        drop(inner);
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Every change under this lock is complete or has not begun.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn id(n: i32) -> PartitionId {
        PartitionId { topic: Uuid::from_u128(1), partition: n }
    }

    #[tokio::test(start_paused = true)]
    async fn partitions_come_when_due_and_once() {
        let queue = DueQueue::default();
        let now = Instant::now();
        queue.wake_at(id(2), now + Duration::from_secs(2));
        queue.wake_at(id(1), now + Duration::from_secs(1));
        queue.wake_at(id(1), now + Duration::from_secs(9));
        assert_eq!(queue.next().await, id(1));
        assert_eq!(now.elapsed().as_secs(), 1);
        assert_eq!(queue.next().await, id(2));
        queue.done(id(1), None);
        queue.done(id(2), Some(now + Duration::from_secs(5)));
        assert_eq!(queue.next().await, id(2));
        assert_eq!(now.elapsed().as_secs(), 5);
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_woken_while_it_is_worked_on_comes_again() {
        let queue = DueQueue::default();
        queue.wake(id(1));
        assert_eq!(queue.next().await, id(1));
        queue.wake(id(1));
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err(), "one worker at a time");
        queue.done(id(1), None);
        assert_eq!(queue.next().await, id(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_worker_hears_of_an_earlier_time() {
        let queue = std::sync::Arc::new(DueQueue::default());
        let start = Instant::now();
        queue.wake_at(id(1), start + Duration::from_secs(100));
        let (first, ()) = tokio::join!(queue.next(), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            queue.wake(id(2));
        });
        assert_eq!((first, start.elapsed().as_secs()), (id(2), 3));
    }
}
