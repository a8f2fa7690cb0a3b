//! What retention takes away: pure decisions over facts about segments. The partition carries them out, log start
//! first and durably, then the files.
//!
//! Two limits, each by time and by size. *Total* retention (`retention.*`, with `cleanup.policy` delete) moves the log
//! start over both tiers, whether a segment was copied or not; what lies below the log start goes. *Local* retention
//! (`local.retention.*`, tiered topics only) frees local disk of segments whose remote copy is finished and moves
//! nothing that a reader sees. Both take whole segments, oldest first, and stop at the first that stays, as Kafka does:
//!
//! - by time: a segment goes when its newest record is older than the limit; one from the future stays;
//! - by size: a segment goes when what remains without it still reaches the limit;
//! - nothing at or above `upto` goes, and the active segment only by total retention, after a roll.

use crate::config::topic::TopicConfig;
use crate::protocol::record_batch::Offset;

/// A range of offsets and what it weighs: a local segment or a finished remote one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First offset that it may hold.
    pub base: Offset,
    /// The offset behind it.
    pub next: Offset,
    /// Bytes of its log.
    pub size_bytes: u64,
    /// Its newest record's timestamp; where no record has one, when its file was last written. Negative when neither is
    /// known: it is then as old as the extent behind it.
    pub newest_ms: i64,
}

/// A local segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalSegment {
    /// Where it lies and what it weighs.
    pub extent: Extent,
    /// Does it still take appends?
    pub is_active: bool,
    /// Is its remote copy verified and FINISHED?
    pub is_copied: bool,
}

/// All that a decision needs.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The topic's configuration.
    pub config: &'a TopicConfig,
    /// Wall time.
    pub now_ms: i64,
    /// First readable offset over both tiers.
    pub log_start: Offset,
    /// min(high watermark, last stable offset): nothing at or above goes.
    pub upto: Offset,
    /// FINISHED remote segments by base offset; empty for a topic that was never tiered.
    pub remote: &'a [Extent],
    /// Local segments by base offset, the active one last.
    pub local: &'a [LocalSegment],
}

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The log start from now on.
    pub log_start: Offset,
    /// Local segments that end at or before this offset go, once the log start is durable.
    pub local_start: Offset,
    /// The active segment is among them: it has to be rolled first.
    pub roll_active: bool,
}

/// Decides. Not to be asked before the partition's remote state is loaded.
pub fn decide(facts: &Facts<'_>) -> Decision {
    let log_start = total(facts);
    // The active segment stays where only DeleteRecords has emptied it; retention proper has passed its end.
    let roll_active = log_start > facts.log_start
        && facts
            .local
            .last()
            .is_some_and(|last| last.is_active && last.extent.size_bytes > 0 && last.extent.next <= log_start);
    let below_start = |segment: &&LocalSegment| segment.extent.next <= log_start && (!segment.is_active || roll_active);
    let first_kept = facts.local.iter().take_while(below_start).count();
    let local_start = match first_kept.checked_sub(1) {
        Some(last_gone) => facts.local[last_gone].extent.next,
        None => facts.local.first().map_or(log_start, |first| first.extent.base),
    };
    let freed = freed_locally(facts, &facts.local[first_kept..]);
    Decision { log_start, local_start: freed.unwrap_or(local_start), roll_active }
}

/// Where total retention puts the log start.
fn total(facts: &Facts<'_>) -> Offset {
    if !facts.config.cleanup_policy.delete {
        return facts.log_start;
    }
    let extents = disjoint(facts);
    let gone = Limits { ms: facts.config.retention_ms, bytes: facts.config.retention_bytes }.oldest_beyond(
        facts.now_ms,
        &extents,
        |extent| extent.next <= facts.upto,
    );
    gone.map_or(facts.log_start, |next| next.max(facts.log_start))
}

/// The live part of the log in disjoint ranges: remote segments, and the local ones above them.
fn disjoint(facts: &Facts<'_>) -> Vec<Extent> {
    let local = facts.local.iter().map(|segment| segment.extent).filter(|extent| extent.size_bytes > 0);
    let mut covered = facts.log_start;
    let mut extents = Vec::with_capacity(facts.remote.len() + facts.local.len());
    for extent in facts.remote.iter().copied().chain(local) {
        if extent.next > covered {
            covered = extent.next;
            extents.push(extent);
        }
    }
    extents
}

/// The offset up to which local retention frees the disk; `segments` are those at or above the log start.
fn freed_locally(facts: &Facts<'_>, segments: &[LocalSegment]) -> Option<Offset> {
    let config = facts.config;
    // A topic that no longer copies keeps its local part for as long as the whole, as in Kafka.
    if !config.takes_copies() {
        return None;
    }
    let extents: Vec<_> = segments.iter().map(|segment| segment.extent).collect();
    let copied = segments.iter().take_while(|segment| segment.is_copied && !segment.is_active).count();
    let limits = Limits { ms: config.local_retention_ms, bytes: config.local_retention_bytes };
    let copied_end = copied.checked_sub(1).map(|last| extents[last].next)?;
    limits.oldest_beyond(facts.now_ms, &extents, |extent| extent.next <= copied_end && extent.next <= facts.upto)
}

struct Limits {
    ms: Option<i64>,
    bytes: Option<u64>,
}

impl Limits {
    /// The end of the last extent, counted from the oldest, that is beyond a limit; `may_go` bounds both.
    fn oldest_beyond(&self, now_ms: i64, extents: &[Extent], may_go: impl Fn(&Extent) -> bool) -> Option<Offset> {
        let mut by_time = None;
        if let Some(ms) = self.ms {
            for extent in extents.iter().take_while(|extent| may_go(extent)) {
                if extent.newest_ms < 0 {
                    continue;
                }
                if now_ms.saturating_sub(extent.newest_ms) <= ms {
                    break;
                }
                by_time = Some(extent.next);
            }
        }

        let whole: u64 = extents.iter().map(|extent| extent.size_bytes).sum();
        let mut excess = self.bytes.map_or(0, |limit| whole.saturating_sub(limit));
        let too_much = |extent: &&Extent| match excess.checked_sub(extent.size_bytes) {
            Some(rest) => {
                excess = rest;
                self.bytes.is_some()
            }
            None => false,
        };
        let by_size = extents.iter().take_while(|extent| may_go(extent)).take_while(too_much).last();
        by_time.max(by_size.map(|extent| extent.next))
    }
}

#[cfg(test)]
mod tests;
