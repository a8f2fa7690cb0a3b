//! One scrape: samples that their owners tell, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::metrics::{Kind, Metric};

/// Collects samples, grouped by metric as the format demands.
#[derive(Debug, Default)]
pub struct Scrape {
    families: BTreeMap<&'static str, (Metric, String)>,
}

impl Scrape {
    /// One sample.
    pub fn sample(&mut self, metric: &Metric, labels: &[(&str, &str)], value: f64) {
        self.line(metric, "", labels, value);
    }

    /// How many observations a summary has seen.
    pub fn count(&mut self, metric: &Metric, labels: &[(&str, &str)], count: u64) {
        self.line(metric, "_count", labels, count as f64);
    }

    fn line(&mut self, metric: &Metric, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let (_, text) = self.families.entry(metric.name).or_insert_with(|| (*metric, String::new()));
        text.push_str(metric.name);
        text.push_str(suffix);
        for (i, (name, label)) in labels.iter().enumerate() {
            text.push(if i == 0 { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            escape(text, label);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, " {value}");
    }

    /// The text of all samples.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, (metric, lines)) in &self.families {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Summary => "summary",
            };
            let _ = write!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n{lines}", metric.help);
        }
        out
    }
}

fn escape(out: &mut String, label: &str) {
    for c in label.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{LOG_SIZE, PARTITION_COUNT};

    #[test]
    fn samples_are_grouped_and_labels_escaped() {
        let mut scrape = Scrape::default();
        scrape.sample(&PARTITION_COUNT, &[], 2.0);
        scrape.sample(&LOG_SIZE, &[("topic", "a\"b"), ("partition", "0")], 1.5);
        scrape.sample(&PARTITION_COUNT, &[("x", "y")], 3.0);
        let text = scrape.render();
        assert!(text.contains("kafka_log_log_size{topic=\"a\\\"b\",partition=\"0\"} 1.5\n"), "{text}");
        let count = "# TYPE kafka_server_replicamanager_partitioncount gauge\n\
                     kafka_server_replicamanager_partitioncount 2\n\
                     kafka_server_replicamanager_partitioncount{x=\"y\"} 3\n";
        assert!(text.contains(count), "{text}");
    }
}
