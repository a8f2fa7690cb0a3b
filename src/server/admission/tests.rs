use std::sync::Arc;

use super::*;

const MIB: usize = 1 << 20;

fn share(budget: &Arc<Budget>) -> (Share, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    (budget.share(bell.clone()), bell)
}

#[tokio::test]
async fn what_is_held_comes_back_with_the_connection() {
    let budget = Budget::new(8 * MIB);
    let (mut one, bell) = share(&budget);
    one.take(MIB, false, &bell).await.unwrap();
    one.charge(2 * MIB);
    assert_eq!(budget.used(), 3 * MIB);
    one.give_back(MIB);
    assert_eq!(budget.used(), 2 * MIB);
    drop(one);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_frame_begun_comes_before_a_connection_that_has_nothing() {
    let budget = Budget::new(8 * MIB);
    let (mut full, bell) = share(&budget);
    full.charge(8 * MIB);
    let (mut fresh, fresh_bell) = share(&budget);
    let (mut begun, begun_bell) = share(&budget);
    let mut fresh_take = Box::pin(fresh.take(MIB, false, &fresh_bell));
    assert!(futures::poll!(&mut fresh_take).is_pending());
    let mut begun_take = Box::pin(begun.take(MIB, true, &begun_bell));
    assert!(futures::poll!(&mut begun_take).is_pending());
    assert!(budget.is_short());
    full.give_back(MIB);
    assert!(futures::poll!(&mut begun_take).is_ready());
    assert!(futures::poll!(&mut fresh_take).is_pending());
    full.give_back(MIB);
    assert!(futures::poll!(&mut fresh_take).is_ready());
    assert!(!budget.is_short());
    let _ = bell;
}

#[tokio::test]
async fn a_quarter_is_the_most_while_others_want_less() {
    let budget = Budget::new(8 * MIB);
    let (mut one, bell) = share(&budget);
    one.take(5 * MIB, true, &bell).await.unwrap();
    let (mut greedy, greedy_bell) = share(&budget);
    let (mut modest, modest_bell) = share(&budget);
    let mut greedy_take = Box::pin(greedy.take(6 * MIB, true, &greedy_bell));
    assert!(futures::poll!(&mut greedy_take).is_pending());
    let mut modest_take = Box::pin(modest.take(2 * MIB, false, &modest_bell));
    assert!(futures::poll!(&mut modest_take).is_ready());
    assert!(futures::poll!(&mut greedy_take).is_pending());
    // Nobody else waits: the first beyond a quarter goes on once there is room.
    drop(one);
    assert!(futures::poll!(&mut greedy_take).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_slow_holder_goes_while_others_wait() {
    let budget = Budget::new(8 * MIB);
    let (mut slow, slow_bell) = share(&budget);
    slow.charge(7 * MIB);
    let (quick, quick_bell) = share(&budget);
    let mut quick = quick;
    quick.charge(MIB + MIB / 2);
    let (mut waits, bell) = share(&budget);
    let mut take = Box::pin(waits.take(MIB, false, &bell));
    for _ in 0..3 {
        assert!(futures::poll!(&mut take).is_pending());
        quick.delivered(MIB);
        tokio::time::advance(SLOW_AFTER).await;
    }
    assert!(slow_bell.is_evicted());
    assert!(!quick_bell.is_evicted());
    drop(slow);
    take.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_holders_that_all_wait_the_last_goes() {
    let budget = Budget::new(8 * MIB);
    let (mut first, first_bell) = share(&budget);
    let (mut last, last_bell) = share(&budget);
    first.charge(4 * MIB);
    last.charge(4 * MIB);
    let mut first_take = Box::pin(first.take(MIB, true, &first_bell));
    assert!(futures::poll!(&mut first_take).is_pending());
    let mut last_take = Box::pin(last.take(MIB, true, &last_bell));
    assert!(futures::poll!(&mut last_take).is_pending());
    tokio::time::advance(SLOW_AFTER).await;
    assert!(futures::poll!(&mut first_take).is_pending());
    assert_eq!(futures::poll!(&mut last_take), std::task::Poll::Ready(Err(Evicted)));
    assert!(!first_bell.is_evicted());
}

#[tokio::test]
async fn frames_that_have_all_begun_do_not_wait_for_each_other() {
    let budget = Budget::new(8 * MIB);
    let mut shares: Vec<_> = (0..200).map(|_| share(&budget)).collect();
    let mut begun = 0;
    let mut waiting = Vec::new();
    for (share, bell) in &mut shares {
        let mut take = Box::pin(share.take(SMALL_HOLDER_BYTES, false, bell));
        match futures::poll!(&mut take) {
            std::task::Poll::Ready(taken) => {
                taken.unwrap();
                begun += 1;
            }
            std::task::Poll::Pending => waiting.push(take),
        }
    }
    // Three quarters went to small ones.
    assert_eq!((begun, waiting.len()), (96, 104));
    let (mut large, bell) = share(&budget);
    let mut take = Box::pin(large.take(MIB, true, &bell));
    assert!(futures::poll!(&mut take).is_ready());
}

#[tokio::test(start_paused = true)]
async fn small_holders_that_stay_silent_go_while_others_wait() {
    let budget = Budget::new(8 * MIB);
    let mut silent: Vec<_> = (0..96).map(|_| share(&budget)).collect();
    for (share, bell) in &mut silent {
        share.take(SMALL_HOLDER_BYTES, false, bell).await.unwrap();
    }
    silent[0].0.delivered(1);
    let (mut waits, bell) = share(&budget);
    let mut take = Box::pin(waits.take(SMALL_HOLDER_BYTES, false, &bell));
    assert!(futures::poll!(&mut take).is_pending());
    silent[0].0.delivered(1);
    tokio::time::advance(SLOW_AFTER).await;
    assert!(futures::poll!(&mut take).is_pending());
    let gone: Vec<usize> = (0..96).filter(|at| silent[*at].1.is_evicted()).collect();
    assert_eq!(gone, [1], "one is enough, and who delivers stays");
    drop(silent.remove(1));
    take.await.unwrap();
}

#[tokio::test]
async fn a_request_larger_than_the_budget_goes_through_alone() {
    let budget = Budget::new(1000);
    let (mut one, bell) = share(&budget);
    one.take(4 << 10, false, &bell).await.unwrap();
    one.take(MIB, true, &bell).await.unwrap();
    let (mut other, other_bell) = share(&budget);
    let mut take = Box::pin(other.take(100, false, &other_bell));
    assert!(futures::poll!(&mut take).is_pending());
    drop(one);
    assert!(futures::poll!(&mut take).is_ready());
}
