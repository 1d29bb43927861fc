//! Promise 25: closures, controllers and clocks that fail cost no request.

use std::{
    future::ready,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use loadshed::{Budget, LoadShed, LoadShedService};
use tower::{Layer, Service, service_fn};

use crate::support::{
    Broken, FnController, Scripted, Step, all, answer, caught, get, holding, is_refused,
    panic_on_purpose, quiet, run,
};

#[test]
fn p25_a_request_whose_threshold_closure_panics_is_served_and_never_shed() {
    quiet();
    let budget = Budget::fixed(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inner = {
        let seen = Arc::clone(&seen);
        service_fn(move |request: Request<Full<Bytes>>| {
            seen.lock().unwrap().push(format!("{request:?}"));
            ready(Ok::<_, Broken>(Response::new(crate::support::body([
                Step::Data,
            ]))))
        })
    };
    let shed = LoadShed::ratio(1.0).budget(&budget).threshold(|head| {
        assert_eq!(head.headers()["x-one"], "1");
        match head.uri().path() {
            "/panics" => panic_on_purpose(),
            _ => all(),
        }
    });
    let mut service = shed.layer(inner);
    let request = |path: &str| {
        let request = Request::put(path)
            .version(Version::HTTP_2)
            .header("x-one", "1")
            .extension("kept");
        request.body(Full::from("whole")).unwrap()
    };
    let mut running = Vec::new();
    for expected in 1..=3 {
        running.push(run(service.call(request("/panics"))).unwrap());
        assert!(!is_refused(&running[expected - 1]));
        // Never shed, and counted.
        assert_eq!(budget.in_flight(), expected);
    }
    assert!(is_refused(&run(service.call(request("/"))).unwrap()));
    drop(running);
    assert_eq!(budget.in_flight(), 0);
    // The head that the closure borrowed reached the inner service whole.
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|request| *request == seen[0]));
    for part in ["PUT", "/panics", "HTTP/2.0", "x-one", "whole"] {
        assert!(seen[0].contains(part), "{part} in {}", seen[0]);
    }
}

#[test]
fn p25_a_controller_that_panics_fails_no_request_and_the_limit_stays() {
    quiet();
    let calls = Arc::new(AtomicUsize::new(0));
    let controller = {
        let calls = Arc::clone(&calls);
        FnController::new(1..=10, 2, move |_| {
            match calls.fetch_add(1, Ordering::Relaxed) {
                0 => 3,
                _ => panic_on_purpose(),
            }
        })
    };
    let budget = Budget::new(controller);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    for _ in 0..20 {
        let responses: Vec<_> = (0..4).map(|_| answer(&mut service, get("/"))).collect();
        let refused = responses
            .iter()
            .filter(|response| is_refused(response))
            .count();
        assert_eq!((refused, budget.limit()), (1, 3));
        drop(responses);
        drop(budget.try_acquire(all()).unwrap());
    }
    assert_eq!(
        calls.load(Ordering::Relaxed),
        2,
        "the controller is not called again"
    );
    assert_eq!(budget.in_flight(), 0);
    budget.set_limit(7).unwrap();
    assert_eq!(budget.limit(), 7);
    assert!(
        budget.set_limit(11).is_err(),
        "the controller's limits stay too"
    );
}

/// A controller that panics in `update` and in `drop`.
#[derive(Debug)]
struct AlwaysPanics;

impl loadshed::control::Controller for AlwaysPanics {
    fn limits(&self) -> std::ops::RangeInclusive<usize> {
        1..=2
    }

    fn initial_limit(&self) -> usize {
        2
    }

    fn window(&self) -> Duration {
        Duration::ZERO
    }

    fn update(&mut self, _: &loadshed::control::Window<'_>) -> loadshed::control::Decision {
        panic_on_purpose()
    }
}

impl Drop for AlwaysPanics {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic_on_purpose();
        }
    }
}

#[test]
fn p25_a_controller_whose_drop_panics_too_fails_no_request() {
    quiet();
    let budget = Budget::new(AlwaysPanics);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    for _ in 0..5 {
        let served = panic::catch_unwind(AssertUnwindSafe(|| {
            let responses: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
            responses.iter().map(is_refused).collect::<Vec<_>>()
        }));
        assert_eq!(served.expect("the request is served"), [false, false, true]);
        assert_eq!((budget.limit(), budget.in_flight()), (2, 0));
    }
}

#[test]
fn p25_a_controller_that_panics_while_a_request_panics_does_not_abort_the_process() {
    let budget = Budget::new(FnController::new(1..=9, 2, |_| panic_on_purpose()));
    caught(|| {
        let _permit = budget.try_acquire(all()).unwrap();
        let _response = answer(
            &mut LoadShed::ratio(1.0).budget(&budget).layer(holding()),
            get("/"),
        );
        panic_on_purpose()
    });
    assert_eq!((budget.limit(), budget.in_flight()), (2, 0));
}

#[test]
fn p25_a_controller_is_kept_within_its_own_limits() {
    for (decision, limit) in [
        (0, 3),
        (2, 3),
        (9, 9),
        (10, 9),
        (1 << 31, 9),
        (1 << 32, 9),
        (usize::MAX, 9),
    ] {
        let budget = Budget::new(FnController::new(3..=9, 5, move |_| decision));
        drop(answer(
            &mut LoadShed::ratio(1.0).budget(&budget).layer(holding()),
            get("/"),
        ));
        assert_eq!(
            (budget.limit(), budget.in_flight()),
            (limit, 0),
            "{decision}"
        );
    }
}

#[test]
fn p25_a_controller_that_uses_its_own_budget_does_not_deadlock() {
    let own = Arc::new(Mutex::new(None::<Budget>));
    let controller = {
        let own = Arc::clone(&own);
        FnController::new(1..=9, 4, move |window| {
            if let Some(budget) = &*own.lock().unwrap() {
                drop(budget.try_acquire(all()));
                budget.set_limit(2).unwrap();
                assert_eq!(budget.snapshot().limit, 2);
            }
            window.limit
        })
    };
    let budget = Budget::new(controller);
    *own.lock().unwrap() = Some(budget.clone());
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let (finished, has_finished) = mpsc::channel();
    let request = thread::spawn(move || {
        for _ in 0..10 {
            drop(answer(&mut shed.layer(holding()), get("/")));
        }
        finished.send(()).unwrap();
    });
    has_finished
        .recv_timeout(Duration::from_secs(20))
        .expect("the controller does not wait for itself");
    request.join().unwrap();
    // A limit that was set while the controller decided stays: the decision was based on the limit before.
    assert_eq!((budget.limit(), budget.in_flight()), (2, 0));
    own.lock().unwrap().take();
}

#[tokio::test(start_paused = true)]
async fn p25_a_clock_that_stands_still_changes_no_limit() {
    let shed = LoadShed::ratio(1e-4);
    let mut service: LoadShedService<Scripted> = shed.layer(holding());
    let budget = shed.handle().budget().clone();
    let limit = budget.limit();
    for _ in 0..2_000 {
        let responses: Vec<_> = (0..8).map(|_| answer(&mut service, get("/"))).collect();
        assert_eq!(
            responses
                .iter()
                .filter(|response| is_refused(response))
                .count(),
            2
        );
    }
    assert_eq!((budget.limit(), budget.in_flight()), (limit, 0));
}
