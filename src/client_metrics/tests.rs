//! What is refused, in which order and with which effect on the next request, was seen on Apache Kafka 4.3.1 with a
//! telemetry receiver.

use std::net::SocketAddr;

use rstest::rstest;

use super::otlp::tests::data;
use super::*;
use crate::metadata::image::Change;
use crate::protocol::compression::compress;

const NOBODY: Uuid = Uuid::from_u128(0);
const FRESH: Uuid = Uuid::from_u128(77);

fn client(instance: u128) -> Client<'static> {
    Client {
        instance: Uuid::from_u128(instance),
        id: "raw",
        software_name: "lib",
        software_version: "1.0",
        address: SocketAddr::from(([127, 0, 0, 1], 9999)),
    }
}

fn subscribed(name: &str, settings: &[(&str, &str)], image: &mut Image) {
    let config = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    image.apply(&Change::SetClientMetrics { subscription: name.to_owned(), config }).expect("applies");
    image.generation += 1;
}

fn image() -> Image {
    let mut image = Image::default();
    subscribed("a", &[("interval.ms", "100"), ("metrics", "org.a.,org.b.")], &mut image);
    image
}

fn push(instance: u128, subscription: i32, metrics: &[u8]) -> Push<'_> {
    Push { instance: Uuid::from_u128(instance), subscription, terminating: false, compression: 0, metrics }
}

#[test]
fn a_client_without_id_gets_one_and_all_fitting_subscriptions_together() {
    let known = ClientMetrics::new(1000);
    let mut image = image();
    subscribed("b", &[("interval.ms", "60000"), ("metrics", "x"), ("match", "client_id=ra.*")], &mut image);
    subscribed("c", &[("interval.ms", "200"), ("metrics", "never"), ("match", "client_id=ra")], &mut image);
    let got = known.subscribe(&image, &client(0), FRESH, 0).expect("accepted");
    assert_eq!((got.instance, got.interval_ms), (FRESH, 100));
    assert_eq!(got.metrics, ["org.a.", "org.b.", "x"]);
    subscribed("d", &[("metrics", "*"), ("match", "client_source_port=9+,client_software_name=lib")], &mut image);
    let all = known.subscribe(&image, &client(77), NOBODY, 100).expect("accepted");
    assert_eq!(all.metrics, ["*"]);
    assert_ne!(all.id, got.id);
}

#[test]
fn without_subscription_nothing_is_asked_for() {
    let got = ClientMetrics::new(1000).subscribe(&Image::default(), &client(5), NOBODY, 0).expect("accepted");
    assert_eq!((got.interval_ms, got.metrics), (300_000, Vec::new()));
}

#[test]
fn a_client_that_asks_too_early_has_to_wait() {
    let (known, image) = (ClientMetrics::new(1000), image());
    let ask = |now_ms| known.subscribe(&image, &client(5), NOBODY, now_ms).map(|_| ());
    assert_eq!(ask(0), Ok(()));
    assert_eq!(ask(99), Err(Refused::TooEarly));
    assert_eq!(ask(100), Ok(()));
    // Who pushed for another subscription may ask at once, but only then.
    assert_eq!(known.push(&image, &client(5), &push(5, 1, &[]), 101), Err(Refused::Subscription));
    assert_eq!(ask(102), Ok(()));
    assert_eq!(known.push(&image, &client(5), &push(5, 1, &[]), 103), Err(Refused::Subscription));
    assert_eq!(known.push(&image, &client(5), &push(5, 1, &[]), 104), Err(Refused::TooEarly));
    assert_eq!(ask(105), Err(Refused::TooEarly));
}

#[rstest]
#[case::nobody(0, 0, 0, 0, Refused::Request)]
#[case::reserved(1, 0, 0, 0, Refused::Request)]
#[case::subscription(5, 1, 9, 5000, Refused::Subscription)]
#[case::compression(5, 0, 9, 5000, Refused::Compression)]
#[case::size(5, 0, 0, 1001, Refused::TooLarge)]
#[case::damage(5, 0, 0, 10, Refused::Damaged)]
#[case::bad_compression(5, 0, 4, 10, Refused::Damaged)]
fn a_wrong_push_is_refused(
    #[case] instance: u128,
    #[case] other: i32,
    #[case] compression: i8,
    #[case] size: usize,
    #[case] expected: Refused,
) {
    let (known, image) = (ClientMetrics::new(1000), image());
    let got = known.subscribe(&image, &client(5), NOBODY, 0).expect("accepted");
    let noise = vec![0xff; size];
    let pushed = Push { compression, ..push(instance, got.id + other, &noise) };
    assert_eq!(known.push(&image, &client(instance), &pushed, 1), Err(expected));
}

#[test]
fn a_client_that_goes_may_push_once_more() {
    let (known, image) = (ClientMetrics::new(1000), image());
    let got = known.subscribe(&image, &client(5), NOBODY, 0).expect("accepted");
    assert_eq!(known.push(&image, &client(5), &push(5, got.id, &[]), 1), Ok(()));
    assert_eq!(known.push(&image, &client(5), &push(5, got.id, &[]), 2), Err(Refused::TooEarly));
    let last = Push { terminating: true, ..push(5, got.id, &[]) };
    assert_eq!(known.push(&image, &client(5), &last, 3), Ok(()));
    assert_eq!(known.push(&image, &client(5), &last, 4), Err(Refused::Request));
}

#[test]
fn what_was_asked_for_comes_out_at_a_scrape_until_the_client_is_silent() {
    let (known, image) = (ClientMetrics::new(1000), image());
    let got = known.subscribe(&image, &client(5), NOBODY, 0).expect("accepted");
    let sum = [2 << 3, 1, 3 << 3, 1];
    let all = [data("org.a.sum", 7, &sum, 2.0), data("org.b.now", 5, &[], 0.5), data("org.c", 5, &[], 1.0)].concat();
    let zipped = compress(Compression::Zstd, &all);
    for now_ms in [1, 101] {
        let pushed = Push { compression: 4, ..push(5, got.id, &zipped) };
        assert_eq!(known.push(&image, &client(5), &pushed, now_ms), Ok(()));
    }
    let text = |now_ms| {
        let mut scrape = Scrape::default();
        known.collect(&mut scrape, now_ms);
        scrape.render()
    };
    let shown = text(200);
    let labels = r#"client_id="raw",client_instance_id="AAAAAAAAAAAAAAAAAAAABQ",attribute_topic="t"} "#;
    assert!(shown.contains(&format!("terrace_client_metric_total{{metric=\"org.a.sum\",{labels}4\n")), "{shown}");
    assert!(shown.contains(&format!("terrace_client_metric{{metric=\"org.b.now\",{labels}0.5\n")), "{shown}");
    assert!(!shown.contains("org.c"), "{shown}");
    assert!(!text(60_102).contains("org.a"), "a client that is silent is forgotten");
}
