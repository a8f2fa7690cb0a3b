use std::path::PathBuf;

use rstest::rstest;

use super::*;

/// Settings as a file would make them, one `key=value` a line.
fn given(text: &str) -> Given {
    let mut given = Given::default();
    given.read_text(Path::new("test.properties"), text).expect("syntax");
    given
}

fn build(text: &str) -> BrokerConfig {
    BrokerConfig::build(&given(text), None).expect("valid")
}

#[test]
fn without_configuration_it_listens_on_loopback_and_keeps_data_in_one_folder() {
    let config = BrokerConfig::defaults();
    let listener = &config.listeners[0];
    assert_eq!((listener.name.as_str(), listener.bind.to_string()), ("PLAINTEXT", "127.0.0.1:9092".to_owned()));
    assert_eq!(listener.advertised, listener.bind);
    assert_eq!(config.admin.listeners[0].to_string(), "127.0.0.1:9190");
    assert_eq!(config.dirs.data, PathBuf::from("terrace-data"));
    assert_eq!(config.dirs.logs, [PathBuf::from("terrace-data/log")]);
    assert_eq!(config.dirs.metadata_file(), PathBuf::from("terrace-data/meta.redb"));
    assert_eq!(config.dirs.remote_cache, PathBuf::from("terrace-data/cache"));
    assert!(config.remote.enable && !config.remote.uri_is_set);
    assert!(config.remote.uri.starts_with("file:///") && config.remote.uri.ends_with("/terrace-data/remote"));
    assert_eq!((config.node_id, config.topics.auto_create, config.topics.partitions), (1, true, 1));
}

#[rstest]
#[case("log.dirs=/a,/b", "/a/.terrace", &["/a", "/b"])]
#[case("log.dir=/a", "/a/.terrace", &["/a"])]
#[case("log.dirs=/a\nterrace.data.dir=/d", "/d", &["/a"])]
#[case("terrace.data.dir=/d", "/d", &["/d/log"])]
fn the_data_folder_follows_the_log_folders(#[case] text: &str, #[case] data: &str, #[case] logs: &[&str]) {
    let dirs = build(text).dirs;
    assert_eq!(dirs.data, PathBuf::from(data));
    assert_eq!(dirs.logs, logs.iter().map(PathBuf::from).collect::<Vec<_>>());
}

#[rstest]
#[case(
    "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER\nadvertised.listeners=PLAINTEXT://h:1",
    "PLAINTEXT",
    ":9092",
    "h:1"
)]
#[case("listeners=plaintext://[::1]:9092", "PLAINTEXT", "[::1]:9092", "[::1]:9092")]
#[case("listeners=IN://10.0.0.1:0\nlistener.security.protocol.map=IN:PLAINTEXT", "IN", "10.0.0.1:0", "10.0.0.1:0")]
fn listeners_are_read(#[case] text: &str, #[case] name: &str, #[case] bind: &str, #[case] told: &str) {
    let listeners = build(text).listeners;
    assert_eq!(listeners.len(), 1);
    let found = &listeners[0];
    assert_eq!((found.name.as_str(), &*found.bind.to_string(), &*found.advertised.to_string()), (name, bind, told));
}

#[test]
fn socket_buffers_are_what_was_set_and_else_not_kafkas() {
    let buffers = |text: &str| {
        let requests = build(text).requests;
        (requests.receive_buffer_bytes, requests.send_buffer_bytes)
    };
    let bounded = machine::grants_send_buffer(1 << 20).then_some(1 << 20);
    assert_eq!(buffers(""), (None, bounded));
    assert_eq!(buffers("socket.send.buffer.bytes=-1\nsocket.receive.buffer.bytes=-1"), (None, None));
    let kafkas = "socket.send.buffer.bytes=102400\nsocket.receive.buffer.bytes=102400";
    assert_eq!(buffers(kafkas), (Some(102_400), Some(102_400)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_send_buffer_is_granted_as_far_as_the_kernel_allows() {
    assert!(machine::grants_send_buffer(4096));
    assert!(!machine::grants_send_buffer(u32::MAX / 2), "no machine grants a socket 2 GiB");
}

/// Each message names place, key, value and reason.
#[rstest]
#[case(
    "num.partitions=0",
    "test.properties:1: Invalid value 0 for configuration num.partitions: Value must be at least 1"
)]
#[case(
    "\nnum.partitions=x",
    "test.properties:2: Invalid value x for configuration num.partitions: Not a number of type INT"
)]
#[case(
    "listeners=PLAINTEXT://0.0.0.0:9092",
    "0.0.0.0:9092 is no address that a client can reach; set advertised.listeners"
)]
#[case("listeners=SSL://127.0.0.1:9092", "listener SSL needs TLS or SASL, which is not supported yet")]
#[case("listeners=A://127.0.0.1:9092", "listener A has no protocol in listener.security.protocol.map")]
#[case("listeners=PLAINTEXT:9092", "'PLAINTEXT:9092' is not NAME://host:port")]
#[case("authorizer.class.name=x.Y", "access control is not supported yet")]
#[case("node.id=1\nbroker.id=2", "test.properties:2: Invalid value 2 for configuration broker.id: node.id says 1")]
#[case("remote.storage.uri=/tmp/x", "must begin with s3:// or file://")]
#[case("admin.listeners=localhost:1", "'localhost:1' is not http://host:port")]
#[case(
    "log.retention.ms=5\nlog.local.retention.ms=6",
    "Invalid value 6 for configuration local.retention.ms: Value must not be more than retention.ms property value: 5"
)]
#[case(
    "group.min.session.timeout.ms=5\ngroup.max.session.timeout.ms=4",
    "must not be more than group.max.session.timeout.ms"
)]
fn a_wrong_setting_stops_the_start(#[case] text: &str, #[case] message: &str) {
    let errors = BrokerConfig::build(&given(text), None).expect_err("must be refused");
    assert!(errors.iter().any(|error| error.to_string().contains(message)), "{errors:?}");
}

#[test]
fn every_error_is_told_at_once() {
    let errors = BrokerConfig::build(&given("num.partitions=0\nnode.id=x\nlisteners=Q"), None).expect_err("refused");
    assert!(errors.len() >= 3, "{errors:?}");
}

#[test]
fn the_cluster_of_a_log_folder_is_kept_and_another_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    std::fs::write(dir.path().join("meta.properties"), "version=1\nnode.id=7\ncluster.id=abc\n").expect("write");
    let settings = given(&format!("node.id=7\nlog.dirs={}", dir.path().display()));
    assert_eq!(BrokerConfig::build(&settings, None).expect("valid").cluster_id.as_deref(), Some("abc"));
    assert!(BrokerConfig::build(&settings, Some("other".to_owned())).is_err());
    assert!(BrokerConfig::build(&Given::default(), Some("a/b".to_owned())).is_err());
    let settings = given(&format!("node.id=8\nlog.dirs={}", dir.path().display()));
    assert!(BrokerConfig::build(&settings, None).is_err());
}

#[test]
fn dynamic_settings_lie_above_static_ones_and_fixed_keys_stay() {
    let all =
        BTreeMap::from([("max.connections".to_owned(), "5".to_owned()), ("num.partitions".to_owned(), "9".to_owned())]);
    let own = BTreeMap::from([("max.connections".to_owned(), "6".to_owned())]);
    let config = build("max.connections=4").with_dynamic(&all, &own).expect("valid");
    assert_eq!((config.requests.connections_max, config.topics.partitions), (6, 1));
}

#[test]
fn the_request_budget_holds_the_largest_request() {
    let config = build("socket.request.max.bytes=1000000000");
    assert!(config.requests.queued_bytes_max >= 1_000_000_000 + (16 << 20));
    assert_eq!(build("queued.max.request.bytes=77").requests.queued_bytes_max, 77);
}
