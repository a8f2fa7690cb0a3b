//! The file system as an injectable thing, and the durable file steps that everything else is made of.
//!
//! Two traits: [`Fs`] names files, [`File`] reads and writes one. [`RealFs`] is the machine's. A test's file system
//! drops what was not synced. All paths that must survive a power loss go through [`Fs::replace`], [`Fs::rename`] and
//! [`Fs::sync_dir`]: a bare rename is banned by `clippy.toml`.

pub mod durable;
#[cfg(feature = "crash-points")]
mod faulty;
pub mod power_loss;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::platform::crash_point::{self, CrashPoint};

/// A shared file system.
pub type SharedFs = Arc<dyn Fs>;
/// A shared open file; positioned reads and writes need no lock.
pub type SharedFile = Arc<dyn File>;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// For reading and writing; made when missing, its content kept when not.
    Create,
    /// For reading and writing; an error when it exists.
    CreateNew,
    /// An existing file, for writes that are durable when they return, past the page cache where that can be. Places and
    /// lengths are multiples of [`durable::BLOCK_BYTES`], and so is the memory's address for the fast way.
    Durable,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, lossily as UTF-8.
    pub name: String,
    /// Is it a directory?
    pub is_dir: bool,
    /// Its size in bytes; 0 for a directory.
    pub len: u64,
}

/// Names files. All methods block; callers on the async side keep them off the workers unless they are known short.
pub trait Fs: Send + Sync + Debug + 'static {
    /// Opens a file. A created name is durable only after [`Fs::sync_dir`] of its directory.
    fn open(&self, path: &Path, how: Open) -> io::Result<SharedFile>;
    /// All bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Makes a directory and those above it, and makes their names durable.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes one directory; fine when it is there. Its name is durable only after [`Fs::sync_dir`] of the one above.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, in no order.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Does the path exist?
    fn exists(&self, path: &Path) -> bool;
    /// Renames a file or directory and makes both directories' entries durable.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file, durable or not: for what may be lost, such as a cache.
    fn rename_unsynced(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename(from, to)
    }
    /// Removes a file; fine when it is already gone. Not durable by itself.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all in it; fine when it is already gone.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes everything in the file system of `path` durable. `Unsupported` where that cannot be asked.
    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Puts `bytes` at `path` so that a crash of the process leaves the old content or the new; a power loss may leave
    /// anything.
    fn replace_unsynced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = with_suffix(path, ".tmp");
        self.remove_file(&temporary)?;
        self.open(&temporary, Open::CreateNew)?.write_all_at(bytes, 0)?;
        self.rename_unsynced(&temporary, path)
    }

    /// As [`Fs::replace_unsynced`], by one file less where there is none yet: a crash of the process may then leave an
    /// empty one.
    fn put_unsynced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.open(path, Open::CreateNew) {
            Ok(file) => file.write_all_at(bytes, 0),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.replace_unsynced(path, bytes),
            Err(error) => Err(error),
        }
    }

    /// Puts `bytes` at `path` so that a crash leaves the old content or the new, never a mixture: new file, synced,
    /// renamed, directory synced. `at` names the crash points just before and just after the rename.
    fn replace(&self, path: &Path, bytes: &[u8], at: Option<(CrashPoint, CrashPoint)>) -> io::Result<()> {
        let temporary = with_suffix(path, ".tmp");
        self.remove_file(&temporary)?;
        let file = self.open(&temporary, Open::CreateNew)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        if let Some((before, _)) = at {
            crash_point::reach(before);
        }
        self.rename(&temporary, path)?;
        if let Some((_, after)) = at {
            crash_point::reach(after);
        }
        Ok(())
    }
}

/// One open file. Reads and writes are positioned, so a shared file needs no lock.
pub trait File: Send + Sync + Debug + 'static {
    /// Writes all of `bytes` at `position`; a short write is continued.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Writes all of `parts`, one behind the other, at `position`.
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut at = position;
        for part in parts {
            self.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }
    /// Reads into `buffer` from `position`; the number of bytes read, 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Fills `buffer` from `position`; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    /// As [`File::read_at`], but of what is in the page cache: `WouldBlock` instead of a wait for the disk.
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buffer, position)
    }
    /// Fills `buffer` from the page cache: `WouldBlock` when a part of it isn't there, else as [`File::read_exact_at`].
    fn read_exact_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_cached_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    /// Can the range be sent without a wait for the disk?
    fn is_cached(&self, _position: u64, _len: u64) -> bool {
        true
    }
    /// Brings a range into the page cache, and begins to read `ahead` bytes behind it. Blocks.
    fn bring_to_cache(&self, _position: u64, _len: u64, _ahead: u64) -> io::Result<()> {
        Ok(())
    }
    /// Asks the kernel to drop a range from the page cache. What is dirty or in use it keeps; nothing tells whether it
    /// complied.
    fn leave_cache(&self, _position: u64, _len: u64) {}
    /// Begins to write out what is dirty of a range, so that it can leave the page cache. Nothing becomes durable by that.
    fn begin_write_out(&self, _position: u64, _len: u64) {}
    /// Makes the content durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// As [`File::sync_data`], but what is dirty leaves in small steps, so that others who sync meanwhile wait for one of
    /// them and not for all. An error is one of the sync.
    fn sync_data_in_steps(&self) -> io::Result<()> {
        self.sync_data()
    }
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves blocks from `position` on without changing the size, where the file system can. Cutting the file, to its
    /// own size too, gives them back.
    fn reserve(&self, position: u64, len: u64) -> io::Result<()> {
        let _ = (position, len);
        Ok(())
    }
    /// The size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Is it empty?
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The descriptor, for `sendfile`; `None` where there is none (a test's file system): the caller then reads.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// `path` with `suffix` behind its last component.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The file system that a broker runs on: the machine's. With the feature `crash-points` a test may make its disks slow
/// or broken while it runs, see `faulty.rs`.
pub fn of_machine() -> SharedFs {
    #[cfg(feature = "crash-points")]
    if let Some(faulty) = faulty::FaultyFs::from_env() {
        return Arc::new(faulty);
    }
    RealFs::shared()
}

/// The machine's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFs;

impl RealFs {
    /// The machine's file system, shared.
    pub fn shared() -> SharedFs {
        Arc::new(Self)
    }
}

impl Fs for RealFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<SharedFile> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => &mut options,
            Open::Write => options.write(true),
            Open::Create => options.write(true).create(true).truncate(false),
            Open::CreateNew => options.write(true).create_new(true),
            Open::Durable => return Ok(Arc::new(durable::DurableFile::open(path)?)),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.create_dir_all(parent)?;
        }
        self.create_dir(path)?;
        self.sync_dir(directory_of(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                entries.push(Entry { name, is_dir: true, len: 0 });
                continue;
            }
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(Entry {
                name,
                is_dir: metadata.is_dir(),
                len: if metadata.is_dir() { 0 } else { metadata.len() },
            });
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that renames, with the directory sync behind it")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        self.sync_dir(directory_of(to))?;
        if directory_of(from) != directory_of(to) {
            self.sync_dir(directory_of(from))?;
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "asked for by name, for files that may be lost")]
    fn rename_unsynced(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        already_gone_is_fine(std::fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        already_gone_is_fine(std::fs::remove_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(std::fs::File::open(path)?)?)
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn already_gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[derive(Debug)]
struct RealFile(std::fs::File);

/// Where neither `cachestat` nor a read that doesn't wait can tell, so much at the end of a file counts as cached.
const PROBABLY_CACHED_BYTES: u64 = 64 << 20;
/// Every page of a read by so much is up to date when its last one is: reads of the disk are no larger.
const TOUCH_BYTES: u64 = 64 << 10;
/// What a sync in steps has written at once: a disk takes it in about a millisecond.
#[cfg(target_os = "linux")]
const WRITE_OUT_BYTES: u64 = 1 << 20;

/// A range up to this size comes and goes as a whole, mostly: the disk is read by so much.
const SHORT_RANGE_BYTES: u64 = 128 << 10;

#[cfg(target_os = "linux")]
impl RealFile {
    /// One byte from the page cache. The kernel refuses what is still being read, too.
    fn touch_cached(&self, position: u64) -> io::Result<usize> {
        let mut byte = [0];
        let parts = &mut [io::IoSliceMut::new(&mut byte)];
        Ok(rustix::io::preadv2(&self.0, parts, position, rustix::io::ReadWriteFlags::NOWAIT)?)
    }
}

impl File for RealFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let whole: usize = parts.iter().map(|part| part.len()).sum();
        let mut written = rustix::io::pwritev(&self.0, parts, position)?;
        // A short write is continued where it stopped; it is rare, so part by part is fine.
        let mut start = 0;
        for part in parts {
            if written < start + part.len() {
                let from = written - start;
                self.0.write_all_at(&part[from..], position + written as u64)?;
                written = start + part.len();
            }
            start += part.len();
        }
        debug_assert_eq!(written, whole, "every part is written");
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buffer, position)
    }

    #[cfg(target_os = "linux")]
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        use rustix::io::Errno;
        let parts = &mut [io::IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.0, parts, position, rustix::io::ReadWriteFlags::NOWAIT) {
            Ok(bytes) => Ok(bytes),
            // A file system that cannot tell.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.read_at(buffer, position),
            Err(error) => Err(error.into()),
        }
    }

    /// A kernel or a sandbox without `cachestat` costs one refused call each time; nothing is remembered.
    #[cfg(target_os = "linux")]
    fn is_cached(&self, position: u64, len: u64) -> bool {
        if len == 0 {
            return true;
        }
        let end = position + len;
        // What is there may still be on its way, which the last page tells; and of a short range it tells enough.
        if len > SHORT_RANGE_BYTES && matches!(super::sys::is_cached(self.0.as_fd(), position, len), Ok(false)) {
            return false;
        }
        match self.touch_cached(end - 1) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => self.len().is_ok_and(|len| end + PROBABLY_CACHED_BYTES >= len),
        }
    }

    #[cfg(target_os = "linux")]
    fn bring_to_cache(&self, position: u64, len: u64, ahead: u64) -> io::Result<()> {
        use std::num::NonZeroU64;
        let wanted = NonZeroU64::new(len + ahead);
        rustix::fs::fadvise(&self.0, position, wanted, rustix::fs::Advice::WillNeed)?;
        let mut byte = [0];
        let mut at = position;
        while at < position + len {
            at = (at + TOUCH_BYTES).min(position + len);
            self.read_at(&mut byte, at - 1)?;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn begin_write_out(&self, position: u64, len: u64) {
        // Advice as well: the kernel writes in its own time where it has no such call.
        let _ = super::sys::begin_write_out(self.0.as_fd(), position, len);
    }

    #[cfg(target_os = "linux")]
    fn leave_cache(&self, position: u64, len: u64) {
        if let Some(len) = std::num::NonZeroU64::new(len) {
            // Advice: a kernel that has none of it keeps the pages.
            let _ = rustix::fs::fadvise(&self.0, position, Some(len), rustix::fs::Advice::DontNeed);
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn sync_data_in_steps(&self) -> io::Result<()> {
        let len = self.len()?;
        for position in (0..len).step_by(WRITE_OUT_BYTES as usize) {
            match super::sys::write_out(self.0.as_fd(), position, WRITE_OUT_BYTES) {
                // A file system or a sandbox that has no such call: the sync does it all.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => break,
                done => done?,
            }
        }
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, position: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::KEEP_SIZE, position, len)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn steps_write_everything_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealFs.open(&dir.path().join("f"), Open::CreateNew).expect("it is made");
        file.sync_data_in_steps().expect("nothing is nothing to do");
        let descriptor = file.descriptor().expect("a real file has one");
        for bytes in [1, WRITE_OUT_BYTES, 3 * WRITE_OUT_BYTES + 5] {
            file.write_all_at(&vec![7; bytes as usize], 0).expect("it is written");
            super::super::sys::write_out(descriptor, 0, bytes).expect("the call is there");
            file.write_all_at(&vec![8; bytes as usize], 0).expect("it is written again");
            file.sync_data_in_steps().expect("it is synced");
        }
    }

    #[test]
    fn what_left_the_page_cache_is_not_read_without_a_wait() {
        const BYTES: u64 = 1 << 20;
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealFs.open(&dir.path().join("f"), Open::CreateNew).expect("it is made");
        file.write_all_at(&vec![7; BYTES as usize], 0).expect("it is written");
        file.sync_data().expect("it is synced");
        let mut some = [0; 100];
        assert!(file.is_cached(0, BYTES) && file.is_cached(5, 10) && file.is_cached(5, 0));
        file.read_exact_cached_at(&mut some, 5000).expect("it is cached");
        assert_eq!(some, [7; 100]);

        let descriptor = file.descriptor().expect("a real file has one");
        rustix::fs::fadvise(descriptor, 0, None, rustix::fs::Advice::DontNeed).expect("it may go");
        if file.is_cached(0, BYTES) {
            return; // A file system in memory keeps everything.
        }
        let error = file.read_cached_at(&mut some, 0).expect_err("it is on the disk");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        file.bring_to_cache(4096, BYTES - 4096, 0).expect("it is read");
        assert!(file.is_cached(4096, BYTES - 4096));
        file.read_exact_cached_at(&mut some, BYTES - 100).expect("it is cached again");
        assert_eq!(some, [7; 100]);
    }
}
