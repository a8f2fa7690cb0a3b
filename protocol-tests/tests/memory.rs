//! Memory and connections under clients by the thousand, clients that never read, and clients that leave in the middle.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, JoinGroupRequest,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::raw_client::RawClient;

const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: &str = "kafka_server_socket_server_metrics_connection_count";

fn resident_bytes(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("the broker runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// The value of a sample whose line begins with `name`, labels included.
fn metric(broker: &Broker, name: &str) -> f64 {
    // The Kafka port opens first.
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect(broker.http) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "HTTP listens: {error}"),
        }
    };
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample.unwrap_or_else(|| panic!("{name} is told:\n{text}")).trim().parse().expect("a number")
}

/// Looks at a metric until it is as it should be.
fn await_metric(broker: &Broker, name: &str, expected: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = metric(broker, name);
        if expected(value) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {value}");
        // Another process's gauge tells nobody when it moves.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection that has been served and is silent now.
fn idle(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker accepts");
    // ApiVersions 0, correlation id 7, no client id.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).expect("the broker reads");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("a whole answer");
    stream
}

#[test]
fn ten_thousand_idle_connections_cost_at_most_16_kib_each() {
    const COUNT: u64 = 10_000;
    let limits = getrlimit(Resource::Nofile);
    if limits.maximum.is_some_and(|most| most < COUNT + 2_000) {
        println!("skipped: the hard limit of open files is below {}", COUNT + 2_000);
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum }).expect("own limit");
    let broker = Broker::start(&Options::new().with("log.open.files", 500));
    drop(idle(broker.kafka));
    await_metric(&broker, CONNECTIONS, |count| count == 0.0);
    let before = resident_bytes(&broker);
    let connections: Vec<TcpStream> = (0..COUNT).map(|_| idle(broker.kafka)).collect();
    await_metric(&broker, CONNECTIONS, |count| count == COUNT as f64);
    let each = resident_bytes(&broker).saturating_sub(before) / COUNT;
    println!("{each} bytes for an idle connection");
    assert!(each <= 16 << 10, "{each} bytes for an idle connection");
    // Nobody sends anything, so nothing is taken of the request budget either.
    await_metric(&broker, "terrace_memory_budget_held_bytes{budget=\"requests\"}", |held| held == 0.0);
    drop(idle(broker.kafka));
    drop(connections);
    await_metric(&broker, CONNECTIONS, |count| count == 0.0);
}

#[test]
fn answers_that_nobody_takes_are_charged_until_their_peer_is_gone() {
    const CLIENTS: usize = 8;
    // Small buffers, so that the answers wait in the broker and not in the kernel.
    let broker = Broker::start(
        &Options::new().with("socket.send.buffer.bytes", 16_384).with("socket.receive.buffer.bytes", 16_384),
    );
    let mut client = RawClient::connect(broker.kafka);
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("wide")))
        .with_num_partitions(3000)
        .with_replication_factor(1);
    client.call(5, &CreateTopicsRequest::default().with_timeout_ms(60_000).with_topics(vec![topic]));
    let held = "terrace_memory_budget_held_bytes{budget=\"requests\"}";
    let before = resident_bytes(&broker);
    let greedy: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut stream = TcpStream::connect(broker.kafka).expect("the broker accepts");
            stream.set_write_timeout(Some(Duration::from_millis(300))).expect("an option of TCP");
            // Metadata 1 of all topics, correlation id 7, no client id: 14 bytes for about 80 KiB.
            let request = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].repeat(500);
            let stopped = loop {
                match stream.write_all(&request) {
                    Ok(()) => {}
                    Err(error) => break error,
                }
            };
            assert!(matches!(stopped.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{stopped}");
            stream
        })
        .collect();
    await_metric(&broker, held, |bytes| bytes >= (CLIENTS * (64 << 10)) as f64);
    let grown = resident_bytes(&broker).saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).error_code, 0);
    drop(greedy);
    await_metric(&broker, held, |bytes| bytes < (64 << 10) as f64);
}

#[test]
fn a_client_that_leaves_while_it_joins_a_group_leaves_no_connection_behind() {
    let broker = Broker::start(&Options::new().with("group.initial.rebalance.delay.ms", 120_000));
    let group = GroupId(StrBytes::from_static_str("g"));
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(&[0; 8]));
    let join = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(300_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    let mut observer = RawClient::connect(broker.kafka);
    // Creates the coordinator's topic.
    let find = FindCoordinatorRequest::default().with_key(group.0.clone());
    let deadline = Instant::now() + PATIENCE;
    while observer.call(0, &find).error_code != 0 {
        assert!(Instant::now() < deadline, "the group has a coordinator");
    }
    let mut described = || {
        let request = DescribeGroupsRequest::default().with_groups(vec![group.clone()]);
        observer.call(0, &request).groups.remove(0)
    };
    while described().error_code != 0 {
        assert!(Instant::now() < deadline, "the coordinator is loaded");
    }
    let mut state = || described().group_state.to_string();
    let mut joining = RawClient::connect(broker.kafka);
    joining.send(3, &join);
    while state() != "PreparingRebalance" {
        assert!(Instant::now() < deadline, "the member joins");
    }
    drop(joining);
    await_metric(&broker, CONNECTIONS, |count| count == 1.0);
    // The coordinator knows members, not connections: as in Kafka the member is there until its session ends.
    assert_eq!(state(), "PreparingRebalance");
}
