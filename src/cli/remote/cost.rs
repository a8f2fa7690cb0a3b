//! `terrace remote cost`: what is stored, by topic, and what a running broker asked the store for since it started, at the
//! prices of `remote.cost.*`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::topics::Stored;
use super::{BucketArgs, Failure, not_asked};
use crate::cli::status;
use crate::config::server::Prices;
use crate::remote_log::cost::storage_price;
use crate::telemetry::status::{PurposeStatus, Status};

const MONTH_S: f64 = 30.0 * 24.0 * 3600.0;

/// Whose cost.
#[derive(Debug, Args)]
pub(in crate::cli) struct CostArgs {
    /// The broker's HTTP address, one of admin.listeners. Without it one on this machine is asked, if there is one.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    #[command(flatten)]
    bucket: BucketArgs,
}

#[derive(Debug, Serialize)]
struct Cost {
    currency: String,
    topics: Vec<TopicCost>,
    stored_bytes: u64,
    stored_price_per_month: f64,
    /// Segments that no newest manifest names are stored too.
    unnamed_bytes: u64,
    requests: Option<Requests>,
    /// Why there are none.
    no_requests: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct TopicCost {
    topic: String,
    segments: u64,
    bytes: u64,
    price_per_month: f64,
}

#[derive(Debug, Serialize)]
struct Requests {
    /// Since the broker started.
    seconds: u64,
    price: f64,
    price_per_month_at_this_rate: f64,
    purposes: Vec<PurposeStatus>,
}

pub(super) async fn run(arguments: &CostArgs) -> Result<(), Failure> {
    let opened = arguments.bucket.open().await?;
    let prices = &opened.config.remote.prices;
    let stored = Stored::find(&opened.tier, None).await?;
    let mut topics: BTreeMap<String, TopicCost> = BTreeMap::new();
    for (root, manifest) in opened.tier.survey(|_| true).await.map_err(not_asked)? {
        let topic = stored.name(root.topic);
        let of_topic = topics.entry(topic.clone()).or_insert_with(|| TopicCost { topic, ..TopicCost::default() });
        for entry in manifest.iter().flat_map(|manifest| &manifest.entries) {
            of_topic.segments += 1;
            of_topic.bytes += entry.object_bytes;
        }
    }
    for topic in topics.values_mut() {
        topic.price_per_month = storage_price(topic.bytes, prices);
    }
    let objects = opened.tier.all_segments().await.map_err(not_asked)?;
    let stored_bytes: u64 = objects.values().flatten().map(|object| object.object_bytes).sum();
    let named: u64 = topics.values().map(|topic| topic.bytes).sum();
    let asked = ask(arguments, opened.tier.cluster_id(), prices);
    let (requests, no_requests) = match asked {
        Ok(requests) => (Some(requests), None),
        Err(why) => (None, Some(why)),
    };
    let cost = Cost {
        currency: prices.currency.clone(),
        topics: topics.into_values().collect(),
        stored_bytes,
        stored_price_per_month: storage_price(stored_bytes, prices),
        unnamed_bytes: stored_bytes.saturating_sub(named),
        requests,
        no_requests,
    };
    arguments.bucket.show(&cost, text)?;
    match cost.no_requests {
        // Who names a broker wants its answer.
        Some(why) if arguments.address.is_some() => Err(not_asked(why)),
        _ => Ok(()),
    }
}

fn ask(arguments: &CostArgs, cluster: &str, prices: &Prices) -> Result<Requests, String> {
    let address = arguments.address.as_deref().unwrap_or(status::DEFAULT_ADDRESS);
    let told: Status = status::ask(address).map_err(|error| format!("{address}: {error}"))?;
    if told.cluster_id != cluster {
        return Err(format!("{address}: the broker there is of cluster {}", told.cluster_id));
    }
    if told.tier.currency != prices.currency {
        return Err(format!("{address}: the broker there counts in {}", told.tier.currency));
    }
    let price: f64 = told.tier.usage.iter().map(|usage| usage.price).sum();
    Ok(Requests {
        seconds: told.uptime_seconds,
        price,
        price_per_month_at_this_rate: price * MONTH_S / told.uptime_seconds.max(1) as f64,
        purposes: told.tier.usage,
    })
}

fn text(cost: &Cost) -> String {
    let currency = &cost.currency;
    let mut text = String::new();
    for TopicCost { topic, segments, bytes, price_per_month } in &cost.topics {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{topic}: {segments} segments, {bytes} bytes, {price_per_month:.4} {currency} a month");
    }
    let (bytes, price, unnamed) = (cost.stored_bytes, cost.stored_price_per_month, cost.unnamed_bytes);
    let _ = writeln!(text, "stored: {bytes} bytes, {unnamed} of them unnamed, {price:.4} {currency} a month");
    if let Some(why) = &cost.no_requests {
        let _ = writeln!(text, "requests are not known: {why}");
    }
    if let Some(requests) = &cost.requests {
        let _ = writeln!(
            text,
            "{:<9} {:>10} {:>10} {:>10} {:>14} {:>14} {:>12}",
            "purpose", "class A", "class B", "free", "sent", "received", currency
        );
        for each in &requests.purposes {
            let PurposeStatus { purpose, class_a, class_b, free, sent_bytes, received_bytes, price } = each;
            let _ = writeln!(
                text,
                "{purpose:<9} {class_a:>10} {class_b:>10} {free:>10} {sent_bytes:>14} {received_bytes:>14} {price:>12.6}"
            );
        }
        let Requests { seconds, price, price_per_month_at_this_rate: month, .. } = requests;
        let _ = writeln!(
            text,
            "requests in {seconds} s: {price:.6} {currency}, {month:.4} {currency} a month at this rate"
        );
    }
    text
}
