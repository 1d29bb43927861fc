//! Promise 7: what is one request, and what is another.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use loadshed::{Budget, LoadShed, Threshold};
use tokio::{runtime, task::block_in_place, time::sleep};
use tower::{Layer, ServiceExt, buffer::Buffer, service_fn};

use crate::{FullRequest, Gauge, begin, refused, request, response, status};

#[tokio::test(start_paused = true)]
async fn p07_a_handler_that_works_itself_when_its_inner_call_is_refused_stays_counted() {
    for handed_on in ["the request", "another request", "its extensions"] {
        let pool = Budget::fixed(10);
        let gauge = Gauge::default();
        let client = LoadShed::ratio(0.5).budget(&pool).layer(gauge.service());
        let working = gauge.clone();
        let handler = service_fn(move |own: FullRequest| {
            let (client, gauge) = (client.clone(), working.clone());
            async move {
                let inner = match handed_on {
                    "the request" => own,
                    "another request" => request(),
                    _ => {
                        let mut inner = request();
                        *inner.extensions_mut() = own.extensions().clone();
                        inner
                    }
                };
                if client.oneshot(inner).await?.status() == StatusCode::TOO_MANY_REQUESTS {
                    gauge.work().await;
                }
                response()
            }
        });
        let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
        let calls = begin(&service, 100);
        sleep(Duration::from_millis(100)).await;
        assert!(pool.in_flight() >= gauge.now(), "{handed_on}");
        refused(calls).await;
        assert!(gauge.most() <= 10, "{handed_on}: {}", gauge.most());
        assert_eq!(pool.in_flight(), 0, "{handed_on}");
    }
}

#[tokio::test(start_paused = true)]
async fn p07_of_two_inner_calls_at_once_one_is_refused_and_the_other_stays_counted() {
    for is_own in [false, true] {
        let pool = Budget::fixed(10);
        let gauge = Gauge::default();
        let served = LoadShed::ratio(1.0).budget(&pool).layer(gauge.service());
        let shed = LoadShed::ratio(0.1).budget(&pool).layer(gauge.service());
        let handler = service_fn(move |own: FullRequest| {
            let (served, shed) = (served.clone(), shed.clone());
            async move {
                let (one, two) = match is_own {
                    true => (own.clone(), own),
                    false => (request(), request()),
                };
                let (served, _) = tokio::join!(served.oneshot(one), shed.oneshot(two));
                served.map(|_| response())?
            }
        });
        let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
        let calls = begin(&service, 100);
        sleep(Duration::from_millis(100)).await;
        // Both calls of a request may work under its one permit.
        let works = if is_own { 2 } else { 1 };
        assert!(pool.in_flight() * works >= gauge.now(), "own: {is_own}");
        refused(calls).await;
        let most = gauge.most();
        assert!(most <= 10 * works, "own: {is_own}, {most}");
        assert_eq!(pool.in_flight(), 0, "own: {is_own}");
    }
}

#[tokio::test]
async fn p07_a_call_from_the_response_body_is_decided_as_one_from_the_future() {
    for (is_own, expected) in [
        (true, StatusCode::OK),
        (false, StatusCode::TOO_MANY_REQUESTS),
    ] {
        let pool = Budget::fixed(1);
        let back_end = service_fn(|_: FullRequest| async { response() });
        let client = LoadShed::ratio(1.0).budget(&pool).layer(back_end);
        let handler = service_fn(move |own: FullRequest| {
            let client = client.clone();
            async move {
                let chunks = stream::once(async move {
                    let inner = if is_own { own } else { request() };
                    let inner = client.oneshot(inner).await.unwrap();
                    let text = inner.status().as_u16().to_string();
                    Ok::<_, Infallible>(Frame::data(Bytes::from(text)))
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(chunks.boxed())))
            }
        });
        let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
        let body = service.oneshot(request()).await.unwrap().into_body();
        let text = body.collect().await.unwrap().to_bytes();
        assert_eq!(text, expected.as_u16().to_string(), "own: {is_own}");
        assert_eq!(pool.in_flight(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_requests_that_a_blocked_handler_polls_are_requests_of_their_own() {
    let pool = Budget::fixed(10);
    let seen = Arc::new(AtomicUsize::new(0));
    let other = LoadShed::ratio(1.0)
        .budget(&pool)
        .layer(service_fn(|_: FullRequest| async {
            sleep(Duration::from_millis(50)).await;
            response()
        }));
    let (counted, most) = (pool.clone(), Arc::clone(&seen));
    let handler = service_fn(move |_: FullRequest| {
        let (other, counted, most) = (other.clone(), counted.clone(), Arc::clone(&most));
        async move {
            block_in_place(|| {
                let runtime = runtime::Builder::new_current_thread().enable_time().build();
                runtime.unwrap().block_on(async {
                    let calls = begin(&other, 20);
                    sleep(Duration::from_millis(10)).await;
                    most.store(counted.in_flight(), SeqCst);
                    refused(calls).await;
                });
            });
            response()
        }
    });
    let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
    let call = begin(&service, 1);
    assert_eq!(refused(call).await, 0);
    assert_eq!(seen.load(SeqCst), 10, "the handler's request and nine more");
    assert_eq!((pool.in_flight(), pool.snapshot().refused), (0, 11));
}

#[tokio::test(start_paused = true)]
async fn p07_across_a_spawn_and_a_buffer_a_request_holds_one_permit() {
    let pool = Budget::fixed(1);
    let gauge = Gauge::default();
    let inner = LoadShed::ratio(1.0).budget(&pool).layer(gauge.service());
    let spawned = inner.clone();
    let spawning = service_fn(move |request: FullRequest| {
        let inner = spawned.clone();
        async { tokio::spawn(inner.oneshot(request)).await.unwrap() }
    });
    let buffer = Buffer::new(inner, 4);
    let buffering = service_fn(move |request: FullRequest| {
        let buffer = buffer.clone();
        async move { Ok::<_, Infallible>(buffer.oneshot(request).await.unwrap()) }
    });
    let outer = LoadShed::observe().budget(&pool);
    let calls = begin(&outer.layer(spawning), 1);
    sleep(Duration::from_millis(10)).await;
    assert_eq!((pool.in_flight(), gauge.now()), (1, 1));
    assert_eq!(refused(calls).await, 0);
    let calls = begin(&outer.layer(buffering), 1);
    sleep(Duration::from_millis(10)).await;
    assert_eq!((pool.in_flight(), gauge.now()), (1, 1));
    assert_eq!(refused(calls).await, 0);
    assert_eq!((pool.in_flight(), pool.snapshot().admitted), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn p07_a_request_rebuilt_without_its_extensions_is_another_request_and_never_waits_for_itself()
 {
    for queue in [false, true] {
        let pool = Budget::fixed(2);
        let gauge = Gauge::default();
        let mut inner = LoadShed::ratio(1.0).budget(&pool);
        if queue {
            inner = inner.wait(4, Duration::from_millis(50));
        }
        let inner = inner.layer(gauge.service());
        let rebuilding = service_fn(move |_: FullRequest| inner.clone().oneshot(request()));
        let service = LoadShed::observe().budget(&pool).layer(rebuilding);
        let mut one = tokio_test::task::spawn(status(service.clone(), request()));
        assert!(one.poll().is_pending());
        assert_eq!(pool.in_flight(), 2);
        // There is no room for the request further in.
        assert_eq!(status(service, request()).await, 429, "queue: {queue}");
        assert_eq!(one.await, 200);
        assert_eq!(pool.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn p07_a_request_costs_what_the_layer_with_the_highest_cost_says() {
    let pool = Budget::fixed(10);
    let gauge = Gauge::default();
    let of = |cost: usize| LoadShed::ratio(1.0).budget(&pool).cost(move |_| cost);
    let exempt = LoadShed::ratio(1.0)
        .budget(&pool)
        .threshold(|_| Threshold::EXEMPT);
    async fn in_flight(pool: &Budget, call: impl Future<Output = StatusCode>) -> usize {
        let mut call = tokio_test::task::spawn(call);
        assert!(call.poll().is_pending());
        pool.in_flight()
    }
    let of_4 = of(4).layer(gauge.service());
    assert_eq!(
        in_flight(&pool, status(exempt.layer(of_4.clone()), request())).await,
        4
    );
    assert_eq!(
        in_flight(&pool, status(of(2).layer(of_4.clone()), request())).await,
        4
    );
    assert_eq!(
        in_flight(&pool, status(of(6).layer(of_4), request())).await,
        6
    );
    assert_eq!(pool.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p07_a_request_that_is_queued_at_an_inner_layer_is_not_counted_meanwhile() {
    let pool = Budget::fixed(2);
    let gauge = Gauge::default();
    let inner = LoadShed::ratio(0.5)
        .budget(&pool)
        .wait(4, Duration::from_secs(5));
    let service = LoadShed::observe()
        .budget(&pool)
        .layer(inner.layer(gauge.service()));
    let calls = begin(&service, 3);
    sleep(Duration::from_millis(100)).await;
    assert_eq!((pool.in_flight(), pool.snapshot().waiting), (1, 2));
    assert_eq!(refused(calls).await, 0);
    assert_eq!(gauge.most(), 1);
    assert_eq!((pool.in_flight(), pool.snapshot().admitted), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn p07_a_layer_that_is_nested_in_itself_is_found_out_by_the_first_request() {
    let pool = Budget::fixed(1);
    let gauge = Gauge::default();
    let shed = LoadShed::ratio(1.0).budget(&pool);
    let service = shed.layer(shed.layer(gauge.service()));
    for _ in 0..600 {
        assert_eq!(status(service.clone(), request()).await, 200);
    }
    assert_eq!((pool.in_flight(), pool.snapshot().refused), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn p03_a_copy_of_the_extensions_holds_no_permit() {
    let pool = Budget::fixed(2);
    let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keeping = Arc::clone(&kept);
    let handler = service_fn(move |request: FullRequest| {
        keeping.lock().unwrap().push(request.extensions().clone());
        async { response() }
    });
    let inner = LoadShed::ratio(1.0).budget(&pool).layer(handler);
    let service = LoadShed::observe().budget(&pool).layer(inner);
    for _ in 0..10 {
        assert_eq!(status(service.clone(), request()).await, 200);
    }
    assert_eq!((kept.lock().unwrap().len(), pool.in_flight()), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn p07_the_layers_of_two_budgets_interleaved_count_once_in_each() {
    let (one, two) = (Budget::fixed(10), Budget::fixed(10));
    let gauge = Gauge::default();
    let of = |budget: &Budget| LoadShed::ratio(1.0).budget(budget);
    let service = of(&two).layer(gauge.service());
    let service = of(&one).layer(service);
    let service = of(&two).layer(service);
    let service = of(&one).layer(service);
    let calls = begin(&service, 7);
    sleep(Duration::from_millis(10)).await;
    assert_eq!((one.in_flight(), two.in_flight()), (7, 7));
    assert_eq!(refused(calls).await, 0);
    assert_eq!((one.in_flight(), two.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn p07_a_handler_that_gives_up_a_queued_inner_call_stays_counted() {
    let pool = Budget::fixed(1);
    let gauge = Gauge::default();
    let queue = LoadShed::ratio(1.0)
        .budget(&pool)
        .wait(4, Duration::from_secs(5));
    let client = queue.layer(gauge.service());
    let working = gauge.clone();
    let handler = service_fn(move |own: FullRequest| {
        let (client, gauge) = (client.clone(), working.clone());
        async move {
            // Another request has the only permit: the inner call is queued, and given up.
            let call = tokio::time::timeout(Duration::from_millis(10), client.oneshot(own));
            drop(call.await);
            gauge.work().await;
            response()
        }
    });
    let service = LoadShed::observe().budget(&pool).layer(handler);
    let held = pool.try_acquire(Threshold::NEVER_SHED).unwrap();
    let calls = begin(&service, 1);
    sleep(Duration::from_millis(5)).await;
    assert_eq!((pool.in_flight(), pool.snapshot().waiting), (1, 1));
    sleep(Duration::from_millis(100)).await;
    assert_eq!((pool.in_flight(), gauge.now()), (2, 1));
    drop(held);
    assert_eq!(refused(calls).await, 0);
    assert_eq!(pool.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p07_a_queued_inner_call_beside_one_that_is_served_takes_no_second_permit() {
    let pool = Budget::fixed(2);
    let gauge = Gauge::default();
    let shed = LoadShed::ratio(1.0).budget(&pool);
    let queued = shed.clone().wait(4, Duration::from_secs(5));
    let queued = queued.layer(gauge.service());
    let served = LoadShed::observe().budget(&pool).layer(gauge.service());
    let handler = service_fn(move |own: FullRequest| {
        let (queued, served) = (queued.clone(), served.clone());
        async move {
            let later = async {
                sleep(Duration::from_millis(1)).await;
                served.oneshot(own.clone()).await
            };
            let (one, _) = tokio::join!(queued.oneshot(own.clone()), later);
            one.map(|_| response())?
        }
    });
    let service = LoadShed::observe().budget(&pool).layer(handler);
    let held = [(); 2].map(|()| pool.try_acquire(Threshold::NEVER_SHED).unwrap());
    let calls = begin(&service, 1);
    sleep(Duration::from_millis(10)).await;
    assert_eq!((pool.in_flight(), gauge.now()), (3, 1));
    // The queued call is admitted, and the request has its permit already.
    drop(held);
    sleep(Duration::from_millis(10)).await;
    assert_eq!((pool.in_flight(), gauge.now()), (1, 2));
    assert_eq!(refused(calls).await, 0);
    assert_eq!(pool.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p03_the_permits_of_two_budgets_are_both_taken_along() {
    let (one, two) = (Budget::fixed(10), Budget::fixed(10));
    let taken = Arc::new(std::sync::Mutex::new(None));
    let taking = Arc::clone(&taken);
    let handler = service_fn(move |request: FullRequest| {
        *taking.lock().unwrap() = request
            .extensions()
            .get::<loadshed::RequestPermit>()
            .cloned();
        async { response() }
    });
    let of = |budget: &Budget| LoadShed::ratio(1.0).budget(budget).share_permit();
    let service = of(&one).layer(of(&two).layer(handler));
    assert_eq!(status(service, request()).await, 200);
    assert_eq!((one.in_flight(), two.in_flight()), (1, 1));
    drop(taken.lock().unwrap().take());
    assert_eq!((one.in_flight(), two.in_flight()), (0, 0));
}
