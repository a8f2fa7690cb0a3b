//! When the active segment ends, and the step to the next one.

use std::sync::Arc;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::Open;
use terrace_tiering::platform::random::Random;

use super::names::{self, SNAPSHOT};
use super::segment::Segment;
use super::view::LogView;
use super::{Active, Log, LogError};
use crate::config::topic::TopicConfig;
use crate::protocol::record_batch::Offset;

/// What an append is about to add.
#[derive(Debug, Clone, Copy)]
pub struct Incoming {
    /// Its bytes.
    pub bytes: u64,
    /// Its last offset.
    pub last_offset: Offset,
    /// Its largest timestamp.
    pub max_timestamp: i64,
}

/// What is taken off `segment.ms` for one segment.
pub(super) fn jitter_ms(config: &TopicConfig, random: &dyn Random) -> i64 {
    match u64::try_from(config.segment_jitter_ms) {
        Ok(most @ 1..) => (random.next_u64() % most) as i64,
        _ => 0,
    }
}

impl Log {
    /// Must the active segment end before this is appended? As Kafka decides: full, too old by the records' own time,
    /// an index full, or an offset that no index entry of it could say.
    pub fn should_roll(&self, incoming: &Incoming, config: &TopicConfig, now_ms: i64) -> bool {
        let Some(active) = &self.active else { return false };
        if active.position == 0 {
            return false;
        }
        let index = active.segment.index();
        // Kafka measures by the records where they carry a time, so that a replay of old data makes segments by time.
        let since = match index.first_timestamp {
            Some(first) if first >= 0 && incoming.max_timestamp >= 0 => incoming.max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(active.first_append_ms.unwrap_or(now_ms)),
        };
        active.position + incoming.bytes > u64::from(config.segment_bytes)
            || since > config.segment_ms.saturating_sub(active.jitter_ms)
            || index.is_full()
            || incoming.last_offset - active.segment.base() > i64::from(i32::MAX)
    }

    /// Wall time of the first append to the active segment; `None` while it is empty.
    pub fn active_since_ms(&self) -> Option<i64> {
        self.active.as_ref()?.first_append_ms
    }

    /// Ends the active segment and begins the next at the log's end, with `producers` (a `.snapshot`'s content) as of
    /// there. Nothing happens when the active segment is empty. Nothing is synced: that is the caller's to hand on.
    /// After an error the old segment is still the active one.
    pub fn roll(&mut self, producers: &[u8], config: &TopicConfig, random: &dyn Random) -> Result<bool, LogError> {
        let Some(active) = &mut self.active else { return Ok(false) };
        if active.position == 0 {
            return Ok(false);
        }
        let sealed = Arc::clone(&active.segment);
        sealed.spill_index()?;
        let given_back = active.give_back();
        self.write_snapshot(producers)?;
        crash_point::reach(CrashPoint::RollBeforeNewSegment);
        self.begin_segment(config, random)?;
        crash_point::reach(CrashPoint::RollAfterNewSegment);
        if let Err(error) = given_back.and_then(|()| sealed.seal()) {
            // What is missing from the files stays in memory, and the next start walks headers instead.
            tracing::warn!(segment = %sealed.path(names::LOG).display(), %error, "index of a sealed segment not written");
        }
        Ok(true)
    }

    /// Writes the producers as of the log's end. Not durable by itself; its CRC tells a torn one.
    pub fn write_snapshot(&mut self, producers: &[u8]) -> Result<(), LogError> {
        let file =
            self.directory.fs.open(&names::segment_file(&self.directory.path, self.end, SNAPSHOT), Open::Create)?;
        file.write_all_at(producers, 0)?;
        file.set_len(producers.len() as u64)?;
        Ok(())
    }

    /// Makes the directory of a log without files, with the producers as of where it begins, durably. The first segment
    /// comes with the first append.
    pub fn begin_behind(&mut self, producers: &[u8]) -> Result<(), LogError> {
        self.directory.make()?;
        self.write_snapshot(producers)?;
        let path = names::segment_file(&self.directory.path, self.end, SNAPSHOT);
        self.directory.fs.open(&path, Open::Read)?.sync_data()?;
        Ok(self.directory.sync_names()?)
    }

    /// Makes the directory and the first segment, before anything is appended.
    pub fn begin(&mut self, config: &TopicConfig, random: &dyn Random) -> Result<(), LogError> {
        self.directory.make()?;
        self.begin_segment(config, random)
    }

    fn begin_segment(&mut self, config: &TopicConfig, random: &dyn Random) -> Result<(), LogError> {
        let segment = Segment::create(&self.directory, self.end, config.segment_index_bytes)?;
        let jitter_ms = jitter_ms(config, random);
        self.active =
            Some(Active { segment: Arc::clone(&segment), position: 0, reserved: 0, first_append_ms: None, jitter_ms });
        self.view = Arc::new(LogView { segments: self.view.segments.with(segment) });
        self.names_unsynced = true;
        Ok(())
    }
}
