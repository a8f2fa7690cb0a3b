use super::*;

fn back(limit: i16) -> Redelivery {
    Redelivery { count_limit: limit, from_ms: 0 }
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
    let mut live = 0;
    for (first, run) in &f.runs {
        assert_eq!(*first, at);
        assert!(run.last >= *first);
        if let Some(b) = before {
            assert!(b.state != run.state || b.count != run.count, "neighbours alike at {at}: {f:?}");
        }
        if !matches!(run.state, State::Done(_)) {
            live += run.last.abs_diff(*first) + 1;
        }
        at = run.last + 1;
        before = Some(*run);
    }
    assert_eq!(at, f.end);
    assert_eq!(live, f.live);
    assert!(f.runs.first_key_value().is_none_or(|(_, run)| !matches!(run.state, State::Done(_))));
}

#[test]
fn a_model_with_an_entry_an_offset_agrees() {
    for seed in 0..3000u64 {
        let mut r = Lcg(seed);
        let mut f = InFlight::new(0, &[]);
        let mut m: BTreeMap<Offset, (State, i16)> = BTreeMap::new();
        let mut now = 0;
        let mut pending: Vec<Vec<StateBatch>> = vec![];
        for _ in 0..60 {
            now += r.next(5);
            let limit = 3;
            match r.next(6) {
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
                        if matches!(e.0, State::Available { .. }) {
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
                        f.acknowledge((first, last), said, lock, back(limit), &mut lines);
                        for o in first..=last {
                            let e = m.get_mut(&o).unwrap();
                            let State::Acquired(l) = e.0 else { panic!() };
                            e.0 = match said {
                                Acknowledgement::Renew => State::Acquired(lock),
                                Acknowledgement::Accept => {
                                    State::Settling { lock: l, to: Delivery::Acknowledged, from_ms: 0 }
                                }
                                Acknowledgement::Release if e.1 < limit => {
                                    State::Settling { lock: l, to: Delivery::Available, from_ms: 0 }
                                }
                                _ => State::Settling { lock: l, to: Delivery::Archived, from_ms: 0 },
                            }
                        }
                        let covered: Vec<_> = lines.iter().flat_map(|l| l.first..=l.last).collect();
                        if said == Acknowledgement::Renew {
                            assert!(covered.is_empty())
                        } else {
                            assert_eq!(covered, (first..=last).collect::<Vec<_>>());
                            pending.push(lines);
                        }
                    }
                }
                4 => {
                    let mut lines = vec![];
                    let by: Box<dyn Fn(&Lock) -> bool> = if r.next(2) == 0 {
                        f.expire(now, back(limit), &mut lines);
                        Box::new(move |l: &Lock| l.until_ms <= now)
                    } else {
                        let h = r.next(3) as u32;
                        f.release(h, back(limit), &mut lines);
                        Box::new(move |l: &Lock| l.holder == h)
                    };
                    let mut n = 0;
                    for e in m.values_mut() {
                        if let State::Acquired(l) = e.0
                            && by(&l)
                        {
                            n += 1;
                            e.0 = State::Settling {
                                lock: l,
                                to: if e.1 >= limit { Delivery::Archived } else { Delivery::Available },
                                from_ms: 0,
                            }
                        }
                    }
                    assert_eq!(n, lines.iter().map(|l| l.last - l.first + 1).sum::<i64>());
                    if !lines.is_empty() {
                        pending.push(lines)
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
                        if let State::Settling { lock, to, from_ms } = e.0 {
                            e.0 = if !written {
                                State::Acquired(lock)
                            } else if to == Delivery::Available {
                                State::Available { from_ms }
                            } else {
                                State::Done(to)
                            }
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
