//! Every file name inside a partition's directory is built and parsed here.

use std::path::{Path, PathBuf};

use crate::protocol::record_batch::Offset;

/// Record batches.
pub const LOG: &str = "log";
/// Offset to position.
pub const INDEX: &str = "index";
/// Timestamp to offset.
pub const TIME_INDEX: &str = "timeindex";
/// Aborted transactions.
pub const TXN_INDEX: &str = "txnindex";
/// Producer state up to the offset in the name.
pub const SNAPSHOT: &str = "snapshot";

/// A cleaned segment that is being written.
pub const CLEANED: &str = "log.cleaned";
/// A cleaned segment that is about to take the place of others.
pub const SWAP: &str = "log.swap";
/// The index of aborted transactions of a cleaned segment, on its way with it.
pub const TXN_CLEANED: &str = "txnindex.cleaned";
/// The same as Kafka names it once the clean has happened.
pub const TXN_SWAP: &str = "txnindex.swap";
/// The base offsets of the segments that a cleaned one replaces.
pub const REPLACES: &str = "replaces";

/// A segment that is on its way back from the tier.
pub const PULLED: &str = "log.pulled";

/// In a directory whose log came from another one: where it stood when it came, until the checkpoint there says so.
pub const MOVED: &str = "terrace-moved";

/// Behind the name of a `.log` whose tail recovery cut: the bytes it cut.
pub const TRUNCATED_SUFFIX: &str = ".truncated";

/// Behind the names of a segment's files from when it left the log until they are removed.
pub const DELETED_SUFFIX: &str = ".deleted";

/// `<dir>/<base, 20 digits>.<extension>`.
pub fn segment_file(dir: &Path, base: Offset, extension: &str) -> PathBuf {
    dir.join(format!("{base:020}.{extension}"))
}

/// The base offset and the extension of a name made by [`segment_file`]; `None` for any other name.
pub fn parse_segment_file(name: &str) -> Option<(Offset, &str)> {
    let (digits, extension) = name.split_once('.')?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| Some((digits.parse().ok()?, extension))).flatten()
}

/// `<topic>-<partition>`.
pub fn partition_dir(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The topic and the partition of a name made by [`partition_dir`].
pub fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
    (digits && !topic.is_empty()).then(|| Some((topic, partition.parse().ok()?))).flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("00000000000000000042.log", Some((42, "log")))]
    #[case("00000000000000000042.log.truncated", Some((42, "log.truncated")))]
    #[case("42.log", None)]
    #[case("99999999999999999999.log", None)]
    #[case("leader-epoch-checkpoint", None)]
    fn segment_names_parse_back(#[case] name: &str, #[case] expected: Option<(Offset, &str)>) {
        assert_eq!(parse_segment_file(name), expected);
    }

    #[rstest]
    #[case("a-b-7", Some(("a-b", 7)))]
    #[case("a-", None)]
    #[case("-7", None)]
    #[case("a-7.f00-delete", None)]
    #[case("a-+7", None)]
    fn directory_names_parse_back(#[case] name: &str, #[case] expected: Option<(&str, i32)>) {
        assert_eq!(parse_partition_dir(name), expected);
    }
}
