//! Which partition lives in which log directory, as a start finds it.
//!
//! A directory that fails is offline from then on, as in Kafka, and the others serve; a node without any that works does
//! not start. Nobody can say what lies in a failed one. So a partition that metadata names and no working directory has
//! belongs to the failed one and is offline with it, until a start finds the directory again: begun anew elsewhere it
//! would give offsets away twice.
//!
//! A partition that a crash met on its way to another directory ([`crate::partition::moving`]) is where its own name is.
//! A copy beside that is made anew. Where the name is nowhere, the copy is whole and gets it, unless some directory
//! failed, which may have it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{OpenError, PartitionDeps};
use crate::log::checkpoint::PartitionMarks;
use crate::log::kafka_files::MetaProperties;
use crate::log::names::{self, MOVED};
use crate::metadata::image::{Image, PartitionId};
use crate::partition::deletion::{self, Copy, Swept};
use crate::partition::node_dirs::{NodeDir, Opened};
use crate::partition::open::Known;

/// The place of a partition's directory among the node's, and what the checkpoint there says of it.
pub(super) type Home = (usize, Option<Known>);

/// What the log directories hold.
pub(super) struct Homes {
    pub(super) dirs: Vec<Arc<NodeDir>>,
    /// Partitions without an entry have no records anywhere.
    pub(super) partitions: HashMap<PartitionId, Home>,
    /// Moves that were under way, and where to.
    pub(super) moves: Vec<(PartitionId, usize)>,
}

/// A directory that works, before its write-ahead log was put back.
struct Working {
    at: usize,
    dir: Arc<NodeDir>,
    known: HashMap<PartitionId, Known>,
    swept: Swept,
}

impl Homes {
    /// Opens the log directories and puts their write-ahead logs back. Blocks.
    pub(super) fn find(deps: &PartitionDeps, image: &Image) -> Result<Self, OpenError> {
        let mut homes = Self { dirs: Vec::new(), partitions: HashMap::new(), moves: Vec::new() };
        let mut working = Vec::new();
        let mut failures = Failures::default();
        for (at, path) in deps.settings.log_dirs.iter().enumerate() {
            let known_to_fail = deps.settings.failed_dirs.iter().find(|(failed, _)| failed == path);
            let looked = match known_to_fail {
                Some((_, why)) => Err(why.clone()),
                None => look(deps, image, at, path).map_err(|error| error.to_string()),
            };
            let dir = match looked {
                Ok(found) => {
                    let dir = Arc::clone(&found.dir);
                    working.push(found);
                    dir
                }
                Err(why) => failures.add(deps, at, path, &why)?,
            };
            homes.dirs.push(dir);
        }
        // What a directory fails at is tried in no other: a copy that was not settled stays for the next start.
        let any_failed = failures.last.is_some();
        for at in 0..working.len() {
            if let Err(error) = homes.settle_copies(deps, image, &mut working, at, any_failed) {
                tracing::error!(directory = %working[at].dir.path().display(), %error, "copies of moves not settled");
            }
        }
        for found in working.iter() {
            for id in &found.swept.partitions {
                homes.partitions.entry(*id).or_insert((found.at, None));
            }
        }
        for mut found in working {
            let (at, dir) = (found.at, Arc::clone(&found.dir));
            if let Err(error) = homes.take_in(deps, image, &mut found) {
                dir.sync().close();
                homes.partitions.retain(|_, (home, _)| *home != at);
                homes.dirs[at] = failures.add(deps, at, dir.path(), &error.to_string())?;
            }
        }
        if failures.lines.len() == homes.dirs.len() {
            return Err(OpenError::LogDirs(failures.lines));
        }
        if let Some(failed) = failures.last {
            homes.give_the_rest_to(failed, image);
        }
        Ok(homes)
    }

    /// What becomes of the copies in one directory.
    fn settle_copies(
        &mut self,
        deps: &PartitionDeps,
        image: &Image,
        working: &mut [Working],
        at: usize,
        any_failed: bool,
    ) -> io::Result<()> {
        for Copy { id, path, marks } in std::mem::take(&mut working[at].swept.copies) {
            let has_name = working.iter().any(|found| found.swept.partitions.contains(&id));
            let topic = image.topic_by_id(&id.topic).filter(|topic| id.partition < topic.partition_count);
            match (topic, marks) {
                (Some(topic), Some(marks)) if !has_name && !any_failed => {
                    let target = &mut working[at];
                    let named = target.dir.path().join(names::partition_dir(&topic.name, id.partition));
                    deps.fs.rename(&path, &named)?;
                    tracing::info!(directory = %named.display(), "move of a partition completed");
                    target.arrived(id, *marks, &named, deps)?;
                    target.swept.partitions.push(id);
                }
                (Some(_), _) if !has_name && any_failed => {}
                (topic, _) => {
                    deps.fs.remove_dir_all(&path)?;
                    if topic.is_some() {
                        self.moves.push((id, working[at].at));
                    }
                }
            }
        }
        Ok(())
    }

    fn take_in(&mut self, deps: &PartitionDeps, image: &Image, found: &mut Working) -> io::Result<()> {
        let Working { at, dir, known, swept } = found;
        let elsewhere = |id: PartitionId| self.partitions.get(&id).is_some_and(|(home, _)| home != at);
        let replayed = dir.replay(image, known, &elsewhere, deps.settings.syncs)?;
        for id in swept.partitions.drain(..).chain(replayed) {
            let (home, of_home) = self.partitions.entry(id).or_insert((*at, None));
            if home == at {
                // The replay names some of those that had a directory once more.
                *of_home = of_home.take().or_else(|| known.remove(&id));
            } else {
                tracing::warn!(?id, directory = %dir.path().display(), "partition has a directory in another log directory too");
            }
        }
        // A partition without files has a place in the checkpoint when its log start is not the beginning.
        let mut any_begins_anew = false;
        for (id, mut known) in known.drain() {
            let alive = image.topic_by_id(&id.topic).is_some_and(|topic| id.partition < topic.partition_count);
            if !alive || self.partitions.contains_key(&id) {
                dir.forget(id);
            } else if known.marks.log_start > 0 || known.marks.checked_end > 0 {
                if known.marks.size_bytes > 0 {
                    tracing::warn!(
                        directory = %dir.path().display(), topic = %known.marks.topic, partition = id.partition,
                        log_start = known.marks.log_start, end = known.marks.checked_end,
                        "directory of a partition that had records is missing; its log begins anew"
                    );
                    known.begin_anew();
                    dir.note_marks(&known.marks);
                    any_begins_anew = true;
                }
                self.partitions.insert(id, (*at, Some(known)));
            }
        }
        // A flushed end of what is gone would keep the next replay from putting back what is acknowledged from here on.
        if any_begins_anew { dir.write_checkpoint() } else { Ok(()) }
    }

    fn give_the_rest_to(&mut self, failed: usize, image: &Image) {
        for topic in image.topics.values() {
            for partition in 0..topic.partition_count {
                let id = PartitionId { topic: topic.id, partition };
                self.partitions.entry(id).or_insert((failed, None));
            }
        }
    }
}

impl Working {
    /// A partition came here from another directory, and the life before did not get to say so in the checkpoint.
    fn arrived(&mut self, id: PartitionId, marks: PartitionMarks, path: &Path, deps: &PartitionDeps) -> io::Result<()> {
        self.dir.note_arrival(&marks)?;
        deps.fs.remove_file(&path.join(MOVED))?;
        let scan_from = marks.flushed_end;
        self.known.insert(id, Known { marks, scan_from });
        Ok(())
    }
}

/// Opens a directory and looks what is in it.
fn look(deps: &PartitionDeps, image: &Image, at: usize, path: &Path) -> io::Result<Working> {
    let min_free_bytes = deps.settings.min_free_bytes.get(at).copied().unwrap_or(0);
    let Opened { dir, known } = NodeDir::open(&deps.fs, path, min_free_bytes, deps.settings.syncs)?;
    let look = || {
        dir.identify(&MetaProperties {
            cluster_id: image.cluster_id.to_string(),
            node_id: deps.settings.node_id,
            directory_id: Some(deps.random.uuid()),
        })?;
        let had_files = |id: PartitionId| known.get(&id).is_some_and(|known| known.marks.size_bytes > 0);
        deletion::sweep(&deps.fs, &deps.random, dir.path(), image, &had_files)
    };
    let mut swept = look().inspect_err(|_| dir.sync().close())?;
    let arrivals = std::mem::take(&mut swept.arrivals);
    let mut working = Working { at, dir, known, swept };
    for Copy { id, path, marks } in arrivals {
        if let Some(marks) = marks.filter(|_| !working.known.contains_key(&id)) {
            let dir = Arc::clone(&working.dir);
            working.arrived(id, *marks, &path, deps).inspect_err(|_| dir.sync().close())?;
        }
    }
    Ok(working)
}

/// The directories that failed.
#[derive(Default)]
struct Failures {
    lines: Vec<String>,
    last: Option<usize>,
}

impl Failures {
    fn add(&mut self, deps: &PartitionDeps, at: usize, path: &Path, why: &str) -> Result<Arc<NodeDir>, OpenError> {
        self.lines.push(format!("{}: {why}", path.display()));
        self.last = Some(at);
        NodeDir::failed(&deps.fs, path, &why).map_err(|error| OpenError::LogDirs(vec![error.to_string()]))
    }
}
