//! `terrace log dump`: what the files of a partition say, a line each.
//!
//! Reads segments (`.log`, also `.cleaned`, `.swap`, `.deleted` and downloaded remote objects), indexes, producer
//! snapshots, leader epochs, offset checkpoints and the broker's own checkpoint; the name says which. Only reads, so a
//! running broker may own the files. A file that is damaged is shown up to there, and the command then fails.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use terrace_tiering::object::trailer::{TRAILER_LEN, Trailer};

use super::Failure;
use crate::log::checkpoint::{self, Checkpoint};
use crate::log::kafka_files::{self, parse_offset_checkpoint};
use crate::log::leader_epochs::{self, EpochCache};
use crate::log::names;
use crate::log::offset_index::OffsetIndex;
use crate::log::time_index::TimeIndex;
use crate::partition::producers::read_snapshot;
use crate::protocol::record_batch::{BatchError, BatchView, HEADER_BYTES, Offset, sequence_after};
use crate::protocol::records::{Record, records};

/// Files of the local log.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Show what files of a partition or a log directory say.
    Dump(DumpArgs),
}

/// What to show.
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// Segments, indexes, snapshots, checkpoints.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also each record of a segment, without key and value.
    #[arg(long)]
    records: bool,
    /// Also each record with its key, value and headers as text.
    #[arg(long)]
    print_data: bool,
    /// The most bytes that one batch may decompress to.
    #[arg(long, default_value_t = 64 << 20)]
    decompressed_max_bytes: u64,
}

/// Why a file was not shown to its end.
#[derive(Debug, thiserror::Error)]
enum DumpError {
    /// The file can't be read, or nobody reads the output.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not what its name says.
    #[error("{0}")]
    Damaged(String),
}

fn damaged(why: impl Display) -> DumpError {
    DumpError::Damaged(why.to_string())
}

/// Prints it.
pub(super) fn run(command: &LogCommand) -> Result<(), Failure> {
    let LogCommand::Dump(arguments) = command;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let lines = dump_all(arguments, &mut out);
    out.flush().map_err(Failure::new)?;
    if lines.is_empty() { Ok(()) } else { Err(Failure { code: 1, lines }) }
}

/// Shows every file; a line for each that is damaged.
fn dump_all(arguments: &DumpArgs, out: &mut dyn Write) -> Vec<String> {
    let mut failed = Vec::new();
    for path in &arguments.files {
        if let Err(error) = dump(path, arguments, out) {
            failed.push(format!("{}: {error}", path.display()));
        }
    }
    failed
}

fn dump(path: &Path, arguments: &DumpArgs, out: &mut dyn Write) -> Result<(), DumpError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    writeln!(out, "Dumping {}", path.display())?;
    let base = names::parse_segment_file(&name);
    match &*name {
        leader_epochs::FILE_NAME => dump_epochs(&fs::read(path)?, out),
        kafka_files::RECOVERY_POINTS | kafka_files::LOG_STARTS | kafka_files::HIGH_WATERMARKS => {
            for entry in parse_offset_checkpoint(&fs::read(path)?).map_err(damaged)? {
                writeln!(out, "{} {} offset: {}", entry.topic, entry.partition, entry.offset)?;
            }
            Ok(())
        }
        checkpoint::FILE_NAME => dump_checkpoint(&fs::read(path)?, out),
        _ => match base.map(|(base, kind)| (base, kind.split('.').next().unwrap_or_default())) {
            Some((base, names::INDEX)) => dump_offset_index(base, &fs::read(path)?, out),
            Some((base, names::TIME_INDEX)) => dump_time_index(base, &fs::read(path)?, out),
            Some((_, names::SNAPSHOT)) => dump_snapshot(&fs::read(path)?, out),
            // Objects have names of their own; whatever is left is held to be batches.
            _ => dump_batches(path, arguments, out),
        },
    }
}

fn dump_batches(path: &Path, arguments: &DumpArgs, out: &mut dyn Write) -> Result<(), DumpError> {
    let file = fs::File::open(path)?;
    let len = file.metadata()?.len();
    let end = footer_position(&file, len)?.unwrap_or(len);
    let mut position = 0;
    let mut bytes = Vec::new();
    while position < end {
        let no_batch = |error: BatchError| damaged(format_args!("no batch at position {position}: {error}"));
        let left = end - position;
        if left < HEADER_BYTES as u64 {
            return Err(no_batch(BatchError::Truncated));
        }
        bytes.resize(HEADER_BYTES, 0);
        file.read_exact_at(&mut bytes, position)?;
        let (_, total) = BatchView::header_only(&bytes).map_err(no_batch)?;
        if total as u64 > left {
            return Err(no_batch(BatchError::Truncated));
        }
        bytes.resize(total, 0);
        file.read_exact_at(&mut bytes, position)?;
        let (batch, _) = BatchView::split_first(&bytes).map_err(no_batch)?;
        dump_batch(&batch, position, out)?;
        if arguments.records || arguments.print_data {
            dump_records(&batch, arguments, out)?;
        }
        position += total as u64;
    }
    if end < len {
        writeln!(out, "footer of a remote object at position: {end} bytes: {}", len - end)?;
    }
    Ok(())
}

/// Where the footer begins, when the file is a whole remote object.
fn footer_position(file: &fs::File, len: u64) -> io::Result<Option<u64>> {
    let Some(at) = len.checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER_LEN];
    file.read_exact_at(&mut trailer, at)?;
    Ok(Trailer::parse(&trailer, len).ok().map(|trailer| trailer.footer_position).filter(|at| *at <= len))
}

fn dump_batch(batch: &BatchView<'_>, position: u64, out: &mut dyn Write) -> Result<(), DumpError> {
    write!(
        out,
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
         partitionLeaderEpoch: {} isTransactional: {} isControl: {}",
        batch.base_offset(),
        batch.last_offset(),
        batch.records_count(),
        batch.base_sequence(),
        batch.last_sequence(),
        batch.producer_id(),
        batch.producer_epoch(),
        batch.leader_epoch(),
        batch.is_transactional(),
        batch.is_control(),
    )?;
    if batch.has_delete_horizon() {
        write!(out, " deleteHorizonMs: {}", batch.base_timestamp())?;
    }
    writeln!(
        out,
        " position: {position} {}: {} size: {} magic: 2 compresscodec: {} crc: {} isvalid: {}",
        time_name(batch),
        batch.max_timestamp(),
        batch.bytes().len(),
        codec_name(batch.compression_id()),
        batch.crc(),
        batch.check_crc().is_ok(),
    )?;
    Ok(())
}

fn time_name(batch: &BatchView<'_>) -> &'static str {
    if batch.is_log_append_time() { "LogAppendTime" } else { "CreateTime" }
}

fn codec_name(id: i16) -> &'static str {
    ["none", "gzip", "snappy", "lz4", "zstd"].get(usize::try_from(id).unwrap_or(usize::MAX)).unwrap_or(&"unknown")
}

/// Records that can't be read are told and passed over: the next batch may be whole.
fn dump_records(batch: &BatchView<'_>, arguments: &DumpArgs, out: &mut dyn Write) -> Result<(), DumpError> {
    let opened = match records(batch, arguments.decompressed_max_bytes) {
        Ok(opened) => opened,
        Err(error) => return Ok(writeln!(out, "| unreadable: {error}")?),
    };
    for record in &opened {
        match record {
            Ok(record) => dump_record(batch, &record, arguments.print_data, out)?,
            Err(error) => writeln!(out, "| unreadable: {error}")?,
        }
    }
    Ok(())
}

fn dump_record(
    batch: &BatchView<'_>,
    record: &Record<'_>,
    print_data: bool,
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    let sequence = match batch.base_sequence() {
        none if none < 0 => none,
        base => sequence_after(base, record.offset_delta),
    };
    write!(
        out,
        "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {sequence}",
        record.offset,
        time_name(batch),
        record.timestamp,
        size(record.key),
        size(record.value),
    )?;
    if print_data {
        let text = |bytes: Option<&[u8]>| bytes.map_or("null".into(), |bytes| bytes.escape_ascii().to_string());
        write!(out, " key: {} payload: {}", text(record.key), text(record.value))?;
        for (key, value) in record.headers {
            write!(out, " header: {}={}", key.escape_ascii(), text(value))?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn dump_offset_index(base: Offset, bytes: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    let index = OffsetIndex::load_for(base, u32::MAX, bytes, u64::MAX);
    for entry in index.entries() {
        writeln!(out, "offset: {} position: {}", entry.offset, entry.position)?;
    }
    expect_zeros(bytes, index.as_bytes().len())
}

fn dump_time_index(base: Offset, bytes: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    let index = TimeIndex::load_for(base, u32::MAX, bytes, Offset::MAX);
    for entry in index.entries() {
        writeln!(out, "timestamp: {} offset: {}", entry.timestamp, entry.offset)?;
    }
    expect_zeros(bytes, index.as_bytes().len())
}

/// Behind the entries Kafka leaves zeros while a segment is active.
fn expect_zeros(bytes: &[u8], from: usize) -> Result<(), DumpError> {
    match bytes[from..].iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(damaged(format_args!("no index entry at position {from}"))),
    }
}

fn dump_snapshot(bytes: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    for entry in read_snapshot(bytes).map_err(damaged)? {
        writeln!(
            out,
            "producerId: {} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {} lastTimestamp: {} \
             lastSequence: {} lastOffset: {} offsetDelta: {}",
            entry.producer_id,
            entry.epoch,
            entry.coordinator_epoch,
            entry.txn_first_offset,
            entry.timestamp,
            entry.last_sequence,
            entry.last_offset,
            entry.offset_delta,
        )?;
    }
    Ok(())
}

fn dump_epochs(bytes: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    for entry in EpochCache::parse(bytes).map_err(damaged)?.entries() {
        writeln!(out, "leaderEpoch: {} startOffset: {}", entry.epoch, entry.start_offset)?;
    }
    Ok(())
}

fn dump_checkpoint(bytes: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    let checkpoint = Checkpoint::decode(bytes).map_err(damaged)?;
    writeln!(out, "cleanStop: {} pageCache: {:x?}", checkpoint.clean_stop, checkpoint.page_cache)?;
    for marks in checkpoint.partitions {
        writeln!(
            out,
            "{}-{} topicId: {} logStart: {} localStart: {} cleanedEnd: {} flushedEnd: {} checkedEnd: {} sizeBytes: {} \
             nextDueMs: {} producersSince: {} producersBytes: {}",
            marks.topic,
            marks.partition,
            marks.topic_id,
            marks.log_start,
            marks.local_start,
            marks.cleaned_end,
            marks.flushed_end,
            marks.checked_end,
            marks.size_bytes,
            marks.next_due_ms,
            marks.snapshot_offset,
            marks.producers.len(),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
