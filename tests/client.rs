//! The layer for outgoing calls: what it waits for, what it retries, what it does not send, and what it passes on.

mod support;

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::serve::ListenerExt;
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use loadshed::{
    Budget, Criticality, LoadShed, RetryAfter,
    client::{Backpressure, BackpressureService, Deadline, NotSent, ResponseBody},
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, advance, sleep, timeout},
};
use tonic::{
    Code,
    transport::{Channel, Server as GrpcServer, server::TcpIncoming},
};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer,
    retry::budget::TpsBudget, service_fn,
};

use support::{Broken, Req, all, get};

/// A server that gives the scripted answers, then 200 for ever, and remembers what came and when.
#[derive(Clone, Default)]
struct Server {
    script: Arc<Mutex<VecDeque<Head>>>,
    seen: Arc<Mutex<Vec<(Duration, HeaderMap)>>>,
    start: Arc<Mutex<Option<Instant>>>,
}

type Head = (u16, &'static [(&'static str, &'static str)]);

impl Server {
    fn that_says<const N: usize>(script: [Head; N]) -> Self {
        let server = Self::default();
        server.script.lock().unwrap().extend(script);
        server
    }

    fn service<B>(
        &self,
    ) -> impl Service<
        Request<B>,
        Response = Response<Empty<Bytes>>,
        Error = Broken,
        Future: Future + Send,
    > + Clone
    + use<B>
    where
        B: http_body::Body<Error: std::fmt::Debug> + Send + Unpin,
        B::Data: Send,
    {
        let server = self.clone();
        service_fn(move |request: Request<B>| {
            let server = server.clone();
            let (head, mut body) = request.into_parts();
            async move {
                // As a transport does, it takes what is there, and does not wait for more.
                while let Some(Some(frame)) = body.frame().now_or_never() {
                    frame.unwrap();
                }
                server.answer(head.headers)
            }
        })
    }

    fn answer(&self, headers: HeaderMap) -> Result<Response<Empty<Bytes>>, Broken> {
        let now = Instant::now();
        let start = *self.start.lock().unwrap().get_or_insert(now);
        self.seen.lock().unwrap().push((now - start, headers));
        let (status, headers) = self
            .script
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or((200, &[]));
        if status == 0 {
            return Err(Broken("the connection"));
        }
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Ok(response.body(Empty::new()).unwrap())
    }

    /// When the tries came, since the first.
    fn tries(&self) -> Vec<Duration> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|(at, _)| *at)
            .collect()
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The values of one header, by try.
    fn told(&self, name: &str) -> Vec<String> {
        let text = |(_, headers): &(_, HeaderMap)| {
            let value = headers.get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or("none").to_owned()
        };
        self.seen.lock().unwrap().iter().map(text).collect()
    }
}

fn ms(milliseconds: impl IntoIterator<Item = u64>) -> Vec<Duration> {
    milliseconds
        .into_iter()
        .map(Duration::from_millis)
        .collect()
}

type Answer = Response<ResponseBody<Empty<Bytes>>>;

/// One call by way of the layer.
async fn call(layer: &Backpressure, server: &Server, request: Req) -> Answer {
    layer
        .layer(server.service())
        .oneshot(request)
        .await
        .unwrap()
}

fn with_method(method: Method) -> Req {
    Request::builder()
        .method(method)
        .body(Empty::new())
        .unwrap()
}

fn grpc() -> Req {
    let request = Request::post("/a.B/C").header("content-type", "application/grpc+proto");
    request.body(Empty::new()).unwrap()
}

const BUSY: Head = (429, &[("retry-after", "1")]);

#[tokio::test(start_paused = true)]
async fn it_waits_exactly_as_told_each_time() {
    let server = Server::that_says([
        (429, &[("retry-after", "2")]),
        (503, &[("retry-after-ms", "250"), ("retry-after", "1")]),
    ]);
    let answer = call(&Backpressure::new(), &server, with_method(Method::POST)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(server.tries(), ms([0, 2_000, 2_250]));

    // By the server's clock, whatever the one here says.
    let server = Server::that_says([(
        503,
        &[
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:49:42 GMT"),
        ],
    )]);
    let answer = call(&Backpressure::new(), &server, get("/")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(server.tries(), ms([0, 5_000]));
}

#[tokio::test(start_paused = true)]
async fn a_pushback_is_waited_for_to_the_millisecond_and_a_negative_one_is_a_no() {
    let server = Server::that_says([
        (
            200,
            &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "1234")],
        ),
        (
            200,
            &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "7")],
        ),
    ]);
    call(&Backpressure::new(), &server, grpc()).await;
    assert_eq!(server.tries(), ms([0, 1_234, 1_241]));

    for no in ["-1", "soon"] {
        let server = Server::default();
        let headers = vec![("grpc-status", "8"), ("grpc-retry-pushback-ms", no)].leak();
        server.script.lock().unwrap().push_back((200, headers));
        let answer = call(&Backpressure::new(), &server, grpc()).await;
        assert_eq!(answer.headers()["grpc-retry-pushback-ms"], no);
        assert_eq!(server.tries(), ms([0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_callers_patience_is_returned_at_once_as_it_is() {
    let layer = Backpressure::new().patience(Duration::from_secs(3));
    for (hint, tries) in [
        ("3", ms([0, 3_000])),
        ("4", ms([0])),
        ("99999999999999999999", ms([0])),
    ] {
        let headers = vec![("retry-after", hint)].leak();
        let server = Server::that_says([(429, &*headers)]);
        let answer = call(&layer, &server, get("/")).await;
        assert_eq!(server.tries(), tries, "{hint}");
        if tries.len() == 1 {
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()["retry-after"], hint);
            assert!(answer.extensions().get::<NotSent>().is_none());
        }
    }
    let default = Server::that_says([(429, &[("retry-after", "11")])]);
    assert_eq!(
        call(&Backpressure::new(), &default, get("/"))
            .await
            .status(),
        429
    );
    assert_eq!(default.tries(), ms([0]));
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_reaches_the_deadline_is_not_waited_for() {
    for (left, tries) in [(1_001, ms([0, 1_000])), (1_000, ms([0])), (1, ms([0]))] {
        let server = Server::that_says([BUSY]);
        let mut request = get("/");
        let deadline = Deadline::after(Duration::from_millis(left));
        request.extensions_mut().insert(deadline);
        let start = Instant::now();
        let answer = call(&Backpressure::new(), &server, request).await;
        assert_eq!(server.tries(), tries, "{left} ms");
        // The refusal itself, and at once; not a retry that came too late to be sent.
        let served = tries.len() == 2;
        assert_eq!(answer.status(), if served { 200 } else { 429 });
        assert!(served || start.elapsed().is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_hint_it_backs_off_and_a_seed_makes_that_repeatable() {
    let waits = async |seed| {
        let server = Server::that_says([(429, &[]); 2]);
        call(&Backpressure::new().seed(seed), &server, get("/")).await;
        server.tries()
    };
    let (one, other) = (waits(1).await, waits(2).await);
    for tries in [&one, &other] {
        assert_eq!(tries.len(), 3);
        assert!(tries[1] < Duration::from_millis(101));
        assert!(tries[2] - tries[1] < Duration::from_millis(201));
    }
    assert_ne!(one, other);
    assert_eq!(waits(1).await, one);
}

#[tokio::test(start_paused = true)]
async fn only_what_the_server_has_not_begun_is_retried() {
    let retried = async |method: Method, head: Head| {
        let server = Server::that_says([head]);
        let mut service = Backpressure::new().layer(server.service());
        let _ = service
            .ready()
            .await
            .unwrap()
            .call(with_method(method))
            .await;
        server.count() == 2
    };
    for method in [Method::POST, Method::PATCH] {
        assert!(retried(method.clone(), (429, &[])).await);
        assert!(retried(method.clone(), (503, &[("retry-after", "1")])).await);
        assert!(!retried(method.clone(), (503, &[])).await);
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD] {
        assert!(retried(method.clone(), (503, &[])).await);
        for status in [200, 408, 500, 502, 504] {
            assert!(!retried(method.clone(), (status, &[("retry-after", "1")])).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_service_passes_untouched_and_is_not_retried() {
    let server = Server::that_says([(0, &[])]);
    let service = Backpressure::new().layer(server.service());
    let error = service.oneshot(get("/")).await.unwrap_err();
    assert_eq!(error, Broken("the connection"));
    assert_eq!(server.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_retried_up_to_twice_or_as_often_as_set_and_ends_with_the_last_answer() {
    for (layer, tries) in [
        (Backpressure::new(), 3),
        (Backpressure::new().retries(0), 1),
        (Backpressure::new().retries(1), 2),
        (Backpressure::new().retries(5), 6),
    ] {
        let server = Server::that_says([BUSY; 9]);
        assert_eq!(call(&layer, &server, get("/")).await.status(), 429);
        assert_eq!(server.count(), tries);
    }
}

/// Not `Clone`, as tonic's, axum's and reqwest's.
type Stream = UnsyncBoxBody<Bytes, Infallible>;

fn stream_of(chunks: usize, then_open: bool) -> Stream {
    let chunk = || Ok(Frame::data(Bytes::from_static(&[7; 1_024])));
    let chunks = stream::iter((0..chunks).map(move |_| chunk()));
    let rest = stream::once(async move {
        match then_open {
            true => std::future::pending().await,
            false => chunk(),
        }
    });
    UnsyncBoxBody::new(StreamBody::new(stream::StreamExt::chain(chunks, rest)))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_clone_is_replayed_if_all_of_it_was_kept() {
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let refusing = || {
        let lengths = Arc::clone(&lengths);
        service_fn(move |request: Request<Stream>| {
            let lengths = Arc::clone(&lengths);
            async move {
                let mut length = 0;
                let mut body = request.into_body();
                while let Some(Some(frame)) = body.frame().now_or_never() {
                    length += frame?.into_data().unwrap().len();
                }
                lengths.lock().unwrap().push(length);
                let busy = Response::builder().status(429).header("retry-after", "1");
                Ok::<_, Infallible>(busy.body(Empty::<Bytes>::new()).unwrap())
            }
        })
    };
    let layer = Backpressure::new().replay(UnsyncBoxBody::new);
    for (body, expected) in [
        (stream_of(3, false), vec![4_096; 3]),
        (stream_of(255, false), vec![262_144; 3]),
        (stream_of(256, false), vec![263_168]),
        (stream_of(3, true), vec![3_072]),
    ] {
        let service = layer.layer(refusing());
        let answer = service.oneshot(Request::new(body)).await.unwrap();
        assert_eq!(answer.status(), 429);
        assert_eq!(std::mem::take(&mut *lengths.lock().unwrap()), expected);
    }

    let once = Backpressure::new().once().layer(refusing());
    let answer = once
        .oneshot(Request::new(stream_of(3, false)))
        .await
        .unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(*lengths.lock().unwrap(), [4_096]);
}

#[tokio::test(start_paused = true)]
async fn the_retry_budget_is_one_however_often_the_layer_is_applied_or_cloned() {
    let layer = Backpressure::new().without_throttle();
    let server = Server::that_says([BUSY; 2_000]);
    for _ in 0..1_000 {
        call(&layer.clone(), &server, get("/")).await;
    }
    assert_eq!(server.count(), 1_100);
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_ones_own_is_asked() {
    // One a second, over a second.
    let budget = TpsBudget::new(Duration::from_secs(1), 1, 0.0);
    let layer = Backpressure::new().with_retry_budget(budget);
    let server = Server::that_says([(429, &[("retry-after-ms", "1")]); 9]);
    call(&layer, &server, get("/")).await;
    assert_eq!(server.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_holds_no_place_of_the_inner_service() {
    let server = Server::that_says([BUSY]);
    let one_at_once = ConcurrencyLimitLayer::new(1).layer(server.service());
    let service = Backpressure::new().layer(one_at_once);
    let first = tokio::spawn(service.clone().oneshot(get("/")));
    sleep(Duration::from_millis(10)).await;
    service.oneshot(get("/")).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.tries(), ms([0, 10, 1_000]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_sent_keeps_no_place_either() {
    let server = Server::default();
    let one_at_once = ConcurrencyLimitLayer::new(1).layer(server.service());
    let mut service = Backpressure::new().layer(one_at_once);
    let mut late = get("/");
    late.extensions_mut().insert(Deadline::at(Instant::now()));
    let other = service.clone();
    let answer = service.ready().await.unwrap().call(late).await.unwrap();
    assert_eq!(answer.status(), 504);

    let answer = timeout(Duration::from_secs(1), other.oneshot(get("/"))).await;
    assert_eq!(answer.expect("there is room").unwrap().status(), 200);
    drop(service);
}

/// Every call is refused: how many are sent?
#[tokio::test(start_paused = true)]
async fn of_ten_thousand_calls_that_would_all_be_refused_a_hundredth_is_sent() {
    let layer = Backpressure::new().retries(0).seed(1);
    let server = Server::that_says([BUSY; 10_000]);
    for _ in 0..10_000 {
        call(&layer, &server, get("/")).await;
        advance(Duration::from_millis(10)).await;
    }
    // Ten, and then of the nth 1 − p = 11 ÷ (n + 1).
    let expected = 10.0 + (10..10_000).map(|n| 11.0 / f64::from(n + 1)).sum::<f64>();
    let sent = server.count() as f64;
    println!("sent: {sent}, expected: {expected:.1}");
    assert!((sent / expected - 1.0).abs() < 0.3, "{sent}, {expected}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_not_throttled_as_the_server_asked_for_it() {
    let layer = Backpressure::new().retries(1).retry_budget(1.0).seed(1);
    let soon: Head = (429, &[("retry-after-ms", "1")]);
    let server = Server::that_says([soon; 1_000]);
    let mut not_sent = 0;
    for _ in 0..1_000 {
        let answer = call(&layer, &server, get("/")).await;
        not_sent += usize::from(answer.extensions().get::<NotSent>().is_some());
    }
    assert!(not_sent > 800);
    assert_eq!(server.count(), 2 * (1_000 - not_sent));
}

/// It accepts 50 a second, and 150 a second are wanted: with K = 2, twice as many are sent as are accepted.
#[tokio::test(start_paused = true)]
async fn for_each_call_that_is_accepted_two_are_sent() {
    let layer = Backpressure::new().retries(0).seed(1);
    let server = Server::default();
    let (mut sent, mut accepted) = (0, 0);
    for second in 0..360 {
        let mut room = 50;
        for _ in 0..150 {
            let before = server.count();
            if room == 0 {
                server.script.lock().unwrap().push_back(BUSY);
            }
            call(&layer, &server, get("/")).await;
            server.script.lock().unwrap().clear();
            let now_sent = server.count() - before;
            let now_accepted = now_sent.min(room);
            room -= now_accepted;
            // Once the window is full.
            if second >= 120 {
                sent += now_sent;
                accepted += now_accepted;
            }
            advance(Duration::from_micros(6_667)).await;
        }
    }
    let ratio = f64::from(sent as u32) / f64::from(accepted as u32);
    println!("sent: {sent}, accepted: {accepted}, ratio: {ratio:.3}");
    assert!((1.9..2.1).contains(&ratio), "{ratio}");
    assert_eq!(accepted, 240 * 50);
}

/// Its next call is not sent: p is 1 − 11 ÷ 100,001.
async fn throttling(seed: u64) -> Backpressure {
    let layer = Backpressure::new().retries(0).seed(seed);
    let server = Server::that_says([BUSY; 2_000]);
    for _ in 0..100_000 {
        call(&layer, &server, get("/")).await;
    }
    layer
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_gets_a_refusal_that_says_who_refused() {
    let layer = throttling(1).await;
    let server = Server::default();

    let answer = call(&layer, &server, get("/")).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.extensions().get(), Some(&NotSent::Throttled));
    assert!(
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );

    let answer = call(&layer, &server, grpc()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "8");
    assert_eq!(answer.headers()["content-type"], "application/grpc+proto");
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.message(), NotSent::Throttled.to_string());
    assert_eq!(server.count(), 0);

    // Two minutes later all is forgotten; and it can be switched off.
    let answer = call(&layer.clone().without_throttle(), &server, get("/")).await;
    assert_eq!(answer.status(), 200);
    advance(Duration::from_secs(120)).await;
    assert_eq!(call(&layer, &server, get("/")).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn errors_and_calls_under_way_do_not_count_as_refused() {
    let layer = Backpressure::new();
    let broken = Server::that_says([(0, &[]); 1_000]);
    for _ in 0..1_000 {
        let _ = layer.layer(broken.service()).oneshot(get("/")).await;
    }
    assert_eq!(broken.count(), 1_000);

    let server = Server::default();
    let slow = service_fn({
        let inner = server.service();
        move |request: Req| {
            let inner = inner.clone();
            async move {
                sleep(Duration::from_secs(1)).await;
                inner.oneshot(request).await
            }
        }
    });
    let mut calls = JoinSet::new();
    for _ in 0..1_000 {
        calls.spawn(layer.layer(slow.clone()).oneshot(get("/")));
    }
    calls.join_all().await;
    assert_eq!(server.count(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn each_try_says_what_is_left_of_the_deadline_then() {
    let deadline = || Deadline::after(Duration::from_millis(5_500));
    let server = Server::that_says([BUSY]);
    let mut request = get("/");
    request.extensions_mut().insert(deadline());
    call(&Backpressure::new(), &server, request).await;
    assert_eq!(
        server.told("x-envoy-expected-rq-timeout-ms"),
        ["5500", "4500"]
    );

    let server = Server::default();
    let mut request = get("/");
    request.extensions_mut().insert(deadline());
    let layer = Backpressure::new().deadline_header(HeaderName::from_static("x-left"));
    call(&layer, &server, request).await;
    assert_eq!(server.told("x-left"), ["5500"]);
    assert_eq!(server.told("x-envoy-expected-rq-timeout-ms"), ["none"]);

    let pushback: Head = (
        200,
        &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "1000")],
    );
    let server = Server::that_says([pushback]);
    let mut request = grpc();
    request.extensions_mut().insert(deadline());
    call(&Backpressure::new(), &server, request).await;
    assert_eq!(server.told("grpc-timeout"), ["5500000u", "4500000u"]);

    // As tonic's `set_timeout` writes it. The earlier of two is the one.
    for (given, told) in [
        ("2S", ["2000000u", "1000000u"]),
        ("7S", ["5500000u", "4500000u"]),
    ] {
        let server = Server::that_says([pushback]);
        let mut request = grpc();
        request
            .headers_mut()
            .insert("grpc-timeout", given.parse().unwrap());
        request.extensions_mut().insert(deadline());
        call(&Backpressure::new(), &server, request).await;
        assert_eq!(server.told("grpc-timeout"), told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_is_not_sent() {
    let server = Server::default();
    let late = |mut request: Req| {
        request
            .extensions_mut()
            .insert(Deadline::at(Instant::now()));
        request
    };
    let answer = call(&Backpressure::new(), &server, late(get("/"))).await;
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.extensions().get(), Some(&NotSent::DeadlineExceeded));

    let answer = call(&Backpressure::new(), &server, late(grpc())).await;
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(server.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_class_is_passed_on_and_nothing_else_is_added() {
    for (class, name) in [
        (Criticality::Sheddable, "SHEDDABLE"),
        (Criticality::SheddablePlus, "SHEDDABLE_PLUS"),
        (Criticality::Critical, "CRITICAL"),
        (Criticality::CriticalPlus, "CRITICAL_PLUS"),
    ] {
        let server = Server::that_says([BUSY]);
        let mut request = get("/");
        request.extensions_mut().insert(class);
        call(&Backpressure::new(), &server, request).await;
        assert_eq!(server.told("x-criticality"), [name; 2]);
    }
    let server = Server::default();
    call(&Backpressure::new(), &server, get("/")).await;
    assert!(server.seen.lock().unwrap()[0].1.is_empty());
}

#[test]
fn settings_out_of_range_are_refused_with_what_is_allowed() {
    let new = Backpressure::new;
    let second = Duration::from_secs(1);
    for (checked, text) in [
        (
            new().try_retry_budget(0.0),
            "retry budget: 0 was given, allowed is more than 0 and at most 1",
        ),
        (
            new().try_retry_budget(f64::NAN),
            "retry budget: NaN was given, allowed is more than 0 and at most 1",
        ),
        (
            new().try_retry_budget(1.01),
            "retry budget: 1.01 was given, allowed is more than 0 and at most 1",
        ),
        (
            new().try_throttle(0.9),
            "throttle: 0.9 was given, allowed is at least 1",
        ),
        (
            new().try_throttle(f64::INFINITY),
            "throttle: inf was given, allowed is at least 1",
        ),
        (
            new().try_backoff(Duration::ZERO, second),
            "backoff: 0ns up to 1s was given, allowed is more than 0, up to no less",
        ),
        (
            new().try_backoff(2 * second, second),
            "backoff: 2s up to 1s was given, allowed is more than 0, up to no less",
        ),
    ] {
        assert_eq!(checked.unwrap_err().to_string(), text);
    }
    assert!(new().try_backoff(second, second).is_ok());
    assert!(new().try_throttle(1.0).is_ok());
    assert!(new().try_retry_budget(1.0).is_ok());
}

struct Storm {
    calls: usize,
    not_sent: usize,
    tries: usize,
    served: usize,
}

impl Storm {
    fn retries(&self) -> usize {
        self.tries - (self.calls - self.not_sent)
    }
}

/// A server with room for 100 a second, and 100 clients, each with a layer of its own, that want 300.
async fn storm(hint: RetryAfter, client: impl Fn() -> Backpressure) -> Storm {
    const SECONDS: u32 = 120;
    let work = service_fn(async |_: Req| {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let shed = LoadShed::ratio(1.0).budget(Budget::fixed(10));
    let server = shed.retry_after(hint).layer(work);
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = {
        let tries = Arc::clone(&tries);
        service_fn(move |request: Req| {
            tries.fetch_add(1, Ordering::Relaxed);
            server.clone().oneshot(request)
        })
    };
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let service = client().layer(counted.clone());
        for nth in 0..3 * SECONDS {
            let service = service.clone();
            let at = Duration::from_secs(1) * nth / 3 + Duration::from_micros(3_333) * number;
            calls.spawn(async move {
                sleep(at).await;
                service.oneshot(get("/")).await.unwrap()
            });
        }
    }
    let answers = calls.join_all().await;
    let count = |of: fn(&Response<_>) -> bool| answers.iter().filter(|answer| of(answer)).count();
    let storm = Storm {
        calls: answers.len(),
        not_sent: count(|answer| answer.extensions().get::<NotSent>().is_some()),
        tries: tries.load(Ordering::Relaxed),
        served: count(|answer| answer.status() == StatusCode::OK),
    };
    println!(
        "{} calls, {} not sent, {} tries, {} retries, {} served",
        storm.calls,
        storm.not_sent,
        storm.tries,
        storm.retries(),
        storm.served
    );
    storm
}

#[tokio::test(start_paused = true)]
async fn in_a_storm_there_is_at_most_a_tenth_of_extra_requests() {
    let seeds = AtomicUsize::new(0);
    let seed = || seeds.fetch_add(1, Ordering::Relaxed) as u64;
    let new = || Backpressure::new().seed(seed());
    let throttled = storm(RetryAfter::adaptive(), new).await;
    let adaptive = storm(RetryAfter::adaptive(), || new().without_throttle()).await;
    // All who are refused come back after a second: here it is the budget that holds.
    let second = RetryAfter::fixed(Duration::from_secs(1));
    let constant = storm(second, || new().without_throttle()).await;
    for storm in [&throttled, &adaptive, &constant] {
        assert!(storm.retries() > 0);
        assert!(10 * storm.retries() <= storm.calls - storm.not_sent);
        assert!(storm.served >= 95 * 120, "{}", storm.served);
    }
    // What the throttle is for: the server has less to refuse.
    assert!(throttled.tries * 3 < adaptive.tries * 2);
    // What the budget is for.
    let unbounded = storm(second, || new().without_throttle().retry_budget(1.0)).await;
    assert!(unbounded.retries() > 5 * constant.retries());
}

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Waits until a call was refused, and makes room.
async fn free(budget: Budget, permit: loadshed::Permit) {
    while budget.snapshot().refused == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    drop(permit);
}

#[tokio::test]
async fn over_sockets_a_refused_upload_waits_and_succeeds_once_there_is_room() {
    let budget = Budget::fixed(1);
    let app = axum::Router::new()
        .route("/", axum::routing::post(async |body: String| body))
        .layer(LoadShed::ratio(1.0).budget(&budget));
    let (listener, url) = bind().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let listener = listener.tap_io({
        let connections = Arc::clone(&connections);
        move |_| {
            connections.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::spawn(axum::serve(listener, app).into_future());

    let permit = budget.try_acquire(all()).unwrap();
    tokio::spawn(free(budget.clone(), permit));
    let http = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new()
        .layer(Backpressure::new())
        .service(http);
    let request = Request::post(&url)
        .body(Full::new(Bytes::from("text")))
        .unwrap();
    let start = Instant::now();
    let answer = timeout(LONG, client.oneshot(request))
        .await
        .unwrap()
        .unwrap();

    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "text"
    );
    let waited = start.elapsed();
    println!("waited {waited:?}");
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert_eq!(budget.snapshot().refused, 1);
    // The answer that nobody read does not cost the connection.
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

type Grpc =
    HealthClient<BackpressureService<Channel, loadshed::client::Replayed<tonic::body::Body>>>;

async fn grpc_client(budget: &Budget) -> Grpc {
    let (listener, url) = bind().await;
    let (_reporter, health) = health_reporter();
    let shed = LoadShed::ratio(1.0).retry_after(RetryAfter::fixed(Duration::from_secs(1)));
    let shed = shed.budget(budget);
    let server = GrpcServer::builder()
        .layer(shed)
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let layer = Backpressure::new().replay(tonic::body::Body::new);
    HealthClient::new(layer.layer(channel))
}

#[tokio::test]
async fn a_tonic_channel_waits_for_the_pushback_and_succeeds_once_there_is_room() {
    let budget = Budget::fixed(1);
    let mut client = grpc_client(&budget).await;
    let permit = budget.try_acquire(all()).unwrap();
    tokio::spawn(free(budget.clone(), permit));
    let start = Instant::now();
    let check = client.check(HealthCheckRequest::default());
    let answer = timeout(LONG, check).await.unwrap().unwrap();
    println!("waited {:?}", start.elapsed());

    // SERVING
    assert_eq!(answer.into_inner().status, 1);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(budget.snapshot().refused, 1);
}

#[tokio::test]
async fn a_tonic_call_without_the_time_to_wait_is_refused_at_once() {
    let budget = Budget::fixed(1);
    let mut client = grpc_client(&budget).await;
    let _permit = budget.try_acquire(all()).unwrap();
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(900));
    let start = Instant::now();
    let status = client.check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(start.elapsed() < Duration::from_millis(900));

    let mut late = tonic::Request::new(HealthCheckRequest::default());
    late.extensions_mut()
        .insert(Deadline::after(Duration::ZERO));
    let status = client.check(late).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(budget.snapshot().refused, 1);
}
