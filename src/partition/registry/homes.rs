//! Which partition lives in which log directory, as a start finds it.
//!
//! A directory that fails is offline from then on, as in Kafka, and the others serve; a node without any that works does
//! not start. Nobody can say what lies in a failed one. So a partition that metadata names and no working directory has
//! belongs to the failed one and is offline with it, until a start finds the directory again: begun anew elsewhere it
//! would give offsets away twice.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{OpenError, PartitionDeps};
use crate::log::kafka_files::MetaProperties;
use crate::metadata::image::{Image, PartitionId};
use crate::partition::deletion;
use crate::partition::node_dirs::{NodeDir, Opened};
use crate::partition::open::Known;

/// A partition's directory, and what the checkpoint there says of it.
pub(super) type Home = (Arc<NodeDir>, Option<Known>);

/// What the log directories hold.
pub(super) struct Homes {
    pub(super) dirs: Vec<Arc<NodeDir>>,
    /// Partitions without an entry have no records anywhere.
    pub(super) partitions: HashMap<PartitionId, Home>,
}

impl Homes {
    /// Opens the log directories and puts their write-ahead logs back. Blocks.
    pub(super) fn find(deps: &PartitionDeps, image: &Image) -> Result<Self, OpenError> {
        let mut homes = Self { dirs: Vec::new(), partitions: HashMap::new() };
        let mut failures = Vec::new();
        let mut failed_dir = None;
        for (at, path) in deps.settings.log_dirs.iter().enumerate() {
            let known_to_fail = deps.settings.failed_dirs.iter().find(|(failed, _)| failed == path);
            let why = match known_to_fail {
                Some((_, why)) => why.clone(),
                None => match homes.add(deps, image, at, path) {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                },
            };
            let failed = NodeDir::failed(&deps.fs, path, &why);
            failures.push(format!("{}: {why}", path.display()));
            homes.dirs.push(failed.map_err(|error| OpenError::LogDirs(vec![error.to_string()]))?);
            failed_dir = homes.dirs.last().cloned();
        }
        if failures.len() == homes.dirs.len() {
            return Err(OpenError::LogDirs(failures));
        }
        if let Some(failed) = failed_dir {
            homes.give_the_rest_to(&failed, image);
        }
        Ok(homes)
    }

    fn add(&mut self, deps: &PartitionDeps, image: &Image, at: usize, path: &Path) -> io::Result<()> {
        let min_free_bytes = deps.settings.min_free_bytes.get(at).copied().unwrap_or(0);
        let opened = NodeDir::open(&deps.fs, path, min_free_bytes, deps.settings.syncs)?;
        let dir = Arc::clone(&opened.dir);
        self.take_in(deps, image, opened).inspect_err(|_| dir.sync().close())
    }

    fn take_in(&mut self, deps: &PartitionDeps, image: &Image, opened: Opened) -> io::Result<()> {
        let Opened { dir, mut known } = opened;
        let path = dir.path();
        dir.identify(&MetaProperties {
            cluster_id: image.cluster_id.to_string(),
            node_id: deps.settings.node_id,
            directory_id: Some(deps.random.uuid()),
        })?;
        let had_files = |id: PartitionId| known.get(&id).is_some_and(|known| known.marks.size_bytes > 0);
        let mut found = deletion::sweep(&deps.fs, &deps.random, path, image, &had_files)?;
        found.extend(dir.replay(image, &known, deps.settings.syncs)?);
        for id in found {
            self.partitions.entry(id).or_insert_with(|| (Arc::clone(&dir), known.remove(&id)));
        }
        // A partition without files has a place in the checkpoint when its log start is not the beginning.
        for (id, known) in known {
            let alive = image.topic_by_id(&id.topic).is_some_and(|topic| id.partition < topic.partition_count);
            if !alive {
                dir.forget(id);
            } else if known.marks.log_start > 0 || known.marks.checked_end > 0 {
                self.partitions.entry(id).or_insert_with(|| (Arc::clone(&dir), Some(known)));
            }
        }
        self.dirs.push(dir);
        Ok(())
    }

    fn give_the_rest_to(&mut self, failed: &Arc<NodeDir>, image: &Image) {
        for topic in image.topics.values() {
            for partition in 0..topic.partition_count {
                let id = PartitionId { topic: topic.id, partition };
                self.partitions.entry(id).or_insert_with(|| (Arc::clone(failed), None));
            }
        }
    }
}
