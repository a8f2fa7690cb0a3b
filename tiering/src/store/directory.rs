//! Reading objects that are files of this machine.
//!
//! The crate hands out files in pieces of 8 KiB, each by way of a blocking thread; here one thread reads a whole range, in
//! the pieces that the reader wants, and reads no further than a few pieces ahead of him. It waits for the disk and never
//! for the reader: where he is behind, it ends, and another one goes on.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use object_store::path::Path;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;

use super::threads::Threads;
use crate::platform::fs::{Open, SharedFile, SharedFs};

/// Pieces that wait for their reader.
const PIECES_MAX: usize = 4;
/// The kernel drops what it keeps together only as a whole, and it keeps up to so much together.
const FOLIO_BYTES_MAX: u64 = 4 << 20;

/// A directory whose files are named by keys.
#[derive(Debug)]
pub struct Directory {
    dir: PathBuf,
    fs: SharedFs,
    threads: Threads,
}

impl Directory {
    pub(crate) fn new(dir: PathBuf, fs: SharedFs) -> io::Result<Self> {
        Ok(Self { dir, fs, threads: Threads::new()? })
    }

    /// Where all that may block for its files is done.
    pub(super) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Pieces of these lengths from `position` on. An error ends them.
    pub(super) fn read(&self, key: &Path, position: u64, lengths: Vec<u32>) -> Pieces {
        let (room, ready) = mpsc::channel(PIECES_MAX);
        let lengths = lengths.into();
        let reading = Reading {
            fs: self.fs.clone(),
            path: self.path(key),
            key: key.clone(),
            file: None,
            from: position,
            at: position,
            lengths,
        };
        let mut pieces = Pieces { threads: self.threads.handle().clone(), running: None, waiting: None, room, ready };
        pieces.go_on(reading);
        pieces
    }

    fn path(&self, key: &Path) -> PathBuf {
        key.parts().fold(self.dir.clone(), |path, part| path.join(part.as_ref()))
    }
}

/// The pieces of a range, as they are read.
#[derive(Debug)]
pub(super) struct Pieces {
    threads: Handle,
    /// The thread that reads; it hands back what is left when there is no room for more.
    running: Option<JoinHandle<Option<Reading>>>,
    waiting: Option<Reading>,
    room: mpsc::Sender<object_store::Result<Bytes>>,
    ready: mpsc::Receiver<object_store::Result<Bytes>>,
}

impl Pieces {
    fn go_on(&mut self, reading: Reading) {
        let room = self.room.clone();
        self.running = Some(self.threads.spawn_blocking(move || reading.read(&room)));
    }

    /// The next piece; `None` behind the last one.
    pub(super) async fn next(&mut self) -> object_store::Result<Option<Bytes>> {
        loop {
            // Not for a single piece's room: a thread reads several.
            if self.room.capacity() > PIECES_MAX / 2
                && let Some(reading) = self.waiting.take()
            {
                self.go_on(reading);
            }
            let Some(running) = &mut self.running else {
                return self.ready.try_recv().ok().transpose();
            };
            tokio::select! {
                biased;
                ended = running => {
                    self.running = None;
                    self.waiting = ended?;
                }
                Some(piece) = self.ready.recv() => return piece.map(Some),
            }
        }
    }
}

/// What is left to be read of a range.
#[derive(Debug)]
struct Reading {
    fs: SharedFs,
    path: PathBuf,
    key: Path,
    /// `None` before the first piece.
    file: Option<SharedFile>,
    from: u64,
    at: u64,
    lengths: VecDeque<u32>,
}

impl Reading {
    /// Reads as long as there is room; returns what is left then. Blocks.
    fn read(mut self, room: &mpsc::Sender<object_store::Result<Bytes>>) -> Option<Self> {
        while let Some(len) = self.lengths.front().copied() {
            let place = match room.try_reserve() {
                Ok(place) => place,
                Err(TrySendError::Full(())) => return Some(self),
                // Nobody waits any more: the reader had enough.
                Err(TrySendError::Closed(())) => break,
            };
            match self.piece(len) {
                Ok(piece) => place.send(Ok(piece)),
                // The pieces end too early, which the reader sees.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => {
                    place.send(Err(as_store(&self.key, error)));
                    break;
                }
            }
            self.lengths.pop_front();
            self.at += u64::from(len);
        }
        // The bytes are in memory now and are checked and kept there. Once for them all: where the kernel cannot drop
        // everything, as at a border, it makes every processor empty its queues.
        if let Some(file) = self.file {
            let from = self.from - self.from % FOLIO_BYTES_MAX;
            file.leave_cache(from, self.at - from);
        }
        None
    }

    fn piece(&mut self, len: u32) -> io::Result<Bytes> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = self.fs.open(&self.path, Open::Read)?;
                // The whole range is begun; each piece is waited for when it is read.
                file.bring_to_cache(self.at, 0, self.lengths.iter().map(|len| u64::from(*len)).sum())?;
                self.file.insert(file)
            }
        };
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, self.at)?;
        Ok(bytes.into())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::fs::RealFs;

    #[tokio::test]
    async fn a_reader_that_is_behind_holds_no_thread_and_gets_everything() {
        let dir = tempfile::tempdir().expect("directory");
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(dir.path().join("object"), &bytes).expect("file");
        let directory = Directory::new(dir.path().to_owned(), RealFs::shared()).expect("threads");
        let key = Path::from("object");
        // More than there are threads, and none of them is asked for a piece before all have begun.
        let mut readers: Vec<Pieces> = (0..200).map(|_| directory.read(&key, 7, vec![1000; 99])).collect();
        for pieces in readers.iter_mut().rev() {
            let mut read = Vec::new();
            while let Some(piece) = pieces.next().await.expect("readable") {
                assert!(pieces.ready.len() <= PIECES_MAX, "bounded");
                read.extend_from_slice(&piece);
            }
            assert!(read == bytes[7..99_007]);
        }
    }
}
