//! A log in memory whose appends fail, wait and are rejected as a test wants.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ShardLog, ShardLogs};
use crate::metadata::image::{Image, PartitionId};
use crate::partition::append::AppendError;
use crate::partition::producers::VerificationGuard;
use crate::partition::read::ReadError;
use crate::partition::transactions::EndMarker;
use crate::protocol::control::EndTransaction;
use crate::protocol::record_batch::{BatchView, LeaderEpoch, Offset, ProducerId, stamp};
use crate::wal::ticket::{Promise, Rejected, Ticket};

/// See the module.
#[derive(Debug, Default)]
pub struct FakeLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    batches: Vec<(Offset, Vec<u8>)>,
    end: Offset,
    fail: Option<AppendError>,
    hold: bool,
    promises: VecDeque<Promise>,
    unreadable: bool,
}

impl FakeLog {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends answer this from now on, `None` to succeed again.
    pub fn fail(&self, error: Option<AppendError>) {
        self.inner().fail = error;
    }

    /// Tickets of appends from now on wait for [`FakeLog::accept`].
    pub fn hold(&self) {
        self.inner().hold = true;
    }

    /// Keeps the oldest promise.
    pub fn accept(&self) {
        self.inner().promises.pop_front().expect("an append waits").accept();
    }

    /// Breaks all promises; what was appended under them is gone.
    pub fn reject_all(&self) {
        let mut inner = self.inner();
        let promises = std::mem::take(&mut inner.promises);
        let kept = inner.batches.len() - promises.len();
        inner.batches.truncate(kept);
        inner.hold = false;
        promises.into_iter().for_each(|promise| promise.reject(Rejected::Storage));
    }

    /// Reads fail until told otherwise.
    pub fn unreadable(&self, unreadable: bool) {
        self.inner().unreadable = unreadable;
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.inner().batches.len()
    }

    /// All bytes, as a segment would have them.
    pub fn bytes(&self) -> Vec<u8> {
        self.inner().batches.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

impl ShardLog for FakeLog {
    fn append(&self, batches: &mut [u8], _: Option<VerificationGuard>) -> Result<Ticket, AppendError> {
        let mut inner = self.inner();
        if let Some(error) = &inner.fail {
            return Err(error.clone());
        }
        stamp(batches, inner.end, 0);
        let (batch, rest) = BatchView::split_first(batches).expect("a coordinator appends batches");
        assert!(rest.is_empty() && batch.records_count() > 0 && batch.check_crc().is_ok());
        let (base, next) = (batch.base_offset(), batch.next_offset());
        inner.end = next;
        inner.batches.push((base, batches.to_vec()));
        if !inner.hold {
            return Ok(Ticket::done(next, 0));
        }
        let (ticket, promise) = Ticket::pending(next, 0);
        inner.promises.push_back(promise);
        Ok(ticket)
    }

    fn begin_verification(&self, _: ProducerId, _: i16, _: bool) -> Result<Option<VerificationGuard>, AppendError> {
        Ok(None)
    }

    fn append_marker(&self, marker: &EndMarker) -> Result<Ticket, AppendError> {
        let end = EndTransaction { commit: marker.commit, coordinator_epoch: marker.coordinator_epoch };
        self.append(&mut end.batch(marker.producer_id, marker.producer_epoch, 0), None)
    }

    fn forget_below(&self, offset: Offset) {
        let next = |bytes: &[u8]| BatchView::split_first(bytes).expect("was appended").0.next_offset();
        self.inner().batches.retain(|(_, bytes)| next(bytes) > offset);
    }

    fn leader_epoch(&self) -> LeaderEpoch {
        3
    }

    fn bounds(&self) -> Result<(Offset, Offset), ReadError> {
        let inner = self.inner();
        let end = inner
            .batches
            .last()
            .map_or(0, |(_, bytes)| BatchView::split_first(bytes).expect("was appended").0.next_offset());
        Ok((0, end))
    }

    /// One batch and half of the next.
    fn read(&self, from: Offset) -> Result<Vec<u8>, ReadError> {
        let inner = self.inner();
        if inner.unreadable {
            return Err(ReadError::Storage("as the test wants".to_owned()));
        }
        let mut ahead = inner
            .batches
            .iter()
            .skip_while(|(_, bytes)| BatchView::split_first(bytes).expect("was appended").0.next_offset() <= from);
        let mut bytes = ahead.next().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        if let Some((_, next)) = ahead.next() {
            bytes.extend_from_slice(&next[..next.len() / 2]);
        }
        Ok(bytes)
    }
}

/// The same log for every partition.
pub struct FakeLogs(pub Arc<FakeLog>);

impl ShardLogs for FakeLogs {
    fn follow(&self, _: &Image) {}

    fn open(&self, _: PartitionId) -> Option<Arc<dyn ShardLog>> {
        Some(Arc::clone(&self.0) as Arc<dyn ShardLog>)
    }
}
