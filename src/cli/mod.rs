//! The command line: one file per subcommand. Without one, `terrace` starts a broker with its defaults.
//!
//! `log` and `remote` read files and the bucket, never the metadata that a running broker holds locked; `status` asks
//! the running broker by HTTP.

mod adopt;
mod config;
mod dlq;
mod log_dump;
mod remote;
mod settings;
mod start;
mod status;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::api::compatibility;
use settings::SettingsArgs;

/// A Kafka-wire-compatible broker with tiered storage.
#[derive(Debug, Parser)]
#[command(name = "terrace", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker until SIGTERM or SIGINT.
    Start(start::StartArgs),
    /// Ask a running broker how it is.
    Status(status::StatusArgs),
    /// Show the configuration that counts, or its documentation.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print which APIs of Apache Kafka are served, as docs/compatibility.md.
    Compatibility,
    /// Look into the object store, check it, clean it.
    #[command(subcommand)]
    Remote(remote::RemoteCommand),
    /// Take over the data of a stopped Apache Kafka broker, once and for good.
    Adopt(adopt::AdoptArgs),
    /// Look into the files of the local log.
    #[command(subcommand)]
    Log(log_dump::LogCommand),
    /// Handle the dead letters of share groups.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
}

/// The program: what the arguments of the process ask for.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// What `arguments`, the program's name first, ask for.
fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => {
            // Nothing is left to tell if the terminal is gone.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(WRONG_ARGUMENTS));
        }
    };
    let done = match cli.command {
        None => start::run(&start::StartArgs::of(cli.settings)),
        Some(Command::Start(arguments)) => start::run(&arguments),
        Some(Command::Status(arguments)) => status::run(&arguments),
        Some(Command::Config(command)) => config::run(&command),
        Some(Command::Adopt(arguments)) => adopt::run(&arguments),
        Some(Command::Compatibility) => show(&compatibility::markdown()),
        Some(Command::Log(command)) => log_dump::run(&command),
        Some(Command::Remote(command)) => remote::run(&command),
        Some(Command::Dlq(command)) => dlq::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in &failure.lines {
                eprintln!("terrace: {line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Writes to standard output. Somebody who reads no further (`| head`) is no failure.
fn show(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}

/// Exit code for arguments and settings that are wrong.
const WRONG_ARGUMENTS: u8 = 2;

/// Why a subcommand ends, a line each, and the exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    lines: Vec<String>,
}

impl Failure {
    /// Something failed.
    fn new(why: impl Display) -> Self {
        Self { code: 1, lines: vec![why.to_string()] }
    }

    /// Arguments or settings are wrong.
    fn wrong<E: Display>(why: impl IntoIterator<Item = E>) -> Self {
        Self { code: WRONG_ARGUMENTS, lines: why.into_iter().map(|line| line.to_string()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain(&[], true)]
    #[case::plain_with_settings(&["--override", "a=b", "--env"], true)]
    #[case::start(&["start", "--config", "f", "--strict-config"], true)]
    #[case::restore(&["start", "--restore", "--cluster-id", "c", "--at", "2026-11-21T22:00Z", "--env"], true)]
    #[case::at_without_restore(&["start", "--at", "5"], false)]
    #[case::at_no_time(&["start", "--restore", "--at", "yesterday"], false)]
    #[case::status(&["status", "--address", "h:1", "--json"], true)]
    #[case::list(&["config", "list", "--all", "--override", "a=b"], true)]
    #[case::doc(&["config", "doc"], true)]
    #[case::ls(&["remote", "ls", "--cluster", "c", "--config", "f"], true)]
    #[case::ls_segments(&["remote", "ls", "orders/3", "--segments", "--json"], true)]
    #[case::ls_of_no_partition(&["remote", "ls", "orders/x"], false)]
    #[case::ls_objects_of_a_topic(&["remote", "ls", "orders", "--objects"], false)]
    #[case::dump(&["remote", "dump", "key", "--out", "f"], true)]
    #[case::verify(&["remote", "verify", "orders", "--full"], true)]
    #[case::gc(&["remote", "gc", "--delete", "--override", "a=b"], true)]
    #[case::doctor(&["remote", "doctor", "--put-abort-rule", "--json"], true)]
    #[case::cost(&["remote", "cost", "--address", "h:1", "--json"], true)]
    #[case::adopt(&["adopt", "a", "b", "--recover", "--override", "node.id=2"], true)]
    #[case::adopt_nothing(&["adopt"], false)]
    #[case::redrive(&["dlq", "redrive", "dlq.t", "--bootstrap-server", "h:1", "--group", "g", "--dry-run"], true)]
    #[case::redrive_of_a_time(&["dlq", "redrive", "t", "--from", "2026-11-21T22:00:00Z", "--source-topic", "s"], true)]
    #[case::redrive_of_no_time(&["dlq", "redrive", "t", "--until", "yesterday"], false)]
    #[case::redrive_nothing(&["dlq", "redrive"], false)]
    #[case::unknown(&["begin"], false)]
    #[case::settings_in_front_of_a_subcommand(&["--env", "start"], false)]
    fn arguments_are_understood(#[case] arguments: &[&str], #[case] understood: bool) {
        let arguments = std::iter::once("terrace").chain(arguments.iter().copied());
        assert_eq!(Cli::try_parse_from(arguments).is_ok(), understood);
    }

    #[rstest]
    #[case(&["start", "--override", "num.partitions=0"])]
    #[case(&["start", "--override", "num.partitons=1"])]
    #[case(&["start", "--override", "x"])]
    #[case(&["start", "--strict-config", "--override", "nobody.knows=1"])]
    #[case(&["start", "--config", "/there/is/no/such/file"])]
    #[case(&["--nonsense"])]
    fn what_is_wrong_ends_before_anything_starts(#[case] arguments: &[&str]) {
        let arguments = std::iter::once("terrace").chain(arguments.iter().copied()).map(OsString::from);
        assert_eq!(run(arguments), ExitCode::from(WRONG_ARGUMENTS));
    }
}
