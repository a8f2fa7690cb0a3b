//! The node's three jobs over partitions: following images, the checkpoint, due work.

use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::platform::task::Tasks;
use tokio::sync::watch;

use super::Partitions;
use crate::log::segment::remove_deleted;
use crate::metadata::image::Image;
use crate::partition::Shared;
use crate::partition::due::{DueQueue, Work};

/// The longest sleep of the due-work task: the wall clock may jump, tokio's does not.
const SLEEP_MS_MAX: i64 = 10_000;

pub(super) fn start(partitions: &Arc<Partitions>, tasks: &Tasks, images: watch::Receiver<Arc<Image>>) {
    tasks.spawn("partitions-follow-metadata", follow(Arc::clone(partitions), images, tasks.clone()));
    let (of_opener, stopping) = (Arc::clone(partitions), tasks.stopping());
    tasks.spawn("partitions-opener", async move {
        off_worker(&of_opener, move |partitions| partitions.open_rest(&stopping)).await;
    });
    tasks.spawn("log-checkpoint", checkpoint(Arc::clone(partitions), tasks.clone()));
    tasks.spawn("partition-due-work", due_work(Arc::clone(partitions), |shared| &shared.due, tasks.clone()));
    tasks.spawn("log-dir-moves", due_work(Arc::clone(partitions), |shared| &shared.moves.queue, tasks.clone()));
    let (of_moves, stopping) = (Arc::clone(partitions), tasks.stopping());
    tasks.spawn("log-dir-moves-stop", async move {
        stopping.cancelled().await;
        of_moves.shared().moves.stop();
    });
    tasks.spawn("log-cleaner", due_work(Arc::clone(partitions), |shared| &shared.cleaning, tasks.clone()));
}

impl Partitions {
    /// As [`Partitions::follow`], on a thread that may block: the directories of deleted topics are renamed.
    pub async fn followed(self: &Arc<Self>, image: Arc<Image>) {
        off_worker(self, move |partitions| partitions.follow(&image)).await;
    }
}

/// Runs `work` on a thread that may block, and waits for it; a panic in it was logged by the panic hook.
async fn off_worker(partitions: &Arc<Partitions>, work: impl FnOnce(&Partitions) + Send + 'static) {
    let partitions = Arc::clone(partitions);
    if let Err(failure) = tokio::task::spawn_blocking(move || work(&partitions)).await {
        tracing::error!(%failure, "a job over partitions failed; it runs again");
    }
}

async fn follow(partitions: Arc<Partitions>, mut images: watch::Receiver<Arc<Image>>, tasks: Tasks) {
    let stopping = tasks.stopping();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        partitions.followed(image).await;
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
    }
}

async fn checkpoint(partitions: Arc<Partitions>, tasks: Tasks) {
    let stopping = tasks.stopping();
    let interval = Duration::from_millis(partitions.shared().settings.checkpoint_interval_ms);
    loop {
        tokio::select! {
            // The last checkpoint is the clean stop's.
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(interval) => {
                let work = |partitions: &Partitions| {
                    partitions.look_at_space();
                    partitions.checkpoint();
                };
                off_worker(&partitions, work).await;
            }
        }
    }
}

async fn due_work(partitions: Arc<Partitions>, queue: fn(&Shared) -> &DueQueue, tasks: Tasks) {
    let stopping = tasks.stopping();
    loop {
        let now_ms = partitions.shared().clock.now_ms();
        let next_ms = queue(partitions.shared()).next_ms().unwrap_or(i64::MAX);
        let sleep_ms = next_ms.saturating_sub(now_ms).clamp(0, SLEEP_MS_MAX);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = queue(partitions.shared()).earlier() => {}
            () = tokio::time::sleep(Duration::from_millis(sleep_ms.unsigned_abs())) => {
                off_worker(&partitions, move |partitions| do_due_work(partitions, queue(partitions.shared()))).await;
            }
        }
    }
}

/// Does what is due in `queue` by now.
pub(super) fn do_due_work(partitions: &Partitions, queue: &DueQueue) {
    let shared = partitions.shared();
    let now_ms = shared.clock.now_ms();
    while let Some(work) = queue.pop(now_ms) {
        let outcome = match &work {
            Work::Flush(id) => partitions.get(*id).map_or(Ok(()), |partition| {
                partition.flush_due();
                Ok(())
            }),
            Work::Roll(id) => partitions
                .get(*id)
                .map_or(Ok(()), |partition| partition.roll_due(now_ms).map_err(|error| error.to_string())),
            Work::Retention(id) => partitions
                .get(*id)
                .map_or(Ok(()), |partition| partition.retention_due(now_ms).map_err(|error| error.to_string())),
            Work::Clean(id) => partitions
                .get(*id)
                .map_or(Ok(()), |partition| partition.clean(now_ms).map_err(|error| error.to_string())),
            Work::Move(id) => {
                if let Some(partition) = partitions.get(*id) {
                    partition.run_move();
                }
                Ok(())
            }
            Work::RemoveSegment { directory, base } => {
                remove_deleted(&shared.fs, directory, *base).map_err(|error| error.to_string())
            }
            Work::RemoveDirectory(path) => shared.fs.remove_dir_all(path).map_err(|error| error.to_string()),
        };
        if let Err(error) = outcome {
            tracing::warn!(?work, error, "due work failed; it is tried again when it is due next");
        }
    }
}
