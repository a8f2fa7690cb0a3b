//! Remote segment states in `meta.redb`, changed by the same thread and in the same transactions as the rest.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use uuid::Uuid;

use super::damage_rows;
use super::embedded::EmbeddedStore;
use super::embedded_writer::Request;
use super::image::PartitionId;
use super::records::BadRow;
use super::remote_log::{KnownDamage, RemoteLogError, RemoteLogMetadata, RemotePartition, RemoteSegment, SegmentState};
use super::remote_records::{self, PartitionRow, SEGMENT_KEY_BYTES};
use super::remote_replacement::Replacement;
use super::tables::{REMOTE_PARTITIONS, REMOTE_SEGMENTS};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// One change of one partition's remote state.
#[derive(Debug)]
pub(super) struct RemoteChange {
    partition: PartitionId,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Guarded {
        leader_epoch: LeaderEpoch,
        expected: u64,
        step: GuardedStep,
    },
    /// What is wrong with this segment.
    Damage(Uuid, Option<String>),
    Forget,
}

/// A step that needs the caller's leader epoch and generation to be the newest.
#[derive(Debug)]
enum GuardedStep {
    BeginCopy(RemoteSegment),
    FinishCopy(RemoteSegment),
    MarkDeleted { segments: Vec<Uuid>, log_start: Offset, now_ms: i64 },
    Replace(Replacement),
    FinishDelete { segments: Vec<Uuid> },
}

type Rows<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// Puts the change into the transaction, or refuses it and leaves the transaction as it was.
pub(super) fn write(
    transaction: &WriteTransaction,
    change: RemoteChange,
) -> Result<Result<u64, RemoteLogError>, redb::Error> {
    let mut partitions = transaction.open_table(REMOTE_PARTITIONS)?;
    let mut segments = transaction.open_table(REMOTE_SEGMENTS)?;
    let key = remote_records::partition_key(change.partition);
    let (leader_epoch, expected, step) = match change.step {
        Step::Guarded { leader_epoch, expected, step } => (leader_epoch, expected, step),
        Step::Damage(segment, what) => {
            damage_rows::note(transaction, change.partition, segment, what.as_deref())?;
            return Ok(Ok(0));
        }
        Step::Forget => {
            damage_rows::forget(transaction, change.partition)?;
            partitions.remove(key.as_slice())?;
            let (first, last) = segment_range(change.partition);
            segments.retain_in(first.as_slice()..=last.as_slice(), |_, _| false)?;
            return Ok(Ok(0));
        }
    };
    let row = partitions.get(key.as_slice())?.map(|row| remote_records::decode_partition(row.value())).transpose();
    let mut row: PartitionRow = match row {
        Ok(row) => row.unwrap_or_default(),
        Err(why) => return Ok(Err(damaged(&why))),
    };
    if row.generation != expected || row.leader_epoch > leader_epoch {
        return Ok(Err(RemoteLogError::Fenced));
    }
    if let Err(refused) = write_segments(&mut segments, change.partition, &mut row, step)? {
        return Ok(Err(refused));
    }
    row.generation += 1;
    row.leader_epoch = leader_epoch;
    partitions.insert(key.as_slice(), remote_records::encode_partition(&row).as_slice())?;
    Ok(Ok(row.generation))
}

fn write_segments(
    rows: &mut Rows<'_>,
    partition: PartitionId,
    row: &mut PartitionRow,
    step: GuardedStep,
) -> Result<Result<(), RemoteLogError>, redb::Error> {
    match step {
        GuardedStep::BeginCopy(segment) | GuardedStep::FinishCopy(segment)
            if segment.base_offset < 0 || segment.last_offset < segment.base_offset =>
        {
            return Ok(Err(RemoteLogError::BadState(segment.uuid)));
        }
        GuardedStep::BeginCopy(segment) => {
            let key = remote_records::segment_key(partition, segment.base_offset, segment.uuid);
            if rows.get(key.as_slice())?.is_some() {
                return Ok(Err(RemoteLogError::BadState(segment.uuid)));
            }
            put(rows, partition, &RemoteSegment { state: SegmentState::CopyStarted, ..segment })?;
        }
        GuardedStep::FinishCopy(segment) => {
            let key = remote_records::segment_key(partition, segment.base_offset, segment.uuid);
            let known = rows.get(key.as_slice())?.map(|row| remote_records::decode_segment(&key, row.value()));
            match known {
                Some(Ok(known)) if known.state == SegmentState::CopyStarted => {}
                Some(Err(why)) => return Ok(Err(damaged(&why))),
                _ => return Ok(Err(RemoteLogError::BadState(segment.uuid))),
            }
            put(rows, partition, &RemoteSegment { state: SegmentState::CopyFinished, ..segment })?;
        }
        GuardedStep::MarkDeleted { segments, log_start, now_ms } => {
            let known = match find(rows, partition, &segments)? {
                Ok(known) => known,
                Err(why) => return Ok(Err(why)),
            };
            if let Some(missing) = segments.iter().find(|uuid| !known.iter().any(|segment| segment.uuid == **uuid)) {
                return Ok(Err(RemoteLogError::BadState(*missing)));
            }
            for segment in known {
                // The grace time counts from the first mark.
                if !matches!(segment.state, SegmentState::DeleteStarted { .. }) {
                    let state = SegmentState::DeleteStarted { at_ms: now_ms };
                    put(rows, partition, &RemoteSegment { state, ..segment })?;
                }
            }
            row.log_start = row.log_start.max(log_start);
        }
        GuardedStep::Replace(replacement) => {
            // One that is not of one piece is refused whatever there is.
            let (first, last) = replacement.offsets().unwrap_or_default();
            let known = match read_segments(rows, partition, first, last, |_| true, usize::MAX)? {
                Ok(known) => known,
                Err(why) => return Ok(Err(why)),
            };
            match replacement.rows(known.iter()) {
                Ok(changed) => changed.iter().try_for_each(|segment| put(rows, partition, segment))?,
                Err(refused) => return Ok(Err(refused)),
            }
        }
        GuardedStep::FinishDelete { segments } => {
            let known = match find(rows, partition, &segments)? {
                Ok(known) => known,
                Err(why) => return Ok(Err(why)),
            };
            let readable = known.iter().find(|segment| segment.state == SegmentState::CopyFinished);
            if let Some(readable) = readable {
                return Ok(Err(RemoteLogError::BadState(readable.uuid)));
            }
            for segment in known {
                let key = remote_records::segment_key(partition, segment.base_offset, segment.uuid);
                rows.remove(key.as_slice())?;
            }
        }
    }
    Ok(Ok(()))
}

fn put(rows: &mut Rows<'_>, partition: PartitionId, segment: &RemoteSegment) -> Result<(), redb::Error> {
    let key = remote_records::segment_key(partition, segment.base_offset, segment.uuid);
    rows.insert(key.as_slice(), remote_records::encode_segment(segment).as_slice())?;
    Ok(())
}

/// The segments with these uuids that exist. What is deleted lies at the front most often, so the walk ends early.
fn find(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    partition: PartitionId,
    uuids: &[Uuid],
) -> Result<Result<Vec<RemoteSegment>, RemoteLogError>, redb::Error> {
    read_segments(rows, partition, 0, Offset::MAX, |segment| uuids.contains(&segment.uuid), uuids.len())
}

/// The segments that begin at `first` to `last` and are wanted, by base offset; no more than `count`.
fn read_segments(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    partition: PartitionId,
    first: Offset,
    last: Offset,
    is_wanted: impl Fn(&RemoteSegment) -> bool,
    count: usize,
) -> Result<Result<Vec<RemoteSegment>, RemoteLogError>, redb::Error> {
    let first = remote_records::segment_key(partition, first, Uuid::nil());
    let last = remote_records::segment_key(partition, last, Uuid::max());
    let mut found = Vec::new();
    for entry in rows.range(first.as_slice()..=last.as_slice())? {
        if found.len() == count {
            break;
        }
        let (key, value) = entry?;
        match remote_records::decode_segment(key.value(), value.value()) {
            Ok(segment) if is_wanted(&segment) => found.push(segment),
            Ok(_) => {}
            Err(why) => return Ok(Err(damaged(&why))),
        }
    }
    Ok(Ok(found))
}

/// The first and last key that a segment of the partition may have. Base offsets are never negative.
fn segment_range(partition: PartitionId) -> ([u8; SEGMENT_KEY_BYTES], [u8; SEGMENT_KEY_BYTES]) {
    (
        remote_records::segment_key(partition, 0, Uuid::nil()),
        remote_records::segment_key(partition, Offset::MAX, Uuid::max()),
    )
}

fn read(database: &Database, partition: PartitionId) -> Result<RemotePartition, RemoteLogError> {
    let transaction = database.begin_read().map_err(failed)?;
    let key = remote_records::partition_key(partition);
    let row = transaction.open_table(REMOTE_PARTITIONS).map_err(failed)?.get(key.as_slice()).map_err(failed)?;
    let row = match row {
        Some(row) => remote_records::decode_partition(row.value()).map_err(|why| damaged(&why))?,
        None => return Ok(RemotePartition::default()),
    };
    let rows = transaction.open_table(REMOTE_SEGMENTS).map_err(failed)?;
    let (first, last) = segment_range(partition);
    let mut segments = Vec::new();
    for entry in rows.range(first.as_slice()..=last.as_slice()).map_err(failed)? {
        let (key, value) = entry.map_err(failed)?;
        let segment = remote_records::decode_segment(key.value(), value.value()).map_err(|why| damaged(&why))?;
        segments.push(Arc::new(segment));
    }
    let PartitionRow { generation, leader_epoch, log_start } = row;
    Ok(RemotePartition { generation, leader_epoch, segments, log_start })
}

fn read_partitions(database: &Database) -> Result<Vec<PartitionId>, RemoteLogError> {
    let transaction = database.begin_read().map_err(failed)?;
    let rows = transaction.open_table(REMOTE_PARTITIONS).map_err(failed)?;
    let mut partitions = Vec::new();
    for entry in rows.iter().map_err(failed)? {
        let (key, _) = entry.map_err(failed)?;
        partitions.push(remote_records::decode_partition_key(key.value()).map_err(|why| damaged(&why))?);
    }
    Ok(partitions)
}

fn failed(error: impl Into<redb::Error>) -> RemoteLogError {
    RemoteLogError::Store(error.into().to_string())
}

fn damaged(why: &BadRow) -> RemoteLogError {
    RemoteLogError::Store(why.to_string())
}

impl EmbeddedStore {
    /// Reads the file away from the async workers.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, RemoteLogError> + Send + 'static,
    ) -> Result<T, RemoteLogError> {
        let database = Arc::clone(&self.database);
        let outcome = tokio::task::spawn_blocking(move || work(&database)).await;
        outcome.unwrap_or_else(|ended| Err(RemoteLogError::Store(ended.to_string())))
    }

    async fn change(&self, partition: PartitionId, step: Step) -> Result<u64, RemoteLogError> {
        let change = RemoteChange { partition, step };
        let answer = self.ask(|reply| Request::Remote { change, reply }).await;
        answer.unwrap_or_else(|| Err(RemoteLogError::Store("metadata writer has ended".to_owned())))
    }
}

#[async_trait::async_trait]
impl RemoteLogMetadata for EmbeddedStore {
    async fn load(&self, partition: PartitionId) -> Result<RemotePartition, RemoteLogError> {
        self.read(move |database| read(database, partition)).await
    }

    async fn partitions(&self) -> Result<Vec<PartitionId>, RemoteLogError> {
        self.read(read_partitions).await
    }

    async fn begin_copy(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segment: RemoteSegment,
    ) -> Result<u64, RemoteLogError> {
        let step = GuardedStep::BeginCopy(segment);
        self.change(partition, Step::Guarded { leader_epoch, expected, step }).await
    }

    async fn finish_copy(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segment: RemoteSegment,
    ) -> Result<u64, RemoteLogError> {
        let step = GuardedStep::FinishCopy(segment);
        self.change(partition, Step::Guarded { leader_epoch, expected, step }).await
    }

    async fn mark_deleted(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segments: &[Uuid],
        log_start: Offset,
        now_ms: i64,
    ) -> Result<u64, RemoteLogError> {
        let step = GuardedStep::MarkDeleted { segments: segments.to_vec(), log_start, now_ms };
        self.change(partition, Step::Guarded { leader_epoch, expected, step }).await
    }

    async fn replace(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        replacement: &Replacement,
    ) -> Result<u64, RemoteLogError> {
        let step = GuardedStep::Replace(replacement.clone());
        self.change(partition, Step::Guarded { leader_epoch, expected, step }).await
    }

    async fn finish_delete(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segments: &[Uuid],
    ) -> Result<u64, RemoteLogError> {
        let step = GuardedStep::FinishDelete { segments: segments.to_vec() };
        self.change(partition, Step::Guarded { leader_epoch, expected, step }).await
    }

    async fn damage(&self) -> Result<Vec<KnownDamage>, RemoteLogError> {
        self.read(|database| damage_rows::read(database).map_err(failed)?.map_err(|why| damaged(&why))).await
    }

    async fn note_damage(
        &self,
        partition: PartitionId,
        segment: Uuid,
        what: Option<&str>,
    ) -> Result<(), RemoteLogError> {
        self.change(partition, Step::Damage(segment, what.map(str::to_owned))).await.map(|_| ())
    }

    async fn forget(&self, partition: PartitionId) -> Result<(), RemoteLogError> {
        self.change(partition, Step::Forget).await.map(|_| ())
    }
}
