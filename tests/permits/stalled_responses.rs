//! Promise 4: a permit is held no longer than the stall timeout while the reader does not read.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use loadshed::{Budget, LoadShed, LoadShedService, ResponseStalled, RetryAfter, Threshold};
use tokio::time::sleep;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use crate::{FullRequest, request, response, status};

type Error = BoxError;

/// Returns a body of endless frames.
fn endless<E>() -> impl Body<Data = Bytes, Error = E> + Unpin {
    let frame = || Ok(Frame::data(Bytes::from_static(&[7; 1_000])));
    StreamBody::new(stream::iter(std::iter::repeat_with(frame)))
}

fn streams<E>() -> impl Service<
    FullRequest,
    Response = Response<impl Body<Data = Bytes, Error = E> + Unpin>,
    Error = Infallible,
> + Clone {
    service_fn(|_: FullRequest| async { Ok(Response::new(endless::<E>())) })
}

/// Calls the service `count` times and takes one frame of each body.
async fn stall<S, B>(
    service: &LoadShedService<S>,
    count: usize,
) -> Vec<impl Body<Data = Bytes, Error = B::Error> + Unpin + use<S, B>>
where
    S: Service<FullRequest, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes, Error: 'static> + Unpin,
{
    let mut bodies = Vec::new();
    for _ in 0..count {
        let response = service.clone().oneshot(request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        bodies.push(body);
    }
    bodies
}

fn shed(pool: &Budget) -> LoadShed {
    LoadShed::ratio(1.0)
        .budget(pool)
        .retry_after(RetryAfter::none())
}

/// Calls a quick service once a second until it is served. Returns how many seconds that took.
async fn served_after(shed: &LoadShed) -> u32 {
    let quick = shed.layer(service_fn(|_: FullRequest| async { response() }));
    for second in 0..300 {
        if status(quick.clone(), request()).await == StatusCode::OK {
            return second;
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("it is never served");
}

#[tokio::test(start_paused = true)]
async fn p04_readers_that_do_not_read_lose_their_permits_after_the_stall_timeout() {
    for (timeout, seconds) in [(None, 60..=68), (Some(10), 10..=12)] {
        let pool = Budget::fixed(20);
        let mut shed = shed(&pool);
        if let Some(timeout) = timeout {
            shed = shed.stall_timeout(Duration::from_secs(timeout));
        }
        let bodies = stall(&shed.layer(streams::<Error>()), 20).await;
        let after = served_after(&shed).await;
        assert!(seconds.contains(&after), "{after} s");
        let seen = pool.snapshot();
        let counts = (seen.in_flight, seen.stalled, seen.stalled_responses);
        assert_eq!(counts, (0, 20, 20));
        drop(bodies);
        let seen = pool.snapshot();
        let counts = (seen.in_flight, seen.stalled, seen.stalled_responses);
        assert_eq!(counts, (0, 20, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn p04_a_response_over_http_2_whose_body_is_never_polled_loses_its_permit_too() {
    let pool = Budget::fixed(1);
    let shed = shed(&pool);
    let mut request = request();
    *request.version_mut() = Version::HTTP_2;
    let service = shed.layer(streams::<Error>());
    let response = service.oneshot(request).await.unwrap();
    let after = served_after(&shed).await;
    assert!((60..=68).contains(&after), "{after} s");
    drop(response);
    assert_eq!(pool.snapshot().stalled_responses, 0);
}

#[tokio::test(start_paused = true)]
async fn p04_a_body_that_waits_for_the_server_is_never_stalled() {
    let pool = Budget::fixed(1);
    let shed = shed(&pool);
    // An event stream: an event, ten minutes of silence, an event.
    let events = service_fn(|_: FullRequest| async {
        let events = stream::unfold(0, |nth| async move {
            if nth == 1 {
                sleep(Duration::from_secs(600)).await;
            }
            (nth < 2).then(|| {
                (
                    Ok::<_, Error>(Frame::data(Bytes::from_static(b"event"))),
                    nth + 1,
                )
            })
        });
        Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(events))))
    });
    let mut body = shed
        .layer(events)
        .oneshot(request())
        .await
        .unwrap()
        .into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let quick = shed.layer(service_fn(|_: FullRequest| async { response() }));
    let refusals = async {
        for _ in 0..590 {
            assert_eq!(
                status(quick.clone(), request()).await,
                StatusCode::TOO_MANY_REQUESTS
            );
            sleep(Duration::from_secs(1)).await;
        }
    };
    let (event, ()) = tokio::join!(body.frame(), refusals);
    assert_eq!(event.unwrap().unwrap().into_data().unwrap(), "event");
    assert_eq!((pool.in_flight(), pool.snapshot().stalled), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn p04_a_reader_that_takes_a_frame_now_and_then_keeps_its_permit() {
    let pool = Budget::fixed(1);
    let shed = shed(&pool);
    let mut bodies = stall(&shed.layer(streams::<Error>()), 1).await;
    let quick = shed.layer(service_fn(|_: FullRequest| async { response() }));
    for second in 0..600 {
        if second % 50 == 49 {
            assert!(bodies[0].frame().await.unwrap().is_ok());
        }
        assert_eq!(
            status(quick.clone(), request()).await,
            StatusCode::TOO_MANY_REQUESTS
        );
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((pool.in_flight(), pool.snapshot().stalled), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn p04_a_stalled_response_that_goes_on_takes_a_permit_again_if_there_is_room() {
    let pool = Budget::fixed(2);
    let shed = shed(&pool);
    let mut bodies = stall(&shed.layer(streams::<Error>()), 2).await;
    served_after(&shed).await;
    assert_eq!(pool.in_flight(), 0);
    assert!(bodies[0].frame().await.unwrap().is_ok());
    assert_eq!(
        (pool.in_flight(), pool.snapshot().stalled_responses),
        (1, 1)
    );
    let _full = pool.try_acquire(loadshed::Threshold::ratio(1.0)).unwrap();
    // No room: an error, and never an end, which would make a response look complete.
    let error = bodies[1].frame().await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<ResponseStalled>().is_some(), "{error}");
    assert_eq!(
        (pool.in_flight(), pool.snapshot().stalled_responses),
        (2, 0)
    );
}

/// An error that only its own type can make.
#[derive(Debug, PartialEq)]
struct Own(&'static str);

#[tokio::test(start_paused = true)]
async fn p21_the_error_of_a_stalled_response_is_of_the_bodys_own_type() {
    async fn last<E: std::fmt::Debug + 'static>(
        shed: impl Fn(&Budget) -> LoadShed,
    ) -> Result<(), E> {
        let pool = Budget::fixed(1);
        let shed = shed(&pool);
        let mut bodies = stall(&shed.layer(streams::<E>()), 1).await;
        served_after(&shed).await;
        let _full = pool.try_acquire(loadshed::Threshold::ratio(1.0)).unwrap();
        let frame = bodies[0].frame().await.unwrap();
        if frame.is_ok() {
            // It goes on, over the limit.
            assert_eq!((pool.limit(), pool.in_flight()), (1, 2));
        }
        frame.map(|_| ())
    }
    let error = last::<std::io::Error>(shed).await.unwrap_err();
    assert!(error.get_ref().unwrap().is::<ResponseStalled>());
    #[cfg(feature = "axum")]
    assert!(last::<axum::Error>(shed).await.is_err());
    assert_eq!(last::<Own>(shed).await, Ok(()));
    let closure = |pool: &Budget| shed(pool).stall_error(|_: ResponseStalled| Own("stalled"));
    assert_eq!(last::<Own>(closure).await, Err(Own("stalled")));
}

#[tokio::test(start_paused = true)]
async fn p04_a_complete_response_and_one_that_is_taken_along_are_never_stalled() {
    let pool = Budget::fixed(1);
    let shed = shed(&pool);
    let whole = shed.layer(service_fn(|_: FullRequest| async { response() }));
    let mut body = whole.oneshot(request()).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(pool.in_flight(), 0);
    assert_eq!(served_after(&shed).await, 0);
}

#[tokio::test(start_paused = true)]
async fn p26_a_response_that_has_stalled_does_not_hold_up_a_drain() {
    let pool = Budget::fixed(20);
    let shed = shed(&pool).stall_timeout(Duration::from_secs(10));
    let bodies = stall(&shed.layer(streams::<Error>()), 3).await;
    pool.begin_drain(Duration::from_secs(1));
    let begin = tokio::time::Instant::now();
    // No request arrives any more, whose refusal would look for it.
    pool.emptied().await;
    let after = begin.elapsed();
    assert!(
        after >= Duration::from_secs(10) && after <= Duration::from_secs(12),
        "{after:?}"
    );
    assert_eq!(pool.snapshot().stalled, 3);
    drop(bodies);
}

#[tokio::test(start_paused = true)]
async fn p22_a_dry_run_sees_stalled_responses_as_an_enforcing_run_does() {
    for dry_run in [false, true] {
        let pool = Budget::fixed(20);
        let shed = shed(&pool).dry_run(dry_run);
        let bodies = stall(&shed.layer(streams::<Error>()), 20).await;
        let quick = shed.layer(service_fn(|_: FullRequest| async { response() }));
        let refused = || {
            let seen = pool.snapshot();
            seen.refused + seen.would_refuse
        };
        let mut seconds = 0;
        loop {
            let before = refused();
            status(quick.clone(), request()).await;
            if refused() == before {
                break;
            }
            seconds += 1;
            sleep(Duration::from_secs(1)).await;
        }
        assert!((60..=68).contains(&seconds), "{dry_run}: {seconds} s");
        drop(bodies);
    }
}

/// A dry run refuses nothing, and goes on telling what it would refuse.
#[tokio::test(start_paused = true)]
async fn p22_a_response_that_a_dry_run_would_have_refused_is_marked_again_when_it_goes_on() {
    let pool = Budget::fixed(2);
    let shed = shed(&pool)
        .dry_run(true)
        .stall_timeout(Duration::from_secs(10));
    let service = shed.layer(streams::<Error>());
    let mut bodies = stall(&service, 3).await;
    let counts = || {
        let seen = pool.snapshot();
        (seen.in_flight, seen.marked, seen.stalled_responses)
    };
    assert_eq!(counts(), (3, 1, 0));
    for _ in 0..15 {
        sleep(Duration::from_secs(1)).await;
        drop(pool.try_acquire(Threshold::ratio(0.5)));
    }
    assert_eq!(counts(), (0, 0, 3));
    for body in &mut bodies {
        assert!(body.frame().await.unwrap().is_ok());
    }
    assert_eq!(counts(), (3, 1, 0));
    drop(bodies);
    assert_eq!(counts(), (0, 0, 0));
}
