//! Which subscriptions fit a client, and what they ask of it together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use uuid::Uuid;

use crate::config::{rules, value};
use crate::metadata::image::ConfigOverrides;

/// Asks for every metric.
const ALL: &str = "*";
/// `interval.ms` where nobody set it.
const INTERVAL_MS: i32 = 300_000;

/// A client as subscriptions know it.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The id that it has been given; nil before.
    pub instance: Uuid,
    /// As it calls itself.
    pub id: &'a str,
    /// Its library, as told to ApiVersions.
    pub software_name: &'a str,
    /// The library's version.
    pub software_version: &'a str,
    /// Where it comes from.
    pub address: SocketAddr,
}

impl Client<'_> {
    fn attribute(&self, name: &str) -> String {
        match name {
            "client_instance_id" => crate::protocol::uuid_text::encode(self.instance),
            "client_id" => self.id.to_owned(),
            "client_software_name" => self.software_name.to_owned(),
            "client_software_version" => self.software_version.to_owned(),
            "client_source_address" => self.address.ip().to_string(),
            "client_source_port" => self.address.port().to_string(),
            _ => String::new(),
        }
    }

    fn fits(&self, pairs: &str) -> bool {
        value::elements(pairs).into_iter().all(|pair| {
            // Patterns were checked when they came in.
            rules::client_pattern(pair).is_some_and(|(name, pattern)| pattern.is_match(&self.attribute(name)))
        })
    }
}

/// What a client is asked for by all subscriptions that fit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The shortest of their intervals.
    pub(super) interval_ms: i32,
    /// Prefixes of names; `*` alone for all.
    pub(super) metrics: BTreeSet<String>,
}

impl Wanted {
    pub(super) fn resolve(subscriptions: &BTreeMap<String, ConfigOverrides>, client: &Client<'_>) -> Self {
        let of = |config: &ConfigOverrides, key: &str| config.get(key).cloned().unwrap_or_default();
        let fitting: Vec<_> = subscriptions.values().filter(|config| client.fits(&of(config, "match"))).collect();
        let intervals = fitting.iter().map(|config| of(config, "interval.ms").trim().parse().unwrap_or(INTERVAL_MS));
        let mut metrics: BTreeSet<String> = fitting
            .iter()
            .flat_map(|config| {
                value::elements(&of(config, "metrics")).into_iter().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        if metrics.contains(ALL) {
            metrics = BTreeSet::from([ALL.to_owned()]);
        }
        Self { interval_ms: intervals.min().unwrap_or(INTERVAL_MS), metrics }
    }

    /// Was this metric asked for?
    pub(super) fn wants(&self, name: &str) -> bool {
        self.metrics.iter().any(|prefix| prefix == ALL || name.starts_with(prefix.as_str()))
    }

    /// Another number for another subscription or client.
    pub(super) fn id(&self, instance: Uuid) -> i32 {
        let mut text = String::new();
        for metric in &self.metrics {
            text += metric;
            text.push('\0');
        }
        text += &self.interval_ms.to_string();
        let folded = instance.as_u128() ^ (instance.as_u128() >> 64);
        let half = u32::from_be_bytes([(folded >> 24) as u8, (folded >> 16) as u8, (folded >> 8) as u8, folded as u8]);
        (crc32c::crc32c(text.as_bytes()) ^ half).cast_signed()
    }
}
