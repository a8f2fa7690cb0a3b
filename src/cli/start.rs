//! `terrace start`: reads the settings, restores if asked, starts the broker, says so, waits for a signal, drains.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::settings::SettingsArgs;
use super::{Failure, show};
use crate::broker::Broker;
use crate::broker::locks::Locks;
use crate::config::given::Remarks;
use crate::config::machine;
use crate::config::server::BrokerConfig;
use crate::restore::{self, report};
use crate::telemetry::logging;

/// How to start.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// Come back from the bucket alone, on an empty data directory: topics, settings, group offsets, transactions, data.
    #[arg(long)]
    restore: bool,
    /// With --restore: the cluster; needed only if several are stored below remote.storage.uri.
    #[arg(long, value_name = "ID", requires = "restore")]
    cluster_id: Option<String>,
    /// With --restore: as it was at this time, such as 2026-11-21T22:00:00Z or milliseconds since 1970.
    #[arg(long, value_name = "TIME", requires = "restore", value_parser = time)]
    at: Option<i64>,
    #[command(flatten)]
    settings: SettingsArgs,
}

fn time(text: &str) -> Result<i64, String> {
    report::parse_utc(text).ok_or_else(|| "a time is written 2026-11-21T22:00:00Z, or in milliseconds".to_owned())
}

impl StartArgs {
    /// A start with these settings and nothing else.
    pub(super) fn of(settings: SettingsArgs) -> Self {
        Self { restore: false, cluster_id: None, at: None, settings }
    }
}

/// Runs a broker until a signal; a second one while it drains ends it at once.
pub(super) fn run(arguments: &StartArgs) -> Result<(), Failure> {
    // Before the settings, whose defaults go by it.
    machine::raise_open_files();
    let (config, remarks) = arguments.settings.read()?;
    logging::init(&config.logging).map_err(|e| Failure::wrong([e]))?;
    tell(&remarks);
    tell_open_files(machine::open_files_max());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::new)?;
    let restored =
        arguments.restore.then(|| restore::Request { cluster_id: arguments.cluster_id.clone(), at_ms: arguments.at });
    runtime.block_on(serve(config, restored))
}

async fn serve(config: BrokerConfig, restored: Option<restore::Request>) -> Result<(), Failure> {
    // Before the first port is open, so that no signal is missed.
    let mut signals = Signals::listen().map_err(Failure::new)?;
    match restored {
        Some(request) => {
            // An unfinished restore is taken up again by the next --restore, so that a signal may end it anywhere.
            let restoring = restore_first(&config, &request);
            tokio::select! {
                restored = restoring => restored?,
                () = signals.next() => return Err(Failure::new("ended by a signal before the restore was complete")),
            }
        }
        None if restore::is_unfinished(&config) => {
            return Err(Failure::new(format!(
                "{}: a restore did not finish here; start with --restore to begin it anew",
                config.dirs.metadata.display()
            )));
        }
        None => {}
    }
    let lines = Banner::of(&config);
    let broker = Broker::start(config).await.map_err(Failure::new)?;
    // A broker whose standard output is gone serves all the same.
    let _ = show(&lines.text(broker.cluster_id(), broker.kafka_addresses(), broker.http_addresses()));
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = broker.failed() => Some(failure),
    };
    tracing::info!("stopping");
    tokio::select! {
        () = broker.stop() => failure.map_or(Ok(()), |failure| Err(Failure::new(failure))),
        () = signals.next() => Err(Failure::new("second signal: ended without draining")),
    }
}

/// Restores onto the empty directories and says what came back.
async fn restore_first(config: &BrokerConfig, request: &restore::Request) -> Result<(), Failure> {
    let locks = Locks::take(&config.dirs).map_err(Failure::new)?;
    let config = Arc::new(config.clone());
    let report = restore::restore(&config, &locks.failed, request).await.map_err(Failure::new)?;
    for warning in report.warnings() {
        tracing::warn!("{warning}");
    }
    // A broker whose standard output is gone serves all the same.
    let _ = show(&report.to_string());
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// One line for each kind of remark, however many keys it is about.
fn tell(remarks: &Remarks) {
    if !remarks.unknown.is_empty() {
        tracing::warn!(keys = remarks.unknown.join(" "), "unknown keys are ignored");
    }
    if !remarks.accepted.is_empty() {
        tracing::info!(keys = remarks.accepted.join(" "), "these keys have no effect here");
    }
    if !remarks.ignored_variables.is_empty() {
        tracing::info!(variables = remarks.ignored_variables.join(" "), "variables for a JVM are ignored");
    }
}

/// Fewer descriptors than a middling load takes are worth a line; the limit is the system's, not a setting of ours.
fn tell_open_files(limit: u64) {
    const ENOUGH: u64 = 16_384;
    if limit < ENOUGH {
        tracing::warn!(
            limit,
            "few files and connections can be open at once; raise the hard limit (ulimit -Hn, LimitNOFILE) for many clients"
        );
    }
}

/// What a newcomer wants to know at the start.
struct Banner {
    node_id: i32,
    data: String,
    tiering: String,
}

impl Banner {
    fn of(config: &BrokerConfig) -> Self {
        let shown = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        let mut data = shown(&config.dirs.data);
        let inside = config.dirs.logs.iter().all(|log| log.starts_with(&config.dirs.data));
        if !inside {
            let logs: Vec<String> = config.dirs.logs.iter().map(|log| shown(log)).collect();
            data = format!("{data}, log in {}", logs.join(", "));
        }
        let remote = &config.remote;
        let tiering = match (remote.enable, remote.uri_is_set) {
            (false, _) => "off (remote.log.storage.system.enable=false)".to_owned(),
            (true, true) => format!("{}, sealed segments are copied at once", remote.uri),
            (true, false) => format!("{}, segments move there when local retention ends", remote.uri),
        };
        Self { node_id: config.node_id, data, tiering }
    }

    fn text(&self, cluster_id: &str, kafka: &[(String, SocketAddr)], http: &[SocketAddr]) -> String {
        let mut text = format!("terrace {}, node {}, cluster {cluster_id}\n", env!("CARGO_PKG_VERSION"), self.node_id);
        for (name, address) in kafka {
            text += &format!("  listening  {name}://{address}\n");
        }
        for address in http {
            text += &format!("  http       http://{address} (/status /metrics /livez /readyz)\n");
        }
        text + &format!("  data       {}\n  tiering    {}\n", self.data, self.tiering)
    }
}
