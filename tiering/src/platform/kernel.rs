//! Which page cache holds a directory's unsynced writes, and the lock that keeps a second process out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Names the page cache behind a directory. As long as it stays the same, everything written there by a process that
/// died is still readable, synced or not; when any part differs, only what was synced is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCacheId {
    /// The kernel's boot: random, new at each.
    pub boot: [u8; 16],
    /// The mount, unique over the life of a kernel since Linux 6.8, before that until it is unmounted.
    pub mount: u64,
    /// The device of the file system: major number in the upper half, minor in the lower.
    pub device: u64,
}

impl PageCacheId {
    /// The page cache behind `dir` right now; `None` where the machine cannot tell, which must be read as "another".
    #[cfg(target_os = "linux")]
    pub fn of(dir: &Path) -> Option<Self> {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

        // STATX_MNT_ID_UNIQUE; a kernel that doesn't know it fills in the plain id, which the other flag asks for.
        let unique = StatxFlags::from_bits_retain(0x4000);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot = uuid::Uuid::try_parse(boot.trim()).ok()?.into_bytes();
        let stat = statx(CWD, dir, AtFlags::empty(), StatxFlags::MNT_ID | unique).ok()?;
        if stat.stx_mask & (StatxFlags::MNT_ID | unique).bits() == 0 {
            return None;
        }
        let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
        Some(Self { boot, mount: stat.stx_mnt_id, device })
    }

    /// The page cache behind `dir` right now; `None` where the machine cannot tell, which must be read as "another".
    #[cfg(not(target_os = "linux"))]
    pub fn of(_dir: &Path) -> Option<Self> {
        None
    }
}

/// A lock on a file, held until dropped or the process ends, however it ends.
#[derive(Debug)]
#[must_use = "dropping the lock releases it"]
pub struct Locked(#[expect(dead_code, reason = "the descriptor is the lock")] OwnedFd);

/// Takes the lock on the file at `path`, which is made when missing. `WouldBlock` when another process holds it, be it
/// one of ours (`flock`) or a JVM (a POSIX record lock): Linux keeps the two kinds apart.
pub fn lock_exclusive(path: &Path) -> io::Result<Locked> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
        |error| match error {
            // POSIX allows both answers to a lock that is taken.
            rustix::io::Errno::ACCESS => io::ErrorKind::WouldBlock.into(),
            error => io::Error::from(error),
        },
    )?;
    Ok(Locked(file.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(".lock");
        let first = lock_exclusive(&path).expect("nobody holds it");
        let second = lock_exclusive(&path).expect_err("it is held");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        assert!(lock_exclusive(&path).is_ok());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_names_the_same_page_cache_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = PageCacheId::of(dir.path());
        assert!(id.is_some());
        assert_eq!(PageCacheId::of(dir.path()), id);
        assert_ne!(PageCacheId::of(Path::new("/proc")), id);
    }
}
