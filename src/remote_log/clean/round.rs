//! One round over one partition: the keys of what is new, then group by group from the log start.
//!
//! A group is a run of segments of which one piece is left, or some of a large segment. Its memory is taken at once before
//! its first request and given back when it counts, so that copies have their turn between two groups.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use terrace_tiering::ObjectRef;
use terrace_tiering::object::footer::SegmentIdentity;
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::tier::CopyMemory;
use terrace_tiering::whole::{Pass, WINDOW_BYTES};
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::rewrite::{Piece, Rewriter, RoundRules, epochs_within};
use super::{Cleaned, may_be_cleaned};
use crate::config::topic::TopicConfig;
use crate::log::cleaner::{KeyMap, TransactionWalk};
use crate::log::txn_index::AbortedTransaction;
use crate::metadata::remote_log::RemoteSegment;
use crate::metadata::remote_replacement::Replacement;
use crate::protocol::record_batch::{BatchError, BatchView, Offset};
use crate::remote_log::job::RemoteLog;
use crate::remote_log::merge::MergeError;
use crate::remote_log::merge::join::{JoinError, Joined};
use crate::remote_log::observe;
use crate::remote_log::partition::SharedPartition;
use crate::remote_log::state::{Known, PartitionState, object_of};

/// The size of a piece where nothing is merged.
const PIECE_BYTES: u64 = 16 << 20;

/// What a round works with.
pub(super) struct Round<'r> {
    pub log: &'r RemoteLog,
    pub partition: &'r SharedPartition,
    pub state: &'r PartitionState,
    pub config: &'r TopicConfig,
    pub now_ms: i64,
    pub stopping: &'r CancellationToken,
}

/// Segments, and what takes their place.
#[derive(Default)]
struct Group {
    replaced: Vec<Arc<RemoteSegment>>,
    /// What the footer of the newest of them says: who they are, and its producers.
    newest: Option<(SegmentIdentity, Bytes)>,
    /// Uploaded and verified, not counting yet.
    pieces: Vec<RemoteSegment>,
}

/// Why a group did not come to its end.
enum Ended {
    /// The broker stops: what is on its way stays started and is an orphan at the next start.
    Stopping,
    Failed(MergeError),
}

impl<E: Into<MergeError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Round<'_> {
    /// The round. What counts by the time of an error goes on counting.
    pub async fn run(&self, plan: Plan) -> Result<Cleaned, MergeError> {
        match self.groups(plan).await {
            Ok(cleaned) => Ok(cleaned),
            Err(Ended::Stopping) => Ok(Cleaned::Nothing),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    async fn groups(&self, plan: Plan) -> Result<Cleaned, Ended> {
        let map = Arc::new(self.map(&plan).await?);
        let rules = RoundRules {
            map: Arc::clone(&map),
            now_ms: self.now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            decompressed_max_bytes: self.config.record_decompressed_max_bytes,
            sees_all: plan.sees_all,
        };
        let starts = epoch_starts(&plan.segments);
        let mut rewriter = Rewriter::new(rules, usize::try_from(self.piece_bytes()).unwrap_or(usize::MAX));
        let mut left: VecDeque<_> = plan.segments.into_iter().filter(|each| each.base_offset < map.end()).collect();
        while !left.is_empty() {
            // A piece, the same on its way, and what is read.
            let memory = self.log.tier.copy_memory(2 * self.piece_bytes() + WINDOW_BYTES).await;
            let mut group = Group::default();
            rewriter = match self.rewrite(rewriter, &mut left, &mut group, &starts, &memory).await {
                Ok(rewriter) => rewriter,
                Err(Ended::Stopping) => return Err(Ended::Stopping),
                Err(Ended::Failed(error)) => {
                    self.give_up(&mut *self.state.lock().await, &group).await?;
                    return Err(error.into());
                }
            };
            if !group.pieces.is_empty() && !self.publish(group).await? {
                return Ok(Cleaned::Other);
            }
        }
        let mut known = self.state.lock().await;
        known.was_cleaned(map.end());
        self.log.root_is_behind(self.state.id, known.unrooted);
        observe::cleaned();
        Ok(Cleaned::Round)
    }

    fn piece_bytes(&self) -> u64 {
        match self.log.settings.merge_target_bytes {
            0 => PIECE_BYTES.min(self.log.tier.copy_memory_bytes() / 4),
            target => target,
        }
    }

    /// Waits for `work`, or for the stop.
    async fn unless_stopping<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        tokio::select! {
            () = self.stopping.cancelled() => Err(Ended::Stopping),
            done = work => Ok(done),
        }
    }

    async fn open(&self, segment: &RemoteSegment) -> Result<Pass, Ended> {
        let object: ObjectRef = object_of(self.state.id, segment);
        let opened = self.unless_stopping(self.log.tier.pass_over(&object)).await?;
        Ok(opened.map_err(|error| JoinError::Read(segment.uuid, error))?)
    }

    async fn next(&self, segment: &RemoteSegment, pass: &mut Pass) -> Result<Option<Bytes>, Ended> {
        let next = self.unless_stopping(pass.next()).await?;
        let next = next.map_err(|error| JoinError::Read(segment.uuid, error))?;
        if let Some(bytes) = &next {
            observe::clean_read(bytes.len() as u64);
        }
        Ok(next)
    }

    /// The last offset of each key in what no round has met, or in as much of it as the buffer holds.
    async fn map(&self, plan: &Plan) -> Result<KeyMap, Ended> {
        let mut map = KeyMap::new(plan.from, self.partition.cleaning_memory());
        let mut transactions = TransactionWalk::default();
        for segment in plan.segments.iter().filter(|segment| segment.last_offset >= plan.from) {
            let _memory = self.log.tier.copy_memory(WINDOW_BYTES).await;
            let mut pass = self.open(segment).await?;
            transactions.learn(pass.footer().aborted.iter().map(AbortedTransaction::from));
            while let Some(batches) = self.next(segment, &mut pass).await? {
                let most = self.config.record_decompressed_max_bytes;
                let met = tokio::task::spawn_blocking(move || {
                    let room = meet(&mut map, &mut transactions, &batches, most);
                    (map, transactions, room)
                });
                let room;
                (map, transactions, room) = met.await.map_err(JoinError::Task)?;
                if !room.map_err(|error| unreadable(segment, &error))? {
                    return Ok(map);
                }
            }
            map.reach(segment.last_offset + 1);
        }
        Ok(map)
    }

    /// Rewrites the next run of `left`, which may be left as it is: then `group` gets no piece.
    async fn rewrite(
        &self,
        mut rewriter: Rewriter,
        left: &mut VecDeque<Arc<RemoteSegment>>,
        group: &mut Group,
        starts: &[(i32, Offset)],
        memory: &CopyMemory,
    ) -> Result<Rewriter, Ended> {
        while let Some(segment) = left.front().map(Arc::clone) {
            match group.replaced.last() {
                Some(last) if !goes_on(last, &segment, &rewriter, self.piece_bytes()) => break,
                Some(_) => {}
                None => {
                    rewriter.cover_from(segment.base_offset);
                    if segment.log_bytes > self.piece_bytes() {
                        let changes;
                        (rewriter, changes) = self.would_change(rewriter, &segment).await?;
                        if !changes {
                            left.pop_front();
                            continue;
                        }
                    }
                }
            }
            let mut pass = self.open(&segment).await?;
            rewriter.begin(&pass.footer().aborted);
            while let Some(batches) = self.next(&segment, &mut pass).await? {
                let fed = tokio::task::spawn_blocking(move || {
                    let pieces = rewriter.feed(&batches);
                    (rewriter, pieces)
                });
                let pieces;
                (rewriter, pieces) = fed.await.map_err(JoinError::Task)?;
                for piece in pieces.map_err(|error| unreadable(&segment, &error))? {
                    // Nobody knows the producers as of a place within a segment.
                    let identity = pass.footer().identity.clone();
                    self.send(group, piece, identity, Bytes::new(), starts, memory).await?;
                }
            }
            left.pop_front();
            if group.replaced.is_empty() && group.pieces.is_empty() && !rewriter.has_changed() {
                continue;
            }
            let footer = pass.footer();
            group.newest = Some((footer.identity.clone(), footer.producer_snapshot.clone()));
            group.replaced.push(segment);
            if !group.pieces.is_empty() && rewriter.pending_bytes() > 0 {
                break;
            }
        }
        let ends = group.replaced.last().map(|last| last.last_offset).zip(group.newest.clone());
        if let Some((last_offset, (identity, producers))) = ends
            && let Some(piece) = rewriter.close(last_offset)
        {
            self.send(group, piece, identity, producers, starts, memory).await?;
        }
        Ok(rewriter)
    }

    /// Looks whether a large segment would be left as it is, before something is sent; if so, what is known of transactions
    /// is as of its end.
    async fn would_change(&self, mut rewriter: Rewriter, segment: &RemoteSegment) -> Result<(Rewriter, bool), Ended> {
        let place = rewriter.place();
        let mut pass = self.open(segment).await?;
        rewriter.begin(&pass.footer().aborted);
        while !rewriter.has_changed()
            && let Some(batches) = self.next(segment, &mut pass).await?
        {
            let looked = tokio::task::spawn_blocking(move || {
                let looked = rewriter.look(&batches);
                (rewriter, looked)
            });
            let looked_at;
            (rewriter, looked_at) = looked.await.map_err(JoinError::Task)?;
            looked_at.map_err(|error| unreadable(segment, &error))?;
        }
        let changes = rewriter.has_changed();
        if changes {
            rewriter.go_back(place);
        }
        Ok((rewriter, changes))
    }

    /// Announces a piece and puts it into the bucket.
    async fn send(
        &self,
        group: &mut Group,
        piece: Piece,
        identity: SegmentIdentity,
        producers: Bytes,
        starts: &[(i32, Offset)],
        memory: &CopyMemory,
    ) -> Result<(), Ended> {
        let (base, last) = (piece.base, piece.last);
        let epochs = epochs_within(starts, base, last);
        let joined = tokio::task::spawn_blocking(move || {
            Joined::rewritten(piece.log, base..last + 1, identity, producers, epochs)
        });
        let joined = joined.await.map_err(JoinError::Task)??;
        let (store, id, epoch) = (&*self.log.segments, self.state.id, self.log.leader_epoch());
        let (row, upload) = joined.into_copy(self.log.new_uuid(), epoch);
        self.state.lock().await.begin_copy(store, id, epoch, row.clone()).await.map_err(MergeError::from)?;
        // From here on it is an orphan if the group is given up.
        group.pieces.push(row);
        crash_point::reach(CrashPoint::RemoteCleanAfterStarted);
        let uploaded = self.unless_stopping(self.log.tier.upload_cleaned(upload, memory)).await?;
        let object_bytes = uploaded.map_err(MergeError::from)?.object_bytes;
        if let Some(row) = group.pieces.last_mut() {
            row.object_bytes = object_bytes;
        }
        crash_point::reach(CrashPoint::RemoteCleanAfterUpload);
        Ok(())
    }

    /// The pieces count in the place of what they are left of; false when those are not wanted any more.
    async fn publish(&self, group: Group) -> Result<bool, MergeError> {
        let (store, id, epoch) = (&*self.log.segments, self.state.id, self.log.leader_epoch());
        let mut known = self.state.lock().await;
        self.log.may_write()?;
        if !self.is_wanted(&known, &group.replaced) {
            self.give_up(&mut known, &group).await?;
            return Ok(false);
        }
        let bytes = |segments: &mut dyn Iterator<Item = u64>| segments.sum::<u64>();
        let before = bytes(&mut group.replaced.iter().map(|segment| segment.log_bytes));
        let after = bytes(&mut group.pieces.iter().map(|piece| piece.log_bytes));
        let replacement = Replacement {
            replaced: group.replaced.iter().map(|segment| segment.uuid).collect(),
            by: group.pieces,
            now_ms: self.log.clock.now_ms(),
        };
        known.replace(store, id, epoch, &replacement).await?;
        crash_point::reach(CrashPoint::RemoteCleanAfterReplaced);
        self.partition.set_remote_chain(Arc::new(known.remote.chain()));
        self.log.root_is_behind(id, known.unrooted);
        observe::clean_removed(before.saturating_sub(after));
        Ok(true)
    }

    /// Is all of it still readable, and the topic as it was? A log start within the first segment was there before; one
    /// behind that would bring back what could go.
    fn is_wanted(&self, known: &Known, replaced: &[Arc<RemoteSegment>]) -> bool {
        let [Some(first), Some(last)] = [replaced.first(), replaced.last()] else { return false };
        let rows = known.beginning_in(first.base_offset, last.base_offset);
        self.partition.log_start().is_some_and(|log_start| log_start <= first.last_offset)
            && self.log.metadata.image().topic_by_id(&self.state.id.topic).is_some()
            && may_be_cleaned(self.partition)
            && replaced.iter().all(|segment| rows.contains(segment))
    }

    /// What was sent for the group is to be deleted.
    async fn give_up(&self, known: &mut Known, group: &Group) -> Result<(), MergeError> {
        let (store, id, epoch) = (&*self.log.segments, self.state.id, self.log.leader_epoch());
        for piece in &group.pieces {
            known.orphan(store, id, epoch, piece.uuid, self.log.clock.now_ms()).await?;
        }
        Ok(())
    }
}

/// Does `segment` go into the group that ends with `last`? While nothing is left of a group it goes on, because no object is
/// without a batch.
fn goes_on(last: &RemoteSegment, segment: &RemoteSegment, rewriter: &Rewriter, piece_bytes: u64) -> bool {
    let (follows, pending) = (last.last_offset + 1 == segment.base_offset, rewriter.pending_bytes());
    follows && (pending == 0 || pending.saturating_add(segment.log_bytes) <= piece_bytes)
}

/// The keys of some batches; false when the map is full.
fn meet(
    map: &mut KeyMap,
    transactions: &mut TransactionWalk,
    batches: &[u8],
    decompressed_max_bytes: u64,
) -> Result<bool, BatchError> {
    let mut rest = batches;
    while !rest.is_empty() {
        let (batch, behind) = BatchView::split_first(rest)?;
        batch.check_crc()?;
        rest = behind;
        if !map.meet(&batch, decompressed_max_bytes, transactions) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Its chunks are what was sent, and they hold no batches.
fn unreadable(segment: &RemoteSegment, error: &BatchError) -> JoinError {
    JoinError::Walk(segment.base_offset, error.to_string())
}

/// Where each leader epoch begins among `segments`.
fn epoch_starts(segments: &[Arc<RemoteSegment>]) -> Vec<(i32, Offset)> {
    let mut starts: Vec<_> = segments.iter().flat_map(|segment| segment.epochs.iter().copied()).collect();
    starts.dedup_by_key(|(epoch, _)| *epoch);
    starts
}
