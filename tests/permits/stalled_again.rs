//! Stalled responses that go on, and those of requests that were queued at an inner layer.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use loadshed::{Budget, LoadShed, Threshold};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use crate::{FullRequest, request};

/// Responds with endless bodies.
fn streams() -> impl Service<
    FullRequest,
    Response = Response<impl Body<Data = Bytes, Error = BoxError> + Unpin + Send>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send {
    service_fn(|_: FullRequest| async {
        let frame = || Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[7; 1_000])));
        let frames = stream::iter(std::iter::repeat_with(frame));
        Ok(Response::new(StreamBody::new(frames)))
    })
}

/// Has a request refused once a second.
async fn refuse(pool: &Budget, seconds: u32) {
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        drop(pool.try_acquire(Threshold::ratio(0.05)));
    }
}

#[tokio::test(start_paused = true)]
async fn p04_stalled_responses_that_go_on_leave_the_capacity_of_higher_thresholds_free() {
    let pool = Budget::fixed(20);
    let half = LoadShed::ratio(0.5).budget(&pool).layer(streams());
    let mut bodies = Vec::new();
    for _ in 0..3 {
        for _ in 0..10 {
            let response = half.clone().oneshot(request()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let mut body = response.into_body();
            assert!(body.frame().await.unwrap().is_ok());
            bodies.push(body);
        }
        refuse(&pool, 75).await;
    }
    assert_eq!((pool.in_flight(), pool.snapshot().stalled), (0, 30));
    let mut going_on = 0;
    for body in &mut bodies {
        going_on += usize::from(body.frame().await.unwrap().is_ok());
    }
    assert_eq!((going_on, pool.in_flight()), (10, 10));
    assert!(pool.try_acquire(Threshold::ratio(1.0)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn p04_a_response_over_http_2_stalls_though_its_request_was_queued_at_an_inner_layer() {
    for tries in [1, 2] {
        let pool = Budget::fixed(10);
        let inner = LoadShed::ratio(0.5).budget(&pool);
        let queue = inner.clone().wait(10, Duration::from_secs(10));
        let (inner, queue) = (inner.layer(streams()), queue.layer(streams()));
        let handler = service_fn(move |own: FullRequest| {
            let (inner, queue) = (inner.clone(), queue.clone());
            async move {
                if tries == 2 {
                    // Refused, and tried once more.
                    let refused = inner.oneshot(own.clone()).await?;
                    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
                }
                queue.oneshot(own).await
            }
        });
        let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
        let held = [(); 5].map(|()| pool.try_acquire(Threshold::ratio(1.0)).unwrap());
        let mut request = request();
        *request.version_mut() = Version::HTTP_2;
        let call = tokio::spawn(service.oneshot(request));
        sleep(Duration::from_secs(1)).await;
        drop(held);
        // Its body is never polled.
        let response = call.await.unwrap().unwrap();
        assert_eq!((response.status().as_u16(), pool.in_flight()), (200, 1));
        refuse(&pool, 70).await;
        // A refusal needs something in flight: 2 of 10 are more than a twentieth.
        let held = [(); 2].map(|()| pool.try_acquire(Threshold::ratio(1.0)).unwrap());
        refuse(&pool, 70).await;
        drop(held);
        assert_eq!((pool.in_flight(), pool.snapshot().stalled), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn p04_a_queued_request_gets_the_permit_of_a_response_that_stalls_meanwhile() {
    for noted_before in [true, false] {
        let pool = Budget::fixed(1);
        let shed = LoadShed::ratio(1.0).budget(&pool);
        let mut service = shed.wait(10, Duration::from_secs(3_000)).layer(streams());
        let begin = Instant::now();
        let mut body = service.call(request()).await.unwrap().into_body();
        if noted_before {
            assert!(body.frame().await.unwrap().is_ok());
        }
        let queued = tokio::spawn(service.call(request()));
        sleep(Duration::from_secs(1)).await;
        if !noted_before {
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert_eq!(queued.await.unwrap().unwrap().status(), StatusCode::OK);
        let waited = begin.elapsed().as_secs();
        assert!((60..=70).contains(&waited), "{noted_before}: {waited} s");
        drop(body);
    }
}

#[tokio::test(start_paused = true)]
async fn p26_the_first_response_of_a_budget_may_stall_while_a_task_waits_for_an_empty_budget() {
    let pool = Budget::fixed(10);
    let streams = streams();
    let handler = service_fn(move |own: FullRequest| {
        let streams = streams.clone();
        async move {
            sleep(Duration::from_secs(1)).await;
            streams.oneshot(own).await
        }
    });
    let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
    let reader = tokio::spawn(async move {
        let mut body = service.oneshot(request()).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    assert_eq!(pool.in_flight(), 1);
    pool.begin_drain(Duration::ZERO);
    let emptied = tokio::time::timeout(Duration::from_secs(80), pool.emptied());
    assert!(emptied.await.is_ok(), "the budget is not emptied");
    assert_eq!(pool.snapshot().stalled, 1);
    reader.abort();
}
