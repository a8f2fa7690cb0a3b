//! Real clients and servers: found below `target/peers` and on the PATH, started by the scripts in `peers/`.
//!
//! A missing peer skips its test with one line and counts it; with `TERRACE_PEERS=required` it fails it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::broker::free_port;

/// Something that `peers/install` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Apache Kafka and its tools.
    Kafka,
    /// MinIO.
    Minio,
    /// Toxiproxy.
    Toxiproxy,
    /// kcat.
    Kcat,
    /// Python with confluent-kafka and kafka-python.
    Python,
    /// franz-go, sarama and kafka-go in one program.
    Go,
    /// Node with kafkajs and @platformatic/kafka.
    Node,
    /// promtool.
    Promtool,
}

impl Peer {
    /// Its name for `peers/install`.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Kafka => "kafka",
            Peer::Minio => "minio",
            Peer::Toxiproxy => "toxiproxy",
            Peer::Kcat => "kcat",
            Peer::Python => "python",
            Peer::Go => "go",
            Peer::Node => "node",
            Peer::Promtool => "promtool",
        }
    }

    fn is_there(self) -> bool {
        match self {
            Peer::Kafka => home().join("kafka/libs/.pins").exists(),
            Peer::Minio => home().join("bin/minio").exists(),
            Peer::Toxiproxy => home().join("bin/toxiproxy-server").exists(),
            Peer::Kcat => on_path("kcat"),
            Peer::Python => home().join("python/.pins").exists(),
            Peer::Go => home().join("bin/go-clients").exists(),
            Peer::Node => home().join("node/.pins").exists(),
            Peer::Promtool => home().join("bin/promtool").exists(),
        }
    }
}

/// True when all of `peers` are there. Otherwise says once what is skipped, or fails when they are required.
pub fn have(peers: &[Peer]) -> bool {
    let Some(missing) = peers.iter().find(|peer| !peer.is_there()) else { return true };
    let message = format!("skipped: {} (run protocol-tests/peers/install)", missing.name());
    assert!(std::env::var("TERRACE_PEERS").as_deref() != Ok("required"), "{message}");
    println!("{message}");
    false
}

/// Where the peers lie.
pub fn home() -> PathBuf {
    std::env::var_os("TERRACE_PEERS_DIR").map_or_else(|| repository().join("target/peers"), PathBuf::from)
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

/// A command of one of the scripts in `peers/`, with daemons tied to this process.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name));
    command.env("TERRACE_PEERS_DIR", home()).env("TERRACE_PEER_OWNER", std::process::id().to_string());
    command
}

/// The Python with the client libraries.
pub fn python() -> Command {
    Command::new(home().join("python/bin/python"))
}

/// Runs a command to its end; panics with its output if it fails.
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?} ended with {status}\n{stdout}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// What lets scenarios see delays, checks, sessions and cleanings end soon, and keeps retention off their old timestamps.
const QUICK: [&str; 4] = [
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=500",
    "log.initial.task.delay.ms=3600000",
    "log.cleaner.backoff.ms=200",
];

/// Apache Kafka, started once for this test binary and ended with it; `None` when it is not installed.
pub fn kafka() -> Option<SocketAddr> {
    static RUNNING: OnceLock<Option<SocketAddr>> = OnceLock::new();
    *RUNNING.get_or_init(|| {
        if !have(&[Peer::Kafka]) {
            return None;
        }
        // The controller listens one above.
        let port = (0..100).map(|_| free_port()).find(|port| *port < 65_000).expect("a port with a neighbour");
        run(script("kafka")
            .arg("start")
            .args(QUICK)
            .env("KAFKA_PEER_HOME", kafka_home())
            .env("KAFKA_PEER_PORT", port.to_string()));
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

fn kafka_home() -> PathBuf {
    std::env::temp_dir().join(format!("terrace-kafka-peer-{}", std::process::id()))
}

/// An Apache Kafka of one test, with a configuration of its own; stopped when dropped.
#[derive(Debug)]
pub struct Kafka {
    home: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Kafka {
    /// Starts one with these lines in its server.properties; `None` when it is not installed.
    pub fn start(lines: &[String]) -> Option<Self> {
        if !have(&[Peer::Kafka]) {
            return None;
        }
        let port = free_port();
        let home = TempDir::new().expect("a temporary directory");
        let kafka = Self { home, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        run(kafka.script().arg("start").args(lines));
        Some(kafka)
    }

    fn script(&self) -> Command {
        let mut command = script("kafka");
        command.env("KAFKA_PEER_HOME", self.home.path()).env("KAFKA_PEER_PORT", self.address.port().to_string());
        command
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.script().arg("stop").output();
    }
}

/// Where that Kafka keeps its partitions.
pub fn kafka_log_dir() -> PathBuf {
    kafka_home().join("data")
}

/// A running MinIO of one test, stopped when dropped.
#[derive(Debug)]
pub struct Minio {
    home: PathBuf,
    port: u16,
}

impl Minio {
    /// Starts one with an empty bucket `terrace`; `None` when it is not installed.
    pub fn start() -> Option<Self> {
        if !have(&[Peer::Minio]) {
            return None;
        }
        let port = free_port();
        let minio =
            Self { home: std::env::temp_dir().join(format!("terrace-minio-peer-{}-{port}", std::process::id())), port };
        run(minio.script().arg("start"));
        run(minio.script().args(["bucket", "terrace"]));
        Some(minio)
    }

    fn script(&self) -> Command {
        let mut command = script("minio");
        command.env("MINIO_PEER_HOME", &self.home).env("MINIO_PEER_PORT", self.port.to_string());
        command
    }

    /// The endpoint's URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Ends it by SIGKILL; its data stays.
    pub fn kill(&self) {
        run(self.script().arg("kill"));
    }

    /// Starts it again after a [`Minio::kill`].
    pub fn start_again(&self) {
        run(self.script().arg("start"));
    }

    /// The environment that a client needs.
    pub fn env(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ACCESS_KEY_ID", "minioadmin".into()),
            ("AWS_SECRET_ACCESS_KEY", "minioadmin".into()),
            ("AWS_REGION", "us-east-1".into()),
        ]
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.script().arg("stop").output();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// A running Toxiproxy of one test, stopped when dropped.
#[derive(Debug)]
pub struct Toxiproxy {
    home: PathBuf,
    port: u16,
}

impl Toxiproxy {
    /// Starts one without a proxy; `None` when it is not installed.
    pub fn start() -> Option<Self> {
        if !have(&[Peer::Toxiproxy]) {
            return None;
        }
        let port = free_port();
        let home = std::env::temp_dir().join(format!("terrace-toxiproxy-peer-{}-{port}", std::process::id()));
        let toxiproxy = Self { home, port };
        run(toxiproxy.script().arg("start"));
        Some(toxiproxy)
    }

    fn script(&self) -> Command {
        let mut command = script("toxiproxy");
        command.env("TOXIPROXY_PEER_HOME", &self.home).env("TOXIPROXY_PEER_PORT", self.port.to_string());
        command
    }

    /// Makes a proxy to `upstream`; where it listens.
    pub fn proxy(&self, name: &str, upstream: SocketAddr) -> SocketAddr {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        self.post(
            "proxies",
            &format!(r#"{{"name":"{name}","listen":"{listen}","upstream":"{upstream}","enabled":true}}"#),
        );
        listen
    }

    /// Adds a toxic to a proxy, for what comes from upstream and for what goes there.
    pub fn poison(&self, proxy: &str, kind: &str, attributes: &str) {
        for stream in ["upstream", "downstream"] {
            let toxic = format!(
                r#"{{"name":"{kind}-{stream}","type":"{kind}","stream":"{stream}","attributes":{{{attributes}}}}}"#
            );
            self.post(&format!("proxies/{proxy}/toxics"), &toxic);
        }
    }

    /// Removes all toxics.
    pub fn heal(&self) {
        self.post("reset", "{}");
    }

    fn post(&self, path: &str, body: &str) {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        run(Command::new("curl").args(["-sS", "-m", "10", "--fail-with-body", "-X", "POST", "-d", body, &url]));
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        let _ = self.script().arg("stop").output();
    }
}
