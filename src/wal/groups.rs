//! Groups on their way to the disk: in the order of their records, written some at a time, told of strictly in order.
//!
//! ```text
//!  open group (Tail) --closed--> queued --taken--> being written --> written --all before it are too--> settled
//! ```
//! A group is closed when somebody has time to write it, or when its bundle is full. Whichever write ends first, a group
//! is settled only behind all that came before it: a loss of power may leave a later one on the disk without an earlier
//! one, and a replay ends at that hole.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use terrace_tiering::platform::fs::SharedFile;

use super::bundle::Bundle;
use super::group_commit::Covered;

/// Groups that are written at a time. A disk takes a second one almost for free; from four it gains little more.
pub(super) const WRITERS: usize = 2;
/// Beside a group that is being written, the open one goes only with this part of a bundle (128 KiB): smaller groups would
/// cost more writes and bring nobody's answer forward.
const BESIDE_FROM_PART: usize = 16;
/// Bundles in memory: one that is open, those that are being written, and what waits when appends outrun the disk.
pub(super) const BUNDLES_MAX: usize = 6;

/// Records that become durable together.
#[derive(Debug)]
pub(super) struct Group {
    /// Its place in the order.
    number: u64,
    pub(super) bundle: Bundle,
    /// Where the bundle goes, if it has anything: the file for durable writes, and the place.
    pub(super) bundle_to: Option<(SharedFile, u64)>,
    /// Files that have something of it in the page cache.
    pub(super) unsynced: Vec<SharedFile>,
    /// Has one of the files a name that is not durable?
    pub(super) names: bool,
    settled: Settled,
}

/// Of whom a group was, once it is on the disk or never will be.
#[derive(Debug)]
pub(super) struct Settled {
    /// The last record.
    pub(super) upto: u64,
    pub(super) waiting: Vec<Arc<dyn Covered>>,
}

#[derive(Debug)]
enum Stage {
    Queued(Group),
    Writing,
    Written(Settled),
}

/// The groups that are closed and not settled.
#[derive(Debug)]
pub(super) struct Groups {
    /// In order.
    stages: VecDeque<Stage>,
    /// So many are settled: the number of the first above is the next.
    settled: u64,
    writing: usize,
    /// Bundles without anything in them.
    free: Vec<Bundle>,
    /// Bundles in all, the open one included.
    bundles: usize,
    /// Bytes of memory that they may take; for those who look without the lock.
    held_bytes: Arc<AtomicU64>,
    bundle_bytes: usize,
    beside_from_bytes: usize,
    file_bytes: u64,
}

impl Groups {
    /// None yet, of a log with files of `file_bytes`, and the bundle of the first open group.
    pub(super) fn new(file_bytes: u64) -> (Self, Bundle) {
        let bundle = Bundle::for_files_of(file_bytes);
        let groups = Self {
            stages: VecDeque::new(),
            settled: 0,
            writing: 0,
            free: Vec::new(),
            bundles: 1,
            held_bytes: Arc::default(),
            bundle_bytes: bundle.bytes_max(),
            beside_from_bytes: bundle.bytes_max() / BESIDE_FROM_PART,
            file_bytes,
        };
        (groups, bundle)
    }

    /// The number of the group that is open.
    pub(super) fn open_number(&self) -> u64 {
        self.closed() + 1
    }

    /// How many are closed, of all times.
    pub(super) fn closed(&self) -> u64 {
        self.settled + self.stages.len() as u64
    }

    /// How many are settled, of all times.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Closes the open group, which was that of `bundle`; the bundle of the next.
    pub(super) fn close(
        &mut self,
        bundle: Bundle,
        bundle_to: Option<(SharedFile, u64)>,
        unsynced: Vec<SharedFile>,
        names: bool,
        settled: Settled,
    ) -> Bundle {
        let number = self.open_number();
        self.stages.push_back(Stage::Queued(Group { number, bundle, bundle_to, unsynced, names, settled }));
        let next = self.free.pop().unwrap_or_else(|| {
            self.bundles += 1;
            Bundle::for_files_of(self.file_bytes)
        });
        self.note_bundles();
        next
    }

    fn note_bundles(&self) {
        self.held_bytes.store((self.bundles * self.bundle_bytes) as u64, Ordering::Relaxed);
    }

    /// Bytes of memory that the bundles may take, as they change. None before the first group.
    pub(super) fn held_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.held_bytes)
    }

    /// Would one more bundle be too many?
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.bundles >= BUNDLES_MAX
    }

    /// Should the open group, whose bundle has `bytes`, be written now, too?
    pub(super) fn has_time_for(&self, bytes: usize) -> bool {
        self.writing == 0 || self.writing < WRITERS && bytes >= self.beside_from_bytes
    }

    /// Does one wait for a writer?
    pub(super) fn has_queued(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Queued(_)))
    }

    /// Is there one to be settled?
    pub(super) fn has_written(&self) -> bool {
        matches!(self.stages.front(), Some(Stage::Written(_)))
    }

    /// The oldest that waits for a writer, which must hand it back to [`Groups::note_written`].
    pub(super) fn take(&mut self) -> Option<Group> {
        let stage = self.stages.iter_mut().find(|stage| matches!(stage, Stage::Queued(_)))?;
        let Stage::Queued(group) = std::mem::replace(stage, Stage::Writing) else { return None };
        self.writing += 1;
        Some(group)
    }

    /// The write of a group is over, well or not; it is settled in its turn.
    pub(super) fn note_written(&mut self, group: Group) {
        let Group { number, mut bundle, settled, .. } = group;
        // Groups are numbered as they lie.
        let at = (number - self.settled - 1) as usize;
        self.stages[at] = Stage::Written(settled);
        self.writing -= 1;
        bundle.clear();
        self.free.push(bundle);
        if self.writing == 0 && !self.has_queued() {
            // What a burst needed; a busy log goes on with a bundle for each writer.
            let dropped = self.free.len().saturating_sub(WRITERS);
            self.free.truncate(WRITERS);
            self.bundles -= dropped;
            self.note_bundles();
        }
    }

    /// The next one in order, if its write is over.
    pub(super) fn settle(&mut self) -> Option<Settled> {
        if !self.has_written() {
            return None;
        }
        let Some(Stage::Written(settled)) = self.stages.pop_front() else { return None };
        self.settled += 1;
        Some(settled)
    }
}
