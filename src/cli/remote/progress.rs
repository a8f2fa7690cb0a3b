//! How far a long look at the bucket is: a bar on a terminal, a plain line now and then elsewhere; on standard error, so
//! that results stay by themselves.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use terrace_tiering::inspect::verify::Progress;

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR_WIDTH: usize = 30;

/// Shows the progress of `work` while it runs.
pub(super) async fn shown<T>(unit: &str, progress: &Progress, work: impl Future<Output = T>) -> T {
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal { BAR_EVERY } else { LINE_EVERY };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    let mut work = std::pin::pin!(work);
    let mut drawn = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome,
            _ = ticks.tick() => {
                let (done, total) = (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
                let text = if terminal { format!("\r{}", bar(done, total, unit)) } else { format!("{done} of {total} {unit}\n") };
                // Nothing is left to tell if the terminal is gone.
                let _ = std::io::stderr().write_all(text.as_bytes());
                drawn = terminal;
            }
        }
    };
    if drawn {
        // Back to the line's beginning, and what is on it cleared.
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
    outcome
}

fn bar(done: u64, total: u64, unit: &str) -> String {
    let filled =
        if total == 0 { 0 } else { (done.min(total) as u128 * BAR_WIDTH as u128 / u128::from(total)) as usize };
    let percent = if total == 0 { 0 } else { u128::from(done.min(total)) * 100 / u128::from(total) };
    format!("[{}{}] {percent:>3} % {done} of {total} {unit}", "#".repeat(filled), " ".repeat(BAR_WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(bar(0, 0, "segments"), format!("[{}]   0 % 0 of 0 segments", " ".repeat(30)));
        assert_eq!(bar(1, 2, "x"), format!("[{}{}]  50 % 1 of 2 x", "#".repeat(15), " ".repeat(15)));
        assert_eq!(
            bar(u64::MAX, u64::MAX, "x"),
            format!("[{}] 100 % {max} of {max} x", "#".repeat(30), max = u64::MAX)
        );
    }
}
