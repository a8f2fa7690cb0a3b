//! Bytes that are not the protocol: each gets Kafka's error or a closed connection, others are served meanwhile, memory
//! stays bounded, nothing panics.

use std::io::Write;
use std::net::TcpStream;

use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use rstest::rstest;
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::raw_client::RawClient;

/// The broker still serves somebody else, and has not panicked.
fn still_serves(broker: &Broker) {
    let mut client = RawClient::connect(broker.kafka);
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).error_code, 0);
    client.call(9, &MetadataRequest::default().with_topics(Some(vec![])));
    let output = broker.output();
    assert!(!output.iter().any(|line| line.contains("panicked")), "{}", output.join("\n"));
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut frame = i32::try_from(bytes.len()).expect("small").to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    frame
}

/// What is sent, and nothing else follows on that connection.
#[rstest]
#[case::length_2_31_minus_1((i32::MAX).to_be_bytes().to_vec())]
#[case::negative_length((-5i32).to_be_bytes().to_vec())]
#[case::frame_of_nothing(frame(&[]))]
#[case::frame_under_a_header(frame(&[0, 3, 0]))]
#[case::unknown_key(frame(&[0x70, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff]))]
#[case::unknown_version(frame(&[0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff]))]
#[case::array_of_2_31_minus_1(frame(&[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]))]
#[case::client_id_beyond_the_frame(frame(&[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, b'x']))]
#[case::http(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec())]
fn it_closes_the_connection_and_nobody_else_s(#[case] bytes: Vec<u8>) {
    let broker = Broker::start(&Options::new());
    let mut client = RawClient::connect(broker.kafka);
    client.send_bytes(&bytes).expect("the broker reads");
    client.read_until_closed();
    still_serves(&broker);
}

#[test]
fn random_bytes_and_truncated_frames_do_no_harm() {
    let broker = Broker::start(&Options::new());
    let mut state = 42u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32
    };
    for round in 0..300u32 {
        let mut stream = TcpStream::connect(broker.kafka).expect("the broker listens");
        let mut body: Vec<u8> = (0..random() % 200).map(|_| random() as u8).collect();
        if round % 2 == 0 && body.len() > 10 {
            // A header that leads into the decoder of some API.
            body[..4].copy_from_slice(&[0, (random() % 76) as u8, 0, (random() % 12) as u8]);
            body[8..10].copy_from_slice(&[0xff, 0xff]);
        }
        let mut bytes = frame(&body);
        if round % 3 == 0 {
            bytes.truncate(bytes.len() / 2);
        }
        let _ = stream.write_all(&bytes);
    }
    still_serves(&broker);
}

#[test]
fn announcing_100_mib_and_sending_nothing_holds_nothing() {
    let broker = Broker::start(&Options::new());
    let before = resident_bytes(&broker);
    let mut idle = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(broker.kafka).expect("the broker listens");
        stream.write_all(&(100i32 << 20).to_be_bytes()).expect("the broker reads");
        idle.push(stream);
    }
    still_serves(&broker);
    let grown = resident_bytes(&broker).saturating_sub(before);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
}

#[test]
fn two_thousand_idle_connections_cost_little() {
    let broker = Broker::start(&Options::new());
    still_serves(&broker);
    let before = resident_bytes(&broker);
    let mut idle = Vec::new();
    for _ in 0..2000 {
        let mut client = RawClient::connect(broker.kafka);
        client.call(0, &ApiVersionsRequest::default());
        idle.push(client);
    }
    still_serves(&broker);
    let each = resident_bytes(&broker).saturating_sub(before) / 2000;
    assert!(each <= 16 << 10, "{each} bytes for an idle connection");
}

#[test]
fn a_client_that_never_reads_is_bounded() {
    let broker = Broker::start(&Options::new());
    let before = resident_bytes(&broker);
    let mut client = RawClient::connect(broker.kafka);
    // Requests go in until the broker stops reading, whose answers nobody takes. The kernel's buffers take ten megabytes first.
    let stream_full = (0..2_000_000).any(|_| client.is_blocked(9, &MetadataRequest::default().with_topics(None)));
    assert!(stream_full, "the broker stops reading from a client that does not read");
    still_serves(&broker);
    let grown = resident_bytes(&broker).saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
}

fn resident_bytes(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("the broker runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}
