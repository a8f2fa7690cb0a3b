//! Kafka's small files beside the segments: `meta.properties` and the checkpoints at the root of a log directory,
//! `partition.metadata` in each partition's.
//!
//! We read them where a directory is adopted and write them for Kafka's tools and for the way back to Kafka: the
//! checkpoints and the clean shutdown file at a clean stop only. Nothing at run time depends on them.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::log::text_file::{self, TextFileError};
use crate::protocol::record_batch::Offset;
use crate::protocol::uuid_text;

/// Identity of a log directory.
pub const META_PROPERTIES: &str = "meta.properties";
/// Identity of a partition's directory.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Synced up to, per partition.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// Log start, per partition.
pub const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// High watermark, per partition.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// Its presence tells Kafka that the log needs no recovery.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// The content of [`CLEAN_SHUTDOWN`]; we never register with a controller, so there is no broker epoch.
pub const CLEAN_SHUTDOWN_CONTENT: &str = "{\"version\":0,\"brokerEpoch\":-1}";

/// What `meta.properties` says (version 1, as Kafka in KRaft mode writes it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// The broker's id.
    pub node_id: i32,
    /// The directory's own id.
    pub directory_id: Option<Uuid>,
}

/// Why a file is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not UTF-8.
    #[error("file is not text")]
    NotText,
    /// A version that we don't know.
    #[error("version {0} is unknown")]
    Version(String),
    /// A key that has to be there is missing or holds what it cannot.
    #[error("key {0} is missing or malformed")]
    Key(&'static str),
}

impl MetaProperties {
    /// The content of the file.
    pub fn to_text(&self) -> String {
        let mut text = format!("#\ncluster.id={}\n", self.cluster_id);
        if let Some(id) = self.directory_id {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "directory.id={}", uuid_text::encode(id));
        }
        let _ = writeln!(text, "node.id={}\nversion=1", self.node_id);
        text
    }

    /// Reads the content of the file. Keys that we don't know are ignored.
    pub fn parse(text: &[u8]) -> Result<Self, IdentityError> {
        let text = std::str::from_utf8(text).map_err(|_| IdentityError::NotText)?;
        let get = |key| lines_of(text).find(|(k, _)| *k == key).map(|(_, value)| value);
        match get("version") {
            Some("1") => {}
            other => return Err(IdentityError::Version(other.unwrap_or_default().to_owned())),
        }
        let cluster_id = get("cluster.id").filter(|id| !id.is_empty()).ok_or(IdentityError::Key("cluster.id"))?;
        let node_id = get("node.id").and_then(|id| id.parse().ok()).ok_or(IdentityError::Key("node.id"))?;
        let directory_id = match get("directory.id") {
            Some(id) => Some(uuid_text::decode(id).ok_or(IdentityError::Key("directory.id"))?),
            None => None,
        };
        Ok(Self { cluster_id: cluster_id.to_owned(), node_id, directory_id })
    }
}

/// Keys and values of a properties file. Kafka's values here are base64 and numbers, which need no escapes.
fn lines_of(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let entries = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '!']));
    entries.filter_map(|line| line.split_once(['=', ':'])).map(|(key, value)| (key.trim(), value.trim()))
}

/// The content of `partition.metadata` for a topic.
pub fn partition_metadata(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {}", uuid_text::encode(topic_id))
}

/// The topic id that a `partition.metadata` names.
pub fn parse_partition_metadata(text: &[u8]) -> Result<Uuid, IdentityError> {
    let text = std::str::from_utf8(text).map_err(|_| IdentityError::NotText)?;
    let get = |key| lines_of(text).find(|(k, _)| *k == key).map(|(_, value)| value);
    match get("version") {
        Some("0") => {}
        other => return Err(IdentityError::Version(other.unwrap_or_default().to_owned())),
    }
    get("topic_id").and_then(uuid_text::decode).ok_or(IdentityError::Key("topic_id"))
}

/// One line of an offset checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Its offset.
    pub offset: Offset,
}

/// The content of one of the three offset checkpoints.
pub fn offset_checkpoint(entries: &[PartitionOffset]) -> String {
    text_file::write(entries.iter().map(|entry| format!("{} {} {}", entry.topic, entry.partition, entry.offset)))
}

/// Reads one of the three offset checkpoints.
pub fn parse_offset_checkpoint(text: &[u8]) -> Result<Vec<PartitionOffset>, TextFileError> {
    text_file::read(text, |line| {
        let mut parts = line.split(' ');
        let (topic, partition, offset) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (parts.next().is_none() && !topic.is_empty()).then(|| PartitionOffset {
            topic: topic.to_owned(),
            partition,
            offset,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn reads_the_identity_that_kafka_writes() {
        let text = "#\n#Thu Jun 18 10:00:00 UTC 2026\ncluster.id=7H81bT8PQkmbRHQFKKXctw\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\nnode.id=1\nversion=1\n";
        let expected = MetaProperties {
            cluster_id: "7H81bT8PQkmbRHQFKKXctw".into(),
            node_id: 1,
            directory_id: Some(Uuid::from_u128(1)),
        };
        assert_eq!(MetaProperties::parse(text.as_bytes()), Ok(expected.clone()));
        assert_eq!(MetaProperties::parse(expected.to_text().as_bytes()), Ok(expected));
    }

    #[rstest]
    #[case("version=0\ncluster.id=x\nbroker.id=1", IdentityError::Version("0".into()))]
    #[case("cluster.id=x", IdentityError::Version(String::new()))]
    #[case("version=1\nnode.id=1", IdentityError::Key("cluster.id"))]
    #[case("version=1\ncluster.id=x\nnode.id=one", IdentityError::Key("node.id"))]
    #[case("version=1\ncluster.id=x\nnode.id=1\ndirectory.id=y", IdentityError::Key("directory.id"))]
    fn refuses_other_identities(#[case] text: &str, #[case] expected: IdentityError) {
        assert_eq!(MetaProperties::parse(text.as_bytes()), Err(expected));
    }

    #[test]
    fn a_partition_names_its_topic() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(partition_metadata(id), "version: 0\ntopic_id: ASNFZ4mrze8BI0VniavN7w");
        assert_eq!(parse_partition_metadata(partition_metadata(id).as_bytes()), Ok(id));
        assert_eq!(parse_partition_metadata(b"version: 1\ntopic_id: x"), Err(IdentityError::Version("1".into())));
    }

    #[test]
    fn offset_checkpoints_are_kafkas() {
        let entries = [
            PartitionOffset { topic: "a.b_c-d".into(), partition: 0, offset: 7 },
            PartitionOffset { topic: "z".into(), partition: 12, offset: i64::MAX },
        ];
        assert_eq!(offset_checkpoint(&entries), "0\n2\na.b_c-d 0 7\nz 12 9223372036854775807\n");
        assert_eq!(parse_offset_checkpoint(offset_checkpoint(&entries).as_bytes()).as_deref(), Ok(&entries[..]));
        assert_eq!(parse_offset_checkpoint(b"0\n1\na 0 7 8\n"), Err(TextFileError::Malformed(3)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z.]{0,12}[=: \n]?[0-9-]{0,4}\n?){0,20}", bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            for bytes in [text.as_bytes(), &bytes] {
                let _ = MetaProperties::parse(bytes);
                let _ = parse_partition_metadata(bytes);
                let _ = parse_offset_checkpoint(bytes);
            }
        }
    }
}
