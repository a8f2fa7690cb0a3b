//! Dynamic broker configuration: what clients set on this broker or on all takes effect while the broker runs.
//!
//! Topic defaults are looked up in the metadata image where they are needed ([`Dynamic`](crate::config::layers::Dynamic));
//! everything else is pushed from here to the part that it belongs to. A key that no part can change while it runs is
//! declared as not dynamic, and altering it is refused.

use std::sync::Arc;

use terrace_tiering::platform::task::Tasks;
use tokio::sync::watch;

use crate::api::Node;
use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;
use crate::metadata::image::Image;
use crate::partition::tuning::{Tuned, Tuning};
use crate::server::listener::Connections;

/// Kafka's name of the throttle of moves between log directories.
const MOVE_THROTTLE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// What the operator said with what clients set above it. Values that no longer go together are left out: what is stored
/// was checked when it came in, so the file has changed since.
pub(crate) fn effective(config: &Arc<BrokerConfig>, image: &Image) -> Arc<BrokerConfig> {
    let dynamic = Dynamic::of(&image.broker_configs, config.node_id);
    if dynamic.all_brokers.is_empty() && dynamic.this_broker.is_empty() {
        return Arc::clone(config);
    }
    match config.with_dynamic(dynamic.all_brokers, dynamic.this_broker) {
        Ok(effective) => Arc::new(effective),
        Err(errors) => {
            for error in errors {
                tracing::warn!(%error, "dynamic broker configuration is left out");
            }
            Arc::clone(config)
        }
    }
}

/// The part of a configuration, and of what the image says beside it, that partitions follow.
pub(crate) fn tuned(config: &BrokerConfig, image: &Image) -> Tuned {
    Tuned {
        producer_id_expiration_ms: config.log.producer_id_expiration_ms,
        cleaner_backoff_ms: i64::try_from(config.log.cleaner_backoff_ms).unwrap_or(i64::MAX),
        cleaner_map_bytes: config.log.cleaner_dedupe_bytes,
        move_bytes_per_second: move_bytes_per_second(image, config.node_id),
        transaction_verification: config.log.transaction_verification,
    }
}

/// How fast partitions are copied between log directories. The key exists only as a dynamic one, as in Kafka:
/// `kafka-reassign-partitions` sets it for the time of its moves.
fn move_bytes_per_second(image: &Image, node_id: i32) -> u64 {
    let set = Dynamic::of(&image.broker_configs, node_id).this_broker.get(MOVE_THROTTLE);
    set.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX)
}

/// Who hears of changes.
pub(super) struct Followers {
    pub(super) node: Arc<Node>,
    pub(super) connections: Arc<Connections>,
    pub(super) tuning: Arc<Tuning>,
}

impl Followers {
    /// Follows the image until the tasks stop.
    pub(super) fn follow(self, mut images: watch::Receiver<Arc<Image>>, tasks: &Tasks) {
        let stopping = tasks.stopping();
        tasks.spawn("dynamic-config", async move {
            let mut seen = images.borrow_and_update().broker_configs.clone();
            self.apply(&images.borrow().clone());
            while let Some(Ok(())) = stopping.run_until_cancelled(images.changed()).await {
                let image = Arc::clone(&images.borrow_and_update());
                if image.broker_configs != seen {
                    seen.clone_from(&image.broker_configs);
                    self.apply(&image);
                }
            }
        });
    }

    fn apply(&self, image: &Image) {
        let effective = effective(&self.node.config, image);
        self.connections.set_bounds(&effective.requests);
        self.tuning.set(tuned(&effective, image));
        self.node.effective.send_replace(effective);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn image(all: &[(&str, &str)], this: &[(&str, &str)]) -> Image {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let broker_configs = BTreeMap::from([(String::new(), map(all)), ("1".to_owned(), map(this))]);
        Image { broker_configs, ..Image::default() }
    }

    #[test]
    fn this_broker_goes_before_all_and_all_before_the_file() {
        let config = Arc::new(BrokerConfig::defaults());
        let image = image(
            &[("log.cleaner.backoff.ms", "7"), ("max.connections", "9")],
            &[("max.connections", "8"), ("remote.fetch.max.wait.ms", "6"), (MOVE_THROTTLE, "5")],
        );
        let effective = effective(&config, &image);
        let tuned = tuned(&effective, &image);
        assert_eq!((tuned.cleaner_backoff_ms, tuned.move_bytes_per_second), (7, 5));
        assert_eq!(effective.requests.connections_max, 8);
        assert_eq!(effective.remote.fetch_wait_ms_max, 6);
        assert_eq!(effective.node_id, config.node_id);
    }

    #[test]
    fn what_does_not_go_together_is_left_out() {
        let config = Arc::new(BrokerConfig::defaults());
        let image = image(&[("max.connections.per.ip.overrides", "nonsense")], &[]);
        assert_eq!(effective(&config, &image), config);
    }
}
