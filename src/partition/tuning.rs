//! What clients may change about all partitions while they are open (dynamic broker configuration that is no topic's).
//!
//! Plain numbers, each looked at when it matters next: nothing has to happen together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// The values of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuned {
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// `log.cleaner.backoff.ms`: between two looks at what is dirty.
    pub cleaner_backoff_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`: most bytes of the offset map of a cleaning.
    pub cleaner_map_bytes: u64,
    /// `replica.alter.log.dirs.io.max.bytes.per.second`.
    pub move_bytes_per_second: u64,
    /// `transaction.partition.verification.enable`.
    pub transaction_verification: bool,
}

/// The values that count, shared by all partitions and whoever changes them.
#[derive(Debug)]
pub struct Tuning {
    producer_id_expiration_ms: AtomicI64,
    cleaner_backoff_ms: AtomicI64,
    cleaner_map_bytes: AtomicU64,
    move_bytes_per_second: AtomicU64,
    transaction_verification: AtomicBool,
}

impl Tuning {
    /// Begins with these.
    pub fn new(tuned: Tuned) -> Arc<Self> {
        Arc::new(Self {
            producer_id_expiration_ms: tuned.producer_id_expiration_ms.into(),
            cleaner_backoff_ms: tuned.cleaner_backoff_ms.into(),
            cleaner_map_bytes: tuned.cleaner_map_bytes.into(),
            move_bytes_per_second: tuned.move_bytes_per_second.into(),
            transaction_verification: tuned.transaction_verification.into(),
        })
    }

    /// These count from now on.
    pub fn set(&self, tuned: Tuned) {
        self.producer_id_expiration_ms.store(tuned.producer_id_expiration_ms, Ordering::Relaxed);
        self.cleaner_backoff_ms.store(tuned.cleaner_backoff_ms, Ordering::Relaxed);
        self.cleaner_map_bytes.store(tuned.cleaner_map_bytes, Ordering::Relaxed);
        self.move_bytes_per_second.store(tuned.move_bytes_per_second, Ordering::Relaxed);
        self.transaction_verification.store(tuned.transaction_verification, Ordering::Relaxed);
    }

    /// Those that count.
    pub fn get(&self) -> Tuned {
        Tuned {
            producer_id_expiration_ms: self.producer_id_expiration_ms.load(Ordering::Relaxed),
            cleaner_backoff_ms: self.cleaner_backoff_ms.load(Ordering::Relaxed),
            cleaner_map_bytes: self.cleaner_map_bytes.load(Ordering::Relaxed),
            move_bytes_per_second: self.move_bytes_per_second.load(Ordering::Relaxed),
            transaction_verification: self.transaction_verification.load(Ordering::Relaxed),
        }
    }
}
