//! Real threads, while stripes are opened and permits reclaimed all the time, against an exact oracle. Its bounds for a moment are
//! the events that had ended before the call, and the events that had begun after it.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
};

use super::Count;
use crate::admission::count::cap::ceiling;

const THREADS: u64 = 4;
const STEPS: usize = 500_000;
/// The steps that have to find the stripes open, and those that have to find them shut.
const EACH: usize = STEPS / 50;

/// In units, since the beginning: none of these ever goes down.
#[derive(Default)]
struct Oracle {
    /// Units asked for, and units released or refused.
    asked: AtomicU64,
    gone: AtomicU64,
    /// Units certainly in flight at some time, and units whose release has begun.
    admitted: AtomicU64,
    leaving: AtomicU64,
    most: AtomicU64,
}

impl Oracle {
    /// Asks for `units` below one of `caps`, the lowest and the highest that may apply.
    fn acquire(&self, count: &Count, units: u32, share: u32, limits: [u32; 2]) -> bool {
        let cap = |limit: u32| limit / share;
        let units_64 = u64::from(units);
        let (gone, admitted) = (self.gone.load(SeqCst), self.admitted.load(SeqCst));
        self.asked.fetch_add(units_64, SeqCst);
        let result = count.acquire(units, cap);
        let (asked, leaving) = (self.asked.load(SeqCst), self.leaving.load(SeqCst));
        let [lowest, highest] = limits.map(|limit| u64::from(cap(limit)));
        let (least, most) = (admitted.saturating_sub(leaving), asked - gone);
        match result {
            Ok(_) => {
                assert!(
                    least + units_64 <= highest,
                    "{least} in flight, cap {highest}"
                );
                self.admitted.fetch_add(units_64, SeqCst);
                self.most.fetch_max(least + units_64, SeqCst);
            }
            Err(level) => {
                assert!(
                    most > lowest,
                    "refused with at most {most} in flight, cap {lowest}"
                );
                assert!(u64::from(level.in_flight) + units_64 > lowest);
                self.gone.fetch_add(units_64, SeqCst);
            }
        }
        result.is_ok()
    }

    fn release(&self, count: &'static Count, units: u32) {
        self.leaving.fetch_add(units.into(), SeqCst);
        count.release(units);
        self.gone.fetch_add(units.into(), SeqCst);
    }
}

/// Returns random numbers below n.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    move |n| random.u64(..n)
}

/// Returns how many permits a thread may hold: now many, now few.
fn most_held(step: usize) -> u64 {
    if (step / 1_000).is_multiple_of(2) {
        2
    } else {
        20
    }
}

/// Runs with one limit, or with two between which it is moved.
fn stress(limits: [u32; 2]) {
    let count = Count::claim(limits[0]);
    let oracle = Oracle::default();
    let (caching, exact) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (oracle, caching, exact) = (&oracle, &caching, &exact);
            scope.spawn(move || {
                let mut below = random(seed);
                let mut held = Vec::new();
                // How often the stripes open depends on when threads are preempted: one that holds many permits then keeps them
                // shut.
                let both = || {
                    [caching, exact]
                        .iter()
                        .all(|seen| seen.load(SeqCst) >= EACH)
                };
                for step in (0..100 * STEPS).take_while(|&step| step < STEPS || !both()) {
                    let mode = if count.word.load(SeqCst).is_caching() {
                        caching
                    } else {
                        exact
                    };
                    mode.fetch_add(1, SeqCst);
                    match below(64) {
                        0 if limits[0] != limits[1] => {
                            count.set_limit(limits[below(2) as usize]);
                        }
                        1 => count.open(),
                        2 => assert!(u64::from(count.level().in_flight) <= u64::from(limits[1])),
                        _ if held.len() as u64 > below(most_held(step)) => {
                            let at = below(held.len() as u64) as usize;
                            oracle.release(count, held.swap_remove(at));
                        }
                        _ => {
                            let (units, share) = (1 + below(3) as u32, 1 + below(3) as u32);
                            if oracle.acquire(count, units, share, limits) {
                                held.push(units);
                            }
                        }
                    }
                }
                for units in held {
                    oracle.release(count, units);
                }
            });
        }
    });
    assert_eq!(count.level().in_flight, 0);
    count.reclaim();
    assert_eq!(
        count.level().in_flight,
        0,
        "no unit was lost, in the word or in a stripe"
    );
    let peak = u64::from(count.peak());
    assert!((oracle.most.load(SeqCst)..=limits[1].into()).contains(&peak));
    let modes = [caching, exact].map(AtomicUsize::into_inner);
    assert!(modes.iter().all(|&seen| seen >= EACH), "{modes:?}");
    count.abandon();
}

#[test]
fn p02_admitted_requests_fit_and_refused_requests_did_not_while_stripes_open_and_shut() {
    let stripes = Count::claim(1).stripes.len() as u32;
    stress([4 * stripes.max(8); 2]);
}

#[test]
fn p05_admitted_requests_fit_and_refused_requests_did_not_while_the_limit_moves() {
    let stripes = Count::claim(1).stripes.len() as u32;
    stress([3, 4].map(|times| times * stripes.max(8)));
}

#[test]
fn one_thread_sees_no_difference_between_a_count_that_caches_permits_and_a_plain_count() {
    let stripes = Count::claim(1).stripes.len() as u32;
    let limits = [2, 3, 4].map(|times| times * stripes.max(8));
    let (mut limit, mut in_flight, mut peak) = (limits[0], 0, 0);
    let count = Count::claim(limit);
    let mut held = Vec::new();
    let mut below = random(0);
    let mut modes = [0; 2];
    for step in 0..STEPS {
        modes[usize::from(count.word.load(SeqCst).is_caching())] += 1;
        match below(64) {
            0 => {
                limit = limits[below(3) as usize];
                count.set_limit(limit);
            }
            1 => count.open(),
            2 => {
                count.reclaim();
            }
            _ if held.len() as u64 > below(most_held(step)) => {
                let units = held.swap_remove(below(held.len() as u64) as usize);
                count.release(units);
                in_flight -= units;
            }
            _ => {
                // Now and then a request costs more than the limit.
                let most = if below(32) == 0 { 100 } else { 3 };
                let units = 1 + below(most) as u32;
                let share = 1 + below(3) as u32;
                let fits = in_flight == 0 || in_flight + units <= limit / share;
                let admitted = count.acquire(units, |limit| limit / share).is_ok();
                assert_eq!(
                    admitted, fits,
                    "{units} beside {in_flight}, 1/{share} of {limit}"
                );
                if admitted {
                    held.push(units);
                    in_flight += units;
                    peak = peak.max(in_flight);
                }
            }
        }
        let level = count.level();
        assert_eq!((level.limit, level.in_flight), (limit, in_flight));
        // Exact above the highest ceiling.
        let highest = peak.max(ceiling(limits[2]));
        assert!((peak..=highest).contains(&count.peak()));
    }
    assert!(modes.iter().all(|&seen| seen > STEPS / 100), "{modes:?}");
}
