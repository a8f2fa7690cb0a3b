//! One broker per folder: a lock in the data folder and one in each log folder, held until the process ends.
//!
//! A log folder that cannot even be locked is one whose disk failed: as in Kafka the others go on without it.

use std::io;
use std::path::{Path, PathBuf};

use terrace_tiering::platform::kernel::{Locked, lock_exclusive};

use crate::config::server::Dirs;

/// Kafka's name, so that a Kafka broker on the same folder is refused too.
const LOCK_FILE: &str = ".lock";

/// A folder that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by another broker", .0.display())]
    InUse(PathBuf),
    /// It cannot be made or written.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
}

/// All locks of a broker.
#[derive(Debug)]
#[must_use = "dropping the locks releases the folders"]
pub struct Locks {
    held: Vec<Locked>,
    /// Log folders that could not be locked, and why.
    pub failed: Vec<(PathBuf, String)>,
}

impl Locks {
    /// Makes the folders where they are missing and locks them. Fails when another broker has any of them, and when
    /// nothing is left to work with.
    pub fn take(dirs: &Dirs) -> Result<Self, LockError> {
        let mut locks = Self { held: vec![lock(&dirs.data)?], failed: Vec::new() };
        for folder in &dirs.logs {
            match lock(folder) {
                Ok(held) => locks.held.push(held),
                Err(LockError::Io(path, why)) if locks.failed.len() + 1 < dirs.logs.len() => {
                    locks.failed.push((path, why.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(locks)
    }
}

fn lock(folder: &Path) -> Result<Locked, LockError> {
    let io = |e| LockError::Io(folder.to_owned(), e);
    std::fs::create_dir_all(folder).map_err(io)?;
    lock_exclusive(&folder.join(LOCK_FILE)).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => LockError::InUse(folder.to_owned()),
        _ => io(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_on_any_of_the_folders_is_refused() {
        let root = tempfile::tempdir().expect("folder");
        let at = |name: &str| root.path().join(name);
        let dirs = |data: &str, logs: &[&str]| Dirs {
            data: at(data),
            logs: logs.iter().map(|log| at(log)).collect(),
            metadata: at(data),
            remote_cache: at("cache"),
        };
        let first = Locks::take(&dirs("a", &["a/log", "b"])).expect("free");
        for other in [dirs("a", &["x"]), dirs("x", &["b"]), dirs("x", &["y", "a/log"])] {
            assert!(matches!(Locks::take(&other), Err(LockError::InUse(_))));
        }
        drop(first);
        assert!(Locks::take(&dirs("a", &["b"])).is_ok());
    }

    #[test]
    fn a_log_folder_that_cannot_be_had_leaves_the_others() {
        let root = tempfile::tempdir().expect("folder");
        let at = |name: &str| root.path().join(name);
        std::fs::write(at("no-folder"), "").expect("written");
        let dirs = |logs: &[&str]| Dirs {
            data: at("data"),
            logs: logs.iter().map(|log| at(log)).collect(),
            metadata: at("data"),
            remote_cache: at("cache"),
        };
        let locks = Locks::take(&dirs(&["no-folder", "b"])).expect("one works");
        assert_eq!(locks.failed.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&at("no-folder")]);
        drop(locks);
        assert!(matches!(Locks::take(&dirs(&["no-folder"])), Err(LockError::Io(..))));
    }
}
