use std::time::Duration;

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::telemetry::health::Condition;

async fn get_path(address: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("receive");
    answer
}

async fn started(telemetry: &Arc<Telemetry>, tasks: &Tasks) -> SocketAddr {
    let anywhere = Endpoint { host: "127.0.0.1".to_owned(), port: 0 };
    let admin = Admin {
        listeners: vec![anywhere],
        health_listeners: vec![],
        allowed_hosts: vec!["metrics.example".to_owned()],
    };
    let status: StatusSource = Arc::new(|| Status { cluster_id: "abc".to_owned(), ..Status::default() });
    let bound = serve(&admin, Arc::clone(telemetry), status, tasks).await.expect("bind");
    bound[0]
}

#[tokio::test]
async fn routes_answer_and_a_drain_ends_them() {
    let (telemetry, tasks) = (Telemetry::start(1000), Tasks::new());
    telemetry.health.raise(Condition::LoadingMetadata, "reading");
    telemetry.show_budget("requests", 10, || 7);
    let address = started(&telemetry, &tasks).await;

    let answer = get_path(address, "/readyz", "x.evil").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("loading-metadata: reading"), "{answer}");
    telemetry.health.clear(Condition::LoadingMetadata);
    telemetry.health.set_listening();
    for path in ["/readyz", "/livez", "/startupz"] {
        assert!(get_path(address, path, "x.evil").await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let metrics = get_path(address, "/metrics", "localhost").await;
    assert!(metrics.contains("terrace_memory_budget_held_bytes{budget=\"requests\"} 7\n"), "{metrics}");
    assert!(metrics.contains("process_start_time_seconds 1\n"), "{metrics}");
    assert!(get_path(address, "/status", "127.0.0.1").await.contains("\"cluster_id\":\"abc\""));
    assert!(get_path(address, "/status", "x.evil").await.starts_with("HTTP/1.1 403"));
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[rstest]
#[case("localhost:9190", true)]
#[case("LOCALHOST", true)]
#[case("127.0.0.1:9190", true)]
#[case("[::1]:9190", true)]
#[case("10.1.2.3:9190", true)]
#[case("metrics.example:80", true)]
#[case("Metrics.Example", true)]
#[case("evil.example", false)]
#[case("localhost.evil.example", false)]
#[case("127.0.0.1.evil.example:9190", false)]
#[case("", false)]
fn a_name_that_could_have_been_rebound_is_refused(#[case] host: &str, #[case] allowed: bool) {
    assert_eq!(is_allowed(host, &["metrics.example".to_owned()]), allowed);
}
