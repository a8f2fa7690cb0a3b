//! What is counted of every request: what it was for, what it did, how it ended, and how many bytes went either way.
//!
//! Plain numbers, so that nothing is looked up or allocated when a request passes; whoever scrapes takes a [`Usage`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::StoreError;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// One whole object.
    Put,
    /// One part of an object, or the calls around parts.
    PutPart,
    /// A range of an object.
    Get,
    /// An object's size.
    Head,
    /// Keys below a prefix.
    List,
    /// Removal.
    Delete,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Put, Self::PutPart, Self::Get, Self::Head, Self::List, Self::Delete];

    /// The value of the label `op`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::PutPart => "put_part",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    /// How stores bill it.
    pub fn class(self) -> Class {
        match self {
            Self::Put | Self::PutPart | Self::List => Class::A,
            Self::Get | Self::Head => Class::B,
            Self::Delete => Class::Free,
        }
    }

    /// Does it change what is stored?
    pub(super) fn writes(self) -> bool {
        match self {
            Self::Put | Self::PutPart | Self::Delete => true,
            Self::Get | Self::Head | Self::List => false,
        }
    }
}

/// How a request is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Writes and listings: the dear ones.
    A,
    /// Reads.
    B,
    /// Removals.
    Free,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Segments on their way into the bucket: parts, and the look whether they arrived.
    Copy,
    /// Small segments that are read to be put together, and what they are put together to.
    Merge,
    /// Segments of compacted topics that are read for a round of the cleaner, and what it leaves of them.
    Clean,
    /// Footers and chunks for readers.
    Replay,
    /// Roots and leaves: written, read, pruned.
    Manifest,
    /// Cluster file, claims, snapshots, tombstones, the probe at the start.
    Metadata,
    /// Objects that nobody needs any more.
    Delete,
    /// Looking for orphans.
    Sweep,
    /// Reading back what is stored, to see that it is whole.
    Scrub,
    /// Coming back from the bucket alone.
    Restore,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Copy,
        Self::Merge,
        Self::Clean,
        Self::Replay,
        Self::Manifest,
        Self::Metadata,
        Self::Delete,
        Self::Sweep,
        Self::Scrub,
        Self::Restore,
    ];

    /// The value of the label `purpose`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Merge => "merge",
            Self::Clean => "clean",
            Self::Replay => "replay",
            Self::Manifest => "manifest",
            Self::Metadata => "metadata",
            Self::Delete => "delete",
            Self::Sweep => "sweep",
            Self::Scrub => "scrub",
            Self::Restore => "restore",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With what was asked.
    Ok,
    /// There is no such object.
    NotFound,
    /// Access was refused.
    Denied,
    /// No answer in time.
    Timeout,
    /// Any other failure.
    Error,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ok, Self::NotFound, Self::Denied, Self::Timeout, Self::Error];

    /// The value of the label `result`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }

    fn of<T>(answer: &Result<T, StoreError>) -> Self {
        match answer {
            Ok(_) => Self::Ok,
            Err(StoreError::NotFound(_)) => Self::NotFound,
            Err(StoreError::Denied(_)) => Self::Denied,
            Err(StoreError::Timeout(_)) => Self::Timeout,
            Err(
                StoreError::Down(_)
                | StoreError::Unavailable(_)
                | StoreError::Unsupported(_)
                | StoreError::Refused(_)
                | StoreError::Short(_),
            ) => Self::Error,
        }
    }
}

const PURPOSES: usize = Purpose::ALL.len();
const OPS: usize = Op::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();

/// What was asked of the store for one purpose since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurposeUsage {
    /// The purpose.
    pub purpose: Purpose,
    /// Requests by [`Op`] and [`Outcome`], in the order of their `ALL`.
    pub requests: [[u64; OUTCOMES]; OPS],
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

impl PurposeUsage {
    /// How many requests are billed in this class. Those that failed count: a store bills most of them.
    pub fn of_class(&self, class: Class) -> u64 {
        let of_op = self.requests.iter().zip(Op::ALL).filter(|(_, op)| op.class() == class);
        of_op.map(|(outcomes, _)| outcomes.iter().sum::<u64>()).sum()
    }

    /// How many requests of this kind were sent.
    pub fn of_op(&self, op: Op) -> u64 {
        self.requests[op as usize].iter().sum()
    }
}

/// What was asked of the store since the start, by purpose in the order of [`Purpose::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage(pub [PurposeUsage; PURPOSES]);

impl Usage {
    /// The part of one purpose.
    pub fn of(&self, purpose: Purpose) -> &PurposeUsage {
        &self.0[purpose as usize]
    }
}

#[derive(Debug, Default)]
struct Counts {
    requests: [[AtomicU64; OUTCOMES]; OPS],
    sent: AtomicU64,
    received: AtomicU64,
}

/// Counts. One per bucket.
#[derive(Debug)]
pub(super) struct Meter {
    counts: [Counts; PURPOSES],
    /// By [`Op`]; looked up once, for their names would be looked up and copied with each request.
    seconds: [metrics::Histogram; OPS],
}

impl Meter {
    pub(super) fn new() -> Self {
        let seconds = |op: Op| metrics::histogram!("terrace_remote_request_seconds", "op" => op.name());
        Self { counts: Default::default(), seconds: Op::ALL.map(seconds) }
    }

    /// `requests` were sent and the last ended like this.
    pub(super) fn request<T>(
        &self,
        purpose: Purpose,
        op: Op,
        requests: u64,
        took: Duration,
        answer: &Result<T, StoreError>,
    ) {
        let outcome = Outcome::of(answer) as usize;
        self.counts[purpose as usize].requests[op as usize][outcome].fetch_add(requests, Ordering::Relaxed);
        self.seconds[op as usize].record(took.as_secs_f64());
    }

    pub(super) fn sent(&self, purpose: Purpose, bytes: u64) {
        self.counts[purpose as usize].sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn received(&self, purpose: Purpose, bytes: u64) {
        self.counts[purpose as usize].received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage(Purpose::ALL.map(|purpose| {
            let counts = &self.counts[purpose as usize];
            let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
            PurposeUsage {
                purpose,
                requests: std::array::from_fn(|op| std::array::from_fn(|at| read(&counts.requests[op][at]))),
                sent: read(&counts.sent),
                received: read(&counts.received),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_kept_apart_by_purpose_and_counted_by_class() {
        let meter = Meter::new();
        let failed: Result<(), _> = Err(StoreError::NotFound("k".to_owned()));
        meter.request(Purpose::Copy, Op::Put, 1, Duration::ZERO, &Ok(()));
        meter.request(Purpose::Copy, Op::PutPart, 1, Duration::ZERO, &Ok(()));
        meter.request(Purpose::Copy, Op::Head, 1, Duration::ZERO, &failed);
        meter.request(Purpose::Sweep, Op::List, 3, Duration::ZERO, &Ok(()));
        meter.request(Purpose::Sweep, Op::Delete, 1, Duration::ZERO, &Ok(()));
        meter.sent(Purpose::Copy, 5);
        meter.received(Purpose::Replay, 7);
        let usage = meter.usage();
        let classes = |purpose| [Class::A, Class::B, Class::Free].map(|class| usage.of(purpose).of_class(class));
        assert_eq!(classes(Purpose::Copy), [2, 1, 0]);
        assert_eq!(classes(Purpose::Sweep), [3, 0, 1]);
        assert_eq!((usage.of(Purpose::Copy).sent, usage.of(Purpose::Replay).received), (5, 7));
        assert_eq!(usage.of(Purpose::Copy).requests[Op::Head as usize][Outcome::NotFound as usize], 1);
    }

    #[test]
    fn every_name_stands_at_its_number() {
        Purpose::ALL.iter().enumerate().for_each(|(at, purpose)| assert_eq!(*purpose as usize, at));
        Op::ALL.iter().enumerate().for_each(|(at, op)| assert_eq!(*op as usize, at));
        Outcome::ALL.iter().enumerate().for_each(|(at, outcome)| assert_eq!(*outcome as usize, at));
    }
}
