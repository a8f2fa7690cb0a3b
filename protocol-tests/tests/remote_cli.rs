//! `terrace remote` on the bucket of a real broker: what it says, and its exit codes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use terrace_protocol_tests::broker::{Broker, Options, binary};
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::peers::Minio;

const FINE: i32 = 0;
const FOUND: i32 = 1;
const WRONG: i32 = 2;
const NOT_ASKED: i32 = 3;

/// The command line with the settings of one broker.
struct Cli {
    settings: Vec<String>,
    env: Vec<(String, String)>,
}

impl Cli {
    fn of(data: &Path, options: &Options) -> Self {
        let mut settings = vec!["--override".to_owned(), format!("terrace.data.dir={}", data.display())];
        for (key, value) in &options.properties {
            settings.extend(["--override".to_owned(), format!("{key}={value}")]);
        }
        Self { settings, env: options.env.clone().into_iter().collect() }
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(binary());
        // Of two values for one setting the later counts.
        let (subcommand, rest) = arguments.split_first().expect("a subcommand");
        command.args(["remote", subcommand]).args(&self.settings).args(rest).envs(self.env.clone());
        let done = command.output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
    }

    /// What it says as JSON; it must end with `code`.
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let (ended, out, err) = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ended, code, "{arguments:?}\n{out}\n{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{out}\n{err}"))
    }
}

fn options() -> Options {
    Options::new().with("log.retention.check.interval.ms", 200).with("remote.log.manager.task.interval.ms", 200)
}

fn topic() -> Vec<(&'static str, String)> {
    vec![("segment.bytes", (1u64 << 20).to_string()), ("retention.ms", "-1".to_owned())]
}

fn objects(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            objects(&path, found);
        } else if path.components().any(|part| part.as_os_str() == "seg") && !path.display().to_string().contains('#') {
            found.push(path);
        }
    }
}

fn segments(bucket: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    objects(bucket, &mut found);
    found.sort();
    found
}

/// How many segments partition 0 has on disk.
fn logs(data: &Path) -> usize {
    let folder = std::fs::read_dir(data.join("log/orders-0")).expect("the partition's folder");
    folder.flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log")).count()
}

fn scrape(broker: &Broker) -> String {
    let mut stream = TcpStream::connect(broker.http).expect("the admin port is open");
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", broker.http).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The number of the sample whose name and labels end so.
fn metric(broker: &Broker, name: &str) -> f64 {
    let text = scrape(broker);
    let sample = text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (sample, value) = line.rsplit_once(' ')?;
        sample.ends_with(name).then(|| value.parse().ok())?
    });
    sample.unwrap_or(0.0)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} within 30 s");
        // Another process tells no event.
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_operator_sees_checks_and_cleans_the_bucket() {
    let bucket = tempfile::tempdir().expect("a directory");
    let bucket = bucket.path();
    let options = options().with("remote.storage.uri", format!("file://{}", bucket.display()));
    let broker = Broker::start(&options);
    let mut history = History::begin(broker.kafka, "orders", 1, &topic());
    history.write(broker.kafka, 160, 50).expect("the broker is up");
    // All but the active one, and so that the broker's rows say it: nothing is half done at the stop.
    let sealed = logs(broker.data()) - 1;
    wait_until("segments are copied", || {
        metric(&broker, "remotecopyrequests_total{topic=\"orders\"}") == sealed as f64
    });
    assert!(sealed >= 3, "{sealed}");
    let metrics = scrape(&broker);
    let counted = "terrace_remote_requests_total{purpose=\"copy\",op=\"put\",result=\"ok\"}";
    assert!(metrics.contains(counted) && metrics.contains("terrace_remote_cost_total{purpose=\"scrub\""), "{metrics}");
    // The last root is written at a clean stop.
    let stopped = broker.stop();
    let cli = Cli::of(&stopped.data, &options);

    let told = cli.json(FINE, &["ls", "orders/0", "--segments"]);
    let stored = told[0]["stored"].as_array().expect("segments").clone();
    assert_eq!((told[0]["topic"].as_str(), told[0]["log_start"].as_i64()), (Some("orders"), Some(0)));
    assert_eq!(stored.len(), segments(bucket).len());
    let key = stored[1]["key"].as_str().expect("a key").to_owned();
    assert!(cli.run(&["dump", &key]).1.contains("topic             orders"));
    assert!(cli.run(&["dump", "orders/0"]).1.contains("generation"));
    assert_eq!(cli.run(&["ls", "nothing"]).0, NOT_ASKED);
    assert_eq!(cli.run(&["ls", "a/b"]).0, WRONG);
    assert!(cli.run(&["ls", "--objects"]).1.contains(&key));

    // Damage is found where it is, a missing object by its name.
    assert_eq!(cli.json(FINE, &["verify", "--full"])["findings"].as_array().map(Vec::len), Some(0));
    let file = bucket.join(&key);
    let whole = std::fs::read(&file).expect("the object");
    let mut rotten = whole.clone();
    rotten[100] ^= 1;
    std::fs::write(&file, rotten).expect("written");
    cli.json(FINE, &["verify"]);
    let found = cli.json(FOUND, &["verify", "orders", "--full"]);
    assert!(found["findings"][0]["what"].as_str().is_some_and(|what| what.starts_with("chunk 0 ")), "{found}");
    std::fs::remove_file(&file).expect("removed");
    let found = cli.json(FOUND, &["verify"]);
    assert_eq!(found["findings"][0]["what"], "it is not there");
    assert_eq!(found["findings"][0]["key"].as_str(), Some(key.as_str()));
    std::fs::write(&file, &whole).expect("written");

    // A copy that nobody knows.
    let (name, uuid) = file.to_str().and_then(|name| name.rsplit_once('-')).expect("its name ends in a uuid");
    let orphan = PathBuf::from(format!("{name}-{}", uuid.chars().rev().collect::<String>()));
    std::fs::write(&orphan, &whole).expect("written");
    let found = cli.json(FINE, &["gc"]);
    assert_eq!(found["orphans"].as_array().map(Vec::len), Some(0), "it is young");
    let old = ["gc", "--override", "remote.orphan.age.ms=0"];
    let found = cli.json(FOUND, &old);
    assert_eq!((found["orphans"].as_array().map(Vec::len), found["deleted"].as_bool()), (Some(1), Some(false)));
    assert!(orphan.exists());
    assert_eq!(cli.json(FINE, &[&old[..], &["--delete"]].concat())["deleted"].as_bool(), Some(true));
    assert!(!orphan.exists() && segments(bucket).len() == stored.len(), "it alone is gone");
    assert_eq!(cli.run(&["doctor"]).0, FINE);
    let nowhere = ["doctor", "--override", "remote.storage.uri=file:///dev/null/nowhere"];
    assert_eq!(cli.run(&nowhere).0, NOT_ASKED);

    // Beside a broker that runs.
    let broker = stopped.restart(&options);
    assert_eq!(history.check(broker.kafka), history.acknowledged(), "nothing that anybody needs was deleted");
    let (code, _, why) = cli.run(&[&old[..], &["--delete"]].concat());
    assert!(code == NOT_ASKED && why.contains("runs"), "{code} {why}");
    cli.json(FINE, &["verify", "--full"]);
    history.write(broker.kafka, 60, 50).expect("the broker is up");
    let copied = |cost: &Value| cost["requests"]["purposes"][0]["class_a"].as_u64();
    wait_until("its copies are counted", || {
        let cost = cli.json(FINE, &["cost", "--address", &broker.http.to_string()]);
        assert_eq!(cost["requests"]["purposes"][0]["purpose"], "copy");
        assert!(cost["stored_price_per_month"].as_f64().is_some_and(|price| price > 0.0), "{cost}");
        copied(&cost).is_some_and(|requests| requests > 0)
    });
}

#[test]
fn a_bucket_of_s3_is_checked_and_read() {
    let Some(minio) = Minio::start() else { return };
    let mut options =
        options().with("remote.storage.uri", "s3://terrace/data").with("remote.storage.endpoint", minio.endpoint());
    for (key, value) in minio.env() {
        options = options.env(key, value);
    }
    let broker = Broker::start(&options);
    let cli = Cli::of(broker.data(), &options);
    let mut history = History::begin(broker.kafka, "orders", 1, &topic());
    history.write(broker.kafka, 100, 50).expect("the broker is up");
    let told = cli.json(FINE, &["doctor"]);
    let verdict = |check: &str| {
        let lines = told.as_array().expect("lines");
        lines.iter().find(|line| line["check"] == check).map(|line| line["verdict"].as_str().unwrap_or("").to_owned())
    };
    for check in ["bucket", "create if absent", "checksum", "upload in parts", "clock", "versioning", "owner"] {
        assert_eq!(verdict(check).as_deref(), Some("ok"), "{check}: {told}");
    }
    let stopped = broker.stop();
    assert!(stopped.status.success());
    let report = cli.json(FINE, &["verify", "--full"]);
    assert!(report["segments"].as_u64().is_some_and(|segments| segments >= 1), "{report}");

    let gone = ["verify", "--override", "remote.storage.uri=s3://nowhere/data"];
    assert_eq!(cli.run(&gone).0, NOT_ASKED);
    let told = cli.json(NOT_ASKED, &["doctor", "--override", "remote.storage.uri=s3://nowhere/data"]);
    assert_eq!((told[0]["check"].as_str(), told[0]["seen"].as_str()), (Some("bucket"), Some("it does not exist")));
}
