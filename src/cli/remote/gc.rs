//! `terrace remote gc`: segments that no retained manifest names and that are old enough to be on their way no more.
//!
//! A broker removes them by itself. What manifests name is not all that it knows: its rows may have a copy whose root is
//! still to be written. So `--delete` wants those rows: it runs where the owner's data directory is, takes that
//! directory's locks, which fails while the broker runs, and makes sure that nobody claimed the bucket since.

use std::collections::HashSet;
use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use terrace_tiering::delete::sweeper::Unnamed;
use terrace_tiering::inspect::verify::Progress;
use terrace_tiering::platform::clock::{Clock, SystemClock};
use terrace_tiering::platform::fs::RealFs;

use super::{BucketArgs, Failure, Opened, not_asked, progress};
use crate::broker::locks::{LockError, Locks};
use crate::metadata::at_rest::AtRest;
use crate::restore::report::utc;

/// What to do with them.
#[derive(Debug, Args)]
pub(in crate::cli) struct GcArgs {
    /// Removes them. The broker that owns the bucket must be stopped, and this be run with its settings, on its data.
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    bucket: BucketArgs,
}

#[derive(Debug, Serialize)]
struct Collected {
    /// `remote.orphan.age.ms`.
    orphan_age_ms: u64,
    orphans: Vec<OrphanLine>,
    bytes: u64,
    /// They are gone.
    deleted: bool,
    /// Parts of uploads that a process left in a local directory, removed.
    stale_uploads: usize,
}

#[derive(Debug, Serialize)]
struct OrphanLine {
    key: String,
    bytes: u64,
    modified_ms: i64,
}

pub(super) async fn run(arguments: &GcArgs) -> Result<(), Failure> {
    let opened = arguments.bucket.open().await?;
    let age_ms = opened.config.remote.orphan_age_ms;
    let newest_ms = SystemClock.now_ms().saturating_sub_unsigned(age_ms);
    let owner = if arguments.delete { Some(Owner::take(&opened).await?) } else { None };
    let nothing = HashSet::new();
    let known = owner.as_ref().map_or(&nothing, |owner| &owner.rows.segments);
    let orphans = opened.tier.find_unnamed(known, newest_ms).await.map_err(not_asked)?;
    let mut collected = Collected {
        orphan_age_ms: age_ms,
        bytes: orphans.iter().map(|orphan| orphan.object.object_bytes).sum(),
        orphans: orphans.iter().map(|orphan| OrphanLine::of(&opened, orphan)).collect(),
        deleted: false,
        stale_uploads: 0,
    };
    if let Some(owner) = &owner {
        owner.check(&opened).await?;
        delete(&opened, &orphans).await?;
        let age_ms = i64::try_from(age_ms).unwrap_or(i64::MAX);
        collected.stale_uploads = opened.tier.remove_stale_uploads(age_ms).await.map_err(not_asked)?;
        collected.deleted = true;
    }
    arguments.bucket.show(&collected, text)?;
    match orphans.len() {
        _ if collected.deleted => Ok(()),
        0 => Ok(()),
        found => Err(Failure::new(format!("{found} orphans; nothing was deleted"))),
    }
}

/// The right to delete, held as long as this lives.
struct Owner {
    /// What the owner knew when it was stopped.
    rows: AtRest,
    // Until they are dropped no broker starts, and the rows are what they were.
    _locks: Locks,
}

impl Owner {
    async fn take(opened: &Opened) -> Result<Self, Failure> {
        let dirs = &opened.config.dirs;
        let file = dirs.metadata_file();
        if !file.is_file() {
            return Err(Failure::wrong([format!(
                "{} does not exist: --delete is run on the data directory of the broker that owns the bucket",
                file.display()
            )]));
        }
        let locks = Locks::take(dirs).map_err(|error| match error {
            LockError::InUse(path) => not_asked(format!(
                "the broker on {} runs; it removes orphans by itself, and --delete is for when it is stopped",
                path.display()
            )),
            error @ LockError::Io(..) => not_asked(error),
        })?;
        let cluster = opened.tier.cluster_id();
        let rows = AtRest::read(&RealFs, &file, cluster).map_err(not_asked)?;
        let owner = Self { rows, _locks: locks };
        owner.check(opened).await?;
        Ok(owner)
    }

    /// Is the newest claim one of a life of this data directory?
    async fn check(&self, opened: &Opened) -> Result<(), Failure> {
        let epoch = self.rows.node_epoch;
        match opened.tier.newest_owner().await.map_err(not_asked)? {
            Some(newest) if newest > epoch => Err(not_asked(format!(
                "the bucket is owned by node epoch {newest}, this data directory is at {epoch}: another broker uses it"
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

async fn delete(opened: &Opened, orphans: &[Unnamed]) -> Result<(), Failure> {
    let seen = Progress::default();
    seen.total.store(orphans.len() as u64, std::sync::atomic::Ordering::Relaxed);
    let work = async {
        for orphan in orphans {
            opened.tier.delete(&orphan.object).await?;
            seen.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok::<(), terrace_tiering::store::StoreError>(())
    };
    progress::shown("objects", &seen, work).await.map_err(not_asked)
}

impl OrphanLine {
    fn of(opened: &Opened, orphan: &Unnamed) -> Self {
        Self {
            key: opened.tier.names().segment(&orphan.object).to_string(),
            bytes: orphan.object.object_bytes,
            modified_ms: orphan.modified_ms,
        }
    }
}

fn text(collected: &Collected) -> String {
    let mut text = String::new();
    for OrphanLine { key, bytes, modified_ms } in &collected.orphans {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {bytes:>12} {key}", utc(*modified_ms));
    }
    let outcome = if collected.deleted { "deleted" } else { "found, not deleted" };
    let Collected { orphans, bytes, orphan_age_ms, stale_uploads, .. } = collected;
    let age_s = orphan_age_ms / 1000;
    let _ = writeln!(text, "{} orphans older than {age_s} s with {bytes} bytes {outcome}", orphans.len());
    if *stale_uploads > 0 {
        let _ = writeln!(text, "{stale_uploads} parts of uploads that died deleted");
    }
    if !collected.deleted && !orphans.is_empty() {
        text += "the broker that owns the bucket may still know some of them; it removes the others by itself\n";
    }
    text
}
