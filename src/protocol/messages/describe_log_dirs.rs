//! The DescribeLogDirs answer, v1 to v5: the crate ends at v4, v5 says whether a directory is cordoned, which none of ours
//! ever is. The request of v5 is that of v4.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResponse;

use crate::protocol::api_key::ApiKey;
use crate::protocol::put::Put;

/// Appends the body of an answer.
pub fn encode(out: &mut BytesMut, version: i16, response: &DescribeLogDirsResponse) {
    let mut put = Put { out, flexible: ApiKey::DescribeLogDirs.is_flexible(version) };
    put.out.put_i32(response.throttle_time_ms);
    if version >= 3 {
        put.out.put_i16(response.error_code);
    }
    put.len(Some(response.results.len()));
    for dir in &response.results {
        put.out.put_i16(dir.error_code);
        put.string(&dir.log_dir);
        put.len(Some(dir.topics.len()));
        for topic in &dir.topics {
            put.string(&topic.name);
            put.len(Some(topic.partitions.len()));
            for partition in &topic.partitions {
                put.out.put_i32(partition.partition_index);
                put.out.put_i64(partition.partition_size);
                put.out.put_i64(partition.offset_lag);
                put.out.put_u8(u8::from(partition.is_future_key));
                put.tags(0);
            }
            put.tags(0);
        }
        if version >= 4 {
            put.out.put_i64(dir.total_bytes);
            put.out.put_i64(dir.usable_bytes);
        }
        if version >= 5 {
            put.out.put_u8(0); // not cordoned
        }
        put.tags(0);
    }
    put.tags(0);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    };
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use rstest::rstest;

    use super::*;

    fn response(version: i16) -> DescribeLogDirsResponse {
        let partition = DescribeLogDirsPartition::default()
            .with_partition_index(3)
            .with_partition_size(1234)
            .with_offset_lag(5)
            .with_is_future_key(true);
        let topic = DescribeLogDirsTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("topic")))
            .with_partitions(vec![partition]);
        let mut dir = DescribeLogDirsResult::default()
            .with_error_code(56)
            .with_log_dir(StrBytes::from_static_str("/data"))
            .with_topics(vec![topic]);
        let mut response = DescribeLogDirsResponse::default().with_throttle_time_ms(9);
        if version >= 4 {
            dir = dir.with_total_bytes(1 << 40).with_usable_bytes(1 << 39);
        }
        if version >= 3 {
            response.error_code = 29;
        }
        response.with_results(vec![dir])
    }

    #[rstest]
    fn answers_are_those_of_the_crate(#[values(1, 2, 3, 4)] version: i16) {
        let (mut ours, mut expected) = (BytesMut::new(), BytesMut::new());
        encode(&mut ours, version, &response(version));
        response(version).encode(&mut expected, version).expect("encodes");
        assert_eq!(ours, expected);
    }

    /// Bytes written by `DescribeLogDirsResponseData` of Kafka 4.3.1.
    #[test]
    fn version_5_says_that_no_directory_is_cordoned() {
        let mut ours = BytesMut::new();
        encode(&mut ours, 5, &response(5));
        assert_eq!(ours, b"\0\0\0\x09\0\x1d\x02\08\x06/data\x02\x06topic\x02\0\0\0\x03\0\0\0\0\0\0\x04\xd2\0\0\0\0\0\0\0\x05\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0".as_slice());
    }
}
