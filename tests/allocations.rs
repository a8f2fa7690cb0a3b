//! Allocations of a warm broker, counted over real sockets: the budget of a Produce or Fetch is none.
//!
//! The whole process is counted, and nothing but the broker allocates: requests are encoded beforehand. What the broker
//! does once a second (checkpoint, index growth) falls into some windows of a scenario, never into all of them, so the
//! emptiest window tells what a request costs.
//!
//! `TERRACE_SHOW_ALLOCATIONS=<part of a scenario's name>` prints where it allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, FetchRequest, FetchResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use terrace::broker::Broker;
use terrace::config::given::Given;
use terrace::config::server::BrokerConfig;
use terrace::protocol::batch_builder::BatchBuilder;
use uuid::Uuid;

const PARTITIONS: i32 = 8;
const WINDOWS: usize = 40;
const REQUESTS: usize = 50;
/// Backtraces printed of one window.
const SHOWN: usize = 8;

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static COUNTED: AtomicUsize = AtomicUsize::new(0);
static SHOW: AtomicBool = AtomicBool::new(false);

thread_local! {
    static SHOWING: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if !COUNTS.load(SeqCst) || SHOWING.get() {
        return;
    }
    let number = COUNTED.fetch_add(1, SeqCst);
    if number < SHOWN && SHOW.load(SeqCst) {
        SHOWING.set(true);
        eprintln!("allocation {number}:\n{}", Backtrace::force_capture());
        SHOWING.set(false);
    }
}

#[expect(unsafe_code, reason = "an allocator cannot be written without; it only counts and passes on")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the emptiest window.
fn fewest(name: &str, mut request: impl FnMut()) -> usize {
    let shown = std::env::var("TERRACE_SHOW_ALLOCATIONS").is_ok_and(|part| name.contains(&part));
    for _ in 0..4 * REQUESTS {
        request();
    }
    let window = |number| {
        COUNTED.store(0, SeqCst);
        SHOW.store(shown && number == WINDOWS - 1, SeqCst);
        COUNTS.store(true, SeqCst);
        for _ in 0..REQUESTS {
            request();
        }
        COUNTS.store(false, SeqCst);
        SHOW.store(false, SeqCst);
        COUNTED.load(SeqCst)
    };
    (0..WINDOWS).map(window).min().unwrap_or(usize::MAX)
}

/// A blocking client that allocates nothing.
struct Client {
    stream: TcpStream,
    answer: Box<[u8]>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_nodelay(true).expect("an option of TCP");
        Self { stream, answer: vec![0; 4 << 20].into() }
    }

    fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).expect("the broker reads");
    }

    fn receive(&mut self) -> &[u8] {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("an answer");
        let length = u32::from_be_bytes(length) as usize;
        self.stream.read_exact(&mut self.answer[..length]).expect("a whole answer");
        &self.answer[..length]
    }

    fn call(&mut self, frame: &[u8]) -> &[u8] {
        self.send(frame);
        self.receive()
    }

    fn decoded<R: Decodable>(&mut self, key: ApiKey, version: i16, request: &impl Encodable) -> R {
        let mut answer = Bytes::copy_from_slice(self.call(&frame(key, version, request)));
        ResponseHeader::decode(&mut answer, key.response_header_version(version)).expect("a header");
        R::decode(&mut answer, version).expect("a response")
    }
}

fn frame(key: ApiKey, version: i16, request: &impl Encodable) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    let mut body = BytesMut::new();
    header.encode(&mut body, key.request_header_version(version)).expect("a header");
    request.encode(&mut body, version).expect("a request");
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

fn batch(value_bytes: usize) -> Bytes {
    let mut batch = BatchBuilder::new(0);
    batch.push(0, 1_700_000_000_000, None, Some(&vec![b'v'; value_bytes]), std::iter::empty());
    batch.finish().into()
}

/// A request whose batches can be given the next sequence, as a producer would.
struct Produce {
    frame: Vec<u8>,
    batches: Vec<std::ops::Range<usize>>,
    /// A producer of its own, and its next sequence.
    producer: Option<(i64, i32)>,
}

impl Produce {
    fn new(version: i16, acks: i16, id: Uuid, partitions: i32, idempotent: bool) -> Self {
        let bytes = batch(100);
        let data = (0..partitions)
            .map(|index| PartitionProduceData::default().with_index(index).with_records(Some(bytes.clone())))
            .collect();
        let mut topic_data = TopicProduceData::default().with_partition_data(data);
        topic_data = if version >= 13 { topic_data.with_topic_id(id) } else { topic_data.with_name(topic()) };
        let request =
            ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic_data]);
        let frame = frame(ApiKey::Produce, version, &request);
        let found = |at: &usize| frame[*at..].starts_with(&bytes);
        let batches: Vec<_> = (0..frame.len()).filter(found).map(|at| at..at + bytes.len()).collect();
        assert_eq!(batches.len(), partitions as usize);
        let mut produce = Self { frame, batches, producer: idempotent.then_some((i64::from(partitions), 0)) };
        produce.restamp();
        produce
    }

    /// Gives the batches the next sequence; without idempotence they name no producer.
    fn restamp(&mut self) {
        let (id, epoch, sequence) = match &mut self.producer {
            Some((id, next)) => {
                *next += 1;
                (*id, 0, *next - 1)
            }
            None => (-1, -1, -1),
        };
        for range in &self.batches {
            let batch = &mut self.frame[range.clone()];
            batch[43..51].copy_from_slice(&i64::to_be_bytes(id));
            batch[51..53].copy_from_slice(&i16::to_be_bytes(epoch));
            batch[53..57].copy_from_slice(&sequence.to_be_bytes());
            let crc = crc32c::crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
        }
    }
}

fn fetch(session_id: i32, session_epoch: i32, partitions: i32, offset: i64, id: Option<Uuid>) -> FetchRequest {
    let partition = |index| {
        FetchPartition::default().with_partition(index).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
    };
    let mut asked = FetchTopic::default().with_partitions((0..partitions).map(partition).collect());
    asked = match id {
        Some(id) => asked.with_topic_id(id),
        None => asked.with_topic(topic()),
    };
    FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_session_id(session_id)
        .with_session_epoch(session_epoch)
        .with_topics(if partitions > 0 { vec![asked] } else { vec![] })
}

/// The session's epoch in a frame of [`fetch`] without partitions, which is put one higher with each request.
fn raise_epoch(frame: &mut [u8], epoch: &mut i32) {
    let at = frame.windows(4).rposition(|bytes| bytes == epoch.to_be_bytes()).expect("the epoch is in the frame");
    *epoch += 1;
    frame[at..at + 4].copy_from_slice(&epoch.to_be_bytes());
}

async fn start(dir: &tempfile::TempDir) -> Broker {
    let mut given = Given::default();
    let data = format!("terrace.data.dir={}", dir.path().display());
    for text in [&data, "listeners=PLAINTEXT://127.0.0.1:0", "admin.listeners=http://127.0.0.1:0", "log.level=error"] {
        given.read_override(text).expect("syntax");
    }
    let config = BrokerConfig::build(&given, None).expect("valid");
    Broker::start(config).await.expect("starts")
}

/// One test, because whatever runs beside it would be counted.
#[test]
fn a_warm_request_allocates_nothing() {
    let dir = tempfile::tempdir().expect("folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let broker = runtime.block_on(start(&dir));
    let mut client = Client::connect(broker.kafka_addresses()[0].1);
    let create = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![
        CreatableTopic::default().with_name(topic()).with_num_partitions(PARTITIONS).with_replication_factor(1),
    ]);
    client.call(&frame(ApiKey::CreateTopics, 7, &create));
    let metadata =
        MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic()))]));
    let metadata: MetadataResponse = client.decoded(ApiKey::Metadata, 12, &metadata);
    let id = metadata.topics[0].topic_id;

    let mut found = Vec::new();
    for (name, version, acks, partitions, idempotent) in [
        ("produce, acks=1", 9, 1, 1, false),
        ("produce, acks=all, by topic id", 13, -1, 1, false),
        ("produce, idempotent", 12, -1, 1, true),
        ("produce, idempotent, 8 partitions, by topic id", 13, -1, PARTITIONS, true),
    ] {
        let mut produce = Produce::new(version, acks, id, partitions, idempotent);
        let allocations = fewest(name, || {
            client.call(&produce.frame);
            produce.restamp();
        });
        found.push((name, allocations));
        let mut answer = Bytes::copy_from_slice(client.call(&produce.frame));
        ResponseHeader::decode(&mut answer, ApiKey::Produce.response_header_version(version)).expect("a header");
        let answer = ProduceResponse::decode(&mut answer, version).expect("a response");
        assert!(answer.responses[0].partition_responses.iter().all(|partition| partition.error_code == 0));
    }

    let mut pipelined = Produce::new(9, 0, id, 1, false);
    pipelined.frame = pipelined.frame.repeat(10);
    let last = Produce::new(9, 1, id, 1, false);
    let name = "produce, acks=0, ten at once";
    let allocations = fewest(name, || {
        client.send(&pipelined.frame);
        client.call(&last.frame);
    });
    found.push((name, allocations));

    for (name, version, partitions) in
        [("fetch, one partition", 11, 1), ("fetch, 8 partitions, by topic id", 17, PARTITIONS)]
    {
        let frame = frame(ApiKey::Fetch, version, &fetch(0, -1, partitions, 0, (version >= 13).then_some(id)));
        let allocations = fewest(name, || {
            assert!(client.call(&frame).len() > 1000);
        });
        found.push((name, allocations));
    }

    let opened: FetchResponse = client.decoded(ApiKey::Fetch, 17, &fetch(0, 0, PARTITIONS, 0, Some(id)));
    let mut epoch = 1;
    let mut next = frame(ApiKey::Fetch, 17, &fetch(opened.session_id, epoch, 0, 0, None));
    let name = "fetch, session of 8 partitions";
    let allocations = fewest(name, || {
        assert!(client.call(&next).len() > 1000);
        raise_epoch(&mut next, &mut epoch);
    });
    found.push((name, allocations));

    runtime.block_on(broker.stop());
    let over: Vec<_> = found.iter().filter(|(_, allocations)| *allocations > 0).collect();
    for (name, allocations) in &found {
        println!("{name}: {:.2} allocations a request", *allocations as f64 / REQUESTS as f64);
    }
    assert!(over.is_empty(), "(scenario, allocations of {REQUESTS} requests): {over:?}");
}
