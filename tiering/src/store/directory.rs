//! Reading objects that are files of this machine.
//!
//! The crate hands out files in pieces of 8 KiB, each by way of a blocking thread; here one thread reads a whole range, in
//! the pieces that the reader wants, and reads no further than a few pieces ahead of him.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use object_store::path::Path;
use tokio::sync::mpsc;

use crate::platform::fs::{Open, SharedFile, SharedFs};

/// Pieces that wait for their reader.
const PIECES_MAX: usize = 4;
/// The kernel drops what it keeps together only as a whole, and it keeps up to so much together.
const FOLIO_BYTES_MAX: u64 = 4 << 20;

/// A directory whose files are named by keys.
#[derive(Debug)]
pub(super) struct Directory {
    dir: PathBuf,
    fs: SharedFs,
}

impl Directory {
    pub(super) fn new(dir: PathBuf, fs: SharedFs) -> Self {
        Self { dir, fs }
    }

    /// Pieces of these lengths from `position` on. An error ends them.
    pub(super) fn read(
        &self,
        key: &Path,
        position: u64,
        lengths: Vec<u32>,
    ) -> mpsc::Receiver<object_store::Result<Bytes>> {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let (path, fs, key) = (self.path(key), self.fs.clone(), key.clone());
        tokio::task::spawn_blocking(move || {
            let file = match open(&fs, &path, position, &lengths) {
                Ok(file) => file,
                Err(error) => return drop(sender.blocking_send(Err(as_store(&key, error)))),
            };
            let mut at = position;
            for len in lengths {
                let piece = match piece(&file, at, len) {
                    // The pieces end too early, which the reader sees.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    piece => piece.map_err(|error| as_store(&key, error)),
                };
                at += u64::from(len);
                let failed = piece.is_err();
                // Nobody waits any more: the reader had enough.
                if sender.blocking_send(piece).is_err() || failed {
                    break;
                }
            }
            // The bytes are in memory now and are checked and kept there. Once for them all: where the kernel cannot drop
            // everything, as at a border, it makes every processor empty its queues.
            let from = position - position % FOLIO_BYTES_MAX;
            file.leave_cache(from, at - from);
        });
        pieces
    }

    fn path(&self, key: &Path) -> PathBuf {
        key.parts().fold(self.dir.clone(), |path, part| path.join(part.as_ref()))
    }
}

fn open(fs: &SharedFs, path: &std::path::Path, position: u64, lengths: &[u32]) -> io::Result<SharedFile> {
    let file = fs.open(path, Open::Read)?;
    // The whole range is begun; each piece is waited for when it is read.
    file.bring_to_cache(position, 0, lengths.iter().map(|len| u64::from(*len)).sum())?;
    Ok(file)
}

fn piece(file: &SharedFile, position: u64, len: u32) -> io::Result<Bytes> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, position)?;
    Ok(bytes.into())
}

fn as_store(key: &Path, error: io::Error) -> object_store::Error {
    match error.kind() {
        io::ErrorKind::NotFound => object_store::Error::NotFound { path: key.to_string(), source: error.into() },
        io::ErrorKind::PermissionDenied => {
            object_store::Error::PermissionDenied { path: key.to_string(), source: error.into() }
        }
        _ => object_store::Error::Generic { store: "directory", source: error.into() },
    }
}
