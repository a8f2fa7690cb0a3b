//! Threads of a directory's own. A network file system that hangs takes as many threads as it is asked by, for ever; those
//! of the runtime also serve the local log and must not be among them.

use std::future::Future;
use std::io;
use std::pin::pin;

use tokio::runtime::{Builder, Handle, Runtime};

/// So many calls wait for the file system at once; what comes behind waits for one of them.
const THREADS_MAX: usize = 64;

/// A pool of threads that may block.
#[derive(Debug)]
pub(super) struct Threads {
    handle: Handle,
    /// Its blocking threads are all that is used of it; `None` while it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// None of them runs yet.
    pub(super) fn new() -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(THREADS_MAX).thread_name("remote-directory").build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Awaits work that blocks on threads of the runtime that it finds: it finds this one.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            let _here = self.handle.enter();
            work.as_mut().poll(context)
        })
        .await
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A thread that hangs in the kernel is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn calls_that_hang_leave_the_threads_of_the_runtime_alone() {
        let threads = Threads::new().expect("threads");
        let (release, hangs) = mpsc::channel::<()>();
        let hangs = std::sync::Arc::new(std::sync::Mutex::new(hangs));
        let calls: Vec<_> = (0..600)
            .map(|_| {
                let hangs = std::sync::Arc::clone(&hangs);
                let block =
                    async { tokio::task::spawn_blocking(move || drop(hangs.lock().map(|gate| gate.recv()))).await };
                tokio::time::timeout(Duration::from_millis(1), threads.run(block))
            })
            .collect();
        assert!(futures::future::join_all(calls).await.iter().all(Result::is_err), "all of them hang");
        // More than the runtime has threads, and it still has one.
        let other = tokio::task::spawn_blocking(|| 7);
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), other).await.expect("in time").expect("ran"), 7);
        drop(release);
    }
}
