//! When a sealed segment is due for the tier, by `remote.copy.lag.ms` and `remote.copy.lag.bytes`: 0 is reached at once, -1
//! when the segment becomes eligible for local deletion by that measure.

use crate::config::topic::TopicConfig;

/// The wall time at which a segment is due whose newest record has this time and that has so many bytes of the log above
/// it; `None` while only more bytes make it due. What is due by its bytes is due at any time.
pub fn due_at(config: &TopicConfig, newest_ms: i64, bytes_above: u64) -> Option<i64> {
    let by_bytes = match u64::try_from(config.remote_copy_lag_bytes) {
        Ok(lag) => bytes_above >= lag,
        Err(_) => config.local_retention_bytes.is_some_and(|keep| bytes_above >= keep),
    };
    if by_bytes {
        return Some(i64::MIN);
    }
    match config.remote_copy_lag_ms {
        0 => Some(i64::MIN),
        lag if lag > 0 => Some(newest_ms.saturating_add(lag)),
        _ => config.local_retention_ms.map(|keep| newest_ms.saturating_add(keep)),
    }
}
