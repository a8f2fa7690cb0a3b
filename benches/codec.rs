//! What a Produce costs before its append: the walk over the request, the checks of its batches, the answer.
//!
//! `cargo bench --bench codec`

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use terrace::protocol::batch_builder::BatchBuilder;
use terrace::protocol::compression::Compression;
use terrace::protocol::messages::produce::{ProduceReader, ProduceResponseWriter, ProducedPartition};
use terrace::protocol::record_batch::{BatchView, validate_header};
use terrace::protocol::records::records;
use uuid::Uuid;

const VERSION: i16 = 9;
const DECOMPRESSED_MAX: u64 = 64 << 20;

/// A batch of about `bytes` before compression, of records of 1 KiB that compress about as text does.
fn batch(bytes: usize, codec: Compression) -> Bytes {
    let mut batch = BatchBuilder::new(0).with_compression(codec);
    let mut state = 42u32;
    for delta in 0..(bytes / 1024).max(1) {
        let value: Vec<u8> = (0..1000)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 4 == 0 { (state >> 24) as u8 } else { b'a' + (at % 16) as u8 }
            })
            .collect();
        batch.push(delta as i32, 1_700_000_000_000, None, Some(&value), std::iter::empty());
    }
    batch.finish().into()
}

/// The body of a request of `partitions` batches.
fn body(partitions: i32, batch: &Bytes) -> BytesMut {
    let data = |index| PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("orders")))
        .with_partition_data((0..partitions).map(data).collect());
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let mut body = BytesMut::new();
    request.encode(&mut body, VERSION).expect("a request");
    body
}

fn produce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("produce request");
    let one = batch(100, Compression::None);
    for partitions in [1, 100] {
        let body = body(partitions, &one);
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("walk", partitions), |bencher| {
            bencher.iter(|| {
                let (head, mut parts) = ProduceReader::parse(VERSION, &body, 0).expect("sound");
                while let Some(part) = parts.next(&body) {
                    black_box(part);
                }
                head.acks
            });
        });
        let mut out = BytesMut::new();
        group.bench_function(BenchmarkId::new("answer", partitions), |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut writer = ProduceResponseWriter::begin(&mut out, VERSION, 7, 1);
                writer.topic("orders", Uuid::nil(), partitions as usize);
                for index in 0..partitions {
                    writer.partition(&ProducedPartition {
                        index,
                        error_code: 0,
                        base_offset: 42,
                        log_append_time_ms: -1,
                        log_start_offset: 0,
                        record_errors: &[],
                        error_message: None,
                        current_leader: None,
                    });
                }
                writer.finish(0, &[]);
            });
        });
    }
    group.finish();
}

/// `record.validation` = header reads the header and the CRC, full walks every record.
fn check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch check");
    for (name, codec) in [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
        for size in [1 << 10, 16 << 10, 128 << 10] {
            let bytes = batch(size, codec);
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(BenchmarkId::new(format!("header, {name}"), size), |bencher| {
                bencher.iter(|| {
                    let (batch, _) = BatchView::split_first(&bytes).expect("whole");
                    batch.check_crc().expect("sound");
                    validate_header(&batch).expect("sound");
                });
            });
            group.bench_function(BenchmarkId::new(format!("records, {name}"), size), |bencher| {
                bencher.iter(|| {
                    let (batch, _) = BatchView::split_first(&bytes).expect("whole");
                    let opened = records(&batch, DECOMPRESSED_MAX).expect("sound");
                    opened.iter().map(|record| record.expect("sound").offset_delta).last()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, produce, check);
criterion_main!(benches);
