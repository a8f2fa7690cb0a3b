//! When partitions open: at their first use, or when the node's opener gets to them, whichever comes first.
//!
//! The port is open before any file of a partition was looked at. [`Partition::lock`] never shows an unopened partition:
//! it opens it there and then, under the lock, so that nobody sees less than recovery found. That may mean a scan, so
//! whoever runs on an async worker awaits [`Partition::opened`] or [`Partitions::opened`] first, which does the work on
//! threads that may block. Once everything is open, both cost one load.
//!
//! Partitions of tiered topics wait for one thing more: that the bucket was compared with our rows, or that the store had
//! its time to answer (docs/crash-safety.md says why serving is safe then).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::open::Known;
use super::registry::Partitions;
use super::start_rule::{self, LocalStart};
use super::{Partition, State};

/// Partitions that are opened side by side.
const OPENERS_MAX: usize = 8;

/// What of the node is not open yet.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Partitions with files that nobody looked at.
    unopened: AtomicUsize,
    /// Partitions of tiered topics wait until this is true.
    tier_compared: watch::Sender<bool>,
    /// The bucket agrees with the rows, so that local segments may go once their copies are finished.
    copies_trusted: AtomicBool,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            unopened: AtomicUsize::new(0),
            tier_compared: watch::Sender::new(true),
            copies_trusted: AtomicBool::new(true),
        }
    }
}

impl Opening {
    /// Is everything open, and nothing to be waited for?
    fn is_done(&self) -> bool {
        self.unopened.load(Ordering::Acquire) == 0 && *self.tier_compared.borrow()
    }

    pub(super) fn note_unopened(&self) {
        self.unopened.fetch_add(1, Ordering::AcqRel);
    }

    fn note_opened(&self) {
        self.unopened.fetch_sub(1, Ordering::AcqRel);
    }

    /// May local segments be removed because the bucket has them?
    pub(super) fn copies_are_trusted(&self) -> bool {
        self.copies_trusted.load(Ordering::Acquire)
    }
}

impl Partition {
    /// Returns when the partition can be used without blocking for its files.
    pub async fn opened(self: &Arc<Self>) {
        if self.shared.opening.is_done() {
            return;
        }
        self.tier_compared().await;
        if self.is_unopened() {
            open_off_worker(vec![Arc::clone(self)]).await;
        }
    }

    async fn tier_compared(&self) {
        // One that is no longer tiered may still have copies, and records that nothing else has.
        if self.topic_config().remote_storage_enable || !self.remote_chain().segments.is_empty() {
            // The sender lives as long as the partition.
            let _ = self.shared.opening.tier_compared.subscribe().wait_for(|compared| *compared).await;
        }
    }

    fn is_unopened(&self) -> bool {
        matches!(*self.raw(), State::Unopened(_))
    }

    /// Opens the files through recovery, under the lock. Blocks.
    pub(super) fn open_in(&self, state: &mut State) {
        // A panic in here leaves it offline: a second look at the same files would panic again.
        let unopened = std::mem::replace(state, State::Offline("being opened".to_owned()));
        let State::Unopened(known) = unopened else {
            *state = unopened;
            return;
        };
        self.shared.opening.note_opened();
        *state = self.open_files(known.as_deref());
        if let State::Online(online) = state {
            self.mark_changed(online);
            self.schedule_upkeep_in(online);
        }
    }

    fn open_files(&self, known: Option<&Known>) -> State {
        let mut online = match self.open_online(known) {
            Ok(online) => online,
            Err(error) => {
                tracing::error!(
                    topic = %self.topic, partition = self.id.partition, %error,
                    "partition cannot be opened; it is offline until the next start"
                );
                return State::Offline(error.to_string());
            }
        };
        let chain = self.remote_chain();
        online.settle_log_start(&chain);
        if !chain.segments.is_empty() {
            online.settle_epochs(&chain);
        }
        let is_tiered = self.topic_config().remote_storage_enable || !chain.segments.is_empty();
        if !is_tiered && online.log_start < online.log.start() {
            // A loss of power took the first segments, which were never synced: the log begins with what is left.
            let to = online.log.start();
            online.set_log_start(to);
        }
        let offsets = online.offsets(self.leader_epoch);
        match start_rule::local_start(&chain, offsets.log_start, offsets.local_start, offsets.log_end) {
            LocalStart::Keep => State::Online(Box::new(online)),
            LocalStart::Behind { tier_end } => {
                tracing::warn!(
                    topic = %self.topic, partition = self.id.partition, local_end = offsets.log_end, tier_end,
                    "local log ends before the tier; it goes on at its end once the store answers"
                );
                State::Behind { log_start: offsets.log_start, tier_end, left_out_below: online.left_out_below }
            }
            LocalStart::Gap { tier_end, local_start } => {
                let why = format!(
                    "the tier ends at offset {tier_end}, the local log begins at {local_start}, and what lies between is \
                     lost; put the missing segments back, or move the partition's directory away to go on at {tier_end}"
                );
                tracing::error!(topic = %self.topic, partition = self.id.partition, why, "partition is offline");
                State::Offline(why)
            }
        }
    }

    /// It leaves [`State::Unopened`] without being opened: it is deleted, or set offline.
    pub(super) fn skip_opening(&self, state: &State) {
        if matches!(state, State::Unopened(_)) {
            self.shared.opening.note_opened();
        }
    }
}

impl Partitions {
    /// Can every partition be used without blocking for its files?
    pub fn all_open(&self) -> bool {
        self.shared().opening.is_done()
    }

    /// Returns when these can be used without blocking for their files.
    pub async fn opened(&self, mut named: Vec<Arc<Partition>>) {
        for partition in &named {
            partition.tier_compared().await;
        }
        named.retain(|partition| partition.is_unopened());
        open_off_worker(named).await;
    }

    /// Opens what nobody has used yet. Blocks; ends early when `stopping`.
    pub fn open_rest(&self, stopping: &CancellationToken) {
        let mut unopened = self.all();
        unopened.retain(|partition| partition.is_unopened());
        open_side_by_side(&unopened, &|| stopping.is_cancelled());
    }

    /// Makes partitions of tiered topics wait for [`Partitions::tier_was_compared`], and keeps every local segment until
    /// [`Partitions::trust_copies`].
    pub fn hold_tiered(&self) {
        self.shared().opening.tier_compared.send_replace(false);
        self.shared().opening.copies_trusted.store(false, Ordering::Release);
    }

    /// Bucket and rows agree, or the store didn't answer: tiered partitions serve from now on.
    pub fn tier_was_compared(&self) {
        self.shared().opening.tier_compared.send_replace(true);
    }

    /// Bucket and local log agree in every partition: local retention may begin.
    pub fn trust_copies(&self) {
        self.shared().opening.copies_trusted.store(true, Ordering::Release);
    }
}

async fn open_off_worker(partitions: Vec<Arc<Partition>>) {
    if partitions.is_empty() {
        return;
    }
    let opened = tokio::task::spawn_blocking(move || open_side_by_side(&partitions, &|| false)).await;
    if let Err(failure) = opened {
        // The panic hook has logged it, and the partition is offline.
        tracing::error!(%failure, "opening partitions failed");
    }
}

/// Opens partitions side by side: most of it is waiting for the disk.
fn open_side_by_side(partitions: &[Arc<Partition>], stop: &(dyn Fn() -> bool + Sync)) {
    let next = AtomicUsize::new(0);
    let work = || {
        while !stop()
            && let Some(partition) = partitions.get(next.fetch_add(1, Ordering::Relaxed))
        {
            drop(partition.lock());
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..partitions.len().min(OPENERS_MAX) {
            scope.spawn(work);
        }
        work();
    });
}
