//! Directories of topics that are gone, and of topics that nobody knows.
//!
//! ```text
//!  metadata commit -> <topic>-<partition> renamed <topic>-<partition>.<id>-delete -> removed after file.delete.delay.ms
//! ```
//! A crash behind the commit leaves a directory that metadata does not know; the next start cannot tell it from one
//! that an operator put there, so it is set aside as `-stray`, as Kafka does. `-delete` directories go at any start.

use std::io;
use std::path::{Path, PathBuf};

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::SharedFs;
use terrace_tiering::platform::random::SharedRandom;
use uuid::Uuid;

use super::due::Work;
use super::moving::FUTURE_SUFFIX;
use super::{Partition, State};
use crate::log::checkpoint::{Checkpoint, PartitionMarks};
use crate::log::kafka_files::{self, PARTITION_METADATA};
use crate::log::names::{self, MOVED};
use crate::metadata::image::{Image, PartitionId};
use crate::wal::ticket::Rejected;

const DELETE_SUFFIX: &str = "-delete";
const STRAY_SUFFIX: &str = "-stray";
/// The longest file name of the file systems we run on.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// `<topic>-<partition>.<32 hex digits><suffix>`, the topic cut so that the name stays legal.
pub(super) fn renamed(topic: &str, partition: i32, unique: Uuid, suffix: &str) -> String {
    let tail = format!("-{partition}.{}{suffix}", unique.simple());
    let keep = topic.len().min(NAME_BYTES_MAX - tail.len());
    format!("{}{tail}", &topic[..topic.floor_char_boundary(keep)])
}

impl Partition {
    /// Metadata no longer knows it: serves nobody, and its files go. The new name is durable after the sync of the log
    /// directory, which is the caller's. False when there are no files.
    pub(super) fn delete(&self) -> bool {
        crash_point::reach(CrashPoint::TopicDeleteAfterCommit);
        self.give_up_move();
        let mut state = self.raw();
        let directory = self.log_directory();
        self.skip_opening(&state);
        state.leave(State::Gone, Rejected::NotLeader);
        drop(state);
        // One that was asked for in between; from here on none is.
        self.give_up_move();
        self.waiters.wake_all();
        self.dir().forget(self.id);
        if !self.shared.fs.exists(&directory.path) {
            return false;
        }
        let aside = self.aside();
        match self.shared.fs.rename_unsynced(&directory.path, &aside) {
            Ok(()) => self.remove_later(aside),
            Err(error) => {
                tracing::error!(directory = %directory.path.display(), %error, "directory of a deleted topic not removed");
            }
        }
        true
    }

    /// What its directory is called once it is to be removed.
    pub(super) fn aside(&self) -> PathBuf {
        let name = renamed(&self.topic, self.id.partition, self.shared.random.uuid(), DELETE_SUFFIX);
        self.dir().path().join(name)
    }

    /// Has the directory at `aside` removed after `file.delete.delay.ms`.
    pub(super) fn remove_later(&self, aside: PathBuf) {
        let at_ms = self.shared.clock.now_ms().saturating_add(self.topic_config().file_delete_delay_ms);
        self.shared.due.push(at_ms, Work::RemoveDirectory(aside));
    }
}

/// A directory of a partition that came, or was to come, from another log directory.
pub(super) struct Copy {
    pub(super) id: PartitionId,
    pub(super) path: PathBuf,
    /// Where the partition stood when the copy was whole; `None` when it never was.
    pub(super) marks: Option<Box<PartitionMarks>>,
}

/// What is in a log directory.
#[derive(Default)]
pub(super) struct Swept {
    /// Partitions that have a directory of their name.
    pub(super) partitions: Vec<PartitionId>,
    /// Those of them that came from another log directory and may not be in the checkpoint.
    pub(super) arrivals: Vec<Copy>,
    /// Directories that others are or were being copied to.
    pub(super) copies: Vec<Copy>,
}

/// The partitions of `image` that have a directory in `log_dir`. Leftovers of deletions are removed, directories that
/// no partition of the image claims are set aside. Of those that `had_files` knows (by the checkpoint) nothing is read.
pub(super) fn sweep(
    fs: &SharedFs,
    random: &SharedRandom,
    log_dir: &Path,
    image: &Image,
    had_files: &dyn Fn(PartitionId) -> bool,
) -> io::Result<Swept> {
    let mut found = Swept::default();
    for entry in fs.read_dir(log_dir)?.into_iter().filter(|entry| entry.is_dir) {
        let path = log_dir.join(&entry.name);
        if entry.name.ends_with(DELETE_SUFFIX) {
            fs.remove_dir_all(&path)?;
            continue;
        }
        if entry.name.ends_with(FUTURE_SUFFIX) {
            match topic_id_of(fs, &path).zip(future_partition(&entry.name)) {
                Some((topic, partition)) => {
                    let id = PartitionId { topic, partition };
                    found.copies.push(Copy { id, marks: moved_marks(fs, &path, id), path });
                }
                // A crash before it said whose it is.
                None => fs.remove_dir_all(&path)?,
            }
            continue;
        }
        let Some((topic, partition)) = names::parse_partition_dir(&entry.name) else { continue };
        let known = image.topic(topic).filter(|known| partition < known.partition_count);
        if let Some(id) = known.map(|known| PartitionId { topic: known.id, partition })
            && had_files(id)
        {
            // A topic's directory is renamed before another of its name can have one.
            found.partitions.push(id);
            continue;
        }
        match (known, topic_id_of(fs, &path)) {
            (Some(known), Some(id)) if known.id == id => {
                let id = PartitionId { topic: id, partition };
                found.partitions.push(id);
                if let Some(marks) = moved_marks(fs, &path, id) {
                    found.arrivals.push(Copy { id, path, marks: Some(marks) });
                }
            }
            // No more than a name: a crash before the first append made the file durable.
            (_, None) if is_bare(fs, &path)? => fs.remove_dir_all(&path)?,
            _ => {
                let name = renamed(topic, partition, random.uuid(), STRAY_SUFFIX);
                tracing::warn!(
                    directory = %path.display(), renamed = name,
                    "directory belongs to no partition of this cluster; it is set aside"
                );
                fs.rename(&path, &log_dir.join(name))?;
            }
        }
    }
    Ok(found)
}

/// The partition of a name that ends in `-<partition>.<id>-future`.
fn future_partition(name: &str) -> Option<i32> {
    let (name, _) = name.rsplit_once('.')?;
    name.rsplit_once('-')?.1.parse().ok()
}

/// What a whole copy says of where its partition stood.
fn moved_marks(fs: &SharedFs, directory: &Path, id: PartitionId) -> Option<Box<PartitionMarks>> {
    let bytes = fs.read(&directory.join(MOVED)).ok()?;
    let marks = Checkpoint::decode(&bytes).ok()?.partitions.pop()?;
    (marks.topic_id == id.topic && marks.partition == id.partition).then(|| Box::new(marks))
}

fn topic_id_of(fs: &SharedFs, directory: &Path) -> Option<Uuid> {
    let text = fs.read(&directory.join(PARTITION_METADATA)).ok()?;
    kafka_files::parse_partition_metadata(&text).ok()
}

/// Does the directory hold no record at all?
fn is_bare(fs: &SharedFs, directory: &Path) -> io::Result<bool> {
    let entries = fs.read_dir(directory)?;
    let mut logs = entries.iter().filter(|entry| entry.name.ends_with(".log"));
    Ok(logs.all(|entry| entry.len == 0) && !entries.iter().any(|entry| entry.is_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_topic_keeps_its_directory_name_legal() {
        let name = renamed(&"t".repeat(249), 7, Uuid::nil(), DELETE_SUFFIX);
        assert_eq!(name.len(), NAME_BYTES_MAX);
        assert!(name.ends_with("-7.00000000000000000000000000000000-delete"), "{name}");
    }
}
