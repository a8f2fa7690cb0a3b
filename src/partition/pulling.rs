//! Segments come back from the tier in front of the local log, and the copies are let go of once nothing depends on them.
//!
//! Who brings them is `remote_log`; what a crash leaves is in docs/crash-safety.md.

use std::io;
use std::sync::{Arc, PoisonError};

use super::producers::ProducerTable;
use super::read::ReadError;
use super::{Online, Partition};
use crate::config::machine;
use crate::log::LogError;
use crate::log::names::{self, SNAPSHOT};
use crate::log::pulled::{Pulled, PulledFile};
use crate::metadata::remote_log::RemoteChain;
use crate::protocol::record_batch::Offset;

impl Partition {
    /// Bytes that its log directory can take beyond those that are kept free; `None` where the machine says nothing.
    pub fn room_bytes(&self) -> Option<u64> {
        Some(machine::free_bytes(self.log_dir())?.saturating_sub(self.dir().min_free_bytes()))
    }

    /// Where the records of a segment that comes back go, until it is whole. Blocks.
    pub fn begin_pull(&self, base: Offset) -> io::Result<PulledFile> {
        // Under the lock: a move or a deletion gives the directory another name, and one that is made anew in its place
        // would be found first at the next start.
        let mut state = self.lock();
        let online = state.online().map_err(|_| io::Error::other("partition is offline"))?;
        PulledFile::create(online.log.directory(), base)
    }

    /// Puts a segment that is whole in front of the local log; durable when this returns. False when the log begins
    /// elsewhere by now: retention or a move was faster, and the segment is dropped. Blocks.
    pub fn end_pull(&self, file: PulledFile, pulled: &Pulled) -> Result<bool, ReadError> {
        // Nobody else gives files of the log their names or takes them away.
        let _maintenance = self.maintenance();
        let config = self.topic_config();
        let directory = {
            let mut state = self.lock();
            let online = state.online()?;
            if online.log.directory().path != file.directory() || !is_wanted(online, pulled) {
                return Ok(false);
            }
            if self.lost_outcomes(online, pulled) {
                let why = "the copies leave transactions open whose outcome was lost with the local log: the topic has \
                           to stay tiered";
                return Err(LogError::Corrupt(why.to_owned()).into());
            }
            if online.log.is_untouched() {
                online.log.begin(&config, &*self.shared.random)?;
            }
            Arc::clone(online.log.directory())
        };
        let segment = file.name(&directory, pulled, &config)?;
        let mut state = self.lock();
        let online = state.online()?;
        online.log.prepend(segment);
        self.mark_changed(online);
        self.schedule_upkeep_in(online);
        Ok(true)
    }

    /// Is the segment the last of the tier, with transactions open at its end, before a local log that began anew behind it?
    /// Their markers are gone. The tier's footers know how they ended, local indexes have no place for it.
    fn lost_outcomes(&self, online: &Online, pulled: &Pulled) -> bool {
        let directory = online.log.directory();
        let is_last = self.remote_chain().end() == Some(pulled.next);
        let has_open = |snapshot: &[u8]| {
            let producers = ProducerTable::from_snapshot(snapshot);
            producers.is_ok_and(|producers| producers.first_undecided().is_some())
        };
        is_last && (pulled.has_open || has_open(&pulled.producer_snapshot)) && {
            let local = directory.fs.read(&names::segment_file(&directory.path, pulled.next, SNAPSHOT));
            // A log that was rolled there has the same ones open, and the markers; one that began anew forgot them.
            !local.is_ok_and(|local| has_open(&local))
        }
    }

    /// Takes the copies away from readers and local retention, if the local log has all that can be read, and has it
    /// durably below `durable_below`. Otherwise nothing changes but that a sync is asked for. Blocks.
    pub fn let_go_of_copies(&self, durable_below: Option<Offset>) -> bool {
        // The cleaner looks at the chain under it, and rewrites nothing that it names.
        let maintenance = self.maintenance();
        let kept = self.remote_chain();
        let none = RemoteChain { segments: Vec::new(), ..RemoteChain::clone(&kept) };
        // First: whatever local retention removes from here on, no copy is its reason.
        self.set_remote_chain(Arc::new(none));
        let (stands_alone, queued) = {
            let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
            match self.lock().online() {
                Ok(online) if online.log.start() > online.log_start => (false, None),
                Ok(online) if durable_below.is_none_or(|offset| online.log.is_durable_below(offset)) => {
                    // Rounds have passed over what was copied, and left it as it was.
                    online.cleaned_end = 0;
                    self.mark_changed(online);
                    (true, None)
                }
                Ok(online) => (false, self.request_sync(online)),
                Err(_) => (false, None),
            }
        };
        if !stands_alone {
            self.set_remote_chain(kept);
        }
        drop(maintenance);
        self.send_to_sync(queued);
        stands_alone
    }
}

/// Does the local log begin behind the segment, and is any of it readable?
fn is_wanted(online: &Online, pulled: &Pulled) -> bool {
    online.log.start() == pulled.next && online.log_start < pulled.next
}
