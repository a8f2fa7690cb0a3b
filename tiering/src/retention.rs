//! Which roots and snapshots are kept: the newest few, and one of each hour for a while, to look back or to restore from.

/// The newest of a kind that are always kept.
pub const NEWEST_KEPT: usize = 16;
const HOUR_MS: i64 = 3_600_000;

/// For each of `written_ms` (newest first), whether it is kept: the newest [`NEWEST_KEPT`], and within `retention_ms` the
/// newest of each hour.
pub fn kept(written_ms: &[i64], now_ms: i64, retention_ms: i64) -> Vec<bool> {
    let mut hour_before = None;
    let keep = |(at, written): (usize, &i64)| {
        let hour = written.div_euclid(HOUR_MS);
        let newest_of_hour = hour_before != Some(hour);
        hour_before = Some(hour);
        at < NEWEST_KEPT || (newest_of_hour && now_ms.saturating_sub(*written) <= retention_ms)
    };
    written_ms.iter().enumerate().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_one_of_each_hour_are_kept() {
        let now = 1000 * HOUR_MS;
        // One every ten minutes for two days.
        let written: Vec<i64> = (0..288).map(|i| now - i * 600_000).collect();
        let kept = kept(&written, now, 24 * HOUR_MS);
        assert!(kept[..NEWEST_KEPT].iter().all(|kept| *kept));
        let of_hours = kept[NEWEST_KEPT..].iter().filter(|kept| **kept).count();
        assert_eq!(of_hours, 21, "one for each hour of the day that the newest do not cover");
        assert!(!kept[200..].iter().any(|kept| *kept), "nothing past the retention");
    }
}
