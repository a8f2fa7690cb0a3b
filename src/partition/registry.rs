//! All partitions of this node, following the metadata image.

use std::path::PathBuf;
use std::sync::Arc;

use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::fs::SharedFs;
use terrace_tiering::platform::random::SharedRandom;
use terrace_tiering::platform::task::Tasks;

use super::Partition;
use crate::config::topic::TopicConfig;
use crate::metadata::image::{Image, PartitionId, Topic};

/// Resolves a topic's effective configuration; comes from `config`.
pub type ResolveConfig = Arc<dyn Fn(&Image, &Topic) -> Arc<TopicConfig> + Send + Sync>;

/// What the broker's configuration says to the partitions.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: i64,
    /// `log.cleaner.backoff.ms`: between two looks at what is dirty.
    pub cleaner_backoff_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`: most bytes of the offset map of a cleaning.
    pub cleaner_map_bytes: u64,
    /// `remote.segment.roll.ms`: a quiet active segment of a tiered topic rolls when its first record is older; `None` never.
    pub remote_segment_roll_ms: Option<i64>,
    /// How often the checkpoint is written when something changed.
    pub checkpoint_interval_ms: u64,
}

/// What partitions are made with.
#[derive(Clone)]
pub struct PartitionDeps {
    /// The file system.
    pub fs: SharedFs,
    /// The wall clock.
    pub clock: SharedClock,
    /// Jitter comes from here.
    pub random: SharedRandom,
    /// What the broker's configuration says.
    pub settings: LogSettings,
    /// Topic configurations.
    pub resolve_config: ResolveConfig,
}

/// Why the partitions of this node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A log directory cannot be used.
    #[error("log directory {}: {source}", path.display())]
    LogDir {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// All partitions of this node.
pub struct Partitions {}

impl Partitions {
    /// Opens what the log directories hold of the image's topics, through recovery where the last stop was none.
    pub fn open(deps: PartitionDeps, image: &Image) -> Result<Arc<Self>, OpenError> {
        let _ = (deps, image);
        todo!()
    }

    /// Starts what runs beside the appends: following `images`, checkpoints, due work.
    pub fn start(self: &Arc<Self>, tasks: &Tasks, images: tokio::sync::watch::Receiver<Arc<Image>>) {
        let _ = (tasks, images);
        todo!()
    }

    /// Takes over a new image: partitions created, configured, deleted. Returns when the partitions can be asked for.
    /// The API that committed calls it before it answers, so that a client never meets a topic without partitions.
    pub fn follow(&self, image: &Image) {
        let _ = image;
        todo!()
    }

    /// The partition with this id.
    pub fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        let _ = id;
        todo!()
    }

    /// The partition with this number of the topic with this name.
    pub fn by_name(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let _ = (topic, partition);
        todo!()
    }

    /// All partitions.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        todo!()
    }

    /// A clean stop: rolls nothing, syncs everything, writes the last checkpoint and Kafka's own files.
    pub fn close(&self) {
        todo!()
    }
}
