//! Promise 24: changes while requests run.

use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use loadshed::{Adaptive, Budget, LoadShed};
use tower::Layer;

use crate::support::{FnController, answer, get, holding, is_refused};

#[test]
fn p24_a_ratio_changes_for_those_who_come_and_not_for_those_who_run() {
    let budget = Budget::fixed(10);
    let shed = LoadShed::ratio(0.5).budget(&budget);
    // Of before, and of after the handle was made; the handle's clone is the same one.
    let mut early = shed.layer(holding());
    let handle = shed.handle().clone();
    let mut late = shed.clone().layer(holding());
    let mut running: Vec<_> = (0..5).map(|_| answer(&mut early, get("/"))).collect();
    assert!(is_refused(&answer(&mut late, get("/"))));
    handle.set_ratio(0.7).unwrap();
    running.extend([answer(&mut early, get("/")), answer(&mut late, get("/"))]);
    handle.set_ratio(0.2).unwrap();
    assert!(is_refused(&answer(&mut early, get("/"))) && is_refused(&answer(&mut late, get("/"))));
    assert!(!running.iter().any(is_refused));
    assert_eq!(handle.budget().in_flight(), 7);
    running.truncate(1);
    running.push(answer(&mut early, get("/")));
    assert!(!is_refused(&running[1]));
    assert!(is_refused(&answer(&mut late, get("/"))));
}

#[test]
fn p24_a_layer_that_only_observed_sheds_once_it_has_a_ratio() {
    let shed = LoadShed::observe().budget(Budget::fixed(2));
    let mut service = shed.layer(holding());
    let _running: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    shed.handle().set_ratio(1.0).unwrap();
    assert!(is_refused(&answer(&mut service, get("/"))));
    assert_eq!(shed.handle().budget().in_flight(), 3);
}

#[test]
fn p24_a_bad_value_is_refused_and_the_old_one_kept() {
    let budget = Budget::fixed(4);
    let shed = LoadShed::ratio(0.5).budget(&budget);
    let handle = shed.handle();
    for bad in [
        f64::NAN,
        0.0,
        -0.0,
        -0.5,
        1.0 + f64::EPSILON,
        50.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        let text = handle.set_ratio(bad).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("invalid ratio {bad}: must be greater than 0 and at most 1")
        );
    }
    for bad in [0, 1 << 31, 1 << 32, (1 << 32) + 1, usize::MAX] {
        let text = budget.set_limit(bad).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("invalid limit {bad}: must be from 1 to 2147483647")
        );
    }
    let mut service = shed.layer(holding());
    let responses: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    assert_eq!(
        responses.iter().map(is_refused).collect::<Vec<_>>(),
        [false, false, true]
    );

    let learned = Budget::new(Adaptive::default().initial(10).min(5).max(20));
    for bad in [0, 4, 21] {
        let text = learned.set_limit(bad).unwrap_err().to_string();
        assert_eq!(text, format!("invalid limit {bad}: must be from 5 to 20"));
    }
    assert_eq!(learned.limit(), 10);
    learned.set_limit(5).unwrap();
    learned.set_limit(20).unwrap();
    assert_eq!(learned.limit(), 20);
}

#[test]
fn p24_a_learned_limit_goes_on_from_what_it_was_set_to_once_that_is_given_back() {
    let learned = Budget::new(FnController::new(1..=100, 10, |window| window.limit + 1));
    let mut service = LoadShed::ratio(1.0).budget(&learned).layer(holding());
    drop(answer(&mut service, get("/")));
    assert_eq!(learned.limit(), 11);
    let running = answer(&mut service, get("/"));
    learned.set_limit(50).unwrap();
    assert_eq!((learned.limit(), learned.in_flight()), (50, 1));
    drop(answer(&mut service, get("/")));
    assert_eq!(learned.limit(), 50, "it holds");
    learned.resume_learning();
    drop(answer(&mut service, get("/")));
    drop(running);
    assert_eq!((learned.limit(), learned.in_flight()), (51, 0));
}

#[test]
fn p24_a_limit_that_is_set_while_the_controller_thinks_is_not_lost() {
    let (entered, has_entered) = mpsc::channel();
    let (may_go_on, goes_on) = mpsc::channel::<()>();
    let controller = FnController::new(1..=100, 10, move |window| {
        entered.send(()).unwrap();
        // Only the first time: after that, the other end is gone.
        let _ = goes_on.recv();
        window.limit + 1
    });
    let budget = Budget::new(controller);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let mut first = service.clone();
    let thinking = thread::spawn(move || drop(answer(&mut first, get("/"))));
    has_entered.recv().unwrap();
    budget.set_limit(3).unwrap();
    drop(may_go_on);
    thinking.join().unwrap();
    assert_eq!(budget.limit(), 3, "the controller has thought about 10");
    drop(answer(&mut service, get("/")));
    assert_eq!(budget.limit(), 3, "it holds");
    budget.resume_learning();
    drop(answer(&mut service, get("/")));
    assert_eq!(
        (budget.limit(), budget.in_flight()),
        (4, 0),
        "it goes on from there"
    );
}

#[test]
fn p24_dry_run_is_switched_both_ways_while_requests_run_and_no_permit_is_lost() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let handle = shed.handle();
    let mut service = shed.layer(holding());
    let first = answer(&mut service, get("/"));
    assert!(is_refused(&answer(&mut service, get("/"))));
    handle.set_dry_run(true);
    assert!(handle.dry_run());
    let marked = [
        answer(&mut service, get("/")),
        answer(&mut service, get("/")),
    ];
    assert!(!marked.iter().any(is_refused));
    assert_eq!((budget.in_flight(), budget.snapshot().marked), (3, 2));
    handle.set_dry_run(false);
    assert!(is_refused(&answer(&mut service, get("/"))));
    // The first request ends, then those that are marked. They count as long as they run.
    drop(first);
    assert!(is_refused(&answer(&mut service, get("/"))));
    drop(marked);
    let second = answer(&mut service, get("/"));
    assert!(!is_refused(&second));
    assert_eq!(budget.in_flight(), 1);
    assert!(is_refused(&answer(&mut service, get("/"))));
    drop(second);
    let figures = budget.snapshot();
    assert_eq!((figures.in_flight, figures.admitted), (0, 2));
    assert_eq!((figures.refused, figures.would_refuse), (4, 2));
}

#[test]
fn p24_under_a_storm_of_changes_no_request_and_no_permit_is_lost() {
    const REQUESTS: usize = 20_000;
    const CHANGES: usize = 1_000;
    let budget = Budget::fixed(2);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let outer = LoadShed::observe().budget(&budget);
    let (done, changes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let requests = thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|nth| {
                let service = outer.layer(shed.layer(holding()));
                let alone = shed.layer(holding());
                let changes = &changes;
                scope.spawn(move || {
                    let mut services = (service, alone);
                    let mut request = 0;
                    let changed = || changes.load(Ordering::Relaxed) >= CHANGES;
                    while request < REQUESTS || request < 1_000 * REQUESTS && !changed() {
                        request += 1;
                        if (request + nth) % 2 == 0 {
                            drop(answer(&mut services.0, get("/")));
                        } else {
                            drop(answer(&mut services.1, get("/")));
                        }
                    }
                    request
                })
            })
            .collect();
        scope.spawn(|| {
            let handle = shed.handle();
            for step in 0_usize.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                handle.set_dry_run(step % 2 == 0);
                handle.set_ratio([0.3, 1.0, 0.9][step % 3]).unwrap();
                budget.set_limit(1 + step % 4).unwrap();
                changes.store(step, Ordering::Relaxed);
            }
        });
        let requests: usize = workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum();
        done.store(true, Ordering::Relaxed);
        requests
    });
    assert!(changes.into_inner() >= CHANGES);
    let figures = budget.snapshot();
    assert_eq!(figures.in_flight, 0);
    assert_eq!(
        figures.admitted + figures.refused + figures.would_refuse,
        requests
    );
    assert!((1..=4).contains(&figures.limit));
}
