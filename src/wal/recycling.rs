//! Where files of the write-ahead log come from: prepared in advance, and used again once partition files hold what they
//! carried. One thread does both, apart from the appends and the syncs of groups.

use std::io;
use std::sync::Arc;

use terrace_tiering::platform::crash_point::{self, CrashPoint};

use super::file::{WalFile, Zeros, path_of};
use super::group_commit::{Covered, Shared};
use super::partition_sync::{Running, StopOnPanic};

/// Full files, in sizes of a whole one, that wait before their partitions are synced: many appends to a partition cost it
/// one sync.
const RECYCLE_FROM: u64 = 3;

impl Shared {
    /// Syncs what the full files cover and frees them, if they have at least `from` bytes.
    pub(super) fn recycle(&self, from: u64) -> bool {
        let (count, covered) = {
            let mut tail = self.tail();
            let bytes: u64 = tail.full.iter().map(|full| full.wal.prepared_bytes).sum();
            if bytes < from || self.directory.is_offline() {
                return false;
            }
            (tail.full.len(), distinct(tail.full.iter_mut().flat_map(|full| full.covered.drain(..))))
        };
        match self.settle(&covered) {
            Ok(true) => {}
            Ok(false) => {
                if let Some(full) = self.tail().full.front_mut() {
                    full.covered = covered;
                }
                return false;
            }
            Err(error) => {
                self.directory.set_offline(&error);
                covered.iter().for_each(|partition| partition.fail());
                return false;
            }
        }
        crash_point::reach(CrashPoint::WalAfterRecycle);
        self.wait_for_closed_groups();
        for _ in 0..count {
            let Some(mut oldest) = self.tail().full.front().map(|full| full.wal.clone()) else { break };
            // Durably out of the replay before records of its next use overwrite those of its last: an old header over
            // new records would look like the end of the log. Oldest first, so that what is left has no hole.
            if let Err(error) = oldest.forget_header() {
                self.directory.set_offline(&error);
                return false;
            }
            if let Err(error) = self.fill(&mut oldest, self.settings.file_bytes) {
                // It serves as it is: the blocks that it has are written.
                let directory = self.settings.log_dir.display();
                tracing::warn!(%directory, %error, "a file of the write-ahead log does not grow to its full size");
            }
            let mut tail = self.tail();
            tail.full.pop_front();
            tail.spare.push_back(oldest);
        }
        true
    }

    /// Groups that are not on the disk may still have the last records of a full file, and those that are closed later have
    /// not. Behind their writes the file may be used again.
    fn wait_for_closed_groups(&self) {
        let mut tail = self.tail();
        let closed = tail.groups.closed();
        while tail.groups.settled() < closed {
            if self.settings.running == Running::ByHand {
                drop(tail);
                self.work_once();
                tail = self.tail();
                continue;
            }
            tail.is_settling_awaited = true;
            let Ok(woken) = self.turned.wait(tail) else { return };
            tail = woken;
        }
    }

    /// False when some partition still needs the log.
    fn settle(&self, covered: &[Arc<dyn Covered>]) -> io::Result<bool> {
        let mut all = true;
        for partition in covered {
            all &= partition.sync_files()?;
        }
        crash_point::reach(CrashPoint::WalBeforeRecycle);
        self.recycler.commit()?;
        Ok(all)
    }

    /// Prepares a file if one is soon needed.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let (number, bytes) = {
            let mut tail = self.tail();
            if !tail.needs_spare(self.settings.file_bytes) {
                return Ok(());
            }
            tail.next_prepared(self.settings.file_bytes)
        };
        let mut wal = WalFile::create(&self.fs, &self.settings.log_dir, number)?;
        // Here and not with the first group in it, which somebody waits for.
        self.fs.sync_dir(&self.settings.log_dir)?;
        let filled = self.fill(&mut wal, bytes);
        // A file that nobody knew of would stand on a full disk until the next start.
        if filled.is_err() && wal.prepared_bytes == 0 {
            self.fs.remove_file(&path_of(&self.settings.log_dir, number))?;
        } else {
            self.tail().spare.push_back(wal);
        }
        filled
    }

    /// Has the blocks of a file written up to `bytes`, unless the log is closed meanwhile.
    fn fill(&self, wal: &mut WalFile, bytes: u64) -> io::Result<()> {
        if wal.prepared_bytes >= bytes {
            return Ok(());
        }
        let zeros = Zeros::of_a_step();
        while wal.prepared_bytes < bytes && !self.tail().closed {
            wal.prepare_more(bytes, &zeros)?;
        }
        Ok(())
    }
}

/// Each once, in the order of their first place.
fn distinct(all: impl Iterator<Item = Arc<dyn Covered>>) -> Vec<Arc<dyn Covered>> {
    let mut seen = std::collections::HashSet::new();
    all.filter(|partition| seen.insert(Arc::as_ptr(partition).cast::<()>())).collect()
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    let _stop_on_panic = StopOnPanic;
    let recycle_from = RECYCLE_FROM * shared.settings.file_bytes;
    loop {
        let prepared = shared.prepare().inspect_err(|error| {
            let directory = shared.settings.log_dir.display();
            tracing::warn!(%directory, %error, "no file of the write-ahead log prepared");
        });
        let recycled = shared.recycle(recycle_from);
        let tail = shared.tail();
        if tail.closed || shared.directory.is_offline() {
            return;
        }
        // What failed or could not be done is tried again at the next turn of files.
        let more = prepared.is_ok() && tail.needs_spare(shared.settings.file_bytes) || recycled;
        if !more && shared.turned.wait(tail).is_err() {
            return;
        }
    }
}
