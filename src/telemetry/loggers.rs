//! The loggers whose levels clients can change while the broker runs (KIP-412): a root, and one per part of the program.
//!
//! What is written at a level of Kafka comes out at the level of `tracing` of the same name; `FATAL` is its `ERROR`. The
//! levels belong to the process and are forgotten with it, as Kafka's are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

/// The logger that all others inherit from.
pub const ROOT: &str = "root";

/// The loggers by name, which are paths of modules: a logger speaks for the modules below it too.
pub const NAMES: [&str; 16] = [
    ROOT,
    "terrace",
    "terrace::api",
    "terrace::broker",
    "terrace::coordinator",
    "terrace::group",
    "terrace::log",
    "terrace::metadata",
    "terrace::partition",
    "terrace::remote_log",
    "terrace::server",
    "terrace::telemetry",
    "terrace::transaction",
    "terrace::wal",
    "terrace_tiering",
    "terrace_tiering::platform",
];

/// A level, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing. Only `log.level` can say it.
    Off,
    /// As `Error`.
    Fatal,
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The levels that a client may set, by name.
    const SETTABLE: [(&str, Level); 6] = [
        ("DEBUG", Level::Debug),
        ("ERROR", Level::Error),
        ("FATAL", Level::Fatal),
        ("INFO", Level::Info),
        ("TRACE", Level::Trace),
        ("WARN", Level::Warn),
    ];

    /// The level that a client means.
    pub fn named(name: &str) -> Option<Self> {
        Self::SETTABLE.into_iter().find(|(known, _)| *known == name).map(|(_, level)| level)
    }

    /// The names of the levels that a client may set.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::SETTABLE.into_iter().map(|(name, _)| name)
    }

    /// As a filter of `tracing` has it.
    fn of_directive(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Some(Self::Off),
            "error" => Some(Self::Error),
            "warn" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }

    fn directive(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Fatal | Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "OFF",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        })
    }
}

/// One logger gets a level, or inherits one from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelStep {
    /// One of [`NAMES`].
    pub logger: &'static str,
    /// `None`: that of the logger above.
    pub level: Option<Level>,
}

/// Levels by logger, and what else `log.level` said.
#[derive(Debug, Default)]
struct Levels {
    set: BTreeMap<String, Level>,
    /// Directives for spans, fields and the like; they stay as they were given.
    others: Vec<String>,
}

impl Levels {
    fn parse(filter: &str) -> Self {
        let mut levels = Self::default();
        for directive in filter.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let (target, level) = directive.split_once('=').unwrap_or((ROOT, directive));
            match Level::of_directive(level) {
                Some(level) if !target.contains(['[', '{']) => drop(levels.set.insert(target.to_owned(), level)),
                _ => levels.others.push(directive.to_owned()),
            }
        }
        levels
    }

    fn filter(&self) -> Result<EnvFilter, ParseError> {
        let mut directives = self.others.clone();
        directives.extend(self.set.iter().map(|(target, level)| match target.as_str() {
            ROOT => level.directive().to_owned(),
            target => format!("{target}={}", level.directive()),
        }));
        EnvFilter::try_new(directives.join(","))
    }

    /// The level that counts for a logger: its own, or that of the nearest one above.
    fn level(&self, logger: &str) -> Level {
        let mut name = logger;
        loop {
            if let Some(level) = self.set.get(name) {
                return *level;
            }
            name = match name.rsplit_once("::") {
                Some((above, _)) => above,
                // Without a directive for everything, `tracing` writes errors only.
                None if name == ROOT => return Level::Error,
                None => ROOT,
            };
        }
    }

    fn step(&mut self, step: LevelStep) {
        match step.level {
            Some(level) => drop(self.set.insert(step.logger.to_owned(), level)),
            None => drop(self.set.remove(step.logger)),
        }
    }
}

/// The levels of this process.
struct Loggers {
    levels: Levels,
    /// What puts them into effect; `None` until logging has started.
    handle: Option<Handle<EnvFilter, Registry>>,
}

static LOGGERS: Mutex<Loggers> =
    Mutex::new(Loggers { levels: Levels { set: BTreeMap::new(), others: Vec::new() }, handle: None });

fn loggers() -> MutexGuard<'static, Loggers> {
    LOGGERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over what `log.level` says; the filter that it means.
pub(super) fn begin(filter: &str) -> Result<EnvFilter, ParseError> {
    let mut loggers = loggers();
    loggers.levels = Levels::parse(filter);
    loggers.levels.filter()
}

/// From here on changes go to `handle`.
pub(super) fn attach(handle: Handle<EnvFilter, Registry>) {
    loggers().handle = Some(handle);
}

/// All loggers with the levels that count.
pub fn levels() -> Vec<(&'static str, Level)> {
    let loggers = loggers();
    NAMES.map(|name| (name, loggers.levels.level(name))).into()
}

/// Changes levels, at once.
pub fn set(steps: &[LevelStep]) {
    let mut loggers = loggers();
    for step in steps {
        tracing::info!(logger = step.logger, level = step.level.map(|l| l.to_string()), "log level changes");
        loggers.levels.step(*step);
    }
    let put = loggers.levels.filter().map_err(|error| error.to_string()).and_then(|filter| match &loggers.handle {
        Some(handle) => handle.reload(filter).map_err(|error| error.to_string()),
        None => Ok(()),
    });
    if let Err(error) = put {
        tracing::error!(error, "log levels cannot be changed");
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("info", ROOT, Level::Info)]
    #[case("info", "terrace::api", Level::Info)]
    #[case("warn,terrace::api=debug", "terrace::api", Level::Debug)]
    #[case("warn,terrace=trace", "terrace::api", Level::Trace)]
    #[case("warn,terrace=trace", "terrace_tiering", Level::Warn)]
    #[case("terrace=trace", ROOT, Level::Error)]
    #[case("off", "terrace", Level::Off)]
    #[case("info,[span{field}]=debug", "terrace", Level::Info)]
    fn the_nearest_level_counts(#[case] filter: &str, #[case] logger: &str, #[case] expected: Level) {
        assert_eq!(Levels::parse(filter).level(logger), expected);
    }

    #[test]
    fn a_level_is_set_and_inherited_again() {
        let mut levels = Levels::parse("info,[span]=trace");
        levels.step(LevelStep { logger: "terrace::api", level: Some(Level::Debug) });
        levels.step(LevelStep { logger: ROOT, level: Some(Level::Fatal) });
        assert_eq!(levels.filter().expect("sound").to_string(), "terrace::api=debug,error,[span]=trace");
        levels.step(LevelStep { logger: "terrace::api", level: None });
        assert_eq!(levels.level("terrace::api"), Level::Fatal);
    }
}
