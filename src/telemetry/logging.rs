//! The broker's own log lines: `tracing` to standard error, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::loggers;
use crate::config::server::LoggingSettings;

/// Overrides `log.level`.
const LEVEL_VARIABLE: &str = "TERRACE_LOG";

/// Starts logging for the process. A second call changes nothing.
pub fn init(settings: &LoggingSettings) -> Result<(), String> {
    let level = std::env::var(LEVEL_VARIABLE).unwrap_or_else(|_| settings.level.clone());
    let filter = loggers::begin(&level).map_err(|e| format!("log level '{level}' is not valid: {e}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::registry().with(filter);
    let text = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = match settings.json {
        true => lines.with(text.json()).try_init(),
        false => lines.with(text.with_ansi(io::stderr().is_terminal())).try_init(),
    };
    // Tests start more than one broker in a process; the first one's settings stay.
    if started.is_ok() {
        loggers::attach(handle);
    }
    Ok(())
}
