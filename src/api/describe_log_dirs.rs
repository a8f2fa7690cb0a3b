//! DescribeLogDirs 1-5: sizes of local logs by log directory. Version 2 is flexible, 3 an error of the whole answer, 4 size and
//! free space of the volume (KIP-827), 5 cordoned directories, of which there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Disconnect, Frame, Node, decode};
use crate::partition::Partition;
use crate::protocol::api_key::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::FrameStart;
use crate::protocol::header::put_response_header;
use crate::protocol::messages::describe_log_dirs;

/// The newest request that the crate knows; version 5 has the same bytes.
const REQUEST_NEWEST: i16 = 4;

/// Answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request: DescribeLogDirsRequest = decode(call.version.min(REQUEST_NEWEST), body)?;
    let response = describe(node, &request);
    let mut out = BytesMut::new();
    let frame = FrameStart::new(&mut out);
    put_response_header(&mut out, ApiKey::DescribeLogDirs, call.version, call.correlation_id);
    describe_log_dirs::encode(&mut out, call.version, &response);
    frame.finish(&mut out, 0);
    Ok(out.freeze())
}

/// What is asked: everything, or some partitions of some topics.
type Asked<'r> = Option<BTreeSet<(&'r str, i32)>>;

fn describe(node: &Node, request: &DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let asked: Asked<'_> = request.topics.as_ref().map(|topics| {
        let partitions = topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&**topic.topic, *index)));
        partitions.collect()
    });
    let partitions = node.partitions.all();
    let dirs = node.partitions.log_dirs().map(|(dir, works)| match works {
        true => log_dir(dir, &partitions, &asked),
        false => DescribeLogDirsResult::default()
            .with_error_code(ErrorCode::KafkaStorageError.code())
            .with_log_dir(shown(dir)),
    });
    DescribeLogDirsResponse::default().with_results(dirs.collect())
}

fn log_dir(dir: &Path, partitions: &[Arc<Partition>], asked: &Asked<'_>) -> DescribeLogDirsResult {
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in partitions {
        let (topic, index) = (&**partition.topic_name(), partition.id().partition);
        if asked.as_ref().is_some_and(|asked| !asked.contains(&(topic, index))) {
            continue;
        }
        let described = DescribeLogDirsPartition::default().with_partition_index(index);
        // First the copy: one that has just become the log is not missed.
        let described = if let Some(future) = partition.future_replica().filter(|future| future.log_dir == dir) {
            let lag = partition.known_offsets().log_end - future.end;
            described
                .with_is_future_key(true)
                .with_offset_lag(lag.max(0))
                .with_partition_size(shown_size(future.size_bytes))
        } else if partition.log_dir() == dir {
            described.with_partition_size(shown_size(partition.size_bytes()))
        } else {
            continue;
        };
        topics.entry(topic).or_default().push(described);
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_unstable_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic::default()
            .with_name(StrBytes::from_string(name.to_owned()).into())
            .with_partitions(partitions)
    });
    let (total, usable) = volume(dir);
    DescribeLogDirsResult::default()
        .with_log_dir(shown(dir))
        .with_topics(topics.collect())
        .with_total_bytes(total)
        .with_usable_bytes(usable)
}

fn shown_size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

fn shown(dir: &Path) -> StrBytes {
    StrBytes::from_string(absolute(dir).display().to_string())
}

/// Bytes of the volume, all and free; -1 where nobody knows.
fn volume(dir: &Path) -> (i64, i64) {
    let dir = absolute(dir);
    // Before the first append there is no directory; it will be on the volume of what there is of its path.
    let Some(volume) = dir.ancestors().find_map(|ancestor| rustix::fs::statvfs(ancestor).ok()) else {
        return (-1, -1);
    };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(volume.f_frsize)).unwrap_or(i64::MAX);
    (bytes(volume.f_blocks), bytes(volume.f_bavail))
}
