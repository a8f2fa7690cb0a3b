//! Metrics that clients push (KIP-714): which client is asked for what, when it may speak, and what it said last.
//!
//! Subscriptions are configuration (resource type CLIENT_METRICS) and live in the metadata image. What is kept here is
//! about clients that spoke lately, belongs to the process and is bounded: so many clients, so many series of each and of
//! all. What they said comes out at `/metrics`. Unlike Kafka, which needs a plug-in for it, a broker here always listens.

mod instances;
mod otlp;
mod series;
mod subscriptions;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::metadata::image::Image;
use crate::protocol::compression::{Compression, decompress};
use crate::telemetry::scrape::Scrape;
use instances::Instances;
use series::Series;
pub use subscriptions::Client;

/// What a client may send compressed, best first, by Kafka's numbers: zstd, lz4, gzip, snappy.
pub const ACCEPTED_COMPRESSION: [i8; 4] = [4, 3, 1, 2];
/// How much larger than `telemetry.max.bytes` metrics may become when they are decompressed.
const GROWTH_MAX: u64 = 16;

/// Why a client is not listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The id is none that a client may have, or the client has said that it goes.
    #[error("the client may not push under this id")]
    Request,
    /// It comes too early.
    #[error("the push interval has not passed")]
    TooEarly,
    /// It was asked for something else meanwhile.
    #[error("the subscription is another one")]
    Subscription,
    /// A compression that nobody knows.
    #[error("unknown compression type")]
    Compression,
    /// More than `telemetry.max.bytes`.
    #[error("more than telemetry.max.bytes")]
    TooLarge,
    /// The metrics cannot be read.
    #[error("the metrics are damaged")]
    Damaged,
}

/// What a client is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The client's id, drawn for it if it had none.
    pub instance: Uuid,
    /// Another one when anything of this changes.
    pub id: i32,
    /// Between two pushes.
    pub interval_ms: i32,
    /// Prefixes of names, or `*`.
    pub metrics: Vec<String>,
}

/// What a client pushes.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The client's id.
    pub instance: Uuid,
    /// The subscription that it answers.
    pub subscription: i32,
    /// It will not come again.
    pub terminating: bool,
    /// Kafka's number.
    pub compression: i8,
    /// `MetricsData` of OpenTelemetry.
    pub metrics: &'a [u8],
}

/// All that is known of clients that push.
pub struct ClientMetrics {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    instances: Instances,
    series: Series,
}

impl fmt::Debug for ClientMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientMetrics").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

impl ClientMetrics {
    /// Nobody has spoken yet. `bytes_max` is `telemetry.max.bytes`.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// `telemetry.max.bytes`.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What `client` is asked for; `fresh` becomes its id if it has none.
    pub fn subscribe(
        &self,
        image: &Image,
        client: &Client<'_>,
        fresh: Uuid,
        now_ms: i64,
    ) -> Result<Subscription, Refused> {
        let id = if client.instance.is_nil() { fresh } else { client.instance };
        let client = Client { instance: id, ..*client };
        let mut state = self.state();
        let State { instances, series } = &mut *state;
        let instance = instances.of(image, &client, now_ms, |gone| series.forget(gone));
        instance.asks(now_ms)?;
        Ok(Subscription {
            instance: id,
            id: instance.subscription_id(),
            interval_ms: instance.wanted().interval_ms,
            metrics: instance.wanted().metrics.iter().cloned().collect(),
        })
    }

    /// Takes what `client` says.
    pub fn push(&self, image: &Image, client: &Client<'_>, push: &Push<'_>, now_ms: i64) -> Result<(), Refused> {
        if is_reserved(push.instance) {
            return Err(Refused::Request);
        }
        let wanted = {
            let mut state = self.state();
            let State { instances, series } = &mut *state;
            let instance = instances.of(image, client, now_ms, |gone| series.forget(gone));
            instance.pushes(push, self.bytes_max, now_ms)?;
            instance.wanted().clone()
        };
        // Outside of the lock: this takes time, and one client must not hold up another.
        let codec = Compression::from_id(i16::from(push.compression)).map_err(|_| Refused::Compression)?;
        let most = (self.bytes_max as u64).saturating_mul(GROWTH_MAX);
        let bytes = decompress(codec, push.metrics, most).map_err(|_| Refused::Damaged)?;
        let samples = otlp::read(&bytes, |name| wanted.wants(name)).map_err(|_| Refused::Damaged)?;
        self.state().series.take(push.instance, client.id, samples);
        Ok(())
    }

    /// Tells what clients said last.
    pub fn collect(&self, scrape: &mut Scrape, now_ms: i64) {
        let mut state = self.state();
        let State { instances, series } = &mut *state;
        instances.expire(now_ms, |gone| series.forget(gone));
        series.collect(scrape, instances.len());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing durable hangs on it: what a panic left half done is at worst a wrong number.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids that Kafka keeps for itself.
fn is_reserved(instance: Uuid) -> bool {
    instance.as_u128() <= 1
}

#[cfg(test)]
mod tests;
