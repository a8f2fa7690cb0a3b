//! Named steps at which a test makes the process die.
//!
//! With the feature `crash-points` (never in a release artefact) the environment variable
//! `TERRACE_CRASH_AT=<name>[:n]` aborts the process at the n-th time (default: the first) that the step is reached.
//! `docs/crash-safety.md` says for each name what a crash there leaves behind, and which test proves it.

macro_rules! crash_points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Every step that has a name. A test fails if one is never reached.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CrashPoint { $($(#[$doc])* $variant,)* }

        impl CrashPoint {
            /// All names, for the tests that go through them.
            pub const ALL: &[CrashPoint] = &[$(CrashPoint::$variant,)*];

            /// The name that `TERRACE_CRASH_AT` and `docs/crash-safety.md` use.
            pub fn name(self) -> &'static str {
                match self { $(CrashPoint::$variant => $name,)* }
            }
        }
    };
}

crash_points! {
    /// The batch is on its way: nothing is written.
    AppendBeforeWrite = "append-before-write",
    /// The batch is in the page cache, the log end is not published.
    AppendAfterWrite = "append-after-write",
    /// The active segment is synced, the next one does not exist.
    RollBeforeNewSegment = "roll-before-new-segment",
    /// The new active segment exists, nothing is written to it.
    RollAfterNewSegment = "roll-after-new-segment",
    /// The new checkpoint is written under its temporary name.
    CheckpointBeforeRename = "checkpoint-before-rename",
    /// The new checkpoint has its name.
    CheckpointAfterRename = "checkpoint-after-rename",
    /// A synced topic's batch is written, its fdatasync has not begun.
    FlushBeforeSync = "flush-before-sync",
    /// The fdatasync is done, no ticket knows.
    FlushAfterSync = "flush-after-sync",
    /// A synced topic's batch is in its partition's file, not in the write-ahead log.
    WalBeforeWrite = "wal-before-write",
    /// It is in the write-ahead log, no sync covers it.
    WalAfterWrite = "wal-after-write",
    /// A group is written to the write-ahead log, its fdatasync has not begun.
    WalBeforeSync = "wal-before-sync",
    /// The group's fdatasync is done, no ticket knows.
    WalAfterSync = "wal-after-sync",
    /// All that the full files of the write-ahead log cover is synced, the checkpoint does not say so.
    WalBeforeRecycle = "wal-before-recycle",
    /// The checkpoint says so, the files wait to be used again.
    WalAfterRecycle = "wal-after-recycle",
    /// A start has put the write-ahead log's records back, nothing of that is synced.
    WalReplayBeforeSync = "wal-replay-before-sync",
    /// It is synced, the write-ahead log does not say so.
    WalReplayAfterSync = "wal-replay-after-sync",
    /// The log start is durable, the segments below it still exist.
    DeleteAfterStartOffset = "delete-after-start-offset",
    /// The cleaned segment is complete under its temporary name.
    CleanBeforeSwap = "clean-before-swap",
    /// The cleaned segment is committed under its swap name, the ones it replaces still exist.
    CleanAfterSwap = "clean-after-swap",
    /// A partition's copy in another log directory is whole and durable, the partition is where it was.
    MoveBeforeCommit = "move-before-commit",
    /// The partition's directory has lost its name, the copy has not got it.
    MoveAfterCommit = "move-after-commit",
    /// The copy has the name, no checkpoint says where it stands.
    MoveAfterRename = "move-after-rename",
    /// The checkpoint of the new directory says so, that of the old one still names the partition too.
    MoveAfterCheckpoint = "move-after-checkpoint",
    /// Metadata no longer knows the topic, its directories still exist.
    TopicDeleteAfterCommit = "topic-delete-after-commit",
    /// The copy is announced, nothing is uploaded.
    CopyAfterStarted = "copy-after-started",
    /// Some parts of the object are uploaded.
    CopyBetweenParts = "copy-between-parts",
    /// The object is complete, nobody has verified it.
    CopyAfterUpload = "copy-after-upload",
    /// The object is verified, no metadata says so.
    CopyAfterVerify = "copy-after-verify",
    /// The copy is FINISHED, the local segment still exists.
    CopyAfterFinished = "copy-after-finished",
    /// Segments are to be merged: what takes their place is announced, nothing is uploaded.
    MergeAfterStarted = "merge-after-started",
    /// The merged object is uploaded and verified, those that it holds still count.
    MergeAfterUpload = "merge-after-upload",
    /// The merged object counts, those that it holds are marked.
    MergeAfterReplaced = "merge-after-replaced",
    /// What a round of the cleaner leaves of segments in the tier is announced, nothing is uploaded.
    RemoteCleanAfterStarted = "remote-clean-after-started",
    /// It is uploaded and verified, the segments as they were still count.
    RemoteCleanAfterUpload = "remote-clean-after-upload",
    /// It counts, others of the round are to come.
    RemoteCleanAfterReplaced = "remote-clean-after-replaced",
    /// The manifest root is about to be created.
    ManifestBeforeRoot = "manifest-before-root",
    /// The manifest root exists, this process does not know yet.
    ManifestAfterRoot = "manifest-after-root",
    /// Remote deletion is marked, the root still names the object.
    RemoteDeleteAfterStarted = "remote-delete-after-started",
    /// The root no longer names the object, the object exists.
    RemoteDeleteAfterRoot = "remote-delete-after-root",
    /// The object is gone, its mark is not.
    RemoteDeleteAfterDelete = "remote-delete-after-delete",
    /// A segment that comes back from the tier is whole, under a name that no log has.
    DrainBeforeName = "drain-before-name",
    /// It is a part of the local log, others are still to come, and its copy exists.
    DrainAfterName = "drain-after-name",
    /// A metadata commit is about to be made durable.
    MetadataBeforeCommit = "metadata-before-commit",
    /// A metadata commit is durable, nobody has seen it.
    MetadataAfterCommit = "metadata-after-commit",
    /// A metadata snapshot is in the bucket, this process does not know yet.
    SnapshotAfterPut = "snapshot-after-put",
    /// A restore owns the prefix and has written nothing else.
    RestoreAfterClaim = "restore-after-claim",
    /// Every restored partition has its root, the data directory is as empty as before.
    RestoreAfterRoots = "restore-after-roots",
    /// All files of the restore are durable, `meta.redb` has another name still.
    RestoreBeforeRename = "restore-before-rename",
    /// `meta.redb` has its name.
    RestoreAfterRename = "restore-after-rename",
    /// A coordinator's records are in the log, its state has not changed.
    GroupAfterAppend = "group-after-append",
    /// Offsets of a transaction are in the log, the state has not changed.
    GroupAfterTransactionalAppend = "group-after-transactional-append",
    /// The marker of a transaction is in `__consumer_offsets`, its offsets are not the group's yet.
    GroupAfterMarker = "group-after-marker",
    /// What became of records of a share group is in the log, the state has not changed.
    ShareStateAfterAppend = "share-state-after-append",
    /// A dead letter is durable, its record is not archived.
    DeadLetterAfterAppend = "dead-letter-after-append",
    /// `terrace dlq redrive` has sent records and offsets, their transaction is open.
    RedriveBeforeCommit = "redrive-before-commit",
    /// A record of an open transaction or of a new producer is in the log, the state has not changed.
    TransactionAfterAppend = "transaction-after-append",
    /// The outcome of a transaction is in the log, the state has not changed and nobody was told.
    TransactionAfterPrepare = "transaction-after-prepare",
    /// The outcome is durable, no partition has its marker.
    TransactionBeforeMarkers = "transaction-before-markers",
    /// One partition has its marker.
    TransactionAfterMarker = "transaction-after-marker",
    /// All markers are durable and the log says so, the state has not changed.
    TransactionAfterComplete = "transaction-after-complete",
}

/// Dies here if the test asked for it; nothing at all without the feature `crash-points`.
#[inline]
pub fn reach(point: CrashPoint) {
    #[cfg(feature = "crash-points")]
    armed::reach(point);
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::CrashPoint;

    struct Armed {
        point: CrashPoint,
        left: AtomicU32,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    fn from_env() -> Option<Armed> {
        let wanted = std::env::var("TERRACE_CRASH_AT").ok()?;
        let (name, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        let point = CrashPoint::ALL.iter().copied().find(|p| p.name() == name);
        let (Some(point), Ok(times)) = (point, times.parse::<u32>()) else {
            panic!("TERRACE_CRASH_AT={wanted} names no crash point");
        };
        Some(Armed { point, left: AtomicU32::new(times.max(1)) })
    }

    pub(super) fn reach(point: CrashPoint) {
        if let Some(armed) = ARMED.get_or_init(from_env)
            && armed.point == point
            && armed.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            eprintln!("TERRACE_CRASH_AT: dying at {}", point.name());
            std::process::abort();
        }
    }
}
