//! Disks that a test makes slow or broken while the process runs.
//!
//! With the feature `crash-points` (never in a release artefact) the environment variable `TERRACE_DISK_FAULTS` names a
//! file whose lines are `slow <milliseconds> <path>`, `cold <milliseconds> <path>` or `fail <path>`, of everything at or
//! below a path. It is read again at each call, so a test changes it as it likes; without the file all disks are well.
//!
//! A slow disk holds up what waits for it in the end, writes and syncs, whose caller sleeps as in a throttled kernel. Of a
//! cold one nothing is in the page cache, and whoever brings it there sleeps. A broken one fails everything with EIO.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::{Entry, File, Fs, Open, RealFs, SharedFile};

/// What a call does to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Reads,
    Writes,
}

/// One line of the file.
#[derive(Clone, Copy)]
enum Fault {
    Slow(Duration),
    Cold(Duration),
    Fail,
}

/// The lines of the file that the environment names.
#[derive(Debug, Clone)]
struct Faults(Arc<Path>);

impl Faults {
    /// What is wrong with a path now.
    fn of(&self, path: &Path) -> Vec<Fault> {
        let lines = std::fs::read_to_string(&self.0).unwrap_or_default();
        let fault = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let after = |milliseconds: &str| Duration::from_millis(milliseconds.parse().unwrap_or(0));
            let (fault, of) = match words[..] {
                ["fail", of] => (Fault::Fail, of),
                ["slow", milliseconds, of] => (Fault::Slow(after(milliseconds)), of),
                ["cold", milliseconds, of] => (Fault::Cold(after(milliseconds)), of),
                _ => return None,
            };
            path.starts_with(of).then_some(fault)
        };
        lines.lines().filter_map(fault).collect()
    }

    fn meet(&self, path: &Path, access: Access) -> io::Result<()> {
        for fault in self.of(path) {
            match fault {
                Fault::Fail => return Err(Errno::IO.into()),
                Fault::Slow(wait) if access == Access::Writes => std::thread::sleep(wait),
                Fault::Slow(_) | Fault::Cold(_) => {}
            }
        }
        Ok(())
    }

    /// How long a read of the disk takes where the page cache holds nothing.
    fn cold(&self, path: &Path) -> Option<Duration> {
        self.of(path).into_iter().find_map(|fault| if let Fault::Cold(wait) = fault { Some(wait) } else { None })
    }

    fn reads(&self, path: &Path) -> io::Result<()> {
        self.meet(path, Access::Reads)
    }

    fn writes(&self, path: &Path) -> io::Result<()> {
        self.meet(path, Access::Writes)
    }
}

/// The machine's file system with the faults that a test asks for.
#[derive(Debug)]
pub(super) struct FaultyFs(Faults);

impl FaultyFs {
    /// If a test asks for it.
    pub(super) fn from_env() -> Option<Self> {
        let path = std::env::var_os("TERRACE_DISK_FAULTS")?;
        Some(Self(Faults(PathBuf::from(path).into())))
    }
}

impl Fs for FaultyFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<SharedFile> {
        self.0.reads(path)?;
        Ok(Arc::new(FaultyFile { file: RealFs.open(path, how)?, path: path.into(), faults: self.0.clone() }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.reads(path)?;
        RealFs.read(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.reads(path)?;
        RealFs.create_dir_all(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.reads(path)?;
        RealFs.create_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.0.reads(path)?;
        RealFs.read_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        RealFs.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.writes(from)?;
        RealFs.rename(from, to)
    }
    fn rename_unsynced(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.reads(from)?;
        RealFs.rename_unsynced(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.reads(path)?;
        RealFs.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.reads(path)?;
        RealFs.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.writes(path)?;
        RealFs.sync_dir(path)
    }
    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.0.writes(path)?;
        RealFs.sync_file_system(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: SharedFile,
    path: Box<Path>,
    faults: Faults,
}

impl File for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.faults.writes(&self.path)?;
        self.file.write_all_at(bytes, position)
    }
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.faults.writes(&self.path)?;
        self.file.write_vectored_at(parts, position)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.faults.reads(&self.path)?;
        self.file.read_at(buffer, position)
    }
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.faults.reads(&self.path)?;
        if self.faults.cold(&self.path).is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.file.read_cached_at(buffer, position)
    }
    fn is_cached(&self, position: u64, len: u64) -> bool {
        self.faults.cold(&self.path).is_none() && self.file.is_cached(position, len)
    }
    fn bring_to_cache(&self, position: u64, len: u64, ahead: u64) -> io::Result<()> {
        self.faults.reads(&self.path)?;
        if let Some(wait) = self.faults.cold(&self.path) {
            std::thread::sleep(wait);
        }
        self.file.bring_to_cache(position, len, ahead)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.faults.writes(&self.path)?;
        self.file.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.writes(&self.path)?;
        self.file.set_len(len)
    }
    fn reserve(&self, position: u64, len: u64) -> io::Result<()> {
        self.file.reserve(position, len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }
}
