//! redb over the injectable file system, so that a crash test can drop what `meta.redb` had not synced.

use std::io;
use std::path::Path;

use redb::StorageBackend;
use terrace_tiering::platform::fs::{File, Fs, Open, SharedFile};

/// One open file as redb's storage. The data directory's own lock keeps a second process away.
#[derive(Debug)]
pub(super) struct FileBackend(SharedFile);

impl FileBackend {
    /// Opens `path`, made durable by name when it is new.
    pub(super) fn open(fs: &dyn Fs, path: &Path) -> io::Result<Self> {
        let is_new = !fs.exists(path);
        let file = fs.open(path, Open::Create)?;
        if is_new && let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs.sync_dir(directory)?;
        }
        Ok(Self(file))
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        File::len(&*self.0)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
