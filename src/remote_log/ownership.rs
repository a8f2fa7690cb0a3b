//! Does this broker still own its prefix of the bucket? Once it does not, it never copies or deletes again, takes no more
//! records, goes on serving reads, and says so.

use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::Tier;
use terrace_tiering::cluster::owner::{OwnerClaim, OwnerError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the claim is looked at when nothing else asks.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(10);

/// The claim of this process and whether it was lost.
#[derive(Debug)]
pub struct Ownership {
    claim: OwnerClaim,
    /// Why the prefix is lost; `None` while it is ours.
    lost: watch::Sender<Option<Arc<str>>>,
}

/// This broker lost its prefix, or cannot find out whether it did.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotOwner {
    /// Lost for good.
    #[error("this broker lost its prefix of the bucket: {0}")]
    Lost(Arc<str>),
    /// The store did not answer.
    #[error("ownership of the bucket is not known: {0}")]
    Unknown(String),
}

impl Ownership {
    /// The prefix is ours by `claim`, which is in the bucket.
    pub fn new(claim: OwnerClaim) -> Arc<Self> {
        Arc::new(Self { claim, lost: watch::channel(None).0 })
    }

    /// The claim.
    pub fn claim(&self) -> &OwnerClaim {
        &self.claim
    }

    /// Why the prefix is lost; `None` while it is ours as far as is known.
    pub fn lost(&self) -> Option<Arc<str>> {
        self.lost.borrow().clone()
    }

    /// Tells when the prefix is lost: a fenced broker refuses produce and commits.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.lost.subscribe()
    }

    /// From now on nothing is copied or deleted.
    pub(super) fn lose(&self, why: &dyn std::fmt::Display) {
        let first = self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert_with(|| why.to_string().into());
            first
        });
        if first {
            tracing::error!(
                %why,
                "this broker lost its prefix of the bucket: it no longer takes records, copies or deletes; \
                 stop it, or give it a cluster id or remote.storage.uri of its own"
            );
        }
    }

    /// Fine while the prefix is not known to be lost. Asks nobody.
    pub(super) fn assume(&self) -> Result<(), NotOwner> {
        self.lost().map_or(Ok(()), |why| Err(NotOwner::Lost(why)))
    }

    /// Fine if the prefix is ours at this moment. One LIST; before each root and each remote deletion.
    pub(super) async fn check(&self, tier: &Tier) -> Result<(), NotOwner> {
        self.assume()?;
        match tier.check_owner(&self.claim).await {
            Ok(()) => Ok(()),
            Err(OwnerError::Store(error)) => Err(NotOwner::Unknown(error.to_string())),
            Err(fenced @ OwnerError::Fenced { .. }) => {
                self.lose(&fenced);
                self.assume()
            }
        }
    }

    /// Looks until the broker stops.
    pub(super) async fn watch_over(self: Arc<Self>, tier: Arc<Tier>, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.lost().is_none() {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(NotOwner::Unknown(error)) = self.check(&tier).await {
                tracing::debug!(%error, "ownership check got no answer");
            }
        }
    }
}
