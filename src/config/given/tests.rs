use rstest::rstest;

use super::*;

fn from_file(text: &str) -> Given {
    let mut given = Given::default();
    given.read_text(Path::new("f"), text).expect("syntax");
    given
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let mut given = from_file("a=1\nb=1\nc=1\nc=2");
    given.read_environment([("KAFKA_A", "2"), ("KAFKA_B", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter());
    given.read_override("a=3").expect("syntax");
    let told: Vec<_> = given.iter().map(|(key, s)| format!("{key}={} {}", s.value, s.origin)).collect();
    assert_eq!(told, ["a=3 --override", "b=2 environment KAFKA_B", "c=2 f:4"]);
    assert!(given.read_override("nothing").is_err());
}

#[rstest]
#[case("KAFKA_LOG_RETENTION_MS", "log.retention.ms")]
#[case("KAFKA_A__B", "a_b")]
#[case("KAFKA_A___B_C", "a-b.c")]
#[case("KAFKA_LISTENER_NAME_SASL__SSL_SCRAM___SHA___256_X", "listener.name.sasl_ssl.scram-sha-256.x")]
fn variables_are_keys_as_in_kafkas_image(#[case] variable: &str, #[case] key: &str) {
    let mut given = Given::default();
    given.read_environment([(variable.to_owned(), "v".to_owned())].into_iter());
    assert!(given.get(key).is_some(), "{given:?}");
}

#[test]
fn variables_of_the_jvm_and_of_kubernetes_do_no_harm() {
    let variables = [
        "KAFKA_HEAP_OPTS",
        "KAFKA_OPTS",
        "KAFKA_JMX_PORT",
        "KAFKA_LOG4J_LOGGERS",
        "KAFKA_JVM_PERFORMANCE_OPTS",
        "KAFKA_PORT",
        "KAFKA_SERVICE_HOST",
        "KAFKA_PORT_9092_TCP_ADDR",
        "PATH",
    ];
    let mut given = Given::default();
    given.read_environment(variables.into_iter().map(|name| (name.to_owned(), "x".to_owned())));
    let (remarks, errors) = given.check_names(false);
    assert_eq!(errors, []);
    assert_eq!(remarks.ignored_variables.len(), 5);
    assert_eq!(remarks.unknown, ["port", "port.9092.tcp.addr", "service.host"]);
}

#[rstest]
#[case("num.partitons", Some("num.partitions"))]
#[case("num.partition", Some("num.partitions"))]
#[case("Num.partitions", Some("num.partitions"))]
#[case("log.retention.msx", Some("log.retention.ms"))]
#[case("log.retention.mmss", Some("log.retention.ms"))]
#[case("retention.ms", None)]
#[case("my.plugin.setting", None)]
#[case("", None)]
fn a_near_miss_names_the_key_that_was_meant(#[case] name: &str, #[case] meant: Option<&str>) {
    let (remarks, errors) = from_file(&format!("node.id=1\n{name}=1")).check_names(false);
    match meant {
        Some(meant) => {
            let message = format!("f:2: unknown key '{name}', did you mean '{meant}'?");
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [message]);
        }
        None => assert_eq!((remarks.unknown, errors), (vec![name.to_owned()], vec![])),
    }
}

#[test]
fn strict_refuses_unknown_keys_and_still_takes_kafkas() {
    let given = from_file("my.plugin.setting=1\nnum.io.threads=8\nlistener.name.x.ssl.key.password=p");
    let (remarks, errors) = given.check_names(false);
    assert_eq!(remarks.accepted, ["listener.name.x.ssl.key.password", "num.io.threads"]);
    assert_eq!((remarks.unknown.len(), errors.len()), (1, 0));
    let (_, errors) = given.check_names(true);
    assert_eq!(errors[0].to_string(), "f:1: unknown key 'my.plugin.setting'");
    assert_eq!(errors.len(), 1);
}

#[rstest]
#[case("", "", Some(0))]
#[case("abc", "abd", Some(1))]
#[case("abc", "bc", Some(1))]
#[case("abcd", "badc", None)]
#[case("a", "abc", Some(2))]
#[case("a", "abcd", None)]
fn distances_count_single_edits(#[case] a: &str, #[case] b: &str, #[case] distance: Option<usize>) {
    assert_eq!(edit_distance(a, b, 2), distance);
}
