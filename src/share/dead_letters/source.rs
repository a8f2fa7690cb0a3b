//! The records that dead letters are to copy, read where they lie: in the local log or in the tier.

use std::collections::BTreeMap;

use super::letter::{Copied, PREFIX};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchView, Offset};
use crate::protocol::records::{Record, records};
use crate::share::in_flight::Archiving;
use crate::share::partition::SharePartition;
use crate::share::settings::ShareLimits;

/// What was found of some records.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) copied: BTreeMap<Offset, Copied>,
    /// Of those below, nothing more is to be had.
    pub(super) read_to: Offset,
}

impl Found {
    /// Nothing of any record.
    pub(super) fn nothing() -> Self {
        Self { copied: BTreeMap::new(), read_to: Offset::MAX }
    }
}

/// Reads from the first of `waiting` on, once, and copies at most `most_bytes` but for the first record. What retention took
/// is not to be had; an error may be gone when it is tried again.
pub(super) async fn find(
    share: &SharePartition,
    waiting: &[Archiving],
    limits: &ShareLimits,
    most_bytes: usize,
) -> Result<Found, ErrorCode> {
    let Some(first) = waiting.first().map(|run| run.first) else { return Ok(Found::nothing()) };
    let log_start = share.partition().offsets().log_start;
    if first < log_start {
        return Ok(Found { copied: BTreeMap::new(), read_to: log_start });
    }
    let Some(bytes) = share.read_again(first, limits).await? else { return Ok(Found::nothing()) };
    let most_decompressed = share.partition().topic_config().record_decompressed_max_bytes;
    Ok(collect(&bytes, waiting, first, most_bytes, most_decompressed))
}

fn collect(bytes: &[u8], waiting: &[Archiving], first: Offset, most_bytes: usize, most_decompressed: u64) -> Found {
    let mut found = Found { copied: BTreeMap::new(), read_to: first };
    let (mut rest, mut size) = (bytes, 0);
    while let Ok((batch, behind)) = BatchView::split_first(rest) {
        rest = behind;
        let wanted = |at: Offset| waiting.iter().any(|run| (run.first..=run.last).contains(&at));
        let overlaps = |run: &Archiving| run.first <= batch.last_offset() && run.last >= batch.base_offset();
        if waiting.iter().any(overlaps) && !batch.is_control() {
            // Records that cannot be opened are not copied; their dead letters say which they are.
            let Ok(opened) = records(&batch, most_decompressed) else {
                found.read_to = found.read_to.max(batch.next_offset());
                continue;
            };
            for record in opened.iter().map_while(Result::ok).filter(|record| wanted(record.offset)) {
                let copied = copy(&record);
                if size > 0 && size + copied.size() > most_bytes {
                    found.read_to = found.read_to.max(record.offset);
                    return found;
                }
                size += copied.size().max(1);
                found.copied.insert(record.offset, copied);
            }
        }
        found.read_to = found.read_to.max(batch.next_offset());
    }
    // Nothing that can be read as a batch: whoever comes again finds it so again.
    found.read_to = found.read_to.max(first + 1);
    found
}

/// Headers of an earlier dead letter stay behind: the new one has its own.
fn copy(record: &Record<'_>) -> Copied {
    let own = record.headers.filter(|(key, _)| !key.starts_with(PREFIX.as_bytes()));
    Copied {
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: own.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch_builder::BatchBuilder;

    fn batch(base: Offset, deltas: &[i32]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(base);
        for delta in deltas {
            let headers = [(b"own".as_slice(), None), (b"__dlq.errors.topic".as_slice(), None)];
            builder.push(*delta, 1, None, Some(&[b'v'; 10]), headers.into_iter());
        }
        builder.finish()
    }

    fn waiting(runs: &[(Offset, Offset)]) -> Vec<Archiving> {
        runs.iter().map(|(first, last)| Archiving { first: *first, last: *last, count: 1, cause: None }).collect()
    }

    #[test]
    fn records_are_copied_without_headers_of_older_letters() {
        let bytes = [batch(0, &[0, 1, 2]), batch(5, &[0, 2])].concat();
        let found = collect(&bytes, &waiting(&[(1, 1), (4, 6)]), 1, 1000, 1000);
        assert_eq!((found.copied.keys().copied().collect::<Vec<_>>(), found.read_to), (vec![1, 5], 8));
        assert_eq!(found.copied[&1].headers, [(b"own".to_vec(), None)]);
    }

    #[test]
    fn what_is_copied_at_once_is_bounded() {
        let found = collect(&batch(0, &[0, 1, 2]), &waiting(&[(0, 2)]), 0, 30, 1000);
        assert_eq!((found.copied.len(), found.read_to), (2, 2));
        let found = collect(&batch(0, &[0, 1, 2]), &waiting(&[(0, 2)]), 0, 1, 1000);
        assert_eq!((found.copied.len(), found.read_to), (1, 1));
    }

    #[test]
    fn what_cannot_be_read_is_not_waited_for() {
        let found = collect(b"nothing", &waiting(&[(3, 9)]), 3, 1000, 1000);
        assert_eq!((found.copied.len(), found.read_to), (0, 4));
    }
}
