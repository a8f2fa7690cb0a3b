//! From the files that a stop left, whatever stop it was, to a log.
//!
//! ```text
//!  first segment ... | segment of the walk's start ....................... | last segment (active)
//!  trusted           | walked for its producers and epochs | checked whole . . . . . end
//!                                                          ^ trusted end
//! ```
//! Below the trusted end nothing is read but headers, and of most segments not even these. From there on every batch
//! is checked: length, magic, CRC, offsets that follow on, epochs that never fall. The first failure ends the log: what
//! lies behind is kept once as `<name>.log.truncated`, then cut. Indexes are believed as far as their last entry names
//! a batch that is there, else built anew; entries of aborted transactions whose markers are read here are written
//! anew. A crash during recovery leaves files that the next recovery treats the same
//! way: cut bytes are copied before the cut.

mod cut;
pub(super) mod indexes;

use std::io;
use std::sync::Arc;

use terrace_tiering::platform::fs::{Entry, Open, SharedFile};
use terrace_tiering::platform::random::Random;

use super::cleaner;
use super::leader_epochs::{self, EpochCache};
use super::names::{self, DELETED_SUFFIX, INDEX, LOG, PULLED, TIME_INDEX, TXN_INDEX};
use super::segment::{LogDirectory, Segment};
use super::segment_index::SegmentIndex;
use super::txn_index::{self, AbortedTransaction};
use super::view::LogView;
use super::walk::{HeaderWalk, Stop, WalkError};
use super::{Active, Log, LogError, roll};
use crate::config::topic::TopicConfig;
use crate::protocol::record_batch::{BatchView, CRC_FROM, LeaderEpoch, Offset};

/// Bytes read at once to compute a CRC.
const CHECK_BYTES: usize = 256 << 10;

/// A marker takes 78 bytes; no control batch of a transaction is larger than this.
const CONTROL_BYTES_MAX: u64 = 4 << 10;

/// Up to where the files are known to be good.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Nothing below is checked again; `None` without a checkpoint: everything is.
    pub trusted_end: Option<Offset>,
    /// Everything below survives a power loss.
    pub flushed_end: Offset,
    /// The producers are known up to here: later batches go to the caller.
    pub producers_from: Offset,
    /// Where an empty log begins.
    pub start: Offset,
    /// First readable offset: what lies below may be there in part, in whatever order a loss of power kept deletions.
    pub log_start: Offset,
    /// Nobody knows what happened to the log: records may be missing anywhere, as after a compaction.
    pub may_have_gaps: bool,
}

/// What a recovery did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Bytes whose CRC was computed.
    pub checked_bytes: u64,
    /// Bytes that were cut off, and kept aside.
    pub cut_bytes: u64,
}

/// The names in a partition's directory; one look serves a whole opening.
#[derive(Debug, Default)]
pub struct Listing {
    entries: Vec<Entry>,
    /// The directory is there.
    pub exists: bool,
}

impl Listing {
    /// Looks, and first completes or undoes what a crash of the cleaner left.
    pub fn of(directory: &LogDirectory) -> io::Result<Self> {
        let look = || match directory.fs.read_dir(&directory.path) {
            Ok(entries) => Ok(Self { entries, exists: true }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        };
        let found = look()?;
        if !found.entries.iter().any(|entry| cleaner::is_on_its_way(&entry.name)) {
            return Ok(found);
        }
        cleaner::recover(&directory.fs, &directory.path)?;
        look()
    }

    /// The offsets of the producer snapshots, in order.
    pub fn snapshots(&self) -> Vec<Offset> {
        let mut offsets: Vec<_> = self.offsets_of(names::SNAPSHOT).collect();
        offsets.sort_unstable();
        offsets
    }

    /// Where the first segment begins, if there is any.
    pub fn first_segment(&self) -> Option<Offset> {
        self.offsets_of(LOG).min()
    }

    fn offsets_of(&self, wanted: &'static str) -> impl Iterator<Item = Offset> + '_ {
        let parsed = self.entries.iter().filter_map(|entry| names::parse_segment_file(&entry.name));
        parsed.filter_map(move |(offset, extension)| (extension == wanted).then_some(offset))
    }
}

/// A segment's files as the directory lists them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) base: Offset,
    pub(super) size: u64,
}

/// Sees every batch in order; answers with the aborted transaction that the batch ends, if it is such a marker. Of data
/// batches it sees the header, of control batches all bytes.
pub type EachBatch<'a> = &'a mut dyn FnMut(&BatchView<'_>) -> Option<AbortedTransaction>;

/// Opens the log in `directory`, which `listing` was just taken of. `each_batch` sees the batches from `marks.producers_from` on.
pub fn open(
    directory: LogDirectory,
    listing: &Listing,
    marks: &Marks,
    config: &TopicConfig,
    random: &dyn Random,
    each_batch: EachBatch<'_>,
) -> Result<(Log, Recovered), LogError> {
    let found = list(&directory, listing)?;
    let mut log = Log::create(directory, marks.start);
    if found.is_empty() {
        return Ok((log, Recovered::default()));
    }
    let (epochs, epochs_known) = read_epochs(&log.directory)?;
    let gaps_below = marks.flushed_end.max(marks.trusted_end.unwrap_or(Offset::MIN)).max(marks.log_start);
    let marks = &Marks {
        // Without its epochs nothing of the log is known: all of it is walked.
        trusted_end: marks.trusted_end.filter(|_| epochs_known),
        ..*marks
    };
    let trusted_end = marks.trusted_end.unwrap_or(Offset::MIN);
    // The last segment that begins at or below both marks is where reading begins.
    let walk_from = trusted_end.min(marks.producers_from);
    let first = found.partition_point(|segment| segment.base <= walk_from).saturating_sub(1);

    let directory = Arc::clone(&log.directory);
    let mut segments = Vec::with_capacity(found.len());
    for (at, segment) in found[..first].iter().enumerate() {
        let end = found[at + 1].base;
        let index = indexes::of_sealed(&directory, *segment, end, config)?;
        let sealed = Segment::sealed(&directory, segment.base, segment.size, index);
        sealed.set_aborted_count(txn_index::entries_below(&directory, segment.base, end)?);
        segments.push(sealed);
    }
    let in_file = epochs_known.then(|| epochs.clone());
    let mut scan = Scan {
        directory: &directory,
        marks,
        config,
        trusted_end,
        gaps_below,
        expected: found[first].base,
        epochs,
        begun: false,
        last_epoch: LeaderEpoch::MIN,
        recovered: Recovered::default(),
        buffer: Vec::new(),
        each_batch,
        aborted: Vec::new(),
    };
    for (at, segment) in found.iter().enumerate().skip(first) {
        let last = at + 1 == found.len();
        let outcome = scan.segment(*segment, last)?;
        if outcome.refused {
            // A hole before this segment: it goes with all behind it.
            scan.recovered.cut_bytes += cut::segments(&directory, &found[at..])?;
            break;
        }
        segments.push(outcome.segment);
        if outcome.cut {
            scan.recovered.cut_bytes += cut::segments(&directory, &found[at + 1..])?;
            break;
        }
    }
    let (end, recovered) = (scan.expected, scan.recovered);
    let mut epochs = scan.epochs;
    epochs.truncate_from_end(end);
    drop_stale_snapshots(&directory, listing, end)?;
    if recovered.cut_bytes > 0 {
        tracing::warn!(
            directory = %directory.path.display(), end, cut_bytes = recovered.cut_bytes,
            "log ended in bytes that are no batch; they are kept as .truncated"
        );
    }
    // Version 1 is the file's. It is durable, as are the names, when the flush that reached the end was.
    (log.epochs_version, log.epochs_written) = (1 + u64::from(in_file.as_ref() != Some(&epochs)), 1);
    log.epochs_written_below = trusted_end.min(end).max(found[0].base);
    let all_is_flushed = marks.flushed_end >= end;
    log.epochs_synced = u64::from(all_is_flushed);
    log.names_unsynced = !all_is_flushed;
    log.activate(segments, end, epochs, marks, roll::jitter_ms(config, random))?;
    Ok((log, recovered))
}

impl Log {
    /// Makes the last of `segments` the active one.
    fn activate(
        &mut self,
        segments: Vec<Arc<Segment>>,
        end: Offset,
        epochs: EpochCache,
        marks: &Marks,
        jitter_ms: i64,
    ) -> Result<(), LogError> {
        self.end = end;
        self.flushed = marks.flushed_end.min(end);
        self.epochs = epochs;
        if let Some(last) = segments.last() {
            let position = last.size();
            let first_append_ms = if position > 0 { last.first_timestamp()? } else { None };
            self.active = Some(Active { segment: Arc::clone(last), position, reserved: 0, first_append_ms, jitter_ms });
        }
        self.view = Arc::new(LogView { segments: segments.into_iter().collect() });
        Ok(())
    }
}

/// The segments of the directory by base offset. What cannot be part of a log is removed: segments that had left it, or had
/// not yet come back from the tier, indexes without a `.log`.
fn list(directory: &LogDirectory, Listing { entries, .. }: &Listing) -> Result<Vec<Found>, LogError> {
    let mut found: Vec<Found> = Vec::new();
    for entry in entries {
        if let Some((base, LOG)) = names::parse_segment_file(&entry.name) {
            found.push(Found { base, size: entry.len });
        }
    }
    found.sort_unstable_by_key(|segment| segment.base);
    let is_pulled = |name| matches!(names::parse_segment_file(name), Some((_, PULLED)));
    for entry in entries.iter().filter(|entry| entry.name.ends_with(DELETED_SUFFIX) || is_pulled(&entry.name)) {
        directory.fs.remove_file(&directory.path.join(&entry.name))?;
    }
    for entry in entries {
        if let Some((base, INDEX | TIME_INDEX | TXN_INDEX)) = names::parse_segment_file(&entry.name)
            && found.binary_search_by_key(&base, |segment| segment.base).is_err()
        {
            directory.fs.remove_file(&directory.path.join(&entry.name))?;
        }
    }
    Ok(found)
}

/// The leader epochs of the file; false when there is none that can be read.
fn read_epochs(directory: &LogDirectory) -> Result<(EpochCache, bool), LogError> {
    let path = directory.path.join(leader_epochs::FILE_NAME);
    let text = match directory.fs.read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((EpochCache::default(), false)),
        Err(error) => return Err(error.into()),
    };
    match EpochCache::parse(&text) {
        Ok(epochs) => Ok((epochs, true)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "leader epochs unreadable; the whole log is walked for them");
            Ok((EpochCache::default(), false))
        }
    }
}

/// Producer snapshots beyond the end speak of records that are gone.
fn drop_stale_snapshots(directory: &LogDirectory, listing: &Listing, end: Offset) -> Result<(), LogError> {
    for offset in listing.snapshots().into_iter().filter(|offset| *offset > end) {
        directory.fs.remove_file(&names::segment_file(&directory.path, offset, names::SNAPSHOT))?;
    }
    Ok(())
}

struct Scan<'a> {
    directory: &'a Arc<LogDirectory>,
    marks: &'a Marks,
    config: &'a TopicConfig,
    trusted_end: Offset,
    /// Compaction never got further, nor did deletion.
    gaps_below: Offset,
    /// The offset behind the last good batch.
    expected: Offset,
    epochs: EpochCache,
    /// A batch was accepted.
    begun: bool,
    last_epoch: LeaderEpoch,
    recovered: Recovered,
    buffer: Vec<u8>,
    each_batch: EachBatch<'a>,
    /// Aborted transactions whose markers the segment in hand has.
    aborted: Vec<AbortedTransaction>,
}

struct Outcome {
    segment: Arc<Segment>,
    cut: bool,
    refused: bool,
}

impl Scan<'_> {
    /// Records may be missing between two batches only where the cleaner may have been. Elsewhere a loss of power took
    /// them, and the log ends there.
    fn may_follow(&self, base: Offset) -> bool {
        let gaps = self.config.cleanup_policy.compact || self.marks.may_have_gaps || base <= self.gaps_below;
        base == self.expected || (base > self.expected && gaps)
    }

    fn segment(&mut self, found: Found, last: bool) -> Result<Outcome, LogError> {
        let file = self.directory.fs.open(&names::segment_file(&self.directory.path, found.base, LOG), Open::Write)?;
        let refused = !self.may_follow(found.base);
        let (mut index, position) = self.begin(found, &file)?;
        let mut good = position;
        let mut cut = false;
        if !refused {
            self.expected = self.expected.max(found.base);
            let mut walk = HeaderWalk::new(Arc::clone(&file), position, found.size);
            loop {
                let stop = match walk.step() {
                    Ok(Some(stop)) => stop,
                    Ok(None) => break,
                    Err(WalkError::Io(error)) => return Err(error.into()),
                    Err(WalkError::Bad { .. }) => {
                        cut = true;
                        break;
                    }
                };
                if !self.accept(&file, &stop, found.base)? {
                    cut = true;
                    break;
                }
                let (last_offset, max_timestamp) = (stop.header.last_offset(), stop.header.max_timestamp());
                index.note(stop.position, stop.bytes, last_offset, max_timestamp, self.config.index_interval_bytes);
                good = stop.next_position();
            }
            if cut {
                self.recovered.cut_bytes += cut::tail(self.directory, found.base, &file, good)?;
            }
        }
        let segment = Segment::reopened(self.directory, found.base, good, file, index)?;
        let believed = self.marks.producers_from.min(self.expected);
        let kept = txn_index::entries_below(self.directory, found.base, believed)?;
        segment.restore_aborted(kept, &std::mem::take(&mut self.aborted))?;
        if !last && !cut && !refused {
            segment.seal()?;
        }
        Ok(Outcome { segment, cut, refused })
    }

    /// Where in the segment the walk begins, and the index of what lies before.
    fn begin(&self, found: Found, file: &SharedFile) -> Result<(SegmentIndex, u64), LogError> {
        let upto = self.trusted_end.min(self.marks.producers_from);
        if upto <= found.base {
            return Ok((SegmentIndex::new(found.base, self.config.segment_index_bytes), 0));
        }
        indexes::below(self.directory, found, upto, file, self.config)
    }

    /// Is this the next batch of the log? Checks it whole from the trusted end on.
    fn accept(&mut self, file: &SharedFile, stop: &Stop<'_>, segment_base: Offset) -> Result<bool, LogError> {
        let header = &stop.header;
        let (base, epoch) = (header.base_offset(), header.leader_epoch());
        if base < segment_base || header.last_offset_delta() < 0 || !self.may_follow(base) {
            return Ok(false);
        }
        if !self.begun {
            self.begun = true;
            self.epochs.truncate_from_end(base);
            self.last_epoch = self.epochs.latest().map_or(epoch, |latest| latest.epoch);
        }
        if base >= self.trusted_end {
            if epoch < self.last_epoch || !self.crc_holds(file, stop)? {
                return Ok(false);
            }
            self.recovered.checked_bytes += stop.bytes;
        }
        self.last_epoch = self.last_epoch.max(epoch);
        self.epochs.assign(epoch, base);
        self.expected = header.next_offset();
        if base >= self.marks.producers_from {
            let whole = if header.is_control() { self.control_batch(file, stop)? } else { None };
            let batch = whole.as_deref().and_then(|bytes| BatchView::split_first(bytes).ok());
            let ended = (self.each_batch)(batch.as_ref().map_or(header, |(batch, _)| batch));
            self.aborted.extend(ended);
        }
        Ok(true)
    }

    /// The bytes of a control batch; `None` when it is larger than any marker.
    fn control_batch(&self, file: &SharedFile, stop: &Stop<'_>) -> Result<Option<Vec<u8>>, LogError> {
        if stop.bytes > CONTROL_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; stop.bytes as usize];
        file.read_exact_at(&mut bytes, stop.position)?;
        Ok(Some(bytes))
    }

    /// Computes the CRC piece by piece: a length field that lies must not make us allocate what it says.
    fn crc_holds(&mut self, file: &SharedFile, stop: &Stop<'_>) -> Result<bool, LogError> {
        self.buffer.resize(CHECK_BYTES, 0);
        let mut position = stop.position + CRC_FROM as u64;
        let mut crc = 0;
        while position < stop.next_position() {
            let len = CHECK_BYTES.min((stop.next_position() - position) as usize);
            file.read_exact_at(&mut self.buffer[..len], position)?;
            crc = crc32c::crc32c_append(crc, &self.buffer[..len]);
            position += len as u64;
        }
        Ok(crc == stop.header.crc())
    }
}
