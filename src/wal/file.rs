//! The files of a write-ahead log: their names, and what is found of them at a start.
//!
//! A file is used, filled, and used again under a new generation once partition files hold durably what it carried.
//! Files are reused oldest first, so what is overwritten is always the beginning of the sequence.

use std::io;
use std::path::{Path, PathBuf};

use terrace_tiering::platform::fs::durable::{BLOCK_BYTES, Blocks};
use terrace_tiering::platform::fs::{Open, SharedFile, SharedFs};

use super::record::{FILE_HEADER_BYTES, FileHeader};

const PREFIX: &str = "terrace-wal-";
/// What is written at once to prepare a file.
const STEP_BYTES: usize = 1 << 20;

/// `<log dir>/terrace-wal-<number, 6 digits>`.
pub fn path_of(log_dir: &Path, number: u32) -> PathBuf {
    log_dir.join(format!("{PREFIX}{number:06}"))
}

fn parse_name(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// One file of the log.
#[derive(Debug, Clone)]
pub struct WalFile {
    /// In its name.
    pub number: u32,
    /// Open for reading and writing.
    pub file: SharedFile,
    /// Open for what is durable when it is written: whole blocks.
    pub durable: SharedFile,
    /// Its blocks are written up to here: a durable write below moves no metadata.
    pub prepared_bytes: u64,
}

impl WalFile {
    /// Makes a new one; its name is durable after the directory's next sync.
    pub fn create(fs: &SharedFs, log_dir: &Path, number: u32) -> io::Result<Self> {
        let path = path_of(log_dir, number);
        let file = fs.open(&path, Open::Create)?;
        Ok(Self { number, file, durable: fs.open(&path, Open::Durable)?, prepared_bytes: 0 })
    }

    /// Writes some more of its blocks, at most up to the one that `bytes` end in: small steps, which the writes of groups
    /// wait for. `zeros` has those of a step.
    pub fn prepare_more(&mut self, bytes: u64, zeros: &Zeros) -> io::Result<()> {
        let begin = self.prepared_bytes - self.prepared_bytes % BLOCK_BYTES as u64;
        let step = (bytes.next_multiple_of(BLOCK_BYTES as u64) - begin).min(STEP_BYTES as u64);
        self.durable.write_all_at(&zeros.0.bytes()[..step as usize], begin)?;
        self.prepared_bytes = begin + step;
        Ok(())
    }

    /// Durably takes its records out of the replay.
    pub fn forget_header(&self) -> io::Result<()> {
        self.file.write_all_at(&[0; FILE_HEADER_BYTES], 0)?;
        self.file.sync_data()
    }
}

/// What files are prepared with.
pub struct Zeros(Blocks);

impl Zeros {
    /// One step of them.
    pub fn of_a_step() -> Self {
        let mut blocks = Blocks::with_capacity(STEP_BYTES);
        blocks.push(&vec![0; STEP_BYTES]);
        Self(blocks)
    }
}

/// A file that a start found.
#[derive(Debug)]
pub struct FoundFile {
    /// The file.
    pub wal: WalFile,
    /// Its header, if it has a whole one.
    pub header: Option<FileHeader>,
    /// Its bytes.
    pub len: u64,
}

/// All files of the log in `log_dir`: those without a header first, then by first sequence number. In that order they
/// may be used again.
pub fn find(fs: &SharedFs, log_dir: &Path) -> io::Result<Vec<FoundFile>> {
    let mut found = Vec::new();
    for entry in fs.read_dir(log_dir)? {
        let Some(number) = parse_name(&entry.name).filter(|_| !entry.is_dir) else { continue };
        let path = log_dir.join(&entry.name);
        let (file, durable) = (fs.open(&path, Open::Write)?, fs.open(&path, Open::Durable)?);
        let mut bytes = [0; FILE_HEADER_BYTES];
        let header = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => FileHeader::decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        found.push(FoundFile {
            wal: WalFile { number, file, durable, prepared_bytes: entry.len },
            header,
            len: entry.len,
        });
    }
    found.sort_by_key(|file| (file.header.map(|header| header.first_sequence), file.wal.number));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        let path = path_of(Path::new("/d"), 42);
        assert_eq!(path, Path::new("/d/terrace-wal-000042"));
        assert_eq!(parse_name("terrace-wal-000042"), Some(42));
        assert_eq!(parse_name("terrace-wal-1234567"), Some(1_234_567));
        for other in ["terrace-wal-42", "terrace-wal-00004x", "terrace-wal-99999999999", "terrace-checkpoint"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
