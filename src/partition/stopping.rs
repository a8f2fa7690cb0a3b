//! A partition that stops by itself, while the rest of its log directory goes on.
//!
//! Records of it may be durable in the directory's write-ahead log alone, which keeps all files from the oldest that
//! somebody needs. So its files are synced once it serves nobody, by the directory's sync thread or by who recycles the log,
//! whichever is first; then it needs the log no more. What a crash leaves before that is replayed.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Online, Partition, State};
use crate::log::checkpoint::PartitionMarks;
use crate::log::{Flush, Haste};
use crate::wal::ticket::Rejected;

/// What a partition that is offline needs of its directory's write-ahead log.
#[derive(Debug, Default)]
enum Needs {
    /// Nobody knows what its files lack: all that there is.
    #[default]
    Unknown,
    /// What it had when it stopped, until this has run and the checkpoint has these marks.
    Sync(Option<Box<Flush>>, Box<PartitionMarks>),
    Nothing,
}

/// See [`Partition::settle_stopped`].
#[derive(Debug, Default)]
pub(super) struct Stopped(Mutex<Needs>);

impl Stopped {
    /// Changed as a whole, so a panic elsewhere leaves it whole.
    fn needs(&self) -> MutexGuard<'_, Needs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Partition {
    /// Stops serving, with a line for the operator: what is stored contradicts itself.
    pub fn set_offline(&self, why: &str) {
        tracing::error!(topic = %self.topic, partition = self.id.partition, why, "partition is offline");
        let mut state = self.raw();
        self.skip_opening(&state);
        let queued = match &mut *state {
            State::Online(online) => self.note_what_it_needs(online),
            State::Unopened(_) | State::Behind { .. } | State::Offline(_) | State::Gone => None,
        };
        state.leave(State::Offline(why.to_owned()), Rejected::Storage);
        drop(state);
        self.waiters.wake_all();
        self.send_to_sync(queued);
    }

    /// Under the lock, as its last act. Whom to hand to the sync thread.
    fn note_what_it_needs(&self, online: &mut Online) -> Option<Arc<Self>> {
        let mut marks = self.marks(online).inspect_err(|error| {
            tracing::warn!(topic = %self.topic, partition = self.id.partition, %error, "the next start recovers it");
        });
        let marks = marks.as_mut().ok()?;
        // As it is once it is synced.
        (marks.checked_end, marks.flushed_end) = (online.log.end(), online.log.end());
        *self.stopped.needs() = Needs::Sync(online.log.begin_flush().map(Box::new), Box::new(marks.clone()));
        self.request_sync(online)
    }

    /// Syncs what it had when it stopped. True once it needs nothing of the write-ahead log. Blocks.
    pub(super) fn settle_stopped(&self, haste: Haste) -> io::Result<bool> {
        // A sync that was under way when it stopped has names to sync, too.
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut needs = self.stopped.needs();
        if let Needs::Sync(flush, marks) = &*needs {
            // The operator may have moved it away, as the line above says: then nothing of it is to be kept.
            if self.shared.fs.exists(&self.log_directory().path) {
                if let Some(flush) = flush {
                    flush.run(haste)?;
                }
                self.dir().note_marks(marks);
            }
            *needs = Needs::Nothing;
        }
        Ok(matches!(*needs, Needs::Nothing))
    }
}
