//! Control batches that end a transaction: one record whose key names the outcome and whose value the coordinator.
//!
//! ```text
//! key: version i16 (0) | type i16 (0 abort, 1 commit) | value: version i16 (0) | coordinator epoch i32
//! ```
//! (KIP-98; `ControlRecordTypeSchema` and `EndTxnMarker` of Apache Kafka.) Later versions may append fields.

use super::batch_builder::BatchBuilder;
use super::record_batch::{BatchView, ProducerId};
use super::records::records;

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// A marker is never compressed by a broker; whoever did it anyway had a handful of bytes.
const DECOMPRESSED_MAX: u64 = 1 << 10;

/// How a transaction ended, as its marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransaction {
    /// Committed, or aborted?
    pub commit: bool,
    /// Epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndTransaction {
    /// The marker in a control batch; `None` for control batches of another kind and for bytes that are none.
    pub fn read(batch: &BatchView<'_>) -> Option<Self> {
        if !batch.is_control() {
            return None;
        }
        let opened = records(batch, DECOMPRESSED_MAX).ok()?;
        let record = opened.iter().next()?.ok()?;
        let commit = match number(record.key?, 2)? {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        let value = record.value?;
        let coordinator_epoch = i32::from_be_bytes(value.get(2..6)?.try_into().ok()?);
        Some(Self { commit, coordinator_epoch })
    }

    /// The control batch of this marker, to be stamped by an append.
    pub fn batch(&self, producer_id: ProducerId, producer_epoch: i16, now_ms: i64) -> Vec<u8> {
        let outcome = if self.commit { COMMIT } else { ABORT };
        let key = [VERSION.to_be_bytes(), outcome.to_be_bytes()].concat();
        let value = [&VERSION.to_be_bytes()[..], &self.coordinator_epoch.to_be_bytes()].concat();
        let mut builder = BatchBuilder::new(0).with_producer(producer_id, producer_epoch, -1).transactional().control();
        builder.push(0, now_ms, Some(&key), Some(&value), [].into_iter());
        builder.finish()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_comes_back() {
        for commit in [false, true] {
            let marker = EndTransaction { commit, coordinator_epoch: 7 };
            let bytes = marker.batch(4000, 3, 99);
            let (batch, rest) = BatchView::split_first(&bytes).expect("whole");
            assert!(rest.is_empty() && batch.check_crc().is_ok());
            assert!(batch.is_control() && batch.is_transactional());
            assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (4000, 3, -1));
            assert_eq!((batch.records_count(), batch.max_timestamp()), (1, 99));
            assert_eq!(EndTransaction::read(&batch), Some(marker));
        }
    }

    #[test]
    fn other_batches_are_none() {
        let mut data = BatchBuilder::new(0).with_producer(1, 0, 0).transactional();
        data.push(0, 1, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 7]), [].into_iter());
        let mut leader_change = BatchBuilder::new(0).control();
        leader_change.push(0, 1, Some(&[0, 0, 0, 2]), Some(&[0, 0, 0, 0, 0, 7]), [].into_iter());
        let mut short = BatchBuilder::new(0).control();
        short.push(0, 1, Some(&[0, 0, 0, 1]), Some(&[0, 0, 7]), [].into_iter());
        let empty = BatchBuilder::new(0).control();
        for builder in [data, leader_change, short, empty] {
            let bytes = builder.finish();
            let (batch, _) = BatchView::split_first(&bytes).expect("whole");
            assert_eq!(EndTransaction::read(&batch), None);
        }
    }
}
