//! A request that an inner layer has refused or queued, and what of it is still at work.

use std::{
    convert::Infallible,
    sync::{Arc, mpsc},
    task::{Context, Wake},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use loadshed::{Budget, LoadShed, RequestPermit, Threshold};
use tokio::{
    runtime,
    task::{JoinHandle, yield_now},
    time::{advance, sleep, timeout},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use crate::{FullRequest, Gauge, request, response, status};

/// A client under a tenth of the budget, whose call takes a second.
fn client(pool: &Budget, waits: bool) -> LoadShed {
    let shed = LoadShed::ratio(0.1).budget(pool);
    match waits {
        true => shed.wait(1_000, Duration::from_secs(2)),
        false => shed,
    }
}

fn permit_of(request: &FullRequest) -> RequestPermit {
    request.extensions().get::<RequestPermit>().unwrap().clone()
}

/// Begins work that takes the permit along.
fn work(gauge: &Gauge, permit: RequestPermit) -> JoinHandle<()> {
    let gauge = gauge.clone();
    tokio::spawn(async move {
        for _ in 0..5 {
            gauge.work().await;
        }
        drop(permit);
    })
}

/// Begins detached work and then calls the inner service: see `end` for what becomes of that.
fn detaching<S, B>(
    gauge: &Gauge,
    client: S,
    end: &'static str,
) -> impl Service<FullRequest, Response = Response<Full<Bytes>>, Error = BoxError> + Clone
where
    S: Service<FullRequest, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Send + 'static,
{
    let gauge = gauge.clone();
    service_fn(move |own: FullRequest| {
        let (client, gauge) = (client.clone(), gauge.clone());
        async move {
            drop(work(&gauge, permit_of(&own)));
            let called = client.oneshot(own);
            let called = match end {
                "a spawned call" => tokio::spawn(called).await?,
                _ => called.await,
            };
            match end {
                "an error" => Err("failed".into()),
                _ => Ok(called?.map(|_| Full::default())),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn p03_detached_work_stays_in_the_count_when_an_inner_layer_refuses_its_request() {
    for (waits, end) in [
        (false, "the refusal"),
        (false, "an error"),
        (true, "the refusal"),
        (true, "a spawned call"),
    ] {
        let pool = Budget::fixed(8);
        let gauge = Gauge::default();
        let client = client(&pool, waits).layer(Gauge::default().service());
        let handler = detaching(&gauge, client, end);
        let service = LoadShed::ratio(1.0)
            .budget(&pool)
            .share_permit()
            .layer(handler);
        let one = pool.try_acquire(Threshold::NEVER_SHED).unwrap();
        for _ in 0..100 {
            // A caller whose inner call is queued leaves.
            let call = service.clone().oneshot(request());
            drop(timeout(Duration::from_millis(5), call).await);
        }
        // Beside a queue, the inner calls that were spawned are counted again once they are refused.
        sleep(Duration::from_secs(2)).await;
        let at_work = gauge.now();
        assert_eq!(pool.in_flight(), 1 + at_work, "{waits}, {end}");
        if end != "a spawned call" {
            assert_eq!(at_work, 7, "{waits}, {end}");
        }
        sleep(Duration::from_secs(10)).await;
        drop(one);
        assert_eq!((pool.in_flight(), gauge.now()), (0, 0), "{waits}, {end}");
    }
}

#[tokio::test(start_paused = true)]
async fn p03_detached_work_stays_in_the_count_when_an_inner_call_of_its_own_is_refused() {
    let pool = Budget::fixed(8);
    let client = client(&pool, false).layer(Gauge::default().service());
    let handler = service_fn(move |own: FullRequest| {
        let (client, permit) = (client.clone(), permit_of(&own));
        async move {
            drop(tokio::spawn(async move {
                sleep(Duration::from_secs(1)).await;
                assert_eq!(client.oneshot(own).await.unwrap().status(), 429);
                sleep(Duration::from_secs(1)).await;
                drop(permit);
            }));
            response()
        }
    });
    let shed = LoadShed::ratio(1.0).budget(&pool).share_permit();
    assert_eq!(status(shed.layer(handler), request()).await, StatusCode::OK);
    let one = pool.try_acquire(Threshold::ratio(1.0)).unwrap();
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(pool.in_flight(), 2);
    sleep(Duration::from_secs(1)).await;
    drop(one);
    assert_eq!((pool.in_flight(), pool.snapshot().admitted), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn p03_a_refused_request_whose_permit_only_its_extensions_hold_is_not_in_flight() {
    let pool = Budget::fixed(8);
    let client = client(&pool, false).layer(Gauge::default().service());
    let handler = service_fn(move |own: FullRequest| client.clone().oneshot(own));
    let shed = LoadShed::ratio(1.0).budget(&pool).share_permit();
    let _one = pool.try_acquire(Threshold::NEVER_SHED).unwrap();
    let response = shed.layer(handler).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let seen = pool.snapshot();
    assert_eq!((seen.in_flight, seen.admitted, seen.refused), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn p07_a_request_that_tries_again_after_an_inner_refusal_costs_what_it_did_before() {
    let pool = Budget::fixed(10);
    let inner = LoadShed::ratio(0.5)
        .budget(&pool)
        .layer(Gauge::default().service());
    let handler = service_fn(move |own: FullRequest| {
        let inner = inner.clone();
        async move {
            let first = inner.clone().oneshot(own.clone()).await?.status();
            let second = inner.oneshot(own).await?.status();
            assert_eq!([first, second], [StatusCode::TOO_MANY_REQUESTS; 2]);
            response()
        }
    });
    let service = LoadShed::ratio(1.0)
        .budget(&pool)
        .cost(|_| 4)
        .layer(handler);
    // 4 and 4 units are more than the inner layer admits.
    let _other = pool.try_acquire_many(4, Threshold::ratio(1.0)).unwrap();
    assert_eq!(status(service, request()).await, StatusCode::OK);
    assert_eq!(pool.in_flight(), 4);
}

/// Runs a future with a paused clock on a thread of its own, and panics if it blocks.
fn without_deadlock<F: Future<Output = ()>>(run: impl FnOnce() -> F + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run());
        done.send(()).unwrap();
    });
    let waited = is_done.recv_timeout(Duration::from_secs(20));
    waited.expect("the call returns");
}

#[test]
fn p04_an_inner_dry_run_whose_would_be_refusal_finds_its_own_response_stalled_returns() {
    without_deadlock(|| async {
        let pool = Budget::fixed(10);
        let client = LoadShed::ratio(0.1).budget(&pool).dry_run(true);
        let client = client.layer(service_fn(|_: FullRequest| async { response() }));
        let handler = service_fn(move |own: FullRequest| {
            let client = client.clone();
            async move {
                let frames = stream::unfold(0, move |nth| {
                    let (client, own) = (client.clone(), own.clone());
                    async move {
                        if nth == 1 {
                            client.oneshot(own).await.unwrap();
                        }
                        let frame = Frame::data(Bytes::from_static(b"x"));
                        Some((Ok::<_, BoxError>(frame), nth + 1))
                    }
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(frames.boxed())))
            }
        });
        let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
        let _others = [(); 5].map(|()| pool.try_acquire(Threshold::ratio(1.0)).unwrap());
        let mut body = service.oneshot(request()).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        // Longer than the stall timeout, in which no request was refused.
        advance(Duration::from_secs(61)).await;
        assert!(body.frame().await.unwrap().is_ok());
        // It was read just now: it has not stalled.
        assert_eq!(pool.snapshot().stalled, 0);
        yield_now().await;
    });
}

/// Calls `told` when a clone of its waker is called.
struct OnWake(Box<dyn Fn() + Send + Sync>);

impl Wake for OnWake {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

#[test]
fn p07_a_waiter_that_an_inner_refusal_serves_may_call_the_same_request_from_its_waker() {
    without_deadlock(|| async {
        let pool = Budget::fixed(2);
        let queue = LoadShed::ratio(1.0).budget(&pool);
        let queue = queue.wait(4, Duration::from_secs(60));
        let queue = queue.layer(Gauge::default().service());
        let inner = LoadShed::ratio(0.5)
            .budget(&pool)
            .layer(Gauge::default().service());
        let dry_run = LoadShed::ratio(0.5).budget(&pool).dry_run(true);
        let dry_run = dry_run.layer(Gauge::default().service());
        let handler = service_fn(move |own: FullRequest| {
            let (queue, inner, dry_run) = (queue.clone(), inner.clone(), dry_run.clone());
            async move {
                let mut waiter = Box::pin(queue.oneshot(request()));
                let own_again = own.extensions().clone();
                let on_wake = OnWake(Box::new(move || {
                    let mut again = request();
                    *again.extensions_mut() = own_again.clone();
                    drop(dry_run.clone().call(again));
                }));
                let waker = Arc::new(on_wake).into();
                let mut cx = Context::from_waker(&waker);
                assert!(waiter.as_mut().poll(&mut cx).is_pending());
                assert_eq!(inner.oneshot(own).await?.status(), 429);
                response()
            }
        });
        let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
        let _other = pool.try_acquire(Threshold::ratio(1.0)).unwrap();
        assert_eq!(status(service, request()).await, StatusCode::OK);
    });
}
