//! The append of one batch into the page cache: check, stamp, write, publish.
//!
//! `cargo bench --bench append`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use terrace::broker::Broker;
use terrace::config::given::Given;
use terrace::config::server::BrokerConfig;
use terrace::partition::append::AppendOrigin;
use terrace::protocol::batch_builder::BatchBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn start(dir: &std::path::Path) -> Broker {
    let mut given = Given::default();
    let data = format!("terrace.data.dir={}", dir.display());
    // Old segments go, so that the measurement does not fill the disk.
    let settings =
        ["log.retention.bytes=67108864", "log.segment.bytes=16777216", "log.retention.check.interval.ms=1000"];
    for text in
        [&data, "listeners=PLAINTEXT://127.0.0.1:0", "admin.listeners=http://127.0.0.1:0"].into_iter().chain(settings)
    {
        given.read_override(text).expect("syntax");
    }
    let broker = Broker::start(BrokerConfig::build(&given, None).expect("valid")).await.expect("starts");
    // Metadata 1 creates the topic.
    let mut stream = TcpStream::connect(broker.kafka_addresses()[0].1).await.expect("listens");
    stream.write_all(&[0, 0, 0, 17, 0, 3, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 1, 0, 1, b't']).await.expect("sent");
    stream.read_i32().await.expect("an answer");
    broker
}

fn append(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let broker = runtime.block_on(start(dir.path()));
    let partition = broker.partitions().by_name("t", 0).expect("the topic was made");
    let mut group = criterion.benchmark_group("append");
    for size in [100, 1 << 10, 16 << 10, 128 << 10] {
        for idempotent in [false, true] {
            let mut batch = BatchBuilder::new(0);
            batch.push(0, 1_700_000_000_000, None, Some(&vec![b'v'; size]), std::iter::empty());
            let mut bytes = batch.finish();
            let mut sequence = 0i32;
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            let name = if idempotent { "idempotent" } else { "plain" };
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    if idempotent {
                        bytes[43..51].copy_from_slice(&(size as i64).to_be_bytes());
                        bytes[51..53].copy_from_slice(&[0, 0]);
                        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
                        sequence += 1;
                        let crc = crc32c::crc32c(&bytes[21..]);
                        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
                    }
                    partition.append(&mut bytes, AppendOrigin::Client, None).expect("appended").base_offset
                });
            });
        }
    }
    group.finish();
    runtime.block_on(broker.stop());
}

criterion_group!(benches, append);
criterion_main!(benches);
