//! The broker under test: a process of its own on a data directory of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How to start a broker.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `key=value` lines of server.properties, over the test's own.
    pub properties: BTreeMap<String, String>,
    /// Environment variables, such as `TERRACE_CRASH_AT`.
    pub env: BTreeMap<String, String>,
    /// Arguments behind `start`.
    pub args: Vec<String>,
}

impl Options {
    /// The options of every test: small, fast, silent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one property.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.properties.insert(key.to_owned(), value.to_string());
        self
    }

    /// Adds an argument of `start`.
    #[must_use]
    pub fn arg(mut self, argument: impl ToString) -> Self {
        self.args.push(argument.to_string());
        self
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl ToString) -> Self {
        self.env.insert(key.to_owned(), value.to_string());
        self
    }
}

/// A running broker; killed when dropped.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// Where HTTP answers.
    pub http: SocketAddr,
    data: PathBuf,
    owned: Option<TempDir>,
    output: mpsc::Receiver<String>,
}

/// Where cargo put the binary: it tells tests by an environment variable; a test binary that is run by hand looks beside
/// itself.
pub fn binary() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_broker_under_test").map_or_else(
        || {
            let test = std::env::current_exe().expect("a running test has a path");
            test.parent().and_then(Path::parent).expect("tests lie in target/*/deps").join("broker_under_test")
        },
        PathBuf::from,
    )
}

/// A port that was free a moment ago, and the next one too (Kafka's controller takes it). They lie below the range from
/// which the kernel takes the ports of connections, so that none of these has it by the time a slow server binds it.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test processes that run at once begin at different places; two calls never get the same.
    let begin = std::process::id().wrapping_mul(262) % COUNT;
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let candidates = std::iter::repeat_with(|| FIRST + (begin + NEXT.fetch_add(2, Ordering::Relaxed)) % COUNT);
    let mut ports = candidates.take(COUNT as usize).map(|port| port as u16);
    ports.find(|port| is_free(*port) && is_free(*port + 1)).expect("loopback has a free port")
}

impl Broker {
    /// Starts a broker on a fresh data directory and waits until it listens.
    pub fn start(options: &Options) -> Self {
        let owned = TempDir::new().expect("a temporary directory");
        let mut broker = Self::start_in(owned.path(), options);
        broker.owned = Some(owned);
        broker
    }

    /// Starts a broker on `data` and waits until it listens.
    pub fn start_in(data: &Path, options: &Options) -> Self {
        Self::try_start_in(data, options, free_port()).unwrap_or_else(|(status, output)| {
            panic!("the broker ended with {status} before it listened:\n{}", output.join("\n"))
        })
    }

    /// Starts a broker on `data` and `port`; an error holds its exit status and output if it ends before it listens.
    pub fn try_start_in(data: &Path, options: &Options, port: u16) -> Result<Self, (ExitStatus, Vec<String>)> {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let kafka = SocketAddr::from(([127, 0, 0, 1], port));
        let mut properties = BTreeMap::from([
            ("terrace.data.dir".to_owned(), data.display().to_string()),
            ("listeners".to_owned(), format!("PLAINTEXT://{kafka}")),
            ("admin.listeners".to_owned(), format!("http://{http}")),
            ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned()),
        ]);
        properties.extend(options.properties.clone());
        let mut command = Command::new(binary());
        command.arg("start").args(&options.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (key, value) in &properties {
            command.arg("--override").arg(format!("{key}={value}"));
        }
        command.envs(&options.env);
        let mut child = command.spawn().expect("the broker under test is built by cargo test");
        let (lines, output) = mpsc::channel();
        for stream in [
            Box::new(child.stdout.take().expect("piped")) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().expect("piped")),
        ] {
            let lines = lines.clone();
            std::thread::spawn(move || {
                let echo = std::env::var_os("TERRACE_TEST_LOG").is_some();
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if echo {
                        eprintln!("broker: {line}");
                    }
                    if lines.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        // The output ends when the two threads end, so nobody else may hold its sender.
        drop(lines);
        let mut broker = Self { child, kafka, http, data: data.to_owned(), owned: None, output };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(kafka).is_err() {
            if let Some(status) = broker.child.try_wait().expect("a child can be asked") {
                return Err((status, broker.output.iter().collect()));
            }
            assert!(Instant::now() < deadline, "the broker listens within 20 s");
            // No event tells another process's listen(2); this is the only place that looks again.
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(broker)
    }

    /// The address as clients' configuration wants it.
    pub fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it printed since it was last asked.
    pub fn output(&self) -> Vec<String> {
        self.output.try_iter().collect()
    }

    /// `kill -9`, and waits until it is gone. The data directory stays, as long as the returned guard lives.
    pub fn kill(mut self) -> Stopped {
        self.child.kill().expect("our own child can be killed");
        self.ended()
    }

    /// SIGTERM, and waits for the drain. Panics if it takes longer than 20 s.
    pub fn stop(mut self) -> Stopped {
        let pid = i32::try_from(self.child.id()).expect("pids are small");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).expect("a child has a pid"),
            rustix::process::Signal::TERM,
        )
        .expect("our own child can be signalled");
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().expect("a child can be asked").is_none() {
            assert!(Instant::now() < deadline, "the broker drains within 20 s:\n{}", self.output().join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ended()
    }

    /// Waits until it ends by itself, as at a crash point. Panics after `within`.
    pub fn wait(mut self, within: Duration) -> Stopped {
        let deadline = Instant::now() + within;
        while self.child.try_wait().expect("a child can be asked").is_none() {
            assert!(Instant::now() < deadline, "the broker ends within {within:?}:\n{}", self.output().join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ended()
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    fn ended(&mut self) -> Stopped {
        let status = self.child.wait().expect("a child can be waited for");
        Stopped {
            status,
            data: self.data.clone(),
            port: self.kafka.port(),
            output: self.output.iter().collect(),
            owned: self.owned.take(),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Fine if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a broker left behind; keeps a temporary data directory alive.
#[derive(Debug)]
pub struct Stopped {
    /// How the process ended.
    pub status: ExitStatus,
    /// Its data directory.
    pub data: PathBuf,
    /// All it printed that nobody had read.
    pub output: Vec<String>,
    port: u16,
    owned: Option<TempDir>,
}

impl Stopped {
    /// The disk is lost: nothing is left in the data directory.
    pub fn wipe(&self) {
        for entry in std::fs::read_dir(&self.data).expect("the data directory").flatten() {
            let path = entry.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.expect("our own files can be removed");
        }
    }

    /// Starts a broker that is to refuse; what it printed.
    pub fn restart_refused(&self, options: &Options) -> Vec<String> {
        match Broker::try_start_in(&self.data, options, self.port) {
            Ok(_) => panic!("the broker starts"),
            Err((status, output)) => {
                assert!(!status.success(), "a refusal is a failure");
                output
            }
        }
    }

    /// Starts a broker that dies of its own accord before it serves. Panics if it has not within `within`.
    pub fn restart_to_die(self, options: &Options, within: Duration) -> Self {
        match Broker::try_start_in(&self.data, options, self.port) {
            Ok(broker) => Self { owned: self.owned, ..broker.wait(within) },
            Err((status, output)) => Self { status, output, ..self },
        }
    }

    /// Starts a broker on what is left, on the same port.
    pub fn restart(self, options: &Options) -> Broker {
        let mut broker = Broker::try_start_in(&self.data, options, self.port).unwrap_or_else(|(status, output)| {
            panic!("the broker ended with {status} at its restart:\n{}", output.join("\n"))
        });
        broker.owned = self.owned;
        broker
    }
}
