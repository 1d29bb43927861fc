//! Promise 7: once per request, however many layers it passes.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    task::Poll,
};

use axum::{Router, routing};
use http::{Request, Response};
use loadshed::{Budget, LoadShed, Threshold};
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};

use crate::support::{
    Broken, Req, Step, all, answer, body, boxed_body, get, holding, is_refused, next_frame,
};

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
fn p07_a_request_that_works_on_after_an_inner_refusal_is_counted_until_that_refusal_is_its_response()
 {
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
    assert_eq!(budget.in_flight(), 2);
    drop(running);
    assert!(is_refused(&answer(&mut inner, get("/"))));
    assert_eq!(budget.in_flight(), 1);
    let Poll::Ready(Ok(refused)) = refused.poll() else {
        panic!("it is not answered")
    };
    assert!(is_refused(&refused));
    assert_eq!(budget.in_flight(), 0);
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
                let mut second = get("/");
                *second.extensions_mut() = request.extensions().clone();
                let refused = inner.call(request).await?;
                assert!(is_refused(&refused));
                drop(held.lock().unwrap().take());
                let again = inner.call(second).await;
                assert!(
                    is_refused(&inner.call(get("/")).await?),
                    "the second try has the permit"
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
fn p07_however_many_budgets_are_nested_nothing_is_lost() {
    let budgets: Vec<_> = (0..40).map(|_| Budget::fixed(3)).collect();
    let answering = service_fn(|_: Req| {
        ready(Ok::<_, Broken>(Response::new(boxed_body(body([
            Step::Data,
        ])))))
    });
    // Around, and around again: the inner half meets places that are shown, and places for which the list was full.
    let mut service = BoxCloneService::new(answering);
    for budget in budgets.iter().chain(&budgets) {
        let layered = LoadShed::ratio(1.0).budget(budget).layer(service);
        service =
            BoxCloneService::new(layered.map_response(|head: Response<_>| head.map(boxed_body)));
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
