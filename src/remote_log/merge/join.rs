//! One segment made of the records of several objects that follow each other, in memory, checked as a local segment is
//! before its copy.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use terrace_tiering::object::footer::{AbortedTransaction, Footer, SegmentIdentity};
use terrace_tiering::platform::fs::SharedFile;
use terrace_tiering::read::ReadError;
use terrace_tiering::upload::SegmentUpload;
use terrace_tiering::{ObjectRef, Tier};
use uuid::Uuid;

use super::memory_file::MemoryFile;
use crate::metadata::remote_log::{RemoteSegment, SegmentState};
use crate::protocol::record_batch::{LeaderEpoch, Offset};
use crate::remote_log::walk::{self, WalkError, Walked};

/// Why segments are not put together.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// One of them cannot be read: which, and why.
    #[error("{1}")]
    Read(Uuid, ReadError),
    /// Together they are not what a segment must be.
    #[error("segments from offset {0} on cannot be put together: {1}")]
    Walk(Offset, String),
    /// The thread that looked at them ended.
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}

impl JoinError {
    /// Is it so for good, however often it is tried?
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::Read(_, ReadError::Store(_)) | Self::Task(_) => false,
            Self::Read(..) | Self::Walk(..) => true,
        }
    }

    /// The one that cannot be read; `None` when it is not a single one.
    pub fn which(&self) -> Option<Uuid> {
        match self {
            Self::Read(uuid, _) => Some(*uuid),
            Self::Walk(..) | Self::Task(_) => None,
        }
    }
}

/// The segment that they make.
#[derive(Debug)]
pub struct Joined {
    /// Of the newest of them; offsets are those of the whole.
    identity: SegmentIdentity,
    log: SharedFile,
    log_bytes: u64,
    walked: Walked,
    producer_snapshot: Bytes,
    aborted: Vec<AbortedTransaction>,
}

/// Reads `objects`, by offset, and puts them together as far as they lie below `end`. The caller has the memory for all of
/// them. Producers are those of the last one, and none where that is cut; aborted transactions are those of all.
pub async fn join(tier: &Tier, objects: &[ObjectRef], end: Option<Offset>) -> Result<Joined, JoinError> {
    let bytes = objects.iter().map(|object| object.object_bytes).sum::<u64>();
    let mut log = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    let mut footers = Vec::with_capacity(objects.len());
    for object in objects {
        let whole = tier.whole(object).await.map_err(|error| JoinError::Read(object.uuid, error))?;
        log.extend_from_slice(&whole.log);
        footers.push(whole.footer);
    }
    tokio::task::spawn_blocking(move || put_together(log, footers, end)).await?
}

fn put_together(log: Vec<u8>, footers: Vec<Footer>, end: Option<Offset>) -> Result<Joined, JoinError> {
    let [Some(first), Some(last)] = [footers.first(), footers.last()] else {
        return Err(JoinError::Walk(0, WalkError::Empty.to_string()));
    };
    let base_offset = first.identity.base_offset;
    let next_offset = last.identity.last_offset.saturating_add(1);
    let cut_at = end.filter(|end| *end < next_offset);
    let failed = |why: WalkError| JoinError::Walk(base_offset, why.to_string());
    let (log_bytes, log) = (log.len() as u64, Arc::new(MemoryFile::new(log)));
    let log_bytes = match cut_at {
        Some(end) => walk::position_of(&*log, log_bytes, end).map_err(failed)?,
        None => log_bytes,
    };
    let next_offset = cut_at.unwrap_or(next_offset);
    let walked = walk::walk(&*log, log_bytes, base_offset, next_offset).map_err(failed)?;
    let is_in = |aborted: &&AbortedTransaction| aborted.first_offset < next_offset;
    // Each once: one that lies across a border is in both footers. In the order of their markers.
    let aborted: BTreeMap<_, _> = footers
        .iter()
        .flat_map(|footer| &footer.aborted)
        .filter(is_in)
        .map(|aborted| ((aborted.last_offset, aborted.producer_id), *aborted))
        .collect();
    Ok(Joined {
        identity: identity_of(last.identity.clone(), &walked, base_offset..next_offset),
        log,
        log_bytes,
        walked,
        producer_snapshot: if cut_at.is_some() { Bytes::new() } else { last.producer_snapshot.clone() },
        aborted: aborted.into_values().collect(),
    })
}

/// `identity` with what was found in `offsets`.
fn identity_of(identity: SegmentIdentity, walked: &Walked, offsets: Range<Offset>) -> SegmentIdentity {
    SegmentIdentity {
        base_offset: offsets.start,
        last_offset: offsets.end - 1,
        record_count: walked.record_count,
        batch_count: walked.batch_count,
        first_timestamp: walked.first_timestamp,
        max_timestamp: walked.max_timestamp,
        max_timestamp_offset: walked.max_timestamp_offset,
        ..identity
    }
}

impl Joined {
    /// A segment of what is left of others. They were of `identity`, whose offsets and counts become those of `offsets` and
    /// of `log`; nothing of an aborted transaction is left.
    pub fn rewritten(
        log: Vec<u8>,
        offsets: Range<Offset>,
        identity: SegmentIdentity,
        producer_snapshot: Bytes,
        epochs: Vec<(LeaderEpoch, Offset)>,
    ) -> Result<Self, JoinError> {
        let (log_bytes, log) = (log.len() as u64, Arc::new(MemoryFile::new(log)));
        let walked = walk::walk(&*log, log_bytes, offsets.start, offsets.end)
            .map_err(|why| JoinError::Walk(offsets.start, why.to_string()))?;
        let walked = Walked { epochs, ..walked };
        let identity = identity_of(identity, &walked, offsets);
        Ok(Self { identity, log, log_bytes, walked, producer_snapshot, aborted: Vec::new() })
    }

    /// Its row and what is uploaded, as a new copy.
    pub fn into_copy(self, uuid: Uuid, copy_epoch: LeaderEpoch) -> (RemoteSegment, SegmentUpload) {
        let row = RemoteSegment {
            uuid,
            base_offset: self.identity.base_offset,
            last_offset: self.identity.last_offset,
            copy_epoch,
            log_bytes: self.log_bytes,
            object_bytes: 0,
            first_timestamp: self.walked.first_timestamp,
            max_timestamp: self.walked.max_timestamp,
            max_timestamp_offset: self.walked.max_timestamp_offset,
            epochs: self.walked.epochs.clone(),
            state: SegmentState::CopyStarted,
        };
        let upload = SegmentUpload {
            identity: SegmentIdentity { uuid, leader_epoch: copy_epoch, ..self.identity },
            log: self.log,
            log_bytes: self.log_bytes,
            chunks: self.walked.chunks,
            epochs: self.walked.epochs,
            producer_snapshot: self.producer_snapshot,
            aborted: self.aborted,
        };
        (row, upload)
    }
}
