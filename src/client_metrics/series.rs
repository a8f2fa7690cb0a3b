//! What clients said last, as samples of two metrics whose labels name the rest.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::otlp::{Progress, Sample};
use crate::protocol::uuid_text;
use crate::telemetry::metrics;
use crate::telemetry::scrape::Scrape;

/// Series that one client may have.
const OF_ONE_MAX: usize = 512;
/// Series that all clients may have together.
const OF_ALL_MAX: usize = 16_384;

/// What a series is called: the metric and its attributes.
type Name = (String, Vec<(String, String)>);

#[derive(Debug, Clone, Copy)]
struct Last {
    value: f64,
    is_counter: bool,
}

#[derive(Debug, Default)]
struct OfClient {
    client_id: String,
    last: BTreeMap<Name, Last>,
}

/// All series by client.
#[derive(Debug, Default)]
pub(super) struct Series {
    clients: HashMap<Uuid, OfClient>,
    count: usize,
    /// Samples for which there was no room.
    dropped: u64,
}

impl Series {
    /// Takes the samples of one push.
    pub(super) fn take(&mut self, instance: Uuid, client_id: &str, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let client = self.clients.entry(instance).or_default();
        client_id.clone_into(&mut client.client_id);
        for Sample { metric, attributes, progress, value } in samples {
            let is_counter = progress != Progress::Gauge;
            if let Some(last) = client.last.get_mut(&(metric.clone(), attributes.clone())) {
                let before = if progress == Progress::Delta && last.is_counter { last.value } else { 0.0 };
                *last = Last { value: before + value, is_counter };
            } else if client.last.len() < OF_ONE_MAX && self.count < OF_ALL_MAX {
                client.last.insert((metric, attributes), Last { value, is_counter });
                self.count += 1;
            } else {
                self.dropped += 1;
            }
        }
    }

    /// The client is forgotten, and what it said.
    pub(super) fn forget(&mut self, instance: Uuid) {
        if let Some(client) = self.clients.remove(&instance) {
            self.count -= client.last.len();
        }
    }

    pub(super) fn collect(&self, scrape: &mut Scrape, clients: usize) {
        scrape.sample(&metrics::CLIENTS_PUSHING, &[], clients as f64);
        scrape.sample(&metrics::CLIENT_SAMPLES_DROPPED, &[], self.dropped as f64);
        for (instance, client) in &self.clients {
            let instance = uuid_text::encode(*instance);
            for ((metric, attributes), last) in &client.last {
                let named: Vec<(String, &str)> =
                    attributes.iter().map(|(key, value)| (label(key), value.as_str())).collect();
                let mut labels = vec![
                    ("metric", metric.as_str()),
                    ("client_id", client.client_id.as_str()),
                    ("client_instance_id", instance.as_str()),
                ];
                for (key, value) in &named {
                    // A label that occurs twice spoils the whole scrape.
                    if !labels.iter().any(|(known, _)| known == key) {
                        labels.push((key.as_str(), *value));
                    }
                }
                let family = if last.is_counter { &metrics::CLIENT_COUNTER } else { &metrics::CLIENT_GAUGE };
                scrape.sample(family, &labels, last.value);
            }
        }
    }
}

/// An attribute's name as a label's, which has fewer characters to choose from.
fn label(attribute: &str) -> String {
    let name: String = attribute.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("attribute_{}", name.trim_matches('_'))
}
