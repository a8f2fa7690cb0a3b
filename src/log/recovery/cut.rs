//! Cutting a log: what is cut stays readable for a human, under a name that no log has.

use std::sync::Arc;

use terrace_tiering::platform::fs::{Open, SharedFile, with_suffix};

use super::super::LogError;
use super::super::names::{self, INDEX, LOG, SNAPSHOT, TIME_INDEX, TRUNCATED_SUFFIX, TXN_INDEX};
use super::super::segment::LogDirectory;
use super::Found;
use crate::protocol::record_batch::Offset;

const COPY_BYTES: usize = 256 << 10;

/// Cuts the segment's file at `position`, after the bytes behind it were copied aside; how many these were.
pub(super) fn tail(
    directory: &Arc<LogDirectory>,
    base: Offset,
    file: &SharedFile,
    position: u64,
) -> Result<u64, LogError> {
    let end = file.len()?;
    if position >= end {
        return Ok(0);
    }
    let aside = with_suffix(&names::segment_file(&directory.path, base, LOG), TRUNCATED_SUFFIX);
    directory.fs.remove_file(&aside)?;
    let kept = directory.fs.open(&aside, Open::CreateNew)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = position;
    while at < end {
        let len = COPY_BYTES.min((end - at) as usize);
        file.read_exact_at(&mut buffer[..len], at)?;
        kept.write_all_at(&buffer[..len], at - position)?;
        at += len as u64;
    }
    kept.sync_data()?;
    file.set_len(position)?;
    // No flush looks below this again: undone by a loss of power, the cut bytes would lie under the next segment's.
    file.sync_data()?;
    Ok(end - position)
}

/// Sets whole segments aside, the last first: a crash between leaves a log without a hole.
pub(super) fn segments(directory: &Arc<LogDirectory>, found: &[Found]) -> Result<u64, LogError> {
    let mut bytes = 0;
    for segment in found.iter().rev() {
        let log = names::segment_file(&directory.path, segment.base, LOG);
        directory.fs.rename(&log, &with_suffix(&log, TRUNCATED_SUFFIX))?;
        for extension in [INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT] {
            directory.fs.remove_file(&names::segment_file(&directory.path, segment.base, extension))?;
        }
        bytes += segment.size;
    }
    Ok(bytes)
}
