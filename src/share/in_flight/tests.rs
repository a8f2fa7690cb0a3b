use std::cell::Cell;

use super::*;

/// Lets so many through, and counts what was accepted.
#[derive(Default)]
struct Gate {
    left: Cell<u64>,
    accepted: Cell<u64>,
}

impl DeadLetters for Gate {
    fn admit(&self, records: u64) -> u64 {
        let admitted = records.min(self.left.get());
        self.left.set(self.left.get() - admitted);
        admitted
    }

    fn accepted(&self, records: u64) {
        self.accepted.set(self.accepted.get() + records);
    }
}

/// The model's own arithmetic of a wait.
fn waits(seed: u64, count: i16, now: u64) -> u64 {
    match seed % 2 {
        0 => 0,
        _ => now + [2, 4, 5, 5, 5, 5][count as usize - 1],
    }
}

struct Lcg(u64);
impl Lcg {
    fn next(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

fn held(f: &InFlight) -> BTreeMap<Offset, (State, i16)> {
    f.runs.iter().flat_map(|(first, run)| (*first..=run.last).map(move |at| (at, (run.state, run.count)))).collect()
}
fn sound(f: &InFlight) {
    let mut at = f.start;
    let mut before: Option<Run> = None;
    let (mut live, mut archiving) = (0, 0);
    for (first, run) in &f.runs {
        assert_eq!(*first, at);
        assert!(run.last >= *first);
        if let Some(b) = before {
            assert!(b.state != run.state || b.count != run.count, "neighbours alike at {at}: {f:?}");
        }
        if !matches!(run.state, State::Done(_)) {
            live += run.last.abs_diff(*first) + 1;
        }
        if matches!(run.state, State::Archiving(_)) {
            archiving += run.last.abs_diff(*first) + 1;
        }
        at = run.last + 1;
        before = Some(*run);
    }
    assert_eq!(at, f.end);
    assert_eq!((live, archiving), (f.live, f.archiving));
    assert!(f.runs.first_key_value().is_none_or(|(_, run)| !matches!(run.state, State::Done(_))));
}

/// The model's own way to find it, offset by offset.
fn progress(f: &InFlight, m: &BTreeMap<Offset, (State, i16)>, lines: &[StateBatch]) -> Progress {
    let is_done = |at: &Offset| {
        matches!(m.get(at), Some((State::Done(_), _)))
            || lines.iter().any(|line| (line.first..=line.last).contains(at) && line.delivery.is_done())
    };
    let start = (f.start()..f.end()).find(|at| !is_done(at)).unwrap_or(f.end());
    Progress { start, complete: (start..f.end()).filter(is_done).count() as u64 }
}

#[test]
fn a_model_with_an_entry_an_offset_agrees() {
    for seed in 0..3000u64 {
        let mut r = Lcg(seed);
        let mut f = InFlight::new(0, &[]);
        let mut m: BTreeMap<Offset, (State, i16)> = BTreeMap::new();
        let mut now = 0;
        let mut pending: Vec<Vec<StateBatch>> = vec![];
        // One seed in four has no dead letters, half of them wait between deliveries.
        let gate = Gate { left: Cell::new(seed % 50), ..Gate::default() };
        let backoff = Backoff { first_ms: if seed % 2 == 0 { 0 } else { 2 }, max_ms: 5, multiplier: 2.0 };
        let mut accepted = 0;
        for _ in 0..60 {
            now += r.next(5);
            let limit = 3;
            let dead_letters = (seed % 4 > 0).then_some(&gate as &dyn DeadLetters);
            let back = Redelivery { count_limit: limit, backoff, now_ms: now, dead_letters };
            let mut left = gate.left.get();
            // What the model makes of a record that failed.
            let mut fail = |count: i16, cause: Cause| match (seed % 4 > 0, left) {
                (false, _) => Fate::Done(Delivery::Archived),
                (true, 0) => Fate::Back { from_ms: waits(seed, count, now) },
                (true, _) => {
                    left -= 1;
                    Fate::DeadLetter(cause)
                }
            };
            match r.next(7) {
                0 | 1 => {
                    let first = f.next_offset(now).max(f.start());
                    let last = first + r.next(12) as i64;
                    let most = 1 + r.next(10);
                    let lock = Lock { holder: r.next(3) as u32, until_ms: now + 10 };
                    let given = f.acquire(first, last, most, lock, now);
                    let mut left = most;
                    let mut expect = vec![];
                    for at in first..=last {
                        if left == 0 {
                            break;
                        }
                        let e = m.entry(at).or_insert((State::Available { from_ms: 0 }, 0));
                        if matches!(e.0, State::Available { from_ms } if from_ms <= now) {
                            *e = (State::Acquired(lock), e.1 + 1);
                            expect.push((at, e.1));
                            left -= 1;
                        }
                    }
                    let got: Vec<_> = given.iter().flat_map(|a| (a.first..=a.last).map(|o| (o, a.count))).collect();
                    assert_eq!(got, expect);
                }
                2 | 3 => {
                    if f.end() == f.start() {
                        continue;
                    }
                    let first = f.start() + r.next((f.end() - f.start()) as u64) as i64;
                    let last = first + r.next(4) as i64;
                    let holder = r.next(3) as u32;
                    let ok = f.check(holder, first, last);
                    let exp = if last >= f.end() {
                        Err(Refused::NeverGivenOut)
                    } else if (first..=last).all(|o| matches!(m[&o].0, State::Acquired(l) if l.holder == holder)) {
                        Ok(())
                    } else {
                        Err(Refused::NotHeld)
                    };
                    assert_eq!(ok, exp);
                    if ok.is_ok() {
                        let said = [
                            Acknowledgement::Gap,
                            Acknowledgement::Accept,
                            Acknowledgement::Release,
                            Acknowledgement::Reject,
                            Acknowledgement::Renew,
                        ][r.next(5) as usize];
                        let mut lines = vec![];
                        let lock = Lock { holder, until_ms: now + 10 };
                        f.acknowledge((first, last), said, lock, back, &mut lines);
                        for o in first..=last {
                            let e = m.get_mut(&o).unwrap();
                            let State::Acquired(l) = e.0 else { panic!() };
                            e.0 = match said {
                                Acknowledgement::Renew => State::Acquired(lock),
                                Acknowledgement::Accept => {
                                    accepted += u64::from(seed % 4 > 0);
                                    State::Settling { lock: l, to: Fate::Done(Delivery::Acknowledged) }
                                }
                                Acknowledgement::Gap => State::Settling { lock: l, to: Fate::Done(Delivery::Archived) },
                                Acknowledgement::Release if e.1 < limit => {
                                    let to = Fate::Back { from_ms: waits(seed, e.1, now) };
                                    State::Settling { lock: l, to }
                                }
                                Acknowledgement::Release => State::Settling { lock: l, to: fail(e.1, Cause::TooOften) },
                                Acknowledgement::Reject => State::Settling { lock: l, to: fail(e.1, Cause::Rejected) },
                            }
                        }
                        let covered: Vec<_> = lines.iter().flat_map(|l| l.first..=l.last).collect();
                        if said == Acknowledgement::Renew {
                            assert!(covered.is_empty())
                        } else {
                            assert_eq!(covered, (first..=last).collect::<Vec<_>>());
                            assert_eq!(f.progress_with(&lines), progress(&f, &m, &lines), "seed {seed}");
                            pending.push(lines);
                        }
                    }
                }
                4 => {
                    let mut lines = vec![];
                    let by: Box<dyn Fn(&Lock) -> bool> = if r.next(2) == 0 {
                        f.expire(now, back, &mut lines);
                        Box::new(move |l: &Lock| l.until_ms <= now)
                    } else {
                        let h = r.next(3) as u32;
                        f.release(h, back, &mut lines);
                        Box::new(move |l: &Lock| l.holder == h)
                    };
                    let mut n = 0;
                    for e in m.values_mut() {
                        if let State::Acquired(l) = e.0
                            && by(&l)
                        {
                            n += 1;
                            let to = match e.1 >= limit {
                                true => fail(e.1, Cause::TooOften),
                                false => Fate::Back { from_ms: waits(seed, e.1, now) },
                            };
                            e.0 = State::Settling { lock: l, to }
                        }
                    }
                    assert_eq!(n, lines.iter().map(|l| l.last - l.first + 1).sum::<i64>());
                    if !lines.is_empty() {
                        pending.push(lines)
                    }
                }
                5 => {
                    // Dead letters of the first that wait, or of a part of them.
                    let waiting = f.archiving(2);
                    let Some(run) = waiting.first() else { continue };
                    let last = run.first + r.next((run.last - run.first + 1) as u64) as i64;
                    let lines = f.archived(run.first, last);
                    let written = r.next(4) > 0;
                    f.settled(&lines, written);
                    for o in (run.first..=last).filter(|_| written) {
                        let e = m.get_mut(&o).unwrap();
                        assert!(matches!(e.0, State::Archiving(_)));
                        e.0 = State::Done(Delivery::Archived);
                    }
                }
                _ => {
                    if pending.is_empty() {
                        continue;
                    }
                    let lines = pending.remove(r.next(pending.len() as u64) as usize);
                    let written = r.next(4) > 0;
                    f.settled(&lines, written);
                    for o in lines.iter().flat_map(|l| l.first..=l.last) {
                        let e = m.get_mut(&o).unwrap();
                        e.0 = match e.0 {
                            State::Settling { lock, .. } if !written => State::Acquired(lock),
                            State::Settling { to: Fate::Back { from_ms }, .. } => State::Available { from_ms },
                            State::Settling { to: Fate::Done(done), .. } => State::Done(done),
                            State::Settling { to: Fate::DeadLetter(cause), .. } => State::Archiving(Some(cause)),
                            other => other,
                        }
                    }
                }
            }
            while let Some(e) = m.first_entry() {
                if matches!(e.get().0, State::Done(_)) {
                    e.remove();
                } else {
                    break;
                }
            }
            sound(&f);
            assert_eq!(gate.accepted.get(), accepted);
            let mut mm = m.clone();
            // skipped
            for o in f.start()..f.end() {
                mm.entry(o).or_insert((State::Available { from_ms: 0 }, 0));
            }
            assert_eq!(held(&f), mm, "seed {seed}");
            let g = InFlight::new(f.start(), &f.lines());
            sound(&g);
            assert_eq!((g.start(), g.end(), g.live()), (f.start(), f.end(), f.live()));
        }
    }
}

#[test]
fn a_record_waits_ever_longer_up_to_the_longest() {
    let backoff = Backoff { first_ms: 100, max_ms: 1000, multiplier: 3.0 };
    assert_eq!([1, 2, 3, 4, i16::MAX].map(|count| backoff.until_ms(count, 50)), [150, 350, 950, 1050, 1050]);
    let none = Backoff { first_ms: 0, ..backoff };
    assert_eq!(none.until_ms(5, 50), 0);
    let short = Backoff { max_ms: 10, ..backoff };
    assert_eq!(short.until_ms(9, 50), 150, "the first wait counts where it is longer");
}

#[test]
fn dead_letters_that_wait_hold_up_others_only_when_they_are_too_many() {
    let mut f = InFlight::new(0, &[StateBatch { first: 0, last: 9, delivery: Delivery::Archiving, count: 5 }]);
    assert_eq!((f.live(), f.room(10), f.room(4)), (10, 10, 0));
    f.acquire(10, 12, 3, Lock { holder: 1, until_ms: 9 }, 0);
    assert_eq!((f.room(10), f.room(4)), (7, 0));
    assert_eq!((f.start(), f.progress_with(&f.archived(0, 9))), (0, Progress { start: 10, complete: 0 }));
    f.log_starts_at(100);
    assert_eq!(
        f.archiving(9),
        [Archiving { first: 0, last: 9, count: 5, cause: None }],
        "they wait on without their records"
    );
}

#[test]
fn what_is_done_behind_a_held_record_takes_up_room() {
    let mut f = InFlight::new(0, &[]);
    let lock = Lock { holder: 1, until_ms: 9 };
    f.acquire(0, 9, 10, lock, 0);
    let back = Redelivery {
        count_limit: 5,
        backoff: Backoff { first_ms: 0, max_ms: 0, multiplier: 1.0 },
        now_ms: 0,
        dead_letters: None,
    };
    let say = |f: &mut InFlight, range, said| {
        let mut lines = Vec::new();
        f.acknowledge(range, said, lock, back, &mut lines);
        f.settled(&lines, true)
    };
    assert!(!say(&mut f, (1, 9), Acknowledgement::Accept), "no room for who waits for it");
    assert_eq!((f.live(), f.room(10)), (1, 0));
    assert!(say(&mut f, (0, 0), Acknowledgement::Accept));
    assert_eq!(f.room(10), 10);
}

#[test]
fn the_lock_of_what_settles_is_watched_on() {
    let mut f = InFlight::new(0, &[]);
    f.acquire(0, 9, 10, Lock { holder: 7, until_ms: 9 }, 0);
    let backoff = Backoff { first_ms: 0, max_ms: 0, multiplier: 1.0 };
    let back = Redelivery { count_limit: 5, backoff, now_ms: 1, dead_letters: None };
    let mut lines = Vec::new();
    f.release(7, back, &mut lines);
    assert_eq!((f.next_moment(1), f.holders()), (Some(9), [7].into()));
    f.settled(&lines, false);
    assert_eq!(f.next_moment(1), Some(9));
    f.release(7, back, &mut lines);
    f.settled(&lines, true);
    assert_eq!((f.next_moment(1), f.holders()), (None, [].into()));
}
