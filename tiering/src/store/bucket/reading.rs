//! Reading objects: whole ones, ranges, and ranges as they arrive.
//!
//! An answer may take as long as it moves: what has a deadline is each wait for its next bytes, so that a large window over
//! a slow line is no failure.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange};
use tokio::time::timeout;

use super::{Bucket, Op, StoreError};
use crate::store::directory::{Directory, Pieces};

/// Bytes read at once from a local directory, unless the caller says how many.
const LOCAL_PIECE_BYTES: u32 = 1 << 20;

/// What is still to come of an answer.
enum Body {
    Answer(BoxStream<'static, object_store::Result<Bytes>>),
    File(Pieces),
}

impl Body {
    async fn next(&mut self) -> object_store::Result<Option<Bytes>> {
        match self {
            Self::Answer(pieces) => pieces.try_next().await,
            Self::File(pieces) => pieces.next().await,
        }
    }
}

impl Bucket {
    /// A whole object; meant for small ones.
    pub async fn get(&self, key: &Path) -> Result<Bytes, StoreError> {
        let bytes = self.get_at_once(key, &GetOptions::default()).await?;
        self.arrived(bytes.len() as u64).await;
        Ok(bytes)
    }

    /// Exactly this range of an object.
    pub async fn get_range(&self, key: &Path, range: Range<u64>) -> Result<Bytes, StoreError> {
        let len = range.end.saturating_sub(range.start);
        self.0.download.take(len).await;
        let options = bounded(range);
        let mut attempt = 1;
        loop {
            let bytes = self.get_at_once(key, &options).await?;
            self.0.meter.received(self.1, bytes.len() as u64);
            if bytes.len() as u64 == len {
                return Ok(bytes);
            }
            // Bytes may be lost on the way, once. An object that is too short every time is no fault of the store's health.
            match self.0.retry.after(attempt).filter(|_| attempt == 1) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(StoreError::Short(key.to_string())),
            }
            attempt += 1;
        }
    }

    async fn get_at_once(&self, key: &Path, options: &GetOptions) -> Result<Bytes, StoreError> {
        let deadline = self.0.deadlines.request;
        if self.is_directory() {
            return self.get_file(key, options).await;
        }
        let request = || async {
            let answer = within(deadline, self.0.store.get_opts(key, options.clone())).await?;
            let mut pieces = answer.into_stream();
            let mut bytes = BytesMut::new();
            while let Some(piece) = within(deadline, pieces.try_next()).await? {
                bytes.extend_from_slice(&piece);
            }
            Ok::<_, StoreError>(bytes.freeze())
        };
        // Each of its waits has its own deadline.
        self.retried(Op::Get, Some(key), Duration::MAX, request).await
    }

    /// The same of a directory. One call reads all of it and shows no progress, so its deadline grows with the bytes.
    async fn get_file(&self, key: &Path, options: &GetOptions) -> Result<Bytes, StoreError> {
        let mut attempt = 1;
        loop {
            let open = || self.0.store.get_opts(key, options.clone());
            let answer = self.retried(Op::Get, Some(key), self.0.deadlines.request, open).await?;
            let deadline = self.0.deadlines.transfer(answer.range.end.saturating_sub(answer.range.start));
            let read = within(deadline, self.where_it_runs(answer.bytes())).await;
            let Err(error) = &read else { return read };
            self.0.health.record(Op::Get, Some(key), &read);
            match self.0.retry.after(attempt).filter(|_| error.is_transient()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return read,
            }
            attempt += 1;
        }
    }

    /// This range of an object, as it arrives: one request, not retried. The pieces have any size.
    pub async fn get_stream(
        &self,
        key: &Path,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        if let Some(directory) = &self.0.directory {
            let len = range.end.saturating_sub(range.start);
            let whole = usize::try_from(len / u64::from(LOCAL_PIECE_BYTES)).unwrap_or(0);
            let rest = (len % u64::from(LOCAL_PIECE_BYTES)) as u32;
            let lengths = std::iter::repeat_n(LOCAL_PIECE_BYTES, whole).chain((rest > 0).then_some(rest)).collect();
            return self.read_directory(directory, key, range.start, lengths).await;
        }
        let request = self.0.store.get_opts(key, bounded(range));
        let answer = self.once(Op::Get, Some(key), self.0.deadlines.request, request).await?;
        Ok(self.pieces(key, None, Body::Answer(answer.into_stream())))
    }

    /// Is the store a directory of this machine?
    pub fn is_directory(&self) -> bool {
        self.0.directory.is_some()
    }

    /// As [`Bucket::get_stream`] for a range that is made of pieces of these lengths. A directory hands out those very
    /// pieces, read behind the runtime's back into memory of their own; they leave the page cache again.
    pub async fn get_chunks(
        &self,
        key: &Path,
        range: Range<u64>,
        lengths: Vec<u32>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        match &self.0.directory {
            Some(directory) => self.read_directory(directory, key, range.start, lengths).await,
            None => self.get_stream(key, range).await,
        }
    }

    async fn read_directory(
        &self,
        directory: &Directory,
        key: &Path,
        position: u64,
        lengths: Vec<u32>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let mut body = Body::File(directory.read(key, position, lengths));
        let first = self.once(Op::Get, Some(key), self.0.deadlines.request, body.next()).await?;
        Ok(self.pieces(key, first, body))
    }

    fn pieces(&self, key: &Path, first: Option<Bytes>, body: Body) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let (bucket, key, deadline) = (self.clone(), key.clone(), self.0.deadlines.request);
        let pieces = futures::stream::try_unfold((first, body), move |(first, mut body)| {
            let (bucket, key) = (bucket.clone(), key.clone());
            async move {
                let piece = match first {
                    Some(piece) => Ok(Some(piece)),
                    None => within(deadline, body.next()).await,
                };
                if piece.is_err() {
                    bucket.0.health.record(Op::Get, Some(&key), &piece);
                }
                let Some(piece) = piece? else { return Ok(None) };
                bucket.arrived(piece.len() as u64).await;
                Ok(Some((piece, (None, body))))
            }
        });
        pieces.boxed()
    }
}

fn bounded(range: Range<u64>) -> GetOptions {
    GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() }
}

async fn within<T>(deadline: Duration, work: impl Future<Output = object_store::Result<T>>) -> Result<T, StoreError> {
    match timeout(deadline, work).await {
        Ok(outcome) => outcome.map_err(StoreError::from),
        Err(_) => Err(StoreError::Timeout(deadline)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::platform::clock::ManualClock;
    use crate::platform::fs::RealFs;
    use crate::platform::random::SeededRandom;
    use crate::platform::task::Tasks;
    use crate::store::faulty::{Fault, Faulty};
    use crate::tier::{Machine, TierOptions};

    #[tokio::test(start_paused = true)]
    async fn a_large_file_of_a_slow_directory_has_the_time_that_its_bytes_take() {
        let dir = tempfile::tempdir().expect("directory");
        let machine = Machine {
            clock: ManualClock::at(0),
            random: SeededRandom::new(1),
            fs: RealFs::shared(),
            tasks: Tasks::new(),
        };
        let directory = Directory::new(dir.path().to_owned(), RealFs::shared()).expect("threads");
        let store = Faulty::new(Arc::new(InMemory::new()), 1);
        let options = TierOptions::new("memory:", "cluster");
        let bucket = Bucket::new(Arc::new(store.clone()), Some(directory), &options, &machine);
        let key = Path::from("object");
        store.put(&key, vec![7; 32 << 20].into()).await.expect("stored");
        let gate = Arc::new(Semaphore::new(0));
        store.fail_at_random_with(1000, &[Fault::WaitBody(Arc::clone(&gate))]);
        let open = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            gate.close();
        };
        let (read, ()) = tokio::join!(bucket.get_range(&key, 0..32 << 20), open);
        assert_eq!(read.expect("in time").len(), 32 << 20);
    }
}
