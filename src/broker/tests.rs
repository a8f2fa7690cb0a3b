//! A whole broker in this process, over real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::*;
use crate::config::given::Given;

mod hostile;
mod shares;

const PATIENCE: Duration = Duration::from_secs(20);

async fn broker(dir: &tempfile::TempDir) -> Broker {
    let mut given = Given::default();
    let data = format!("terrace.data.dir={}", dir.path().display());
    for text in [&data, "listeners=PLAINTEXT://127.0.0.1:0", "admin.listeners=http://127.0.0.1:0"] {
        given.read_override(text).expect("syntax");
    }
    let config = BrokerConfig::build(&given, None).expect("valid");
    Broker::start(config).await.expect("starts")
}

async fn connect(broker: &Broker) -> TcpStream {
    TcpStream::connect(broker.kafka_addresses()[0].1).await.expect("listens")
}

/// A request with an empty client id.
fn request(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&(10 + body.len() as i32).to_be_bytes());
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&correlation_id.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(body);
    frame
}

/// Fetch 4 of one partition that waits `max_wait_ms` for one byte.
fn fetch(correlation_id: i32, topic: &str, max_wait_ms: i32) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [-1, max_wait_ms, 1, 1 << 20] {
        body.extend_from_slice(&i32::to_be_bytes(field));
    }
    body.push(0);
    body.extend_from_slice(&1i32.to_be_bytes());
    body.extend_from_slice(&(topic.len() as i16).to_be_bytes());
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&1i32.to_be_bytes());
    body.extend_from_slice(&0i32.to_be_bytes());
    body.extend_from_slice(&0i64.to_be_bytes());
    body.extend_from_slice(&(1i32 << 20).to_be_bytes());
    request(1, 4, correlation_id, &body)
}

async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let read = async {
        let length = stream.read_i32().await.expect("an answer");
        let mut frame = vec![0; usize::try_from(length).expect("a length")];
        stream.read_exact(&mut frame).await.expect("a whole answer");
        frame
    };
    timeout(PATIENCE, read).await.expect("in time")
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    // Closing with unread bytes resets the connection; that is an end too.
    matches!(timeout(PATIENCE, stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_leave_in_request_order_and_none_waits_for_a_later_one() {
    let dir = tempfile::tempdir().expect("folder");
    let broker = broker(&dir).await;
    let mut stream = connect(&broker).await;
    // Metadata 1 creates the topic.
    stream.write_all(&request(3, 1, 0, &[0, 0, 0, 1, 0, 1, b't'])).await.expect("sent");
    answer(&mut stream).await;

    let wait = Duration::from_millis(700);
    let together = [request(18, 0, 1, &[]), fetch(2, "t", 700), request(18, 0, 3, &[])].concat();
    let begun = Instant::now();
    stream.write_all(&together).await.expect("sent");
    assert_eq!(answer(&mut stream).await[..4], 1i32.to_be_bytes());
    assert!(begun.elapsed() < wait, "an answer that is there doesn't wait for the long poll behind it");
    assert_eq!(answer(&mut stream).await[..4], 2i32.to_be_bytes());
    assert!(begun.elapsed() >= wait, "the long poll waits");
    assert_eq!(answer(&mut stream).await[..4], 3i32.to_be_bytes());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_request_closes_its_connection_alone() {
    let dir = tempfile::tempdir().expect("folder");
    let broker = broker(&dir).await;
    let mut other = connect(&broker).await;
    let huge_array = request(3, 1, 1, &i32::MAX.to_be_bytes());
    for bytes in [&i32::MAX.to_be_bytes()[..], &[0xff; 4], &[0, 0, 0, 7], &request(999, 0, 1, &[]), &huge_array] {
        let mut stream = connect(&broker).await;
        stream.write_all(bytes).await.expect("sent");
        assert!(is_closed(&mut stream).await, "{bytes:?}");
    }
    other.write_all(&request(18, 0, 9, &[])).await.expect("sent");
    assert_eq!(answer(&mut other).await[..4], 9i32.to_be_bytes());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_idle_connections_and_long_polls_and_frees_the_folder() {
    let dir = tempfile::tempdir().expect("folder");
    let first = broker(&dir).await;
    let cluster = first.cluster_id().to_owned();
    let (mut idle, mut polling) = (connect(&first).await, connect(&first).await);
    idle.write_all(&request(3, 1, 0, &[0, 0, 0, 1, 0, 1, b't'])).await.expect("sent");
    answer(&mut idle).await;
    polling.write_all(&[request(18, 0, 1, &[]), fetch(2, "t", 60_000)].concat()).await.expect("sent");
    answer(&mut polling).await;
    let begun = Instant::now();
    first.stop().await;
    assert!(begun.elapsed() < PATIENCE);
    assert!(is_closed(&mut idle).await);
    assert_eq!(answer(&mut polling).await[..4], 2i32.to_be_bytes(), "a long poll is answered, not cut");

    let second = broker(&dir).await;
    assert_eq!(second.cluster_id(), cluster);
    let mut stream = connect(&second).await;
    stream.write_all(&fetch(1, "t", 0)).await.expect("sent");
    let fetched = answer(&mut stream).await;
    // correlation id, throttle, topics, "t", partitions, index: then the error code.
    assert_eq!(fetched[23..25], [0, 0], "the topic is still there");
    second.stop().await;
}
