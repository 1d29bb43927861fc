//! Requests that take more of the budget than others do.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use http::{Request, StatusCode};
use http_body_util::Empty;
use loadshed::{Budget, LoadShed, LoadShedService, Reason, Threshold, content_length};
use support::{
    FnController, Req, all, answer, get, holding, is_refused, panic_on_purpose, quiet, run,
};
use tower::{Layer, Service, ServiceExt, service_fn};

/// A request with its cost in a header.
fn costing(units: usize) -> Req {
    let request = Request::get("/").header("x-units", units);
    request.body(Empty::new()).unwrap()
}

fn units(head: &Request<()>) -> usize {
    let units = head.headers().get("x-units");
    units.map_or(1, |units| units.to_str().unwrap().parse().unwrap())
}

#[test]
fn p01_the_units_in_flight_stay_within_ratio_times_limit() {
    let budget = Budget::fixed(100);
    let layer = LoadShed::ratio(0.85).budget(&budget).cost(units);
    let mut service = layer.layer(holding());
    let first = answer(&mut service, costing(80));
    assert_eq!((budget.in_flight(), budget.utilization()), (80, 0.8));
    assert!(is_refused(&answer(&mut service, costing(6))));
    let second = answer(&mut service, costing(5));
    assert_eq!(budget.in_flight(), 85);
    assert!(is_refused(&answer(&mut service, costing(1))));
    drop(first);
    assert_eq!(budget.in_flight(), 5);
    drop(second);
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.peak_in_flight), (0, 85));
    // These count requests, not units.
    assert_eq!((snapshot.admitted, snapshot.refused), (2, 2));
}

#[test]
fn p01_a_request_that_costs_more_than_the_whole_budget_is_served_alone() {
    let budget = Budget::fixed(10);
    let layer = LoadShed::ratio(0.5).budget(&budget).cost(units);
    let mut service = layer.layer(holding());
    for expensive in [6, 10, 11, 5_000_000_000] {
        let small = answer(&mut service, costing(1));
        assert!(
            is_refused(&answer(&mut service, costing(expensive))),
            "{expensive}"
        );
        drop(small);
        let alone = answer(&mut service, costing(expensive));
        assert!(!is_refused(&alone), "{expensive}");
        assert!(is_refused(&answer(&mut service, costing(1))));
        drop(alone);
        assert_eq!(budget.in_flight(), 0);
    }
}

#[test]
fn p03_units_of_any_number_are_released_once() {
    let budget = Budget::fixed(1_000_000);
    let layer = LoadShed::ratio(0.85).budget(&budget).cost(units);
    let mut service = layer.layer(holding());
    // Two bytes of the permit are for its units. More units are held elsewhere.
    for cost in [65_535, 65_536, 850_000] {
        let held = answer(&mut service, costing(cost));
        assert_eq!(budget.in_flight(), cost);
        drop(held);
        let held = budget
            .try_acquire_many(cost, Threshold::ratio(0.85))
            .unwrap();
        assert_eq!(budget.in_flight(), cost);
        held.succeeded();
        assert_eq!(budget.in_flight(), 0);
    }
}

#[test]
fn p10_a_request_that_costs_more_than_its_cap_leaves_the_capacity_above_to_higher_classes() {
    let budget = Budget::fixed(200);
    let giant = budget.try_acquire_many(usize::MAX, Threshold::ratio(0.85));
    assert_eq!(budget.in_flight(), 170);
    assert!(budget.try_acquire(Threshold::ratio(0.85)).is_err());
    let above = budget.try_acquire_many(30, Threshold::ratio(1.0));
    assert!(above.is_ok());
    // A request that is never refused is counted all the same.
    let never = budget.try_acquire_many(usize::MAX, Threshold::NEVER_SHED);
    assert_eq!(budget.in_flight(), 400);
    drop((giant, above, never));
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p01_a_cost_of_0_counts_as_1() {
    let budget = Budget::fixed(2);
    let mut service = LoadShed::ratio(1.0)
        .budget(&budget)
        .cost(units)
        .layer(holding());
    let held = [0, 0].map(|units| answer(&mut service, costing(units)));
    assert_eq!(budget.in_flight(), 2);
    assert!(is_refused(&answer(&mut service, costing(0))));
    drop(held);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p02_threads_with_different_costs_never_exceed_the_budget() {
    static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);
    // 1, 7 and 29 fill the budget, as 7 and 30 do: one unit more is too many.
    let budget = Budget::fixed(37);
    let most = thread::scope(|scope| {
        let threads = [1, 7, 29, 30].map(|units| {
            let budget = &budget;
            scope.spawn(move || {
                let mut most = 0;
                for _ in 0..20_000 {
                    let permit = budget.try_acquire_many(units, all());
                    let held = if permit.is_ok() { units } else { 0 };
                    most = most.max(IN_FLIGHT.fetch_add(held, Ordering::SeqCst) + held);
                    // Threads yield with and without a permit: otherwise they would hardly ever meet.
                    thread::yield_now();
                    IN_FLIGHT.fetch_sub(held, Ordering::SeqCst);
                    drop(permit);
                    thread::yield_now();
                }
                most
            })
        });
        threads
            .map(|thread| thread.join().unwrap())
            .into_iter()
            .max()
    });
    assert!(most <= Some(37), "{most:?}");
    let snapshot = budget.snapshot();
    assert_eq!(
        (snapshot.in_flight, snapshot.admitted + snapshot.refused),
        (0, 80_000)
    );
    assert!(
        snapshot.refused > 0,
        "no request was refused: nothing was tested"
    );
}

#[test]
fn p03_the_cost_of_a_request_is_given_back_once_however_the_request_ends() {
    quiet();
    let budget = Budget::fixed(100);
    let layer = LoadShed::ratio(1.0).budget(&budget).cost(units);
    // Dropped before it was polled; a body dropped half-way; the inner service panics; it fails.
    let service = layer.layer(holding());
    drop(service.clone().call(costing(40)));
    assert_eq!(budget.in_flight(), 0);
    drop(run(service.clone().oneshot(costing(40))));
    assert_eq!(budget.in_flight(), 0);
    let panics = layer.layer(service_fn(
        async |_: Req| -> Result<http::Response<Empty<bytes::Bytes>>, ()> { panic_on_purpose() },
    ));
    support::caught(|| run(panics.oneshot(costing(40))));
    assert_eq!(budget.in_flight(), 0);
    let fails = layer.layer(service_fn(async |_: Req| {
        Err::<http::Response<Empty<bytes::Bytes>>, _>("no")
    }));
    assert_eq!(run(fails.oneshot(costing(40))).unwrap_err(), "no");
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p04_the_whole_cost_is_held_until_the_body_ends() {
    let budget = Budget::fixed(100);
    let layer = LoadShed::ratio(1.0).budget(&budget).cost(units);
    let response = answer(&mut layer.layer(holding()), costing(60));
    assert_eq!(budget.in_flight(), 60);
    drop(response);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p05_a_limit_that_is_lowered_below_an_expensive_request_lets_it_run() {
    let budget = Budget::fixed(100);
    let permit = budget.try_acquire_many(60, all()).unwrap();
    budget.set_limit(10).unwrap();
    assert_eq!(budget.utilization(), 6.0);
    assert!(budget.try_acquire(all()).is_err());
    budget.set_limit(61).unwrap();
    assert!(budget.try_acquire_many(2, all()).is_err());
    assert!(budget.try_acquire_many(1, all()).is_ok());
    drop(permit);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_of_several_layers_the_highest_cost_counts_once() {
    let budget = Budget::fixed(100);
    let outside = LoadShed::observe().budget(&budget);
    let inside = LoadShed::ratio(0.5).budget(&budget).cost(units);
    let mut service = outside.layer(inside.layer(holding()));
    let held = answer(&mut service, costing(30));
    assert_eq!(budget.in_flight(), 30);
    // 30 and 21 are more than 50: the one unit of the request is given back.
    assert!(is_refused(&answer(&mut service, costing(21))));
    assert_eq!(budget.in_flight(), 30);
    let second = answer(&mut service, costing(20));
    assert_eq!(budget.in_flight(), 50);
    // The peak has the units that an inner layer adds, too.
    assert_eq!(budget.snapshot().peak_in_flight, 50);
    drop((held, second));

    // The other way round, the outer layer has counted the whole cost, and the inner layer adds nothing.
    let outside = LoadShed::ratio(1.0).budget(&budget).cost(units);
    let inside = LoadShed::ratio(0.5).budget(&budget);
    let mut service = outside.layer(inside.layer(holding()));
    let held = answer(&mut service, costing(40));
    assert_eq!(budget.in_flight(), 40);
    assert!(is_refused(&answer(&mut service, costing(11))));
    assert_eq!(budget.in_flight(), 40);
    drop(held);
    let snapshot = budget.snapshot();
    assert_eq!(
        (snapshot.in_flight, snapshot.admitted, snapshot.refused),
        (0, 3, 2)
    );
}

#[test]
fn p02_with_cached_permits_an_inner_layer_adds_no_more_units_than_are_free() {
    let budget = Budget::fixed(1_000);
    let outer = LoadShed::observe().budget(&budget);
    let inner = LoadShed::ratio(0.3).budget(&budget).cost(units);
    let mut service = outer.clone().layer(inner.layer(holding()));
    // A high peak, and so many requests that permits are cached.
    drop(budget.try_acquire_many(400, Threshold::NEVER_SHED));
    for _ in 0..10_000 {
        drop(answer(&mut service, get("/")));
    }
    let held = answer(&mut service, get("/"));
    assert!(is_refused(&answer(&mut service, costing(350))));
    assert_eq!(budget.in_flight(), 1);
    let fits = answer(&mut service, costing(299));
    assert_eq!((is_refused(&fits), budget.in_flight()), (false, 300));
    drop((held, fits));
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p22_a_dry_run_counts_expensive_requests_that_it_would_have_refused() {
    let budget = Budget::fixed(100);
    let layer = LoadShed::ratio(0.5)
        .budget(&budget)
        .cost(units)
        .dry_run(true);
    let mut service = layer.layer(holding());
    let _held = answer(&mut service, costing(40));
    let beyond = answer(&mut service, costing(20));
    let seen = budget.snapshot();
    assert_eq!(beyond.status(), StatusCode::OK);
    assert_eq!((seen.in_flight, seen.marked), (60, 20));
    let _fits = answer(&mut service, costing(10));
    let seen = budget.snapshot();
    assert_eq!(
        (seen.in_flight, seen.marked, seen.would_refuse),
        (70, 20, 1)
    );
    drop(beyond);
    assert_eq!((budget.in_flight(), budget.snapshot().marked), (50, 0));
}

#[test]
fn p25_a_panic_in_the_cost_closure_counts_as_1_and_never_shed() {
    quiet();
    let budget = Budget::fixed(1);
    let layer = LoadShed::ratio(1.0)
        .budget(&budget)
        .cost(|_| panic_on_purpose());
    let mut service = layer.layer(holding());
    let held = [get("/"), get("/")].map(|request| answer(&mut service, request));
    assert_eq!(budget.in_flight(), 2);
    assert!(!held.iter().any(is_refused));
}

#[test]
fn an_upload_takes_as_many_units_as_it_has_mebibytes() {
    let budget = Budget::fixed(200);
    let layer = LoadShed::ratio(0.85)
        .budget(&budget)
        .cost(|head| 1 + content_length(head) / (1 << 20));
    let mut service = layer.layer(holding());
    let upload = |bytes: usize| {
        let request = Request::post("/mail").header("content-length", bytes);
        request.body(Empty::new()).unwrap()
    };
    // 39 units each.
    let large = [0; 4].map(|_| answer(&mut service, upload(40_000_000)));
    assert_eq!(budget.in_flight(), 4 * 39);
    assert!(is_refused(&answer(&mut service, upload(40_000_000))));
    let small = [0; 14].map(|_| answer(&mut service, upload(2_000)));
    assert_eq!(budget.in_flight(), 170);
    assert!(is_refused(&answer(&mut service, upload(2_000))));
    drop((large, small));
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_takes_a_slot_of_the_schedule_for_each_unit() {
    let budget = Budget::fixed(100);
    let held = budget.try_acquire_many(100, all()).unwrap();
    let wait = |units| {
        let shed = budget.try_acquire_many(units, all()).unwrap_err();
        assert_eq!(shed.reason(), Reason::Utilization);
        shed.retry_after()
    };
    let first = wait(50);
    // No request has completed yet, so each of the 100 units is assumed to take a second: 50 slots of 10 ms are ahead.
    let behind = wait(1);
    assert!(
        behind >= first + Duration::from_millis(490),
        "{first:?}, {behind:?}"
    );
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn p20_a_request_that_costs_more_than_the_budget_delays_the_next_by_no_more_than_the_budget()
{
    let budget = Budget::fixed(100);
    let held = budget.try_acquire_many(100, all()).unwrap();
    let refused = |units| budget.try_acquire_many(units, all()).unwrap_err();
    refused(5_000_000_000);
    // No request has completed yet: 100 slots of 10 ms, and the spread.
    let behind = refused(1).retry_after();
    assert!(behind <= Duration::from_millis(1_500), "{behind:?}");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_controller_gets_all_counts_in_units() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let controller = {
        let seen = Arc::clone(&seen);
        FnController::new(1..=1_000, 100, move |window| {
            let sample = window.samples[0];
            let figures = [window.in_flight, window.completed, window.refused];
            seen.lock()
                .unwrap()
                .push((figures, sample.in_flight, sample.cap));
            window.limit
        })
    };
    let budget = Budget::new(controller.every(Duration::from_secs(1)));
    let held = budget.try_acquire_many(30, all()).unwrap();
    let ends = budget.try_acquire_many(40, Threshold::ratio(0.8)).unwrap();
    assert!(budget.try_acquire_many(50, all()).is_err());
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(ends);
    assert_eq!(*seen.lock().unwrap(), [([30, 40, 50], 70, 80)]);
    drop(held);
}

#[test]
fn p09_a_request_that_is_never_shed_runs_at_any_cost() {
    let budget = Budget::fixed(10);
    let outer = LoadShed::observe().budget(&budget);
    let inner = LoadShed::ratio(0.5)
        .budget(&budget)
        .except(["/"])
        .cost(units);
    let mut service = outer.layer(inner.layer(holding()));
    let held = answer(&mut service, costing(usize::MAX));
    let second = answer(&mut service, costing(usize::MAX));
    assert!(!is_refused(&held) && !is_refused(&second));
    drop((held, second));
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p09_a_request_that_is_never_shed_runs_uncounted_where_no_more_units_can_be_counted() {
    const ALL: usize = (1 << 31) - 1;
    let budget = Budget::fixed(ALL);
    let mut held = vec![
        budget
            .try_acquire_many(ALL - 1, Threshold::NEVER_SHED)
            .unwrap(),
    ];
    let observe = || LoadShed::observe().budget(&budget);
    let mut expensive_inside = observe().layer(observe().cost(|_| 2).layer(holding()));
    let runs = |mut service: LoadShedService<_>| !is_refused(&answer(&mut service, get("/")));
    assert!(!is_refused(&answer(&mut expensive_inside, get("/"))));
    held.push(budget.try_acquire(Threshold::NEVER_SHED).unwrap());
    held.push(budget.try_acquire(Threshold::NEVER_SHED).unwrap());
    assert!(runs(observe().layer(holding())));
    assert!(runs(observe().key(|_| 1).layer(holding())));
    assert_eq!(budget.in_flight(), ALL);
    drop(held);
    assert_eq!(budget.in_flight(), 0);
}
