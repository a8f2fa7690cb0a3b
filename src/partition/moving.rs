//! A partition goes over to another of `log.dirs` while it serves (KIP-113).
//!
//! ```text
//!  asked: <target>/<topic>-<partition>.<id>-future made
//!   -> passes of the copy beside the appends, until little is left
//!   -> under the lock: the last pass, synced; old directory renamed -delete (from here on it has moved);
//!      copy renamed <topic>-<partition>; log in memory over to it
//!   -> checkpoint of the new directory, then that of the old one; the old files go after file.delete.delay.ms
//! ```
//! One move of the node runs at a time. The lock is held for what was appended since the last pass and a few syncs.
//! Asking again for the same directory changes nothing, asking for another one gives the running move up.
//! What a crash leaves at each step is in docs/crash-safety.md; the start's side is `registry/homes.rs`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terrace_tiering::platform::crash_point::{self, CrashPoint};

use super::deletion::{self, NAME_BYTES_MAX};
use super::due::{DueQueue, Work};
use super::open;
use super::registry::Partitions;
use super::{Online, Partition, State};
use crate::log::checkpoint::Checkpoint;
use crate::log::moving::LogCopy;
use crate::log::names::MOVED;
use crate::log::segment::LogDirectory;
use crate::metadata::image::PartitionId;
use crate::protocol::error_code::ErrorCode;
use crate::wal::ticket::Rejected;

/// Behind the name of a directory that a partition is being copied to.
pub(super) const FUTURE_SUFFIX: &str = "-future";
/// `.`, an id of 32 digits, [`FUTURE_SUFFIX`].
const FUTURE_BYTES: usize = 1 + 32 + FUTURE_SUFFIX.len();
/// So much may be left for the pass under the lock.
const LAST_PASS_BYTES_MAX: u64 = 1 << 20;
/// Wishes for partitions that do not exist yet, at most; Kafka keeps any number.
const PREFERRED_MAX: usize = 10_000;
/// A throttled copy sleeps at most so long at once.
const NAP: Duration = Duration::from_millis(100);

/// Why a partition is not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// The directory of the copy would have a name longer than file systems take.
    #[error("the topic's name is too long")]
    NameTooLong,
    /// No such directory among `log.dirs`.
    #[error("no such log directory")]
    UnknownDir,
    /// The directory, or the partition, is offline.
    #[error("the log directory or the partition is offline")]
    Storage,
    /// Not created yet: it will be in the directory that was named.
    #[error("no such partition")]
    UnknownPartition,
}

impl MoveError {
    /// What the client is told.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::NameTooLong => ErrorCode::InvalidTopicException,
            Self::UnknownDir => ErrorCode::LogDirNotFound,
            Self::Storage => ErrorCode::KafkaStorageError,
            Self::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        }
    }
}

/// A move that was asked for.
#[derive(Debug)]
pub(super) struct Move {
    /// The directory, by its place in the node's list.
    to: usize,
    /// Where the copy is made.
    path: PathBuf,
    given_up: AtomicBool,
    copied_bytes: AtomicU64,
    /// The log's end that the last whole pass saw.
    copied_end: AtomicU64,
}

/// A copy of a partition on its way to another log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FutureReplica {
    /// The directory that it is made in.
    pub log_dir: PathBuf,
    /// Bytes of records that are there.
    pub size_bytes: u64,
    /// The offset that they reach.
    pub end: i64,
}

/// What the moves of a node share.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) queue: DueQueue,
    preferred: Mutex<HashMap<(String, i32), usize>>,
    stopping: Mutex<bool>,
    /// The node stops, or a move was given up.
    wake: Condvar,
}

impl Moves {
    fn is_stopping(&self) -> bool {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The move that runs ends where it is; a start takes it up again.
    pub(super) fn stop(&self) {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    /// Sleeps, unless the node stops meanwhile or somebody gives a move up.
    fn nap(&self, most: Duration) {
        let stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        if !*stopping {
            drop(self.wake.wait_timeout(stopping, most));
        }
    }

    /// Changed by whole entries, so a panic elsewhere leaves it whole.
    fn preferred(&self) -> MutexGuard<'_, HashMap<(String, i32), usize>> {
        self.preferred.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a try to go over ended.
enum Ending {
    Moved {
        aside: Option<PathBuf>,
        from: usize,
    },
    /// Too much was appended since the last pass.
    Behind,
    GivenUp,
}

impl Partitions {
    /// Has a partition moved to the log directory at `path`. Returns when the move is under way; done when the partition
    /// is there already. Blocks.
    pub fn move_partition(&self, topic: &str, number: i32, path: &Path) -> Result<(), MoveError> {
        if topic.len() + format!("-{number}").len() + FUTURE_BYTES > NAME_BYTES_MAX {
            return Err(MoveError::NameTooLong);
        }
        let is_asked = |dir: &Path| std::path::absolute(dir).is_ok_and(|dir| dir.as_os_str() == path.as_os_str());
        let to = self.dirs().iter().position(|dir| is_asked(dir.path())).ok_or(MoveError::UnknownDir)?;
        if self.dirs()[to].sync().is_offline() {
            return Err(MoveError::Storage);
        }
        let Some(partition) = self.by_name(topic, number) else {
            let mut preferred = self.shared().moves.preferred();
            if preferred.len() < PREFERRED_MAX {
                preferred.insert((topic.to_owned(), number), to);
            }
            return Err(MoveError::UnknownPartition);
        };
        partition.ask_to_move(to)
    }

    /// Where somebody wished a partition to be before it was created.
    pub(super) fn preferred_dir(&self, topic: &str, number: i32) -> Option<usize> {
        let wished = self.shared().moves.preferred().remove(&(topic.to_owned(), number))?;
        (!self.dirs()[wished].sync().is_offline()).then_some(wished)
    }

    /// Begins the moves again that the life before left unfinished.
    pub(super) fn resume_moves(&self, moves: &[(PartitionId, usize)]) {
        for (id, to) in moves {
            if let Some(partition) = self.get(*id)
                && let Err(error) = partition.ask_to_move(*to)
            {
                tracing::warn!(?partition, %error, "move to another log directory not taken up again");
            }
        }
    }
}

impl Partition {
    /// The copy in another log directory that is being made.
    pub fn future_replica(&self) -> Option<FutureReplica> {
        let moving = self.moving().clone()?;
        Some(FutureReplica {
            log_dir: self.shared.dirs[moving.to].path().clone(),
            size_bytes: moving.copied_bytes.load(Ordering::Relaxed),
            end: moving.copied_end.load(Ordering::Relaxed).cast_signed(),
        })
    }

    /// Replaced as a whole, so a panic elsewhere leaves it whole.
    fn moving(&self) -> MutexGuard<'_, Option<Arc<Move>>> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody wants the move any more; what was copied goes.
    pub(super) fn give_up_move(&self) {
        self.give_up(&mut self.moving());
    }

    fn give_up(&self, moving: &mut Option<Arc<Move>>) {
        if let Some(given_up) = moving.take() {
            given_up.given_up.store(true, Ordering::Release);
            self.shared.moves.wake.notify_all();
            self.shared.due.push(self.shared.clock.now_ms(), Work::RemoveDirectory(given_up.path.clone()));
        }
    }

    fn ask_to_move(&self, to: usize) -> Result<(), MoveError> {
        let mut moving = self.moving();
        match *self.raw() {
            State::Gone => return Err(MoveError::UnknownPartition),
            State::Offline(_) | State::Behind { .. } => return Err(MoveError::Storage),
            State::Unopened(_) | State::Online(_) => {}
        }
        if moving.as_ref().is_some_and(|moving| moving.to == to) {
            return Ok(());
        }
        self.give_up(&mut moving);
        if self.home.load(Ordering::Acquire) == to {
            return Ok(());
        }
        let name = deletion::renamed(&self.topic, self.id.partition, self.shared.random.uuid(), FUTURE_SUFFIX);
        let path = self.shared.dirs[to].path().join(name);
        // From now on a start knows of it.
        if let Err(error) = self.directory_at(path.clone()).make() {
            tracing::error!(path = %path.display(), %error, "directory of a move not made");
            return Err(MoveError::Storage);
        }
        *moving = Some(Arc::new(Move {
            to,
            path,
            given_up: AtomicBool::new(false),
            copied_bytes: AtomicU64::new(0),
            copied_end: AtomicU64::new(0),
        }));
        drop(moving);
        self.shared.moves.queue.push(self.shared.clock.now_ms(), Work::Move(self.id));
        Ok(())
    }

    fn directory_at(&self, path: PathBuf) -> LogDirectory {
        LogDirectory::new(self.shared.fs.clone(), Arc::clone(&self.shared.files), path, self.id.topic)
    }

    /// Does the move that was asked for, unless nobody wants it any more. Blocks for as long as it takes.
    pub(super) fn run_move(&self) {
        let Some(moving) = self.moving().clone() else { return };
        let outcome = self.try_move(&moving);
        if moving.given_up.load(Ordering::Acquire) {
            // Who gave it up has the copy removed; what was made in it since then goes here.
            if let Err(error) = self.shared.fs.remove_dir_all(&moving.path) {
                tracing::warn!(path = %moving.path.display(), %error, "copy of a move that was given up not removed");
            }
            return;
        }
        if let Err(error) = outcome
            && !self.shared.moves.is_stopping()
        {
            tracing::error!(
                topic = %self.topic, partition = self.id.partition, to = %self.shared.dirs[moving.to].path().display(),
                %error, "partition not moved to the other log directory"
            );
            self.give_up_move();
        }
    }

    fn try_move(&self, moving: &Arc<Move>) -> io::Result<()> {
        let target = &self.shared.dirs[moving.to];
        // What its checkpoint knew from an earlier stay must not meet the files that are coming.
        target.forget(self.id);
        target.write_checkpoint()?;
        let mut copy = LogCopy::begin(&self.directory_at(moving.path.clone()))?;
        let mut pass_failed = 0;
        loop {
            let (view, end) = {
                let mut state = self.lock();
                let online = state.online().map_err(|_| io::Error::other("partition is offline"))?;
                (Arc::clone(online.log.view()), online.log.end())
            };
            match copy.pass(&view, &mut |bytes| self.pace(moving, bytes)) {
                Ok(()) => pass_failed = 0,
                // Retention or the cleaner was faster; one that fails again and again has another reason.
                Err(error) if error.kind() == io::ErrorKind::NotFound && pass_failed < 10 => {
                    pass_failed += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            moving.copied_bytes.store(copy.bytes(), Ordering::Relaxed);
            moving.copied_end.store(end.cast_unsigned(), Ordering::Relaxed);
            let view = self.view().map_err(|_| io::Error::other("partition is offline"))?;
            if copy.behind(&view) > LAST_PASS_BYTES_MAX {
                continue;
            }
            match self.go_over(moving, &mut copy)? {
                Ending::Behind => {}
                Ending::GivenUp => return Ok(()),
                Ending::Moved { aside, from } => {
                    if let Err(error) = self.settle_down(aside, from) {
                        tracing::warn!(?self, %error, "checkpoints after a move not written");
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Asked before each piece of the copy: waits as long as `replica.alter.log.dirs.io.max.bytes.per.second` says.
    fn pace(&self, moving: &Move, bytes: u64) -> io::Result<()> {
        let moves = &self.shared.moves;
        let mut slept = Duration::ZERO;
        loop {
            if moves.is_stopping() || moving.given_up.load(Ordering::Acquire) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let per_second = self.shared.settings.tuning.get().move_bytes_per_second.max(1);
            let due = Duration::from_secs_f64(bytes as f64 / per_second as f64);
            // Shorter waits are not worth one; most copies have no limit at all.
            if due.saturating_sub(slept) < Duration::from_millis(1) {
                break;
            }
            let nap = NAP.min(due.saturating_sub(slept));
            moves.nap(nap);
            slept += nap;
        }
        moving.copied_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The last pass and the change, under the lock.
    fn go_over(&self, moving: &Arc<Move>, copy: &mut LogCopy) -> io::Result<Ending> {
        // Nobody removes or replaces files, nobody syncs them, nobody gives the move up in the middle of it.
        let _maintenance = self.maintenance();
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = self.moving();
        if !wanted.as_ref().is_some_and(|wanted| Arc::ptr_eq(wanted, moving)) {
            return Ok(Ending::GivenUp);
        }
        let mut state = self.lock();
        let online = state.online().map_err(|_| io::Error::other("partition is offline"))?;
        if copy.behind(online.log.view()) > LAST_PASS_BYTES_MAX {
            return Ok(Ending::Behind);
        }
        self.finish_copy(online, copy).map_err(io::Error::other)?;
        let from = self.home.load(Ordering::Acquire);
        let (old, target) = (self.log_directory(), &self.shared.dirs[moving.to]);
        let new = open::log_directory(&self.shared, target, &self.topic, self.id);
        crash_point::reach(CrashPoint::MoveBeforeCommit);
        let fs = &self.shared.fs;
        let aside = fs.exists(&old.path).then(|| self.aside());
        if let Some(aside) = &aside {
            fs.rename(&old.path, aside)?;
        }
        crash_point::reach(CrashPoint::MoveAfterCommit);
        if let Err(error) = fs.rename(&moving.path, &new.path) {
            let back = aside.as_ref().map_or(Ok(()), |aside| fs.rename(aside, &old.path));
            if let Err(back) = back {
                // A start finds the whole copy and goes on with it.
                tracing::error!(topic = %self.topic, partition = self.id.partition, %error, %back, "partition is offline");
                state.leave(State::Offline(error.to_string()), Rejected::Storage);
            }
            return Err(error);
        }
        crash_point::reach(CrashPoint::MoveAfterRename);
        online.log.move_to(new);
        self.home.store(moving.to, Ordering::Release);
        self.shared.dirs[from].partitions().fetch_sub(1, Ordering::Relaxed);
        target.partitions().fetch_add(1, Ordering::Relaxed);
        online.changed = false;
        self.mark_changed(online);
        let moved = self.settle_moved(online);
        drop(state);
        *wanted = None;
        drop(wanted);
        if moved {
            self.waiters.moved();
        }
        Ok(Ending::Moved { aside, from })
    }

    /// The last pass, with all that a start needs to know of the copy.
    fn finish_copy(&self, online: &mut Online, copy: &mut LogCopy) -> Result<(), crate::log::LogError> {
        self.take_snapshot(online)?;
        let mut marks = self.marks(online)?;
        (marks.checked_end, marks.flushed_end) = (online.log.end(), online.log.end());
        let mark = Checkpoint { page_cache: None, clean_stop: false, partitions: vec![marks] };
        copy.finish(&online.log, online.snapshot_at, &mark.encode())
    }

    /// Both checkpoints say where it is now, and what it left goes.
    fn settle_down(&self, aside: Option<PathBuf>, from: usize) -> io::Result<()> {
        let (fs, old) = (&self.shared.fs, &self.shared.dirs[from]);
        tracing::info!(
            topic = %self.topic, partition = self.id.partition, from = %old.path().display(),
            to = %self.dir().path().display(), "partition moved to another log directory"
        );
        if let Some(aside) = aside {
            self.remove_later(aside);
        }
        self.dir().checkpoint_now(self)?;
        crash_point::reach(CrashPoint::MoveAfterCheckpoint);
        fs.remove_file(&self.log_directory().path.join(MOVED))?;
        old.forget(self.id);
        old.write_checkpoint()
    }
}
