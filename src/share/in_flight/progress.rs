//! How far a group will have come once a change is written.

use super::{InFlight, State};
use crate::protocol::record_batch::Offset;
use crate::share::state::lines::StateBatch;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The first offset that is not done with then.
    pub start: Offset,
    /// Offsets from there on that are, for who counts what is left to read.
    pub complete: u64,
}

impl InFlight {
    /// Once `lines`, which are in the order of their offsets, are written.
    pub fn progress_with(&self, lines: &[StateBatch]) -> Progress {
        let start = self.start_with(lines);
        let records = |line: &StateBatch| line.last.abs_diff(line.first) + 1;
        let coming: u64 = lines.iter().filter(|line| line.delivery.is_done()).map(records).sum();
        // All of those below the start then are done with.
        Progress { start, complete: (self.span() - self.live + coming).saturating_sub(start.abs_diff(self.start)) }
    }

    /// Runs and lines are walked side by side, and no further than the start comes.
    fn start_with(&self, lines: &[StateBatch]) -> Offset {
        let mut coming = lines.iter().filter(|line| line.delivery.is_done()).peekable();
        let mut runs = self.runs.iter().peekable();
        let mut at = self.start;
        loop {
            while runs.next_if(|(_, run)| run.last < at).is_some() {}
            while coming.next_if(|line| line.last < at).is_some() {}
            at = match (runs.peek(), coming.peek()) {
                (Some((_, run)), _) if matches!(run.state, State::Done(_)) => run.last + 1,
                (Some(_), Some(line)) if line.first <= at => line.last.min(self.end - 1) + 1,
                _ => return at,
            };
        }
    }
}
