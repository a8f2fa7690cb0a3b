//! The files of `__cluster_metadata`: the newest snapshot, then the segments from its end on.

use std::path::Path;

use terrace_tiering::platform::fs::{Open, SharedFs};

use super::AdoptError;
use super::metadata_record::{MetadataRecord, decode};
use crate::log::names;
use crate::log::walk::HeaderWalk;
use crate::protocol::record_batch::{BatchView, Offset};
use crate::protocol::records::records;

/// Kafka's name ending for a snapshot of its metadata.
const SNAPSHOT_EXTENSION: &str = ".checkpoint";
/// Kafka's own batches of metadata have 8 MiB at most.
const DECOMPRESSED_BYTES_MAX: u64 = 64 << 20;

/// Hands every record that counts to `each`, in order. A batch cut short at the end of the last segment was never
/// committed and ends the log.
pub fn read(fs: &SharedFs, directory: &Path, each: &mut dyn FnMut(MetadataRecord)) -> Result<(), AdoptError> {
    let entries = fs.read_dir(directory).map_err(AdoptError::io(directory))?;
    let snapshot = entries.iter().filter_map(|entry| Some((snapshot_end(&entry.name)?, entry))).max_by_key(|at| at.0);
    let mut transaction = Transaction::default();
    let mut from = 0;
    if let Some((end, entry)) = snapshot {
        file(fs, &directory.join(&entry.name), 0, false, &mut |record| transaction.next(record, each))?;
        from = end;
    }
    let mut bases: Vec<Offset> = entries
        .iter()
        .filter_map(|entry| names::parse_segment_file(&entry.name))
        .filter_map(|(base, extension)| (extension == names::LOG).then_some(base))
        .collect();
    bases.sort_unstable();
    for (at, base) in bases.iter().enumerate() {
        let path = names::segment_file(directory, *base, names::LOG);
        file(fs, &path, from, at + 1 == bases.len(), &mut |record| transaction.next(record, each))?;
    }
    Ok(())
}

/// `<end offset, 20 digits>-<epoch, 10 digits>.checkpoint`.
fn snapshot_end(name: &str) -> Option<Offset> {
    let (end, _epoch) = name.strip_suffix(SNAPSHOT_EXTENSION)?.split_once('-')?;
    (end.len() == 20).then(|| end.parse().ok()).flatten()
}

/// Records between Begin and End count together or not at all.
#[derive(Default)]
struct Transaction {
    open: bool,
    records: Vec<MetadataRecord>,
}

impl Transaction {
    fn next(&mut self, record: MetadataRecord, each: &mut dyn FnMut(MetadataRecord)) {
        match record {
            MetadataRecord::Begin => self.open = true,
            MetadataRecord::End => {
                self.open = false;
                self.records.drain(..).for_each(each);
            }
            MetadataRecord::Abort => {
                self.open = false;
                self.records.clear();
            }
            record if self.open => self.records.push(record),
            record => each(record),
        }
    }
}

fn file(
    fs: &SharedFs,
    path: &Path,
    from: Offset,
    may_be_cut: bool,
    each: &mut dyn FnMut(MetadataRecord),
) -> Result<(), AdoptError> {
    let damaged = |why: &dyn ToString| AdoptError::Damaged(path.to_owned(), why.to_string());
    let file = fs.open(path, Open::Read).map_err(AdoptError::io(path))?;
    let len = file.len().map_err(AdoptError::io(path))?;
    let mut walk = HeaderWalk::new(file.clone(), 0, len);
    let mut bytes = Vec::new();
    loop {
        let (position, size) = match walk.step() {
            Ok(Some(stop)) => (stop.position, stop.bytes),
            Ok(None) => return Ok(()),
            Err(_) if may_be_cut => return Ok(()),
            Err(error) => return Err(damaged(&error)),
        };
        bytes.resize(size as usize, 0);
        file.read_exact_at(&mut bytes, position).map_err(AdoptError::io(path))?;
        let (batch, _) = BatchView::split_first(&bytes).map_err(|error| damaged(&error))?;
        if let Err(error) = batch.check_crc() {
            return if may_be_cut { Ok(()) } else { Err(damaged(&error)) };
        }
        if batch.is_control() || batch.next_offset() <= from {
            continue;
        }
        let opened = records(&batch, DECOMPRESSED_BYTES_MAX).map_err(|error| damaged(&error))?;
        for record in &opened {
            let record = record.map_err(|error| damaged(&error))?;
            if record.offset >= from
                && let Some(value) = record.value
            {
                each(decode(value).map_err(|error| damaged(&error))?);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use terrace_tiering::platform::fs::RealFs;

    use super::*;
    use crate::protocol::batch_builder::BatchBuilder;

    fn topic(name: u8) -> Vec<u8> {
        [&[1, 2, 0, 2, name][..], &[0; 16], &[0]].concat()
    }

    fn mark(kind: u8) -> Vec<u8> {
        vec![1, kind, 0, 0]
    }

    fn batch(base: Offset, values: &[Vec<u8>]) -> Vec<u8> {
        let mut batch = BatchBuilder::new(base);
        for (delta, value) in values.iter().enumerate() {
            batch.push(delta as i32, 1, None, Some(value), [].into_iter());
        }
        batch.finish()
    }

    fn names(directory: &Path) -> Result<String, AdoptError> {
        let mut found = String::new();
        read(&RealFs::shared(), directory, &mut |record| match record {
            MetadataRecord::Topic { name, .. } => found.push_str(&name),
            other => panic!("{other:?}"),
        })?;
        Ok(found)
    }

    #[test]
    fn the_newest_snapshot_and_what_follows_it_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("00000000000000000000-0000000000.checkpoint", batch(0, &[topic(b'x')]));
        write("00000000000000000004-0000000001.checkpoint", batch(0, &[topic(b'a')]));
        let (begin, end, abort) = (mark(23), mark(24), mark(25));
        write("00000000000000000000.log", batch(0, &[topic(b'y'), topic(b'y'), topic(b'y'), topic(b'y'), topic(b'b')]));
        let open = batch(5, &[begin.clone(), topic(b'c'), end, begin, topic(b'z'), abort, topic(b'd')]);
        // The last segment ends in a batch that was never completed.
        let cut = batch(12, &[topic(b'w')]);
        write("00000000000000000005.log", [&open[..], &cut[..cut.len() - 1]].concat());
        assert_eq!(names(folder.path()).unwrap(), "abcd");
    }

    #[test]
    fn damage_before_the_end_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = batch(0, &[topic(b'a')]);
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(folder.path().join("00000000000000000000.log"), bytes).unwrap();
        std::fs::write(folder.path().join("00000000000000000001.log"), batch(1, &[topic(b'b')])).unwrap();
        assert!(matches!(names(folder.path()), Err(AdoptError::Damaged(..))));
    }
}
