//! Promise 17: a refusal or an admission reads no body, waits for no controller and allocates little.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::Empty;
use loadshed::{Adaptive, Budget, Criticality, LoadShed, RetryAfter, Shed, Threshold};
use tower::{Layer, Service, service_fn};

use super::{full, text, with_content_type};
use crate::support::{
    FnController, Req, all, answer, get, holding, is_refused, panic_on_purpose, quiet, run,
};

/// A request body that records whether it was polled, and panics if so.
struct Unread(Arc<AtomicBool>);

impl Body for Unread {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.store(true, Ordering::Relaxed);
        panic_on_purpose()
    }
}

#[test]
fn p17_a_refusal_reads_no_request_body_before_it_responds() {
    let (shed, _held) = full();
    let read = Arc::new(AtomicBool::new(false));
    let inner = service_fn(|_: Request<Unread>| {
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    for content_type in ["text/plain", "application/grpc"] {
        let request = Request::post("/")
            .header("content-type", content_type)
            .body(Unread(Arc::clone(&read)))
            .unwrap();
        let response = shed.layer(inner).call(request).now_or_never();
        let response = response.expect("the response is ready at once").unwrap();
        assert!(response.extensions().get::<Shed>().is_some());
        assert!(!read.load(Ordering::Relaxed));
        text(response);
        assert!(!read.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn p17_with_a_runtime_to_read_in_a_refusal_still_responds_before_it_reads() {
    quiet();
    let (shed, _held) = full();
    let read = Arc::new(AtomicBool::new(false));
    let inner = service_fn(|_: Request<Unread>| {
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let request = Request::post("/").body(Unread(Arc::clone(&read))).unwrap();
    let response = shed.layer(inner).call(request).now_or_never();
    assert!(is_refused(
        &response.expect("the response is ready at once").unwrap()
    ));
    assert!(!read.load(Ordering::Relaxed));
    // The background task polls the body, which panics: no other request is affected.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shed.handle().budget().in_flight(), 1);
}

#[test]
fn p17_neither_refusals_nor_admissions_wait_for_a_controller_that_is_deciding() {
    let (entered, has_entered) = mpsc::channel();
    let (may_go_on, goes_on) = mpsc::channel::<()>();
    let controller = FnController::new(1..=3, 3, move |window| {
        entered.send(()).unwrap();
        let _ = goes_on.recv();
        window.limit
    });
    let budget = Budget::new(controller);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let request = {
        let shed = shed.clone();
        thread::spawn(move || drop(answer(&mut shed.layer(holding()), get("/"))))
    };
    has_entered.recv().unwrap();
    let (finished, has_finished) = mpsc::channel();
    let others = thread::spawn(move || {
        let mut service = shed.layer(holding());
        for _ in 0..1_000 {
            let held = [
                answer(&mut service, get("/")),
                answer(&mut service, get("/")),
            ];
            assert!(!held.iter().any(is_refused));
            assert!(is_refused(&answer(&mut service, get("/"))));
            assert!(budget.try_acquire(all()).is_err());
        }
        budget.set_limit(2).unwrap();
        drop(budget.try_acquire(all()).unwrap());
        assert_eq!(budget.snapshot().in_flight, 1);
        finished.send(()).unwrap();
    });
    let waited = has_finished.recv_timeout(Duration::from_secs(20));
    drop(may_go_on);
    request.join().unwrap();
    others.join().unwrap();
    waited.expect("requests wait for the controller");
}

type BareFuture = Ready<Result<Response<Empty<Bytes>>, Infallible>>;

/// An inner service that allocates nothing.
fn bare()
-> impl Service<Req, Response = Response<Empty<Bytes>>, Error = Infallible, Future = BareFuture> + Clone
{
    service_fn(|_: Req| ready(Ok(Response::new(Empty::new()))))
}

/// The most allocations of one request to an idle service, on a thread that has served before, and the status.
fn allocations<S: Service<Req, Response = Response<B>, Error = Infallible>, B>(
    mut service: S,
    mut request: impl FnMut() -> Req,
) -> (u64, StatusCode) {
    let mut once = || {
        let request = request();
        let mut status = StatusCode::OK;
        let measured =
            allocation_counter::measure(|| status = answer(&mut service, request).status());
        (measured.count_total, status)
    };
    once();
    let (_, status) = once();
    let most = (0..50).map(|_| once().0).max();
    (most.unwrap(), status)
}

#[test]
fn p17_an_admission_allocates_nothing() {
    let budget = Budget::fixed(10);
    let layer = LoadShed::ratio(0.5).budget(&budget);
    let outer = LoadShed::observe().budget(&budget);
    let other = LoadShed::observe().budget(Budget::fixed(10));
    let decided = LoadShed::ratio(0.5)
        .budget(Budget::fixed(10))
        .threshold(|head| {
            if head.uri().path() == "/exempt" {
                Threshold::EXEMPT
            } else {
                Threshold::ratio(0.5)
            }
        });
    let none = (0, StatusCode::OK);
    assert_eq!(allocations(layer.layer(bare()), || get("/")), none, "alone");
    let at_most = |most, (counted, status): (u64, StatusCode), what: &str| {
        assert!(counted <= most, "{what}: {counted}");
        assert_eq!(status, StatusCode::OK, "{what}");
    };
    // The permit, its reference, and the extensions of a request that has none yet.
    let nested = outer.layer(layer.layer(bare()));
    at_most(4, allocations(nested, || get("/")), "nested");
    let two_budgets = outer.layer(other.layer(layer.layer(bare())));
    at_most(4, allocations(two_budgets, || get("/")), "two budgets");
    let shared = LoadShed::ratio(0.5)
        .budget(Budget::fixed(10))
        .share_permit();
    at_most(6, allocations(shared.layer(bare()), || get("/")), "shared");
    let layer = LoadShed::ratio(0.5).budget(Budget::fixed(10));
    assert_eq!(
        allocations(decided.layer(bare()), || get("/")),
        none,
        "decided by a closure"
    );
    assert_eq!(
        allocations(decided.layer(bare()), || get("/exempt")),
        none,
        "exempt"
    );

    let cloned = layer.layer(bare());
    let cloned = service_fn(move |request| cloned.clone().call(request));
    assert_eq!(
        allocations(cloned, || get("/")),
        none,
        "cloned for each request"
    );

    let (full, _held) = full();
    assert_eq!(
        allocations(full.dry_run(true).layer(bare()), || get("/")),
        none,
        "in a dry run"
    );
    let permits = allocation_counter::measure(|| drop(budget.try_acquire(all()).unwrap()));
    assert_eq!(permits.count_total, 0, "without a layer");
}

#[tokio::test(start_paused = true)]
async fn p17_an_admission_under_a_learned_budget_allocates_nothing() {
    let shed = LoadShed::ratio(0.85);
    let mut service = shed.layer(bare());
    // The buffer for the samples of a window grows to its size in the first busy windows.
    for _ in 0..4 {
        for _ in 0..2_000 {
            answer(&mut service, get("/"));
        }
        tokio::time::advance(Duration::from_millis(101)).await;
    }
    let mut allocating = 0;
    for _ in 0..20 {
        let (most, status) = allocations(service.clone(), || get("/"));
        assert_eq!(status, StatusCode::OK);
        allocating += usize::from(most > 0);
        tokio::time::advance(Duration::from_millis(101)).await;
    }
    // Of 1,040 requests, one in 4,096 looks for a layer that is nested in itself.
    assert!(allocating <= 5, "{allocating}");
    let fresh = Budget::adaptive();
    let mut service = LoadShed::ratio(0.85).budget(&fresh).layer(bare());
    assert!(run(service.call(get("/"))).is_ok());
    let request = get("/");
    let mut future = None;
    let measured = allocation_counter::measure(|| future = Some(service.call(request)));
    assert_eq!(measured.count_total, 0, "admission of the second request");
    assert!(run(future.unwrap()).is_ok());
}

#[test]
fn p17_a_refusal_allocates_at_most_8_times() {
    let (full, _held) = self::full();
    let fixed = full
        .clone()
        .retry_after(RetryAfter::fixed(Duration::from_secs(5)));
    let grpc = || with_content_type(HeaderValue::from_static("application/grpc+proto"));
    let (inner, _held_there) = self::full();
    let outer = LoadShed::observe().budget(inner.handle().budget());
    let at_most_8 = |(most, status): (u64, StatusCode), what| {
        assert!(most <= 8, "{what}: {most}");
        status
    };
    let too_many = StatusCode::TOO_MANY_REQUESTS;
    // Two for the headers, three for the reason in the extensions.
    let own = allocations(full.layer(bare()), || get("/"));
    assert_eq!(own, (5, too_many), "http");
    assert_eq!(
        at_most_8(allocations(full.layer(bare()), grpc), "grpc"),
        200
    );
    // And four for the permit that the outer layer has taken before.
    let (most, status) = allocations(outer.layer(inner.layer(bare())), || get("/"));
    assert!(most <= 9, "nested: {most}");
    assert_eq!(status, too_many);
    assert_eq!(
        at_most_8(allocations(fixed.layer(bare()), || get("/")), "fixed hint"),
        too_many
    );
    let status = full.clone().status(StatusCode::BAD_GATEWAY);
    assert_eq!(
        at_most_8(allocations(status.layer(bare()), || get("/")), "status"),
        502
    );
    let head = || {
        let mut request = get("/");
        *request.method_mut() = http::Method::HEAD;
        request
    };
    let long = RetryAfter::fixed(Duration::from_secs(5_000)).milliseconds(true);
    let all_settings = status.retry_after(long);
    assert_eq!(
        at_most_8(
            allocations(all_settings.layer(bare()), head),
            "all settings"
        ),
        502
    );
    let written = full
        .clone()
        .on_shed(|_| Response::new(Bytes::from_static(b"later")));
    assert_eq!(
        at_most_8(allocations(written.layer(bare()), || get("/")), "on_shed"),
        200
    );
    assert_eq!(
        at_most_8(allocations(full.layer(bare()), head), "HEAD"),
        too_many
    );
    let by_head = full.clone().on_shed_with(|head, _| {
        let kept = Response::new(Bytes::from_static(b"kept"));
        (head.uri().path() == "/").then_some(kept)
    });
    assert_eq!(
        at_most_8(allocations(by_head.layer(bare()), || get("/")), "by head"),
        200
    );
    let (set, adaptive) = (|| full.clone(), Budget::new(Adaptive::default().max(1)));
    let _held = adaptive.try_acquire(all()).unwrap();
    for (shed, what) in [
        (set().threshold(|_| all()), "closure"),
        (set().classify(|_| Criticality::Critical), "class"),
        (set().cost(|_| 2), "cost"),
        (set().key(|_| 7), "key"),
        (set().fair_by(|_| 7), "tenant"),
        (set().at("/", 0.5), "route"),
        (set().seed(7), "seed"),
        (set().budget(&adaptive), "learned"),
    ] {
        let counted = allocations(shed.layer(bare()), || get("/"));
        assert_eq!(at_most_8(counted, what), too_many, "{what}");
    }
}

#[tokio::test]
async fn p17_a_refusal_without_an_upload_allocates_at_most_8_times_in_a_runtime_too() {
    let (full, _held) = full();
    let (most, status) = allocations(full.layer(bare()), || get("/"));
    assert!(most <= 8, "{most}");
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
}

#[test]
fn p17_a_refused_grpc_call_allocates_at_most_8_times_even_if_it_owns_its_headers() {
    let (full, _held) = full();
    // hyper's header values are slices of its read buffer, and free to clone. This value owns its bytes, like that of a
    // request made within the process: its first clone allocates.
    let owned = || with_content_type("application/grpc+proto".parse().unwrap());
    let (most, _) = allocations(full.layer(bare()), owned);
    assert!(most <= 8, "{most}");
}
