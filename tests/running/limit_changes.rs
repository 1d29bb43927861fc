//! Promise 5: the limit moves.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use http_body_util::BodyExt;
use loadshed::{Budget, LoadShed};
use tower::Layer;

use crate::support::{all, answer, get, holding, is_refused, run};

#[test]
fn p05_lowering_the_limit_cancels_nothing_and_admits_nothing_until_enough_has_ended() {
    let budget = Budget::fixed(5);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let mut running: Vec<_> = (0..5).map(|_| answer(&mut service, get("/"))).collect();
    budget.set_limit(2).unwrap();
    assert_eq!(
        (budget.limit(), budget.in_flight(), budget.utilization()),
        (2, 5, 2.5)
    );
    for left in (0..5).rev() {
        assert_eq!(
            is_refused(&answer(&mut service, get("/"))),
            left >= 1,
            "{left}"
        );
        let whole = run(running.pop().unwrap().into_body().collect());
        assert_eq!(whole.unwrap().to_bytes(), "data");
        assert_eq!(budget.in_flight(), left);
    }
}

#[test]
fn p05_raising_the_limit_takes_effect_at_once() {
    let budget = Budget::fixed(1);
    let mut service = LoadShed::ratio(0.5).budget(&budget).layer(holding());
    let mut running = vec![answer(&mut service, get("/"))];
    for (limit, more) in [(4, 1), (5, 0), (10, 3), (11, 0)] {
        budget.set_limit(limit).unwrap();
        running.extend((0..more).map(|_| answer(&mut service, get("/"))));
        assert!(is_refused(&answer(&mut service, get("/"))), "limit {limit}");
    }
    assert!(!running.iter().any(is_refused));
    assert_eq!(budget.in_flight(), 5);
}

#[test]
fn p05_who_tries_after_the_limit_was_lowered_is_never_admitted_by_the_old_one() {
    const LIMIT: usize = 4;
    let late = AtomicUsize::new(0);
    for _ in 0..200 {
        let budget = Budget::fixed(LIMIT);
        let (holders, lowered) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let after = lowered.load(Ordering::SeqCst);
                        let Ok(_permit) = budget.try_acquire(all()) else {
                            continue;
                        };
                        let now = holders.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= if after { 1 } else { LIMIT }, "{now} after {after}");
                        late.fetch_add(usize::from(after), Ordering::Relaxed);
                        thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            budget.set_limit(1).unwrap();
            lowered.store(true, Ordering::SeqCst);
        });
        assert_eq!((budget.limit(), budget.in_flight()), (1, 0));
    }
    let late = late.into_inner();
    assert!(late > 0, "all came before: nothing was tested");
}
