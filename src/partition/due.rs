//! The node's one queue of due work: roll, retention, `flush.ms`, removal of deleted files.
//!
//! No partition has a timer or a task. Whoever knows that something will be due pushes one entry; one task sleeps until
//! the earliest and does it on a thread that may block. Entries name the partition by (topic id, number): one that was
//! deleted meanwhile is not found, and its work is not done.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::metadata::image::PartitionId;
use crate::protocol::record_batch::Offset;

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// `flush.ms` is over.
    Flush(PartitionId),
    /// `remote.segment.roll.ms` is over.
    Roll(PartitionId),
    /// Retention, local and total.
    Retention(PartitionId),
    /// Compaction; in the cleaning thread's own queue.
    Clean(PartitionId),
    /// A move to another log directory; in the queue of moves.
    Move(PartitionId),
    /// The files of a segment that left its log.
    RemoveSegment {
        /// The partition's directory.
        directory: PathBuf,
        /// The segment's base offset.
        base: Offset,
    },
    /// A directory whose topic was deleted.
    RemoveDirectory(PathBuf),
}

/// Due work by wall time.
#[derive(Debug, Default)]
pub struct DueQueue {
    heap: Mutex<BinaryHeap<Reverse<(i64, Work)>>>,
    earlier: Notify,
}

impl DueQueue {
    /// Changed by single pushes and pops, so a panic elsewhere leaves it whole.
    fn heap(&self) -> MutexGuard<'_, BinaryHeap<Reverse<(i64, Work)>>> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` at `at_ms` or soon after.
    pub fn push(&self, at_ms: i64, work: Work) {
        let mut heap = self.heap();
        let earliest = heap.peek().is_none_or(|Reverse((first, _))| at_ms < *first);
        heap.push(Reverse((at_ms, work)));
        drop(heap);
        if earliest {
            self.earlier.notify_one();
        }
    }

    /// Takes one piece that is due at `now_ms`.
    pub fn pop(&self, now_ms: i64) -> Option<Work> {
        let mut heap = self.heap();
        match heap.peek() {
            Some(Reverse((at, _))) if *at <= now_ms => heap.pop().map(|Reverse((_, work))| work),
            _ => None,
        }
    }

    /// When the next piece is due.
    pub fn next_ms(&self) -> Option<i64> {
        self.heap().peek().map(|Reverse((at, _))| *at)
    }

    /// Returns when something earlier than all before was pushed.
    pub async fn earlier(&self) {
        self.earlier.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_comes_out_by_time_and_not_before_it() {
        let queue = DueQueue::default();
        queue.push(20, Work::RemoveDirectory("b".into()));
        queue.push(10, Work::RemoveDirectory("a".into()));
        assert_eq!(queue.next_ms(), Some(10));
        assert_eq!(queue.pop(9), None);
        assert_eq!(queue.pop(15), Some(Work::RemoveDirectory("a".into())));
        assert_eq!(queue.pop(15), None);
        assert_eq!(queue.pop(20), Some(Work::RemoveDirectory("b".into())));
    }
}
