//! Promises 17, 18, 19, 21, 22 and 25: what a refused caller gets, what a dry run says, and what a failure costs.

mod support;

use std::{
    cell::Cell,
    collections::BTreeMap,
    convert::Infallible,
    future::{Ready, ready},
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use loadshed::{
    Budget, Criticality, LoadShed, LoadShedService, Reason, RetryAfter, Shed, Threshold,
};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};

use support::{
    Broken, Law, Req, Scripted, Step, all, answer, caught, get, holding, is_refused,
    panic_on_purpose, quiet, run,
};

/// A layer whose budget of one is taken for as long as the permit lives.
fn full() -> (LoadShed, loadshed::Permit) {
    let budget = Budget::fixed(1);
    let permit = budget.try_acquire(all()).unwrap();
    (LoadShed::ratio(1.0).budget(budget), permit)
}

fn refusal(
    shed: &LoadShed,
    request: Req,
) -> Response<loadshed::ResponseBody<support::ScriptedBody>> {
    answer(&mut shed.layer(holding()), request)
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> &'a str {
    let mut values = response.headers().get_all(name).iter();
    let value = values.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(values.next().is_none(), "{name} twice");
    value.to_str().unwrap()
}

fn text<B: Body<Data = Bytes, Error: std::fmt::Debug>>(response: Response<B>) -> String {
    let bytes = run(response.into_body().collect()).unwrap().to_bytes();
    String::from_utf8(bytes.into()).unwrap()
}

// ---- 17: what a refusal costs

/// A request body that tells whether anybody asked it for anything.
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
fn p17_a_refusal_reads_no_body_before_it_answers() {
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
        let answered = shed.layer(inner).call(request).now_or_never();
        let response = answered.expect("it is answered at once").unwrap();
        assert!(response.extensions().get::<Shed>().is_some());
        assert!(!read.load(Ordering::Relaxed));
        text(response);
        assert!(!read.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn p17_a_refusal_answers_before_it_reads_where_there_is_a_runtime_to_read_in() {
    quiet();
    let (shed, _held) = full();
    let read = Arc::new(AtomicBool::new(false));
    let inner = service_fn(|_: Request<Unread>| {
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let request = Request::post("/").body(Unread(Arc::clone(&read))).unwrap();
    let answered = shed.layer(inner).call(request).now_or_never();
    assert!(is_refused(
        &answered.expect("it is answered at once").unwrap()
    ));
    assert!(!read.load(Ordering::Relaxed));
    // Whoever reads it in the background, and finds it broken, takes nobody along.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shed.handle().budget().in_flight(), 1);
}

#[test]
fn p17_neither_refusals_nor_admissions_wait_for_a_law_that_thinks() {
    let (entered, has_entered) = mpsc::channel();
    let (may_go_on, goes_on) = mpsc::channel::<()>();
    let law = Law::new(1..=3, 3, move |window| {
        entered.send(()).unwrap();
        let _ = goes_on.recv();
        window.limit
    });
    let budget = Budget::new(law);
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
    waited.expect("they wait for the law");
}

type Answer = Ready<Result<Response<Empty<Bytes>>, Infallible>>;

/// An inner service that allocates nothing.
fn bare()
-> impl Service<Req, Response = Response<Empty<Bytes>>, Error = Infallible, Future = Answer> + Clone
{
    service_fn(|_: Req| ready(Ok(Response::new(Empty::new()))))
}

/// How often a thread that has served before allocates for one request that finds an idle service.
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
    let decided = layer.clone().threshold(|head| {
        if head.uri().path() == "/exempt" {
            Threshold::EXEMPT
        } else {
            Threshold::ratio(0.5)
        }
    });
    let none = (0, StatusCode::OK);
    assert_eq!(allocations(layer.layer(bare()), || get("/")), none, "alone");
    assert_eq!(
        allocations(outer.layer(layer.layer(bare())), || get("/")),
        none,
        "nested"
    );
    assert_eq!(
        allocations(outer.layer(other.layer(layer.layer(bare()))), || get("/")),
        none,
        "two budgets"
    );
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
    let mut service = LoadShed::observe()
        .budget(shed.handle().budget())
        .layer(shed.layer(bare()));
    // What it keeps of a window grows to its size in the first busy ones.
    for _ in 0..4 {
        for _ in 0..2_000 {
            answer(&mut service, get("/"));
        }
        tokio::time::advance(Duration::from_millis(101)).await;
    }
    for _ in 0..20 {
        let most = allocations(service.clone(), || get("/"));
        assert_eq!(most, (0, StatusCode::OK));
        tokio::time::advance(Duration::from_millis(101)).await;
    }
    let fresh = Budget::adaptive();
    let mut service = LoadShed::ratio(0.85).budget(&fresh).layer(bare());
    let request = get("/");
    let mut future = None;
    let measured = allocation_counter::measure(|| future = Some(service.call(request)));
    assert_eq!(measured.count_total, 0, "the first one is admitted");
    assert!(run(future.unwrap()).is_ok());
}

#[test]
fn p17_a_refusal_allocates_at_most_8_times() {
    let (full, _held) = full();
    let grpc = || with_content_type(HeaderValue::from_static("application/grpc+proto"));
    let outer = LoadShed::observe().budget(full.handle().budget());
    let at_most_8 = |(most, status): (u64, StatusCode), what| {
        assert!(most <= 8, "{what}: {most}");
        status
    };
    let too_many = StatusCode::TOO_MANY_REQUESTS;
    assert_eq!(
        at_most_8(allocations(full.layer(bare()), || get("/")), "http"),
        too_many
    );
    assert_eq!(
        at_most_8(allocations(full.layer(bare()), grpc), "grpc"),
        200
    );
    assert_eq!(
        at_most_8(
            allocations(outer.layer(full.layer(bare())), || get("/")),
            "nested"
        ),
        too_many
    );
    let fixed = full
        .clone()
        .retry_after(RetryAfter::fixed(Duration::from_secs(5)));
    assert_eq!(
        at_most_8(allocations(fixed.layer(bare()), || get("/")), "fixed hint"),
        too_many
    );
    let status = full.clone().status(StatusCode::BAD_GATEWAY);
    assert_eq!(
        at_most_8(allocations(status.layer(bare()), || get("/")), "status"),
        502
    );
    let written = full
        .clone()
        .on_shed(|_| Response::new(Bytes::from_static(b"later")));
    assert_eq!(
        at_most_8(allocations(written.layer(bare()), || get("/")), "on_shed"),
        200
    );
    let decided = full.clone().threshold(|_| all());
    assert_eq!(
        at_most_8(allocations(decided.layer(bare()), || get("/")), "closure"),
        too_many
    );
}

#[tokio::test]
async fn p17_a_refusal_without_an_upload_allocates_at_most_8_times_in_a_runtime_too() {
    let (full, _held) = full();
    let (most, status) = allocations(full.layer(bare()), || get("/"));
    assert!(most <= 8, "{most}");
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
}

#[test]
fn p17_a_refused_grpc_call_allocates_at_most_8_times_whoever_made_its_headers() {
    let (full, _held) = full();
    // hyper's header values are slices of what it has read, and free to clone. This one is its own owner, as is that
    // of a request made within the process, and its first clone costs an allocation.
    let owned = || with_content_type("application/grpc+proto".parse().unwrap());
    let (most, _) = allocations(full.layer(bare()), owned);
    assert!(most <= 8, "{most}");
}

// ---- 18 and 19: the answer

fn with_content_type(content_type: HeaderValue) -> Req {
    let mut request = get("/grpc.health.v1.Health/Check");
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    request
}

fn json(text: &str, status: StatusCode) -> BTreeMap<String, String> {
    // The one number goes in as text, so that the document is a map of one type.
    let number = format!("\"status\":{}", status.as_u16());
    assert!(text.contains(&number), "{text}");
    let quoted = text.replace(&number, &format!("\"status\":\"{}\"", status.as_u16()));
    axum::Json::from_bytes(quoted.as_bytes())
        .expect("valid JSON")
        .0
}

#[test]
fn p18_a_refusal_over_http_is_a_429_with_a_hint_that_tells_nothing_else() {
    let (shed, _held) = full();
    for method in ["GET", "POST", "HEAD", "OPTIONS", "BREW"] {
        let mut request = get("/");
        *request.method_mut() = method.parse().unwrap();
        let response = refusal(&shed, request);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(header(&response, "retry-after").parse::<u32>().unwrap() >= 1);
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert_eq!(
            header(&response, "content-type"),
            "application/problem+json"
        );
        assert_eq!(response.headers().len(), 3);
        let length = response.body().size_hint().exact();
        let document = text(response);
        assert_eq!(length, Some(document.len() as u64));
        let digits: String = document.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits, "429", "it tells how much is missing: {document}");
        let fields = json(&document, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            fields["type"],
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        );
        assert!(!fields["title"].is_empty());
    }
}

#[test]
fn p18_the_status_is_a_setting() {
    for status in [400, 420, 429, 500, 503, 599] {
        let status = StatusCode::from_u16(status).unwrap();
        let (shed, _held) = full();
        let response = refusal(&shed.status(status), get("/"));
        assert_eq!(response.status(), status);
        assert!(header(&response, "retry-after").parse::<u32>().unwrap() >= 1);
        assert_eq!(header(&response, "cache-control"), "no-store");
        let document = text(response);
        assert_eq!(
            json(&document, status)["status"],
            status.as_u16().to_string()
        );
    }
    for bad in [100, 200, 204, 304, 399, 600, 999] {
        let status = StatusCode::from_u16(bad).unwrap();
        let invalid = LoadShed::ratio(1.0).try_status(status).unwrap_err();
        let allowed = "a client error or a server error, 400 to 599";
        assert_eq!(
            invalid.to_string(),
            format!("status: {bad} was given, allowed is {allowed}")
        );
    }
}

#[test]
fn p18_a_fixed_hint_is_in_whole_seconds_rounded_up() {
    let (shed, _held) = full();
    for (hint, seconds, milliseconds) in [
        (Duration::from_nanos(1), "1", "1"),
        (Duration::from_millis(1), "1", "1"),
        (Duration::from_micros(1_500), "1", "2"),
        (Duration::from_secs(1), "1", "1000"),
        (Duration::from_millis(1_001), "2", "1001"),
        (Duration::from_secs(5), "5", "5000"),
        (
            Duration::from_secs(u64::from(u32::MAX)),
            "4294967295",
            "4294967295000",
        ),
    ] {
        let shed = shed.clone().retry_after(RetryAfter::fixed(hint));
        let response = refusal(&shed, get("/"));
        assert_eq!(header(&response, "retry-after"), seconds);
        assert_eq!(
            response.extensions().get::<Shed>().unwrap().retry_after(),
            hint
        );
        let response = refusal(&shed, grpc("application/grpc"));
        assert_eq!(header(&response, "grpc-retry-pushback-ms"), milliseconds);
    }
}

#[tokio::test(start_paused = true)]
async fn p18_whatever_the_load_the_hint_is_an_integer_of_at_least_1() {
    let budget = Budget::fixed(3);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    for step in 0..5_000_u64 {
        // Bursts, lulls, and a clock that stands still; some complete, so that there is a pace.
        tokio::time::advance(Duration::from_millis(
            [0, 0, 7, 300, 0][step as usize % 5] * (step % 11),
        ))
        .await;
        drop(budget.try_acquire(all()));
        let _full: Vec<_> = (0..3)
            .map(|_| budget.try_acquire(Threshold::NEVER))
            .collect();
        let response = refusal(&shed, get("/"));
        let seconds: u64 = header(&response, "retry-after").parse().unwrap();
        let reason = response.extensions().get::<Shed>().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(seconds, reason.retry_after_secs());
        assert!(reason.retry_after() >= Duration::from_secs(1));
        let response = refusal(&shed, grpc("application/grpc"));
        let milliseconds: u64 = header(&response, "grpc-retry-pushback-ms").parse().unwrap();
        assert!((10..=60_000).contains(&milliseconds));
    }
}

fn grpc(content_type: &str) -> Req {
    with_content_type(content_type.parse().unwrap())
}

#[test]
fn p18_a_refused_grpc_call_is_trailers_only_with_resource_exhausted() {
    let (shed, _held) = full();
    // Whatever these say, a gRPC client would not understand it.
    let elsewise = shed
        .clone()
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .on_shed(|_| Response::new(Bytes::from_static(b"not for a gRPC client")));
    for shed in [shed, elsewise] {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+json",
            "application/grpc;charset=utf-8",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/GRPC",
        ] {
            let mut response = refusal(&shed, grpc(content_type));
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(header(&response, "content-type"), content_type);
            assert_eq!(header(&response, "grpc-status"), "8");
            let message = header(&response, "grpc-message");
            assert!(
                !message.is_empty()
                    && message
                        .bytes()
                        .all(|c| (0x20..=0x7e).contains(&c) && c != b'%')
            );
            let pushback = header(&response, "grpc-retry-pushback-ms");
            assert!(
                pushback.parse::<u32>().unwrap() > 0 && !pushback.starts_with(['0', '+']),
                "{pushback}"
            );
            assert!(response.extensions().get::<Shed>().is_some());
            assert!(!response.headers().contains_key(header::RETRY_AFTER));
            // END_STREAM is on the headers only if the body says at once that it is at its end.
            assert!(response.body().is_end_stream());
            assert_eq!(response.body().size_hint().exact(), Some(0));
            assert!(matches!(
                support::next_frame(&mut response),
                Poll::Ready(None)
            ));
        }
    }
}

#[test]
fn p18_what_only_looks_like_grpc_gets_the_answer_of_http() {
    let (shed, _held) = full();
    for content_type in [
        "application/json",
        "application/grpcish",
        "text/application/grpc",
        "",
        "application/gr",
    ] {
        let response = refusal(&shed, grpc(content_type));
        assert_eq!(
            response.status(),
            StatusCode::TOO_MANY_REQUESTS,
            "{content_type}"
        );
        assert!(!response.headers().contains_key("grpc-status"));
    }
}

#[test]
fn p18_nothing_is_added_to_what_on_shed_writes() {
    let (shed, _held) = full();
    let seen = Arc::new(Mutex::new(None));
    let shed = {
        let seen = Arc::clone(&seen);
        shed.status(StatusCode::BAD_GATEWAY)
            .on_shed(move |shed: &Shed| {
                *seen.lock().unwrap() = Some(shed.clone());
                Response::builder()
                    .status(503)
                    .version(Version::HTTP_10)
                    .header("x-own", "1")
                    .extension("mine")
                    .body("come back later".into())
                    .unwrap()
            })
    };
    let response = refusal(&shed, get("/"));
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (503, Version::HTTP_10)
    );
    assert_eq!(response.headers().len(), 1);
    assert_eq!(header(&response, "x-own"), "1");
    assert_eq!(response.extensions().get(), Some(&"mine"));
    assert_eq!(response.extensions().get(), seen.lock().unwrap().as_ref());
    assert_eq!(text(response), "come back later");

    let empty = shed.on_shed(|_| Response::new(Bytes::new()));
    let mut response = refusal(&empty, get("/"));
    assert!(response.body().is_end_stream());
    assert!(matches!(
        support::next_frame(&mut response),
        Poll::Ready(None)
    ));
}

#[test]
fn p19_the_reason_is_with_every_refusal_and_with_nothing_else() {
    let (shed, _held) = full();
    let shed = shed.retry_after(RetryAfter::fixed(Duration::from_millis(2_500)));
    let written = shed.clone().on_shed(|_| Response::new(Bytes::new()));
    let outer = LoadShed::observe().budget(shed.handle().budget());
    let expect = |response: &http::response::Parts| {
        let shed = response.extensions.get::<Shed>().expect("a reason");
        assert_eq!(shed.reason(), Reason::Utilization);
        assert_eq!(shed.criticality(), Criticality::Sheddable);
        assert_eq!(shed.retry_after(), Duration::from_millis(2_500));
    };
    for shed in [&shed, &written] {
        expect(&refusal(shed, get("/")).into_parts().0);
        expect(&refusal(shed, grpc("application/grpc")).into_parts().0);
        expect(
            &answer(&mut outer.layer(shed.layer(holding())), get("/"))
                .into_parts()
                .0,
        );
    }
    let served = refusal(&shed.dry_run(true), get("/"));
    assert!(
        served.extensions().get::<Shed>().is_none(),
        "a dry run refuses nothing"
    );
}

#[test]
fn p19_the_reason_is_its_own_even_where_on_shed_puts_another() {
    let (shed, _held) = full();
    let other = shed.handle().budget().try_acquire(all()).unwrap_err();
    let shed = shed
        .retry_after(RetryAfter::fixed(Duration::from_secs(77)))
        .on_shed(move |_| {
            let mut response = Response::new(Bytes::new());
            response.extensions_mut().insert(other.clone());
            response
        });
    let response = refusal(&shed, get("/"));
    assert_eq!(
        response
            .extensions()
            .get::<Shed>()
            .unwrap()
            .retry_after()
            .as_secs(),
        77
    );
}

#[test]
fn p19_when_on_shed_panics_the_layers_own_answer_goes_out_with_the_reason() {
    quiet();
    let (shed, _held) = full();
    let shed = shed
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .on_shed(|_| panic_on_purpose());
    for _ in 0..3 {
        let response = refusal(&shed, get("/"));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.extensions().get::<Shed>().is_some());
        assert!(header(&response, "retry-after").parse::<u32>().unwrap() >= 1);
        json(&text(response), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(shed.handle().budget().in_flight(), 1);
}

// ---- 21: errors

#[test]
fn p21_the_inner_error_passes_through_untouched() {
    let mut call = LoadShed::ratio(1.0).layer(Scripted {
        poll: [Step::Fail].into(),
        ..holding()
    });
    let error: Broken = run(call.call(get("/"))).unwrap_err();
    assert_eq!(error, Broken("failed"));
    for ready in [vec![Step::Fail], vec![Step::Wait, Step::Wait, Step::Fail]] {
        let mut service = LoadShed::ratio(1.0).layer(Scripted {
            ready: ready.into(),
            ..holding()
        });
        let error: Broken = run(service.call(get("/"))).unwrap_err();
        assert_eq!(error, Broken("not ready"));
    }
}

#[test]
fn p21_no_bound_is_put_on_the_inner_error_or_future() {
    /// Not even `Send`, `Debug` or `'static`.
    struct Local<'a>(&'a Cell<u8>);
    let said = Cell::new(7);
    let inner = service_fn(|_: Req| ready(Err::<Response<Empty<Bytes>>, _>(Local(&said))));
    let Err(Local(error)) = run(LoadShed::ratio(1.0).layer(inner).call(get("/"))) else {
        panic!("it fails")
    };
    assert_eq!(error.get(), 7);
    // A refusal is no error: the inner service cannot even make one.
    let (shed, _held) = full();
    let infallible =
        service_fn(|_: Req| ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))));
    let Ok(response) = run(shed.layer(infallible).call(get("/")));
    assert!(is_refused(&response));
}

// ---- 22: the dry run

#[derive(Clone, Copy, Debug)]
enum Stack {
    Alone,
    Inside,
    /// Two layers that shed, the outer one later.
    Both,
}

struct Run {
    budget: Budget,
    service: Box<dyn FnMut(Req) -> Running>,
    running: Vec<Option<Running>>,
}

/// The response, and whether it is a refusal.
type Running = (Box<dyn std::any::Any>, bool);

impl Run {
    fn new(stack: Stack, dry_run: bool, budget: Budget) -> Self {
        let by_path = |head: &Request<()>| match head.uri().path() {
            "/never" => Threshold::NEVER,
            "/exempt" => Threshold::EXEMPT,
            ratio => Threshold::ratio(ratio[1..].parse().unwrap()),
        };
        let shed = LoadShed::observe()
            .budget(&budget)
            .threshold(by_path)
            .dry_run(dry_run);
        let outer = LoadShed::ratio(0.8).budget(&budget).dry_run(dry_run);
        let observe = LoadShed::observe().budget(&budget);
        fn boxed<S, B>(mut service: S) -> Box<dyn FnMut(Req) -> Running>
        where
            S: Service<Req, Response = Response<B>, Error = Broken> + 'static,
            B: 'static,
        {
            Box::new(move |request| {
                let response = answer(&mut service, request);
                let refused = is_refused(&response);
                (Box::new(response), refused)
            })
        }
        let service = match stack {
            Stack::Alone => boxed(shed.layer(holding())),
            Stack::Inside => boxed(observe.layer(shed.layer(holding()))),
            Stack::Both => boxed(outer.layer(shed.layer(holding()))),
        };
        Self {
            budget,
            service,
            running: Vec::new(),
        }
    }

    /// Whether it is, or would have been, refused.
    fn arrives(&mut self, path: &str) -> bool {
        let before = self.budget.snapshot();
        let arrived = (self.service)(get(path));
        let refused = arrived.1;
        let after = self.budget.snapshot();
        self.running.push((!refused).then_some(arrived));
        refused || after.would_refuse > before.would_refuse
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Arrives(&'static str),
    /// The nth that ever came.
    Ends(usize),
    Limit(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let paths = proptest::sample::select(vec!["/1.0", "/0.8", "/0.5", "/0.2", "/never", "/exempt"]);
    let event = prop_oneof![
        5 => paths.prop_map(Event::Arrives),
        4 => (0_usize..100).prop_map(Event::Ends),
        1 => (1_usize..12).prop_map(Event::Limit),
    ];
    proptest::collection::vec(event, 1..100)
}

proptest! {
    #[test]
    fn p22_a_dry_run_decides_as_the_real_run_does(
        stack in proptest::sample::select(vec![Stack::Alone, Stack::Inside, Stack::Both]),
        events in events(),
    ) {
        let mut real = Run::new(stack, false, Budget::fixed(5));
        let mut dry = Run::new(stack, true, Budget::fixed(5));
        for event in events {
            match event {
                Event::Arrives(path) => prop_assert_eq!(real.arrives(path), dry.arrives(path)),
                Event::Ends(nth) => for run in [&mut real, &mut dry] {
                    if let Some(running) = run.running.get_mut(nth) {
                        *running = None;
                    }
                },
                Event::Limit(limit) => for run in [&mut real, &mut dry] {
                    run.budget.set_limit(limit).unwrap();
                },
            }
            let (mut real, dry) = (real.budget.snapshot(), dry.budget.snapshot());
            prop_assert_eq!((dry.refused, real.would_refuse), (0, 0));
            let mut as_real = dry;
            (as_real.refused, as_real.would_refuse) = (dry.would_refuse, 0);
            if matches!(stack, Stack::Both) {
                // Told below.
                (as_real.exempt, real.exempt) = (0, 0);
            }
            prop_assert_eq!(as_real, real);
        }
        real.running.clear();
        dry.running.clear();
        prop_assert_eq!((real.budget.in_flight(), dry.budget.in_flight()), (0, 0));
    }
}

#[test]
fn p22_what_would_have_been_refused_is_served_and_not_counted() {
    let budget = Budget::fixed(2);
    let mut service = LoadShed::ratio(0.5)
        .budget(&budget)
        .dry_run(true)
        .layer(holding());
    let first = answer(&mut service, get("/"));
    let more: Vec<_> = (0..50).map(|_| answer(&mut service, get("/"))).collect();
    assert!(more.iter().all(|response| response.status() == 200));
    assert_eq!(budget.in_flight(), 1);
    let figures = budget.snapshot();
    assert_eq!(
        (figures.admitted, figures.refused, figures.would_refuse),
        (1, 0, 50)
    );
    // They end, in whatever way, and free nothing that they did not take.
    for (nth, response) in more.into_iter().enumerate() {
        if nth % 2 == 0 {
            run(response.into_body().collect()).unwrap();
        }
    }
    assert_eq!(budget.in_flight(), 1);
    drop(first);
    assert_eq!(
        (budget.in_flight(), budget.snapshot().peak_in_flight),
        (0, 1)
    );
}

#[test]
fn p22_a_panic_or_an_error_of_what_would_have_been_refused_frees_nothing() {
    let budget = Budget::fixed(2);
    let _held = [
        budget.try_acquire(all()).unwrap(),
        budget.try_acquire(all()).unwrap(),
    ];
    let shed = LoadShed::ratio(1.0).budget(&budget).dry_run(true);
    let outer = LoadShed::observe().budget(&budget);
    for inner in [
        Scripted {
            call_panics: true,
            ..holding()
        },
        Scripted {
            poll: [Step::Panic].into(),
            ..holding()
        },
        Scripted {
            ready: [Step::Panic].into(),
            ..holding()
        },
    ] {
        caught(|| answer(&mut shed.layer(inner.clone()), get("/")));
        caught(|| answer(&mut outer.layer(shed.layer(inner)), get("/")));
        assert_eq!(budget.in_flight(), 2);
    }
    let failing = Scripted {
        ready: [Step::Wait, Step::Fail].into(),
        ..holding()
    };
    assert!(run(outer.layer(shed.layer(failing)).call(get("/"))).is_err());
    assert_eq!((budget.in_flight(), budget.snapshot().would_refuse), (2, 7));
}

#[test]
fn p22_nested_layers_in_a_dry_run_count_one_refusal_once() {
    let budget = Budget::fixed(1);
    let dry = LoadShed::ratio(1.0).budget(&budget).dry_run(true);
    let mut service = dry.layer(dry.layer(dry.layer(holding())));
    let first = answer(&mut service, get("/"));
    let second = answer(&mut service, get("/"));
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.admitted, figures.would_refuse),
        (1, 1, 1)
    );
    drop((first, second));
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p22_one_that_the_outer_layer_would_have_refused_is_not_counted_as_exempt_by_the_inner_one() {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let outer = LoadShed::ratio(1.0).budget(&budget).dry_run(true);
    let exempt = outer.clone().threshold(|_| Threshold::EXEMPT);
    drop(answer(&mut outer.layer(exempt.layer(holding())), get("/")));
    let figures = budget.snapshot();
    // In the real run, the inner layer would not have seen it.
    assert_eq!((figures.would_refuse, figures.exempt), (1, 0));
}

#[test]
fn p22_an_enforcing_layer_inside_a_dry_run_still_protects() {
    let budget = Budget::fixed(4);
    let dry = LoadShed::ratio(0.5).budget(&budget).dry_run(true);
    let enforcing = LoadShed::ratio(1.0).budget(&budget);
    let mut service = dry.layer(enforcing.layer(holding()));
    let responses: Vec<_> = (0..6).map(|_| answer(&mut service, get("/"))).collect();
    let refused: Vec<_> = responses.iter().map(is_refused).collect();
    assert_eq!(refused, [false, false, false, false, true, true]);
    assert_eq!(budget.in_flight(), 4);
    drop(responses);
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.refused, figures.would_refuse),
        (0, 2, 4)
    );
}

#[test]
fn p22_a_dry_run_inside_an_enforcing_layer_refuses_nothing_itself() {
    let budget = Budget::fixed(4);
    let dry = LoadShed::ratio(0.5).budget(&budget).dry_run(true);
    let mut service = LoadShed::ratio(0.75)
        .budget(&budget)
        .layer(dry.layer(holding()));
    // Two are counted; those that follow would have left at the inner layer, so the outer one has room for ever.
    let responses: Vec<_> = (0..6).map(|_| answer(&mut service, get("/"))).collect();
    assert!(!responses.iter().any(is_refused));
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.admitted, figures.would_refuse),
        (2, 2, 4)
    );
    drop(responses);
    assert_eq!(budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p22_a_law_sees_the_same_windows_in_a_dry_run() {
    for stack in [Stack::Alone, Stack::Both, Stack::Inside] {
        let mut seen = [false, true].map(|dry_run| {
            let windows = Arc::new(Mutex::new(Vec::new()));
            let law = {
                let windows = Arc::clone(&windows);
                Law::new(2..=6, 4, move |window| {
                    let latencies: Vec<_> =
                        window.samples.iter().map(|sample| sample.latency).collect();
                    windows.lock().unwrap().push((
                        window.refused,
                        window.completed,
                        window.in_flight,
                        latencies,
                    ));
                    2 + windows.lock().unwrap().len() % 5
                })
            };
            (Run::new(stack, dry_run, Budget::new(law.always())), windows)
        });
        for step in 0..300_usize {
            tokio::time::advance(Duration::from_millis(3)).await;
            for (run, _) in &mut seen {
                run.arrives(["/1.0", "/0.5", "/never"][step % 3]);
                if step >= 5 {
                    run.running[step - 5] = None;
                }
            }
        }
        let [real, dry] = seen.map(|(run, windows)| {
            (
                run.budget.limit(),
                std::mem::take(&mut *windows.lock().unwrap()),
            )
        });
        assert!(real.1.len() > 100 && real.1.iter().any(|window| window.0 > 0));
        assert_eq!(real, dry);
    }
}

// ---- 25: the machinery fails

#[test]
fn p25_a_request_whose_threshold_panics_is_served_as_never_to_be_shed() {
    quiet();
    let budget = Budget::fixed(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inner = {
        let seen = Arc::clone(&seen);
        service_fn(move |request: Request<Full<Bytes>>| {
            seen.lock().unwrap().push(format!("{request:?}"));
            ready(Ok::<_, Broken>(Response::new(support::body([Step::Data]))))
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
    // What the closure had in its hands came back whole.
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|request| *request == seen[0]));
    for part in ["PUT", "/panics", "HTTP/2.0", "x-one", "whole"] {
        assert!(seen[0].contains(part), "{part} in {}", seen[0]);
    }
}

#[test]
fn p25_a_law_that_panics_costs_no_request_and_the_limit_stays() {
    quiet();
    let asked = Arc::new(AtomicUsize::new(0));
    let law = {
        let asked = Arc::clone(&asked);
        Law::new(1..=10, 2, move |_| {
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 => 3,
                _ => panic_on_purpose(),
            }
        })
    };
    let budget = Budget::new(law);
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
    assert_eq!(asked.load(Ordering::Relaxed), 2, "it is not asked again");
    assert_eq!(budget.in_flight(), 0);
    budget.set_limit(7).unwrap();
    assert_eq!(budget.limit(), 7);
    assert!(budget.set_limit(11).is_err(), "its limits stay too");
}

/// A law that is broken beyond repair.
#[derive(Debug)]
struct Hopeless;

impl loadshed::control::Controller for Hopeless {
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

impl Drop for Hopeless {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic_on_purpose();
        }
    }
}

#[test]
fn p25_a_law_whose_drop_panics_too_costs_no_request() {
    quiet();
    let budget = Budget::new(Hopeless);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    for _ in 0..5 {
        let served = panic::catch_unwind(AssertUnwindSafe(|| {
            let responses: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
            responses.iter().map(is_refused).collect::<Vec<_>>()
        }));
        assert_eq!(
            served.expect("the request pays for it"),
            [false, false, true]
        );
        assert_eq!((budget.limit(), budget.in_flight()), (2, 0));
    }
}

#[test]
fn p25_a_law_that_panics_while_a_request_panics_does_not_take_the_process_down() {
    let budget = Budget::new(Law::new(1..=9, 2, |_| panic_on_purpose()));
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
fn p25_a_law_is_kept_within_its_own_limits() {
    for (decision, limit) in [
        (0, 3),
        (2, 3),
        (9, 9),
        (10, 9),
        (1 << 31, 9),
        (1 << 32, 9),
        (usize::MAX, 9),
    ] {
        let budget = Budget::new(Law::new(3..=9, 5, move |_| decision));
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
fn p25_a_law_that_uses_its_own_budget_does_not_stand_in_its_own_way() {
    let own = Arc::new(Mutex::new(None::<Budget>));
    let law = {
        let own = Arc::clone(&own);
        Law::new(1..=9, 4, move |window| {
            if let Some(budget) = &*own.lock().unwrap() {
                drop(budget.try_acquire(all()));
                budget.set_limit(2).unwrap();
                assert_eq!(budget.snapshot().limit, 2);
            }
            window.limit
        })
    };
    let budget = Budget::new(law);
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
        .expect("it waits for itself");
    request.join().unwrap();
    // What was set while the law decided stays: it decided upon a limit that was no longer in force.
    assert_eq!((budget.limit(), budget.in_flight()), (2, 0));
    own.lock().unwrap().take();
}

#[tokio::test(start_paused = true)]
async fn p25_a_clock_that_stands_still_changes_nothing() {
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
