//! A file system in memory that forgets what was not synced: for tests, which cut its power.
//!
//! What a disk may do between two syncs, it does here, decided by a seed:
//!
//! - of the sectors that were written to a file since its last sync any subset is there, each as of any write to it;
//! - a length that changed since is the old or the new one, and what was never written reads as zeros;
//! - of the names made, removed or renamed in a directory since its last sync any subset happened; a rename
//!   within a directory happened whole or not at all.
//!
//! The decision for a sector or a name depends on the seed, the file and the place alone, so the same calls meet the same
//! fate in the next run. Power goes by [`PowerLossFs::lose_power`], or in the middle of the call that
//! [`PowerLossFs::lose_power_after`] names; from then on every call fails, and the next life gets what survived.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::durable::BLOCK_BYTES;
use super::{Entry, File, Fs, Open, SharedFile};

const SECTOR_BYTES: usize = 512;

type FileId = u64;
type DirId = u64;

const ROOT: DirId = 0;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(FileId),
    Dir(DirId),
}

/// A file as everyone sees it, and as the disk has it.
#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors of `now` that were written since the last sync.
    dirty: BTreeSet<usize>,
}

/// A change of a directory that is not durable: what the names stand for from then on.
type Change = Vec<(String, Option<Node>)>;

#[derive(Debug, Clone, Default)]
struct Directory {
    now: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    pending: Vec<Change>,
}

#[derive(Debug)]
struct Disk {
    seed: u64,
    files: BTreeMap<FileId, Content>,
    dirs: BTreeMap<DirId, Directory>,
    next_id: u64,
    /// Calls that change something, so far.
    calls: u64,
    /// The call in whose middle power goes.
    lost_at: Option<u64>,
    lost: bool,
    /// The directory sync that is left out, to see a test fail.
    skip_dir_syncs: bool,
}

/// The file system. Clones share it.
#[derive(Debug, Clone)]
pub struct PowerLossFs(Arc<Mutex<Disk>>);

/// One decision: even odds, from the seed and what it is about.
fn chance(seed: u64, about: [u64; 3]) -> bool {
    let mut state = seed;
    for part in about {
        // SplitMix64.
        state = state.wrapping_add(part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 31;
    }
    state & 1 == 0
}

impl PowerLossFs {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            seed,
            files: BTreeMap::new(),
            dirs: BTreeMap::from([(ROOT, Directory::default())]),
            next_id: 1,
            calls: 0,
            lost_at: None,
            lost: false,
            skip_dir_syncs: false,
        };
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Changed by whole steps, so a panic elsewhere leaves it whole.
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Power goes in the middle of the `calls`-th call from now that changes something.
    pub fn lose_power_after(&self, calls: u64) {
        let mut disk = self.disk();
        disk.lost_at = Some(disk.calls + calls);
    }

    /// Is it gone?
    pub fn has_lost_power(&self) -> bool {
        self.disk().lost
    }

    /// Calls so far that changed something.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// From now on syncs of directories do nothing: a test that still passes tests nothing.
    pub fn skip_dir_syncs(&self) {
        self.disk().skip_dir_syncs = true;
    }

    /// The disk after power was lost, now if it was not before: what survived. The old one answers no call any more.
    pub fn lose_power(&self) -> Self {
        let mut disk = self.disk();
        disk.lost = true;
        let (seed, calls) = (disk.seed, disk.calls);
        let files = disk.files.iter().map(|(id, content)| (*id, content.survivor(seed, *id, calls))).collect();
        let dirs = disk.dirs.iter().map(|(id, dir)| (*id, dir.survivor(seed, *id, calls))).collect();
        let next = Disk {
            seed: seed.wrapping_add(1),
            files,
            dirs,
            next_id: disk.next_id,
            calls: 0,
            lost_at: None,
            lost: false,
            skip_dir_syncs: false,
        };
        Self(Arc::new(Mutex::new(next)))
    }
}

impl Content {
    fn survivor(&self, seed: u64, id: FileId, calls: u64) -> Self {
        let lengthened = chance(seed, [id, u64::MAX, calls]);
        let len = if lengthened { self.now.len() } else { self.durable.len() };
        let mut bytes = self.durable.clone();
        bytes.resize(len, 0);
        for sector in &self.dirty {
            if chance(seed, [id, *sector as u64, calls]) {
                copy_sector(&self.now, &mut bytes, *sector);
            }
        }
        Self { now: bytes.clone(), durable: bytes, dirty: BTreeSet::new() }
    }

    /// Writes as much as `bytes` says; some older state of a sector may reach the disk by itself just before.
    fn write(&mut self, id: FileId, bytes: &[u8], position: usize, seed: u64, calls: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        for sector in position / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            if self.dirty.contains(&sector)
                && sector * SECTOR_BYTES < self.durable.len()
                && chance(seed, [id, sector as u64, calls])
            {
                copy_sector(&self.now, &mut self.durable, sector);
            }
            self.dirty.insert(sector);
        }
        self.now[position..end].copy_from_slice(bytes);
    }

    fn set_len(&mut self, len: usize) {
        // What a cut took away never comes back by a later extension.
        for sector in len / SECTOR_BYTES..self.now.len().div_ceil(SECTOR_BYTES) {
            self.dirty.insert(sector);
        }
        self.now.resize(len, 0);
    }

    /// Makes one range durable, and that the file is at least so long; other sectors stay as they are.
    fn sync_range(&mut self, range: Range<usize>) {
        self.durable.resize(self.durable.len().max(range.end), 0);
        for sector in range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES) {
            if self.dirty.remove(&sector) {
                copy_sector(&self.now, &mut self.durable, sector);
            }
        }
    }

    fn sync(&mut self) {
        if self.dirty.is_empty() && self.durable.len() == self.now.len() {
            return;
        }
        self.durable.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(&self.now, &mut self.durable, sector);
        }
    }
}

/// Copies what both have of a sector.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let begin = sector * SECTOR_BYTES;
    let end = (begin + SECTOR_BYTES).min(from.len()).min(to.len());
    if begin < end {
        to[begin..end].copy_from_slice(&from[begin..end]);
    }
}

impl Directory {
    fn survivor(&self, seed: u64, id: DirId, calls: u64) -> Self {
        let mut entries = self.durable.clone();
        for (at, change) in self.pending.iter().enumerate() {
            if chance(seed, [id, at as u64, calls]) {
                apply(&mut entries, change);
            }
        }
        Self { now: entries.clone(), durable: entries, pending: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }
}

fn apply(entries: &mut BTreeMap<String, Node>, change: &Change) {
    for (name, node) in change {
        match node {
            Some(node) => entries.insert(name.clone(), *node),
            None => entries.remove(name),
        };
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn power_is_gone() -> io::Error {
    io::Error::other("power is gone")
}

impl Disk {
    fn alive(&self) -> io::Result<()> {
        if self.lost { Err(power_is_gone()) } else { Ok(()) }
    }

    /// Counts a call that changes something. True when power goes in its middle.
    fn begin_change(&mut self) -> io::Result<bool> {
        self.alive()?;
        self.calls += 1;
        self.lost = self.lost_at == Some(self.calls);
        Ok(self.lost)
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        let mut at = Node::Dir(ROOT);
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Dir(dir) = at else { return Err(not_found()) };
            let entries = &self.dirs.get(&dir).ok_or_else(not_found)?.now;
            at = *entries.get(name.to_string_lossy().as_ref()).ok_or_else(not_found)?;
        }
        Ok(at)
    }

    fn dir(&self, path: &Path) -> io::Result<DirId> {
        match self.node(path)? {
            Node::Dir(id) => Ok(id),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The directory that a path's last component is in, and that component.
    fn parent(&self, path: &Path) -> io::Result<(DirId, String)> {
        let name = path.file_name().ok_or_else(not_found)?.to_string_lossy().into_owned();
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn change(&mut self, dir: DirId, change: Change) -> io::Result<()> {
        self.dirs.get_mut(&dir).ok_or_else(not_found)?.change(change);
        Ok(())
    }

    fn sync_dir(&mut self, dir: DirId) {
        if !self.skip_dir_syncs
            && let Some(dir) = self.dirs.get_mut(&dir)
        {
            dir.sync();
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn create_dir(&mut self, path: &Path) -> io::Result<DirId> {
        if let Ok(id) = self.dir(path) {
            return Ok(id);
        }
        let (parent, name) = self.parent(path)?;
        let id = self.new_id();
        self.dirs.insert(id, Directory::default());
        self.change(parent, vec![(name, Some(Node::Dir(id)))])?;
        Ok(id)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<(DirId, DirId)> {
        let node = self.node(from)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (self.parent(from)?, self.parent(to)?);
        if from_dir == to_dir {
            self.change(from_dir, vec![(from_name, None), (to_name, Some(node))])?;
        } else {
            self.change(to_dir, vec![(to_name, Some(node))])?;
            self.change(from_dir, vec![(from_name, None)])?;
        }
        Ok((from_dir, to_dir))
    }
}

impl Fs for PowerLossFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<SharedFile> {
        let mut disk = self.disk();
        disk.alive()?;
        let id = match (disk.node(path), how) {
            (Ok(Node::Dir(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Ok(Node::File(_)), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(Node::File(id)), _) => id,
            (Err(error), Open::Read | Open::Write | Open::Durable) => return Err(error),
            (Err(_), Open::Create | Open::CreateNew) => {
                let lost = disk.begin_change()?;
                let (dir, name) = disk.parent(path)?;
                let id = disk.new_id();
                disk.files.insert(id, Content::default());
                disk.change(dir, vec![(name, Some(Node::File(id)))])?;
                if lost {
                    return Err(power_is_gone());
                }
                id
            }
        };
        Ok(Arc::new(PowerLossFile { fs: self.clone(), id, durable: how == Open::Durable }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        disk.alive()?;
        match disk.node(path)? {
            Node::File(id) => Ok(disk.files.get(&id).ok_or_else(not_found)?.now.clone()),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.alive()?;
        let mut at = PathBuf::new();
        for component in path.components() {
            let parent = disk.dir(&at);
            at.push(component);
            if matches!(component, Component::Normal(_)) && disk.dir(&at).is_err() {
                let lost = disk.begin_change()?;
                disk.create_dir(&at)?;
                if lost {
                    return Err(power_is_gone());
                }
                disk.sync_dir(parent?);
            }
        }
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let lost = disk.begin_change()?;
        disk.create_dir(path)?;
        if lost { Err(power_is_gone()) } else { Ok(()) }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let disk = self.disk();
        disk.alive()?;
        let dir = disk.dirs.get(&disk.dir(path)?).ok_or_else(not_found)?;
        let entry = |(name, node): (&String, &Node)| match node {
            Node::File(id) => Entry {
                name: name.clone(),
                is_dir: false,
                len: disk.files.get(id).map_or(0, |file| file.now.len() as u64),
            },
            Node::Dir(_) => Entry { name: name.clone(), is_dir: true, len: 0 },
        };
        Ok(dir.now.iter().map(entry).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk().node(path).is_ok()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let lost = disk.begin_change()?;
        let (from_dir, to_dir) = disk.rename(from, to)?;
        if lost {
            return Err(power_is_gone());
        }
        disk.sync_dir(to_dir);
        disk.sync_dir(from_dir);
        Ok(())
    }

    fn rename_unsynced(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let lost = disk.begin_change()?;
        disk.rename(from, to)?;
        if lost { Err(power_is_gone()) } else { Ok(()) }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.alive()?;
        if disk.node(path).is_err() {
            return Ok(());
        }
        let lost = disk.begin_change()?;
        let (dir, name) = disk.parent(path)?;
        disk.change(dir, vec![(name, None)])?;
        if lost { Err(power_is_gone()) } else { Ok(()) }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // What is inside goes with its name: nobody finds it again.
        self.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let lost = disk.begin_change()?;
        let dir = disk.dir(path)?;
        if lost {
            return Err(power_is_gone());
        }
        disk.sync_dir(dir);
        Ok(())
    }
}

#[derive(Debug)]
struct PowerLossFile {
    fs: PowerLossFs,
    id: FileId,
    /// Its writes are durable when they return.
    durable: bool,
}

/// In which a file changes.
struct Circumstances {
    seed: u64,
    calls: u64,
    /// Power goes in the middle.
    lost: bool,
}

impl PowerLossFile {
    /// Runs `change`, and tells that power went in its middle if it did.
    fn change(&self, change: impl FnOnce(&mut Content, Circumstances)) -> io::Result<()> {
        let mut disk = self.fs.disk();
        let lost = disk.begin_change()?;
        let circumstances = Circumstances { seed: disk.seed, calls: disk.calls, lost };
        change(disk.files.get_mut(&self.id).ok_or_else(not_found)?, circumstances);
        if lost { Err(power_is_gone()) } else { Ok(()) }
    }
}

impl File for PowerLossFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let range = position as usize..position as usize + bytes.len();
        let is_whole = |at: usize| at.is_multiple_of(BLOCK_BYTES);
        assert!(!self.durable || is_whole(range.start) && is_whole(range.end), "a durable write is of whole blocks");
        self.change(|content, how| {
            content.write(self.id, bytes, range.start, how.seed, how.calls);
            if self.durable && !how.lost {
                content.sync_range(range);
            }
        })
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let disk = self.fs.disk();
        disk.alive()?;
        let content = &disk.files.get(&self.id).ok_or_else(not_found)?.now;
        let begin = (position as usize).min(content.len());
        let len = buffer.len().min(content.len() - begin);
        buffer[..len].copy_from_slice(&content[begin..begin + len]);
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.fs.disk();
        if disk.begin_change()? {
            return Err(power_is_gone());
        }
        disk.files.get_mut(&self.id).ok_or_else(not_found)?.sync();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|content, _| content.set_len(len as usize))
    }

    fn len(&self) -> io::Result<u64> {
        let disk = self.fs.disk();
        disk.alive()?;
        Ok(disk.files.get(&self.id).ok_or_else(not_found)?.now.len() as u64)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn path(name: &str) -> PathBuf {
        Path::new("/d").join(name)
    }

    fn disk(seed: u64) -> PowerLossFs {
        let fs = PowerLossFs::new(seed);
        fs.create_dir_all(Path::new("/d")).unwrap();
        fs
    }

    #[test]
    fn what_was_synced_is_there_and_what_was_not_may_be() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let fs = disk(seed);
            let file = fs.open(&path("a"), Open::Create).unwrap();
            file.write_all_at(&[1; 2000], 0).unwrap();
            file.sync_data().unwrap();
            fs.sync_dir(Path::new("/d")).unwrap();
            file.write_all_at(&[2; 1024], 0).unwrap();
            file.write_all_at(&[3; 100], 2000).unwrap();
            let after = fs.lose_power();
            assert!(file.sync_data().is_err() && fs.read(&path("a")).is_err());
            let bytes = after.read(&path("a")).unwrap();
            assert_eq!(bytes[1024..2000], [1; 976]);
            outcomes.insert((bytes[0], bytes[512], bytes.get(2000).copied()));
        }
        assert!(outcomes.contains(&(1, 2, None)) && outcomes.contains(&(2, 1, Some(3))), "{outcomes:?}");
        assert!(outcomes.contains(&(1, 1, Some(0))), "a length without its bytes: {outcomes:?}");
    }

    #[test]
    fn names_are_durable_by_the_sync_of_their_directory_alone() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let fs = disk(seed);
            for name in ["a", "b"] {
                let file = fs.open(&path(name), Open::Create).unwrap();
                file.write_all_at(name.as_bytes(), 0).unwrap();
                file.sync_data().unwrap();
            }
            fs.sync_dir(Path::new("/d")).unwrap();
            fs.open(&path("c"), Open::Create).unwrap().sync_data().unwrap();
            fs.remove_file(&path("a")).unwrap();
            fs.rename_unsynced(&path("b"), &path("d")).unwrap();
            let names: Vec<_> =
                fs.lose_power().read_dir(Path::new("/d")).unwrap().into_iter().map(|e| e.name).collect();
            assert!(names.contains(&"b".to_owned()) != names.contains(&"d".to_owned()), "{names:?}");
            outcomes.insert(names);
        }
        assert_eq!(outcomes.len(), 8, "{outcomes:?}");
    }

    #[test]
    fn a_durable_write_is_there_and_nothing_but_it() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let fs = disk(seed);
            let file = fs.open(&path("a"), Open::Create).unwrap();
            fs.sync_dir(Path::new("/d")).unwrap();
            file.write_all_at(&[1; 512], 0).unwrap();
            let durable = fs.open(&path("a"), Open::Durable).unwrap();
            durable.write_all_at(&[2; 2 * BLOCK_BYTES], BLOCK_BYTES as u64).unwrap();
            fs.lose_power_after(1);
            assert!(durable.write_all_at(&[3; BLOCK_BYTES], 3 * BLOCK_BYTES as u64).is_err());
            let bytes = fs.lose_power().read(&path("a")).unwrap();
            assert_eq!(bytes[BLOCK_BYTES..3 * BLOCK_BYTES], [2; 2 * BLOCK_BYTES]);
            outcomes.insert((bytes[0], bytes.get(3 * BLOCK_BYTES).copied()));
        }
        assert!(outcomes.contains(&(0, None)) && outcomes.contains(&(1, Some(3))), "{outcomes:?}");
    }

    #[test]
    fn the_same_seed_meets_the_same_fate() {
        let run = |seed| {
            let fs = disk(seed);
            fs.lose_power_after(20);
            let file = fs.open(&path("a"), Open::Create).unwrap();
            let mut at = 0;
            while file.write_all_at(&[7; 300], at).is_ok() {
                at += 300;
            }
            assert!(fs.has_lost_power());
            fs.lose_power().read(&path("a")).ok()
        };
        assert_eq!(run(3), run(3));
        assert!((0..20).map(run).collect::<BTreeSet<_>>().len() > 5);
    }
}
