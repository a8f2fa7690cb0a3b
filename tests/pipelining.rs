//! Requests that are sent without waiting for answers, cut into writes at any place: every answer comes, in the order of the
//! requests, and every batch is stored once, in that order.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, MetadataRequest,
    ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use terrace::broker::Broker;
use terrace::config::given::Given;
use terrace::config::server::BrokerConfig;
use terrace::protocol::batch_builder::BatchBuilder;

const PRODUCE: i16 = 9;
const PARTITIONS: i32 = 3;

/// One broker for all cases; each case has a topic of its own.
struct Shared {
    _runtime: tokio::runtime::Runtime,
    _broker: Broker,
    _dir: tempfile::TempDir,
    address: SocketAddr,
}

static BROKER: LazyLock<Shared> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("folder");
    let mut given = Given::default();
    let data = format!("terrace.data.dir={}", dir.path().display());
    for text in [&data, "listeners=PLAINTEXT://127.0.0.1:0", "admin.listeners=http://127.0.0.1:0"] {
        given.read_override(text).expect("syntax");
    }
    let config = BrokerConfig::build(&given, None).expect("valid");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let broker = runtime.block_on(Broker::start(config)).expect("starts");
    let address = broker.kafka_addresses()[0].1;
    Shared { _runtime: runtime, _broker: broker, _dir: dir, address }
});

#[derive(Debug, Clone)]
enum Ask {
    /// acks, partition, records.
    Produce(i16, i32, i32),
    /// Waits this long for more than there is.
    Fetch(i32),
    Metadata,
    ApiVersions,
}

fn ask() -> impl Strategy<Value = Ask> {
    let produce = (prop_oneof![Just(0i16), Just(1), Just(-1)], 0..PARTITIONS, 1..4i32);
    prop_oneof![
        8 => produce.prop_map(|(acks, partition, records)| Ask::Produce(acks, partition, records)),
        1 => (0..20i32).prop_map(Ask::Fetch),
        1 => Just(Ask::Metadata),
        1 => Just(Ask::ApiVersions),
    ]
}

fn put(out: &mut BytesMut, key: ApiKey, version: i16, correlation_id: i32, request: &impl Encodable) {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    let mut body = BytesMut::new();
    header.encode(&mut body, key.request_header_version(version)).expect("a header");
    request.encode(&mut body, version).expect("a request");
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&body);
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn batch(records: i32) -> Bytes {
    let mut batch = BatchBuilder::new(0);
    for delta in 0..records {
        batch.push(delta, 1_700_000_000_000, None, Some(b"value"), std::iter::empty());
    }
    batch.finish().into()
}

/// Writes the request; whether an answer will come, and in which version of which API.
fn write_ask(out: &mut BytesMut, ask: &Ask, correlation_id: i32, topic: &str) -> Option<(ApiKey, i16)> {
    let (key, version) = match ask {
        Ask::Produce(acks, partition, records) => {
            let data = PartitionProduceData::default().with_index(*partition).with_records(Some(batch(*records)));
            let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
            let request =
                ProduceRequest::default().with_acks(*acks).with_timeout_ms(30_000).with_topic_data(vec![data]);
            put(out, ApiKey::Produce, PRODUCE, correlation_id, &request);
            if *acks == 0 {
                return None;
            }
            (ApiKey::Produce, PRODUCE)
        }
        Ask::Fetch(max_wait_ms) => {
            let partition =
                FetchPartition::default().with_partition(0).with_fetch_offset(0).with_partition_max_bytes(1 << 20);
            let asked = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
            let request = FetchRequest::default()
                .with_max_wait_ms(*max_wait_ms)
                .with_min_bytes(1 << 20)
                .with_max_bytes(1 << 20)
                .with_session_epoch(-1)
                .with_topics(vec![asked]);
            put(out, ApiKey::Fetch, 11, correlation_id, &request);
            (ApiKey::Fetch, 11)
        }
        Ask::Metadata => {
            put(out, ApiKey::Metadata, 9, correlation_id, &MetadataRequest::default().with_topics(Some(vec![])));
            (ApiKey::Metadata, 9)
        }
        Ask::ApiVersions => {
            put(out, ApiKey::ApiVersions, 0, correlation_id, &ApiVersionsRequest::default());
            (ApiKey::ApiVersions, 0)
        }
    };
    Some((key, version))
}

fn read_frame(stream: &mut TcpStream) -> Bytes {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).expect("a whole answer");
    frame.into()
}

fn create(stream: &mut TcpStream, topic: &str, synced: bool) {
    let mut config = Vec::new();
    if synced {
        let value = Some(StrBytes::from_static_str("1"));
        let name = StrBytes::from_static_str("flush.messages");
        config.push(CreatableTopicConfig::default().with_name(name).with_value(value));
    }
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(1)
        .with_configs(config);
    let mut out = BytesMut::new();
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![topic]);
    put(&mut out, ApiKey::CreateTopics, 5, 0, &request);
    stream.write_all(&out).expect("sent");
    let mut answer = read_frame(stream);
    ResponseHeader::decode(&mut answer, ApiKey::CreateTopics.response_header_version(5)).expect("a header");
    let answer = CreateTopicsResponse::decode(&mut answer, 5).expect("a response");
    assert_eq!(answer.topics[0].error_code, 0);
}

/// Sends `asks` cut at `cuts` while it reads the answers, and holds every answer against what must have happened.
fn run(asks: &[Ask], cuts: &[usize], synced: bool, topic: &str) {
    let mut stream = TcpStream::connect(BROKER.address).expect("the broker listens");
    stream.set_nodelay(true).expect("an option of TCP");
    create(&mut stream, topic, synced);

    let mut bytes = BytesMut::new();
    let mut expected = Vec::new();
    let mut ends = [0i64; PARTITIONS as usize];
    for (ask, correlation_id) in asks.iter().zip(1..) {
        let answered = write_ask(&mut bytes, ask, correlation_id, topic);
        let mut base_offset = None;
        if let Ask::Produce(_, partition, records) = ask {
            let end = &mut ends[*partition as usize];
            base_offset = Some(*end);
            *end += i64::from(*records);
        }
        expected.extend(answered.map(|answered| (correlation_id, answered, base_offset)));
    }
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    cuts.sort_unstable();
    let mut sender = stream.try_clone().expect("a second handle");
    let sending = std::thread::spawn(move || {
        let mut sent = 0;
        for cut in cuts {
            sender.write_all(&bytes[sent..cut]).expect("the broker reads");
            std::thread::yield_now();
            sent = cut;
        }
    });
    for (correlation_id, (key, version), base_offset) in expected {
        let mut answer = read_frame(&mut stream);
        let header = ResponseHeader::decode(&mut answer, key.response_header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, correlation_id);
        if let Some(base_offset) = base_offset {
            let answer = ProduceResponse::decode(&mut answer, version).expect("a response");
            let partition = &answer.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (0, base_offset));
        }
    }
    sending.join().expect("everything was sent");
    stream.shutdown(Shutdown::Write).expect("an open socket");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the broker closes");
    assert!(rest.is_empty(), "an answer that nobody asked for: {rest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_comes_in_order(
        asks in proptest::collection::vec(ask(), 1..120),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
        synced in proptest::bool::weighted(0.3),
        topic in "[a-z]{20}",
    ) {
        run(&asks, &cuts, synced, &topic);
    }
}
