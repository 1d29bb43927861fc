//! What is refused while a budget drains, and how.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use loadshed::{Budget, Criticality, LoadShed, Reason, Shed, Threshold};
use tokio::time::advance;
use tower::{Layer, Service};

use crate::{
    GRACE, MOMENT, drained, served,
    support::{all, answer, get, holding, run},
};

const CLASSES: [Criticality; 4] = [
    Criticality::Sheddable,
    Criticality::SheddablePlus,
    Criticality::Critical,
    Criticality::CriticalPlus,
];

fn classified(budget: &Budget) -> LoadShed {
    LoadShed::ratio(0.5)
        .budget(budget)
        .except(["/never"])
        .exempt(["/exempt"])
        .classify_by_header(HeaderName::from_static("x-class"), |_| {
            Criticality::CriticalPlus
        })
}

fn of_class(class: Criticality) -> Request<Empty<bytes::Bytes>> {
    let mut request = get("/");
    let name = HeaderValue::from_static(class.name());
    request.headers_mut().insert("x-class", name);
    request
}

fn reason<B>(response: &Response<B>) -> Option<Reason> {
    response.extensions().get().map(Shed::reason)
}

#[tokio::test(start_paused = true)]
async fn p26_everything_is_served_as_before_for_the_grace_and_then_only_exempt_requests_are() {
    let budget = Budget::fixed(4);
    let mut service = served(&classified(&budget));
    let requests = || {
        let paths = ["/never", "/exempt"].map(get);
        CLASSES.map(of_class).into_iter().chain(paths)
    };
    let mut statuses = || Vec::from_iter(requests().map(|it| answer(&mut service, it).status()));
    let served = vec![StatusCode::OK; 6];
    assert_eq!(statuses(), served);
    assert!(!budget.is_draining());

    budget.begin_drain(GRACE);
    assert!(budget.is_draining());
    assert_eq!(statuses(), served);
    advance(GRACE - MOMENT).await;
    assert_eq!(statuses(), served);
    advance(MOMENT).await;
    assert!(budget.is_draining());
    let mut refused = vec![StatusCode::SERVICE_UNAVAILABLE; 5];
    refused.push(StatusCode::OK);
    assert_eq!(statuses(), refused);

    let snapshot = budget.snapshot();
    assert_eq!((snapshot.refused, snapshot.admitted), (5, 15));
    assert_eq!((snapshot.exempt, snapshot.in_flight), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn p26_during_the_grace_a_full_budget_refuses_as_usual() {
    let budget = Budget::fixed(2);
    let mut service = served(&classified(&budget));
    budget.begin_drain(GRACE);
    let _held = budget.try_acquire(all()).unwrap();
    let response = answer(&mut service, of_class(Criticality::Sheddable));
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reason(&response), Some(Reason::Utilization));
    assert_eq!(answer(&mut service, get("/never")).status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn p26_over_http_1_a_refusal_closes_the_connection_and_over_http_2_it_does_not_name_it() {
    let budget = drained().await;
    // The status of other refusals is not that of a drain.
    let shed = LoadShed::ratio(0.5).budget(&budget);
    let mut service = served(&shed.status(StatusCode::TOO_MANY_REQUESTS));
    for (version, connection) in [
        (Version::HTTP_10, Some("close")),
        (Version::HTTP_11, Some("close")),
        (Version::HTTP_2, None),
        (Version::HTTP_3, None),
    ] {
        let mut request = get("/");
        *request.version_mut() = version;
        let response = answer(&mut service, request);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reason(&response), Some(Reason::Draining));
        let header = |name| {
            let value = response.headers().get(name);
            value.map(|value| value.to_str().unwrap())
        };
        assert_eq!(header(header::CONNECTION), connection, "{version:?}");
        assert!(header(header::RETRY_AFTER).unwrap().parse::<u32>().unwrap() >= 1);
        assert_eq!(header(header::CACHE_CONTROL), Some("no-store"));
        let problem = Some("application/problem+json");
        assert_eq!(header(header::CONTENT_TYPE), problem);
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert!(text.ends_with(b"\"status\":503}"), "{text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p26_a_refused_head_request_gets_no_body() {
    let budget = drained().await;
    let mut service = served(&LoadShed::ratio(0.5).budget(&budget));
    let request = Request::head("/").body(Empty::new()).unwrap();
    let response = answer(&mut service, request);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::CONNECTION], "close");
    assert!(response.headers().contains_key(header::CONTENT_LENGTH));
    assert!(response.body().is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn p26_a_grpc_call_gets_unavailable_in_its_headers() {
    let budget = drained().await;
    let mut service = served(&LoadShed::ratio(0.5).budget(&budget));
    for (content_type, version, connection) in [
        ("application/grpc", Version::HTTP_2, None),
        ("application/grpc-web", Version::HTTP_11, Some("close")),
    ] {
        let mut request = Request::post("/a.B/C").version(version);
        request = request.header(header::CONTENT_TYPE, content_type);
        let response = answer(&mut service, request.body(Empty::new()).unwrap());
        assert_eq!(response.status(), StatusCode::OK);
        let status = tonic::Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(response.headers().contains_key("grpc-retry-pushback-ms"));
        assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
        let named = response.headers().get(header::CONNECTION);
        assert_eq!(named.map(|it| it.to_str().unwrap()), connection);
        assert_eq!(reason(&response), Some(Reason::Draining));
        assert!(response.body().is_end_stream(), "Trailers-Only");
    }
}

#[tokio::test(start_paused = true)]
async fn p26_a_response_of_the_users_own_keeps_its_status_and_closes_the_connection() {
    let budget = drained().await;
    for (own, connection) in [(None, "close"), (Some("x-mine"), "x-mine")] {
        let shed = LoadShed::ratio(0.5).budget(&budget).on_shed(move |shed| {
            assert_eq!(shed.reason(), Reason::Draining);
            let mut response = Response::builder().status(418);
            if let Some(own) = own {
                response = response.header(header::CONNECTION, own);
            }
            response.body("short and stout".into()).unwrap()
        });
        let response = answer(&mut served(&shed), get("/"));
        assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(response.headers()[header::CONNECTION], connection);
        assert_eq!(reason(&response), Some(Reason::Draining));
    }
}

#[tokio::test(start_paused = true)]
async fn p26_a_drain_holds_for_layers_that_observe_and_for_layers_in_dry_run() {
    let budget = drained().await;
    let observe = LoadShed::observe().budget(&budget);
    let dry = LoadShed::ratio(0.5).budget(&budget).dry_run(true);
    // A clone is the same budget, and a layer that is made later finds the drain.
    let clone = LoadShed::ratio(1.0).budget(budget.clone());
    for shed in [observe, dry.wait(4, GRACE), clone] {
        let response = answer(&mut served(&shed), get("/"));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.refused, snapshot.would_refuse), (3, 0));
    // Another budget is not drained.
    let other = LoadShed::ratio(1.0).budget(Budget::fixed(4));
    let response = answer(&mut served(&other), get("/"));
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn p26_a_permit_is_refused_with_the_reason() {
    let budget = drained().await;
    for threshold in [all(), Threshold::NEVER_SHED] {
        let shed = budget.try_acquire(threshold).unwrap_err();
        assert_eq!(shed.reason(), Reason::Draining);
        assert!(shed.to_string().starts_with("shed: the budget is draining"));
        assert!(!shed.retry_after().is_zero());
    }
    assert_eq!(budget.in_flight(), 0);
    budget.try_acquire(Threshold::EXEMPT).unwrap().discard();
}

#[tokio::test(start_paused = true)]
async fn p26_a_request_in_flight_is_not_refused_by_an_inner_layer_after_the_grace() {
    // The inner layer is reached after a second, and the grace passes meanwhile.
    let budget = Budget::fixed(4);
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let later = tower::service_fn(move |request| {
        let mut inner = inner.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            inner.call(request).await
        }
    });
    let mut outer = LoadShed::observe().budget(&budget).layer(later);
    budget.begin_drain(Duration::from_millis(500));
    let response = outer.call(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(budget.in_flight(), 1);
    drop(response);
    assert_eq!(budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p26_requests_in_flight_end_as_before() {
    let budget = Budget::fixed(4);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let response = answer(&mut service, get("/"));
    budget.begin_drain(Duration::ZERO);
    assert_eq!(budget.in_flight(), 1);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "data");
    assert_eq!(budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p26_queued_requests_are_refused_once_the_grace_has_passed() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(8, 60 * GRACE);
    let mut service = served(&shed);
    let held = budget.try_acquire(all()).unwrap();
    let start = tokio::time::Instant::now();
    let before = tokio::spawn(service.call(get("/")));
    tokio::task::yield_now().await;
    budget.begin_drain(GRACE);
    // During the grace, a request is queued, and is admitted when there is free capacity.
    let during = tokio::spawn(service.call(get("/")));
    tokio::task::yield_now().await;
    assert_eq!(budget.snapshot().waiting, 2);
    drop(held);
    assert_eq!(before.await.unwrap().unwrap().status(), StatusCode::OK);
    let held = match budget.try_acquire(Threshold::NEVER_SHED) {
        Ok(held) => held,
        Err(shed) => panic!("{shed}"),
    };
    assert_eq!(during.await.unwrap().unwrap().status(), StatusCode::OK);
    let late = tokio::spawn(service.call(get("/")));
    let response = late.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reason(&response), Some(Reason::Draining));
    let took = start.elapsed();
    assert!((GRACE..GRACE + 2 * MOMENT).contains(&took), "{took:?}");
    // From then on no request is queued, and free capacity is given to no waiter.
    let response = run(service.call(get("/"))).unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(budget.snapshot().waiting, 0);
    drop(held);
    assert_eq!(budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p26_a_queued_request_waits_on_when_the_drain_ends_during_the_grace() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(8, 60 * GRACE);
    let mut service = served(&shed);
    let held = budget.try_acquire(all()).unwrap();
    let waiting = tokio::spawn(service.call(get("/")));
    budget.begin_drain(GRACE);
    tokio::time::sleep(GRACE / 2).await;
    budget.end_drain();
    tokio::time::sleep(2 * GRACE).await;
    assert_eq!(budget.snapshot().waiting, 1);
    drop(held);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn p26_the_end_of_a_drain_undoes_it() {
    let budget = drained().await;
    let mut service = served(&LoadShed::ratio(1.0).budget(&budget));
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(answer(&mut service, get("/")).status(), unavailable);
    budget.end_drain();
    assert!(!budget.is_draining());
    assert_eq!(answer(&mut service, get("/")).status(), StatusCode::OK);
    // Without effect, where there is no drain.
    budget.end_drain();
    assert_eq!(answer(&mut service, get("/")).status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn p26_a_second_call_sets_the_grace_anew() {
    let budget = Budget::fixed(4);
    let is_served = || budget.try_acquire(all()).is_ok();
    budget.begin_drain(GRACE);
    advance(GRACE / 2).await;
    budget.begin_drain(GRACE);
    advance(GRACE - MOMENT).await;
    assert!(is_served());
    advance(MOMENT).await;
    assert!(!is_served());
    budget.begin_drain(MOMENT);
    assert!(is_served(), "served again");
    budget.begin_drain(Duration::ZERO);
    assert!(!is_served());
    // Longer than any clock.
    budget.begin_drain(Duration::MAX);
    assert!(is_served() && budget.is_draining());
    advance(Duration::from_secs(u32::MAX.into())).await;
    assert!(!is_served());
}

#[tokio::test(start_paused = true)]
async fn p26_a_budget_that_follows_a_drained_one_is_not_drained() {
    for _ in 0..8 {
        let held = Budget::fixed(4).try_acquire(all()).unwrap();
        let budget = drained().await;
        drop(budget);
        let next = Budget::fixed(4);
        assert!(!next.is_draining());
        assert!(next.try_acquire(all()).is_ok());
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn p26_refusals_of_a_drain_are_no_load_to_a_controller() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let windows = std::sync::Arc::clone(&seen);
    let controller = crate::support::FnController::new(1..=8, 4, move |window| {
        windows.lock().unwrap().push(window.refused);
        window.limit
    });
    let budget = Budget::new(controller.always());
    budget.begin_drain(Duration::ZERO);
    for _ in 0..5 {
        assert!(budget.try_acquire(all()).is_err());
        advance(MOMENT).await;
    }
    budget.end_drain();
    drop(budget.try_acquire(all()).unwrap());
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|refused| *refused == 0), "{seen:?}");
}
