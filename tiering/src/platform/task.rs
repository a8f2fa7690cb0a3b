//! Background work with a name, an end and a rule for failures.
//!
//! Every long-lived task of the broker is started here, so that a drain can wait for all of them and a panic in one is
//! seen. Tasks per request belong to their connection instead.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts tasks and ends them together.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    /// No task yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the broker stops; every task watches it.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Runs `work` until it ends. A panic is logged with the task's name; the process goes on.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, name: impl Into<Arc<str>>, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        self.tracker.spawn(async move {
            if let Err(failure) = tokio::spawn(work).await
                && failure.is_panic()
            {
                metrics::counter!("terrace_task_panics_total").increment(1);
                tracing::error!(task = %name, "background task panicked; what it did stops until the next start");
            }
        });
    }

    /// Asks every task to end and waits for them, at most `within`. False if some still run.
    pub async fn stop(&self, within: Duration) -> bool {
        self.stopping.cancel();
        self.tracker.close();
        tokio::time::timeout(within, self.tracker.wait()).await.is_ok()
    }
}
