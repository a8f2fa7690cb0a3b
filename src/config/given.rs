//! What the operator gave: settings with their origin, from file, environment and command line, the later one winning.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::key::{Key, Standing};
use super::{keys, properties};

/// Where a setting was made; part of every message about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file, on this line.
    File(PathBuf, usize),
    /// In this environment variable.
    Environment(String),
    /// By a client, while the broker ran.
    Dynamic,
    /// By `--override`.
    Override,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(variable) => write!(f, "environment {variable}"),
            Origin::Dynamic => f.write_str("dynamic configuration"),
            Origin::Override => f.write_str("--override"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As it was written.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// A setting that stops the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct ConfigError {
    /// Where it was made; "default" if it was not.
    pub origin: String,
    /// What is wrong: key, value and reason.
    pub reason: String,
}

impl ConfigError {
    /// Wrong at `origin` because of `reason`.
    pub fn new(origin: impl ToString, reason: impl ToString) -> Self {
        Self { origin: origin.to_string(), reason: reason.to_string() }
    }
}

/// Remarks about the settings that do not stop the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Keys that nobody knows.
    pub unknown: Vec<String>,
    /// Kafka's keys that have no meaning here.
    pub accepted: Vec<String>,
    /// Environment variables that were left out on purpose (heap, JMX, logging of the JVM).
    pub ignored_variables: Vec<String>,
}

/// All settings by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    settings: BTreeMap<String, Setting>,
    ignored_variables: Vec<String>,
}

/// Variables of Kafka's start scripts and images that are no settings: heap, JMX, logging, options of the JVM.
fn is_no_setting(name: &str) -> bool {
    let starts = ["HEAP_", "JMX_", "LOG4J_", "TOOLS_LOG4J_", "JVM_", "GC_LOG_"];
    starts.iter().any(|start| name.starts_with(start))
        || name.ends_with("OPTS")
        || matches!(name, "CLUSTER_ID" | "DEBUG" | "HOME" | "VERSION")
}

impl Given {
    /// The settings of a properties file.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::new(path.display(), e))?;
        self.read_text(path, &text)
    }

    /// The settings of the text of a properties file.
    pub fn read_text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        for entry in properties::parse(text).map_err(|e| ConfigError::new(path.display(), e))? {
            self.set(entry.key, entry.value, Origin::File(path.to_owned(), entry.line));
        }
        Ok(())
    }

    /// The settings in `KAFKA_*` variables, by the mapping of Kafka's own image.
    pub fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix("KAFKA_") else { continue };
            if is_no_setting(name) {
                self.ignored_variables.push(variable);
                continue;
            }
            self.set(key_of_variable(name), value, Origin::Environment(variable));
        }
    }

    /// One `key=value` of the command line.
    pub fn read_override(&mut self, text: &str) -> Result<(), ConfigError> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| ConfigError::new(Origin::Override, format!("'{text}' is not key=value")))?;
        self.set(key.trim().to_owned(), value.to_owned(), Origin::Override);
        Ok(())
    }

    /// Sets one key, above what was set before.
    pub(super) fn set(&mut self, key: String, value: String, origin: Origin) {
        self.settings.insert(key, Setting { value: value.trim().to_owned(), origin });
    }

    /// The setting of a key, if it was made.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// All settings, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// Looks at the names: a near miss of a known key is an error, in `strict` mode every unknown key is.
    pub fn check_names(&self, strict: bool) -> (Remarks, Vec<ConfigError>) {
        let mut remarks = Remarks { ignored_variables: self.ignored_variables.clone(), ..Remarks::default() };
        let mut errors = Vec::new();
        for (name, setting) in self.iter() {
            match keys::broker(name) {
                Some(Key { standing: Standing::Accepted, .. }) => remarks.accepted.push(name.to_owned()),
                Some(_) => {}
                // Settings of plug-ins, and of topics by Kafka's old habit, belong to nobody here.
                None => match near_miss(name) {
                    Some(known) => {
                        let reason = format!("unknown key '{name}', did you mean '{known}'?");
                        errors.push(ConfigError::new(&setting.origin, reason));
                    }
                    None if strict => {
                        errors.push(ConfigError::new(&setting.origin, format!("unknown key '{name}'")));
                    }
                    None => remarks.unknown.push(name.to_owned()),
                },
            }
        }
        (remarks, errors)
    }
}

/// `LOG__RETENTION_MS___X` → `log_retention.ms-x`: three underscores are a dash, two are one, one is a dot.
fn key_of_variable(name: &str) -> String {
    name.to_lowercase().replace("___", "-").replace("__", "\u{0}").replace('_', ".").replace('\u{0}', "_")
}

/// The known key within an edit distance of 2, the nearest one.
fn near_miss(name: &str) -> Option<&'static str> {
    let near = |known: &&'static str| Some((edit_distance(name, known, 2)?, *known));
    keys::BROKER.keys().filter_map(near).min().map(|(_, known)| known)
}

/// Insertions, deletions and replacements between two texts, if at most `most`.
fn edit_distance(a: &str, b: &str, most: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests;
