//! The second tier: chunks on a local disk, one file each, found again after a restart.
//!
//! ```text
//! <dir>/<2 hex>/<object uuid>-<chunk number>        the chunk's bytes and nothing else
//! <dir>/<2 hex>/<object uuid>-<chunk number>.tmp    being written; removed at the next start
//! ```
//!
//! Nothing is synced: after a power loss a file may hold anything. Every read is checked against the CRC that the object's
//! footer has, and a file that fails is removed. All methods block.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use uuid::Uuid;

use super::memory::{ChunkKey, ENTRY_SHARE_MAX};
use super::policy::Ranked;
use crate::object::chunk::ChunkEntry;
use crate::platform::fs::{Open, SharedFile, SharedFs, with_suffix};
use crate::tier::{DiskCacheOptions, TierOptions};

const DIRECTORIES: u32 = 256;
const TEMPORARY: &str = ".tmp";

/// Chunks on a local disk.
#[derive(Debug)]
pub struct DiskCache {
    files: Files,
    /// Length of each file. An entry that leaves takes its file along.
    index: Ranked<u32>,
    entry_max: u64,
    written: Written,
}

impl DiskCache {
    /// Opens the directory and takes in what lies there; what does not belong is removed.
    pub fn open(disk: &DiskCacheOptions, options: &TierOptions, fs: &SharedFs) -> io::Result<Arc<Self>> {
        let files = Files { dir: disk.dir.clone(), fs: fs.clone() };
        for number in 0..DIRECTORIES {
            fs.create_dir_all(&files.directory(number))?;
        }
        let unlink = files.clone();
        let index =
            Ranked::new(disk.bytes, options.cache_policy, |len: &u32| *len, move |key, _: &u32| unlink.remove(key));
        let entry_max = disk.bytes / ENTRY_SHARE_MAX;
        let cache = Self { files, index, entry_max, written: Written::default() };
        cache.scan()?;
        Ok(Arc::new(cache))
    }

    fn scan(&self) -> io::Result<()> {
        for number in 0..DIRECTORIES {
            let directory = self.files.directory(number);
            for entry in self.files.fs.read_dir(&directory)? {
                let len = u32::try_from(entry.len).ok();
                let ours = parse(&entry.name).filter(|key| directory_number(key) == number).zip(len);
                match ours {
                    Some((key, len)) => self.index.insert(key, len),
                    None if entry.is_dir => {}
                    None => self.files.fs.remove_file(&directory.join(&entry.name))?,
                }
            }
        }
        self.show();
        Ok(())
    }

    /// Is there a file for the chunk? It may still turn out to be bad.
    pub fn contains(&self, key: &ChunkKey) -> bool {
        self.index.contains(key)
    }

    /// The chunk, if it is here and whole. Its bytes leave the page cache: the reader has them now.
    pub fn read(&self, key: &ChunkKey, chunk: &ChunkEntry) -> Option<Bytes> {
        let len = self.index.get(key)?;
        match self.files.read(key, chunk) {
            // It was downloaded for somebody; this is the second reading.
            Ok(Some(bytes)) => {
                self.index.read_again(key);
                return Some(bytes);
            }
            Ok(None) => {
                metrics::counter!("terrace_remote_cache_corrupt_total").increment(1);
                tracing::warn!(object = %key.object, chunk = key.number, len, "cached chunk fails its CRC; removed");
            }
            Err(error) => tracing::debug!(object = %key.object, chunk = key.number, %error, "cached chunk not read"),
        }
        self.index.remove(key);
        self.files.remove(key);
        self.show();
        None
    }

    /// Keeps a chunk, unless it is too large for that. A failure costs a later download, nothing else.
    pub fn write(&self, key: ChunkKey, chunk: &Bytes) {
        let len = chunk.len() as u64;
        if len > self.entry_max || self.contains(&key) {
            return;
        }
        match self.files.write(&key, chunk) {
            Ok(file) => {
                self.index.insert(key, chunk.len() as u32);
                self.written.add(file, len);
            }
            Err(error) => {
                metrics::counter!("terrace_remote_cache_write_errors_total").increment(1);
                tracing::debug!(%error, "chunk not written to the disk cache");
            }
        }
        self.show();
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.index.weight()
    }

    fn show(&self) {
        metrics::gauge!("terrace_remote_cache_bytes", "tier" => "disk").set(self.bytes() as f64);
    }
}

/// Files that were written shortly before. A chunk that was just read is rarely read from here soon, so its pages leave the
/// page cache: they are begun to be written out at once, and dropped when they most likely are.
#[derive(Debug, Default)]
struct Written(Mutex<VecDeque<(SharedFile, u64)>>);

/// Files that may still be on their way to the disk.
const WRITTEN_MAX: usize = 32;

impl Written {
    fn add(&self, file: SharedFile, len: u64) {
        file.begin_write_out(0, len);
        let oldest = {
            let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            files.push_back((file, len));
            if files.len() > WRITTEN_MAX { files.pop_front() } else { None }
        };
        if let Some((file, len)) = oldest {
            file.leave_cache(0, len);
        }
    }
}

#[derive(Debug, Clone)]
struct Files {
    dir: PathBuf,
    fs: SharedFs,
}

impl Files {
    fn directory(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:02x}"))
    }

    fn path(&self, key: &ChunkKey) -> PathBuf {
        let name = format!("{}-{:010}", key.object.simple(), key.number);
        self.directory(directory_number(key)).join(name)
    }

    /// The chunk's bytes; `None` when they are not what they must be.
    fn read(&self, key: &ChunkKey, chunk: &ChunkEntry) -> io::Result<Option<Bytes>> {
        let file = self.fs.open(&self.path(key), Open::Read)?;
        if file.len()? != u64::from(chunk.length) {
            return Ok(None);
        }
        let mut bytes = vec![0; chunk.length as usize];
        file.read_exact_at(&mut bytes, 0)?;
        file.leave_cache(0, u64::from(chunk.length));
        Ok(chunk.holds(&bytes).then(|| bytes.into()))
    }

    fn write(&self, key: &ChunkKey, chunk: &Bytes) -> io::Result<SharedFile> {
        let path = self.path(key);
        let temporary = with_suffix(&path, TEMPORARY);
        let written = self.fs.remove_file(&temporary).and_then(|()| {
            let file = self.fs.open(&temporary, Open::CreateNew)?;
            file.write_all_at(chunk, 0)?;
            self.fs.rename_unsynced(&temporary, &path)?;
            Ok(file)
        });
        if written.is_err() {
            let _ = self.fs.remove_file(&temporary);
        }
        written
    }

    fn remove(&self, key: &ChunkKey) {
        if let Err(error) = self.fs.remove_file(&self.path(key)) {
            tracing::debug!(%error, "cached chunk not removed; the next start finds it");
        }
    }
}

fn directory_number(key: &ChunkKey) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.object.as_bytes()), &key.number.to_be_bytes()) % DIRECTORIES
}

fn parse(name: &str) -> Option<ChunkKey> {
    let (object, number) = name.split_once('-')?;
    let right = object.len() == 32 && number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit());
    let key = ChunkKey { object: Uuid::try_parse(object).ok()?, number: number.parse().ok()? };
    right.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::fs::RealFs;

    fn chunk(number: u32, len: usize) -> (ChunkKey, Bytes, ChunkEntry) {
        let bytes = Bytes::from(vec![number as u8; len]);
        let crc = crc32c::crc32c(&bytes);
        let entry = ChunkEntry { position: 0, length: len as u32, first_offset: 0, max_timestamp: 0, crc };
        (ChunkKey { object: Uuid::from_u128(9), number }, bytes, entry)
    }

    fn open(dir: &std::path::Path, bytes: u64) -> Arc<DiskCache> {
        let disk = DiskCacheOptions { dir: dir.to_owned(), bytes };
        DiskCache::open(&disk, &TierOptions::new("memory:", "c"), &RealFs::shared()).unwrap()
    }

    fn files(dir: &std::path::Path) -> Vec<PathBuf> {
        let in_dir = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        in_dir(dir.to_owned()).flat_map(in_dir).collect()
    }

    #[test]
    fn chunks_survive_a_restart_and_leftovers_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (key, bytes, entry) = chunk(3, 1000);
        open(dir.path(), 1 << 20).write(key, &bytes);
        let leftover = with_suffix(&files(dir.path())[0], TEMPORARY);
        std::fs::write(&leftover, "half").unwrap();
        let again = open(dir.path(), 1 << 20);
        assert_eq!(again.read(&key, &entry), Some(bytes));
        assert!(!leftover.exists());
    }

    #[test]
    fn a_file_with_wrong_bytes_is_never_served() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path(), 1 << 20);
        let (key, bytes, entry) = chunk(3, 1000);
        cache.write(key, &bytes);
        std::fs::write(&files(dir.path())[0], vec![4; 1000]).unwrap();
        assert_eq!(cache.read(&key, &entry), None);
        assert!(!cache.contains(&key));
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn eviction_unlinks_and_the_bytes_stay_within_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path(), 32 << 10);
        for number in 0..100 {
            let (key, bytes, _) = chunk(number, 2000);
            cache.write(key, &bytes);
            assert!(cache.bytes() <= 32 << 10);
        }
        let on_disk: u64 = files(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(on_disk, cache.bytes());
        assert!(cache.contains(&chunk(99, 1).0));
        drop(cache);
        assert!(open(dir.path(), 8 << 10).bytes() <= 8 << 10, "a smaller bound holds from the start on");
    }
}
