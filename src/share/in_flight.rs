//! At whom the records of a share partition are: the state of every offset from the first that is not done with to the
//! first that nobody ever got.
//!
//! ```text
//!            start                                            end
//!   done with  │ acquired │ available │ done │  acquired ...   │ never given out
//!  ────────────┴──────────┴───────────┴──────┴─────────────────┴──────────────────> offsets
//!
//!  available ──acquire──> acquired ──accept──────────────> acknowledged ┐
//!      ^                     │ ─────reject, gap──────────> archived     ├ done: leaves at the front
//!      └──release, lock over─┘ ─────the same, too often──> archived     ┘
//!                                                            ^
//!  with dead letters (KIP-1191): rejected, too often ──> archiving, until the dead letter is durable
//! ```
//! Neighbours of one state are one run, so a million records given to one member in one piece cost what one costs. What an
//! acknowledgement changes counts when the share coordinator has it: until then the run settles, and a refused write puts
//! it back (KIP-932).

use std::collections::{BTreeMap, HashSet};

use super::state::lines::{Delivery, StateBatch};
use crate::protocol::record_batch::Offset;

mod progress;

pub use progress::Progress;

/// Stands for a member within one share partition.
pub type Holder = u32;

/// What a member says of a record (KIP-932, AcknowledgeTypes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// There is no record at this offset: compacted, or a control record.
    Gap,
    /// Processed.
    Accept,
    /// To be delivered again.
    Release,
    /// Never to be delivered again.
    Reject,
    /// Still being worked on: the lock begins anew (KIP-1222).
    Renew,
}

/// Records given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquired {
    /// First offset.
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// How often they were given out, this time included.
    pub count: i16,
}

/// Why an acknowledgement changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// INVALID_REQUEST: offsets that were never given out.
    NeverGivenOut,
    /// INVALID_RECORD_STATE: not acquired, or by somebody else.
    NotHeld,
}

/// Until when a member has the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Who.
    pub holder: Holder,
    /// Monotonic milliseconds.
    pub until_ms: u64,
}

/// Why a record becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A member said so.
    Rejected,
    /// It was given out as often as the group allows.
    TooOften,
}

/// What becomes of a record once the share coordinator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It may be given out again, not before this monotonic time.
    Back {
        from_ms: u64,
    },
    Done(Delivery),
    DeadLetter(Cause),
}

impl Fate {
    fn delivery(self) -> Delivery {
        match self {
            Self::Back { .. } => Delivery::Available,
            Self::Done(delivery) => delivery,
            Self::DeadLetter(_) => Delivery::Archiving,
        }
    }

    fn state(self) -> State {
        match self {
            Self::Back { from_ms } => State::Available { from_ms },
            Self::Done(delivery) => State::Done(delivery),
            Self::DeadLetter(cause) => State::Archiving(Some(cause)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `from_ms`: not before this monotonic time.
    Available {
        from_ms: u64,
    },
    Acquired(Lock),
    /// On its way to the share coordinator.
    Settling {
        lock: Lock,
        to: Fate,
    },
    /// Its dead letter is not written. The share coordinator keeps no cause: there is none for what it was before a start.
    Archiving(Option<Cause>),
    Done(Delivery),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    last: Offset,
    state: State,
    count: i16,
}

/// How long a record that was given back waits: `first_ms` after its first delivery, each time `multiplier` times as long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// After the first delivery; 0: it does not wait.
    pub first_ms: u64,
    /// The longest, unless `first_ms` is longer.
    pub max_ms: u64,
    /// From one delivery to the next.
    pub multiplier: f64,
}

impl Backoff {
    /// The monotonic time from which a record that was given out `count` times may be given out again.
    fn until_ms(self, count: i16, now_ms: u64) -> u64 {
        if self.first_ms == 0 {
            return 0;
        }
        let times = self.multiplier.powi(i32::from(count.max(1)) - 1);
        // Saturates, and whatever is no number is none.
        let wait = (self.first_ms as f64 * times) as u64;
        now_ms.saturating_add(wait.clamp(self.first_ms, self.max_ms.max(self.first_ms)))
    }
}

/// Whether records may become dead letters now.
pub trait DeadLetters {
    /// How many of `records` that failed may; the others are given back.
    fn admit(&self, records: u64) -> u64;

    /// So many records were accepted.
    fn accepted(&self, records: u64);
}

/// How a record that was not processed comes back, or does not.
#[derive(Clone, Copy)]
pub struct Redelivery<'a> {
    /// After so many deliveries it does not (`share.delivery.count.limit`).
    pub count_limit: i16,
    /// How long it waits.
    pub backoff: Backoff,
    /// The monotonic time.
    pub now_ms: u64,
    /// `None`: the group has no dead letters, so that records are archived at once.
    pub dead_letters: Option<&'a dyn DeadLetters>,
}

/// Records that wait for their dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archiving {
    /// First offset.
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// How often they were given out.
    pub count: i16,
    /// Why; `None` for those of before the last start.
    pub cause: Option<Cause>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct InFlight {
    /// By first offset; they cover `start..end` without a gap, and no two neighbours are alike.
    runs: BTreeMap<Offset, Run>,
    start: Offset,
    end: Offset,
    /// Records that are not done with.
    live: u64,
    /// Those of them that wait for their dead letters.
    archiving: u64,
}

impl InFlight {
    /// As the share coordinator has it. What lies between its lines was never given out.
    pub fn new(start: Offset, lines: &[StateBatch]) -> Self {
        let mut found = Self { start, end: start, ..Self::default() };
        for line in lines.iter().filter(|line| line.last >= start) {
            let first = line.first.max(start);
            if first < found.end || line.last < first {
                continue;
            }
            found.give_out_to(first);
            let state = match line.delivery {
                Delivery::Available => State::Available { from_ms: 0 },
                Delivery::Archiving => State::Archiving(None),
                done @ (Delivery::Acknowledged | Delivery::Archived) => State::Done(done),
            };
            found.push(line.last, state, line.count);
        }
        found.forget_done();
        found
    }

    /// The first offset that is not done with.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Behind the last offset that was ever given out.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Records that are not done with.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// How many new ones may be given out when the records from start to end may be `most`, as with Kafka: those that are
    /// done with behind one that is not count, or what has to be remembered of them had no bound. Up to `most` that wait for
    /// their dead letters do not.
    pub fn room(&self, most: u64) -> u64 {
        most.saturating_sub(self.span() - self.archiving.min(most))
    }

    fn span(&self) -> u64 {
        self.end.abs_diff(self.start)
    }

    /// Those who have records, or had those that settle.
    pub fn holders(&self) -> HashSet<Holder> {
        let holder = |run: &Run| match run.state {
            State::Acquired(lock) | State::Settling { lock, .. } => Some(lock.holder),
            _ => None,
        };
        self.runs.values().filter_map(holder).collect()
    }

    /// The first records that wait for their dead letters.
    pub fn archiving(&self, most_runs: usize) -> Vec<Archiving> {
        if self.archiving == 0 {
            return Vec::new();
        }
        let waiting = self.runs.iter().filter_map(|(first, run)| match run.state {
            State::Archiving(cause) => Some(Archiving { first: *first, last: run.last, count: run.count, cause }),
            _ => None,
        });
        waiting.take(most_runs).collect()
    }

    /// What to tell the share coordinator when the dead letters of `first..=last` are durable, or there are to be none.
    pub fn archived(&self, first: Offset, last: Offset) -> Vec<StateBatch> {
        let line = |(at, run): (Offset, &Run)| {
            let line = StateBatch {
                first: at.max(first),
                last: run.last.min(last),
                delivery: Delivery::Archived,
                count: run.count,
            };
            matches!(run.state, State::Archiving(_)).then_some(line)
        };
        self.within(first, last).filter_map(line).collect()
    }

    /// Where the next fetch begins: the first offset that may be given out now.
    pub fn next_offset(&self, now_ms: u64) -> Offset {
        self.next_offset_from(self.start, now_ms)
    }

    /// The same from an offset on.
    pub fn next_offset_from(&self, from: Offset, now_ms: u64) -> Offset {
        self.free(from, self.end, now_ms).next().map_or(self.end, |(first, ..)| first)
    }

    /// When the next lock is over or the next record may come back; `None`: nothing will change by itself. The lock of what
    /// settles counts: it holds again when the share coordinator refuses.
    pub fn next_moment(&self, now_ms: u64) -> Option<u64> {
        let moment = |run: &Run| match run.state {
            State::Acquired(lock) | State::Settling { lock, .. } => Some(lock.until_ms),
            State::Available { from_ms } if from_ms > now_ms => Some(from_ms),
            _ => None,
        };
        self.runs.values().filter_map(moment).min()
    }

    /// What of `first..=last` may be given out again: runs with first and last offset and their deliveries so far.
    pub fn free(&self, first: Offset, last: Offset, now_ms: u64) -> impl Iterator<Item = (Offset, Offset, i16)> {
        self.within(first, last).filter_map(move |(at, run)| match run.state {
            State::Available { from_ms } if from_ms <= now_ms => Some((at.max(first), run.last.min(last), run.count)),
            _ => None,
        })
    }

    /// Gives out at most `most` of the records `first..=last` that may be given out. Offsets from `end` on are taken as new;
    /// `first` must not lie above it.
    pub fn acquire(&mut self, first: Offset, last: Offset, most: u64, lock: Lock, now_ms: u64) -> Vec<Acquired> {
        let mut given = Vec::new();
        let mut left = most;
        let mut at = first.max(self.start);
        while at <= last && left > 0 {
            let most_here = at.saturating_add(i64::try_from(left - 1).unwrap_or(i64::MAX));
            if at >= self.end {
                let to = last.min(most_here);
                self.give_out_to(at);
                self.push(to, State::Acquired(lock), 1);
                given.push(Acquired { first: at, last: to, count: 1 });
                break;
            }
            let run = self.run_at(at);
            let to = run.last.min(last);
            if matches!(run.state, State::Available { from_ms } if from_ms <= now_ms) {
                let to = to.min(most_here);
                let count = run.count.saturating_add(1);
                self.set(at, to, |_| (State::Acquired(lock), count));
                given.push(Acquired { first: at, last: to, count });
                left -= to.abs_diff(at) + 1;
                at = to + 1;
            } else {
                at = to + 1;
            }
        }
        given
    }

    /// Checks that `holder` has all of `first..=last`. Below the start all is done with, and nothing is said about it.
    pub fn check(&self, holder: Holder, first: Offset, last: Offset) -> Result<(), Refused> {
        if last >= self.end {
            return Err(Refused::NeverGivenOut);
        }
        let held = |run: &Run| matches!(run.state, State::Acquired(lock) if lock.holder == holder);
        if self.within(first, last).all(|(_, run)| held(run)) { Ok(()) } else { Err(Refused::NotHeld) }
    }

    /// Does what a member says of records that it has, see [`InFlight::check`]. What the share coordinator has to be told is
    /// added to `lines`.
    pub fn acknowledge(
        &mut self,
        (first, last): (Offset, Offset),
        said: Acknowledgement,
        lock: Lock,
        back: Redelivery<'_>,
        lines: &mut Vec<StateBatch>,
    ) {
        let first = first.max(self.start);
        if last < first {
            return;
        }
        match said {
            Acknowledgement::Accept => {
                if let Some(letters) = back.dead_letters {
                    letters.accepted(last.abs_diff(first) + 1);
                }
                self.settle(first, last, lines, |_| Fate::Done(Delivery::Acknowledged));
            }
            Acknowledgement::Gap => self.settle(first, last, lines, |_| Fate::Done(Delivery::Archived)),
            Acknowledgement::Reject => self.fail(first, last, Cause::Rejected, back, lines),
            Acknowledgement::Release => self.take_back(first, last, |_| true, back, lines),
            Acknowledgement::Renew => self.set(first, last, |run| (State::Acquired(lock), run.count)),
        }
    }

    /// All that `holder` has goes back, because it left.
    pub fn release(&mut self, holder: Holder, back: Redelivery<'_>, lines: &mut Vec<StateBatch>) {
        self.take_back(self.start, self.end, |lock| lock.holder == holder, back, lines);
    }

    /// All that was held for too long goes back.
    pub fn expire(&mut self, now_ms: u64, back: Redelivery<'_>, lines: &mut Vec<StateBatch>) {
        self.take_back(self.start, self.end, |lock| lock.until_ms <= now_ms, back, lines);
    }

    /// The share coordinator has `lines`, or refused them: then who had the records has them still, if in time.
    /// True: there may be more room, see [`InFlight::room`].
    pub fn settled(&mut self, lines: &[StateBatch], written: bool) -> bool {
        let (start, archiving) = (self.start, self.archiving);
        for line in lines {
            self.set(line.first, line.last, |run| match run.state {
                State::Settling { to, .. } if written => (to.state(), run.count),
                State::Settling { lock, .. } => (State::Acquired(lock), run.count),
                State::Archiving(_) if written && line.delivery == Delivery::Archived => {
                    (State::Done(Delivery::Archived), run.count)
                }
                other => (other, run.count),
            });
        }
        self.forget_done();
        self.start > start || self.archiving > archiving
    }

    /// Nobody gets these: aborted, or not there any more. Only what may be given out or is new; the rest stays where it is.
    /// The share coordinator need not know: whoever reads the log again finds it so again.
    pub fn archive(&mut self, first: Offset, last: Offset) {
        if last < first {
            return;
        }
        self.give_out_to(last.saturating_add(1));
        self.set(first, last, |run| match run.state {
            State::Available { .. } => (State::Done(Delivery::Archived), run.count),
            other => (other, run.count),
        });
        self.forget_done();
    }

    /// The log begins at `log_start` now: what lies below can be given to nobody, and who has it may keep it; so do those
    /// that wait for their dead letters, which have nothing to copy then.
    pub fn log_starts_at(&mut self, log_start: Offset) {
        if log_start > self.end && self.archiving == 0 {
            *self = Self { start: log_start, end: log_start, ..Self::default() };
            return;
        }
        self.archive(self.start, log_start - 1);
    }

    #[cfg(test)]
    fn lines(&self) -> Vec<StateBatch> {
        let line = |(first, run): (&Offset, &Run)| {
            let delivery = match run.state {
                State::Done(delivery) => delivery,
                State::Archiving(_) => Delivery::Archiving,
                _ => Delivery::Available,
            };
            StateBatch { first: *first, last: run.last, delivery, count: run.count }
        };
        self.runs.iter().map(line).collect()
    }

    /// What of `first..=last` is held so goes back, or is given up where that was often enough.
    fn take_back(
        &mut self,
        first: Offset,
        last: Offset,
        whose: impl Fn(&Lock) -> bool,
        back: Redelivery<'_>,
        lines: &mut Vec<StateBatch>,
    ) {
        let held = |(at, run): (Offset, &Run)| match run.state {
            State::Acquired(lock) if whose(&lock) => Some((at.max(first), run.last.min(last), run.count)),
            _ => None,
        };
        let held: Vec<_> = self.within(first, last).filter_map(held).collect();
        for (first, last, count) in held {
            match count >= back.count_limit {
                true => self.fail(first, last, Cause::TooOften, back, lines),
                false => self.settle(first, last, lines, |count| back.again(count)),
            }
        }
    }

    /// Held records that are not to be given out again.
    fn fail(&mut self, first: Offset, last: Offset, cause: Cause, back: Redelivery<'_>, lines: &mut Vec<StateBatch>) {
        let Some(letters) = back.dead_letters else {
            self.settle(first, last, lines, |_| Fate::Done(Delivery::Archived));
            return;
        };
        let records = last.abs_diff(first) + 1;
        let admitted = letters.admit(records).min(records);
        let from = first.saturating_add(i64::try_from(admitted).unwrap_or(i64::MAX));
        if admitted > 0 {
            self.settle(first, from - 1, lines, |_| Fate::DeadLetter(cause));
        }
        if from <= last {
            self.settle(from, last, lines, |count| back.again(count));
        }
    }

    fn settle(&mut self, first: Offset, last: Offset, lines: &mut Vec<StateBatch>, to: impl Fn(i16) -> Fate) {
        self.set(first, last, |run| {
            let State::Acquired(lock) = run.state else { return (run.state, run.count) };
            (State::Settling { lock, to: to(run.count) }, run.count)
        });
        let line = |(at, run): (Offset, &Run)| match run.state {
            State::Settling { to, .. } => Some(StateBatch {
                first: at.max(first),
                last: run.last.min(last),
                delivery: to.delivery(),
                count: run.count,
            }),
            _ => None,
        };
        lines.extend(self.within(first, last).filter_map(line));
    }

    fn run_at(&self, at: Offset) -> Run {
        // Runs cover all from start to end.
        let (_, run) = self.runs.range(..=at).next_back().expect("an offset in flight lies in a run");
        *run
    }

    fn within(&self, first: Offset, last: Offset) -> impl Iterator<Item = (Offset, &Run)> {
        let from = self.runs.range(..=first).next_back().map_or(first, |(first, _)| *first);
        self.runs
            .range(from..=last.max(from))
            .filter(move |(at, run)| run.last >= first && **at <= last)
            .map(|(at, run)| (*at, run))
    }

    /// What lies below `at` and was skipped is there for the next who asks.
    fn give_out_to(&mut self, at: Offset) {
        if at > self.end {
            self.push(at - 1, State::Available { from_ms: 0 }, 0);
        }
    }

    fn push(&mut self, last: Offset, state: State, count: i16) {
        let first = self.end;
        let run = Run { last, state, count };
        let records = last.abs_diff(first) + 1;
        self.live += run.live(records);
        self.archiving += run.archiving(records);
        self.end = last + 1;
        self.runs.insert(first, run);
        self.join_at(first);
    }

    /// Changes all runs within `first..=last`, cut at its ends.
    fn set(&mut self, first: Offset, last: Offset, change: impl Fn(&Run) -> (State, i16)) {
        let (first, last) = (first.max(self.start), last.min(self.end - 1));
        if first > last {
            return;
        }
        self.cut_at(first);
        self.cut_at(last + 1);
        let (mut live, mut archiving) = (self.live, self.archiving);
        for (at, run) in self.runs.range_mut(first..=last) {
            let records = run.last.abs_diff(*at) + 1;
            (live, archiving) = (live - run.live(records), archiving - run.archiving(records));
            (run.state, run.count) = change(run);
            (live, archiving) = (live + run.live(records), archiving + run.archiving(records));
        }
        (self.live, self.archiving) = (live, archiving);
        let ends: Vec<Offset> = self.runs.range(first..=last + 1).map(|(at, _)| *at).collect();
        for at in ends {
            self.join_at(at);
        }
    }

    fn cut_at(&mut self, at: Offset) {
        let Some((first, run)) = self.runs.range_mut(..at).next_back() else { return };
        if *first < at && run.last >= at {
            let behind = *run;
            run.last = at - 1;
            self.runs.insert(at, behind);
        }
    }

    /// Joins the run that begins at `at` to the one before it if they are alike.
    fn join_at(&mut self, at: Offset) {
        let Some(run) = self.runs.get(&at).copied() else { return };
        let Some((_, before)) = self.runs.range_mut(..at).next_back() else { return };
        if before.state == run.state && before.count == run.count {
            before.last = run.last;
            self.runs.remove(&at);
        }
    }

    fn forget_done(&mut self) {
        while let Some((_, Run { last, state: State::Done(_), .. })) = self.runs.first_key_value() {
            self.start = last + 1;
            self.runs.pop_first();
        }
    }
}

impl Run {
    /// `records` if they are not done with.
    fn live(&self, records: u64) -> u64 {
        if matches!(self.state, State::Done(_)) { 0 } else { records }
    }

    /// `records` if they wait for their dead letters.
    fn archiving(&self, records: u64) -> u64 {
        if matches!(self.state, State::Archiving(_)) { records } else { 0 }
    }
}

impl Redelivery<'_> {
    fn again(self, count: i16) -> Fate {
        Fate::Back { from_ms: self.backoff.until_ms(count, self.now_ms) }
    }
}

#[cfg(test)]
mod tests;
