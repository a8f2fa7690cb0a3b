//! Taking over the data of an Apache Kafka 4.x broker (`terrace adopt`): once, offline, one way.
//!
//! Segments, indexes, snapshots and epochs have Kafka's formats here too, so the partitions stay where they are; what
//! Kafka's controller knew (topics, configuration, quotas, feature levels, the next producer id) comes out of
//! `__cluster_metadata`. Group offsets and transactions lie in their topics and need nothing.
//!
//! Order of events: everything is read and checked first; then a checkpoint of ours is laid beside each directory's files;
//! then `meta.redb` gets its name, which is the moment from which the data is ours; last, Kafka's metadata log moves out
//! of the way. A crash before that moment leaves a directory that Kafka can still start on, and a second try begins anew.
//!
//! | File | What it does |
//! |---|---|
//! | [`metadata_record`] | one record of `__cluster_metadata` |
//! | [`metadata_log`] | its snapshot and segments, record by record |
//! | [`cluster`] | what they amount to |
//! | [`directory`] | a log directory: its identity and how far each partition reaches |
//! | [`plan`] | both sides compared: what will be ours, what is not understood |

pub mod cluster;
pub mod directory;
pub mod metadata_log;
pub mod metadata_record;
pub mod plan;

use std::io;
use std::path::{Path, PathBuf};

use terrace_tiering::platform::fs::{RealFs, SharedFs};
use terrace_tiering::platform::random::SystemRandom;

use crate::config::server::Dirs;
use crate::log::checkpoint::CheckpointWriter;
use crate::metadata::adopted;
use crate::metadata::embedded::{EmbeddedStore, OpenError};
use crate::metadata::store::{CommitError, MetadataStore};
use plan::Plan;

/// Kafka's name for the log of its controllers.
const METADATA_LOG: &str = "__cluster_metadata-0";
/// Where that log goes, in the data directory.
const KEPT_METADATA_LOG: &str = "kafka-cluster-metadata";
/// `meta.redb` until it is complete.
const UNFINISHED: &str = "meta.redb.adopting";

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// A file cannot be read or written.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// A file is not what its name says.
    #[error("{}: {}", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// The directories are not those of one stopped Kafka broker.
    #[error("{0}")]
    Refused(String),
    /// Our own metadata cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The same.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl AdoptError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Io(path, error)
    }
}

/// Reads everything and compares it; touches nothing. With `recover` a broker that did not stop cleanly is taken too.
pub fn look(dirs: &Dirs, recover: bool) -> Result<Plan, AdoptError> {
    if dirs.metadata_file().exists() {
        return Err(AdoptError::Refused(format!(
            "{} exists: this directory belongs to a Terrace broker already",
            dirs.metadata_file().display()
        )));
    }
    let fs = RealFs::shared();
    let directories =
        dirs.logs.iter().map(|path| directory::read(&fs, path, recover)).collect::<Result<Vec<_>, _>>()?;
    let mut logs = dirs.logs.iter().map(|path| path.join(METADATA_LOG)).filter(|path| path.is_dir());
    let metadata = logs.next().or_else(|| Some(dirs.metadata.join(METADATA_LOG)).filter(|path| path.is_dir()));
    let Some(metadata) = metadata else {
        return Err(AdoptError::Refused(format!(
            "none of the directories holds {METADATA_LOG}: name metadata.log.dir too, and only brokers that are their own controller can be adopted"
        )));
    };
    let mut cluster = cluster::Cluster::default();
    metadata_log::read(&fs, &metadata, &mut |record| cluster.apply(record))?;
    Plan::make(cluster, directories, metadata)
}

/// Carries the plan out. The caller holds the locks of all directories.
pub async fn take_over(plan: &Plan, dirs: &Dirs) -> Result<(), AdoptError> {
    let fs = RealFs::shared();
    for directory in &plan.directories {
        // The page cache of a broker that is gone vouches for nothing: what Kafka synced is what counts.
        let mut writer = CheckpointWriter::new(fs.clone(), &directory.path, None, None);
        directory.partitions.iter().for_each(|partition| writer.set(&partition.marks));
        writer.write().map_err(AdoptError::io(&directory.path))?;
    }
    write_metadata(plan, dirs, &fs).await?;
    let kept = dirs.metadata.join(KEPT_METADATA_LOG);
    fs.rename(&plan.metadata_log, &kept).map_err(AdoptError::io(&plan.metadata_log))
}

async fn write_metadata(plan: &Plan, dirs: &Dirs, fs: &SharedFs) -> Result<(), AdoptError> {
    let unfinished = dirs.metadata.join(UNFINISHED);
    fs.remove_file(&unfinished).map_err(AdoptError::io(&unfinished))?;
    adopted::prepare(&**fs, &unfinished, &plan.adopted)?;
    let store = EmbeddedStore::open(&**fs, &unfinished, Some(&plan.adopted.cluster_id), &SystemRandom)?;
    store.commit(None, plan.changes.clone()).await?;
    // Its thread ends, with everything written, before the file gets its name.
    drop(store);
    fs.rename(&unfinished, &dirs.metadata_file()).map_err(AdoptError::io(&unfinished))
}
