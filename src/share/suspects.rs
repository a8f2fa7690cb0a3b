//! Records that came back often: given out in ever smaller portions and at last alone, so that the one that its consumers
//! fail on takes no others with it past the limit of deliveries.

use crate::protocol::record_batch::Offset;

/// With fewer deliveries than this allowed there is none to spend on finding out.
const LEAST_LIMIT: i16 = 2;

/// Most records to give out of a batch of `size` offsets, whose records that may be given out are `free`: each run with its
/// first and last offset and its deliveries so far. `None`: none of them came back often, which is after half of
/// `count_limit`, as with Kafka. Half of the batch goes out then, a quarter the next time, and on its last delivery a record
/// has an answer for itself.
pub fn portion(free: impl Iterator<Item = (Offset, Offset, i16)>, size: u64, count_limit: i16) -> Option<u64> {
    let often = (count_limit.saturating_add(1) / 2).max(LEAST_LIMIT);
    let mut before = 0;
    let mut most = None;
    for (first, last, count) in free {
        if count_limit > LEAST_LIMIT && count >= count_limit - 1 {
            return Some(most.map_or(before, |most: u64| most.min(before)).max(1));
        }
        if count >= often && most.is_none() {
            let halvings = u32::from((count - often).unsigned_abs()) + 1;
            most = Some(size.checked_shr(halvings).unwrap_or(0).max(before).max(1));
        }
        before += last.abs_diff(first) + 1;
    }
    most
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::new(&[], 5, None)]
    #[case::came_back_seldom(&[(0, 4, 2)], 5, None)]
    #[case::often(&[(0, 9, 3)], 5, Some(5))]
    #[case::last_delivery(&[(0, 9, 4)], 5, Some(1))]
    #[case::last_delivery_behind_others(&[(0, 3, 1), (4, 9, 4)], 5, Some(4))]
    #[case::last_delivery_behind_often(&[(0, 7, 3), (8, 9, 4)], 5, Some(5))]
    #[case::often_behind_others(&[(0, 6, 1), (7, 9, 3)], 5, Some(7))]
    #[case::many_deliveries(&[(0, 9, 8)], 10, Some(1))]
    #[case::two_deliveries(&[(0, 9, 1)], 2, None)]
    fn those_that_came_back_often_go_out_in_small_portions(
        #[case] free: &[(i64, i64, i16)],
        #[case] count_limit: i16,
        #[case] most: Option<u64>,
    ) {
        assert_eq!(portion(free.iter().copied(), 10, count_limit), most);
    }
}
