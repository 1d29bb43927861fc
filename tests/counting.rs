//! Promises 1, 2, 6 and 7: who is counted, and that it is once.

mod support;

use std::{
    future::ready,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
};

use axum::{Router, routing};
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use loadshed::{Budget, LoadShed, Threshold};
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, buffer::Buffer, service_fn, util::BoxCloneService};

use support::{
    Law, Req, Scripted, Step, all, answer, body, caught, get, holding, is_refused, next_frame, run,
};

// ---- 1: the exact threshold

#[test]
fn p01_what_is_admitted_is_ratio_times_limit_rounded_down_in_decimal_and_at_least_one() {
    for (ratio, limit, admitted) in [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.58, 50, 29),
        (0.85, 200, 170),
        (0.85, 199, 169),
        (0.999, 1000, 999),
        (5.0 / 6.0, 600, 500),
        (0.1 + 0.2, 10, 3),
        (1.0, 7, 7),
        (1.0 - f64::EPSILON, 7, 6),
        (0.5, 1, 1),
        (0.001, 10, 1),
        (f64::MIN_POSITIVE, 5, 1),
    ] {
        let budget = Budget::fixed(limit);
        let mut service = LoadShed::ratio(ratio).budget(&budget).layer(holding());
        let responses: Vec<_> = (0..limit + 3)
            .map(|_| answer(&mut service, get("/")))
            .collect();
        let first_refused = responses.iter().position(is_refused);
        assert_eq!(first_refused, Some(admitted), "{ratio} of {limit}");
        assert!(responses[admitted..].iter().all(is_refused));
        assert_eq!(budget.in_flight(), admitted);
        drop(responses);

        let threshold = Threshold::ratio(ratio);
        let permits: Vec<_> = (0..limit + 3)
            .map_while(|_| budget.try_acquire(threshold).ok())
            .collect();
        assert_eq!(
            permits.len(),
            admitted,
            "{ratio} of {limit}, without a layer"
        );
    }
}

#[test]
fn p01_one_more_is_admitted_for_each_one_that_ends() {
    let budget = Budget::fixed(10);
    let mut service = LoadShed::ratio(0.3).budget(&budget).layer(holding());
    let mut running: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    for _ in 0..10 {
        assert!(is_refused(&answer(&mut service, get("/"))));
        running.remove(0);
        running.push(answer(&mut service, get("/")));
        assert!(running.iter().all(|response| !is_refused(response)));
    }
    assert!(is_refused(&answer(&mut service, get("/"))));
}

#[test]
fn p01_thresholds_of_different_requests_are_measured_against_one_count() {
    let budget = Budget::fixed(10);
    let take = |threshold, n: usize| {
        let taken: Vec<_> = (0..n)
            .map_while(|_| budget.try_acquire(threshold).ok())
            .collect();
        (taken.len(), taken)
    };
    let (half, _half) = take(Threshold::ratio(0.5), 20);
    assert_eq!(half, 5);
    assert_eq!(take(Threshold::ratio(0.5), 1).0, 0);
    let (rest, rest_permits) = take(all(), 20);
    assert_eq!(rest, 5);
    let (never, _never) = take(Threshold::NEVER, 3);
    assert_eq!((never, budget.in_flight()), (3, 13));
    drop(rest_permits);
    // Eight are left: three of them were never to be shed, and count all the same.
    assert_eq!(take(Threshold::ratio(0.8), 1).0, 0);
    assert_eq!(take(Threshold::ratio(0.9), 5).0, 1);
}

#[test]
fn p01_the_largest_limit_is_as_exact_as_a_small_one() {
    let most = (1 << 31) - 1;
    let budget = Budget::fixed(most);
    let _permit = budget.try_acquire(Threshold::ratio(1e-300)).unwrap();
    assert!(
        budget.try_acquire(Threshold::ratio(1e-10)).is_err(),
        "a fifth of one: one"
    );
    let _second = budget.try_acquire(Threshold::ratio(1e-9)).unwrap();
    assert!(
        budget.try_acquire(Threshold::ratio(1e-9)).is_err(),
        "2.1: two"
    );
    assert_eq!((budget.limit(), budget.in_flight()), (most, 2));
}

// ---- 2: every interleaving

/// Runs `work` on so many threads at once, and returns what each returns.
fn on_threads<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..threads)
            .map(|nth| scope.spawn(move || work(nth)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Two threads try, hold for a moment and give back, as fast as they can. Returns how often they were admitted.
fn storm<T>(budget: &Budget, tries: usize, attempt: impl Fn() -> Option<T> + Sync) -> usize {
    let holders = AtomicUsize::new(0);
    let admitted = on_threads(2, |_| {
        let mut admitted = 0;
        for _ in 0..tries {
            let Some(_held) = attempt() else { continue };
            assert_eq!(
                holders.fetch_add(1, Ordering::SeqCst),
                0,
                "two at once under a cap of 1"
            );
            admitted += 1;
            holders.fetch_sub(1, Ordering::SeqCst);
        }
        admitted
    });
    let admitted = admitted.into_iter().sum();
    let figures = budget.snapshot();
    assert_eq!((figures.in_flight, figures.admitted), (0, admitted));
    assert_eq!(figures.refused, 2 * tries - admitted);
    assert!(
        figures.refused > 0,
        "the threads never met: nothing was tested"
    );
    admitted
}

#[test]
fn p02_holders_never_exceed_the_cap_and_none_is_lost_from_the_figures() {
    let budget = Budget::fixed(1);
    storm(&budget, 300_000, || budget.try_acquire(all()).ok());
    assert_eq!(budget.snapshot().peak_in_flight, 1);

    let budget = Budget::fixed(2);
    let layer = LoadShed::ratio(0.5).budget(&budget);
    let served = || {
        let response = answer(&mut layer.layer(holding()), get("/"));
        (!is_refused(&response)).then_some(response)
    };
    storm(&budget, 50_000, served);
    assert_eq!(budget.snapshot().peak_in_flight, 1);
}

#[test]
fn p02_the_figures_are_right_however_many_threads_come_and_go() {
    let budget = Budget::fixed(1_000);
    for _ in 0..3 {
        // More than the machine runs at once, and then again, under the numbers of those that are gone.
        let together = Barrier::new(12);
        on_threads(12, |_| {
            together.wait();
            for _ in 0..40_000 {
                drop(budget.try_acquire(all()).unwrap());
            }
        });
    }
    let figures = budget.snapshot();
    assert_eq!(
        (figures.admitted, figures.refused, figures.in_flight),
        (3 * 12 * 40_000, 0, 0)
    );
}

/// All threads try at once, hold what they got until all have tried, and give it back; many times over. Returns how
/// many were admitted in each round.
fn rounds<T>(threads: usize, rounds: usize, attempt: impl Fn() -> Option<T> + Sync) -> Vec<usize> {
    let arrived = AtomicUsize::new(0);
    // A `Barrier` wakes one after the other, too far apart for them to meet.
    let meet = |nth_time: usize| {
        arrived.fetch_add(1, Ordering::SeqCst);
        for spin in 0_usize.. {
            if arrived.load(Ordering::SeqCst) >= threads * nth_time {
                break;
            }
            if spin % 1_000 == 999 {
                thread::yield_now();
            }
        }
    };
    let admitted = on_threads(threads, |_| {
        let attempts = (0..rounds).map(|round| {
            meet(2 * round + 1);
            let got = attempt();
            meet(2 * round + 2);
            usize::from(got.is_some())
        });
        attempts.collect::<Vec<_>>()
    });
    (0..rounds)
        .map(|round| admitted.iter().map(|thread| thread[round]).sum())
        .collect()
}

#[test]
fn p02_as_many_as_there_is_room_for_are_all_admitted_when_they_come_at_once() {
    let budget = Budget::fixed(2);
    let admitted = rounds(2, 50_000, || budget.try_acquire(all()).ok());
    assert!(
        admitted.iter().all(|n| *n == 2),
        "one was refused where it had room"
    );
}

#[test]
fn p02_when_more_come_at_once_than_there_is_room_for_exactly_the_cap_is_admitted() {
    for (threads, cap, times) in [(2, 1, 50_000), (5, 3, 1_000)] {
        let budget = Budget::fixed(5);
        let layer = LoadShed::ratio(cap as f64 / 5.0).budget(&budget);
        let admitted = rounds(threads, times, || {
            let response = answer(&mut layer.layer(holding()), get("/"));
            (!is_refused(&response)).then_some(response)
        });
        let as_told = admitted.iter().all(|n| *n == cap);
        assert!(as_told, "of {threads}, not always {cap}");
    }
}

#[test]
fn p02_an_outer_layer_that_counts_first_makes_no_two_refuse_each_other() {
    for (threads, cap, times) in [(2, 1, 50_000), (3, 2, 1_000), (4, 2, 1_000)] {
        let budget = Budget::fixed(4);
        let outer = LoadShed::observe().budget(&budget);
        let inner = LoadShed::ratio(cap as f64 / 4.0).budget(&budget);
        let admitted = rounds(threads, times, || {
            let response = answer(&mut outer.layer(inner.layer(holding())), get("/"));
            (!is_refused(&response)).then_some(response)
        });
        let as_told = admitted.iter().all(|n| *n == cap);
        assert!(as_told, "of {threads}, not always {cap}");
        let figures = budget.snapshot();
        assert_eq!((figures.in_flight, figures.admitted), (0, cap * times));
        assert_eq!(figures.refused, (threads - cap) * times);
    }
}

// ---- 6: one value is one budget

#[test]
fn p06_a_layer_is_one_budget_however_often_it_is_cloned_and_applied() {
    // The second has no budget but the one that it made for itself.
    for shed in [
        LoadShed::ratio(1.0).budget(Budget::fixed(1)),
        LoadShed::ratio(1e-9),
    ] {
        let services = [
            shed.layer(holding()),
            shed.clone().layer(holding()),
            shed.layer(holding()).clone(),
        ];
        let mut responses = services.map(|mut service| answer(&mut service, get("/")));
        assert_eq!(responses.each_ref().map(is_refused), [false, true, true]);
        assert_eq!(shed.handle().budget().snapshot().refused, 2);
        responses[0] = answer(&mut shed.layer(holding()), get("/"));
        assert!(
            is_refused(&responses[0]),
            "the first was still there when this came"
        );
    }
}

#[test]
fn p06_a_setting_made_after_a_clone_leaves_the_budget_shared() {
    let shed = LoadShed::ratio(1.0).budget(Budget::fixed(1));
    let other = shed.clone().status(StatusCode::SERVICE_UNAVAILABLE);
    let _running = answer(&mut shed.layer(holding()), get("/"));
    let refused = answer(&mut other.layer(holding()), get("/"));
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn p06_two_values_share_a_budget_only_if_they_are_given_it() {
    let budget = Budget::fixed(1);
    let shared = [
        LoadShed::ratio(1.0).budget(&budget),
        LoadShed::ratio(0.5).budget(budget.clone()),
    ];
    let responses = shared
        .each_ref()
        .map(|shed| answer(&mut shed.layer(holding()), get("/")));
    assert_eq!(responses.each_ref().map(is_refused), [false, true]);

    let apart = [LoadShed::ratio(1e-9), LoadShed::ratio(1e-9)];
    let responses = apart
        .each_ref()
        .map(|shed| answer(&mut shed.layer(holding()), get("/")));
    assert!(!responses.iter().any(is_refused));
}

#[tokio::test]
async fn p06_a_router_that_is_rebuilt_for_each_request_shares_the_budget() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let app = || {
        let slow = || async { std::future::pending::<()>().await };
        Router::new()
            .route("/a", routing::get(slow))
            .route("/b", routing::get(slow))
            .layer(shed.clone())
    };
    let mut first =
        task::spawn(app().oneshot(Request::get("/a").body(axum::body::Body::empty()).unwrap()));
    assert!(first.poll().is_pending());
    for path in ["/a", "/b"] {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let refused = app().oneshot(request).await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(budget.in_flight(), 1);
}

// ---- 7: once per request, however many layers

/// Between two layers: `seen` is called when the inner service was called, and when it has answered.
fn watched<S>(
    inner: S,
    seen: impl Fn(&'static str) + Clone + Send + 'static,
) -> impl Service<Req, Response = S::Response, Error = S::Error, Future: Send> + Clone
where
    S: Service<Req, Future: Send> + Clone,
{
    service_fn(move |request| {
        let called = inner.clone().call(request);
        let seen = seen.clone();
        seen("called");
        async move {
            let answered = called.await;
            seen("answered");
            answered
        }
    })
}

#[test]
fn p07_a_request_that_passes_several_layers_of_one_budget_is_counted_once() {
    let budget = Budget::fixed(10);
    let outer = LoadShed::observe().budget(&budget);
    let middle = LoadShed::ratio(1.0).budget(&budget);
    let inner = LoadShed::ratio(0.2).budget(&budget);
    let once = {
        let budget = budget.clone();
        move |when| assert_eq!(budget.in_flight() % 10, 1, "{when}")
    };
    let mut service = outer.layer(watched(
        middle.layer(watched(inner.layer(holding()), once.clone())),
        once,
    ));
    let response = answer(&mut service, get("/"));
    assert_eq!(budget.in_flight(), 1);
    drop(response);
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.peak_in_flight, figures.admitted),
        (0, 1, 1)
    );
}

#[test]
fn p07_each_layer_decides_with_the_request_itself_included() {
    let budget = Budget::fixed(10);
    let inner = LoadShed::ratio(0.2).budget(&budget).layer(holding());
    let mut service = LoadShed::ratio(0.5).budget(&budget).layer(inner.clone());
    let mut outer_only = LoadShed::ratio(0.5).budget(&budget).layer(holding());
    let mut running: Vec<_> = (0..2).map(|_| answer(&mut service, get("/"))).collect();
    assert!(
        running.iter().all(|response| !is_refused(response)),
        "two of ten"
    );
    assert!(is_refused(&answer(&mut service, get("/"))));
    let others: Vec<_> = (0..4).map(|_| answer(&mut outer_only, get("/"))).collect();
    assert_eq!(
        others
            .iter()
            .filter(|response| is_refused(response))
            .count(),
        1
    );
    assert_eq!(budget.in_flight(), 5);
    // Refused by the outer one, the inner one is not asked.
    running.push(answer(&mut service, get("/")));
    assert!(is_refused(&running[2]));
    assert_eq!(budget.snapshot().refused, 3);
    assert_eq!(budget.snapshot().admitted, 5);
}

#[test]
fn p07_one_that_an_inner_layer_refuses_leaves_the_count_at_the_refusal() {
    let budget = Budget::fixed(2);
    let inner = LoadShed::ratio(0.5).budget(&budget).layer(holding());
    let moments = Arc::new(Mutex::new(Vec::new()));
    let seen = {
        let (budget, moments) = (budget.clone(), Arc::clone(&moments));
        move |when| moments.lock().unwrap().push((when, budget.in_flight()))
    };
    let mut service = LoadShed::observe()
        .budget(&budget)
        .layer(watched(inner, seen));
    let mut running = answer(&mut service, get("/"));
    let refused = answer(&mut service, get("/"));
    assert!(is_refused(&refused));
    // Its own answer is not read yet.
    assert_eq!(budget.in_flight(), 1);
    let expected = [
        ("called", 1),
        ("answered", 1),
        ("called", 1),
        ("answered", 1),
    ];
    assert_eq!(*moments.lock().unwrap(), expected);

    assert!(next_frame(&mut running).is_ready());
    assert!(next_frame(&mut running).is_ready());
    drop(refused);
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.admitted, figures.refused),
        (0, 1, 1)
    );
}

#[test]
fn p07_its_place_is_another_ones_while_the_layers_between_still_work_on_the_refusal() {
    let budget = Budget::fixed(2);
    let mut inner = LoadShed::ratio(0.5).budget(&budget).layer(holding());
    let slow = {
        let inner = inner.clone();
        service_fn(move |request: Req| {
            let answered = inner.clone().call(request);
            async {
                let answered = answered.await;
                tokio::task::yield_now().await;
                answered
            }
        })
    };
    let mut service = LoadShed::observe().budget(&budget).layer(slow);
    let running = answer(&mut inner, get("/"));
    let mut refused = task::spawn(service.call(get("/")));
    assert!(refused.poll().is_pending());
    assert_eq!(budget.in_flight(), 1);
    drop(running);
    let _next = answer(&mut inner, get("/"));
    assert_eq!(budget.in_flight(), 1);
    let Poll::Ready(Ok(refused)) = refused.poll() else {
        panic!("it is not answered")
    };
    assert!(is_refused(&refused));
    drop(refused);
    assert_eq!(budget.in_flight(), 1);
}

#[test]
fn p07_a_layer_between_that_tries_again_is_counted_again() {
    let budget = Budget::fixed(1);
    let held = Mutex::new(budget.try_acquire(all()).ok());
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let held = Arc::new(held);
    let again = {
        let held = Arc::clone(&held);
        service_fn(move |request: Req| {
            let (mut inner, held) = (inner.clone(), Arc::clone(&held));
            async move {
                let refused = inner.call(request).await?;
                assert!(is_refused(&refused));
                drop(held.lock().unwrap().take());
                let again = inner.call(get("/")).await;
                assert!(
                    is_refused(&inner.call(get("/")).await?),
                    "the second try has the place"
                );
                again
            }
        })
    };
    let response = answer(
        &mut LoadShed::observe().budget(&budget).layer(again),
        get("/"),
    );
    assert!(!is_refused(&response));
    assert_eq!(budget.in_flight(), 1);
    drop(response);
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.admitted, figures.refused),
        (0, 2, 2)
    );
}

#[tokio::test]
async fn p07_across_a_spawn_it_is_counted_twice_and_given_back_twice() {
    let budget = Budget::fixed(2);
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let spawning = service_fn(move |request: Req| {
        let inner = inner.clone();
        async { tokio::spawn(inner.oneshot(request)).await.unwrap() }
    });
    let outer = LoadShed::observe().budget(&budget).layer(spawning);
    let response = outer.clone().oneshot(get("/")).await.unwrap();
    assert!(!is_refused(&response));
    assert_eq!(budget.in_flight(), 2);
    assert!(is_refused(&outer.oneshot(get("/")).await.unwrap()));
    drop(response);
    let figures = budget.snapshot();
    assert_eq!((figures.in_flight, figures.peak_in_flight), (0, 3));
    // The refused one was admitted by the layer outside: across the spawn it is another request.
    assert_eq!((figures.admitted, figures.refused), (3, 1));
}

#[tokio::test]
async fn p07_across_a_buffer_it_is_counted_twice_and_given_back_twice() {
    let budget = Budget::fixed(2);
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let mut service = LoadShed::observe()
        .budget(&budget)
        .layer(Buffer::new(inner, 4));
    let response = service.call(get("/")).await.unwrap();
    assert_eq!(budget.in_flight(), 2);
    drop(response);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_layers_of_two_budgets_interleaved_count_once_in_each() {
    let (a, b) = (Budget::fixed(4), Budget::fixed(4));
    let layer = |ratio, budget: &Budget| LoadShed::ratio(ratio).budget(budget);
    let mut service = layer(1.0, &a)
        .layer(layer(1.0, &b).layer(layer(0.5, &a).layer(layer(0.25, &b).layer(holding()))));
    let response = answer(&mut service, get("/"));
    assert_eq!((a.in_flight(), b.in_flight()), (1, 1));

    // Refused by the innermost, B's: it leaves B at once. A's own place is held to the end of that answer.
    let refused = answer(&mut service, get("/"));
    assert!(is_refused(&refused));
    assert_eq!((a.in_flight(), b.in_flight()), (2, 1));
    drop(refused);
    assert_eq!((a.in_flight(), b.in_flight()), (1, 1));

    // Refused by the inner one of A's, with B between: the same the other way round.
    let more = [a.try_acquire(all()).unwrap(), a.try_acquire(all()).unwrap()];
    let refused = answer(&mut service, get("/"));
    assert!(is_refused(&refused));
    assert_eq!((a.in_flight(), b.in_flight()), (3, 2));
    drop((refused, response, more));
    assert_eq!((a.in_flight(), b.in_flight()), (0, 0));
    assert_eq!((a.snapshot().refused, b.snapshot().refused), (1, 1));
}

#[test]
fn p07_a_panic_inside_leaves_no_request_behind_on_the_thread() {
    let budget = Budget::fixed(1);
    let layer = LoadShed::ratio(1.0).budget(&budget);
    let nested = |inner: Scripted| {
        LoadShed::observe()
            .budget(&budget)
            .layer(layer.layer(inner))
    };
    for _ in 0..20 {
        let call = Scripted {
            call_panics: true,
            ..holding()
        };
        caught(|| answer(&mut nested(call), get("/")));
        let poll = Scripted {
            poll: [Step::Panic].into(),
            ..holding()
        };
        caught(|| answer(&mut nested(poll), get("/")));
        let ready = Scripted {
            ready: [Step::Wait, Step::Panic].into(),
            ..holding()
        };
        caught(|| answer(&mut nested(ready), get("/")));
        assert_eq!(budget.in_flight(), 0);
    }
    // Taken for a part of a request that has panicked, these would all be admitted.
    let responses: Vec<_> = (0..3)
        .map(|_| answer(&mut layer.layer(holding()), get("/")))
        .collect();
    assert_eq!(
        responses
            .iter()
            .filter(|response| is_refused(response))
            .count(),
        2
    );
    assert_eq!(budget.in_flight(), 1);
}

#[test]
fn p07_requests_that_take_turns_on_one_thread_are_not_taken_for_one() {
    let budget = Budget::fixed(3);
    let inner = LoadShed::ratio(1.0).budget(&budget);
    let waits = Scripted {
        poll: [Step::Wait, Step::Wait].into(),
        ..holding()
    };
    let mut service = LoadShed::observe()
        .budget(&budget)
        .layer(inner.layer(waits));
    let mut requests: Vec<_> = (0..3)
        .map(|_| task::spawn(service.call(get("/"))))
        .collect();
    for _ in 0..2 {
        for request in &mut requests {
            assert!(request.poll().is_pending());
            assert_eq!(budget.in_flight(), 3);
        }
    }
    assert!(is_refused(&run(service.call(get("/"))).unwrap()));
}

#[test]
fn p07_the_parts_of_one_request_that_run_in_one_task_share_its_place() {
    let budget = Budget::fixed(1);
    let part = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let fan_out = service_fn(move |_: Req| {
        let (mut one, mut other) = (part.clone(), part.clone());
        async move {
            let (one, other) = tokio::join!(one.call(get("/1")), other.call(get("/2")));
            assert!(!is_refused(&one?) && !is_refused(&other?));
            Ok::<_, support::Broken>(Response::new(body([Step::Data])))
        }
    });
    let response = answer(
        &mut LoadShed::observe().budget(&budget).layer(fan_out),
        get("/"),
    );
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (1, 1));
    drop(response);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_a_request_that_moves_between_threads_is_still_one() {
    let budget = Budget::fixed(1);
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let hops = service_fn(move |request: Req| {
        let mut inner = inner.clone();
        async move {
            tokio::task::yield_now().await;
            let called = inner.call(request);
            tokio::task::yield_now().await;
            called.await
        }
    });
    let mut service = LoadShed::observe().budget(&budget).layer(hops);
    let mut request = Box::pin(service.call(get("/")));
    // Each poll on a thread of its own; what was decided there must not stay there.
    for _ in 0..2 {
        thread::scope(|scope| {
            let polled = scope.spawn(|| assert!(request.as_mut().now_or_never().is_none()));
            polled.join().unwrap();
        });
        assert_eq!(budget.in_flight(), 1);
    }
    let response = request.now_or_never().unwrap().unwrap();
    assert!(!is_refused(&response));
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (1, 1));
    thread::spawn(move || drop(response)).join().unwrap();
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_one_that_is_counted_on_one_thread_and_refused_on_another_is_in_the_figures_once() {
    let budget = Budget::fixed(1);
    let _running = budget.try_acquire(all()).unwrap();
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let late = service_fn(move |request: Req| {
        let mut inner = inner.clone();
        async move {
            tokio::task::yield_now().await;
            inner.call(request).await
        }
    });
    let mut service = LoadShed::observe().budget(&budget).layer(late);
    let mut request = Box::pin(service.call(get("/")));
    assert!(request.as_mut().now_or_never().is_none());
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (2, 2));
    let there = thread::spawn(move || is_refused(&request.now_or_never().unwrap().unwrap()));
    assert!(there.join().unwrap());
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.admitted, figures.refused),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn p07_in_axum_a_layer_at_a_route_inside_one_around_the_app_counts_once() {
    let pool = Budget::fixed(2);
    let slow = || async { std::future::pending::<()>().await };
    let app = Router::new()
        .route(
            "/mail/receive",
            routing::post(slow).route_layer(LoadShed::ratio(0.5).budget(&pool)),
        )
        .route("/mail/list", routing::get(slow))
        .layer(LoadShed::observe().budget(&pool));
    let send = |method: &str, path: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(axum::body::Body::empty());
        task::spawn(app.clone().oneshot(request.unwrap()))
    };
    let mut receiving = send("POST", "/mail/receive");
    assert!(receiving.poll().is_pending());
    assert_eq!(pool.in_flight(), 1);
    let Poll::Ready(Ok(refused)) = send("POST", "/mail/receive").poll() else {
        panic!("no room for a second")
    };
    assert!(is_refused(&refused));
    let mut listing = [send("GET", "/mail/list"), send("GET", "/mail/list")];
    assert!(
        listing
            .iter_mut()
            .all(|request| request.poll().is_pending())
    );
    assert_eq!(pool.in_flight(), 3);
    // It counts for the one at the route what goes elsewhere.
    drop(receiving);
    let Poll::Ready(Ok(refused)) = send("POST", "/mail/receive").poll() else {
        panic!("the lists are there")
    };
    assert!(is_refused(&refused));
    // What is no route, or no method of it, is not mistaken for one.
    for (method, path, status) in [("GET", "/nowhere", 404), ("GET", "/mail/receive", 405)] {
        let Poll::Ready(Ok(response)) = send(method, path).poll() else {
            panic!("{path}")
        };
        assert_eq!(response.status(), status);
    }
    drop(listing);
    assert_eq!(pool.in_flight(), 0);
}

#[test]
fn p07_a_permit_that_a_handler_takes_is_one_of_its_own() {
    let budget = Budget::fixed(2);
    let taken = Arc::new(Mutex::new(None));
    let handler = {
        let (budget, taken) = (budget.clone(), Arc::clone(&taken));
        service_fn(move |_: Req| {
            *taken.lock().unwrap() = budget.try_acquire(all()).ok();
            ready(Ok::<_, support::Broken>(Response::new(body([Step::Data]))))
        })
    };
    let response = answer(
        &mut LoadShed::ratio(1.0).budget(&budget).layer(handler),
        get("/"),
    );
    assert_eq!(budget.in_flight(), 2);
    drop(response);
    assert_eq!(budget.in_flight(), 1);
    drop(taken.lock().unwrap().take());
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_however_many_budgets_are_nested_nothing_is_lost() {
    let budgets: Vec<_> = (0..40).map(|_| Budget::fixed(3)).collect();
    let answering = service_fn(|_: Req| {
        ready(Ok::<_, support::Broken>(Response::new(
            support::boxed_body(body([Step::Data])),
        )))
    });
    // Around, and around again: the inner half meets places that are shown, and places for which the list was full.
    let mut service = BoxCloneService::new(answering);
    for budget in budgets.iter().chain(&budgets) {
        let layered = LoadShed::ratio(1.0).budget(budget).layer(service);
        service = BoxCloneService::new(
            layered.map_response(|head: Response<_>| head.map(support::boxed_body)),
        );
    }
    for _ in 0..10 {
        let response = answer(&mut service, get("/"));
        assert!(!is_refused(&response));
        assert!(
            budgets
                .iter()
                .all(|budget| (1..=2).contains(&budget.in_flight()))
        );
        // The first that are met are sure to be known again.
        assert!(budgets[30..].iter().all(|budget| budget.in_flight() == 1));
        drop(response);
        assert!(budgets.iter().all(|budget| budget.in_flight() == 0));
    }
}

#[test]
fn p07_an_exempt_layer_around_or_inside_takes_no_part() {
    let budget = Budget::fixed(1);
    let exempt = LoadShed::ratio(1.0)
        .budget(&budget)
        .threshold(|_| Threshold::EXEMPT);
    let counts = LoadShed::ratio(1.0).budget(&budget);
    let never = LoadShed::observe().budget(&budget);

    let around = answer(&mut exempt.layer(counts.layer(holding())), get("/"));
    assert_eq!(budget.in_flight(), 1);
    let inside = answer(&mut never.layer(exempt.layer(holding())), get("/"));
    assert_eq!((is_refused(&inside), budget.in_flight()), (false, 2));
    // Never shed inside, whatever the outer one allows, and counted once.
    let never_inside = answer(&mut never.layer(never.layer(holding())), get("/"));
    assert_eq!((is_refused(&never_inside), budget.in_flight()), (false, 3));
    drop((around, inside, never_inside));
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_only_the_same_budget_is_found_not_one_of_the_same_limit() {
    let (a, b) = (Budget::fixed(3), Budget::fixed(3));
    let mut service = LoadShed::ratio(1.0)
        .budget(&a)
        .layer(LoadShed::ratio(1.0).budget(&b).layer(holding()));
    let response = answer(&mut service, get("/"));
    assert_eq!((a.in_flight(), b.in_flight()), (1, 1));
    drop(response);
}

// ---- 14, where layers are nested

/// Three requests pass a counting layer of a learned budget and are refused inside, and one is served. Returns how many
/// of them the law is shown.
fn samples_of_one_served_and_three_refused(
    inside: Option<Budget>,
    set: impl FnOnce(LoadShed) -> LoadShed,
) -> usize {
    let samples = Arc::new(AtomicUsize::new(0));
    let law = {
        let samples = Arc::clone(&samples);
        Law::new(1..=10, 1, move |window| {
            samples.fetch_add(window.samples.len(), Ordering::Relaxed);
            1
        })
    };
    let learned = Budget::new(law);
    let inside = inside.unwrap_or_else(|| learned.clone());
    let _full = inside.try_acquire(Threshold::NEVER).unwrap();
    let shed = set(LoadShed::ratio(1.0).budget(&inside));
    let observe = LoadShed::observe().budget(&learned);
    for _ in 0..3 {
        drop(answer(&mut observe.layer(shed.layer(holding())), get("/")));
    }
    assert_eq!(
        inside.snapshot().refused + inside.snapshot().would_refuse,
        3
    );
    drop(answer(&mut observe.layer(holding()), get("/")));
    samples.load(Ordering::Relaxed)
}

#[test]
fn p14_a_request_that_an_inner_layer_refuses_is_no_sample() {
    assert_eq!(
        samples_of_one_served_and_three_refused(None, |shed| shed),
        1
    );
    // A sign of overload, were it taken for one: the limit would fall for nothing but that it was reached.
    let unavailable = |shed: LoadShed| shed.status(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        samples_of_one_served_and_three_refused(None, unavailable),
        1
    );
}

#[test]
fn p14_a_request_that_an_inner_layer_would_have_refused_is_no_sample() {
    assert_eq!(
        samples_of_one_served_and_three_refused(None, |shed| shed.dry_run(true)),
        1
    );
}

#[test]
fn p14_a_request_that_a_layer_of_another_budget_refuses_is_no_sample_either() {
    let other = || Some(Budget::fixed(1));
    assert_eq!(
        samples_of_one_served_and_three_refused(other(), |shed| shed),
        1
    );
    let unavailable = |shed: LoadShed| shed.status(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        samples_of_one_served_and_three_refused(other(), unavailable),
        1
    );
}
